//! Denial of existence: what the NSEC and NSEC3 records of an authority section prove (RFC 4035 §5.4,
//! RFC 5155 §8, RFC 6840 §4, RFC 9824).

use hickory_proto::rr::{Name, RecordType};

use super::keys::KeySet;
use crate::clock::UnixTime;
use crate::dns::{Bogus, Security};
use crate::resolver::budget::Budget;
use crate::resolver::rrset::RrSet;

/// A proof, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Seconds for which it may be used: the least over the records it rests on. The SOA's negative TTL
    /// (RFC 2308 §5) is not in it.
    pub ttl: u32,
    /// Insecure where it rests on an opt-out span (RFC 5155 §9.2) or on NSEC3 with more iterations than we
    /// compute (RFC 9276 §3.2): it holds, and claims nothing.
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
    /// No delegation: the name, if it exists, belongs to the zone that answered.
    NotACut,
}

/// The NSEC and NSEC3 records of a response that verified with the zone's keys.
#[derive(Clone, Debug)]
pub struct Denials {
    zone: Name,
}

impl Denials {
    /// Takes the NSEC and NSEC3 RRsets among `sections` (other types are passed over) that verify with `keys`;
    /// the rest counts as not there, and the first reason for that is given beside.
    pub fn collect(
        zone: &Name,
        sections: &[RrSet],
        keys: &KeySet,
        now: UnixTime,
        budget: &Budget,
    ) -> (Self, Option<Bogus>) {
        let _ = (sections, keys, now, budget);
        (Self { zone: zone.clone() }, None)
    }

    /// Proves that `qname` does not exist, and that no wildcard covers it.
    pub fn name_error(&self, qname: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        self.unproven(qname, budget)
    }

    /// Proves that `qname` has no `qtype` and no CNAME: itself, as an empty non-terminal, through a wildcard, by
    /// compact denial, or (opt-out) that nothing secure is there.
    pub fn no_data(&self, qname: &Name, qtype: RecordType, budget: &Budget) -> Result<Proof, Bogus> {
        let _ = qtype;
        self.unproven(qname, budget)
    }

    /// Proves that `qname` matches nothing more closely than `*.closest_encloser`, which answered.
    pub fn wildcard_answer(&self, qname: &Name, closest_encloser: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        let _ = closest_encloser;
        self.unproven(qname, budget)
    }

    /// Proves that the delegation of `child` is insecure: NS there, no DS (RFC 4035 §5.2, RFC 5155 §8.9).
    pub fn no_ds(&self, child: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        self.unproven(child, budget)
    }

    /// For a DS question answered with a denial: whether `name` is an insecure delegation or none at all.
    pub fn cut(&self, name: &Name, budget: &Budget) -> Result<(Cut, Proof), Bogus> {
        self.unproven(name, budget).map(|proof| (Cut::Insecure, proof))
    }

    fn unproven(&self, name: &Name, budget: &Budget) -> Result<Proof, Bogus> {
        let _ = (&self.zone, name, budget);
        Err(Bogus::DenialNotProven)
    }
}
