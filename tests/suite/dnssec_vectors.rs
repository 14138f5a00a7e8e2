//! Signatures and digests made by others: a zone signed by BIND with every algorithm, and the examples of
//! RFC 4034, 4509, 5155, 5702, 6605 and 8080.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::collections::BTreeMap;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use hickory_proto::rr::{Name, RecordType};
use postseal::dns::Bogus;
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::{RrSet, Rrsig};
use postseal::resolver::validate::{DnsKey, Ds, KeySet, Trust, ZoneKeys, verify, verify_dnskeys};

use crate::dnssec_properties::signer::{base32hex, nsec3_hash};

const NOW: i64 = 1_780_000_000;

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

fn set(owner: &str, rtype: RecordType, ttl: u32, rdatas: &[Vec<u8>]) -> RrSet {
    let rdatas = rdatas.iter().map(|rdata| rdata.clone().into()).collect();
    RrSet { name: name(owner).to_lowercase(), rtype, ttl, rdatas, sigs: Vec::new() }
}

/// The RRsets of the zone that BIND signed, signatures beside.
fn zone_by_bind() -> Vec<RrSet> {
    let mut sets: BTreeMap<(Name, u16), RrSet> = BTreeMap::new();
    let mut sigs = Vec::new();
    for line in include_str!("fixtures/signed-by-bind.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split(' ');
        let mut field = || fields.next().expect("four fields");
        let (owner, rtype) = (field(), field().parse::<u16>().expect("a type"));
        let (ttl, rdata) = (field().parse::<u32>().expect("a TTL"), HEXLOWER.decode(field().as_bytes()).expect("hex"));
        let rtype = RecordType::from(rtype);
        if rtype == RecordType::RRSIG {
            sigs.push((name(owner).to_lowercase(), Rrsig::parse(&rdata, ttl).expect("an RRSIG")));
            continue;
        }
        let key = (name(owner).to_lowercase(), u16::from(rtype));
        sets.entry(key).or_insert_with(|| set(owner, rtype, ttl, &[])).rdatas.push(rdata.into());
    }
    for (owner, sig) in sigs {
        sets.get_mut(&(owner, u16::from(sig.covered))).expect("the RRset it covers").sigs.push(sig);
    }
    sets.into_values().collect()
}

#[test]
fn every_rrset_that_bind_signed_verifies_with_each_algorithm_and_ds_digest() {
    let apex = name("example.");
    let zone = zone_by_bind();
    let of_apex = |rtype| zone.iter().find(|set| set.name == apex && set.rtype == rtype).expect("at the apex");
    let dnskey = of_apex(RecordType::DNSKEY);
    for (algorithm, digest_type) in [(5, 1), (7, 2), (8, 4), (8, 1), (10, 2), (13, 2), (14, 4), (15, 2)] {
        let row = format!("algorithm {algorithm}, digest {digest_type}");
        let mut trust = Trust::from_sets([of_apex(RecordType::DS)]);
        trust.ds.retain(|ds| (ds.algorithm, ds.digest_type) == (algorithm, digest_type));
        let budget = Budget::default();
        let Ok(ZoneKeys::Secure { keys, ttl }) = verify_dnskeys(&apex, dnskey, &trust, NOW, &budget) else {
            panic!("{row}: no keys");
        };
        assert_eq!((keys.keys.len(), ttl), (7, 3_600), "{row}");
        let mut verified = 0;
        for set in zone.iter().filter(|set| !set.sigs.is_empty()) {
            let mut only = set.clone();
            only.sigs.retain(|sig| sig.algorithm == algorithm);
            let good = verify(&only, &keys, NOW, &Budget::default()).unwrap_or_else(|reason| panic!("{row}: {reason}"));
            assert_eq!(good.wildcard, None, "{row}: {} {}", set.name, set.rtype);
            let mut forged = only.clone();
            forged.rdatas.push([7; 4].into());
            assert!(verify(&forged, &keys, NOW, &Budget::default()).is_err(), "{row}: {} {}", set.name, set.rtype);
            verified += 1;
        }
        assert_eq!(verified, 54, "{row}");
    }
}

#[test]
fn a_wildcard_that_bind_signed_verifies_as_expanded() {
    let apex = name("example.");
    let zone = zone_by_bind();
    let dnskey = zone.iter().find(|set| set.rtype == RecordType::DNSKEY).expect("keys");
    let keys = dnskey.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)).collect();
    let keys = KeySet { zone: apex, keys };
    let mut expanded =
        zone.iter().find(|set| set.name.is_wildcard() && set.rtype == RecordType::A).expect("a wildcard").clone();
    expanded.name = name("two.labels.wild.example.");
    let good = verify(&expanded, &keys, NOW, &Budget::default()).expect("verifies");
    assert_eq!(good.wildcard, Some(name("wild.example.")));
    expanded.name = name("elsewhere.example.");
    assert!(matches!(verify(&expanded, &keys, NOW, &Budget::default()), Err(Bogus::BadSignature { .. })));
}

/// An example of an RFC: key, DS (tag, type, digest), and a signed RRset.
struct Example {
    rfc: &'static str,
    zone: &'static str,
    flags: u16,
    algorithm: u8,
    key: &'static str,
    tag: u16,
    ds: Option<(u8, &'static str)>,
    owner: &'static str,
    rtype: RecordType,
    rdata: &'static [u8],
    times: (u32, u32),
    signature: &'static str,
}

const MAIL: &[u8] = b"\x00\x0a\x04mail\x07example\x03com\x00";

const EXAMPLES: [Example; 5] = [
    Example {
        rfc: "RFC 5702 §6.2",
        zone: "example.net.",
        flags: 256,
        algorithm: 10,
        key: "AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13tOnD9u/1kTg7cV6rklMrZDtJCQ5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL",
        tag: 3740,
        ds: None,
        owner: "www.example.net.",
        rtype: RecordType::A,
        rdata: &[192, 0, 2, 91],
        times: (1_893_456_000, 946_684_800),
        signature: "tsb4wnjRUDnB1BUi+t6TMTXThjVnG+eCkWqjvvjhzQL1d0YRoOe0CbxrVDYd0xDtsuJRaeUw1ep94PzEWzr0iGYgZBWm/zpq+9fOuagYJRfDqfReKBzMweOLDiNa8iP5g9vMhpuv6OPlvpXwm9Sa9ZXIbNl1MBGk0fthPgxdDLw=",
    },
    Example {
        rfc: "RFC 6605 §6.1",
        zone: "example.net.",
        flags: 257,
        algorithm: 13,
        key: "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
        tag: 55648,
        ds: Some((2, "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17")),
        owner: "www.example.net.",
        rtype: RecordType::A,
        rdata: &[192, 0, 2, 1],
        times: (1_284_026_679, 1_281_607_479),
        signature: "qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
    },
    Example {
        rfc: "RFC 6605 §6.2",
        zone: "example.net.",
        flags: 257,
        algorithm: 14,
        key: "xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8/uX45NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40",
        tag: 10771,
        ds: Some((
            4,
            "72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6",
        )),
        owner: "www.example.net.",
        rtype: RecordType::A,
        rdata: &[192, 0, 2, 1],
        times: (1_284_027_625, 1_281_608_425),
        signature: "/L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuzWTSSPdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm",
    },
    Example {
        rfc: "RFC 8080 §6.1, first",
        zone: "example.com.",
        flags: 257,
        algorithm: 15,
        key: "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
        tag: 3613,
        ds: Some((2, "3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b")),
        owner: "example.com.",
        rtype: RecordType::MX,
        rdata: MAIL,
        times: (1_440_021_600, 1_438_207_200),
        signature: "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
    },
    Example {
        rfc: "RFC 8080 §6.1, second",
        zone: "example.com.",
        flags: 257,
        algorithm: 15,
        key: "zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs=",
        tag: 35217,
        ds: Some((2, "401781b934e392de492ec77ae2e15d70f6575a1c0bc59c5275c04ebe80c6614c")),
        owner: "example.com.",
        rtype: RecordType::MX,
        rdata: MAIL,
        times: (1_440_021_600, 1_438_207_200),
        signature: "zXQ0bkYgQTEFyfLyi9QoiY6D8ZdYo4wyUhVioYZXFdT410QPRITQSqJSnzQoSm5poJ7gD7AQR0O7KuI5k2pcBg==",
    },
];

#[test]
fn the_examples_of_the_rfcs_verify() {
    for example in &EXAMPLES {
        let row = example.rfc;
        let public = BASE64.decode(example.key.as_bytes()).expect("base64");
        let rdata = [&example.flags.to_be_bytes()[..], &[3, example.algorithm], &public].concat();
        let key = DnsKey::parse(&rdata).expect("a key");
        assert_eq!(key.tag, example.tag, "{row}");
        assert_eq!(key.rdata(), rdata, "{row}");
        let zone = name(example.zone);
        if let Some((digest_type, digest)) = example.ds {
            let digest = HEXLOWER.decode(digest.as_bytes()).expect("hex").into();
            let mut ds = Ds { tag: key.tag, algorithm: key.algorithm, digest_type, digest };
            assert!(key.matches_any(&zone, &[ds.clone()]), "{row}: DS");
            ds.digest[0] ^= 1;
            assert!(!key.matches_any(&zone, &[ds]), "{row}: forged DS");
        }
        let mut signed = set(example.owner, example.rtype, 3_600, &[example.rdata.to_vec()]);
        signed.sigs.push(Rrsig {
            covered: example.rtype,
            algorithm: example.algorithm,
            labels: signed.name.iter().count() as u8,
            original_ttl: 3_600,
            expiration: example.times.0,
            inception: example.times.1,
            key_tag: example.tag,
            signer: zone.clone(),
            signature: BASE64.decode(example.signature.as_bytes()).expect("base64").into(),
            ttl: 3_600,
        });
        let keys = KeySet { zone, keys: vec![key] };
        let now = i64::from(example.times.1) + 1;
        let good = verify(&signed, &keys, now, &Budget::default()).unwrap_or_else(|reason| panic!("{row}: {reason}"));
        assert_eq!((good.tag, good.ttl), (example.tag, 3_600), "{row}");
    }
}

#[test]
fn the_ds_examples_of_rfc_4034_and_rfc_4509_match_their_key() {
    let public = "AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZDRD99WYwYqUSdjMmmAphXdvxegXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw==";
    let rdata = [&[1, 0, 3, 5][..], &BASE64.decode(public.as_bytes()).expect("base64")].concat();
    let key = DnsKey::parse(&rdata).expect("a key");
    for (digest_type, digest) in [
        (1, "2bb183af5f22588179a53b0a98631fad1a292118"),
        (2, "d4b7d520e7bb5f0f67674a0cceb1e3e0614b93c4f9e99b8383f6a1e4469da50a"),
    ] {
        let digest = HEXLOWER.decode(digest.as_bytes()).expect("hex");
        let ds = Ds { tag: 60485, algorithm: 5, digest_type, digest: digest.into() };
        assert!(key.matches_any(&name("dskey.example.com."), &[ds]), "digest type {digest_type}");
    }
}

#[test]
fn the_hashes_of_rfc_5155_appendix_a_come_out() {
    for (owner, hash) in [
        ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
        ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
        ("ai.example.", "gjeqe526plbf1g8mklp59enfd789njgi"),
        ("ns1.example.", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
        ("w.example.", "k8udemvp1j2f7eg6jebps17vp3n8i58h"),
        ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ("x.y.w.example.", "2vptu5timamqttgl4luu9kg21e0aor3s"),
        ("xx.example.", "t644ebqk9bibcna874givr6joj62mlhv"),
    ] {
        assert_eq!(base32hex(&nsec3_hash(&name(owner), &[0xaa, 0xbb, 0xcc, 0xdd], 12)), hash, "{owner}");
    }
}
