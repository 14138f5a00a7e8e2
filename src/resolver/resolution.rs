//! What the engine found out, with all that a DNS client may want to see of it.

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::rrset::{RrSet, parse_rdata};
use super::rrset_cache::Entry;
use crate::dns::{Answer, Cause, Failure, Found, Security};

/// An RRset with the TTL it has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The RRset; its own `ttl` field is the one it came with.
    pub set: Arc<RrSet>,
    /// Seconds left.
    pub ttl: u32,
}

/// How a chain of aliases ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the RRset asked for: the last of [`Resolution::answer`], unless it is a DNAME that was met on the way.
    Records,
    /// With a name that has nothing of the type.
    NoData,
    /// With a name that does not exist.
    NxDomain,
    /// With a DNAME, the last of [`Resolution::answer`], whose target would be too long a name: YXDOMAIN
    /// (RFC 6672 §2.2).
    TooLong,
}

/// The outcome of a question, validated unless checking was disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// How it ended.
    pub end: End,
    /// Aliases followed (a DNAME before the first CNAME that follows from it), then the RRset asked for; each RRset once.
    pub answer: Vec<Part>,
    /// SOA of a denial, and the NSEC or NSEC3 records that prove denials and wildcard expansions.
    pub authority: Vec<Part>,
    /// The name at the end of the aliases.
    pub canonical: Name,
    /// Security of the whole; never `Secure` when checking was disabled and something did not validate.
    pub security: Security,
    /// Seconds for which the whole may be used.
    pub ttl: u32,
    /// Why it would have failed, had checking not been disabled.
    pub unchecked: Option<Failure>,
}

/// An answer that is one cache entry: neither an alias nor made of several.
#[derive(Clone, Debug)]
pub struct Ready {
    /// How it ends.
    pub end: End,
    /// The entry.
    pub entry: Entry,
    /// Seconds left.
    pub ttl: u32,
}

impl Ready {
    /// The same in full.
    pub fn resolution(&self, name: &Name) -> Resolution {
        let mut resolution = Resolution::new(name.clone());
        resolution.push_entry(&self.entry, self.ttl);
        resolution.end = self.end;
        resolution
    }
}

impl Resolution {
    /// The start of a chain at `name`.
    pub(super) fn new(name: Name) -> Self {
        Self {
            end: End::NoData,
            answer: Vec::new(),
            authority: Vec::new(),
            canonical: name,
            security: Security::Secure,
            ttl: u32::MAX,
            unchecked: None,
        }
    }

    /// For the port: the RRset at the end as structures.
    pub fn to_answer(&self, rtype: RecordType) -> Result<Answer, Failure> {
        let found = match self.end {
            End::NoData => Found::NoData,
            End::NxDomain => Found::NxDomain,
            End::TooLong => return Err(Failure::new(self.canonical.clone(), rtype, Cause::AliasChain)),
            End::Records => {
                let is_asked = |set: &RrSet| set.rtype == rtype && set.name == self.canonical;
                let set = self.answer.iter().map(|part| &*part.set).find(|set| is_asked(set));
                let rdatas = set.map_or(&[][..], |set| &set.rdatas);
                // One malformed record must not hide the others; none readable is a failure.
                let records: Vec<_> = rdatas.iter().filter_map(|rdata| parse_rdata(rtype, rdata).ok()).collect();
                if records.is_empty() {
                    return Err(Failure::new(self.canonical.clone(), rtype, Cause::Malformed));
                }
                Found::Records(records)
            }
        };
        Ok(Answer { found, canonical: self.canonical.clone(), security: self.security, ttl: self.ttl })
    }
}
