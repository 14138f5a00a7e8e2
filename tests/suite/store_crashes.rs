//! The store in a process of its own that is killed, or whose disk stops taking writes.
//!
//! The child is this test binary again, running [`child`]; it says on standard output what was acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use postseal::cache::entry::{PolicyLines, RecordCheck, RecordOutcome};
use postseal::cache::store::{Loaded, LockError, Report, Store};
use postseal::cache::{HeldPolicy, Persist, StsEntry, StsMode, StsPolicy};
use postseal::clock::Clock;
use postseal::names::{Domain, MxPattern};
use rand::RngExt;

const STATE: &str = "POSTSEAL_TEST_STATE";
/// Policies of one batch of the child.
const BATCH: usize = 40;

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("domain-{n}.example")).unwrap()
}

fn entry(n: usize) -> StsEntry {
    let policy = StsPolicy {
        mode: StsMode::Enforce,
        max_age: 604_800,
        mx: Box::new([MxPattern::parse("*.mail.example").unwrap()]),
        lines: PolicyLines::default(),
    };
    let id: Box<str> = n.to_string().into();
    StsEntry {
        policy: Some(HeldPolicy { id: id.clone(), fetched_at: 1_800_000_000, policy: policy.into() }.into()),
        record: RecordCheck { at: 1_800_000_000, ttl: 300, outcome: RecordOutcome::Id(id), failures: 0 },
        failure: None,
    }
}

/// The store, as soon as whoever had it before has closed it: where the disk is slow that outlasts the drop.
fn open(state: &Path) -> (Store, Loaded) {
    for _ in 0..6_000 {
        match Store::open(state, Clock::system()) {
            Err(LockError::Held { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("still held after a minute");
}

/// Run by the other tests: at each number on standard input saves a batch of policies from that number on.
#[tokio::test]
#[ignore = "the child of the other tests"]
async fn child() {
    let state = std::env::var_os(STATE).expect("run by another test");
    let (store, _) = open(Path::new(&state));
    say("open");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        if line == "flush" {
            while store.flush().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            say("flushed");
            continue;
        }
        let from: usize = line.parse().unwrap();
        let saves = (from..from + BATCH).map(|n| {
            let store = &store;
            async move {
                let word = if store.save_sts(&domain(n), &entry(n)).await.is_ok() { "saved" } else { "refused" };
                say(&format!("{word} {n}"));
            }
        });
        futures_util::future::join_all(saves).await;
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "#{line}").unwrap();
    out.flush().unwrap();
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(state: &Path) -> Self {
        // A file that grows past its limit must be an error, as a full disk is, and not a signal.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" --ignored --exact --nocapture store_crashes::child"])
            .arg(std::env::current_exe().unwrap())
            .env(STATE, state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn tell(&mut self, line: &str) {
        // It may have been killed already.
        let _ = writeln!(self.input, "{line}");
    }

    /// The next thing it says; nothing at its end.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, said)) = line.trim_end().split_once('#') {
                return Some(said.to_owned());
            }
        }
    }

    fn hear_batch(&mut self) -> Vec<String> {
        (0..BATCH).map(|_| self.hear().expect("still there")).collect()
    }

    /// Everything that it says, until it ends.
    fn words(&mut self) -> impl Iterator<Item = String> {
        std::iter::from_fn(|| self.hear())
    }

    fn limit_files(&self, bytes: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().unwrap();
        assert!(status.success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_saved(said: String) -> Option<usize> {
    Some(said.strip_prefix("saved ")?.parse().unwrap())
}

fn rounds() -> usize {
    std::env::var("POSTSEAL_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

#[test]
fn what_was_saved_is_there_after_every_kill() {
    let state = tempfile::tempdir().unwrap();
    let mut saved = Vec::new();
    for round in 0..rounds() {
        let mut process = Process::start(state.path());
        for batch in 0..200 {
            process.tell(&((round * 200 + batch) * BATCH).to_string());
        }
        // By turns in the midst of saving, whatever the machine's pace, and at any time from the start on.
        let killed = if round % 2 == 0 {
            let after = rand::rng().random_range(BATCH + 1..100 * BATCH);
            saved.extend(process.words().take(after).filter_map(number_saved));
            process.child.kill().unwrap();
            saved.extend(process.words().filter_map(number_saved));
            format!("after {after}")
        } else {
            let wait = Duration::from_micros(rand::rng().random_range(0..80_000));
            let pid = process.child.id().to_string();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(wait);
                Command::new("kill").args(["-9", &pid]).status().unwrap()
            });
            saved.extend(process.words().filter_map(number_saved));
            killer.join().unwrap();
            format!("after {wait:?}")
        };
        process.kill();

        let (_, loaded) = open(state.path());
        let there: std::collections::HashMap<_, _> = loaded.sts.into_iter().collect();
        for n in &saved {
            assert_eq!(there.get(&domain(*n)), Some(&entry(*n)), "round {round}, killed {killed}");
        }
        let Report { damaged, lost_policies, beyond_reading, .. } = loaded.report;
        assert_eq!((damaged, lost_policies, beyond_reading), (0, 0, false), "round {round}: {:?}", loaded.report);
    }
}

#[test]
fn a_disk_that_fills_up_costs_nothing_once_it_has_room_again() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Process::start(state.path());
    assert_eq!(process.hear().as_deref(), Some("open"));
    process.tell("0");
    assert!(process.hear_batch().iter().all(|said| said.starts_with("saved")));
    process.limit_files("1000");
    process.tell("100");
    assert!(process.hear_batch().iter().all(|said| said.starts_with("refused")));
    process.tell("200");
    assert!(process.hear_batch().iter().all(|said| said.starts_with("refused")), "at once, while it fails");
    process.limit_files("unlimited");
    process.tell("flush");
    assert_eq!(process.hear().as_deref(), Some("flushed"));
    process.kill();
    let (_, loaded) = open(state.path());
    assert_eq!(loaded.sts.len(), 3 * BATCH, "also what was refused: {:?}", loaded.report);
    assert_eq!(loaded.report.lost_policies, 0);
}

#[test]
fn a_disk_that_is_full_at_the_start_is_no_reason_not_to_start() {
    let state = tempfile::tempdir().unwrap();
    let mut process = Process::start(state.path());
    assert_eq!(process.hear().as_deref(), Some("open"));
    process.tell("0");
    process.hear_batch();
    process.kill();
    let mut process = Process::start(state.path());
    process.limit_files("10");
    assert_eq!(process.hear().as_deref(), Some("open"));
    process.tell("100");
    process.hear_batch();
    process.limit_files("unlimited");
    process.tell("flush");
    assert_eq!(process.hear().as_deref(), Some("flushed"));
    process.kill();
    let (_, loaded) = open(state.path());
    assert_eq!(loaded.sts.len(), 2 * BATCH);
}
