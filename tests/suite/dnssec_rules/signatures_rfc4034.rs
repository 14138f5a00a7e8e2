//! Signatures (RFC 4034 §3, RFC 4035 §5.3).

use hickory_proto::rr::{Name, RecordType};
use postseal::dns::Bogus;
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::RrSet;
use postseal::resolver::validate::{DnsKey, verify};

use super::{address, name, set, signer};
use crate::dnssec_properties::signer::{NOW, Signer, TTL};

#[test]
fn a_signature_counts_from_inception_to_expiration_in_serial_arithmetic() {
    let set = address("www.example.");
    let (from, to) = (NOW - 86_400, NOW + 86_400);
    let tag = signer().key.tag;
    for (now, expected) in [
        (from - 1, Err(Bogus::NotYetValid { from, tag })),
        (from, Ok(TTL)),
        (to - 10, Ok(10)),
        (to, Ok(0)),
        (to + 1, Err(Bogus::Expired { at: to, tag })),
        (from + (1 << 32), Ok(TTL)), // RFC 4034 §3.1.5: modulo 2³²
        (to + (1 << 32) + 1, Err(Bogus::Expired { at: to + (1 << 32), tag })),
    ] {
        let verified = verify(&set, &signer().keys(), now, &Budget::default());
        assert_eq!(verified.map(|verified| verified.ttl), expected, "at {}", now - NOW);
    }
    let mut backwards = set;
    let sig = &mut backwards.sigs[0];
    (sig.inception, sig.expiration) = (sig.expiration, sig.inception);
    assert!(verify(&backwards, &signer().keys(), NOW, &Budget::default()).is_err());
}

#[test]
fn the_ttl_is_the_least_of_rrset_rrsig_original_and_remaining_life() {
    for (rrset, rrsig, now, expected) in [
        (TTL, TTL, NOW, TTL),
        (60, TTL, NOW, 60),
        (TTL, 30, NOW, 30),
        (99_999, 99_999, NOW, TTL), // RFC 4035 §5.3.3: original TTL
        (TTL, TTL, NOW + 86_390, 10),
    ] {
        let mut set = address("www.example.");
        set.ttl = rrset;
        set.sigs[0].ttl = rrsig;
        let verified = verify(&set, &signer().keys(), now, &Budget::default()).expect("verifies");
        assert_eq!(verified.ttl, expected, "RRset {rrset}, RRSIG {rrsig}");
    }
}

#[test]
fn labels_tell_wildcards_from_literal_names() {
    let keys = signer().keys();
    let check = |set: &RrSet| verify(set, &keys, NOW, &Budget::default()).map(|verified| verified.wildcard);
    let wildcard = address("*.w.example.");
    assert_eq!(check(&wildcard), Ok(None), "the wildcard itself");
    for (owner, encloser) in [("a.w.example.", "w.example."), ("*.a.w.example.", "w.example.")] {
        let mut expanded = wildcard.clone();
        expanded.name = name(owner);
        assert_eq!(check(&expanded), Ok(Some(name(encloser))), "{owner}");
    }
    let mut outside = address("*.example.");
    outside.name = name("example.");
    assert!(check(&outside).is_err(), "a name above the wildcard");
    // Types of a name itself never come from a wildcard.
    for rtype in [RecordType::NSEC, RecordType::NSEC3, RecordType::DS, RecordType::NS, RecordType::SOA] {
        let mut expanded = signer().sign(set("*.example.", rtype, b"\x01a\x07example\x00\x00\x01\x40"));
        assert_eq!(check(&expanded), Ok(None), "{rtype} at the wildcard");
        expanded.name = name("a.example.");
        assert!(check(&expanded).is_err(), "{rtype} expanded");
    }
}

#[test]
fn only_the_zone_itself_signs_for_its_names() {
    let keys = signer().keys();
    let child_signer = Signer::new(&name("sub.example."), 1);
    let by_child = child_signer.sign(set("www.sub.example.", RecordType::A, &[192, 0, 2, 1]));
    let wrong = Bogus::WrongSigner { signer: name("sub.example.") };
    assert_eq!(verify(&by_child, &keys, NOW, &Budget::default()), Err(wrong), "same key, other signer");
    let by_zone = address("www.other.");
    assert!(verify(&by_zone, &keys, NOW, &Budget::default()).is_err(), "a name outside the zone");
    assert!(verify(&address("www.example."), &child_signer.keys(), NOW, &Budget::default()).is_err());
}

#[test]
fn keys_that_must_not_sign_do_not_count() {
    let set = address("www.example.");
    for (what, change) in [
        ("no zone key (RFC 4034 §2.1.1)", (|key: &mut DnsKey| key.flags = 0) as fn(&mut DnsKey)),
        ("protocol (RFC 4034 §2.1.2)", |key| key.protocol = 2),
        ("revoked (RFC 5011 §2.1)", |key| key.flags |= 0x80),
        ("algorithm", |key| key.algorithm = 13),
        ("tag", |key| key.tag ^= 1),
    ] {
        let mut keys = signer().keys();
        change(&mut keys.keys[0]);
        let expected = Err(Bogus::UnknownKey { tag: set.sigs[0].key_tag });
        assert_eq!(verify(&set, &keys, NOW, &Budget::default()), expected, "{what}");
    }
}

#[test]
fn one_good_signature_among_bad_ones_is_enough_and_the_best_reason_is_given() {
    let good = address("www.example.");
    let keys = signer().keys();
    let altered = |change: fn(&mut postseal::resolver::rrset::Rrsig)| {
        let mut sig = good.sigs[0].clone();
        change(&mut sig);
        sig
    };
    let expired = altered(|sig| sig.expiration = sig.inception + 1);
    let bad = altered(|sig| sig.signature[0] ^= 1);
    let unknown = altered(|sig| sig.key_tag ^= 1);
    let elsewhere = altered(|sig| sig.signer = Name::root());
    let mut set = good.clone();
    set.sigs = vec![unknown.clone(), elsewhere.clone(), bad.clone(), expired.clone(), good.sigs[0].clone()];
    assert!(verify(&set, &keys, NOW, &Budget::default()).is_ok());
    for (sigs, expected) in [
        (vec![], "signature missing over www.example A"),
        (vec![elsewhere.clone()], "signed by ., which is not the zone"),
        (vec![elsewhere.clone(), unknown.clone()], "signature by unknown key"),
        (vec![bad.clone(), unknown.clone()], "signature wrong over www.example A"),
        (vec![bad, expired, unknown], "signature expired"),
    ] {
        set.sigs = sigs;
        let reason = verify(&set, &keys, NOW, &Budget::default()).expect_err("bogus").to_string();
        assert!(reason.starts_with(expected), "{reason}, not {expected}");
    }
}
