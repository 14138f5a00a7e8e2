//! Design §4: steps 1 to 3 and the verdict over them, as replies.

use std::time::Duration;

use hickory_proto::rr::RecordType;
use postseal::dns::{Cause, Found, Security};

use super::script::{Dns, World};

use RecordType::{A, AAAA, CNAME, MX};
use Security::{Insecure, Secure};

type Script = fn(&Dns);

/// A signed host with a usable TLSA record.
fn good_host(dns: &Dns, host: &str) {
    dns.address(host, Secure).tlsa(&format!("_25._tcp.{host}"), Secure, true);
}

/// A signed domain with this host, and what it takes for DANE.
fn good(dns: &Dns) {
    dns.mx("example.com", Secure, &["mx.example.com"]);
    good_host(dns, "mx.example.com");
}

/// A second host beside the good one.
fn second(dns: &Dns) {
    good(dns);
    dns.mx("example.com", Secure, &["mx.example.com", "mx2.example.com"]);
}

const TLSA: &str = "_25._tcp.mx.example.com";
const TLSA2: &str = "_25._tcp.mx2.example.com";

async fn check(rows: &[(&str, Script, &str)]) {
    for (name, script, expected) in rows {
        let world = World::new();
        script(&world.dns);
        assert_eq!(world.ask("example.com").await, *expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn mx_lookup_rows() {
    let rows: &[(&str, Script, &str)] = &[
        ("secure MX, usable TLSA", good, "OK dane-only"),
        ("bogus MX", |d| _ = d.bogus("example.com", MX), "TEMP example.com: MX lookup: denial not proven"),
        (
            "MX server fails",
            |d| _ = d.fails("example.com", MX, Cause::ServFail),
            "TEMP example.com: MX lookup: servers answer with an error, SERVFAIL",
        ),
        (
            "MX lookup times out",
            |d| _ = d.fails("example.com", MX, Cause::Timeout),
            "TEMP example.com: MX lookup: no answer in time",
        ),
        ("no such domain", |d| _ = d.nothing("example.com", MX, Found::NxDomain, Secure), "NOTFOUND "),
        ("no such domain, unsigned", |d| _ = d.nothing("example.com", MX, Found::NxDomain, Insecure), "NOTFOUND "),
        ("null MX", |d| _ = d.mx("example.com", Secure, &["."]), "NOTFOUND "),
        (
            "implicit MX",
            |d| {
                d.nothing("example.com", MX, Found::NoData, Secure);
                good_host(d, "example.com");
            },
            "OK dane-only",
        ),
        (
            "implicit MX, denial not signed",
            |d| {
                d.nothing("example.com", MX, Found::NoData, Insecure);
                good_host(d, "example.com");
            },
            "OK dane",
        ),
        (
            ". beside a host",
            |d| {
                good(d);
                d.mx("example.com", Secure, &[".", "mx.example.com"]);
            },
            "OK dane-only",
        ),
        (
            "a target that is no host name",
            |d| {
                good(d);
                d.mx("example.com", Secure, &["192.0.2.9", "mx.example.com"]);
            },
            "OK dane-only",
        ),
        (
            "the same host twice",
            |d| {
                good(d);
                d.mx("example.com", Secure, &["mx.example.com", "MX.example.com"]);
            },
            "OK dane-only",
        ),
        (
            "unsigned MX, usable TLSA",
            |d| {
                good(d);
                d.mx("example.com", Insecure, &["mx.example.com"]);
            },
            "OK dane",
        ),
    ];
    check(rows).await;
}

#[tokio::test(start_paused = true)]
async fn address_rows() {
    let rows: &[(&str, Script, &str)] = &[
        (
            "only IPv6, secure",
            |d| {
                good(d);
                d.address6("mx.example.com", Secure);
            },
            "OK dane-only",
        ),
        (
            "IPv4 secure, IPv6 bogus",
            |d| {
                good(d);
                d.bogus("mx.example.com", AAAA);
            },
            "OK dane-only",
        ),
        (
            "IPv4 insecure",
            |d| {
                good(d);
                d.address("mx.example.com", Insecure);
            },
            "NOTFOUND ",
        ),
        (
            "IPv4 insecure, IPv6 bogus",
            |d| {
                good(d);
                d.address("mx.example.com", Insecure).bogus("mx.example.com", AAAA);
            },
            "NOTFOUND ",
        ),
        (
            "both proven absent: host is ignored, none is left",
            |d| {
                d.mx("example.com", Secure, &["mx.example.com"]);
            },
            "NOTFOUND ",
        ),
        ("one of two hosts proven absent", second, "OK dane-only"),
        (
            "IPv4 fails, IPv6 proven absent",
            |d| {
                good(d);
                d.fails("mx.example.com", A, Cause::Timeout);
            },
            "TEMP example.com: mx.example.com: A lookup: no answer in time",
        ),
        (
            "insecure address behind a secure alias, TLSA at the host",
            |d| {
                good(d);
                d.address("mx.example.com", Insecure).alias("mx.example.com", A, "host.example.net");
                d.cname("mx.example.com", Secure, "host.example.net");
            },
            "OK dane-only",
        ),
        (
            "insecure address behind an insecure alias",
            |d| {
                good(d);
                d.address("mx.example.com", Insecure).alias("mx.example.com", A, "host.example.net");
                d.cname("mx.example.com", Insecure, "host.example.net");
            },
            "NOTFOUND ",
        ),
        (
            "insecure address behind an alias that is bogus",
            |d| {
                good(d);
                d.address("mx.example.com", Insecure).alias("mx.example.com", A, "host.example.net");
                d.bogus("mx.example.com", CNAME);
            },
            "TEMP example.com: mx.example.com: CNAME lookup: denial not proven",
        ),
    ];
    check(rows).await;
}

#[tokio::test(start_paused = true)]
async fn tlsa_rows() {
    let alias: Script = |d| {
        d.mx("example.com", Secure, &["mx.example.com"]);
        d.address("mx.example.com", Secure).alias("mx.example.com", A, "real.example.net");
    };
    let rows: &[(&str, Script, &str)] = &[
        (
            "unusable",
            |d| {
                good(d);
                d.tlsa(TLSA, Secure, false);
            },
            "OK dane",
        ),
        (
            "denied",
            |d| {
                good(d);
                d.nothing(TLSA, RecordType::TLSA, Found::NxDomain, Secure);
            },
            "NOTFOUND ",
        ),
        (
            "insecure",
            |d| {
                good(d);
                d.tlsa(TLSA, Insecure, true);
            },
            "NOTFOUND ",
        ),
        (
            "bogus",
            |d| {
                good(d);
                d.bogus(TLSA, RecordType::TLSA);
            },
            "TEMP example.com: mx.example.com: TLSA lookup: denial not proven",
        ),
        (
            "server fails",
            |d| {
                good(d);
                d.fails(TLSA, RecordType::TLSA, Cause::ServFail);
            },
            "TEMP example.com: mx.example.com: TLSA lookup: servers answer with an error, SERVFAIL",
        ),
        (
            "aliased TLSA name",
            |d| {
                good(d);
                d.alias(TLSA, RecordType::TLSA, "tlsa.example.net");
            },
            "OK dane-only",
        ),
    ];
    check(rows).await;
    for (name, script, expected) in [
        ("at the expanded name", (|d| _ = d.tlsa("_25._tcp.real.example.net", Secure, true)) as Script, "OK dane-only"),
        ("at the original name only", |d| _ = d.tlsa(TLSA, Secure, true), "OK dane-only"),
        (
            "expanded name decides over the original one",
            |d| _ = d.tlsa("_25._tcp.real.example.net", Secure, false).tlsa(TLSA, Secure, true),
            "OK dane",
        ),
        (
            "a failing first lookup is not skipped over",
            |d| _ = d.bogus("_25._tcp.real.example.net", RecordType::TLSA).tlsa(TLSA, Secure, true),
            "TEMP example.com: mx.example.com: TLSA lookup: denial not proven",
        ),
        ("at neither", |_| (), "NOTFOUND "),
    ] {
        let world = World::new();
        alias(&world.dns);
        script(&world.dns);
        assert_eq!(world.ask("example.com").await, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn verdict_rows() {
    let rows: &[(&str, Script, &str)] = &[
        (
            "two usable hosts",
            |d| {
                second(d);
                good_host(d, "mx2.example.com");
            },
            "OK dane-only",
        ),
        (
            "usable and unknown",
            |d| {
                second(d);
                d.bogus("mx2.example.com", A).bogus("mx2.example.com", AAAA);
            },
            "OK dane-only",
        ),
        (
            "usable and unusable",
            |d| {
                second(d);
                good_host(d, "mx2.example.com");
                d.tlsa(TLSA2, Secure, false);
            },
            "OK dane",
        ),
        (
            "usable and without",
            |d| {
                second(d);
                d.address("mx2.example.com", Insecure);
            },
            "OK dane",
        ),
        (
            "partial",
            |d| {
                second(d);
                d.address("mx2.example.com", Insecure).bogus(TLSA, RecordType::TLSA);
            },
            "OK dane",
        ),
        (
            "all unknown",
            |d| {
                second(d);
                d.bogus(TLSA, RecordType::TLSA).fails("mx2.example.com", A, Cause::Lame);
            },
            "TEMP example.com: mx.example.com: TLSA lookup: denial not proven",
        ),
    ];
    check(rows).await;
}

#[tokio::test(start_paused = true)]
async fn tlsa_is_never_asked_for_in_a_zone_not_known_to_be_signed() {
    let world = World::new();
    world.plain_domain("example.com");
    assert_eq!(world.ask("example.com").await, "NOTFOUND ");
    assert_eq!(world.dns.asked(TLSA, RecordType::TLSA), 0);
}

#[tokio::test(start_paused = true)]
async fn tlsa_is_asked_for_beside_the_addresses_where_the_zone_is_known_to_be_signed() {
    for (known, expected) in [(true, 1), (false, 2)] {
        let world = World::new();
        good(&world.dns);
        let second = Duration::from_secs(1);
        world.dns.delay("mx.example.com", A, second).delay("mx.example.com", AAAA, second);
        world.dns.delay(TLSA, RecordType::TLSA, second);
        if known {
            world.dns.known_signed("mx.example.com");
        }
        let started = tokio::time::Instant::now();
        assert_eq!(world.ask("example.com").await, "OK dane-only");
        assert_eq!(started.elapsed().as_secs(), expected);
        assert_eq!(world.dns.asked(TLSA, RecordType::TLSA), 1, "asked once");
    }
}

#[tokio::test(start_paused = true)]
async fn explicit_hosts_and_ports_have_their_own_tlsa_name() {
    let world = World::new();
    world.dns.address("mx.example.com", Secure).tlsa("_587._tcp.mx.example.com", Secure, true);
    world.dns.mx("example.com", Secure, &["mx.example.com"]);
    assert_eq!(world.ask("[mx.example.com]:587").await, "OK dane-only");
    assert_eq!(world.ask("[mx.example.com]").await, "NOTFOUND ", "no TLSA for port 25");
    assert_eq!(world.ask("example.com:587").await, "OK dane-only");
    assert_eq!(world.ask("example.com:2525").await, "NOTFOUND ");
    assert_eq!(world.dns.asked("mx.example.com", MX), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_does_not_hold_mail_that_another_host_takes() {
    let world = World::new();
    second(&world.dns);
    world.dns.address("mx2.example.com", Secure);
    for rtype in [A, AAAA] {
        world.dns.delay("mx2.example.com", rtype, Duration::from_secs(60));
    }
    let started = tokio::time::Instant::now();
    let decision = world.decide("example.com", &Default::default()).await;
    assert_eq!(decision.outcome.label(), "dane-only");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(decision.dane.expect("a DANE branch").ttl <= 300);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_change_the_verdict_is_hardly_waited_for() {
    let world = World::new();
    second(&world.dns);
    world.dns.mx("example.com", Secure, &["mx.example.com", "mx2.example.com", "mx3.example.com"]);
    world.dns.address("mx2.example.com", Insecure).address("mx3.example.com", Secure);
    for rtype in [A, AAAA] {
        world.dns.delay("mx3.example.com", rtype, Duration::from_secs(60));
    }
    let started = tokio::time::Instant::now();
    assert_eq!(world.ask("example.com").await, "OK dane");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_rests_on_unknown_hosts_is_kept_for_five_minutes_at_most() {
    let world = World::new();
    second(&world.dns);
    world.dns.address("mx2.example.com", Insecure).bogus(TLSA, RecordType::TLSA);
    let decision = world.decide("example.com", &Default::default()).await;
    assert_eq!(decision.dane.expect("a DANE branch").ttl, 300);
}
