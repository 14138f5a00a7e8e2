//! `policy.on-failure`: what takes the place of TEMP, and where nothing ever does (design §11).

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{MX, TLSA, TXT};
use postseal::cache::{Bounds, DaneEntry, DaneVerdict, Forgetful, PolicyCache, Worth};
use postseal::config::{MapOptions, OnFailure, Overrides};
use postseal::dns::Cause;
use postseal::dns::Security::{Insecure, Secure};
use postseal::policy::EngineSettings;

use super::script::{START, World, hop, pass};

const DAY: u64 = 86_400;

fn world(on_failure: OnFailure) -> World {
    let settings = EngineSettings { on_failure, prefetch: false, ..EngineSettings::default() };
    World::with(settings, Overrides::default(), Arc::new(Forgetful))
}

fn dane(world: &World) {
    world.dns.mx("example.com", Secure, &["mx.example.com"]).address("mx.example.com", Secure);
    world.dns.tlsa("_25._tcp.mx.example.com", Secure, true);
}

/// DNS says nothing of the domain any more.
fn breaks(world: &World) {
    world.dns.fails("example.com", MX, Cause::ServFail).fails("_mta-sts.example.com", TXT, Cause::ServFail);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_takes_the_place_of_temp_where_nothing_was_ever_known() {
    for (on_failure, expected) in [
        (OnFailure::Temp, "TEMP example.com: MX lookup: "),
        (OnFailure::May, "OK may"),
        (OnFailure::Encrypt, "OK encrypt"),
    ] {
        let world = world(on_failure);
        breaks(&world);
        for tlsrpt in [false, true] {
            let map = MapOptions { tlsrpt, ..MapOptions::default() };
            for _ in 0..2 {
                let decision = world.decide("example.com", &map).await;
                let label = if on_failure == OnFailure::Temp { "temp" } else { "fallback" };
                assert_eq!(decision.outcome.label(), label);
                let reply = world.reply("example.com", &map).await;
                let fits = if on_failure == OnFailure::Temp { reply.starts_with(expected) } else { reply == expected };
                assert!(fits, "{reply}");
            }
        }
        dane(&world);
        pass(11).await;
        assert_eq!(world.ask("example.com").await, "OK dane-only", "as soon as anything is known");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_ready_in_time_counts_as_well() {
    let world = world(OnFailure::May);
    dane(&world);
    world.dns.delay("example.com", MX, Duration::from_secs(60));
    assert_eq!(world.ask("example.com").await, "OK may");
}

#[tokio::test(start_paused = true)]
async fn nothing_takes_its_place_for_a_day_after_dane_was_seen() {
    let world = world(OnFailure::May);
    dane(&world);
    assert_eq!(world.ask("example.com").await, "OK dane-only");
    breaks(&world);
    for _ in 0..23 {
        pass(3_600).await;
        assert!(world.ask("example.com").await.starts_with("TEMP "));
    }
    pass(3_700).await;
    assert_eq!(world.ask("example.com").await, "OK may");
}

#[tokio::test(start_paused = true)]
async fn nothing_takes_its_place_while_max_age_has_not_passed_nor_within_a_day() {
    for (max_age, until) in [(7 * DAY, 7 * DAY), (60, DAY), (0, DAY)] {
        let world = world(OnFailure::May);
        world.sts_domain("example.com", "enforce", u32::try_from(max_age).expect("short"), 600);
        assert_eq!(world.ask("example.com").await, "OK secure match=mx.example.com servername=hostname");
        breaks(&world);
        pass(3_600).await;
        assert!(world.ask("example.com").await.starts_with("TEMP "), "{max_age}");
        pass(until - 3_700).await;
        assert!(world.ask("example.com").await.starts_with("TEMP "), "{max_age}");
        pass(200).await;
        assert_eq!(world.ask("example.com").await, "OK may", "{max_age}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_withdrawn_counts_as_seen_all_the_same() {
    let world = world(OnFailure::May);
    world.sts_domain("example.com", "enforce", 604_800, 600);
    assert!(world.ask("example.com").await.starts_with("OK secure "));
    world.dns.sts("example.com", 600, "2");
    world.host.policy("example.com", "none", 600, "mx.example.com");
    pass(3_700).await;
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    breaks(&world);
    pass(3_700).await;
    assert!(world.ask("example.com").await.starts_with("TEMP "));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_found_beside_the_failure_counts() {
    let world = world(OnFailure::May);
    world.sts_domain("example.com", "enforce", 86_400, 600);
    world.dns.fails("example.com", MX, Cause::ServFail);
    world.dns.delay("_mta-sts.example.com", TXT, Duration::from_secs(3));
    assert!(world.ask("example.com").await.starts_with("TEMP example.com: MX lookup: "));
}

#[tokio::test(start_paused = true)]
async fn smart_hosts_and_their_name_have_seen_the_same_policies() {
    let world = world(OnFailure::May);
    world.sts_domain("example.com", "enforce", 86_400, 600);
    world.dns.address("example.com", Insecure);
    assert!(world.ask("[example.com]:587").await.starts_with("OK secure "));
    breaks(&world);
    pass(3_700).await;
    for key in ["example.com", "example.com:2525"] {
        assert!(world.ask(key).await.starts_with("TEMP "), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_answer_is_never_replaced_where_a_policy_is_in_force() {
    let world = world(OnFailure::May);
    world.dns.mx("example.com", Secure, &["mx.example.com", "mx2.example.com"]);
    world.dns.address("mx.example.com", Secure).bogus("_25._tcp.mx.example.com", TLSA);
    world.dns.address("mx2.example.com", Insecure).sts("example.com", 600, "1");
    world.host.policy("example.com", "enforce", 86_400, "mx.example.com");
    assert!(world.ask("example.com").await.starts_with("TEMP "));
}

#[tokio::test(start_paused = true)]
async fn unusable_tlsa_records_beside_a_host_that_cannot_be_looked_up_count_as_seen() {
    let world = world(OnFailure::May);
    world.dns.mx("example.com", Secure, &["mx.example.com", "mx2.example.com"]);
    world.dns.address("mx.example.com", Secure).bogus("_25._tcp.mx.example.com", TLSA);
    world.dns.address("mx2.example.com", Secure).tlsa("_25._tcp.mx2.example.com", Secure, false);
    assert_eq!(world.ask("example.com").await, "OK dane");
    breaks(&world);
    pass(3_700).await;
    assert!(world.ask("example.com").await.starts_with("TEMP "));
}

/// What is stored tells it after a restart, though the branch ended and its successor found nothing out.
#[tokio::test(start_paused = true)]
async fn what_was_seen_is_known_after_a_restart() {
    let entry = |verdict, age: i64, ttl| DaneEntry::new(verdict, "as it was", START - age, ttl);
    let rows = [
        ("TLSA records an hour ago", entry(DaneVerdict::DaneOnly, 3_600, 60), true),
        ("TLSA records two days ago", entry(DaneVerdict::Dane, 172_800, 60), false),
        ("never any", entry(DaneVerdict::None, 3_600, 60), false),
        ("others had none", entry(DaneVerdict::Partial, 3_600, 60), false),
        ("none now, some before", DaneEntry { seen_until: START + 100, ..entry(DaneVerdict::None, 3_600, 60) }, true),
    ];
    for (name, entry, seen) in rows {
        let world = world(OnFailure::Encrypt);
        breaks(&world);
        world.engine.cache().restore(&hop("example.com"), Some(entry), None, world.clock.stamp());
        let reply = world.ask("example.com").await;
        assert_eq!(reply.starts_with("TEMP "), seen, "{name}: {reply}");
        assert_eq!(reply == "OK encrypt", !seen, "{name}: {reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_names_does_not_make_a_seen_policy_forgotten() {
    let world = world(OnFailure::May);
    let bounds = Bounds { entries: 100, bytes: 1 << 24 };
    let cache = PolicyCache::new(bounds, Arc::new(Forgetful));
    let now = world.clock.stamp();
    cache.put_dane(&hop("seen.example"), DaneEntry::new(DaneVerdict::DaneOnly, "all", now.wall, 60), now);
    pass(3_600).await;
    let now = world.clock.stamp();
    cache.put_dane(&hop("seen.example"), DaneEntry::new(DaneVerdict::Temporary, "no", now.wall, 10), now);
    for n in 0..1_000 {
        let entry = DaneEntry::new(DaneVerdict::None, "none", now.wall, 3_600);
        cache.put_dane(&hop(&format!("d{n}.example")), entry, now);
    }
    let known = cache.peek(&hop("seen.example")).expect("kept");
    assert_eq!(known.seen_until, START + i64::try_from(DAY).expect("small"));
    assert_eq!(Worth::of(known.dane.as_ref(), None, known.seen_until, now), Worth::Seen);
}
