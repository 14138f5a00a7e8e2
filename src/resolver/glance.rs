//! A look that leaves denials unproven.
//!
//! Callers often ask for more than they turn out to need: both address families of a mail host, an MTA-STS record beside
//! DANE. Where the servers of a signed zone deny such a thing, the proof would cost more than all the rest (a signature
//! for each NSEC or NSEC3 and for the SOA). So the message is kept for a few seconds as it was heard; whoever asks gets
//! it validated then, without asking the servers again. For longer it is only remembered that there was a denial, so
//! that the next glance asks nobody.
//!
//! Never hands out what is kept here: it goes back into a lookup and through `check`.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use quick_cache::sync::Cache;

use super::check::claimed_ttl;
use super::core::{Context, Core};
use super::iterate::Heard;
use super::iterate::classify::Meaning;
use super::name_hash::{NameCache, NameHashing, cache};
use super::resolution::Resolution;
use crate::clock::Stamp;
use crate::dns::Failure;
use crate::limits;

/// Denials as they were heard, bounded in number and time.
pub(super) struct Unproven {
    heard: NameCache<(Name, u16), Arc<Heard>>,
    /// Longer than the messages: that there was a denial, by a hash of the question. Should two of them ever share one,
    /// a glance misses something, and no more.
    claims: Cache<u64, Claim>,
    hasher: NameHashing,
}

#[derive(Clone, Copy)]
struct Claim {
    at: Stamp,
    ttl: u32,
}

impl Unproven {
    /// Nothing kept.
    pub fn new() -> Self {
        let (heard, claims) = (cache(limits::UNPROVEN_DENIALS), Cache::new(limits::UNPROVEN_CLAIMS));
        Self { heard, claims, hasher: NameHashing::default() }
    }

    /// Whether servers denied this a while ago, and that would still hold.
    fn is_denied(&self, name: &Name, rtype: RecordType, now: Stamp) -> bool {
        let claim = self.claims.get(&self.hash(name, rtype));
        claim.is_some_and(|claim| now.since(claim.at) < Duration::from_secs(claim.ttl.into()))
    }

    fn keep(&self, name: &Name, rtype: RecordType, heard: Heard) {
        let ttl = claimed_ttl(&heard, name).min(limits::MAX_NEGATIVE_TTL);
        self.claims.insert(self.hash(name, rtype), Claim { at: heard.at, ttl });
        self.heard.insert((name.clone(), u16::from(rtype)), Arc::new(heard));
    }

    /// What was heard of this question a moment ago, for a lookup that proves it or finds something else: either way
    /// nobody has to believe it any longer.
    pub fn take(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Heard> {
        if !self.claims.is_empty() {
            self.claims.remove(&self.hash(name, rtype));
        }
        if self.heard.is_empty() {
            return None;
        }
        let (_, heard) = self.heard.remove(&(name.clone(), u16::from(rtype)))?;
        (now.since(heard.at) < limits::UNPROVEN_FOR).then(|| Arc::unwrap_or_clone(heard))
    }

    fn hash(&self, name: &Name, rtype: RecordType) -> u64 {
        self.hasher.hash_one((name, u16::from(rtype)))
    }
}

impl Core {
    /// Answers a question, unless the servers of a signed zone deny it: that stays unproven, and is `None`.
    pub async fn glance(
        self: &Arc<Self>,
        context: &Context,
        name: Name,
        rtype: RecordType,
    ) -> Result<Option<Resolution>, Failure> {
        let now = self.now();
        if self.knows_next_step(&name, rtype) || self.failures.get(&name, rtype, now).is_some() {
            return self.answer(context, name, rtype, None).await.map(Some);
        }
        if self.unproven.is_denied(&name, rtype, now) {
            return Ok(None);
        }
        match self.descend(context, &name, rtype, &[]).await {
            Ok(heard)
                if matches!(heard.meaning, Meaning::NoData | Meaning::NxDomain)
                    && self.is_announced_signed(&heard.zone) =>
            {
                self.unproven.keep(&name, rtype, heard);
                Ok(None)
            }
            heard => self.answer(context, name, rtype, Some(Box::new(heard))).await.map(Some),
        }
    }
}
