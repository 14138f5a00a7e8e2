//! The disk: what many or long policies take of it, and who has to make room.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use postseal::cache::store::Store;
use postseal::cache::{Bounds, HeldPolicy, Persist, PolicyCache, StsEntry, StsState};
use postseal::clock::Clock;
use postseal::names::{Domain, NextHop};

use super::policies::{announced, domain, long_policy, zone_of};

/// A long policy.
const LONG: usize = 64 << 10;
/// What the store takes with nothing in it.
const EMPTY: u64 = 4 << 20;

fn entry(number: usize, bytes: usize) -> StsEntry {
    let held = HeldPolicy { id: "1".into(), fetched_at: Clock::system().wall(), policy: long_policy(number, bytes) };
    StsEntry { policy: Some(Arc::new(held)), ..announced() }
}

async fn save_all(store: &Store, entries: &[(Domain, StsEntry)]) {
    for saved in join_all(entries.iter().map(|(domain, entry)| store.save_sts(domain, entry))).await {
        saved.expect("saved");
    }
    store.flush().await.expect("flushed");
}

fn open(state: &Path) -> (Store, usize) {
    let (store, loaded) = Store::open(state, Clock::system()).expect("nobody else has it");
    assert_eq!((loaded.skipped, loaded.report.damaged, loaded.report.lost_policies), (0, 0, 0));
    let whole = loaded.sts.iter().filter_map(|(_, entry)| Some(entry.policy.as_ref()?.policy.mx.len()));
    let count = loaded.sts.len();
    assert_eq!(whole.filter(|hosts| *hosts > 1).count(), count, "all with their hosts");
    (store, count)
}

#[tokio::test]
async fn policies_of_64_kib_take_one_copy_of_themselves_and_all_come_back() {
    let state = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (0..400).map(|n| (domain(&format!("d{n}.example")), entry(n, LONG))).collect();
    let (store, _) = open(state.path());
    save_all(&store, &entries).await;
    let taken = store.usage().bytes;
    assert!(taken < 400 * LONG as u64 * 11 / 10 + EMPTY, "{taken} octets for {}", 400 * LONG);
    drop(store);
    let (store, count) = open(state.path());
    assert_eq!(count, 400);
    // Renewed with the same policy: nothing more. With others: what they replace goes.
    save_all(&store, &entries).await;
    let others: Vec<_> =
        entries.iter().enumerate().map(|(n, (domain, _))| (domain.clone(), entry(1_000 + n, LONG))).collect();
    save_all(&store, &others).await;
    drop(store);
    let (store, count) = open(state.path());
    assert_eq!(count, 400);
    let taken = store.usage().bytes;
    assert!(taken < 400 * LONG as u64 * 11 / 10 + 2 * EMPTY, "{taken} octets after all were replaced");
}

#[tokio::test]
async fn equal_texts_are_on_disk_once_and_go_with_the_last_that_has_them() {
    let state = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (0..1_000).map(|n| (domain(&format!("d{n}.example")), entry(0, LONG))).collect();
    let (store, _) = open(state.path());
    save_all(&store, &entries).await;
    let taken = store.usage().bytes;
    assert!(taken < 2 * EMPTY, "{taken} octets for one policy of {LONG} that 1,000 domains publish");
    for (domain, _) in &entries[1..] {
        store.remove(&NextHop::Domain { domain: domain.clone(), port: None });
    }
    store.flush().await.unwrap();
    drop(store);
    let (store, count) = open(state.path());
    assert_eq!(count, 1, "the last one has its text still");
    store.remove(&NextHop::Domain { domain: entries[0].0.clone(), port: None });
    store.flush().await.unwrap();
    drop(store);
    let (_store, count) = open(state.path());
    assert_eq!(count, 0);
    let texts = std::fs::read_dir(state.path().join("store/texts")).unwrap().count();
    assert_eq!(texts, 0, "nobody has the text any more");
}

#[tokio::test]
async fn either_copy_alone_has_long_policies_too() {
    for lost in ["policies.log", "keyspace"] {
        let state = tempfile::tempdir().unwrap();
        let (store, _) = open(state.path());
        let entries: Vec<_> = (0..10).map(|n| (domain(&format!("d{n}.example")), entry(n, LONG))).collect();
        save_all(&store, &entries).await;
        drop(store);
        let lost = state.path().join("store").join(lost);
        if lost.is_dir() {
            std::fs::remove_dir_all(lost).unwrap()
        } else {
            std::fs::remove_file(lost).unwrap()
        }
        let (_store, loaded) = Store::open(state.path(), Clock::system()).expect("nobody else has it");
        assert_eq!((loaded.sts.len(), loaded.skipped), (10, 0));
    }
}

#[tokio::test]
async fn a_zone_of_long_policies_evicts_its_own_and_the_bound_holds() {
    let state = tempfile::tempdir().unwrap();
    let (clock, bytes) = (Clock::system(), 16 << 20);
    let (store, _) = open(state.path());
    let store = Arc::new(store);
    let bounds = Bounds { entries: 100_000, bytes: 1 << 30 };
    let cache = PolicyCache::new(bounds, store.clone()).on_disk(bytes).grouped_by(zone_of());
    let put = async |name: &str, entry: StsEntry| {
        cache.put_sts(&domain(name), StsState::updated(entry, None, clock.stamp()), clock.stamp()).await;
    };
    for n in 0..20 {
        put(&format!("innocent{n}.example"), entry(n, LONG)).await;
    }
    for n in 0..400 {
        put(&format!("d{n}.hostile.example"), entry(1_000 + n, LONG)).await;
    }
    cache.settle().await;
    for n in 0..20 {
        let hop = NextHop::Domain { domain: domain(&format!("innocent{n}.example")), port: None };
        assert!(cache.peek(&hop).is_some(), "innocent{n}: evicted for another zone's policies");
    }
    let of_hostile = cache.len() - 20;
    assert!((1..=400 / 16).contains(&of_hostile), "{of_hostile} of the hostile zone");
    let taken = store.usage().bytes;
    assert!(taken < bytes as u64, "{taken} octets");
}
