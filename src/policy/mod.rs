//! The policy of a next hop: DANE and MTA-STS side by side, then one table that combines them.
//!
//! In: a next hop and the options of a map. Out: a [`decision::Decision`], and its words for Postfix from
//! [`reply`]. DNS comes through [`crate::dns::Lookup`], policy files through [`mta_sts::Fetch`], memory
//! through [`crate::cache`]. Never answers less than what is known to be safe: what could not be found out
//! is never taken for "nothing there". Never opens a socket, except to policy hosts in [`mta_sts::fetch`] and, when an
//! operator asks for it, to MX hosts in [`explain`].

pub mod dane;
pub mod decision;
pub mod engine;
pub mod explain;
pub mod merge;
pub mod mta_sts;
pub mod reply;

pub use engine::{Engine, EngineSettings, Freshness};
