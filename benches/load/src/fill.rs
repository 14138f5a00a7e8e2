//! A state directory as a large site has it after weeks: every domain with an MTA-STS and a DANE branch.

use std::path::Path;

use postseal::cache::entry::{RecordCheck, RecordOutcome};
use postseal::cache::store::Store;
use postseal::cache::{DaneEntry, DaneVerdict, HeldPolicy, Persist, StsEntry};
use postseal::clock::Clock;
use postseal::names::{Domain, NextHop};
use postseal::policy::mta_sts::policy;

/// Domains whose mail the same provider takes share their policy's text.
const PROVIDERS: usize = 500;
/// Saved together.
const BATCH: usize = 10_000;

pub fn run(directory: &Path, domains: usize) {
    std::fs::create_dir_all(directory).unwrap();
    let clock = Clock::system();
    let (store, _) = Store::open(directory, clock.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for from in (0..domains).step_by(BATCH) {
            let to = domains.min(from + BATCH);
            let some: Vec<(Domain, StsEntry)> = (from..to).map(|n| (domain(n), sts(n, clock.wall()))).collect();
            let saves = some.iter().map(|(domain, entry)| store.save_sts(domain, entry));
            for saved in futures_util::future::join_all(saves).await {
                saved.unwrap();
            }
            for (domain, _) in some {
                store.save_dane(&NextHop::Domain { domain, port: None }, &dane(clock.wall()));
            }
            store.flush().await.unwrap();
        }
    });
    println!("{domains} next hops in {}", directory.display());
}

fn domain(n: usize) -> Domain {
    Domain::parse(&format!("m{n}.example")).unwrap()
}

fn sts(n: usize, now: i64) -> StsEntry {
    let provider = n % PROVIDERS;
    let text = format!(
        "version: STSv1\r\nmode: enforce\r\nmx: *.mail.p{provider}.example\r\nmx: mx1.p{provider}.example\r\n\
         mx: mx2.p{provider}.example\r\nmax_age: 604800\r\n"
    );
    let id: Box<str> = format!("20260101{n:06}").into();
    let policy = policy::parse(text.as_bytes()).unwrap();
    StsEntry {
        policy: Some(HeldPolicy { id: id.clone(), fetched_at: now, policy: policy.into() }.into()),
        record: RecordCheck { at: now, ttl: 86_400, outcome: RecordOutcome::Id(id), failures: 0 },
        failure: None,
    }
}

fn dane(now: i64) -> DaneEntry {
    DaneEntry::new(DaneVerdict::None, "no TLSA records", now, 86_400)
}
