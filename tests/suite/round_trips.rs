//! The budget of round trips: what a policy may cost in exchanges that wait for each other, and in queries.

use std::time::Duration;

use crate::support::lab::{Lab, ROUND_TRIP};
use crate::support::mail::{STS, USABLE};
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::zone::{Denial, Zone};

fn mail(text: &str) -> String {
    format!("@ MX 10 mx\nmx A 192.0.2.1\n{text}").replace("TLSA", USABLE)
}

fn zones() -> Vec<Zone> {
    let signed = |name: &str, ttl: u32| Zone::new(name).signed(13).records(&mail(&format!("_25._tcp.mx {ttl} TLSA")));
    vec![
        Zone::new(".").signed(8).servers(2),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("org").signed(8).denial(Denial::nsec3()),
        signed("first.com", 3600),
        signed("second.com", 3600),
        signed("short.com", 120),
        signed("third.org", 3600).denial(Denial::nsec3()),
        signed("both.com", 3600).records(STS),
        Zone::new("bare.com").records(&mail("")),
    ]
}

fn policy_lab() -> PolicyLab {
    let lab = Lab::in_memory(zones());
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("both.com", Host::Policy(ROUND_TRIP, enforce(&["mx.both.com"])));
    PolicyLab::new(lab, fetch)
}

/// Exchanges that waited for each other.
fn exchanges(took: Duration) -> f64 {
    took.as_secs_f64() / ROUND_TRIP.as_secs_f64()
}

fn assert_within(lab: &PolicyLab, what: &str, measured: (String, Duration, usize), sequential: f64, queries: usize) {
    let (reply, took, sent) = measured;
    let took = exchanges(took);
    let timeline = lab.lab.memory.as_ref().unwrap().timeline();
    assert_eq!(reply, "OK dane-only", "{what}\n{timeline}");
    assert!(took <= sequential, "{what}: {took} sequential exchanges, at most {sequential}\n{timeline}");
    assert!(sent <= queries, "{what}: {sent} queries, at most {queries}\n{timeline}");
}

#[tokio::test(start_paused = true)]
async fn with_nothing_known_a_dane_domain_takes_four_exchanges_and_fourteen_queries() {
    for domain in ["first.com", "third.org"] {
        let lab = policy_lab();
        let mut measured = lab.measure(domain).await;
        tokio::time::sleep(Duration::from_secs(5)).await; // what was begun but not waited for counts, too
        measured.2 += lab.lab.world.take_asked().len();
        assert_within(&lab, domain, measured, 4.0, 14);
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_tld_known_a_dane_domain_takes_three_exchanges_and_eight_queries() {
    let lab = policy_lab();
    lab.ask("first.com").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut measured = lab.measure("second.com").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    measured.2 += lab.lab.world.take_asked().len();
    assert_within(&lab, "second.com", measured, 3.0, 8);
}

#[tokio::test(start_paused = true)]
async fn with_all_cached_but_an_expired_tlsa_a_dane_domain_takes_one_exchange_and_one_query() {
    let lab = policy_lab();
    lab.ask("short.com").await;
    tokio::time::sleep(Duration::from_secs(121)).await;
    let measured = lab.measure("short.com").await;
    assert_within(&lab, "short.com", measured, 1.0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cached_answer_takes_no_exchange() {
    let lab = policy_lab();
    lab.ask("first.com").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let measured = lab.measure("first.com").await;
    assert_within(&lab, "first.com", measured, 0.0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_domain_without_policy_takes_no_more_exchanges_than_one_with() {
    let lab = policy_lab();
    let (reply, took, queries) = lab.measure("bare.com").await;
    let timeline = lab.lab.memory.as_ref().unwrap().timeline();
    assert_eq!(reply, "NOTFOUND ", "{timeline}");
    assert!(exchanges(took) <= 4.0 && queries <= 14, "{} exchanges, {queries} queries\n{timeline}", exchanges(took));
}

#[tokio::test(start_paused = true)]
async fn a_dane_domain_whose_policy_host_is_silent_is_answered_as_fast_as_one_without_mta_sts() {
    let without = policy_lab().measure("first.com").await;
    let lab = policy_lab();
    let fetch = ScriptedFetch::new(&lab.lab);
    fetch.set("both.com", Host::Silent);
    let with = PolicyLab::new(lab.lab, fetch).measure("both.com").await;
    assert_eq!((with.0, with.1), (without.0, without.1));
}
