//! Forgetting what is cached, and the log line that says who wanted it: what is forgotten may have been a policy that
//! protected mail.

use crate::caller::Caller;
use crate::names::{NextHop, NotADestination};
use crate::policy::Engine;

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Everything.
    All,
    /// One next hop.
    One(NextHop),
}

impl Purge {
    /// That of one key, as Postfix would ask for it.
    pub fn of(key: &[u8]) -> Result<Self, NotADestination> {
        NextHop::parse(key).map(Self::One)
    }

    /// Forgets it, in memory, on disk and in the store that replicas share; says in the log who asked. The answer is how
    /// many next hops were known, once that would survive a crash.
    pub async fn run(self, policy: &Engine, caller: Caller) -> usize {
        let cache = policy.cache();
        let (what, count) = match self {
            Self::All => ("everything".to_owned(), cache.clear()),
            Self::One(hop) => (hop.to_string(), usize::from(cache.remove(&hop))),
        };
        tracing::info!(domain = what, count, uid = caller.uid, pid = caller.pid, "purged at the request of {caller}");
        cache.settle().await;
        count
    }
}
