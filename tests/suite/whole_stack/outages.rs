//! The process while something that it needs is gone, and once it is back (design §4, §5).

use std::time::Duration;

use postseal::cache::shared::SharedCopy;
use postseal::clock::{Clock, Instant};
use postseal::telemetry::metrics::QUERIES;
use tokio::net::TcpListener;

use crate::shared_store::fake::Fake;
use crate::shared_store::setting::eventually;
use crate::support::daemon::Daemon;
use crate::support::fault::{Fault, On};
use crate::support::https::{Says, Script};
use crate::support::mail::{USABLE, break_hosts, domain, foundation, host};
use crate::support::policy_lab::enforce;
use crate::support::zone::{Denial, Zone};

const SECURE: &str = "OK secure match=mx.plain.net servername=hostname";
const RECORDS: &str = "_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts A 127.0.0.1";
/// Both branches are right within 5 s of the network's return; and what a busy machine adds.
const SOON: Duration = Duration::from_secs(10);

fn zones() -> Vec<Zone> {
    let mut zones = foundation();
    zones.push(domain("sts.com", false, &[host::INSECURE]).records(RECORDS));
    zones
}

fn good() -> Script {
    Script::policy(&enforce(&["mx.plain.net"]))
}

fn with_http(base: String) -> String {
    base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_asked_for_while_the_root_is_gone_is_right_soon_after_its_return_and_never_without_policy() {
    let daemon = Daemon::start(zones(), "[policy]\ntimeout = \"2s\"").await;
    daemon.hosts.set("sts.com", good());
    daemon.world.inject(On::everything(), Fault::Silence);
    let begun = Instant::now();
    // Long enough for the record's back-off to grow.
    while begun.elapsed() < Duration::from_secs(40) {
        let reply = daemon.ask("QUERY sts.com").await;
        assert!(reply.starts_with("TEMP "), "{reply}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    daemon.world.heal();
    let back = Instant::now();
    loop {
        let reply = daemon.ask("QUERY sts.com").await;
        if reply == SECURE {
            break;
        }
        assert!(reply.starts_with("TEMP "), "never as if nothing were announced: {reply}");
        assert!(back.elapsed() < SOON, "{reply}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(back.elapsed() < SOON, "{:?}", back.elapsed());
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weak_entry_of_the_shared_store_holds_only_until_the_policy_host_is_back() {
    let fake = Fake::start().await;
    let text = "version: STSv1\nmode: none\nmax_age: 604800\n".to_owned();
    let fetched_at = Clock::system().wall() - 60;
    let entry = SharedCopy { domain: "sts.com".into(), id: "1".into(), fetched_at, text: text.as_str().into() };
    fake.put("sts.com", entry.encode().unwrap());
    let daemon = Daemon::start(zones(), &format!("[store]\nshared = \"{}\"\n", fake.url)).await;
    daemon.hosts.set("sts.com", Script::says(Says::Closes));
    let status = async || String::from_utf8(daemon.run(&["status"]).await.stdout).unwrap();
    eventually("link", async || status().await.contains(&format!("{}, up", fake.url))).await;
    assert_eq!(daemon.ask("QUERY sts.com").await, "NOTFOUND ");
    assert!(!daemon.log.of("INFO", "policy of another replica taken").is_empty(), "{:?}", daemon.log.lines());
    daemon.hosts.set("sts.com", good());
    // The back-off after a failure of the network: 30 s, the first time.
    let begun = Instant::now();
    while daemon.ask("QUERY sts.com").await != SECURE {
        assert!(begun.elapsed() < Duration::from_secs(60), "not asked again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_ipv6_address_beside_a_good_ipv4_one_costs_no_policy() {
    let mut zones = foundation();
    let records = format!("{RECORDS}\nmta-sts AAAA ::1");
    zones.push(domain("sts.com", false, &[host::INSECURE]).records(&records));
    let daemon = Daemon::start(zones, "").await;
    daemon.hosts.set("sts.com", good());
    // Never accepted from: the kernel makes the connection, and nobody says anything. Without IPv6 here it is refused.
    let silent = TcpListener::bind(("::1", daemon.hosts.address.port())).await;
    let begun = Instant::now();
    assert_eq!(daemon.ask("QUERY sts.com").await, SECURE, "silent: {}", silent.is_ok());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_in_place_of_temp_is_counted_and_explained() {
    for (level, reply) in [("may", "OK may"), ("encrypt", "OK encrypt")] {
        let mut zones = foundation();
        zones.push(domain("broken.com", true, &[host::TLSA_BOGUS]));
        zones.push(domain("all.com", true, &[host::USABLE]));
        let configuration = format!("[policy]\non-failure = \"{level}\"");
        let daemon = Daemon::start_with(zones, &configuration, with_http).await;
        break_hosts(&daemon.world);
        for _ in 0..2 {
            assert_eq!(daemon.ask("QUERY broken.com").await, reply);
        }
        assert_eq!(daemon.ask("QUERY all.com").await, "OK dane-only");
        let samples = daemon.samples().await;
        assert_eq!(samples.sum(QUERIES, Some(("answer", "fallback"))), 2.0);
        assert_eq!(samples.sum(QUERIES, Some(("answer", "temp"))), 0.0);
        let explained = daemon.run(&["explain", "broken.com"]).await;
        let text = String::from_utf8(explained.stdout).unwrap();
        for part in [reply, "policy.on-failure says what is answered in place of TEMP"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let queried = daemon.run(&["query", "broken.com"]).await;
        assert!(String::from_utf8(queried.stdout).unwrap().contains(level));
        assert!(daemon.stop().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_tells_the_rows_where_dane_and_mta_sts_meet() {
    let zone = |name: &str, hosts: &[&str]| domain(name, true, hosts).records(RECORDS);
    let mut zones = foundation();
    // Of the unsigned zone the delegation is proven to be unsigned, and its servers say nothing.
    zones.push(Zone::new("silent.net").records("mx A 192.0.2.9"));
    zones.push(zone("mixed.com", &[host::USABLE, host::NONE]));
    zones.push(zone("partial.com", &[host::NONE, host::TLSA_FAILS]));
    zones.push(zone("unusable.com", &[host::UNUSABLE, host::TLSA_FAILS]));
    zones.push(zone("held.com", &[host::NONE, host::TLSA_FAILS]));
    zones.push(zone("backup.com", &[host::INSECURE, "mx.silent.net."]));
    zones.push(
        Zone::new("relay.com").signed(13).denial(Denial::nsec3()).records(&format!(
            "{RECORDS}\n@ A 192.0.2.7\n_25._tcp TXT none\nother A 192.0.2.8\n_25._tcp.other {USABLE}"
        )),
    );
    let daemon = Daemon::start(zones, "").await;
    break_hosts(&daemon.world);
    daemon.world.inject(On::zone("silent.net"), Fault::Silence);
    let all = ["*.hosts.net", "mx.plain.net", "mx.silent.net", "relay.com"];
    for name in ["mixed.com", "partial.com", "unusable.com", "backup.com", "relay.com"] {
        daemon.hosts.set(name, Script::policy(&enforce(&all)));
    }
    daemon.hosts.set("held.com", Script::policy(&enforce(&["tlsafails.hosts.net"])));
    let rows: &[(&str, &str, &[&str])] = &[
        ("mixed.com", "OK dane-only", &["nothing may go out unauthenticated"]),
        ("partial.com", "OK secure match=none.hosts.net servername=hostname", &["MTA-STS for"]),
        ("unusable.com", "OK secure match=unusable.hosts.net servername=hostname", &["no usable ones"]),
        ("held.com", "TEMP held.com: tlsafails.hosts.net", &["without such a host, Postfix keeps the mail queued"]),
        (
            "backup.com",
            "OK secure match=.hosts.net:mx.plain.net:mx.silent.net:relay.com servername=hostname",
            &["mx.silent.net"],
        ),
        ("[relay.com]:25", "OK secure match=.hosts.net:mx.plain.net:mx.silent.net:relay.com servername=hostname", &[]),
    ];
    for (key, reply, words) in rows {
        let answered = daemon.ask(&format!("QUERY {key}")).await;
        assert!(answered.starts_with(reply), "{key}: {answered}");
        let explained = daemon.run(&["explain", key]).await;
        let text = String::from_utf8(explained.stdout).unwrap();
        let answer = if reply.starts_with("TEMP") { "TEMP" } else { reply };
        for part in words.iter().chain([&answer]) {
            assert!(text.contains(part), "{key}: {part} in\n{text}");
        }
    }
    assert!(daemon.stop().await);
}
