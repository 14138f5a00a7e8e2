//! The port to disk: what the cache tells a store, and when it may go on.

use futures_util::future::BoxFuture;

use super::entry::{DaneEntry, StsEntry};
use crate::names::{Domain, NextHop};

/// A write that did not reach the disk. The store logs and counts it; callers keep serving from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store could not write")]
pub struct PersistError;

/// Whoever keeps entries beyond the life of the process. Calls for one key come in order and never overlap.
pub trait Persist: Send + Sync + 'static {
    /// Writes the MTA-STS branch of `domain`; ready once it would survive a power cut. A policy is first
    /// handed out as `secure` after this returned (design §7), so many calls may wait at once: group them.
    fn save_sts<'a>(&'a self, domain: &'a Domain, entry: &'a StsEntry) -> BoxFuture<'a, Result<(), PersistError>>;

    /// Takes note of the DANE branch of `hop`, to be written soon; never waits for the disk.
    fn save_dane(&self, hop: &NextHop, entry: &DaneEntry);

    /// Forgets both branches of `hop`: purged, evicted or long expired. Never waits for the disk.
    fn remove(&self, hop: &NextHop);

    /// Ready once everything that was said before would survive a power cut.
    fn flush(&self) -> BoxFuture<'_, Result<(), PersistError>>;
}

/// Keeps nothing: for tests, `query --direct`, and a state directory that cannot be had.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forgetful;

impl Persist for Forgetful {
    fn save_sts<'a>(&'a self, _: &'a Domain, _: &'a StsEntry) -> BoxFuture<'a, Result<(), PersistError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn save_dane(&self, _: &NextHop, _: &DaneEntry) {}

    fn remove(&self, _: &NextHop) {}

    fn flush(&self) -> BoxFuture<'_, Result<(), PersistError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
