//! Addresses and TLSA records of one MX host (design §4 steps 2 and 3; RFC 7672 §2.2, RFC 6698 §2.1).

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::mail::{USABLE, domain, foundation};
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};
use crate::support::record::rtype;
use crate::support::zone::{Delegation, Zone};

/// A signed domain `x.com` whose only MX host is `mx.x.com`, with these records and this answer.
async fn answer(records: &str, faults: &[(On, Fault)]) -> String {
    let mut zones = foundation();
    zones.push(domain("x.com", true, &["mx.x.com."]).records(records));
    zones.push(Zone::new("signed.net").signed(15).records(&format!(
        "target A 192.0.2.30\n_25._tcp.target {USABLE}\nbare A 192.0.2.31\nmiddle CNAME target\n_25._tcp.tlsa {USABLE}"
    )));
    let lab = Lab::in_memory(zones);
    for (on, fault) in faults {
        lab.world.inject(on.clone(), fault.clone());
    }
    let fetch = ScriptedFetch::new(&lab);
    PolicyLab::new(lab, fetch).ask("x.com").await
}

async fn expect(what: &str, records: &str, faults: &[(On, Fault)], expected: &str) {
    let reply = answer(records, faults).await;
    let fits = if expected == "TEMP" { reply.starts_with("TEMP x.com: ") } else { reply == expected };
    assert!(fits, "{what}: {reply:?}, should be {expected:?}");
}

const OTHER: &str = "TLSA 3 1 1 00000000000000000000000000000000000000000000000000000000000000bb";

#[tokio::test(start_paused = true)]
async fn one_secure_address_family_is_enough() {
    let both = format!("mx A 192.0.2.1\nmx AAAA 2001:db8::1\n_25._tcp.mx {USABLE}");
    for (lost, fault) in [
        (rtype::A, Fault::Code(2)),
        (rtype::AAAA, Fault::Code(2)),
        (rtype::AAAA, Fault::Silence),
        (rtype::A, Fault::BadSignatures),
        (rtype::AAAA, Fault::MissingSignatures),
    ] {
        expect("one family failing", &both, &[(On::name("mx.x.com").qtype(lost), fault)], "OK dane-only").await;
    }
    let only_v4 = format!("mx A 192.0.2.1\n_25._tcp.mx {USABLE}");
    expect("AAAA absent", &only_v4, &[], "OK dane-only").await;
    let failing = [(On::name("mx.x.com").qtype(rtype::A), Fault::Code(2))];
    expect("A failing, AAAA absent: unknown", &only_v4, &failing, "TEMP").await;
    let none = format!("_25._tcp.mx {USABLE}");
    expect("both absent: ignored", &none, &[], "NOTFOUND ").await;
}

#[tokio::test(start_paused = true)]
async fn tlsa_is_looked_for_at_the_expanded_name_first_and_then_at_the_original() {
    let at_both = format!("mx CNAME target.signed.net.\n_25._tcp.mx {OTHER}");
    expect("TLSA at the target", "mx CNAME target.signed.net.", &[], "OK dane-only").await;
    expect("TLSA at both", &at_both, &[], "OK dane-only").await;
    let original = format!("mx CNAME bare.signed.net.\n_25._tcp.mx {USABLE}");
    expect("TLSA at the original only", &original, &[], "OK dane-only").await;
    expect("TLSA at neither", "mx CNAME bare.signed.net.", &[], "NOTFOUND ").await;
    expect("TLSA at an intermediate is not looked for", "mx CNAME middle.signed.net.", &[], "OK dane-only").await;
    let intermediate = format!("mx CNAME mid\nmid CNAME bare.signed.net.\n_25._tcp.mid {USABLE}");
    expect("TLSA only at an intermediate", &intermediate, &[], "NOTFOUND ").await;
    for fault in [Fault::Code(2), Fault::BadSignatures, Fault::Silence, Fault::MissingDenial] {
        let failing = [(On::name("_25._tcp.bare.signed.net"), fault)];
        expect("a failing first lookup is not skipped over", &original, &failing, "TEMP").await;
    }
    let failing = [(On::name("_25._tcp.mx.x.com").qtype(rtype::TLSA), Fault::Code(2))];
    expect("a failing second lookup after a denial", &original, &failing, "TEMP").await;
    expect("the second lookup is not needed", &at_both, &failing, "OK dane-only").await;
}

#[tokio::test(start_paused = true)]
async fn a_secure_alias_into_an_unsigned_zone_keeps_the_original_name_as_candidate() {
    let insecure = format!("mx CNAME mx.plain.net.\n_25._tcp.mx {USABLE}");
    expect("TLSA at the original", &insecure, &[], "OK dane-only").await;
    expect("no TLSA at the original", "mx CNAME mx.plain.net.", &[], "NOTFOUND ").await;
    let failing = [(On::name("_25._tcp.mx.x.com").qtype(rtype::TLSA), Fault::Code(2))];
    expect("failing at the original", &insecure, &failing, "TEMP").await;
}

#[tokio::test(start_paused = true)]
async fn aliases_at_the_tlsa_name_are_followed() {
    let address = "mx A 192.0.2.1\n";
    expect("secure target", &format!("{address}_25._tcp.mx CNAME _25._tcp.tlsa.signed.net."), &[], "OK dane-only")
        .await;
    expect("shared TLSA", &format!("{address}_25._tcp.mx CNAME shared\nshared {USABLE}"), &[], "OK dane-only").await;
    expect("insecure target", &format!("{address}_25._tcp.mx CNAME _25._tcp.mx.plain.net."), &[], "NOTFOUND ").await;
    expect("bogus target", &format!("{address}_25._tcp.mx CNAME _25._tcp.mx.bogus.net."), &[], "TEMP").await;
    expect("nothing there", &format!("{address}_25._tcp.mx CNAME nowhere"), &[], "NOTFOUND ").await;
    expect("loop", &format!("{address}_25._tcp.mx CNAME loop\nloop CNAME loop"), &[], "TEMP").await;
    expect("wildcard", &format!("{address}*._tcp.mx {USABLE}"), &[], "OK dane-only").await;
    expect("DNAME", &format!("{address}_tcp.mx DNAME shared\n_25.shared {USABLE}"), &[], "OK dane-only").await;
}

#[tokio::test(start_paused = true)]
async fn a_tlsa_record_is_usable_as_rfc_7672_says() {
    let (short, half, full) = ("aa".repeat(31), "aa".repeat(32), "aa".repeat(64));
    let rows = [
        (format!("3 1 1 {half}"), true),
        (format!("3 0 1 {half}"), true),
        (format!("2 0 1 {half}"), true),
        (format!("2 1 1 {half}"), true),
        (format!("3 1 2 {full}"), true),
        (format!("2 0 2 {full}"), true),
        (format!("0 0 1 {half}"), false), // PKIX-TA (RFC 7672 §3.1.3)
        (format!("1 1 1 {half}"), false), // PKIX-EE
        (format!("4 1 1 {half}"), false),
        (format!("255 1 1 {half}"), false),
        (format!("3 2 1 {half}"), false),
        (format!("3 1 3 {half}"), false),
        (format!("3 1 1 {short}"), false),
        (format!("3 1 1 {full}"), false),
        (format!("3 1 2 {half}"), false),
        (format!("3 1 0 {half}"), false), // parses as nothing
        (format!("3 0 0 {half}"), false),
    ];
    for (rdata, usable) in rows {
        let expected = if usable { "OK dane-only" } else { "OK dane" };
        expect(&rdata, &format!("mx A 192.0.2.1\n_25._tcp.mx TLSA {rdata}"), &[], expected).await;
        let beside = format!("mx A 192.0.2.1\n_25._tcp.mx TLSA {rdata}\n_25._tcp.mx {USABLE}");
        expect(&format!("{rdata} beside a usable one"), &beside, &[], "OK dane-only").await;
    }
}

#[tokio::test(start_paused = true)]
async fn full_certificates_and_keys_are_usable_where_they_parse() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["mx.x.com".to_owned()]).unwrap().self_signed(&key).unwrap();
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
    let (certificate, spki) = (hex(certificate.der()), hex(&spki));
    for (rdata, expected) in [
        (format!("3 0 0 {certificate}"), "OK dane-only"),
        (format!("2 0 0 {certificate}"), "OK dane-only"),
        (format!("3 1 0 {spki}"), "OK dane-only"),
        (format!("3 1 0 {certificate}"), "OK dane"),
        (format!("3 0 0 {spki}"), "OK dane"),
        (format!("3 1 0 {}", &spki[2..]), "OK dane"),
    ] {
        expect(&rdata, &format!("mx A 192.0.2.1\n_25._tcp.mx TLSA {rdata}"), &[], expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_island_without_ds_has_no_dane() {
    let mut zones = foundation();
    let own = format!("@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx {USABLE}");
    zones.push(Zone::new("island.com").signed(13).delegation(Delegation::Insecure).records(&own));
    zones.push(Zone::new("sub.island.com").signed(13).records(&own));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    let lab = PolicyLab::new(lab, fetch);
    assert_eq!(lab.ask("island.com").await, "NOTFOUND ");
    assert_eq!(lab.ask("sub.island.com").await, "NOTFOUND ");
}
