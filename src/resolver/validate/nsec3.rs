//! Denial by NSEC3 (RFC 5155 §8, RFC 9276).

use data_encoding::BASE32_DNSSEC;
use hickory_proto::rr::{Name, RecordType};
use ring::digest;

use super::denial::{Cut, Denier, Presence, Proof, Source, wildcard_of};
use super::types::TypeBitmap;
use crate::dns::Bogus;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::{RrSet, wire_name};

/// A hashed owner name: SHA-1, the only algorithm there is (RFC 5155 §11).
type Hash = [u8; 20];

/// How a chain hashes its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    iterations: u16,
    salt: Box<[u8]>,
}

/// A verified NSEC3 record.
#[derive(Clone, Debug)]
pub(super) struct Nsec3 {
    owner: Hash,
    next: Hash,
    opt_out: bool,
    types: TypeBitmap,
    source: Source,
}

/// The verified NSEC3 records of a response that share their parameters.
#[derive(Clone, Debug)]
pub(super) struct Nsec3Chain {
    zone: Name,
    parameters: Parameters,
    records: Vec<Nsec3>,
}

impl Parameters {
    /// Blocks of SHA-1 that the hash of a name of so many octets takes.
    fn blocks(&self, name: usize) -> u32 {
        // FIPS 180-4 §5.1.1: one octet and a length of eight are added, and the last block is filled up.
        let of = |octets: usize| ((octets + self.salt.len() + 9).div_ceil(64)) as u32;
        of(name) + u32::from(self.iterations) * of(Hash::default().len())
    }

    /// RFC 5155 §5.
    fn hash(&self, name: &Name, budget: &Budget) -> Result<Hash, Bogus> {
        let mut octets = wire_name(name);
        budget.nsec3_hash(self.blocks(octets.len()))?;
        let mut hash = Hash::default();
        for _ in 0..=self.iterations {
            octets.extend_from_slice(&self.salt);
            let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets);
            hash.copy_from_slice(digest.as_ref());
            octets.clear();
            octets.extend_from_slice(&hash);
        }
        Ok(hash)
    }
}

impl Nsec3 {
    /// Reads one record of a verified RRset. `None` for what must be ignored: unknown hash algorithms and flags
    /// (RFC 5155 §8.1, §8.2), owners that are not a hash right below the apex, hashes of another length.
    pub(super) fn parse(zone: &Name, set: &RrSet, rdata: &[u8], source: Source) -> Option<(Parameters, Self)> {
        let ([1, flags @ (0 | 1), i0, i1, salt_length], rest) = rdata.split_first_chunk::<5>()? else { return None };
        let (salt, rest) = rest.split_at_checked(usize::from(*salt_length))?;
        let (20, rest) = rest.split_first()? else { return None };
        let (next, types) = rest.split_first_chunk::<20>()?;
        if set.name.iter().count() != zone.iter().count() + 1 || !zone.zone_of(&set.name) {
            return None;
        }
        let record = Self {
            owner: from_base32hex(set.name.iter().next()?)?,
            next: *next,
            opt_out: *flags == 1,
            types: TypeBitmap::parse(types)?,
            source,
        };
        Some((Parameters { iterations: u16::from_be_bytes([*i0, *i1]), salt: salt.into() }, record))
    }

    /// Whether `hash` lies strictly between owner and next; the last record wraps around to the first.
    fn covers(&self, hash: &Hash) -> bool {
        let (after_owner, before_next) = (self.owner < *hash, *hash < self.next);
        if self.owner < self.next {
            after_owner && before_next
        } else {
            // The only record of a chain points to itself and covers all but itself.
            (after_owner || before_next) && self.owner != *hash
        }
    }
}

/// What the records tell of a name.
enum Status<'a> {
    /// It exists, and this is its record.
    Exists(&'a Nsec3),
    /// It does not exist, or only within an opt-out span: the closest encloser proof (RFC 5155 §8.3).
    Absent(Encloser<'a>),
    /// Nothing.
    Unknown,
}

/// A proven closest encloser.
struct Encloser<'a> {
    name: Name,
    matching: &'a Nsec3,
    /// Covers the name one label longer, towards the name asked for.
    next_closer: &'a Nsec3,
}

impl Encloser<'_> {
    /// The proof that the next closer name is not there; it claims nothing in an opt-out span (RFC 5155 §9.2).
    fn proof(&self, wildcard: Option<&Nsec3>) -> Proof {
        let sources = [self.matching.source, self.next_closer.source];
        Proof::resting_on(sources.into_iter().chain(wildcard.map(|record| record.source)))
            .insecure_if(self.next_closer.opt_out)
    }
}

impl Nsec3Chain {
    pub(super) fn new(zone: Name, parameters: Parameters, first: Nsec3) -> Self {
        Self { zone, parameters, records: vec![first] }
    }

    pub(super) fn add(&mut self, record: Nsec3) {
        self.records.push(record);
    }

    pub(super) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub(super) fn iterations(&self) -> u16 {
        self.parameters.iterations
    }

    /// Where the iterations exceed what we compute: the answer is insecure, whatever it is (RFC 9276 §3.2).
    fn too_costly(&self) -> Option<Proof> {
        (self.parameters.iterations > limits::NSEC3_ITERATIONS)
            .then(|| Proof::resting_on(self.records.iter().map(|record| record.source)).insecure_if(true))
    }

    fn matching(&self, hash: &Hash) -> Option<&Nsec3> {
        self.records.iter().find(|record| record.owner == *hash)
    }

    fn covering(&self, hash: &Hash) -> Option<&Nsec3> {
        self.records.iter().find(|record| record.covers(hash))
    }

    /// Goes up from `name` to the first name that has a record (RFC 5155 §8.3).
    fn status(&self, name: &Name, budget: &Budget) -> Result<Status<'_>, Bogus> {
        let hash = self.parameters.hash(name, budget)?;
        if let Some(record) = self.matching(&hash) {
            return Ok(Status::Exists(record));
        }
        let mut next_closer = self.covering(&hash);
        for labels in (self.zone.iter().count()..name.iter().count()).rev() {
            let ancestor = name.trim_to(labels);
            let hash = self.parameters.hash(&ancestor, budget)?;
            if let Some(matching) = self.matching(&hash) {
                let Some(next_closer) = next_closer else { return Ok(Status::Unknown) };
                // RFC 5155 §8.3: the closest encloser must not hand the names below it to somebody else.
                if !matching.types.allows_denial_below() {
                    return Ok(Status::Unknown);
                }
                return Ok(Status::Absent(Encloser { name: ancestor, matching, next_closer }));
            }
            next_closer = self.covering(&hash);
        }
        Ok(Status::Unknown)
    }
}

impl Denier for Nsec3Chain {
    /// RFC 5155 §8.4.
    fn name_error(&self, qname: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        if let Some(proof) = self.too_costly() {
            return Ok(proof.of_absence());
        }
        let encloser = match self.status(qname, budget)? {
            Status::Exists(record) if record.types.is_nxname() => {
                return Ok(Proof::resting_on([record.source]).of_absence()); // RFC 9824 §3.1, hashed
            }
            Status::Exists(_) | Status::Unknown => return Err(Bogus::DenialNotProven),
            Status::Absent(encloser) => encloser,
        };
        let wildcard = self.parameters.hash(&wildcard_of(&encloser.name)?, budget)?;
        let wildcard = self.covering(&wildcard).ok_or(Bogus::DenialNotProven)?;
        Ok(encloser.proof(Some(wildcard)).of_absence())
    }

    /// RFC 5155 §8.5, §8.6, §8.7.
    fn no_data(&self, qname: &Name, qtype: RecordType, budget: &Budget) -> Result<Proof, Bogus> {
        if let Some(proof) = self.too_costly() {
            return Ok(proof);
        }
        let encloser = match self.status(qname, budget)? {
            Status::Exists(record) if record.types.is_nxname() => {
                return Ok(Proof::resting_on([record.source]).of_absence());
            }
            Status::Exists(record) if record.types.denies(qname, qtype) => {
                return Ok(Proof::resting_on([record.source]));
            }
            Status::Exists(_) | Status::Unknown => return Err(Bogus::DenialNotProven),
            Status::Absent(encloser) => encloser,
        };
        let wildcard = wildcard_of(&encloser.name)?;
        match self.matching(&self.parameters.hash(&wildcard, budget)?) {
            Some(record) if !record.types.is_nxname() && record.types.denies(&wildcard, qtype) => {
                Ok(encloser.proof(Some(record)))
            }
            // In an opt-out span an insecure delegation has no record, nor has an empty non-terminal that
            // exists only because of one (RFC 5155 §8.6, §7.1), whatever the wildcard holds: nothing is claimed.
            _ if encloser.next_closer.opt_out => Ok(encloser.proof(None)),
            _ => Err(Bogus::DenialNotProven),
        }
    }

    /// RFC 5155 §8.8: the signed wildcard itself shows that its parent exists.
    fn wildcard_answer(&self, qname: &Name, encloser: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        if let Some(proof) = self.too_costly() {
            return Ok(proof);
        }
        let next_closer = qname.trim_to(encloser.iter().count() + 1);
        let hash = self.parameters.hash(&next_closer, budget)?;
        let record = self.covering(&hash).ok_or(Bogus::DenialNotProven)?;
        Ok(Proof::resting_on([record.source]).insecure_if(record.opt_out))
    }

    /// RFC 5155 §8.6, §8.9.
    fn cut(&self, name: &Name, budget: &Budget) -> Result<(Cut, Proof), Bogus> {
        if let Some(proof) = self.too_costly() {
            return Ok((Cut::Insecure, proof));
        }
        match self.status(name, budget)? {
            Status::Exists(record) => {
                let cut = record.types.cut(name).ok_or(Bogus::DenialNotProven)?;
                Ok((cut, Proof::resting_on([record.source])))
            }
            Status::Absent(encloser) => {
                let cut = if encloser.next_closer.opt_out { Cut::Insecure } else { Cut::NotACut };
                Ok((cut, encloser.proof(None)))
            }
            Status::Unknown => Err(Bogus::DenialNotProven),
        }
    }
}

/// A hash from an owner's first label: base32hex without padding, in either case (RFC 5155 §3.3).
fn from_base32hex(label: &[u8]) -> Option<Hash> {
    BASE32_DNSSEC.decode(label).ok()?.try_into().ok()
}
