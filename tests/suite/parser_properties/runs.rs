//! Each check over its seeds, as they are and mutated.

use std::path::Path;

use super::{checks, datagrams};
use crate::dnssec_properties::dice::Dice;

/// Mutations of the seeds of each parser in an ordinary run.
const MUTATIONS: u64 = 20_000;

/// Octets that mean something to one parser or another.
const TELLING: &[u8] = b"\0\t\n\r :;,.{}[]*=-_<>\"0129AZaz\x7f\x80\xc3\xff";

/// The seeds of a parser, which the fuzzer sets out from, too.
fn seeds(parser: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(parser);
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).expect("the seeds").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a seed")).collect()
}

fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = dice.pick(seeds).clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(octets.len() + 1);
        let end = (at + dice.below(9)).min(octets.len());
        match dice.below(5) {
            0 => octets.insert(at, *dice.pick(TELLING)),
            1 => drop(octets.drain(at..end)),
            2 => octets.extend_from_within(at..end),
            3 => octets.truncate(at.max(1)),
            _ => {
                if let Some(octet) = octets.get_mut(at) {
                    *octet = *dice.pick(TELLING);
                }
            }
        }
    }
    octets
}

/// Runs `check` on the seeds and on mutations of them; `accepts` counts what the parser takes, so that a check
/// which says nothing because everything is refused is noticed.
fn run(parser: &str, check: fn(&[u8]), accepts: fn(&[u8]) -> bool) {
    let seeds = seeds(parser);
    seeds.iter().for_each(|seed| check(seed));
    let mut dice = Dice::Seed(1);
    let mut taken = 0;
    for _ in 0..MUTATIONS {
        let octets = mutated(&mut dice, &seeds);
        check(&octets);
        taken += u64::from(accepts(&octets));
    }
    assert!(taken * 50 > MUTATIONS && taken < MUTATIONS, "{parser}: {taken} of {MUTATIONS} taken");
}

#[test]
fn any_octets_are_a_netstring_that_encodes_to_them_or_none() {
    run("netstring", checks::netstring, |octets| {
        matches!(postseal::socketmap::netstring::decode(octets, 100), Ok(Some(_)))
    });
}

#[test]
fn any_key_is_no_next_hop_or_one_that_is_written_as_itself() {
    run("next_hop", checks::next_hop, |octets| postseal::names::NextHop::parse(octets).is_ok());
}

#[test]
fn any_txt_record_has_no_id_or_a_valid_one() {
    run("sts_record", checks::sts_record, |octets| postseal::policy::mta_sts::record::select([[octets]]).is_ok());
}

#[test]
fn any_policy_body_is_refused_or_makes_a_reply_that_postfix_can_read() {
    run("sts_policy", checks::sts_policy, |octets| postseal::policy::mta_sts::policy::parse(octets).is_ok());
}

#[test]
fn any_trust_anchor_file_is_refused_or_holds_anchors() {
    run("anchors", checks::anchors, |octets| {
        postseal::resolver::anchors::file::parse_anchors(&String::from_utf8_lossy(octets), "test").is_ok()
    });
}

#[test]
fn any_datagram_to_the_dns_listener_gets_a_sound_answer_or_none() {
    run("listener", datagrams::listener, |octets| octets.len() > 28 && octets[3] & 0x80 == 0);
}
