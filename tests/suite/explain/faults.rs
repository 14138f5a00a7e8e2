//! Whatever is wrong in the test world, the explanation names it: what, in which zone, at which server.

use std::time::Duration;

use postseal::policy::explain::text::{Style, render};
use postseal::policy::explain::{Explanation, Verdict};

use super::Setting;
use crate::support::answer::rcode;
use crate::support::fault::{Fault, On, catalogue};
use crate::support::lab::Lab;
use crate::support::mail::{USABLE, domain, foundation, host};
use crate::support::record::rtype;
use crate::support::zone::{Delegation, Denial, Zone};

/// Where a fault is put, and what has to be said about it.
struct Told {
    on: On,
    verdict: Verdict,
    /// Each of these, in the advice; nothing where the fault does no harm.
    words: &'static [&'static str],
}

/// In the zone of the domain, so that not even its MX records can be had.
fn held(words: &'static [&'static str]) -> Told {
    Told { on: On::zone("sick.com"), verdict: Verdict::Held, words }
}

/// In the same place, where there is a way around it.
fn harmless() -> Told {
    Told { on: On::zone("sick.com"), verdict: Verdict::Protected, words: &[] }
}

/// What an explanation has to say of each fault. No wildcard: a new fault needs words of its own.
fn told(fault: &Fault) -> Told {
    match fault {
        Fault::BadSignatures => held(&["sick.com MX: signature wrong over", "zone sick.com", "signed again"]),
        Fault::ExpiredSignatures => held(&["signature expired 2027-01-14 (key tag", "zone sick.com", "signed again"]),
        Fault::FutureSignatures => held(&["signature not valid before 2027-01-16 (key tag", "clock"]),
        Fault::MissingSignatures => held(&["signature missing over", "zone sick.com", "middlebox"]),
        Fault::StripDnssec => held(&["sick.com MX: ", "DNSKEY", "zone sick.com"]),
        // Only what is not there lacks its proof: here the MTA-STS record.
        Fault::MissingDenial => Told {
            on: On::zone("sick.com"),
            verdict: Verdict::Protected,
            words: &["_mta-sts.sick.com TXT: denial not proven", "zone sick.com", "NSEC"],
        },
        Fault::WrongDs => Told {
            on: On::zone("com"),
            verdict: Verdict::Held,
            words: &["no DNSKEY matches DS (key tags [", "zone sick.com", "DS records of sick.com"],
        },
        Fault::Code(rcode::FORMERR) => held(&["sick.com MX: servers answer with an error, FORMERR", "zone sick.com"]),
        Fault::Code(rcode::SERVFAIL) => held(&["sick.com MX: servers answer with an error, SERVFAIL", "zone sick.com"]),
        Fault::Code(rcode::NOTIMP) => held(&["sick.com MX: servers answer with an error, NOTIMP", "zone sick.com"]),
        Fault::Code(rcode::REFUSED) => held(&["sick.com MX: servers answer with an error, REFUSED", "zone sick.com"]),
        Fault::Code(rcode::NXDOMAIN | rcode::NOERROR) => held(&["sick.com MX: ", "zone sick.com"]),
        Fault::Code(_) => held(&["sick.com MX: servers answer with an error", "zone sick.com"]),
        // Without EDNS nobody can be asked for signatures.
        Fault::CodeToEdns(_) => held(&["signature missing over sick.com DNSKEY", "zone sick.com", "EDNS"]),
        Fault::SilenceToEdns => held(&["sick.com MX: no answer in time", "zone sick.com", "silent"]),
        Fault::NoEdns => held(&["sick.com MX: ", "zone sick.com"]),
        Fault::Silence => held(&["sick.com MX: no answer in time", "zone sick.com", "silent"]),
        Fault::Late(_) => held(&["sick.com MX: no answer in time", "zone sick.com", "silent"]),
        // What does not come with AA is as good, if it is signed.
        Fault::NotAuthoritative => harmless(),
        Fault::Truncate | Fault::NoTcp | Fault::LowercaseQuestion | Fault::SpoofedFirst => harmless(),
        Fault::TruncateWithoutTcp => held(&["sick.com MX: no name server can be reached", "over TCP as well"]),
        Fault::Lame => held(&["sick.com MX: ", "zone sick.com"]),
        Fault::UpwardReferral | Fault::SelfReferral => {
            held(&["sick.com MX: servers are not authoritative", "zone sick.com", "delegat"])
        }
        Fault::WrongQuestion | Fault::WrongId => held(&["sick.com MX: no answer in time", "zone sick.com"]),
        Fault::Garbage | Fault::CutShort => held(&["sick.com MX: ", "zone sick.com"]),
        Fault::ForgedNxDomain | Fault::ForgedNoData => {
            held(&["sick.com MX: DNSKEY missing", "zone sick.com", "publish its DNSKEY"])
        }
        Fault::NxDomainAtEmptyNonTerminal => harmless(),
        Fault::ForgedData => held(&["sick.com MX: signature missing over sick.com MX", "zone sick.com"]),
        // What a test writes itself, it explains itself.
        Fault::Edit(_) | Fault::Patch(_) => harmless(),
    }
}

/// The sick domain has healthy MX hosts.
fn zones() -> Vec<Zone> {
    let mut zones = foundation();
    zones.push(domain("sick.com", true, &[host::USABLE]));
    zones
}

fn advice(explanation: &Explanation) -> String {
    explanation.advice.iter().map(|item| format!("{} | {} | {}\n", item.problem, item.whose, item.remedy)).collect()
}

/// Says what an explanation lacks.
fn check(name: &str, explanation: &Explanation, verdict: Verdict, words: &[&str]) -> Option<String> {
    let (text, advice) = (render(explanation, Style::default()), advice(explanation));
    let missing: Vec<&&str> =
        words.iter().filter(|words| !advice.contains(**words) || !text.contains(**words)).collect();
    let silent = words.is_empty() && !advice.is_empty();
    let wrong = explanation.verdict != verdict || !missing.is_empty() || silent;
    wrong.then(|| format!("{name}: {:?}, should be {verdict:?}; lacks {missing:?} in\n{advice}", explanation.verdict))
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_the_catalogue_is_named_with_its_zone() {
    let mut wrong = Vec::new();
    for (name, fault) in catalogue() {
        let Told { on, verdict, words } = told(&fault);
        let lab = Lab::in_memory(zones());
        let server = lab.world.servers_of("sick.com")[0].to_string();
        lab.world.inject(on, fault);
        let explanation = Setting::new(lab).explain("sick.com").await;
        wrong.extend(check(name, &explanation, verdict, words));
        // A lookup that failed at the domain's own server names that server.
        let at_server =
            words.iter().any(|words| words.contains("zone sick.com")) && !advice(&explanation).contains(&server);
        wrong.extend(at_server.then(|| format!("{name}: no word of server {server} in {}", advice(&explanation))));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is said of a delegation, and what that does to mail.
fn told_of_delegation(delegation: &Delegation) -> (Verdict, &'static [&'static str]) {
    match delegation {
        Delegation::Secure | Delegation::WithStranger => (Verdict::Protected, &[]),
        Delegation::Digests(_) => (Verdict::Protected, &[]),
        Delegation::Insecure => (Verdict::Weak, &["not signed, so they could be forged", "sign the domain's zone"]),
        Delegation::Algorithm(_) | Delegation::UnknownDigest(_) => {
            (Verdict::Weak, &["not signed, so they could be forged"])
        }
        Delegation::WrongDigest => (
            Verdict::Held,
            &["sick.com MX: no DNSKEY matches DS (key tags [", "zone sick.com", "DS records of sick.com"],
        ),
        Delegation::Missing => (Verdict::NoSuchDomain, &[]),
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_delegation_is_told() {
    let mut wrong = Vec::new();
    for delegation in [
        Delegation::Secure,
        Delegation::Digests(vec![2, 4]),
        Delegation::Insecure,
        Delegation::Algorithm(200),
        Delegation::UnknownDigest(99),
        Delegation::WrongDigest,
        Delegation::WithStranger,
        Delegation::Missing,
    ] {
        let (verdict, words) = told_of_delegation(&delegation);
        let name = format!("{delegation:?}");
        let mut zones = foundation();
        zones.push(domain("sick.com", true, &[host::USABLE]).delegation(delegation.clone()));
        let explanation = Setting::new(Lab::in_memory(zones)).explain("sick.com").await;
        wrong.extend(check(&name, &explanation, verdict, words));
        let text = render(&explanation, Style::default());
        let chain = match delegation {
            Delegation::Insecure => "sick.com: insecure",
            Delegation::Algorithm(_) | Delegation::UnknownDigest(_) => {
                "sick.com: insecure: signed, but with no algorithm"
            }
            Delegation::WrongDigest => "sick.com: broken:",
            Delegation::Missing => "domain does not exist",
            Delegation::Secure | Delegation::Digests(_) | Delegation::WithStranger => "sick.com: secure:",
        };
        wrong.extend((!text.contains(chain)).then(|| format!("{name}: no \"{chain}\" in\n{text}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_one_host_is_told_of_that_host_and_shown_in_the_chain() {
    let mut wrong = Vec::new();
    for (key, verdict, words, chain) in [
        (
            "bogus.com",
            Verdict::Held,
            "MX host mx.bogus.net: mx.bogus.net A: no DNSKEY matches DS",
            "bogus.net: broken:",
        ),
        (
            "dead.com",
            Verdict::Held,
            "MX host mx.dead.net: mx.dead.net A: no answer in time (zone dead.net",
            "dead.net: broken:",
        ),
        (
            "tlsafails.com",
            Verdict::Held,
            "MX host tlsafails.hosts.net: _25._tcp.tlsafails.hosts.net TLSA: servers answer with an error, SERVFAIL (zone hosts.net",
            "hosts.net: secure:",
        ),
        (
            "tlsabogus.com",
            Verdict::Held,
            "MX host tlsabogus.hosts.net: _25._tcp.tlsabogus.hosts.net TLSA: signature wrong over",
            "hosts.net: secure:",
        ),
        ("noaddress.com", Verdict::NoPolicy, "MX host noaddress.hosts.net: has no address", "hosts.net: secure:"),
        ("unusable.com", Verdict::Weak, "MX host unusable.hosts.net: it has 1 TLSA", "hosts.net: secure:"),
        ("none.com", Verdict::NoPolicy, "1 of 1 MX hosts are in signed zones, and none has TLSA", "hosts.net: secure:"),
        ("insecure.com", Verdict::NoPolicy, "no MX host has an address in a signed zone", "plain.net: insecure:"),
        (
            "none-and-dead.com",
            Verdict::Weak,
            "MX host mx.dead.net: mx.dead.net A: no answer in time",
            "dead.net: broken:",
        ),
    ] {
        let hosts: &[&str] = match key {
            "bogus.com" => &[host::BOGUS],
            "dead.com" => &[host::DEAD],
            "tlsafails.com" => &[host::TLSA_FAILS],
            "tlsabogus.com" => &[host::TLSA_BOGUS],
            "noaddress.com" => &[host::NO_ADDRESS],
            "unusable.com" => &[host::UNUSABLE],
            "none.com" => &[host::NONE],
            "none-and-dead.com" => &[host::NONE, host::DEAD],
            _ => &[host::INSECURE],
        };
        let mut zones = foundation();
        zones.push(domain(key, true, hosts));
        let lab = Lab::in_memory(zones);
        crate::support::mail::break_hosts(&lab.world);
        let explanation = Setting::new(lab).explain(key).await;
        wrong.extend(check(key, &explanation, verdict, &[words]));
        let text = render(&explanation, Style::default());
        wrong.extend((!text.contains(chain)).then(|| format!("{key}: no \"{chain}\" in\n{text}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_root_that_cannot_be_reached_is_told_as_such() {
    let lab = Lab::in_memory(zones());
    lab.world.inject(On::everything(), Fault::Silence);
    let explanation = Setting::new(lab).explain("sick.com").await;
    let words = ["sick.com MX: no answer in time", "you, here, or the network between here and the root's servers"];
    assert_eq!(check("silence", &explanation, Verdict::Held, &words), None);
    assert!(render(&explanation, Style::default()).contains(".: broken:"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_zone_above_is_blamed_itself() {
    let lab = Lab::in_memory(zones());
    lab.world.inject(On::zone("com").qtype(rtype::DNSKEY), Fault::ExpiredSignatures);
    let explanation = Setting::new(lab).explain("sick.com").await;
    let words = ["signature expired 2027-01-14", "the operators of the zone com |"];
    let (text, advice) = (render(&explanation, Style::default()), advice(&explanation));
    assert!(words.iter().all(|words| advice.contains(words)) && text.contains("com: broken:"), "{advice}\n{text}");
}

#[tokio::test(start_paused = true)]
async fn nsec3_beyond_what_is_checked_and_strangers_keys_are_told() {
    let own = format!("@ MX 10 mx\nmx A 192.0.2.9\n_25._tcp.mx {USABLE}");
    let many = Denial::Nsec3 { iterations: 500, salt: Vec::new(), opt_out: false };
    let zones =
        vec![Zone::new(".").signed(8), Zone::new("com").signed(13).denial(many), Zone::new("sick.com").records(&own)];
    let explanation = Setting::new(Lab::in_memory(zones)).explain("sick.com").await;
    let text = render(&explanation, Style::default());
    assert!(text.contains("too many iterations"), "{text}");
    assert!(Duration::from_secs_f64(explanation.took) < Duration::from_secs(5));
}
