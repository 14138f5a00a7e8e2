//! The port to DNS: the only way anything above the resolver sees it.
//!
//! In: a name and a type. Out: an [`Answer`], which always carries its security status, or a [`Failure`]
//! with its cause. "Nothing there" is an answer; "could not find out" is a failure; the two never look alike,
//! and nothing bogus ever gets through. Never caches, never decides a policy.

mod chain;
mod failure;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, RecordType};

pub use chain::{DsRecord, Insecurity, Inspect, KeyRecord, StepTrust, ZoneStep};
pub use failure::{Bogus, Cause, Date, Failure, Habit, Habits, text, which_does};

/// What DNSSEC says of an answer (RFC 4035 §4.3); bogus is a [`Failure`], so it is not among these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// Proven from a trust anchor, every hop and every denial of it.
    Secure,
    /// Proven to lie below an unsigned delegation, or below no trust anchor: nothing is claimed.
    Insecure,
}

impl Security {
    /// Secure only if both are.
    pub fn and(self, other: Self) -> Self {
        if self == Self::Secure { other } else { Self::Insecure }
    }
    /// True for [`Security::Secure`].
    pub fn is_secure(self) -> bool {
        self == Self::Secure
    }
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The RRset asked for, at the end of any aliases. Never empty.
    Records(Vec<RData>),
    /// The name exists, or may (an empty non-terminal): nothing of this type there.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// A validated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is there.
    pub found: Found,
    /// The name at the end of the CNAMEs and DNAMEs that were followed; lower case. For a CNAME question
    /// nothing is followed.
    pub canonical: Name,
    /// The security of the whole answer: every alias on the way and the RRset or denial at the end.
    pub security: Security,
    /// Seconds for which this may be used: the least over everything that carried the answer, signatures'
    /// original TTL and remaining life included; for a denial the SOA's negative TTL (RFC 2308 §5).
    pub ttl: u32,
}

impl Answer {
    /// The records, empty for a denial.
    pub fn records(&self) -> &[RData] {
        match &self.found {
            Found::Records(records) => records,
            Found::NoData | Found::NxDomain => &[],
        }
    }
}

/// What [`Lookup::glance`] sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// The answer.
    Answer(Answer),
    /// Servers of a signed zone say that there is nothing, which has not been proven: good for putting a decision off,
    /// never for making one. [`Lookup::lookup`] proves it.
    Denied,
}

/// A future that any trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever can answer questions with validated answers: the engine, and scripted worlds in tests.
pub trait Lookup: Send + Sync + 'static {
    /// Looks `name` and `rtype` up, aliases followed (unless `rtype` is CNAME). Ends within the resolver's own
    /// deadline. Dropping the future does not stop the work: it goes on and fills the cache.
    fn lookup<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Result<Answer, Failure>>;

    /// The same for what may turn out not to be needed: a denial comes back unproven where its proof would cost
    /// signature checks. To look the same up afterwards costs these, and no exchange.
    fn glance<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Result<Glance, Failure>> {
        Box::pin(async move { self.lookup(name, rtype).await.map(Glance::Answer) })
    }

    /// The same resolver for the lookups of one policy question, which together may send no more than
    /// [`crate::limits::SCOPE_PACKETS`]; beyond that they fail, and nothing is remembered of it. None where nothing is
    /// counted.
    fn scoped(&self) -> Option<Arc<dyn Lookup>> {
        None
    }

    /// A cheap hint, from what is cached: true only when `name` is already known to lie in a zone that is
    /// signed and chained to a trust anchor. Never asks anybody.
    fn zone_known_signed(&self, name: &Name) -> bool;

    /// Whether the zone in which `name` lies, or one above it, is proven to be unsigned, and for how many seconds that
    /// holds: then nothing at this name can be secure, though its own servers may never answer. None where the zone is
    /// signed, or nobody can tell. May ask the zones above, never the name itself.
    fn zone_proven_insecure<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Option<u32>> {
        _ = name;
        Box::pin(std::future::ready(None))
    }
}
