//! The flow: both branches side by side, when an answer leaves, what is kept, what is renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use hickory_proto::rr::RecordType::{self, A, AAAA, MX, TXT};
use postseal::cache::{Bounds, DaneEntry, DaneVerdict, Persist, PersistError, PolicyCache, StsEntry};
use postseal::config::{MapOptions, Overrides};
use postseal::dns::{Cause, Found, Security};
use postseal::names::{Domain, NextHop};
use postseal::policy::EngineSettings;
use postseal::policy::mta_sts::FetchError;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::script::{World, hop, pass};

use Security::{Insecure, Secure};

const SECURE: &str = "OK secure match=mx.example.com servername=hostname";
const TLSA: &str = "_25._tcp.mx.example.com";

/// A policy that allows either host.
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmx: mx2.example.com\nmax_age: 86400\n";
const BOTH: &str = "OK secure match=mx.example.com:mx2.example.com servername=hostname";

fn dane_only(world: &World) {
    world.dns.mx("example.com", Secure, &["mx.example.com"]).address("mx.example.com", Secure);
    world.dns.tlsa(TLSA, Secure, true);
}

#[tokio::test(start_paused = true)]
async fn every_row_of_the_combination() {
    type Script = fn(&World);
    let dane: &[(&str, Script)] = &[
        ("dane-only", dane_only),
        ("dane", |w| {
            dane_only(w);
            w.dns
                .mx("example.com", Secure, &["mx.example.com", "mx2.example.com"])
                .address("mx2.example.com", Insecure);
        }),
        ("weak", |w| {
            dane_only(w);
            w.dns.mx("example.com", Insecure, &["mx.example.com"]);
        }),
        ("unusable", |w| {
            dane_only(w);
            w.dns.tlsa(TLSA, Secure, false);
        }),
        ("partial", |w| {
            dane_only(w);
            w.dns
                .mx("example.com", Secure, &["mx.example.com", "mx2.example.com"])
                .address("mx2.example.com", Insecure);
            w.dns.bogus(TLSA, RecordType::TLSA);
        }),
        ("temporary", |w| {
            dane_only(w);
            w.dns.bogus(TLSA, RecordType::TLSA);
        }),
        ("none", |w| w.plain_domain("example.com")),
    ];
    let sts: &[(&str, Script)] = &[
        ("secure", |w| {
            w.dns.sts("example.com", 600, "1");
            w.host.serves("example.com", POLICY);
        }),
        ("none", |_| ()),
        ("temporary", |w| {
            w.dns.sts("example.com", 600, "1");
            w.host.fails("example.com", FetchError::Status(500));
        }),
    ];
    let temp = "TEMP example.com: mx.example.com: TLSA lookup: denial not proven";
    let expected = [
        ["OK dane-only"; 3],
        ["OK dane-only", "OK dane", "OK dane"],
        [SECURE, "OK dane", "OK dane"],
        [SECURE, "OK dane", "OK dane"],
        ["OK secure match=mx2.example.com servername=hostname", "OK dane", "OK dane"],
        [temp; 3],
        [SECURE, "NOTFOUND ", "NOTFOUND "],
    ]
    .map(|row: [&str; 3]| row.map(|answer| if answer == SECURE { BOTH } else { answer }));
    for ((row, dane), expected) in dane.iter().zip(expected) {
        for ((column, sts), expected) in sts.iter().zip(expected) {
            let world = World::new();
            dane(&world);
            sts(&world);
            assert_eq!(world.ask("example.com").await, expected, "{row} and {column}");
            assert_eq!(world.ask("example.com").await, expected, "{row} and {column}, from the cache");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_policy_host_or_txt_server_never_delays_a_dane_domain() {
    for slow_record in [true, false] {
        let world = World::new();
        dane_only(&world);
        world.dns.sts("example.com", 600, "1");
        world.host.policy("example.com", "enforce", 86_400, "mx.example.com");
        if slow_record {
            world.dns.delay("_mta-sts.example.com", TXT, Duration::from_secs(60));
        }
        world.host.delay("example.com", Duration::from_secs(60));
        let started = Instant::now();
        assert_eq!(world.ask("example.com").await, "OK dane-only");
        assert!(started.elapsed() < Duration::from_millis(10));
        assert_eq!(world.dns.asked("_mta-sts.example.com", TXT), 1, "both branches run at once");
    }
}

#[tokio::test(start_paused = true)]
async fn past_the_timeout_mail_waits_while_the_lookup_goes_on_and_fills_the_cache() {
    let world = World::new();
    dane_only(&world);
    world.dns.delay("example.com", MX, Duration::from_secs(23));
    let started = Instant::now();
    assert_eq!(world.ask("example.com").await, "TEMP example.com: MX and TLSA lookup: no answer in time");
    assert_eq!(started.elapsed().as_secs(), 20);
    assert!(world.ask("example.com").await.starts_with("TEMP "));
    assert_eq!(started.elapsed().as_secs(), 20, "the next query does not wait again");
    pass(4).await;
    assert_eq!(world.ask("example.com").await, "OK dane-only");
    assert_eq!(started.elapsed().as_secs(), 24);
    assert_eq!(world.dns.asked("example.com", MX), 1);
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_remembered_for_ten_seconds() {
    let world = World::new();
    world.dns.fails("example.com", MX, Cause::ServFail);
    assert!(world.ask("example.com").await.starts_with("TEMP "));
    dane_only(&world);
    pass(9).await;
    assert!(world.ask("example.com").await.starts_with("TEMP "));
    assert_eq!(world.dns.asked("example.com", MX), 1);
    pass(2).await;
    assert_eq!(world.ask("example.com").await, "OK dane-only");
}

#[tokio::test(start_paused = true)]
async fn equal_concurrent_queries_share_one_lookup() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 600);
    world.dns.delay("example.com", MX, Duration::from_secs(1));
    world.host.delay("example.com", Duration::from_secs(2));
    let replies = join_all((0..100).map(|_| world.ask("example.com"))).await;
    assert!(replies.iter().all(|reply| reply == SECURE), "{replies:?}");
    assert_eq!(world.dns.asked("example.com", MX), 1);
    assert_eq!(world.dns.asked("_mta-sts.example.com", TXT), 1);
    assert_eq!(world.host.fetched("example.com"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_hit_asks_nobody() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 600);
    assert_eq!(world.ask("example.com").await, SECURE);
    let asked = world.dns.asked_at_all();
    let decision = world.decide("example.com", &MapOptions::default()).await;
    assert!(decision.cached);
    assert_eq!(world.dns.asked_at_all(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_refreshed_dane_branch_overrides_a_fresh_mta_sts_policy_at_once() {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.dns.ttl("example.com", MX, 300);
    assert_eq!(world.ask("example.com").await, SECURE);
    dane_only(&world);
    pass(299).await;
    assert_eq!(world.ask("example.com").await, SECURE);
    pass(2).await;
    assert_eq!(world.ask("example.com").await, "OK dane-only");
    assert_eq!(world.dns.asked("_mta-sts.example.com", TXT), 1);
}

#[tokio::test(start_paused = true)]
async fn overrides_come_first_and_ask_nobody() {
    let table = [("example.com", "encrypt"), (".example.net", "skip")];
    let table = table.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
    let overrides = Overrides::parse(&table).expect("overrides");
    let world = World::with(EngineSettings::default(), overrides, Arc::new(postseal::cache::Forgetful));
    assert_eq!(world.ask("example.com").await, "OK encrypt");
    assert_eq!(world.ask("a.example.net").await, "NOTFOUND ");
    assert_eq!(world.dns.asked_at_all(), 0);
    world.engine.set_overrides(Overrides::default());
    dane_only(&world);
    assert_eq!(world.ask("example.com").await, "OK dane-only");
}

#[tokio::test(start_paused = true)]
async fn a_map_can_leave_out_either_branch() {
    let world = World::new();
    dane_only(&world);
    world.dns.sts("example.com", 600, "1");
    world.host.policy("example.com", "enforce", 86_400, "mx.example.com");
    let map = |dane, mta_sts| MapOptions { dane, mta_sts, ..MapOptions::default() };
    assert_eq!(world.reply("example.com", &map(false, true)).await, SECURE);
    assert_eq!(world.reply("example.com", &map(true, false)).await, "OK dane-only");
    assert_eq!(world.reply("example.com", &map(false, false)).await, "NOTFOUND ");
}

#[tokio::test(start_paused = true)]
async fn a_used_entry_is_renewed_before_it_ends_and_an_unused_one_is_not() {
    let world = World::new();
    dane_only(&world);
    world.dns.mx("other.example", Secure, &["mx.example.com"]);
    for rtype in [A, AAAA] {
        world.dns.ttl("mx.example.com", rtype, 600);
    }
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    for key in ["example.com", "other.example", "example.com"] {
        assert_eq!(world.ask(key).await, "OK dane-only");
    }
    pass(610).await;
    assert_eq!(world.dns.asked("example.com", MX), 2, "renewed");
    assert_eq!(world.dns.asked("other.example", MX), 1, "asked for once only");
    let decision = world.decide("example.com", &MapOptions::default()).await;
    assert!(decision.cached, "no query waits");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_from_the_resolvers_cache_makes_nothing_live_longer() {
    let world = World::new();
    dane_only(&world);
    world.dns.ttl("example.com", MX, 600).sts("example.com", 600, "1");
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    for _ in 0..2 {
        assert_eq!(world.ask("example.com").await, "OK dane-only");
    }
    pass(585).await;
    world.dns.ttl("example.com", MX, 2); // what a cache would say by now
    pass(14).await;
    assert!(world.dns.asked("example.com", MX) > 1, "tried ahead of the end");
    assert_eq!(world.decide("example.com", &MapOptions::default()).await.dane.expect("a branch").ttl, 1);
    world.plain_domain("example.com");
    pass(6).await;
    let decision = world.decide("example.com", &MapOptions::default()).await;
    assert!(decision.cached, "renewed when it ended");
    assert_eq!(decision.outcome.label(), "notfound");
    maintenance.abort();
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_what_holds_and_is_tried_again() {
    let world = World::new();
    dane_only(&world);
    world.dns.ttl("example.com", MX, 1_000);
    let maintenance = tokio::spawn(world.engine.clone().maintain());
    for _ in 0..2 {
        assert_eq!(world.ask("example.com").await, "OK dane-only");
    }
    world.dns.fails("example.com", MX, Cause::Timeout);
    pass(998).await;
    assert!(world.dns.asked("example.com", MX) > 1);
    assert_eq!(world.ask("example.com").await, "OK dane-only");
    dane_only(&world);
    pass(60).await;
    assert_eq!(world.ask("example.com").await, "OK dane-only");
    maintenance.abort();
}

/// A disk that can be held up and can fail.
struct Disk {
    gate: Semaphore,
    works: AtomicBool,
    saved: AtomicUsize,
}

impl Persist for Disk {
    fn save_sts<'a>(&'a self, _: &'a Domain, _: &'a StsEntry) -> BoxFuture<'a, Result<(), PersistError>> {
        Box::pin(async {
            self.gate.acquire().await.expect("an open gate").forget();
            self.saved.fetch_add(1, Ordering::SeqCst);
            if self.works.load(Ordering::SeqCst) { Ok(()) } else { Err(PersistError) }
        })
    }
    fn save_dane(&self, _: &NextHop, _: &DaneEntry) {}
    fn remove(&self, _: &NextHop) {}
    fn flush(&self) -> BoxFuture<'_, Result<(), PersistError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn disk(permits: usize, works: bool) -> Arc<Disk> {
    Arc::new(Disk { gate: Semaphore::new(permits), works: AtomicBool::new(works), saved: AtomicUsize::new(0) })
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_durable_before_it_is_first_handed_out() {
    let disk = disk(0, true);
    let world = World::with(EngineSettings::default(), Overrides::default(), disk.clone());
    world.sts_domain("example.com", "enforce", 86_400, 600);
    let asking = world.ask("example.com");
    tokio::pin!(asking);
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut asking).await.is_err(), "not before the disk has it");
    disk.gate.add_permits(1);
    assert_eq!(asking.await, SECURE);
    assert_eq!(disk.saved.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_disk_does_not_keep_policies_from_being_served() {
    let world = World::with(EngineSettings::default(), Overrides::default(), disk(100, false));
    world.sts_domain("example.com", "enforce", 86_400, 600);
    assert_eq!(world.ask("example.com").await, SECURE);
    assert_eq!(world.ask("example.com").await, SECURE);
}

#[tokio::test(start_paused = true)]
async fn a_domain_without_policy_costs_the_disk_nothing() {
    let disk = disk(0, true);
    let world = World::with(EngineSettings::default(), Overrides::default(), disk.clone());
    world.plain_domain("example.com");
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(disk.saved.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_domains_without_policy_pushes_out_none_with_one() {
    let world = World::new(); // 1,000 entries
    for n in 0..50 {
        let domain = format!("sts{n}.example");
        world.sts_domain(&domain, "enforce", 86_400, 600);
        assert!(world.ask(&domain).await.starts_with("OK secure"));
    }
    for n in 0..5_000 {
        assert_eq!(world.ask(&format!("flood{n}.example")).await, "NOTFOUND ");
        assert!(world.engine.cache().len() <= 1_000);
    }
    let asked = world.dns.asked_at_all();
    for n in 0..50 {
        assert!(world.ask(&format!("sts{n}.example")).await.starts_with("OK secure"), "{n}");
    }
    assert_eq!(world.dns.asked_at_all(), asked, "all from the cache");
}

#[tokio::test(start_paused = true)]
async fn octets_are_bounded_and_what_is_used_stays() {
    let clock = postseal::clock::Clock::manual(0);
    let cache = PolicyCache::new(Bounds { entries: 100_000, bytes: 100_000 }, Arc::new(postseal::cache::Forgetful));
    let entry = |verdict| DaneEntry::new(verdict, "x".repeat(100), 0, 3_600);
    let used = hop("used.example");
    cache.put_dane(&used, entry(DaneVerdict::DaneOnly), clock.stamp());
    for n in 0..2_000 {
        assert!(cache.get(&used, clock.stamp()).is_some(), "after {n}");
        cache.put_dane(&hop(&format!("d{n}.example")), entry(DaneVerdict::DaneOnly), clock.stamp());
        assert!(cache.bytes() <= 100_000);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(cache.remove(&used));
    cache.clear();
    assert_eq!((cache.len(), cache.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn no_fault_of_one_name_ever_turns_a_dane_domain_into_notfound() {
    let names = [
        ("example.com", MX),
        ("mx.example.com", A),
        ("mx.example.com", AAAA),
        (TLSA, RecordType::TLSA),
        ("_mta-sts.example.com", TXT),
    ];
    let causes = [Cause::Timeout, Cause::ServFail, Cause::Lame, Cause::NoServers, Cause::Malformed, Cause::Network];
    for (name, rtype) in names {
        for cause in &causes {
            let world = World::new();
            dane_only(&world);
            world.dns.fails(name, rtype, cause.clone());
            let reply = world.ask("example.com").await;
            assert!(reply.starts_with("TEMP ") || reply == "OK dane-only", "{name} {rtype} {cause}: {reply}");
        }
    }
    let world = World::new();
    dane_only(&world);
    world.dns.nothing("mx.example.com", A, Found::NoData, Secure);
    world.dns.bogus("mx.example.com", AAAA);
    assert!(world.ask("example.com").await.starts_with("TEMP "));
}
