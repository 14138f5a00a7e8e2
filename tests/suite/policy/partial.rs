//! MX hosts that cannot be looked up beside others, and what they may cost (design §4, steps 2 and 4, *partial*).

use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, AAAA, MX};
use postseal::config::MapOptions;
use postseal::dns::Cause;
use postseal::dns::Security::{Insecure, Secure};
use postseal::limits::MX_HOSTS;

use super::script::{World, pass};

/// `example.com`, whose policy allows these, with a host of each kind, best preference first.
fn world(policy: &[&str], hosts: &[(&str, Kind)]) -> World {
    let world = World::new();
    let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
    world.dns.mx("example.com", Secure, &names);
    for (name, kind) in hosts {
        match kind {
            Kind::Unsigned => _ = world.dns.address(name, Insecure),
            Kind::Without => _ = world.dns.address(name, Secure),
            Kind::Failing => _ = world.dns.address(name, Secure).bogus(&tlsa(name), RecordType::TLSA),
            Kind::Unusable => _ = world.dns.address(name, Secure).tlsa(&tlsa(name), Secure, false),
            Kind::Usable => _ = world.dns.address(name, Secure).tlsa(&tlsa(name), Secure, true),
            Kind::Absent => {}
        }
    }
    if !policy.is_empty() {
        let lines: String = policy.iter().map(|mx| format!("mx: {mx}\n")).collect();
        world.dns.sts("example.com", 600, "1");
        world.host.serves("example.com", &format!("version: STSv1\nmode: enforce\n{lines}max_age: 86400\n"));
    }
    world
}

#[derive(Clone, Copy)]
enum Kind {
    Unsigned,
    Without,
    Failing,
    Usable,
    Unusable,
    Absent,
}

fn tlsa(host: &str) -> String {
    format!("_25._tcp.{host}")
}

#[tokio::test(start_paused = true)]
async fn hosts_that_are_known_get_the_mail_that_the_policy_allows_them() {
    use Kind::{Absent, Failing, Unsigned, Unusable, Without};
    let (one, two, three) = ("mx1.example.net", "mx2.example.net", "mx3.deep.example.net");
    let temp = "TEMP example.com: mx2.example.net: TLSA lookup: denial not proven; no TLSA records at 1 of 2 hosts";
    type Row<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, Kind)], &'a str);
    let rows: &[Row<'_>] = &[
        ("known and unknown, both allowed", &[one, two], &[(one, Unsigned), (two, Failing)], "mx1.example.net"),
        ("the known one in a signed zone", &[one, two], &[(one, Without), (two, Failing)], "mx1.example.net"),
        ("the known one has unusable records", &[one, two], &[(one, Unusable), (two, Failing)], "mx1.example.net"),
        ("by a wildcard", &["*.example.net"], &[(one, Unsigned), (two, Failing)], "mx1.example.net"),
        (
            "a wildcard stands for one label",
            &["*.example.net"],
            &[(one, Unsigned), (two, Failing), (three, Unsigned)],
            "mx1.example.net",
        ),
        (
            "every known one",
            &[one, two, three],
            &[(one, Unsigned), (two, Failing), (three, Without)],
            "mx1.example.net:mx3.deep.example.net",
        ),
        ("the unknown one is not allowed", &[one], &[(one, Unsigned), (two, Failing)], "mx1.example.net"),
        (
            "one that does not exist is no host",
            &["*.example.net"],
            &[(one, Unsigned), (two, Failing), ("mx9.example.net", Absent)],
            "mx1.example.net",
        ),
        ("only the unknown one is allowed", &[two], &[(one, Unsigned), (two, Failing)], temp),
        ("none is allowed", &["mx.example.org"], &[(one, Unsigned), (two, Failing)], temp),
    ];
    for (name, policy, hosts, expected) in rows {
        let world = world(policy, hosts);
        let expected = match expected.strip_prefix("TEMP") {
            Some(_) => (*expected).to_owned(),
            None => format!("OK secure match={expected} servername=hostname"),
        };
        for _ in 0..2 {
            assert_eq!(world.ask("example.com").await, expected, "{name}");
        }
        let decision = world.decide("example.com", &MapOptions::default()).await;
        assert!(decision.dane.expect("a DANE branch").ttl <= 300, "{name}: looked at again soon");
    }
}

#[tokio::test(start_paused = true)]
async fn attributes_name_the_same_hosts_and_the_policy_as_published() {
    let hosts = [("mx1.example.net", Kind::Unsigned), ("mx2.example.net", Kind::Failing)];
    let world = world(&["*.example.net"], &hosts);
    let map = MapOptions { tlsrpt: true, ..MapOptions::default() };
    assert_eq!(
        world.reply("example.com", &map).await,
        "OK secure match=mx1.example.net servername=hostname policy_type=sts policy_domain=example.com \
         mx_host_pattern=mx1.example.net { policy_string = version: STSv1 } { policy_string = mode: enforce } \
         { policy_string = mx: *.example.net } { policy_string = max_age: 86400 }"
    );
}

#[tokio::test(start_paused = true)]
async fn all_of_the_policy_counts_again_once_the_host_is_known() {
    let hosts = [("mx1.example.net", Kind::Unsigned), ("mx2.example.net", Kind::Failing)];
    let world = world(&["*.example.net"], &hosts);
    assert_eq!(world.ask("example.com").await, "OK secure match=mx1.example.net servername=hostname");
    world.dns.address("mx2.example.net", Insecure);
    pass(301).await;
    assert_eq!(world.ask("example.com").await, "OK secure match=.example.net servername=hostname");
}

#[tokio::test(start_paused = true)]
async fn dane_at_one_host_and_a_policy_for_another_leave_nobody_unauthenticated() {
    let hosts = [("mx1.example.net", Kind::Usable), ("mx2.example.net", Kind::Unsigned)];
    assert_eq!(world(&["*.example.net"], &hosts).ask("example.com").await, "OK dane-only");
    assert_eq!(world(&[], &hosts).ask("example.com").await, "OK dane");
    let testing = world(&[], &hosts);
    testing.dns.sts("example.com", 600, "1");
    testing.host.policy("example.com", "testing", 86_400, "*.example.net");
    assert_eq!(testing.ask("example.com").await, "OK dane");
    let strict = MapOptions { strict_testing: true, ..MapOptions::default() };
    assert_eq!(testing.reply("example.com", &strict).await, "OK dane-only");
    // Held, with its host and record gone: still in force.
    let held = world(&["*.example.net"], &hosts);
    assert_eq!(held.ask("example.com").await, "OK dane-only");
    held.dns.fails("_mta-sts.example.com", RecordType::TXT, Cause::Timeout);
    pass(4_000).await;
    assert_eq!(held.ask("example.com").await, "OK dane-only");
}

#[tokio::test(start_paused = true)]
async fn a_host_in_an_unsigned_zone_has_no_tlsa_records_whatever_its_addresses_do() {
    for (what, failing) in [("silent", false), ("failing", true)] {
        let hosts = [("mx1.example.net", Kind::Unsigned), ("mx2.dead.example", Kind::Absent)];
        let world = world(&["*.example.net", "mx2.dead.example"], &hosts);
        for rtype in [A, AAAA] {
            world.dns.fails("mx2.dead.example", rtype, Cause::Timeout);
            if !failing {
                world.dns.delay("mx2.dead.example", rtype, Duration::from_secs(60));
            }
        }
        world.dns.unsigned("mx2.dead.example", 400);
        let started = tokio::time::Instant::now();
        let secure = "OK secure match=.example.net:mx2.dead.example servername=hostname";
        let decision = world.decide("example.com", &MapOptions::default()).await;
        assert_eq!(decision.dane.expect("a DANE branch").ttl, 400, "{what}: as long as that is proven");
        assert_eq!(world.ask("example.com").await, secure, "{what}");
        assert!(started.elapsed() < Duration::from_secs(2), "{what}: {:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_beyond_the_fiftieth_do_not_count() {
    let names: Vec<String> = (0..=MX_HOSTS).map(|n| format!("mx{n}.example.net")).collect();
    let mut hosts: Vec<(&str, Kind)> = names.iter().map(|name| (name.as_str(), Kind::Unsigned)).collect();
    hosts[MX_HOSTS].1 = Kind::Failing;
    let world = world(&["*.example.net"], &hosts);
    let decision = world.decide("example.com", &MapOptions::default()).await;
    assert_eq!(world.ask("example.com").await, "OK secure match=.example.net servername=hostname");
    assert!(decision.dane.expect("a DANE branch").ttl > 300, "nothing is unknown");
    assert_eq!(world.dns.asked("example.com", MX), 1);
    assert_eq!(world.dns.asked(&names[MX_HOSTS], A), 0);
}

#[tokio::test(start_paused = true)]
async fn postfix_words_never_reach_match() {
    let hosts = [("mx1.example.net", Kind::Unsigned)];
    for (policy, expected) in [
        (&["hostname", "mx1.example.net"][..], "OK secure match=mx1.example.net servername=hostname"),
        (&["mx1.example.net", "NextHop", "dot-nexthop"], "OK secure match=mx1.example.net servername=hostname"),
        (&["*.hostname", "nexthop"], "OK secure match=.hostname servername=hostname"),
        (&["nexthop.example", "hostname"], "OK secure match=nexthop.example servername=hostname"),
        (
            &["hostname", "nexthop", "dot-nexthop"],
            "TEMP example.com: the MTA-STS policy allows no host that Postfix can be told",
        ),
    ] {
        assert_eq!(world(policy, &hosts).ask("example.com").await, expected, "{policy:?}");
    }
    // Nor as the name of a host.
    let hosts = [("hostname", Kind::Unsigned), ("mx1.example.net", Kind::Unsigned), ("mx2.example.net", Kind::Failing)];
    let world = world(&["hostname", "*.example.net"], &hosts);
    assert_eq!(world.ask("example.com").await, "OK secure match=mx1.example.net servername=hostname");
}
