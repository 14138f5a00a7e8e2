//! What one lookup may cost, counted. Everything done on behalf of a lookup, side lookups and validation
//! included, draws on the same [`Budget`]; each limit has its reason in [`crate::limits`].

use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits;

/// Counters of one lookup; shared by all that works for it.
#[derive(Debug, Default)]
pub struct Budget {
    queries: AtomicU32,
    referrals: AtomicU32,
    checks: AtomicU32,
    failed_checks: AtomicU32,
    hashes: AtomicU32,
}

/// The limit that was reached, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Exceeded(pub &'static str);

/// The limit that is none of a [`Budget`]'s counters: [`limits::LOOKUP_TIME`].
pub const OUT_OF_TIME: &str = "time";

impl Budget {
    /// One more query to an upstream server.
    pub fn query(&self) -> Result<(), Exceeded> {
        spend(&self.queries, limits::UPSTREAM_QUERIES_PER_LOOKUP, "upstream queries")
    }
    /// One more referral followed.
    pub fn referral(&self) -> Result<(), Exceeded> {
        spend(&self.referrals, limits::REFERRALS_PER_LOOKUP, "referrals")
    }
    /// One more signature check, before it is made.
    pub fn signature_check(&self) -> Result<(), Exceeded> {
        spend(&self.checks, limits::SIGNATURE_CHECKS_PER_LOOKUP, "signature checks")
    }
    /// A signature check that failed.
    pub fn failed_check(&self) -> Result<(), Exceeded> {
        spend(&self.failed_checks, limits::FAILED_SIGNATURE_CHECKS_PER_LOOKUP, "failed signature checks")
    }
    /// One more NSEC3 hash, before it is computed.
    pub fn nsec3_hash(&self) -> Result<(), Exceeded> {
        spend(&self.hashes, limits::NSEC3_HASHES_PER_LOOKUP, "NSEC3 hashes")
    }
    /// Upstream queries so far.
    pub fn queries_spent(&self) -> u32 {
        self.queries.load(Ordering::Relaxed).min(limits::UPSTREAM_QUERIES_PER_LOOKUP)
    }
}

fn spend(counter: &AtomicU32, limit: u32, what: &'static str) -> Result<(), Exceeded> {
    if counter.fetch_add(1, Ordering::Relaxed) < limit { Ok(()) } else { Err(Exceeded(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_ends_at_its_limit() {
        let budget = Budget::default();
        for _ in 0..limits::FAILED_SIGNATURE_CHECKS_PER_LOOKUP {
            budget.failed_check().expect("within the limit");
        }
        assert_eq!(budget.failed_check(), Err(Exceeded("failed signature checks")));
        assert!(budget.query().is_ok());
        assert_eq!(budget.queries_spent(), 1);
    }
}
