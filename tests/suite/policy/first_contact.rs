//! What mail waits for where nothing is known of a domain's MTA-STS, and what holds after an outage of our own (design §4).

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{MX, TXT};
use postseal::cache::Forgetful;
use postseal::config::{MapOptions, ReportLevel};
use postseal::dns::Cause;
use postseal::policy::EngineSettings;
use tokio::time::Instant;

use super::script::{World, pass};

const SECURE: &str = "OK secure match=mx.example.com servername=hostname";
const RECORD: &str = "_mta-sts.example.com";

fn announced() -> World {
    let world = World::new();
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world
}

#[tokio::test(start_paused = true)]
async fn a_hanging_host_holds_mail_for_half_the_time_and_the_fetch_goes_on() {
    let world = announced();
    world.host.delay("example.com", Duration::from_secs(15));
    let started = Instant::now();
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(started.elapsed().as_secs(), 10);
    pass(6).await;
    assert_eq!(world.ask("example.com").await, SECURE, "learnt behind it");
    assert_eq!(world.host.fetched("example.com"), 1);
}

#[tokio::test(start_paused = true)]
async fn half_of_whatever_time_is_set() {
    let settings = EngineSettings { timeout: Duration::from_secs(2), ..Default::default() };
    let world = World::with(settings, Default::default(), Arc::new(Forgetful));
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    world.host.delay("example.com", Duration::from_secs(50));
    let started = Instant::now();
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(started.elapsed().as_millis() / 10, 100);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_txt_question_holds_mail_no_longer() {
    let world = announced();
    world.dns.delay(RECORD, TXT, Duration::from_secs(60));
    let started = Instant::now();
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(started.elapsed().as_secs(), 10);
    pass(51).await;
    assert_eq!(world.ask("example.com").await, SECURE);
}

#[tokio::test(start_paused = true)]
async fn where_dane_is_slow_a_policy_that_is_there_in_time_counts() {
    let world = announced();
    world.host.delay("example.com", Duration::from_secs(12));
    world.dns.delay("example.com", MX, Duration::from_secs(14));
    assert_eq!(world.ask("example.com").await, SECURE);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_announced_and_hangs_is_reported_where_asked_for() {
    let map = MapOptions { tlsrpt: true, report_level: Some(ReportLevel::May), ..MapOptions::default() };
    let world = announced();
    world.host.delay("example.com", Duration::from_secs(50));
    let reply = world.reply("example.com", &map).await;
    assert!(reply.starts_with("OK may policy_type=sts"), "{reply}");
    assert!(reply.contains("policy_failure=sts-policy-fetch-error"), "{reply}");
    // Nothing is known to be announced: nothing to report.
    let world = announced();
    world.dns.delay(RECORD, TXT, Duration::from_secs(60));
    assert_eq!(world.reply("example.com", &map).await, "NOTFOUND ");
}

#[tokio::test(start_paused = true)]
async fn both_branches_are_right_soon_after_an_outage_of_our_own() {
    let world = announced();
    for (name, rtype) in [("example.com", MX), (RECORD, TXT)] {
        world.dns.fails(name, rtype, Cause::Timeout);
    }
    // Long enough for the record's back-off to grow.
    for _ in 0..40 {
        let reply = world.ask("example.com").await;
        assert!(reply.starts_with("TEMP "), "{reply}");
        pass(5).await;
    }
    world.ask("example.com").await;
    world.sts_domain("example.com", "enforce", 86_400, 86_400);
    let started = Instant::now();
    loop {
        let reply = world.ask("example.com").await;
        if reply == SECURE {
            break;
        }
        assert!(reply.starts_with("TEMP "), "never as if nothing were announced: {reply}");
        pass(1).await;
    }
    assert!(started.elapsed() <= Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_old_failure_of_the_record_never_counts_once_dane_is_known() {
    let world = announced();
    // The record fails first, and alone; what comes later finds it in back-off.
    world.dns.fails(RECORD, TXT, Cause::NoServers).delay("example.com", MX, Duration::from_secs(8));
    let asking = world.ask("example.com");
    let (reply, ()) = tokio::join!(asking, async {
        pass(5).await;
        world.dns.sts("example.com", 600, "1");
    });
    assert_eq!(reply, SECURE);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_goes_on_failing_is_no_policy_and_not_asked_for_without_end() {
    let world = announced();
    world.dns.fails(RECORD, TXT, Cause::ServFail);
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    let asked = world.dns.asked(RECORD, TXT);
    for _ in 0..10 {
        assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    }
    assert_eq!(world.dns.asked(RECORD, TXT), asked, "it failed since: that counts");
}
