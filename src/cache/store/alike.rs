//! Decoding MTA-STS branches of which many have the same policy: each policy is decoded once.
//!
//! A start reads a hundred thousand of them, and most of what decoding takes is for the policy. So the octets of the
//! policy are found first; whatever is not found at once is decoded in full.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cache::entry::{FetchFailure, RecordCheck};
use crate::cache::{HeldPolicy, StsEntry, StsPolicy};
use crate::clock::UnixTime;

/// Policies by their octets.
#[derive(Default)]
pub(super) struct Alike(HashMap<Box<[u8]>, Arc<StsPolicy>>);

/// [`StsEntry`], as it is stored, with the policy left out.
#[derive(Deserialize)]
struct Rest {
    held: Option<RestOfHeld>,
    record: RecordCheck,
    failure: Option<Box<FetchFailure>>,
}

/// [`HeldPolicy`], likewise.
#[derive(Deserialize)]
struct RestOfHeld {
    id: Box<str>,
    fetched_at: UnixTime,
    _policy: IgnoredAny,
}

impl Alike {
    /// The entry in this MessagePack, where it has a policy whose octets can be found.
    pub fn decode(&mut self, packed: &[u8]) -> Option<StsEntry> {
        let octets = policy_in(packed)?;
        let rest: Rest = rmp_serde::from_slice(packed).ok()?;
        let held = rest.held?;
        let policy = match self.0.get(octets) {
            Some(policy) => Arc::clone(policy),
            None => {
                let policy: Arc<StsPolicy> = Arc::new(rmp_serde::from_slice(octets).ok()?);
                self.0.insert(octets.into(), Arc::clone(&policy));
                policy
            }
        };
        let held = HeldPolicy { id: held.id, fetched_at: held.fetched_at, policy };
        Some(StsEntry { policy: Some(Arc::new(held)), record: rest.record, failure: rest.failure })
    }
}

/// The octets of the policy: third in the array that is first in the array of an entry.
fn policy_in(packed: &[u8]) -> Option<&[u8]> {
    const ARRAY_OF_THREE: u8 = 0x93;
    let [ARRAY_OF_THREE, ARRAY_OF_THREE, rest @ ..] = packed else { return None };
    let policy = after_value(after_value(rest)?)?;
    policy.get(..policy.len() - after_value(policy)?.len())
}

/// What follows the first value. Knows arrays, texts, integers and nil, of which policies consist.
fn after_value(octets: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut values) = (octets, 1usize);
    while values > 0 {
        values -= 1;
        let (marker, after) = rest.split_first()?;
        let (octets, inside) = match marker {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 => (0, 0),
            0x90..=0x9f => (0, usize::from(marker & 0x0f)),
            0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xce | 0xd2 => (4, 0),
            0xcf | 0xd3 => (8, 0),
            0xd9 => (1 + usize::from(*after.first()?), 0),
            0xda => (2 + usize::from(u16::from_be_bytes(*after.first_chunk()?)), 0),
            0xdc => (2, usize::from(u16::from_be_bytes(*after.first_chunk()?))),
            _ => return None,
        };
        rest = after.get(octets..)?;
        values += inside;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::StsMode;
    use crate::cache::entry::{PolicyLine, RecordOutcome};
    use crate::names::MxPattern;

    fn entry(id: &str, hosts: usize, value: usize) -> StsEntry {
        let mx = (0..hosts).map(|n| MxPattern::parse(&format!("mx{n}.example")).expect("a pattern")).collect();
        let lines = vec![PolicyLine { key: "x".into(), value: "v".repeat(value).into() }; hosts];
        let policy = StsPolicy { mode: StsMode::Enforce, max_age: 604_800, mx, lines: lines.into() };
        StsEntry {
            policy: Some(HeldPolicy { id: id.into(), fetched_at: 1_800_000_000, policy: policy.into() }.into()),
            record: RecordCheck { at: -1, ttl: 300, outcome: RecordOutcome::Id(id.into()), failures: 70_000 },
            failure: None,
        }
    }

    #[test]
    fn equal_policies_are_decoded_once_and_right() {
        let mut alike = Alike::default();
        let mut decode = |entry: &StsEntry| alike.decode(&rmp_serde::to_vec(entry).expect("encodes"));
        for (hosts, value) in [(0, 0), (1, 1), (3, 31), (15, 32), (16, 255), (300, 256)] {
            let (one, other) = (entry("a", hosts, value), entry(&"b".repeat(32), hosts, value));
            let (first, second) = (decode(&one).expect("found"), decode(&other).expect("found"));
            assert_eq!((&first, &second), (&one, &other));
            let policy = |entry: &StsEntry| Arc::clone(&entry.policy.as_ref().expect("a policy").policy);
            assert!(Arc::ptr_eq(&policy(&first), &policy(&second)), "{hosts} hosts");
        }
        let none = StsEntry { policy: None, ..entry("a", 1, 1) };
        assert!(decode(&none).is_none(), "left to others");
    }

    #[test]
    fn what_is_cut_or_changed_is_never_something_else() {
        let packed = rmp_serde::to_vec(&entry("a", 3, 40)).expect("encodes");
        for at in 0..packed.len() {
            assert!(Alike::default().decode(&packed[..at]).is_none(), "cut at {at}");
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = packed.clone();
                changed[at] ^= flip;
                if let Some(decoded) = Alike::default().decode(&changed) {
                    assert_eq!(rmp_serde::from_slice(&changed).ok(), Some(decoded), "byte {at} xor {flip}");
                }
            }
        }
    }
}
