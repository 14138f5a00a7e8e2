//! Denial: the oddities of NSEC (RFC 4034 §4), NSEC3 (RFC 5155, 9276) and compact denial (RFC 9824) that honest zones
//! never show.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::{Name, RecordType};
use postseal::dns::{Bogus, Security};
use postseal::limits;
use postseal::resolver::budget::Budget;
use postseal::resolver::rrset::{RrSet, wire_name};
use postseal::resolver::validate::{Cut, Denials, Proof, TypeBitmap};

use super::{address, name, signer, types};
use crate::dnssec_properties::signer::{NOW, Signer, base32hex, bitmap, denial_set, nsec3_hash};
use crate::dnssec_properties::zone::{Denial, NXNAME, Zone, child};

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

pub fn nsec3_zone(opt_out: bool, iterations: u16) -> Zone {
    Zone::new(&name("example."), nodes(), Denial::Nsec3 { salt: vec![0xab], iterations, opt_out }, 1)
}

fn nsec_zone() -> Zone {
    Zone::new(&name("example."), nodes(), Denial::Nsec, 1)
}

pub fn collect(zone: &Zone, sets: &[RrSet]) -> Denials {
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
