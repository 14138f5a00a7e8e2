//! The policy cache in memory: the names of one zone have their share of it and no more.

use std::sync::Arc;

use postseal::cache::{Bounds, DaneEntry, DaneVerdict, Forgetful, HeldPolicy, PolicyCache, StsEntry, StsState};
use postseal::clock::Clock;
use postseal::names::NextHop;

use super::policies::{announced, domain, long_policy, zone_of};

const ENTRIES: usize = 1_600;

fn hop(name: &str) -> NextHop {
    NextHop::Domain { domain: domain(name), port: None }
}

fn dane(verdict: DaneVerdict, now: i64) -> DaneEntry {
    DaneEntry::new(verdict, "as it is", now, 86_400)
}

#[tokio::test(start_paused = true)]
async fn a_zone_with_ten_thousand_names_keeps_a_sixteenth_and_pushes_nobody_out() {
    let clock = Clock::manual(1_800_000_000);
    let cache =
        PolicyCache::new(Bounds { entries: ENTRIES, bytes: 1 << 30 }, Arc::new(Forgetful)).grouped_by(zone_of());
    // Of no worth, as most are: the first to go where nobody has a share.
    for n in 0..1_000 {
        cache.put_dane(&hop(&format!("innocent{n}.example")), dane(DaneVerdict::None, clock.wall()), clock.stamp());
    }
    for n in 0..10_000 {
        let hop = hop(&format!("d{n}.hostile.example"));
        cache.put_dane(&hop, dane(DaneVerdict::DaneOnly, clock.wall()), clock.stamp());
    }
    let kept = (0..1_000).filter(|n| cache.peek(&hop(&format!("innocent{n}.example"))).is_some()).count();
    assert_eq!(kept, 1_000, "innocent entries");
    assert_eq!(cache.len(), 1_000 + ENTRIES / 16);
}

#[tokio::test(start_paused = true)]
async fn the_share_is_one_of_octets_too_and_a_shared_policy_counts_once() {
    let (clock, bytes) = (Clock::manual(Clock::system().wall()), 16 << 20);
    let cache = PolicyCache::new(Bounds { entries: 100_000, bytes }, Arc::new(Forgetful)).grouped_by(zone_of());
    let put = async |name: String, number: usize| {
        let held = HeldPolicy { id: "1".into(), fetched_at: clock.wall(), policy: long_policy(number, 32 << 10) };
        let entry = StsEntry { policy: Some(Arc::new(held)), ..announced() };
        cache.put_sts(&domain(&name), StsState::updated(entry, None, clock.stamp()), clock.stamp()).await;
    };
    for n in 0..2_000 {
        put(format!("customer{n}.example"), 0).await;
    }
    assert_eq!(cache.len(), 2_000, "one policy of a provider, however many have it");
    for n in 0..200 {
        put(format!("d{n}.hostile.example"), 1 + n).await;
    }
    let of_hostile = cache.len() - 2_000;
    assert!((1..=32).contains(&of_hostile), "{of_hostile} of the hostile zone");
    assert!(cache.bytes() <= bytes, "{}", cache.bytes());
    cache.clear();
    assert_eq!((cache.len(), cache.bytes()), (0, 0), "all is taken back");
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_no_longer_known_changes_nothing() {
    let clock = Clock::manual(1_800_000_000);
    let known = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let zone_of = {
        let known = known.clone();
        Arc::new(move |_: &_| {
            let deep = known.load(std::sync::atomic::Ordering::Relaxed);
            Some(if deep { "a.co.example" } else { "co.example" }.to_owned())
        })
    };
    let cache = PolicyCache::new(Bounds { entries: 160, bytes: 1 << 30 }, Arc::new(Forgetful)).grouped_by(zone_of);
    for n in 0..10 {
        cache.put_dane(&hop(&format!("d{n}.a.co.example")), dane(DaneVerdict::DaneOnly, clock.wall()), clock.stamp());
    }
    // Its cut has ended: the names that are asked for now seem to be of the zone above, those from before do not.
    known.store(false, std::sync::atomic::Ordering::Relaxed);
    for n in 0..10 {
        cache.put_dane(&hop(&format!("d{n}.a.co.example")), dane(DaneVerdict::Temporary, clock.wall()), clock.stamp());
    }
    for n in 0..10 {
        cache.put_dane(&hop(&format!("e{n}.co.example")), dane(DaneVerdict::None, clock.wall()), clock.stamp());
    }
    assert_eq!(cache.len(), 20);
}
