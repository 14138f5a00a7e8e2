//! From a zone's keys to an RRset: signatures (RFC 4034 §3.1.8, RFC 4035 §5.3).

use hickory_proto::rr::{Name, RecordType};

use super::crypto;
use super::keys::{DnsKey, KeySet};
use crate::clock::UnixTime;
use crate::dns::Bogus;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::{RrSet, Rrsig, wire_name};

/// What a good signature tells of its RRset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Seconds for which the RRset may be used: the least of its TTL, the RRSIG's TTL, the original TTL and the
    /// rest of the signature's life (RFC 4035 §5.3.3).
    pub ttl: u32,
    /// The closest encloser `ce` where the RRset was expanded from `*.ce` (RFC 4035 §5.3.4): then it is secure
    /// only together with a proof that nothing matches more closely.
    pub wildcard: Option<Name>,
    /// Tag of the key that signed.
    pub tag: u16,
}

/// Verifies `rrset` with `keys`; any one good signature is enough. The error is the reason that tells most.
pub fn verify(rrset: &RrSet, keys: &KeySet, now: UnixTime, budget: &Budget) -> Result<Verified, Bogus> {
    let mut worst = Bogus::MissingSignature { name: rrset.name.clone(), rtype: rrset.rtype };
    let mut canonical = None;
    let mut tried = 0;
    for sig in &rrset.sigs {
        let candidate = match Candidate::check(rrset, sig, keys, now) {
            Ok(candidate) => candidate,
            Err(reason) => {
                worst = more_telling(worst, reason);
                continue;
            }
        };
        if tried == limits::RRSIGS_PER_RRSET {
            return Err(more_telling(worst, Bogus::TooMuchWork("signatures of one RRset")));
        }
        tried += 1;
        let canonical = canonical.get_or_insert_with(|| rrset.canonical_rdatas());
        let octets = signed_octets(rrset, sig, &candidate.signed_name, canonical);
        // KeyTrap: keys with the same tag are tried only so far (CVE-2023-50387).
        for key in candidate.keys.iter().take(limits::KEYS_PER_TAG) {
            budget.signature_check()?;
            if crypto::verifies(key, &octets, &sig.signature) {
                let left = sig.expiration.wrapping_sub(now_serial(now));
                let ttl = rrset.ttl.min(sig.ttl).min(sig.original_ttl).min(left);
                return Ok(Verified { ttl, wildcard: candidate.wildcard, tag: sig.key_tag });
            }
            budget.failed_check()?;
        }
        worst = more_telling(worst, bad_signature(rrset, sig));
    }
    Err(worst)
}

/// A signature that is worth the cost of checking.
struct Candidate<'a> {
    /// Keys with its tag and algorithm.
    keys: Vec<&'a DnsKey>,
    /// The owner as it was signed: with `*` in place of what the wildcard stood for.
    signed_name: Vec<u8>,
    wildcard: Option<Name>,
}

impl<'a> Candidate<'a> {
    /// All of RFC 4035 §5.3.1 that costs nothing.
    fn check(rrset: &RrSet, sig: &Rrsig, keys: &'a KeySet, now: UnixTime) -> Result<Self, Bogus> {
        if sig.signer != keys.zone || !keys.zone.zone_of(&rrset.name) {
            return Err(Bogus::WrongSigner { signer: sig.signer.clone() });
        }
        if sig.covered != rrset.rtype {
            return Err(Bogus::MissingSignature { name: rrset.name.clone(), rtype: rrset.rtype });
        }
        let wildcard = expansion(rrset, sig, &keys.zone).map_err(|Misplaced| bad_signature(rrset, sig))?;
        let matching: Vec<&DnsKey> = keys
            .keys
            .iter()
            .filter(|key| key.tag == sig.key_tag && key.algorithm == sig.algorithm && key.is_usable())
            .collect();
        if matching.is_empty() {
            return Err(Bogus::UnknownKey { tag: sig.key_tag });
        }
        check_time(sig, now).map_err(|problem| match problem {
            TimeProblem::Backwards => bad_signature(rrset, sig),
            TimeProblem::Expired(at) => Bogus::Expired { at, tag: sig.key_tag },
            TimeProblem::NotYet(from) => Bogus::NotYetValid { from, tag: sig.key_tag },
        })?;
        let signed_name = match &wildcard {
            None => wire_name(&rrset.name),
            Some(encloser) => [&[1, b'*'][..], &wire_name(encloser)].concat(),
        };
        Ok(Self { keys: matching, signed_name, wildcard })
    }
}

/// A labels field that no signature over this RRset can have.
struct Misplaced;

/// The closest encloser where the labels field says that the RRset comes from a wildcard (RFC 4035 §5.3.2).
fn expansion(rrset: &RrSet, sig: &Rrsig, zone: &Name) -> Result<Option<Name>, Misplaced> {
    let asterisk = usize::from(rrset.name.is_wildcard());
    // `Name::num_labels` wraps at 256 and discounts `*` as well; the count is ours to be sure of.
    let owner = rrset.name.iter().count() - asterisk;
    let labels = usize::from(sig.labels);
    if labels == owner {
        return Ok(None);
    }
    // More labels than the owner has: RFC 4035 §5.3.1. Fewer than the zone has: the wildcard would lie outside
    // of it. Types that belong to the name itself do not come from wildcards: NSEC and NSEC3 (RFC 4035 §2.3,
    // RFC 5155 §3), DS and NS, which would make a zone cut (RFC 4592 §4.2, §4.6), and what is only at the apex.
    let fixed = matches!(
        rrset.rtype,
        RecordType::NSEC
            | RecordType::NSEC3
            | RecordType::DS
            | RecordType::NS
            | RecordType::SOA
            | RecordType::DNSKEY
            | RecordType::NSEC3PARAM
    );
    if labels > owner || labels < zone.iter().count() || fixed {
        return Err(Misplaced);
    }
    Ok(Some(rrset.name.trim_to(labels)))
}

enum TimeProblem {
    Expired(UnixTime),
    NotYet(UnixTime),
    Backwards,
}

/// RFC 4034 §3.1.5: both ends inclusive, in serial number arithmetic (RFC 1982).
fn check_time(sig: &Rrsig, now: UnixTime) -> Result<(), TimeProblem> {
    let serial = now_serial(now);
    let until_end = sig.expiration.wrapping_sub(serial).cast_signed();
    let since_begin = serial.wrapping_sub(sig.inception).cast_signed();
    if sig.expiration.wrapping_sub(sig.inception).cast_signed() < 0 {
        Err(TimeProblem::Backwards)
    } else if until_end < 0 {
        Err(TimeProblem::Expired(now + i64::from(until_end)))
    } else if since_begin < 0 {
        Err(TimeProblem::NotYet(now - i64::from(since_begin)))
    } else {
        Ok(())
    }
}

/// Seconds since 1970 modulo 2³².
fn now_serial(now: UnixTime) -> u32 {
    (now.rem_euclid(1 << 32)) as u32
}

/// What is signed: the RRSIG without its signature, then each record in canonical form and order, with the
/// original TTL (RFC 4034 §3.1.8.1).
fn signed_octets(rrset: &RrSet, sig: &Rrsig, owner: &[u8], canonical: &[Vec<u8>]) -> Vec<u8> {
    let mut out = sig.head();
    for rdata in canonical {
        out.extend_from_slice(owner);
        out.extend_from_slice(&u16::from(rrset.rtype).to_be_bytes());
        out.extend_from_slice(&[0, 1]); // class IN
        out.extend_from_slice(&sig.original_ttl.to_be_bytes());
        // RDATA came with a length of 16 bits, and lower-casing keeps it.
        out.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        out.extend_from_slice(rdata);
    }
    out
}

fn bad_signature(rrset: &RrSet, sig: &Rrsig) -> Bogus {
    Bogus::BadSignature { name: rrset.name.clone(), rtype: rrset.rtype, tag: sig.key_tag }
}

/// Of two reasons, the one an operator can do more with: the latest end, the earliest begin, then the first.
fn more_telling(first: Bogus, second: Bogus) -> Bogus {
    let better = match (&first, &second) {
        (Bogus::Expired { at: one, .. }, Bogus::Expired { at: other, .. }) => other > one,
        (Bogus::NotYetValid { from: one, .. }, Bogus::NotYetValid { from: other, .. }) => other < one,
        _ => weight(&second) > weight(&first),
    };
    if better { second } else { first }
}

fn weight(reason: &Bogus) -> u8 {
    match reason {
        Bogus::TooMuchWork(_) => 6,
        Bogus::Expired { .. } => 5,
        Bogus::NotYetValid { .. } => 4,
        Bogus::BadSignature { .. } => 3,
        Bogus::UnknownKey { .. } => 2,
        Bogus::WrongSigner { .. } => 1,
        Bogus::MissingSignature { .. }
        | Bogus::NoDnskey
        | Bogus::NoMatchingKey { .. }
        | Bogus::AnchorsRevoked
        | Bogus::DenialNotProven => 0,
    }
}
