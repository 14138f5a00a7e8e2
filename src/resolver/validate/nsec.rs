//! Denial by NSEC (RFC 4034 §4, RFC 4035 §5.4).

use hickory_proto::rr::{Name, RecordType};

use super::denial::{Cut, Denier, Presence, Proof, Source, wildcard_of};
use super::types::TypeBitmap;
use crate::dns::Bogus;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::{RrSet, read_name};

/// A verified NSEC record.
#[derive(Clone, Debug)]
struct Nsec {
    owner: Name,
    /// The next name that exists; the apex where `owner` is the last.
    next: Name,
    types: TypeBitmap,
    source: Source,
}

/// The verified NSEC records of a response.
#[derive(Clone, Debug)]
pub(super) struct NsecSet {
    zone: Name,
    records: Vec<Nsec>,
}

/// What the records tell of a name.
enum Status<'a> {
    /// It exists, and this is its record.
    Exists(&'a Nsec),
    /// It exists only because names below it do.
    EmptyNonTerminal(&'a Nsec),
    /// It does not exist; its closest encloser is given.
    Absent(&'a Nsec, Name),
    /// Nothing.
    Unknown,
}

impl Nsec {
    /// Whether `name` lies strictly between owner and next, in canonical order (RFC 4034 §6.1).
    fn covers(&self, zone: &Name, name: &Name) -> bool {
        // The last record points back to the apex.
        self.owner < *name && (*name < self.next || self.next == *zone)
    }
}

impl NsecSet {
    pub(super) fn new(zone: Name) -> Self {
        Self { zone, records: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the record of a verified RRset, unless it makes no sense: more than one (RFC 4034 §4), a next name
    /// outside the zone or out of order, a malformed bit map.
    pub(super) fn add(&mut self, set: &RrSet, source: Source) {
        let [rdata] = &*set.rdatas else { return };
        let Ok((next, used)) = read_name(rdata) else { return };
        let Some(types) = rdata.get(used..).and_then(TypeBitmap::parse) else { return };
        let in_order = next == self.zone || set.name < next;
        if in_order && self.zone.zone_of(&next) {
            self.records.push(Nsec { owner: set.name.clone(), next, types, source });
        }
    }

    /// Names that exist and are no delegation, as their own records show, with the seconds for which that holds.
    pub(super) fn undelegated(&self) -> impl Iterator<Item = (&Name, u32)> {
        let own = self.records.iter().filter(|record| !record.types.has(RecordType::NS));
        own.map(|record| (&record.owner, record.source.ttl))
    }

    fn status(&self, name: &Name) -> Status<'_> {
        if let Some(record) = self.records.iter().find(|record| record.owner == *name) {
            return Status::Exists(record);
        }
        let covers = |record: &&Nsec| {
            record.covers(&self.zone, name) && (!record.owner.zone_of(name) || record.types.allows_denial_below())
        };
        match self.records.iter().find(covers) {
            None => Status::Unknown,
            Some(record) if name.zone_of(&record.next) => Status::EmptyNonTerminal(record),
            // Whatever exists and is closest to `name` in the tree is, or lies above, one of the two names that
            // enclose it in canonical order.
            Some(record) => {
                let labels = common_labels(name, &record.owner).max(common_labels(name, &record.next));
                Status::Absent(record, name.trim_to(labels))
            }
        }
    }
}

impl Denier for NsecSet {
    fn name_error(&self, qname: &Name, _: &Budget) -> Result<Proof, Bogus> {
        match self.status(qname) {
            Status::Exists(record) if record.types.is_nxname() => {
                Ok(Proof::resting_on([record.source]).of_absence()) // RFC 9824 §3.1
            }
            Status::Absent(record, encloser) => match self.status(&wildcard_of(&encloser)?) {
                Status::Absent(wildcard, _) => Ok(Proof::resting_on([record.source, wildcard.source]).of_absence()),
                _ => Err(Bogus::DenialNotProven),
            },
            _ => Err(Bogus::DenialNotProven),
        }
    }

    fn no_data(&self, qname: &Name, qtype: RecordType, _: &Budget) -> Result<Proof, Bogus> {
        match self.status(qname) {
            Status::Exists(record) if record.types.is_nxname() => Ok(Proof::resting_on([record.source]).of_absence()),
            Status::Exists(record) if record.types.denies(qname, qtype) => Ok(Proof::resting_on([record.source])),
            Status::EmptyNonTerminal(record) => Ok(Proof::resting_on([record.source])),
            // RFC 4035 §3.1.3.4: the name is not there, and the wildcard that stands in for it lacks the type.
            Status::Absent(record, encloser) => {
                let name = wildcard_of(&encloser)?;
                match self.status(&name) {
                    Status::Exists(wildcard) if !wildcard.types.is_nxname() && wildcard.types.denies(&name, qtype) => {
                        Ok(Proof::resting_on([record.source, wildcard.source]))
                    }
                    Status::EmptyNonTerminal(wildcard) => Ok(Proof::resting_on([record.source, wildcard.source])),
                    _ => Err(Bogus::DenialNotProven),
                }
            }
            _ => Err(Bogus::DenialNotProven),
        }
    }

    fn wildcard_answer(&self, qname: &Name, encloser: &Name, _: &Budget) -> Result<Proof, Bogus> {
        match self.status(qname) {
            // A closer encloser than the wildcard's parent would have kept the wildcard away (RFC 4592 §3.3.1).
            Status::Absent(record, closest) if closest == *encloser => Ok(Proof::resting_on([record.source])),
            _ => Err(Bogus::DenialNotProven),
        }
    }

    fn cut(&self, name: &Name, _: &Budget) -> Result<(Cut, Proof), Bogus> {
        match self.status(name) {
            Status::Exists(record) => {
                let cut = record.types.cut(name).ok_or(Bogus::DenialNotProven)?;
                Ok((cut, Proof::resting_on([record.source])))
            }
            // Every delegation has an NSEC record: none there, no delegation.
            Status::EmptyNonTerminal(record) | Status::Absent(record, _) => {
                Ok((Cut::NotACut, Proof::resting_on([record.source])))
            }
            Status::Unknown => Err(Bogus::DenialNotProven),
        }
    }
}

/// How many labels two names share, counted from the root.
fn common_labels(one: &Name, other: &Name) -> usize {
    one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}
