//! Signatures, hashes and bit maps as a signer of zones makes them.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::{Name, RecordType};
use postseal::resolver::rrset::{RrSet, Rrsig, wire_name};
use postseal::resolver::validate::{DnsKey, KeySet};
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};

/// The time at which everything happens.
pub const NOW: i64 = 1_780_000_000;
/// TTL of every record.
pub const TTL: u32 = 3_600;

/// Signs for a zone.
#[derive(Clone)]
pub struct Signer {
    zone: Name,
    seed: [u8; 32],
    /// The public side.
    pub key: DnsKey,
}

impl Signer {
    pub fn new(zone: &Name, seed: u8) -> Self {
        let seed = [seed; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 octets");
        let rdata = [&[1, 0, 3, 15][..], pair.public_key().as_ref()].concat();
        Self { zone: zone.clone(), seed, key: DnsKey::parse(&rdata).expect("a key") }
    }

    pub fn keys(&self) -> KeySet {
        KeySet { zone: self.zone.clone(), keys: vec![self.key.clone()] }
    }

    /// The set with one good signature.
    pub fn sign(&self, mut set: RrSet) -> RrSet {
        let wildcard = set.name.is_wildcard();
        let mut sig = Rrsig {
            covered: set.rtype,
            algorithm: 15,
            labels: (set.name.iter().count() - usize::from(wildcard)) as u8,
            original_ttl: set.ttl,
            expiration: (NOW + 86_400) as u32,
            inception: (NOW - 86_400) as u32,
            key_tag: self.key.tag,
            signer: self.zone.clone(),
            signature: Box::default(),
            ttl: set.ttl,
        };
        let mut octets = sig.head();
        for rdata in set.canonical_rdatas() {
            octets.extend_from_slice(&wire_name(&set.name));
            octets.extend_from_slice(&u16::from(set.rtype).to_be_bytes());
            octets.extend_from_slice(&[0, 1]);
            octets.extend_from_slice(&set.ttl.to_be_bytes());
            octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            octets.extend_from_slice(&rdata);
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.seed).expect("32 octets");
        sig.signature = pair.sign(&octets).as_ref().into();
        set.sigs = vec![sig];
        set
    }
}

/// An NSEC or NSEC3 RRset of one record, unsigned.
pub fn denial_set(name: Name, rtype: RecordType, rdata: Vec<u8>) -> RrSet {
    RrSet { name, rtype, ttl: TTL, rdatas: vec![rdata.into()], sigs: Vec::new() }
}

/// A type bit map (RFC 4034 §4.1.2).
pub fn bitmap(types: &BTreeSet<u16>) -> Vec<u8> {
    let mut windows: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.to_be_bytes();
        let bits = windows.entry(window).or_default();
        bits.resize(bits.len().max(usize::from(low / 8) + 1), 0);
        bits[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    windows.into_iter().flat_map(|(window, bits)| [vec![window, bits.len() as u8], bits].concat()).collect()
}

/// RFC 5155 §5.
pub fn nsec3_hash(name: &Name, salt: &[u8], iterations: u16) -> [u8; 20] {
    let mut octets = wire_name(name);
    for _ in 0..=iterations {
        octets.extend_from_slice(salt);
        octets = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets).as_ref().to_vec();
    }
    octets.try_into().expect("20 octets")
}

/// The hash before, itself, or the one after.
pub fn neighbour(mut hash: [u8; 20], step: i8) -> [u8; 20] {
    let mut carry = i16::from(step);
    for octet in hash.iter_mut().rev() {
        let sum = i16::from(*octet) + carry;
        (*octet, carry) = (sum.rem_euclid(256) as u8, sum.div_euclid(256));
    }
    hash
}

/// RFC 4648 §7, without padding, lower case.
pub fn base32hex(octets: &[u8; 20]) -> String {
    let bit = |at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    let digit = |at: usize| (0..5).fold(0, |value, offset| value << 1 | bit(at * 5 + offset));
    (0..32).map(|at| char::from(b"0123456789abcdefghijklmnopqrstuv"[usize::from(digit(at))])).collect()
}
