//! What replicas share: the MTA-STS policies that any of them fetched, in Redis or Valkey, behind the store on disk.
//!
//! In: a policy that was fetched and is on disk, or a domain that was purged. Out: what another replica fetched, for
//! a domain of which nothing is held here, or nothing that is up to date. One task keeps the connection and writes; a
//! question goes straight to the connection, or nowhere while there is none.
//!
//! Never delays an answer for longer than [`crate::limits::SHARED_READ_WAIT`], never fails one, never hands out what
//! was not verified and parsed anew.

mod changes;
mod cluster;
mod copy;
mod dial;
mod framing;
mod guarded;
mod keeper;
mod link;
mod store;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use copy::{CopyError, SharedCopy};
pub use store::{LinkState, SharedStatus, SharedStore};

use super::entry::HeldPolicy;
use crate::clock::UnixTime;
use crate::names::Domain;

/// Policies that replicas share.
pub trait Shared: Send + Sync + 'static {
    /// What some replica fetched for `domain` and is still valid, verified; nothing where that cannot be had at once.
    fn find<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Option<Arc<HeldPolicy>>>;

    /// Shares a policy that was just fetched, soon. Never waits.
    fn offer(&self, domain: &Domain, held: &Arc<HeldPolicy>);

    /// Takes back what is shared of `domain`, soon; from now on it is not found any more. Never waits.
    fn forget(&self, domain: &Domain);
}

/// Makes a policy of an entry, given the time, if it is one that may be believed.
pub type Verify = fn(&SharedCopy, UnixTime) -> Result<HeldPolicy, Unusable>;

/// Why an entry that is whole is no policy to go by.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Its `max_age` is over: as if it were not there.
    #[error("expired")]
    Expired,
    /// It would have been fetched later than now.
    #[error("fetched in the future")]
    Future,
    /// No `id` that a TXT record can have (RFC 8461 §3.1).
    #[error("the id is malformed")]
    Id,
    /// Not a policy (RFC 8461 §3.2).
    #[error("policy: {0}")]
    Policy(Box<dyn std::error::Error + Send + Sync>),
}
