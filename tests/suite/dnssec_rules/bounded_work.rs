//! Bounded work (CVE-2023-50387 "KeyTrap", CVE-2023-50868).

use postseal::dns::Bogus;
use postseal::limits;
use postseal::resolver::budget::Budget;
use postseal::resolver::validate::{Denials, DnsKey, KeySet, verify};

use super::denial_rfc5155::{collect, nsec3_zone};
use super::{address, name, signer};
use crate::dnssec_properties::signer::NOW;
use crate::dnssec_properties::zone::child;

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
    let zone = nsec3_zone(false, limits::NSEC3_ITERATIONS);
    let mut deep = name("example.");
    for _ in 0..100 {
        deep = child(&deep, "a");
    }
    let denials = collect(&zone, &zone.denials[..1]);
    let expected = Err(Bogus::TooMuchWork("NSEC3 hashes"));
    assert_eq!(denials.name_error(&deep, &Budget::default()), expected);

    // What is spent is counted in octets hashed: at one hash for each name all labels there can be are within it.
    let cheap = nsec3_zone(false, 0);
    let denials = collect(&cheap, &cheap.denials[..1]);
    assert_eq!(denials.name_error(&deep, &Budget::default()), Err(Bogus::DenialNotProven));

    let many = vec![zone.denials[0].clone(); 100];
    let budget = Budget::default();
    let (_, reason) = Denials::collect(&zone.apex, &many, &zone.signer.keys(), NOW, &budget);
    assert_eq!(reason, Some(Bogus::TooMuchWork("NSEC and NSEC3 RRsets of one response")));
    let spent =
        limits::SIGNATURE_CHECKS_PER_LOOKUP - std::iter::from_fn(|| budget.signature_check().ok()).count() as u32;
    assert_eq!(spent, limits::DENIAL_RRSETS_PER_RESPONSE as u32);
}
