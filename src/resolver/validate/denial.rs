//! Denial of existence: what the NSEC and NSEC3 records of a response prove (RFC 4035 §5.4, RFC 5155 §8,
//! RFC 6840 §4, RFC 9824).

use hickory_proto::rr::{Name, RecordType};

use super::keys::KeySet;
use super::nsec::NsecSet;
use super::nsec3::{Nsec3, Nsec3Chain};
use super::rrsig;
use super::types::TypeBitmap;
use crate::clock::UnixTime;
use crate::dns::{Bogus, Security};
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::RrSet;

/// A proof, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Seconds for which it may be used: the least over the records it rests on. The SOA's negative TTL
    /// (RFC 2308 §5) is not in it.
    pub ttl: u32,
    /// Insecure where it rests on an opt-out span (RFC 5155 §9.2) or on NSEC3 with more iterations than we
    /// compute (RFC 9276 §3.2): then the answer may be used, and nothing is claimed.
    pub security: Security,
    /// The name does not exist, whatever the response code says (compact denial, RFC 9824 §3.1).
    pub nxdomain: bool,
    /// Which of the sections given to [`Denials::collect`] it rests on, without duplicates.
    pub used: Vec<usize>,
}

/// What a name is in its parent zone, when it has no DS there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A delegation to an unsigned zone, or possibly one (in an opt-out span): what lies below is insecure.
    Insecure,
    /// No delegation: the name, if it exists at all, belongs to the zone that answered.
    NotACut,
}

/// Where a record came from, and how long it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Index into the sections given to [`Denials::collect`].
    pub index: usize,
    /// Seconds for which it may be used.
    pub ttl: u32,
}

impl Proof {
    /// A secure proof of "not this" that rests on these records.
    pub(super) fn resting_on(sources: impl IntoIterator<Item = Source>) -> Self {
        let mut proof = Self { ttl: u32::MAX, security: Security::Secure, nxdomain: false, used: Vec::new() };
        for source in sources {
            proof.ttl = proof.ttl.min(source.ttl);
            if !proof.used.contains(&source.index) {
                proof.used.push(source.index);
            }
        }
        proof
    }

    /// The same as a proof that the name does not exist.
    pub(super) fn of_absence(self) -> Self {
        Self { nxdomain: true, ..self }
    }

    /// The same, claiming nothing if `weak`.
    pub(super) fn insecure_if(self, weak: bool) -> Self {
        Self { security: if weak { Security::Insecure } else { self.security }, ..self }
    }
}

/// A kind of record that denies. Names given are within the zone and lower case.
pub(super) trait Denier {
    fn name_error(&self, qname: &Name, budget: &Budget) -> Result<Proof, Bogus>;
    fn no_data(&self, qname: &Name, qtype: RecordType, budget: &Budget) -> Result<Proof, Bogus>;
    fn wildcard_answer(&self, qname: &Name, encloser: &Name, budget: &Budget) -> Result<Proof, Bogus>;
    fn cut(&self, name: &Name, budget: &Budget) -> Result<(Cut, Proof), Bogus>;
}

/// The NSEC and NSEC3 records of a response that verified with the zone's keys.
#[derive(Clone, Debug)]
pub struct Denials {
    zone: Name,
    nsec: NsecSet,
    /// One for each set of parameters: records of different ones do not add up (RFC 5155 §8.2). Least
    /// iterations first.
    nsec3: Vec<Nsec3Chain>,
}

impl Denials {
    /// Names that are no delegation, whatever was asked, with the seconds for which that holds; only NSEC tells names.
    pub fn undelegated(&self) -> impl Iterator<Item = (&Name, u32)> {
        self.nsec.undelegated()
    }

    /// Takes the NSEC and NSEC3 RRsets among `sections` (other types are passed over) that verify with `keys`;
    /// the rest counts as not there, and the first reason for that is given beside.
    pub fn collect(
        zone: &Name,
        sections: &[RrSet],
        keys: &KeySet,
        now: UnixTime,
        budget: &Budget,
    ) -> (Self, Option<Bogus>) {
        let mut denials = Self { zone: normal(zone), nsec: NsecSet::new(normal(zone)), nsec3: Vec::new() };
        let mut reason = None;
        let candidates = sections.iter().enumerate().filter(|(_, set)| {
            matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) && denials.zone.zone_of(&set.name)
        });
        let candidates: Vec<(usize, &RrSet)> = candidates.collect();
        for (index, set) in candidates.iter().take(limits::DENIAL_RRSETS_PER_RESPONSE) {
            match rrsig::verify(set, keys, now, budget) {
                // `verify` takes no NSEC or NSEC3 that was expanded from a wildcard.
                Ok(verified) => denials.add(set, Source { index: *index, ttl: verified.ttl }),
                Err(failed) => reason = reason.or(Some(failed)),
            }
        }
        if candidates.len() > limits::DENIAL_RRSETS_PER_RESPONSE {
            reason = reason.or(Some(Bogus::TooMuchWork("NSEC and NSEC3 RRsets of one response")));
        }
        denials.nsec3.sort_by_key(Nsec3Chain::iterations);
        (denials, reason)
    }

    fn add(&mut self, set: &RrSet, source: Source) {
        if set.rtype == RecordType::NSEC {
            self.nsec.add(set, source);
            return;
        }
        for (parameters, record) in set.rdatas.iter().filter_map(|rdata| Nsec3::parse(&self.zone, set, rdata, source)) {
            match self.nsec3.iter_mut().find(|chain| chain.parameters() == &parameters) {
                Some(chain) => chain.add(record),
                None => self.nsec3.push(Nsec3Chain::new(self.zone.clone(), parameters, record)),
            }
        }
    }

    /// True where no record counts: nothing can be proven.
    pub fn is_empty(&self) -> bool {
        self.nsec.is_empty() && self.nsec3.is_empty()
    }

    /// Proves that `qname` does not exist, and that no wildcard stands in for it.
    pub fn name_error(&self, qname: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        let qname = self.inside(qname)?;
        self.first(|denier| denier.name_error(&qname, budget))
    }

    /// Proves that `qname` has neither `qtype` nor a CNAME: itself, as an empty non-terminal, through a wildcard,
    /// by compact denial ([`Proof::nxdomain`] tells), or that no more than opt-out is to be had.
    pub fn no_data(&self, qname: &Name, qtype: RecordType, budget: &Budget) -> Result<Proof, Bogus> {
        let qname = self.inside(qname)?;
        self.first(|denier| denier.no_data(&qname, qtype, budget))
    }

    /// Proves that nothing matches `qname` more closely than `*.closest_encloser`, which answered
    /// ([`Verified::wildcard`](super::Verified::wildcard)).
    pub fn wildcard_answer(&self, qname: &Name, closest_encloser: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        let (qname, encloser) = (self.inside(qname)?, self.inside(closest_encloser)?);
        if !encloser.zone_of(&qname) || encloser == qname {
            return Err(Bogus::DenialNotProven);
        }
        self.first(|denier| denier.wildcard_answer(&qname, &encloser, budget))
    }

    /// Proves that the delegation of `child` is insecure: NS there, no DS (RFC 4035 §5.2, RFC 5155 §8.9).
    pub fn no_ds(&self, child: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        let child = self.inside(child)?;
        self.first(|denier| match denier.cut(&child, budget)? {
            (Cut::Insecure, proof) => Ok(proof),
            (Cut::NotACut, _) => Err(Bogus::DenialNotProven),
        })
    }

    /// For a DS question answered with a denial: whether `name` is an insecure delegation or none at all.
    pub fn cut(&self, name: &Name, budget: &Budget) -> Result<(Cut, Proof), Bogus> {
        let name = self.inside(name)?;
        self.first(|denier| denier.cut(&name, budget))
    }

    /// Names outside the zone are none of its business (RFC 4035 §5.4).
    fn inside(&self, name: &Name) -> Result<Name, Bogus> {
        let name = normal(name);
        if self.zone.zone_of(&name) { Ok(name) } else { Err(Bogus::DenialNotProven) }
    }

    /// The first kind of record that proves it; NSEC first, for it costs nothing.
    fn first<T>(&self, prove: impl Fn(&dyn Denier) -> Result<T, Bogus>) -> Result<T, Bogus> {
        let mut reason = Bogus::DenialNotProven;
        let chains = self.nsec3.iter().map(|chain| chain as &dyn Denier);
        for denier in std::iter::once(&self.nsec as &dyn Denier).chain(chains) {
            match prove(denier) {
                Ok(proof) => return Ok(proof),
                Err(Bogus::DenialNotProven) => {}
                Err(other) => reason = other,
            }
        }
        Err(reason)
    }
}

/// Lower case and absolute: the only form in which names are compared here.
fn normal(name: &Name) -> Name {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name
}

/// `*.encloser`.
pub(super) fn wildcard_of(encloser: &Name) -> Result<Name, Bogus> {
    // Too long to exist, and so is every name it could stand in for.
    encloser.prepend_label("*").map_err(|_| Bogus::DenialNotProven)
}

/// What a type bit map says of a name.
pub(super) trait Presence {
    /// A zone cut seen from above: NS, and no SOA (RFC 6840 §4.1).
    fn is_delegation(&self) -> bool;
    /// Whether names below may be denied by this record's span: not below a cut (RFC 6840 §4.1), nor below a
    /// DNAME (RFC 6672 §5.3.4.1).
    fn allows_denial_below(&self) -> bool;
    /// Whether it shows that a question for `qtype` at `owner` finds nothing.
    fn denies(&self, owner: &Name, qtype: RecordType) -> bool;
    /// What `owner` is, if it is shown to have no DS.
    fn cut(&self, owner: &Name) -> Option<Cut>;
}

impl Presence for TypeBitmap {
    fn is_delegation(&self) -> bool {
        self.has(RecordType::NS) && !self.has(RecordType::SOA)
    }

    fn allows_denial_below(&self) -> bool {
        !self.is_delegation() && !self.has(RecordType::DNAME)
    }

    fn denies(&self, owner: &Name, qtype: RecordType) -> bool {
        // A CNAME would have been the answer (RFC 6840 §4.3).
        if self.has(qtype) || self.has(RecordType::CNAME) || is_always_there(qtype) {
            return false;
        }
        if qtype == RecordType::DS {
            // DS belongs to the parent: the child's own apex says nothing (RFC 4035 §5.2, RFC 6840 §4.1). The
            // root has no parent.
            owner.is_root() || !self.has(RecordType::SOA)
        } else {
            // And of the child's types the parent's record says nothing (RFC 6840 §4.1).
            !self.is_delegation()
        }
    }

    fn cut(&self, owner: &Name) -> Option<Cut> {
        if self.has(RecordType::DS) || (self.has(RecordType::SOA) && !owner.is_root()) {
            return None;
        }
        // The NS bit must be there: its absence is no insecure delegation (RFC 6840 §4.4).
        Some(if self.is_delegation() { Cut::Insecure } else { Cut::NotACut })
    }
}

/// Types of which a bit map cannot say "not there": those that come with signing, and questions for any type.
fn is_always_there(qtype: RecordType) -> bool {
    matches!(qtype, RecordType::NSEC | RecordType::RRSIG | RecordType::ANY)
}
