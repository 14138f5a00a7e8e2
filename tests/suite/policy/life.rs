//! The life of an MTA-STS policy (design §5; RFC 8461 §3.3, §5.1, §8.3, §10.2) on a clock that is moved.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::TXT;
use postseal::cache::{Bounds, Forgetful, PolicyCache};
use postseal::dns::{Cause, Found, Security};
use postseal::policy::mta_sts::FetchError;
use postseal::policy::{Engine, EngineSettings};

use super::script::{World, hop, pass};

const SECURE: &str = "OK secure match=mx.example.com servername=hostname";
const ROTATED: &str = "OK secure match=new.example.com servername=hostname";
const RECORD: &str = "_mta-sts.example.com";
const DAY: u64 = 86_400;

/// A domain that enforces for a week, record TTL ten minutes, learnt already.
async fn learnt() -> World {
    learnt_for(604_800).await
}

async fn learnt_for(max_age: u32) -> World {
    let world = World::new();
    world.sts_domain("example.com", "enforce", max_age, 600);
    assert_eq!(world.ask("example.com").await, SECURE);
    assert_eq!((world.dns.asked(RECORD, TXT), world.host.fetched("example.com")), (1, 1));
    world
}

#[tokio::test(start_paused = true)]
async fn the_same_id_is_only_checked_again() {
    let world = learnt().await;
    for round in 1..=5 {
        pass(599).await;
        assert_eq!(world.ask("example.com").await, SECURE);
        assert_eq!(world.dns.asked(RECORD, TXT), round, "not before the TTL ends");
        pass(2).await;
        assert_eq!(world.ask("example.com").await, SECURE);
        assert_eq!(world.dns.asked(RECORD, TXT), round + 1);
    }
    assert_eq!(world.host.fetched("example.com"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_id_takes_effect_within_the_ttl_of_the_record() {
    let world = learnt().await;
    world.dns.sts("example.com", 600, "2");
    world.host.policy("example.com", "enforce", 604_800, "new.example.com");
    pass(601).await;
    assert_eq!(world.ask("example.com").await, ROTATED);
}

#[tokio::test(start_paused = true)]
async fn none_replaces_enforce() {
    let world = learnt().await;
    world.dns.sts("example.com", 600, "2");
    world.host.serves("example.com", "version: STSv1\nmode: none\nmax_age: 86400\n");
    pass(601).await;
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
}

#[tokio::test(start_paused = true)]
async fn a_policy_stays_in_force_through_any_failure_until_max_age_ends() {
    type Fault = fn(&World);
    let faults: &[(&str, Fault)] = &[
        ("record missing", |w| _ = w.dns.nothing(RECORD, TXT, Found::NxDomain, Security::Secure)),
        ("record invalid", |w| _ = w.dns.txt(RECORD, 600, &["v=STSv1; id=no-id;"])),
        ("two records", |w| _ = w.dns.txt(RECORD, 600, &["v=STSv1; id=2", "v=STSv1; id=3"])),
        ("record bogus", |w| _ = w.dns.bogus(RECORD, TXT)),
        ("record fails", |w| _ = w.dns.fails(RECORD, TXT, Cause::ServFail)),
        ("record silent", |w| _ = w.dns.fails(RECORD, TXT, Cause::Timeout).delay(RECORD, TXT, Duration::from_secs(12))),
        ("same id, host dead", |w| _ = w.host.fails("example.com", FetchError::Timeout)),
        ("same id, certificate wrong", |w| _ = w.host.fails("example.com", FetchError::Certificate("x".into()))),
        ("new id, host answers 404", |w| {
            w.dns.sts("example.com", 600, "2");
            w.host.fails("example.com", FetchError::Status(404));
        }),
        ("new id, policy invalid", |w| {
            w.dns.sts("example.com", 600, "2");
            w.host.serves("example.com", "<html>");
        }),
        ("new id, host silent", |w| {
            w.dns.sts("example.com", 600, "2");
            w.host.delay("example.com", Duration::from_secs(60)).fails("example.com", FetchError::Timeout);
        }),
    ];
    for (name, fault) in faults {
        let world = learnt_for(20_000).await;
        if name.starts_with("record") {
            world.host.fails("example.com", FetchError::Timeout);
        }
        let maintenance = tokio::spawn(world.engine.clone().maintain());
        fault(&world);
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(19_000) {
            pass(900).await;
            assert_eq!(world.ask("example.com").await, SECURE, "{name} after {:?}", started.elapsed());
        }
        pass(20_100 - started.elapsed().as_secs()).await;
        assert_eq!(world.ask("example.com").await, "NOTFOUND ", "{name} past max_age");
        maintenance.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_fetched_again_daily_and_extended_though_nobody_asks() {
    let world = learnt_for(2 * 86_400).await;
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    pass(DAY).await;
    assert_eq!(world.host.fetched("example.com"), 2);
    world.host.fails("example.com", FetchError::Timeout);
    pass(DAY + DAY / 2).await;
    assert_eq!(world.ask("example.com").await, SECURE, "valid for max_age from the last fetch");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_policy_shortened_by_its_owner_is_shortened_here() {
    let world = learnt_for(20_000).await;
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    world.host.policy("example.com", "enforce", 3_600, "mx.example.com");
    pass(10_060).await;
    world.host.fails("example.com", FetchError::Status(404));
    world.dns.nothing(RECORD, TXT, Found::NxDomain, Security::Secure);
    pass(3_700).await;
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_short_max_age_is_renewed_in_time_whatever_failed_before() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 600, 600);
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    assert_eq!(world.ask("example.com").await, SECURE);
    world.host.fails_first("example.com", FetchError::Status(503), 1);
    for _ in 0..20 {
        pass(60).await;
        let decision = world.decide("example.com", &Default::default()).await;
        assert_eq!(decision.outcome.label(), "secure");
    }
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn max_age_zero_enforces_for_this_delivery_only() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 0, 600);
    assert_eq!(world.ask("example.com").await, SECURE);
    assert_eq!(world.ask("example.com").await, SECURE, "fetched again");
    assert_eq!(world.host.fetched("example.com"), 2);
    world.host.fails("example.com", FetchError::Status(500));
    assert_eq!(world.ask("example.com").await, "NOTFOUND ", "nothing was kept");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_fetched_again_for_five_minutes_then_up_to_an_hour() {
    for error in [FetchError::Status(404), FetchError::Certificate("x".into()), FetchError::MediaType("x".into())] {
        let world = World::new();
        world.sts_domain("example.com", "enforce", 86_400, 86_400);
        world.host.fails("example.com", error);
        let mut fetched_at = Vec::new();
        let started = tokio::time::Instant::now();
        while started.elapsed() < Duration::from_secs(4 * 3_600) {
            let before = world.host.fetched("example.com");
            assert_eq!(world.ask("example.com").await, "NOTFOUND ");
            if world.host.fetched("example.com") > before {
                fetched_at.push(started.elapsed().as_secs());
            }
            pass(10).await;
        }
        let gaps: Vec<u64> = fetched_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let expected = [300, 600, 1_200, 2_400, 3_600];
        assert!(gaps.iter().zip(expected).all(|(gap, wanted)| (wanted..=wanted + 10).contains(gap)), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_id_is_fetched_whatever_failed_before() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 60);
    world.host.fails("example.com", FetchError::Status(404));
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    world.dns.sts("example.com", 60, "2");
    world.host.policy("example.com", "enforce", 86_400, "mx.example.com");
    pass(61).await;
    assert_eq!(world.ask("example.com").await, SECURE);
}

#[tokio::test(start_paused = true)]
async fn a_lost_packet_costs_nothing_and_a_dead_network_thirty_seconds() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.host.fails_first("example.com", FetchError::Timeout, 2);
    assert_eq!(world.ask("example.com").await, SECURE, "the third try within the lookup");
    assert_eq!(world.host.fetched("example.com"), 3);

    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.host.fails_first("example.com", FetchError::Timeout, 3);
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(world.host.fetched("example.com"), 3, "no more than three tries");
    pass(20).await;
    assert_eq!(world.host.fetched("example.com"), 3);
    pass(15).await;
    assert_eq!(world.host.fetched("example.com"), 4, "in the background");
    let decision = world.decide("example.com", &Default::default()).await;
    assert!(decision.cached);
    assert_eq!(decision.outcome.label(), "secure");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_had_is_asked_for_again_within_the_lookup_and_in_the_background() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.dns.fails(RECORD, TXT, Cause::Timeout);
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(world.dns.asked(RECORD, TXT), 3);
    world.dns.sts("example.com", 600, "1");
    pass(40).await;
    let decision = world.decide("example.com", &Default::default()).await;
    assert!(decision.cached);
    assert_eq!(decision.outcome.label(), "secure");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_held_policy_is_served_soon_though_its_check_hangs() {
    let world = learnt().await;
    world.dns.delay(RECORD, TXT, Duration::from_secs(25));
    pass(601).await;
    let started = tokio::time::Instant::now();
    assert_eq!(world.ask("example.com").await, SECURE);
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(world.ask("example.com").await, SECURE);
    assert_eq!(started.elapsed().as_secs(), 5, "only the first query waits");
}

#[tokio::test(start_paused = true)]
async fn a_policy_host_known_to_hang_holds_no_mail_again() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.host.fails("example.com", FetchError::Timeout).delay("example.com", Duration::from_secs(60));
    let started = tokio::time::Instant::now();
    assert_eq!(world.ask("example.com").await, "NOTFOUND ", "the first time, mail waits");
    assert_eq!(started.elapsed().as_secs(), 10, "for half of policy.timeout");
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(started.elapsed().as_secs(), 10, "and no second time");
    pass(55).await;
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    pass(60).await;
    let started = tokio::time::Instant::now();
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(started.elapsed().as_secs(), 5, "while it is tried again");
}

#[tokio::test(start_paused = true)]
async fn nothing_expired_is_served_whichever_way_the_clock_jumps() {
    let year = 365 * 86_400;
    // Asleep for longer than max_age, everything dead: expired.
    let world = learnt().await;
    world.dns.fails(RECORD, TXT, Cause::Timeout);
    world.clock.jump(8 * 86_400);
    assert!(!world.ask("example.com").await.starts_with("OK secure"), "after a long sleep");
    // Set back by a year: the week still ends after a week.
    let world = learnt().await;
    world.dns.fails(RECORD, TXT, Cause::Timeout);
    world.clock.jump(-year);
    pass(6 * DAY).await;
    assert_eq!(world.ask("example.com").await, SECURE);
    pass(2 * DAY).await;
    assert!(!world.ask("example.com").await.starts_with("OK secure"), "after the clock was set back");
}

#[tokio::test(start_paused = true)]
async fn a_clock_wrong_for_a_minute_loses_nothing() {
    let year = 365 * 86_400;
    for jump in [year, -year] {
        let world = learnt().await;
        let maintenance = tokio::spawn(world.engine.clone().maintain());
        world.dns.fails(RECORD, TXT, Cause::Timeout);
        world.host.fails("example.com", FetchError::Timeout);
        world.clock.jump(jump);
        _ = world.ask("example.com").await;
        pass(60).await;
        world.clock.jump(-jump);
        pass(600).await;
        assert_eq!(world.ask("example.com").await, SECURE, "jump by {jump}");
        maintenance.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_restored_policy_is_served_with_dns_and_policy_host_cut_off() {
    let world = learnt().await;
    let rows = world.engine.cache().rows();
    world.dns.fails(RECORD, TXT, Cause::Timeout);
    world.host.fails("example.com", FetchError::Timeout);
    // Started three days later, in another process.
    world.clock.jump(3 * 86_400);
    let cache = PolicyCache::new(Bounds { entries: 10, bytes: 1 << 20 }, Arc::new(Forgetful));
    for (hop, row) in rows {
        let sts = row.sts.map(|state| (*state.entry).clone());
        cache.restore(&hop, row.dane.map(|state| state.entry), sts, world.clock.stamp());
    }
    let engine = Engine::new(
        Arc::new(world.dns.clone()),
        Arc::new(world.host.clone()),
        world.clock.clone(),
        EngineSettings::default(),
        Default::default(),
        Arc::new(cache),
    );
    let label = async || engine.answer(&hop("example.com"), &Default::default()).await.outcome.label();
    assert_eq!(label().await, "secure");
    pass(5 * DAY).await;
    assert_eq!(label().await, "notfound", "a week after the fetch");
}
