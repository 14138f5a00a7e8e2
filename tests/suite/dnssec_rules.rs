//! One row per rule of validation: signatures (RFC 4034 §3, RFC 4035 §5.3), the chain of trust (RFC 4035 §5.2,
//! RFC 4509, 5011, 6840), bounded work (KeyTrap), and the oddities of NSEC and NSEC3 that honest zones never show.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use hickory_proto::rr::{Name, RecordType};
use postseal::dns::{Bogus, Security};
use postseal::limits;
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::{RrSet, wire_name};
use postseal::resolver::validate::{
    Cut, Denials, DnsKey, Ds, KeySet, Proof, Trust, TypeBitmap, ZoneKeys, usable_ds, verify, verify_dnskeys,
};
use ring::digest;

use crate::dnssec_properties::signer::{NOW, Signer, TTL, base32hex, bitmap, denial_set, nsec3_hash};
use crate::dnssec_properties::zone::{Denial, NXNAME, Zone, child};

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

fn signer() -> Signer {
    Signer::new(&name("example."), 1)
}

fn set(owner: &str, rtype: RecordType, rdata: &[u8]) -> RrSet {
    RrSet { name: name(owner), rtype, ttl: TTL, rdatas: vec![rdata.into()], sigs: Vec::new() }
}

fn address(owner: &str) -> RrSet {
    signer().sign(set(owner, RecordType::A, &[192, 0, 2, 1]))
}

fn types(of: &[u16]) -> Vec<u8> {
    bitmap(&of.iter().copied().collect())
}

// --- Signatures

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

// --- Bounded work (CVE-2023-50387, CVE-2023-50868)

/// How many failed checks a budget still allows.
fn failures_left(budget: &Budget) -> u32 {
    std::iter::from_fn(|| budget.failed_check().ok()).count() as u32
}

#[test]
fn colliding_key_tags_and_many_signatures_are_tried_only_so_far() {
    let key = signer().key;
    let colliding = |count: u8| {
        let other = |at| DnsKey { public: vec![at; 32].into(), ..key.clone() };
        KeySet { zone: name("example."), keys: (1..=count).map(other).collect() }
    };
    let limit = limits::FAILED_SIGNATURE_CHECKS_PER_LOOKUP;
    let budget = Budget::default();
    assert!(verify(&address("www.example."), &colliding(100), NOW, &budget).is_err());
    assert_eq!(failures_left(&budget), limit - limits::KEYS_PER_TAG as u32, "one signature, keys with one tag");

    let mut set = address("www.example.");
    set.sigs = vec![set.sigs[0].clone(); 100];
    let budget = Budget::default();
    assert!(verify(&set, &colliding(1), NOW, &budget).is_err());
    assert_eq!(failures_left(&budget), limit - limits::RRSIGS_PER_RRSET as u32, "many signatures");
    let both = verify(&set, &colliding(100), NOW, &Budget::default());
    assert_eq!(both, Err(Bogus::TooMuchWork("failed signature checks")));

    let mut set = address("www.example.");
    let good = set.sigs[0].clone();
    set.sigs[0].key_tag ^= 1;
    set.sigs = vec![set.sigs[0].clone(); 100];
    set.sigs.push(good);
    let budget = Budget::default();
    assert!(verify(&set, &signer().keys(), NOW, &budget).is_ok(), "signatures without a key cost nothing");
    assert_eq!(failures_left(&budget), limit);
}

#[test]
fn nsec3_hashes_and_denial_sets_are_bounded() {
    let zone = nsec3_zone(false, 0);
    let mut deep = name("example.");
    for _ in 0..100 {
        deep = child(&deep, "a");
    }
    let denials = collect(&zone, &zone.denials[..1]);
    let expected = Err(Bogus::TooMuchWork("NSEC3 hashes"));
    assert_eq!(denials.name_error(&deep, &Budget::default()), expected);

    let many = vec![zone.denials[0].clone(); 100];
    let budget = Budget::default();
    let (_, reason) = Denials::collect(&zone.apex, &many, &zone.signer.keys(), NOW, &budget);
    assert_eq!(reason, Some(Bogus::TooMuchWork("NSEC and NSEC3 RRsets of one response")));
    let spent =
        limits::SIGNATURE_CHECKS_PER_LOOKUP - std::iter::from_fn(|| budget.signature_check().ok()).count() as u32;
    assert_eq!(spent, limits::DENIAL_RRSETS_PER_RESPONSE as u32);
}

// --- Chain of trust

fn ds(key: &DnsKey, digest_type: u8) -> Ds {
    let algorithm = match digest_type {
        1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        4 => &digest::SHA384,
        _ => &digest::SHA256,
    };
    let octets = [wire_name(&name("example.")), key.rdata()].concat();
    let digest = digest::digest(algorithm, &octets).as_ref().into();
    Ds { tag: key.tag, algorithm: key.algorithm, digest_type, digest }
}

fn forged(key: &DnsKey, digest_type: u8) -> Ds {
    let mut ds = ds(key, digest_type);
    ds.digest[0] ^= 1;
    ds
}

#[test]
fn a_key_set_is_trusted_through_any_one_ds_or_anchor_that_counts() {
    let (signer, other) = (signer(), Signer::new(&name("example."), 2));
    let rdatas = vec![signer.key.rdata().into(), other.key.rdata().into()];
    let keys = RrSet { rdatas, ..set("example.", RecordType::DNSKEY, &[]) };
    let signed = signer.sign(keys);
    let key = &signer.key;
    let unknown_algorithm = Ds { algorithm: 200, ..ds(key, 2) };
    let unknown_digest = Ds { digest_type: 3, ..ds(key, 2) };
    let trust = |ds: &[Ds]| Trust { ds: ds.to_vec(), keys: Vec::new() };
    let mut revoked = key.clone();
    revoked.flags |= 0x80;
    let anchor = |key: &DnsKey| Trust { ds: Vec::new(), keys: vec![key.clone()] };
    let unsupported = DnsKey { algorithm: 16, ..key.clone() };
    for (what, trust, expected) in [
        ("SHA-256", trust(&[ds(key, 2)]), "secure"),
        ("SHA-384", trust(&[ds(key, 4)]), "secure"),
        ("SHA-1 alone", trust(&[ds(key, 1)]), "secure"),
        ("SHA-1 beside a forged SHA-256 (RFC 4509 §3)", trust(&[ds(key, 1), forged(key, 2)]), "no match"),
        ("SHA-1 beside an unusable SHA-256", trust(&[ds(key, 1), unknown_algorithm.clone()]), "secure"),
        ("several DS, one matches (RFC 6840 §5.4)", trust(&[forged(key, 2), ds(&other.key, 2), ds(key, 2)]), "secure"),
        ("DS of a key that did not sign", trust(&[ds(&other.key, 2)]), "no match"),
        ("forged DS", trust(&[forged(key, 2)]), "no match"),
        ("unknown algorithm (RFC 4035 §5.2)", trust(std::slice::from_ref(&unknown_algorithm)), "insecure"),
        ("unknown digest (RFC 6840 §5.2)", trust(std::slice::from_ref(&unknown_digest)), "insecure"),
        ("unknown ones beside one that counts", trust(&[unknown_algorithm, unknown_digest, ds(key, 2)]), "secure"),
        ("nothing", Trust::default(), "insecure"),
        ("anchor as DNSKEY", anchor(key), "secure"),
        ("anchor of another key", anchor(&other.key), "no match"),
        ("anchor of unknown algorithm", anchor(&unsupported), "insecure"),
        ("mixed anchors", Trust { ds: vec![forged(key, 2)], keys: vec![key.clone()] }, "secure"),
    ] {
        let got = match verify_dnskeys(&name("example."), &signed, &trust, NOW, &Budget::default()) {
            Ok(ZoneKeys::Secure { keys, .. }) => {
                assert_eq!(keys.keys.len(), 2, "{what}");
                "secure"
            }
            Ok(ZoneKeys::Insecure) => "insecure",
            Err(Bogus::NoMatchingKey { .. }) => "no match",
            Err(other) => panic!("{what}: {other}"),
        };
        assert_eq!(got, expected, "{what}");
        assert_eq!(trust.is_usable(), got != "insecure", "{what}");
    }
}

#[test]
fn a_revoked_key_opens_no_chain() {
    let mut signer = signer();
    signer.key = DnsKey::parse(&[&[1, 0x80, 3, 15][..], &signer.key.public].concat()).expect("a key");
    let keys = signer.sign(set("example.", RecordType::DNSKEY, &signer.key.rdata()));
    let trust = Trust { ds: vec![ds(&signer.key, 2)], keys: vec![signer.key.clone()] };
    let got = verify_dnskeys(&name("example."), &keys, &trust, NOW, &Budget::default());
    assert!(matches!(got, Err(Bogus::NoMatchingKey { .. })), "{got:?}");
}

#[test]
fn failures_of_the_key_set_itself_keep_their_reason() {
    let signer = signer();
    let keys = signer.sign(set("example.", RecordType::DNSKEY, &signer.key.rdata()));
    let trust = Trust { ds: vec![ds(&signer.key, 2)], keys: Vec::new() };
    let check = |keys: &RrSet, now| verify_dnskeys(&name("example."), keys, &trust, now, &Budget::default());
    assert!(matches!(check(&keys, NOW + 900_000), Err(Bogus::Expired { .. })));
    let unsigned = RrSet { sigs: Vec::new(), ..keys.clone() };
    assert!(matches!(check(&unsigned, NOW), Err(Bogus::MissingSignature { .. })));
    let elsewhere = RrSet { name: name("other."), ..keys };
    assert_eq!(check(&elsewhere, NOW), Err(Bogus::NoDnskey));
}

#[test]
fn sha_1_counts_only_where_nothing_stronger_does() {
    let key = signer().key;
    let kinds = |set: &[Ds]| usable_ds(set).iter().map(|ds| ds.digest_type).collect::<Vec<_>>();
    assert_eq!(kinds(&[ds(&key, 1), ds(&key, 2), ds(&key, 4)]), [2, 4]);
    assert_eq!(kinds(&[ds(&key, 1)]), [1]);
    assert_eq!(kinds(&[ds(&key, 1), Ds { algorithm: 200, ..ds(&key, 2) }]), [1]);
    assert_eq!(kinds(&[Ds { digest_type: 5, ..ds(&key, 2) }]), [0_u8; 0]);
}

// --- Denial

/// example. with a signed and an insecure delegation, an address, a wildcard and an alias.
fn nodes() -> BTreeMap<Name, BTreeSet<u16>> {
    let nodes: [(&str, &[u16]); 7] = [
        ("example.", &[2, 6, 48]),
        ("www.example.", &[1]),
        ("alias.example.", &[5]),
        ("*.w.example.", &[1]),
        ("signed.example.", &[2, 43]),
        ("plain.example.", &[2]),
        ("dname.example.", &[39]),
    ];
    nodes.into_iter().map(|(owner, types)| (name(owner), types.iter().copied().collect())).collect()
}

fn nsec3_zone(opt_out: bool, iterations: u16) -> Zone {
    Zone::new(&name("example."), nodes(), Denial::Nsec3 { salt: vec![0xab], iterations, opt_out }, 1)
}

fn nsec_zone() -> Zone {
    Zone::new(&name("example."), nodes(), Denial::Nsec, 1)
}

fn collect(zone: &Zone, sets: &[RrSet]) -> Denials {
    Denials::collect(&zone.apex, sets, &zone.signer.keys(), NOW, &Budget::default()).0
}

fn is_proven<T>(result: &Result<T, Bogus>) -> bool {
    match result {
        Ok(_) => true,
        Err(Bogus::DenialNotProven) => false,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn each_kind_of_question_is_denied_only_where_the_whole_zone_says_so() {
    for zone in [nsec_zone(), nsec3_zone(false, 5)] {
        let denials = collect(&zone, &zone.denials);
        let no_data = |owner: &str, rtype| is_proven(&denials.no_data(&name(owner), rtype, &Budget::default()));
        for (owner, rtype, expected) in [
            ("www.example.", RecordType::MX, true),
            ("WWW.Example.", RecordType::MX, true),
            ("www.example.", RecordType::A, false),
            ("www.example.", RecordType::ANY, false),
            ("www.example.", RecordType::NSEC, false),
            ("alias.example.", RecordType::MX, false), // the CNAME would be the answer
            ("plain.example.", RecordType::DS, true),
            ("plain.example.", RecordType::A, false), // the child's to say
            ("signed.example.", RecordType::DS, false),
            ("a.plain.example.", RecordType::A, false),
            ("a.plain.example.", RecordType::DS, false),
            ("a.dname.example.", RecordType::A, false),
            ("dname.example.", RecordType::A, true),
            ("w.example.", RecordType::A, true), // empty non-terminal
            ("a.w.example.", RecordType::MX, true),
            ("a.w.example.", RecordType::A, false),
            ("example.", RecordType::DS, false), // the parent's to say
            ("example.", RecordType::MX, true),
            ("nothing.example.", RecordType::A, false), // NXDOMAIN, not NODATA
            ("www.other.", RecordType::A, false),
            (".", RecordType::A, false),
        ] {
            assert_eq!(no_data(owner, rtype), expected, "{owner} {rtype}, {:?}", zone.denial);
        }
        for (owner, expected) in [
            ("nothing.example.", true),
            ("a.www.example.", true),
            ("www.example.", false),
            ("w.example.", false),
            ("a.w.example.", false),
            ("a.plain.example.", false),
            ("a.signed.example.", false),
            ("a.dname.example.", false),
            ("other.", false),
        ] {
            let proof = denials.name_error(&name(owner), &Budget::default());
            assert_eq!(is_proven(&proof), expected, "{owner}, {:?}", zone.denial);
            assert!(!expected || proof.is_ok_and(|proof| proof.nxdomain && proof.security.is_secure()));
        }
        for (owner, cut) in [
            ("plain.example.", Some(Cut::Insecure)),
            ("signed.example.", None),
            ("www.example.", Some(Cut::NotACut)),
            ("w.example.", Some(Cut::NotACut)),
            ("nothing.example.", Some(Cut::NotACut)),
            ("a.plain.example.", None),
            ("example.", None),
        ] {
            let got = denials.cut(&name(owner), &Budget::default()).ok().map(|(cut, _)| cut);
            assert_eq!(got, cut, "{owner}, {:?}", zone.denial);
            let no_ds = is_proven(&denials.no_ds(&name(owner), &Budget::default()));
            assert_eq!(no_ds, cut == Some(Cut::Insecure), "{owner}, {:?}", zone.denial);
        }
        for (owner, encloser, expected) in [
            ("a.w.example.", "w.example.", true),
            ("b.a.w.example.", "w.example.", true),
            ("www.example.", "example.", false),
            ("w.example.", "w.example.", false),
            ("a.plain.example.", "example.", false),
            ("a.w.example.", "other.", false),
            ("a.w.example.", "example.", false), // a closer encloser exists
        ] {
            let proof = denials.wildcard_answer(&name(owner), &name(encloser), &Budget::default());
            assert_eq!(is_proven(&proof), expected, "{owner} from *.{encloser}, {:?}", zone.denial);
        }
    }
}

#[test]
fn opt_out_proves_insecurity_and_nothing_more() {
    let zone = nsec3_zone(true, 0);
    let denials = collect(&zone, &zone.denials);
    let budget = Budget::default();
    assert_eq!(denials.no_ds(&name("plain.example."), &budget).expect("proven").security, Security::Insecure);
    assert_eq!(denials.name_error(&name("nothing.example."), &budget).expect("proven").security, Security::Insecure);
    assert_eq!(denials.cut(&name("nothing.example."), &budget).expect("proven").0, Cut::Insecure);
    assert!(denials.no_ds(&name("signed.example."), &budget).is_err());
    assert!(denials.no_ds(&name("www.example."), &budget).is_err());
    let direct = denials.no_data(&name("www.example."), RecordType::MX, &budget).expect("proven");
    assert_eq!(direct.security, Security::Secure, "a record of its own needs no span");

    // What a wildcard beside an insecure delegation holds says nothing about the delegation.
    let mut nodes = nodes();
    nodes.insert(name("*.v.example."), [5].into());
    nodes.insert(name("plain.v.example."), [2].into());
    let denial = Denial::Nsec3 { salt: Vec::new(), iterations: 0, opt_out: true };
    let zone = Zone::new(&name("example."), nodes, denial, 1);
    let denials = collect(&zone, &zone.denials);
    let proof = denials.no_data(&name("plain.v.example."), RecordType::DS, &budget).expect("proven");
    assert_eq!(proof.security, Security::Insecure);
}

#[test]
fn more_nsec3_iterations_than_we_compute_make_every_denial_insecure() {
    for (iterations, expected) in
        [(limits::NSEC3_ITERATIONS, Security::Secure), (limits::NSEC3_ITERATIONS + 1, Security::Insecure)]
    {
        let zone = nsec3_zone(false, iterations);
        let denials = collect(&zone, &zone.denials);
        let (nothing, budget) = (name("nothing.example."), Budget::default());
        let proofs = [
            denials.name_error(&nothing, &budget),
            denials.no_data(&name("www.example."), RecordType::MX, &budget),
            denials.no_ds(&name("plain.example."), &budget),
            denials.wildcard_answer(&name("a.w.example."), &name("w.example."), &budget),
        ];
        for proof in proofs {
            assert_eq!(proof.expect("proven").security, expected, "{iterations} iterations");
        }
    }
}

#[test]
fn a_proof_names_the_sets_it_rests_on_and_their_least_ttl() {
    let zone = nsec_zone();
    let mut sets = vec![address("www.example.")];
    sets.extend(zone.denials.clone());
    for (seconds, set) in sets.iter_mut().enumerate() {
        set.ttl = 100 + seconds as u32;
    }
    let denials = collect(&zone, &sets);
    let proof = denials.no_data(&name("www.example."), RecordType::MX, &Budget::default()).expect("proven");
    let index = sets.iter().rposition(|set| set.name == name("www.example.")).expect("its NSEC");
    let expected = Proof { ttl: 100 + index as u32, security: Security::Secure, nxdomain: false, used: vec![index] };
    assert_eq!(proof, expected);
}

#[test]
fn compact_denial_says_which_names_do_not_exist() {
    let signer = signer();
    let made = |owner: &str, of: &[u16]| {
        let rdata = [wire_name(&child(&name(owner), "\\000")), types(of)].concat();
        signer.sign(denial_set(name(owner), RecordType::NSEC, rdata))
    };
    for (what, of, expected) in [
        ("no name (RFC 9824 §3.1)", &[46, 47, NXNAME][..], Some(true)),
        ("a name without the type", &[1, 46, 47], Some(false)),
        ("an empty non-terminal", &[46, 47], Some(false)),
        ("the type is there", &[15, 46, 47], None),
    ] {
        let sets = [made("a.example.", of)];
        let denials = Denials::collect(&name("example."), &sets, &signer.keys(), NOW, &Budget::default()).0;
        let proof = denials.no_data(&name("a.example."), RecordType::MX, &Budget::default());
        assert_eq!(proof.ok().map(|proof| proof.nxdomain), expected, "{what}");
        let absent = denials.name_error(&name("a.example."), &Budget::default());
        assert_eq!(absent.is_ok(), expected == Some(true), "{what}");
        assert!(denials.name_error(&name("b.example."), &Budget::default()).is_err(), "{what}: another name");

        let hash = nsec3_hash(&name("a.example."), &[], 0);
        let bits: Vec<u16> = of.iter().copied().filter(|rtype| *rtype != 47).collect();
        let rdata = [&[1, 0, 0, 0, 0, 20][..], &hash, &types(&bits)].concat();
        let owner = child(&name("example."), &base32hex(&hash));
        let sets = [signer.sign(denial_set(owner, RecordType::NSEC3, rdata))];
        let denials = Denials::collect(&name("example."), &sets, &signer.keys(), NOW, &Budget::default()).0;
        let proof = denials.no_data(&name("a.example."), RecordType::MX, &Budget::default());
        assert_eq!(proof.ok().map(|proof| proof.nxdomain), expected, "{what}, NSEC3");
    }
}

#[test]
fn nsec_records_that_make_no_sense_prove_nothing() {
    let signer = signer();
    let plain = types(&[1, 46, 47]);
    let link = |next: &str, types: &[u8]| [wire_name(&name(next)), types.to_vec()].concat();
    let record = |owner: &str, rdatas: &[Vec<u8>]| {
        let mut set = denial_set(name(owner), RecordType::NSEC, Vec::new());
        set.rdatas = rdatas.iter().map(|rdata| rdata.clone().into()).collect();
        signer.sign(set)
    };
    for (what, set, expected) in [
        ("a good one", record("a.example.", &[link("c.example.", &plain)]), true),
        ("the last one", record("a.example.", &[link("example.", &plain)]), true),
        ("the next name lies outside", record("a.example.", &[link("z.other.", &plain)]), false),
        ("the next name comes before", record("a.example.", &[link("*.example.", &plain)]), false),
        ("two records", record("a.example.", &[link("c.example.", &plain), link("d.example.", &plain)]), false),
        ("windows out of order", record("a.example.", &[link("c.example.", &[1, 1, 64, 0, 1, 64])]), false),
        ("an empty window", record("a.example.", &[link("c.example.", &[0, 0])]), false),
        ("a window cut short", record("a.example.", &[link("c.example.", &[0, 6, 64])]), false),
    ] {
        let denials = Denials::collect(&name("example."), &[set], &signer.keys(), NOW, &Budget::default()).0;
        let proof = denials.wildcard_answer(&name("b.example."), &name("example."), &Budget::default());
        assert_eq!(is_proven(&proof), expected, "{what}");
    }
}

#[test]
fn nsec3_records_of_unknown_kind_are_ignored_and_different_chains_do_not_add_up() {
    let zone = nsec3_zone(false, 1);
    let change = |at: usize, to: u8| -> Vec<RrSet> {
        let altered = |set: &RrSet| {
            let mut set = set.clone();
            set.rdatas[0][at] = to;
            zone.signer.sign(set)
        };
        zone.denials.iter().map(altered).collect()
    };
    let prove = |sets: &[RrSet]| {
        is_proven(&collect(&zone, sets).no_data(&name("www.example."), RecordType::MX, &Budget::default()))
    };
    assert!(prove(&zone.denials), "as it is");
    assert!(prove(&change(1, 1)), "opt-out");
    assert!(!prove(&change(0, 2)), "hash algorithm (RFC 5155 §8.1)");
    assert!(!prove(&change(1, 2)), "flags (RFC 5155 §8.2)");
    assert!(!prove(&change(6, 19)), "length of the next hash");
    let deeper: Vec<RrSet> = zone
        .denials
        .iter()
        .map(|set| zone.signer.sign(RrSet { name: child(&child(&zone.apex, "sub"), "a"), ..set.clone() }))
        .collect();
    assert!(!prove(&deeper), "owners that are no hash below the apex");

    // The closest encloser from one chain, the next closer name from another.
    let other = nsec3_zone(false, 2);
    let hash = |iterations| nsec3_hash(&name("example."), &[0xab], iterations);
    let apex = |zone: &Zone, iterations| {
        let owner = child(&zone.apex, &base32hex(&hash(iterations)));
        zone.denials.iter().find(|set| set.name == owner).expect("the apex").clone()
    };
    let truth = zone.truth(&name("nothing.example."), 1);
    let honest = zone.honest_denial(&name("nothing.example."), &truth).expect("provable");
    let others: Vec<RrSet> = honest.iter().filter(|set| **set != apex(&zone, 1)).cloned().collect();
    let mixed = [vec![apex(&other, 2)], others].concat();
    let name_error =
        |sets: &[RrSet]| is_proven(&collect(&zone, sets).name_error(&name("nothing.example."), &Budget::default()));
    assert!(name_error(&honest));
    assert!(!name_error(&mixed), "RFC 5155 §8.2");
}

#[test]
fn the_root_answers_for_its_own_ds() {
    let root = Name::root();
    let signer = Signer::new(&root, 1);
    let rdata = [wire_name(&name("com.")), types(&[2, 6, 46, 47, 48])].concat();
    let sets = [signer.sign(denial_set(root.clone(), RecordType::NSEC, rdata))];
    let denials = Denials::collect(&root, &sets, &signer.keys(), NOW, &Budget::default()).0;
    assert!(denials.no_data(&root, RecordType::DS, &Budget::default()).is_ok());
}

#[test]
fn bit_maps_read_back() {
    let all: BTreeSet<u16> = [1, 2, 15, 46, 47, 52, 255, 256, 257, 65_280, 65_535].into();
    let map = TypeBitmap::parse(&bitmap(&all)).expect("well-formed");
    assert_eq!(map.types().map(u16::from).collect::<BTreeSet<_>>(), all);
    assert!(map.has(RecordType::MX) && !map.has(RecordType::TXT));
}
