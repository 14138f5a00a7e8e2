//! The chain of trust (RFC 4035 §5.2, RFC 4509, 5011, 6840).

use hickory_proto::rr::RecordType;
use postseal::dns::Bogus;
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::{RrSet, wire_name};
use postseal::resolver::validate::{DnsKey, Ds, Trust, ZoneKeys, usable_ds, verify_dnskeys};
use ring::digest;

use super::{name, set, signer};
use crate::dnssec_properties::signer::{NOW, Signer};

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
