//! The store over restarts, crashes and damage, on real files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::alone::alone_async;
use super::*;
use crate::cache::entry::{PolicyLines, RecordCheck, RecordOutcome};
use crate::cache::{DaneEntry, DaneVerdict, HeldPolicy, Persist, StsEntry, StsMode, StsPolicy};
use crate::names::{Domain, MxPattern, NextHop};

const NOW: i64 = 1_800_000_000;

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("domain-{n}.example")).expect("a domain")
}

fn hop(n: usize) -> NextHop {
    NextHop::Domain { domain: domain(n), port: None }
}

fn sts(id: usize) -> StsEntry {
    let policy = StsPolicy {
        mode: StsMode::Enforce,
        max_age: 604_800,
        mx: Box::new([MxPattern::parse("*.mail.example").expect("a pattern")]),
        lines: PolicyLines::default(),
    };
    StsEntry {
        policy: Some(HeldPolicy { id: id.to_string().into(), fetched_at: NOW, policy: policy.into() }.into()),
        record: RecordCheck { at: NOW, ttl: 300, outcome: RecordOutcome::Id(id.to_string().into()), failures: 0 },
        failure: None,
    }
}

fn dane() -> DaneEntry {
    DaneEntry::new(DaneVerdict::DaneOnly, "all hosts", NOW, 3600)
}

fn open(state: &Path) -> (Store, Loaded) {
    Store::open(state, Clock::system()).expect("nobody else has it")
}

async fn filled(state: &Path, count: usize) -> Store {
    let (store, _) = open(state);
    let domains: Vec<_> = (0..count).map(domain).collect();
    let entries: Vec<_> = (0..count).map(sts).collect();
    let saves = domains.iter().zip(&entries).map(|(domain, entry)| store.save_sts(domain, entry));
    for saved in futures_util::future::join_all(saves).await {
        saved.expect("saved");
    }
    store
}

#[test]
fn a_disk_that_hangs_does_not_hold_the_end_of_the_process() {
    let directory = tempfile::tempdir().expect("a directory");
    // A writer that never comes back from the disk never hangs up.
    let (_writer, ended) = mpsc::channel();
    let store = Store {
        directory: directory.path().to_owned(),
        queue: Queue::default(),
        blobs: Mutex::default(),
        ended: Mutex::new(ended),
        close_wait: Mutex::new(CLOSE_WAIT),
        clock: Clock::system(),
        complained: Mutex::default(),
    };
    store.close_within(Duration::from_millis(200));
    store.close_within(Duration::from_secs(3_600));
    let begun = crate::clock::Instant::now();
    drop(store);
    assert!(begun.elapsed() < CLOSE_WAIT / 2, "{:?}", begun.elapsed());
}

/// What a crash at this moment would leave: everything that was written, nothing that was only queued.
fn crash_copy(state: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for path in files(state) {
        let to = copy.path().join(path.strip_prefix(state).expect("below"));
        fs::create_dir_all(to.parent().expect("has a parent")).expect("creates");
        copy_sparse(&path, &to);
    }
    copy
}

/// Leaves out most of the nothing at the end of fjall's journal, which is 64 MiB long.
fn copy_sparse(from: &Path, to: &Path) {
    let mut bytes = fs::read(from).expect("reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(end + 64);
    fs::write(to, &bytes).expect("writes");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("reads") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn both_branches_and_blobs_survive_a_restart() {
    let state = tempfile::tempdir().expect("a directory");
    let (store, loaded) = open(state.path());
    assert_eq!(loaded.report, Report::default());
    store.save_sts(&domain(1), &sts(1)).await.expect("saved");
    store.save_sts(&domain(2), &sts(2)).await.expect("saved");
    store.save_sts(&domain(2), &sts(3)).await.expect("saved again");
    store.save_dane(&NextHop::Host { host: domain(1), port: 587 }, &dane());
    store.save_dane(&hop(4), &dane());
    store.remove(&hop(4));
    store.save_sts(&domain(5), &sts(5)).await.expect("saved");
    store.remove(&hop(5));
    store.save_blob("anchors", vec![1, 2, 3]).await.expect("saved");
    drop(store);

    let (store, mut loaded) = open(state.path());
    loaded.sts.sort_by_key(|(domain, _)| domain.clone());
    assert_eq!(loaded.sts, [(domain(1), sts(1)), (domain(2), sts(3))]);
    assert_eq!(loaded.dane, [(NextHop::Host { host: domain(1), port: 587 }, dane())]);
    assert_eq!(loaded.report, Report { policies: 2, dane: 1, ..Report::default() });
    assert_eq!(store.blob("anchors"), Some(vec![1, 2, 3]));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash_at_once() {
    let state = tempfile::tempdir().expect("a directory");
    let (store, _) = open(state.path());
    for n in 0..5 {
        store.save_sts(&domain(n), &sts(n)).await.expect("saved");
        let copy = crash_copy(state.path());
        let (_, loaded) = open(copy.path());
        assert_eq!(loaded.sts.len(), n + 1);
        assert_eq!(loaded.report, Report { policies: n as u64 + 1, ..Report::default() }, "and it is no damage");
    }
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let state = tempfile::tempdir().expect("a directory");
    let (_store, _) = open(state.path());
    let second = Store::open(state.path(), Clock::system());
    assert!(matches!(second, Err(LockError::Held { .. })));
}

/// One changed octet at each of many places of each file, by itself: nothing may be lost, nor may a start fail.
/// `POSTSEAL_DAMAGE_STEPS` sets how many.
fn one_byte_costs_nothing(state: &Path, expected: usize) {
    let steps = std::env::var("POSTSEAL_DAMAGE_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(3);
    let lean = crash_copy(state);
    let state = lean.path();
    for path in files(state) {
        let bytes = fs::read(&path).expect("reads");
        let (length, used) = (bytes.len(), bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
        let spread = (0..used).step_by((used / std::cmp::max(steps, 1)).max(1));
        let edges = [0, 1, used.saturating_sub(2), used.saturating_sub(1), used, length.saturating_sub(1)];
        for at in spread.chain(edges).filter(|at| *at < length) {
            let copy = crash_copy(state);
            let target = copy.path().join(path.strip_prefix(state).expect("below"));
            let mut bytes = fs::read(&target).expect("reads");
            bytes[at] ^= 1 << (at % 8);
            fs::write(&target, bytes).expect("writes");
            let (store, loaded) = open(copy.path());
            let place = format!("byte {at} of {}: {:?}", target.display(), loaded.report);
            assert_eq!(loaded.sts.len(), expected, "{place}");
            assert_eq!(loaded.report.lost_policies, 0, "{place}");
            assert!(!loaded.report.beyond_reading, "{place}");
            drop(store);
            let (_, again) = open(copy.path());
            assert_eq!(again.report, Report { policies: expected as u64, ..Report::default() }, "repaired: {place}");
        }
    }
}

#[test]
fn one_changed_byte_in_any_file_costs_nothing() {
    alone_async("cache::store::tests::one_changed_byte_in_any_file_costs_nothing", async {
        let state = tempfile::tempdir().expect("a directory");
        drop(filled(state.path(), 40).await);
        one_byte_costs_nothing(state.path(), 40);
    });
}

#[test]
fn one_changed_byte_in_any_table_costs_nothing() {
    alone_async("cache::store::tests::one_changed_byte_in_any_table_costs_nothing", async {
        let state = tempfile::tempdir().expect("a directory");
        drop(filled(state.path(), 40).await);
        let store = state.path().join(STORE_DIRECTORY);
        let (mut keyspace, _) = keyspace::Keyspace::open(&store, true, Default::default()).expect("opens");
        keyspace.flush_to_tables();
        drop(keyspace);
        one_byte_costs_nothing(state.path(), 40);
    });
}

#[test]
fn either_copy_alone_is_enough() {
    alone_async("cache::store::tests::either_copy_alone_is_enough", async {
        for lost in ["policies.log", "keyspace"] {
            let state = tempfile::tempdir().expect("a directory");
            drop(filled(state.path(), 50).await);
            let path = state.path().join(STORE_DIRECTORY).join(lost);
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("removes");
            let (_, loaded) = open(state.path());
            assert_eq!((loaded.sts.len(), loaded.report.lost_policies), (50, 0), "without {lost}");
            assert_eq!(loaded.report.restored, 50, "without {lost}");
        }
    });
}

#[tokio::test]
async fn a_log_that_lacks_its_last_batch_is_not_taken_for_whole() {
    let state = tempfile::tempdir().expect("a directory");
    let store = filled(state.path(), 10).await;
    let log = state.path().join(STORE_DIRECTORY).join("policies.log");
    let before = fs::read(&log).expect("reads");
    store.save_sts(&domain(10), &sts(10)).await.expect("saved");
    drop(store);
    fs::write(&log, before).expect("writes");
    let (_, loaded) = open(state.path());
    assert_eq!((loaded.sts.len(), loaded.report.restored), (11, 1));
}

#[test]
fn damage_to_both_copies_costs_what_it_hit_and_says_so() {
    alone_async("cache::store::tests::damage_to_both_copies_costs_what_it_hit_and_says_so", async {
        let state = tempfile::tempdir().expect("a directory");
        drop(filled(state.path(), 100).await);
        let store = state.path().join(STORE_DIRECTORY);
        fs::remove_dir_all(store.join("keyspace")).expect("removes");
        let log = store.join("policies.log");
        let mut bytes = fs::read(&log).expect("reads");
        for part in 1..4 {
            let at = part * bytes.len() / 4;
            bytes[at] ^= 0x20;
        }
        fs::write(&log, bytes).expect("writes");
        let (_, loaded) = open(state.path());
        assert_eq!(loaded.sts.len(), 97);
        assert_eq!((loaded.report.lost_policies, loaded.report.policies), (3, 97));
        let (_, again) = open(state.path());
        assert_eq!(again.report, Report { policies: 97, ..Report::default() }, "said once");
    });
}

#[test]
fn a_store_beyond_reading_is_moved_aside() {
    alone_async("cache::store::tests::a_store_beyond_reading_is_moved_aside", async {
        let state = tempfile::tempdir().expect("a directory");
        drop(filled(state.path(), 10).await);
        for path in files(state.path()) {
            let noise: Vec<u8> = (0..5000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
            fs::write(path, noise).expect("writes");
        }
        let (store, loaded) = open(state.path());
        assert!(loaded.report.beyond_reading && loaded.sts.is_empty());
        let aside = loaded.report.moved_aside.expect("somewhere");
        assert!(aside.join("policies.log").is_file(), "kept for inspection");
        store.save_sts(&domain(1), &sts(1)).await.expect("and the new one works");
        drop(store);
        let (_, loaded) = open(state.path());
        assert_eq!(loaded.sts.len(), 1);
    });
}

#[tokio::test]
async fn an_entry_that_is_not_understood_costs_only_itself() {
    let state = tempfile::tempdir().expect("a directory");
    let store = filled(state.path(), 3).await;
    let unknown = |key: &[u8], value: &[u8]| store.queue.put(key.to_vec(), Some(value.to_vec())).expect("queued");
    unknown(b"sfuture.example", &[VERSION_OF_THE_FUTURE, 0x93]);
    unknown(b"sbroken.example", &[1, 0x93, 0xC1]);
    unknown(b"snot a domain", &[1]);
    unknown(b"?", b"");
    drop(store);
    let (_, loaded) = open(state.path());
    assert_eq!((loaded.sts.len(), loaded.skipped), (3, 4));
}

const VERSION_OF_THE_FUTURE: u8 = 200;

#[tokio::test]
async fn the_log_stays_small_when_entries_change_often() {
    let state = tempfile::tempdir().expect("a directory");
    let (store, _) = open(state.path());
    for round in 0..40 {
        store.save_blob("big", vec![round; 500_000]).await.expect("saved");
        store.save_sts(&domain(usize::from(round)), &sts(1)).await.expect("saved");
        store.remove(&hop(usize::from(round)));
    }
    let log = state.path().join(STORE_DIRECTORY).join("policies.log");
    let size = fs::metadata(&log).expect("is there").len();
    assert!(size < 7_000_000, "{size} octets after 20,000,000");
    drop(store);
    let (store, loaded) = open(state.path());
    assert_eq!(loaded.report, Report::default());
    assert_eq!(store.blob("big"), Some(vec![39; 500_000]));
}

/// Written by this program at format version 1. Later formats add theirs and keep this one readable.
#[test]
fn entries_of_format_1_are_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1");
    let copy = crash_copy(&fixture);
    let (store, mut loaded) = open(copy.path());
    loaded.sts.sort_by_key(|(domain, _)| domain.clone());
    assert_eq!(loaded.sts, fixture_sts());
    assert_eq!(loaded.dane, [(NextHop::Host { host: domain(1), port: 587 }, dane())]);
    assert_eq!(store.blob("anchors"), Some(b"kept".to_vec()));
}

fn fixture_sts() -> Vec<(Domain, StsEntry)> {
    use crate::cache::entry::{FetchFailure, FetchFailureKind, PolicyLine};
    let mut failing = sts(2);
    failing.record.outcome = RecordOutcome::Failed("timeout".into());
    failing.record.failures = 2;
    failing.failure = Some(Box::new(FetchFailure {
        id: "3".into(),
        kind: FetchFailureKind::Certificate,
        reason: "expired".into(),
        at: NOW,
        retry_after: 300,
        count: 1,
    }));
    if let Some(held) = failing.policy.as_mut().map(Arc::make_mut) {
        let policy = Arc::make_mut(&mut held.policy);
        policy.mode = StsMode::Testing;
        policy.lines = vec![PolicyLine { key: "version".into(), value: "STSv1".into() }].into();
    }
    let mut absent = sts(3);
    absent.policy = None;
    absent.record.outcome = RecordOutcome::Absent("no record".into());
    vec![(domain(1), sts(1)), (domain(2), failing), (domain(3), absent)]
}

/// Makes the fixture of the current format: `POSTSEAL_WRITE_FIXTURE=directory cargo test --lib write_fixture`.
#[tokio::test]
async fn write_fixture() {
    let given = std::env::var_os("POSTSEAL_WRITE_FIXTURE").map(PathBuf::from);
    let scratch = tempfile::tempdir().expect("a directory");
    let state = given.as_deref().unwrap_or(scratch.path());
    let (store, _) = open(state);
    for (domain, entry) in fixture_sts() {
        store.save_sts(&domain, &entry).await.expect("saved");
    }
    store.save_dane(&NextHop::Host { host: domain(1), port: 587 }, &dane());
    store.save_blob("anchors", b"kept".to_vec()).await.expect("saved");
    drop(store);
    assert_eq!(open(state).1.report, Report { policies: 3, dane: 1, ..Report::default() });
}

/// Opens a store and gives what that counted, on this thread.
fn counted(state: &Path, name: &str) -> f64 {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let guard = metrics::set_default_local_recorder(&recorder);
    drop(open(state));
    drop(guard);
    crate::telemetry::samples::Samples::parse(&recorder.handle().render()).sum(name, None)
}

#[tokio::test]
async fn what_damage_costs_is_counted() {
    let state = tempfile::tempdir().expect("a directory");
    drop(filled(state.path(), 20).await);
    for name in [STORE_LOST, STORE_MOVED_ASIDE, crate::telemetry::metrics::STORE_DAMAGED_ENTRIES] {
        assert_eq!(counted(state.path(), name), 0.0, "{name}");
    }
    // A value that nobody understands, in a record that is whole.
    let (store, _) = open(state.path());
    store.queue.put([&[super::index::KEY_STS][..], b"odd.example"].concat(), Some(vec![99, 1, 2])).expect("queued");
    store.flush().await.expect("written");
    drop(store);
    assert!(counted(state.path(), crate::telemetry::metrics::STORE_DAMAGED_ENTRIES) >= 1.0);
    // Half of both copies is gone.
    let store = state.path().join(STORE_DIRECTORY);
    fs::remove_dir_all(store.join(keyspace::KEYSPACE_DIRECTORY)).expect("removed");
    let log = files(&store).into_iter().find(|path| path.ends_with("policies.log")).expect("the log");
    let mut octets = fs::read(&log).expect("read");
    let (from, to) = (octets.len() / 4, octets.len() / 2);
    octets[from..to].fill(0);
    fs::write(&log, octets).expect("written");
    assert!(counted(state.path(), STORE_LOST) >= 1.0);
    // Nothing can be read at all.
    for path in files(&store) {
        fs::write(path, b"nonsense").expect("written");
    }
    assert_eq!(counted(state.path(), STORE_MOVED_ASIDE), 1.0);
}

#[tokio::test]
async fn the_size_on_disk_and_what_waits_can_be_seen() {
    let state = tempfile::tempdir().expect("a directory");
    let store = filled(state.path(), 50).await;
    store.flush().await.expect("written");
    let usage = store.usage();
    assert!(usage.bytes > 50 * 100 && !usage.failing && usage.waiting == 0, "{usage:?}");
}
