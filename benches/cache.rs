//! What a full cache costs: the start that reads it in, its memory, and a hit.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement that cannot go on fails, and it reads the machine's clock"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postseal::cache::entry::{PolicyLines, RecordCheck, RecordOutcome};
use postseal::cache::store::Store;
use postseal::cache::{
    Bounds, DaneEntry, DaneVerdict, Forgetful, HeldPolicy, Persist, PolicyCache, StsEntry, StsMode, StsPolicy,
};
use postseal::clock::Clock;
use postseal::config::{MapOptions, Overrides};
use postseal::dns::{Answer, BoxFuture, Failure, Lookup};
use postseal::names::{Domain, MxPattern, NextHop};
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy};
use postseal::policy::reply::render;
use postseal::policy::{Engine, EngineSettings};

/// Next hops; a few where this only shows that it works (`cargo test --benches`).
fn entries() -> usize {
    if std::env::args().any(|argument| argument == "--bench") { 100_000 } else { 1_000 }
}

/// Saved together.
const BATCH: usize = 10_000;

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("mail-domain-{n}.example")).unwrap()
}

/// A policy as large providers publish it.
fn sts(now: i64) -> StsEntry {
    let mx = ["*.mail.protection.example", "mx1.example.net", "mx2.example.net"];
    let mx = mx.iter().map(|pattern| MxPattern::parse(pattern).unwrap()).collect();
    let policy = StsPolicy { mode: StsMode::Enforce, max_age: 604_800, mx, lines: PolicyLines::default() };
    let id: Box<str> = "20260101000000Z".into();
    StsEntry {
        policy: Some(HeldPolicy { id: id.clone(), fetched_at: now, policy: policy.into() }.into()),
        record: RecordCheck { at: now, ttl: 86_400, outcome: RecordOutcome::Id(id), failures: 0 },
        failure: None,
    }
}

fn dane(now: i64) -> DaneEntry {
    DaneEntry::new(DaneVerdict::None, "no TLSA records", now, 86_400)
}

fn fill(state: &Path, clock: &Clock) {
    let (store, _) = Store::open(state, clock.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for from in (0..entries()).step_by(BATCH) {
            let domains: Vec<Domain> = (from..entries().min(from + BATCH)).map(domain).collect();
            let entry = sts(clock.wall());
            let saves = domains.iter().map(|domain| store.save_sts(domain, &entry));
            for saved in futures_util::future::join_all(saves).await {
                saved.unwrap();
            }
            for domain in domains {
                store.save_dane(&NextHop::Domain { domain, port: None }, &dane(clock.wall()));
            }
            store.flush().await.unwrap();
        }
    });
}

/// What a daemon does before its sockets accept.
fn read_in(state: &Path, clock: &Clock) -> (Store, PolicyCache) {
    let (store, loaded) = Store::open(state, clock.clone()).unwrap();
    let bounds = Bounds { entries: entries(), bytes: 4096 * entries() };
    let cache = PolicyCache::new(bounds, Arc::new(Forgetful));
    let now = clock.stamp();
    for (domain, entry) in loaded.sts {
        cache.restore(&NextHop::Domain { domain, port: None }, None, Some(entry), now);
    }
    for (hop, entry) in loaded.dane {
        cache.restore(&hop, Some(entry), None, now);
    }
    assert_eq!(cache.len(), entries());
    (store, cache)
}

struct Nowhere;

impl Lookup for Nowhere {
    fn lookup<'a>(
        &'a self,
        _: &'a hickory_proto::rr::Name,
        _: hickory_proto::rr::RecordType,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(std::future::pending())
    }

    fn zone_known_signed(&self, _: &hickory_proto::rr::Name) -> bool {
        false
    }
}

impl Fetch for Nowhere {
    fn fetch<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        Box::pin(std::future::pending())
    }
}

/// Resident memory in MiB.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1_048_576.0
}

fn main() {
    let clock = Clock::system();
    let state = tempfile::tempdir().unwrap();
    let started = Instant::now();
    fill(state.path(), &clock);
    println!("stored, durable:      {} next hops in {:.2?}", entries(), started.elapsed());

    let before = resident();
    let (store, cache) = read_in(state.path(), &clock);
    let used = cache.bytes() as f64 / 1_048_576.0;
    println!("resident memory:      {before:.0} MiB before reading, {:.0} MiB after", resident());
    println!("cache, its estimate:  {used:.0} MiB");
    drop((store, cache));
    let mut starts: Vec<Duration> = (0..5).map(|_| start(state.path(), &clock)).collect();
    starts.sort();
    println!("start, read in:       median {:.0?}, longest {:.0?}", starts[2], starts[4]);

    let (_store, cache) = read_in(state.path(), &clock);
    let (median, p99) = hits(cache, &clock);
    println!("hit, reply included:  median {median:.2?}, 99th percentile {p99:.2?}");
}

fn start(state: &Path, clock: &Clock) -> Duration {
    let started = Instant::now();
    let kept = read_in(state, clock);
    let took = started.elapsed();
    drop(kept);
    took
}

/// Decision and reply text for next hops all over the cache.
fn hits(cache: PolicyCache, clock: &Clock) -> (Duration, Duration) {
    let nowhere = Arc::new(Nowhere);
    let settings = EngineSettings::default();
    let engine = Engine::new(nowhere.clone(), nowhere, clock.clone(), settings, Overrides::default(), Arc::new(cache));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let hops: Vec<NextHop> = (0..entries()).map(|n| NextHop::Domain { domain: domain(n), port: None }).collect();
    let map = MapOptions::default();
    let mut times: Vec<Duration> = runtime.block_on(async {
        let mut times = Vec::with_capacity(2 * entries());
        for turn in 0..2 * entries() {
            let hop = &hops[turn * 7_919 % entries()];
            let started = Instant::now();
            let text = render(&engine.answer(hop, &map).await, hop, &map).to_string();
            times.push(started.elapsed());
            assert!(text.starts_with("OK secure "));
        }
        times
    });
    times.sort();
    (times[entries()], times[2 * entries() * 99 / 100])
}
