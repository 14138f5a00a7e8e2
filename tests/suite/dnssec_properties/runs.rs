//! The properties over a range of seeds; `POSTSEAL_PROPERTY_SEEDS=FROM..TO` runs others than the few of an
//! ordinary run.

use std::str::FromStr;

use hickory_proto::rr::{Name, RecordType};
use postseal::resolver::budget::Budget;
use postseal::resolver::validate::verify;

use super::dice::Dice;
use super::octets::check_octets;
use super::properties::{check_completeness, check_soundness, world};
use super::signer::{NOW, TTL};
use super::zone::{self, Zone};

/// The seeds to run, from the environment or as given.
fn seeds(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("POSTSEAL_PROPERTY_SEEDS") else { return default };
    let (from, to) = text.split_once("..").expect("FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn what_any_records_of_a_zone_prove_is_true_of_it() {
    let (mut questions, mut proofs) = (0, 0);
    for seed in seeds(0..30) {
        let mut dice = Dice::Seed(seed);
        let world = world(&mut dice);
        for _ in 0..10 {
            let counts = check_soundness(&mut dice, &world).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            questions += counts.0;
            proofs += counts.1;
        }
    }
    println!("{questions} questions, {proofs} proofs");
    assert!(proofs * 20 > questions, "proofs are rare: {proofs} of {questions}; the property says little");
}

#[test]
fn the_records_an_honest_server_sends_prove_what_they_should() {
    let mut proofs = 0;
    for seed in seeds(0..100) {
        let mut dice = Dice::Seed(seed);
        let world = world(&mut dice);
        proofs += check_completeness(&mut dice, &world).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    println!("{proofs} proofs");
}

#[test]
fn a_signed_set_verifies_and_any_change_to_what_is_signed_does_not() {
    let apex = Name::from_str("example.").expect("a name");
    for seed in seeds(0..40) {
        let mut dice = Dice::Seed(seed);
        let zone = Zone::random(&mut dice, &apex, 1);
        let keys = zone.signer.keys();
        for set in zone.positive_sets() {
            let good = verify(&set, &keys, NOW, &Budget::default()).expect("verifies");
            assert_eq!((good.wildcard, good.ttl), (None, TTL), "seed {seed}");
            let mut forged = set.clone();
            match dice.below(10) {
                0 => forged.name = zone::child(&set.name, "x"),
                1 => forged.rtype = RecordType::from(99),
                2 => forged.rdatas.push(vec![1, 2, 3, 4].into()),
                3 => {
                    let at = dice.below(set.rdatas[0].len());
                    forged.rdatas[0][at] ^= 0x81;
                }
                4 => forged.sigs[0].original_ttl += 1,
                5 => forged.sigs[0].expiration += 1,
                6 => forged.sigs[0].inception -= 1,
                7 => forged.sigs[0].labels += 1,
                8 => forged.sigs[0].signer = zone::child(&apex, "a"),
                _ => {
                    let at = dice.below(64);
                    forged.sigs[0].signature[at] ^= 1;
                }
            }
            // A name below a wildcard's parent is what the wildcard's signature is for.
            if let Ok(verified) = verify(&forged, &keys, NOW, &Budget::default()) {
                assert!(set.name.is_wildcard() && verified.wildcard.is_some(), "seed {seed}: forged {forged:?}");
            }
        }
    }
}

/// Messages of BIND for a signed zone, from which the fuzzer sets out too.
fn real_messages() -> Vec<Vec<u8>> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/message");
    let entries = std::fs::read_dir(directory).expect("the seeds");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a message")).collect()
}

/// A message with a few octets changed, cut out, doubled or taken from another.
fn mutated(dice: &mut Dice, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = dice.pick(messages).clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(octets.len());
        let end = (at + 1 + dice.below(12)).min(octets.len());
        match dice.below(6) {
            0 => octets[at] ^= 1 << dice.below(8),
            1 => octets[at] = *dice.pick(&[0, 1, 0x3f, 0x40, 0xc0, 0xff]),
            2 => drop(octets.drain(at..end)),
            3 => {
                let copy = octets[at..end].to_vec();
                octets.splice(at..at, copy);
            }
            4 => octets.truncate(at.max(1)),
            _ => {
                let other = dice.pick(messages);
                let from = dice.below(other.len());
                octets.splice(at..end, other[from..].iter().take(end - at).copied());
            }
        }
        if octets.is_empty() {
            octets.push(0);
        }
    }
    octets
}

#[test]
fn no_octets_of_a_server_make_validation_panic() {
    let messages = real_messages();
    assert!(messages.len() >= 10);
    for message in &messages {
        check_octets(message);
    }
    for seed in seeds(0..2_000) {
        let octets = mutated(&mut Dice::Seed(seed), &messages);
        check_octets(&octets);
    }
}
