//! The chain of trust as people look at it: each zone on the way from the root to a name.

use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::{BoxFuture, Failure, Habit, Lookup};
use crate::clock::UnixTime;

/// One zone on the way, with what its parent says of its keys and the keys themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneStep {
    /// Apex, lower case.
    pub zone: Name,
    /// Addresses of its servers, as far as they are known.
    pub servers: Vec<IpAddr>,
    /// What was found out of them.
    pub habits: Vec<(IpAddr, Habit)>,
    /// Whether a trust anchor stands in for the DS RRset.
    pub anchored: bool,
    /// DS records: the parent's, or those of the anchor.
    pub ds: Vec<DsRecord>,
    /// Keys of the zone; those of a zone that is not secure are shown as they came, not validated.
    pub keys: Vec<KeyRecord>,
    /// Until when the DNSKEY RRset is signed, where it is.
    pub signed_until: Option<UnixTime>,
    /// What follows from that.
    pub trust: StepTrust,
}

/// A DS record, as much as tells one from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DsRecord {
    /// Tag of the key it names.
    pub tag: u16,
    /// Algorithm of that key (IANA).
    pub algorithm: u8,
    /// Digest type (IANA).
    pub digest: u8,
    /// Whether algorithm and digest can be checked here.
    pub supported: bool,
}

/// A DNSKEY record, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Key tag (RFC 4034 appendix B).
    pub tag: u16,
    /// Algorithm (IANA).
    pub algorithm: u8,
    /// Secure Entry Point flag.
    pub sep: bool,
    /// REVOKE flag (RFC 5011 §2.1).
    pub revoked: bool,
    /// Whether a DS record or an anchor names it.
    pub named: bool,
}

/// What a step of the chain comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepTrust {
    /// Keys validated.
    Secure,
    /// Nothing can be validated from here on, for this reason.
    Insecure(Insecurity),
    /// The chain breaks here; everything at and below this zone fails.
    Broken(Box<Failure>),
}

/// Why a zone is insecure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insecurity {
    /// No trust anchor at or above it.
    NoAnchor,
    /// The parent proves that there is no DS.
    NoDs,
    /// The parent's denial of a DS leaves it open (NSEC3 opt-out, or too many iterations).
    Unproven,
    /// There is a DS, but of no algorithm and digest that can be checked here (RFC 4035 §5.2).
    UnknownAlgorithms,
    /// Its questions are forwarded, and no chain leads to it.
    Forwarded,
    /// The zone above is insecure.
    Above,
    /// The operator exempted it from validation, or a zone above it (RFC 7646).
    Excepted {
        /// The first second in which that no longer holds; `None` for no end.
        until: Option<UnixTime>,
    },
}

/// Whoever can also show the chain of trust. For people: costs queries that answers do not need.
pub trait Inspect: Lookup {
    /// Every zone from the root down to the one that holds `name`, as far as the chain can be followed.
    fn chain<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Vec<ZoneStep>>;
}
