//! The verdict over the MX hosts of a domain (design §4 step 4), and what is no DANE at all (step 1).

use postseal::config::MapOptions;
use postseal::names::NextHop;
use postseal::policy::reply::render;

use crate::support::lab::Lab;
use crate::support::mail::{USABLE, break_hosts, domain, foundation, host};
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};
use crate::support::zone::{Delegation, Zone};

const TEMP: &str = "TEMP";
/// Cached for at most five minutes, because something could not be found out.
const SHORT: bool = true;
const LONG: bool = false;

struct Row {
    name: &'static str,
    signed: bool,
    hosts: &'static [&'static str],
    expected: &'static str,
    short: bool,
}

const fn row(
    name: &'static str,
    signed: bool,
    hosts: &'static [&'static str],
    expected: &'static str,
    short: bool,
) -> Row {
    Row { name, signed, hosts, expected, short }
}

const ROWS: &[Row] = &[
    row("all-usable", true, &[host::USABLE], "OK dane-only", LONG),
    row("two-usable", true, &[host::USABLE, host::USABLE_TOO], "OK dane-only", LONG),
    row("same-host-twice", true, &[host::USABLE, "USABLE.hosts.net."], "OK dane-only", LONG),
    row("usable-and-bogus", true, &[host::USABLE, host::BOGUS], "OK dane-only", SHORT),
    row("usable-and-dead", true, &[host::USABLE, host::DEAD], "OK dane-only", SHORT),
    row("usable-and-tlsa-fails", true, &[host::USABLE, host::TLSA_FAILS], "OK dane-only", SHORT),
    row("usable-and-tlsa-bogus", true, &[host::USABLE, host::TLSA_BOGUS], "OK dane-only", SHORT),
    row("usable-and-no-address", true, &[host::USABLE, host::NO_ADDRESS], "OK dane-only", LONG),
    row("usable-and-absent", true, &[host::USABLE, host::ABSENT], "OK dane-only", LONG),
    row("usable-and-unusable", true, &[host::USABLE, host::UNUSABLE], "OK dane", LONG),
    row("usable-and-none", true, &[host::USABLE, host::NONE], "OK dane", LONG),
    row("usable-and-insecure", true, &[host::USABLE, host::INSECURE], "OK dane", LONG),
    row("usable-none-and-bogus", true, &[host::USABLE, host::NONE, host::BOGUS], "OK dane", SHORT),
    row("only-unusable", true, &[host::UNUSABLE], "OK dane", LONG),
    row("unusable-and-none", true, &[host::UNUSABLE, host::NONE], "OK dane", LONG),
    row("unusable-and-bogus", true, &[host::UNUSABLE, host::BOGUS], "OK dane", SHORT),
    row("none-and-bogus", true, &[host::NONE, host::BOGUS], "OK dane", SHORT),
    row("insecure-and-dead", true, &[host::INSECURE, host::DEAD], "OK dane", SHORT),
    row("none-and-tlsa-fails", true, &[host::NONE, host::TLSA_FAILS], "OK dane", SHORT),
    row("only-none", true, &[host::NONE], "NOTFOUND ", LONG),
    row("only-insecure", true, &[host::INSECURE], "NOTFOUND ", LONG),
    row("only-absent", true, &[host::ABSENT], "NOTFOUND ", LONG),
    row("only-no-address", true, &[host::NO_ADDRESS, host::ABSENT], "NOTFOUND ", LONG),
    row("none-and-absent", true, &[host::NONE, host::ABSENT], "NOTFOUND ", LONG),
    row("only-bogus", true, &[host::BOGUS], TEMP, SHORT),
    row("only-dead", true, &[host::DEAD], TEMP, SHORT),
    row("only-tlsa-fails", true, &[host::TLSA_FAILS], TEMP, SHORT),
    row("only-tlsa-bogus", true, &[host::TLSA_BOGUS], TEMP, SHORT),
    row("bogus-and-absent", true, &[host::BOGUS, host::ABSENT], TEMP, SHORT),
    row("insecure-mx-usable", false, &[host::USABLE], "OK dane", LONG),
    row("insecure-mx-usable-and-dead", false, &[host::USABLE, host::DEAD], "OK dane", SHORT),
    row("insecure-mx-unusable", false, &[host::UNUSABLE], "OK dane", LONG),
    row("insecure-mx-none", false, &[host::NONE], "NOTFOUND ", LONG),
    row("insecure-mx-none-and-bogus", false, &[host::NONE, host::BOGUS], "OK dane", SHORT),
    row("insecure-mx-bogus", false, &[host::BOGUS], TEMP, SHORT),
    row("null-mx", true, &["."], "NOTFOUND ", LONG),
    row("insecure-null-mx", false, &["."], "NOTFOUND ", LONG),
    row("null-mx-beside-usable", true, &[".", host::USABLE], "OK dane-only", LONG),
    row("address-as-target", true, &["192.0.2.1.", host::USABLE], "OK dane-only", LONG),
    row("not-a-host-name", true, &["under\\032score.hosts.net.", host::USABLE], "OK dane-only", LONG),
];

fn zones() -> Vec<Zone> {
    let own = format!("@ A 192.0.2.40\n_25._tcp {USABLE}");
    let mut zones = foundation();
    zones.extend(ROWS.iter().map(|row| domain(&format!("{}.com", row.name), row.signed, row.hosts)));
    zones.extend([
        domain("implicit.com", true, &[]).records(&own),
        domain("implicit-bare.com", true, &[]).records("@ A 192.0.2.40"),
        domain("implicit-insecure.com", false, &[]).records(&own),
        domain("bogus.com", true, &[host::USABLE]).delegation(Delegation::WrongDigest),
        domain("unknown-algorithm.com", true, &[host::USABLE]).delegation(Delegation::Algorithm(250)),
        domain("unknown-digest.com", true, &[host::USABLE]).delegation(Delegation::UnknownDigest(250)),
        domain("no-ds.com", true, &[host::USABLE]).delegation(Delegation::Insecure),
        Zone::new("alias.com").signed(13).records("mail CNAME two-usable.com.\nplain CNAME insecure-mx-usable.com."),
        Zone::new("moved.com").signed(13).records("@ DNAME two-usable.com."),
        domain("xn--bcher-kva.com", true, &[host::USABLE]),
    ]);
    zones
}

fn lab() -> PolicyLab {
    let lab = Lab::in_memory(zones());
    break_hosts(&lab.world);
    let fetch = ScriptedFetch::new(&lab);
    PolicyLab::new(lab, fetch)
}

#[tokio::test(start_paused = true)]
async fn each_mix_of_hosts_gets_the_verdict_of_the_table() {
    let lab = lab();
    let mut wrong = Vec::new();
    for Row { name, expected, short, .. } in ROWS {
        let key = format!("{name}.com");
        let hop = NextHop::parse(key.as_bytes()).unwrap();
        let map = MapOptions::default();
        let decision = lab.engine.answer(&hop, &map).await;
        let reply = render(&decision, &hop, &map).to_string();
        let fits = if *expected == TEMP { reply.starts_with(&format!("TEMP {key}: ")) } else { reply == *expected };
        let ttl = decision.dane.as_ref().map_or(0, |dane| dane.ttl);
        if !fits || (*short && ttl > 300) || (!*short && ttl <= 300) {
            wrong.push(format!(
                "{key}: {reply:?} for {ttl} s; should be {expected:?}, short: {short}; {:?}",
                decision.dane
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_plain_rows_get_what_design_sections_3_and_4_say() {
    let lab = lab();
    for (key, expected) in [
        ("implicit.com", "OK dane-only"),
        ("implicit-bare.com", "NOTFOUND "),
        ("implicit-insecure.com", "NOTFOUND "),
        ("absent.com", "NOTFOUND "),
        ("absent.all-usable.com", "NOTFOUND "),
        ("bogus.com", TEMP),
        ("absent.bogus.com", TEMP),
        ("unknown-algorithm.com", "OK dane"),
        ("unknown-digest.com", "OK dane"),
        ("no-ds.com", "OK dane"),
        ("mail.alias.com", "OK dane-only"),
        ("plain.alias.com", "OK dane"), // one hop is insecure, so the MX answer is
        ("alias.com", "NOTFOUND "),
        ("moved.com", "NOTFOUND "), // the DNAME's own name has no MX and no address
        ("[usable.hosts.net]", "OK dane-only"),
        ("[usable.hosts.net]:25", "OK dane-only"),
        ("[usable.hosts.net]:587", "OK dane-only"),
        ("[usable.hosts.net]:465", "NOTFOUND "),
        ("[none.hosts.net]", "NOTFOUND "),
        ("[unusable.hosts.net]", "OK dane"),
        ("[mx.plain.net]", "NOTFOUND "),
        ("[mx.bogus.net]", TEMP),
        ("[absent.hosts.net]", "NOTFOUND "),
        ("all-usable.com:587", "OK dane-only"),
        ("all-usable.com:25", "OK dane-only"),
        ("all-usable.com:2525", "NOTFOUND "),
        ("bogus.com:2525", TEMP),
        ("ALL-usable.com.", "OK dane-only"),
        ("Bücher.com", "OK dane-only"),
    ] {
        let reply = lab.ask(key).await;
        let fits = if expected == TEMP { reply.starts_with("TEMP ") } else { reply == expected };
        assert!(fits, "{key}: {reply:?}, should be {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_without_a_destination_are_answered_without_dns() {
    let lab = lab();
    let long = format!("{}.com", ["a".repeat(60).as_str(); 5].join("."));
    for key in
        [".example.com", "[192.0.2.1]", "[2001:db8::1]", "192.0.2.1", "2001:db8::1", "", "a..b", "a b.com", &long]
    {
        assert_eq!(lab.ask(key).await, "NOTFOUND ", "{key:?}");
    }
    assert!(lab.lab.world.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tlsa_is_never_asked_where_the_zone_is_not_known_to_be_signed() {
    let lab = lab();
    for key in [
        "only-insecure.com",
        "usable-and-insecure.com",
        "[mx.plain.net]",
        "implicit-insecure.com",
        "insecure-mx-none.com",
    ] {
        lab.ask(key).await;
    }
    let asked = lab.lab.world.take_asked();
    let tlsa = crate::support::record::rtype::TLSA;
    let wrong: Vec<_> = asked
        .iter()
        .filter(|asked| asked.rtype == tlsa || asked.name.labels().first().is_some_and(|label| label == b"_tcp"))
        .filter(|asked| !asked.name.is_at_or_below(&"hosts.net".into()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(start_paused = true)]
async fn a_temporary_failure_is_remembered_for_ten_seconds_and_answered_at_once() {
    let lab = lab();
    assert!(lab.ask("bogus.com").await.starts_with("TEMP "));
    lab.lab.world.take_asked();
    let (reply, took, queries) = lab.measure("bogus.com").await;
    assert!(reply.starts_with("TEMP ") && took.is_zero() && queries == 0, "{reply} after {took:?}, {queries} queries");
}
