//! MTA-STS (RFC 8461): the record that announces a policy, the policy, and its life.
//!
//! In: TXT records and policy files, and policies that other replicas share. Out: what holds for a domain, and when to look again. Never drops a
//! policy before its `max_age` ends, whatever fails; never serves it afterwards.

pub mod fetch;
pub mod life;
mod lookup;
pub mod policy;
pub mod record;
pub mod shared;

pub use fetch::{Fetch, FetchError, FetchSettings, FetchedPolicy, HttpsFetch, ProxyRules, RootsError};
pub(crate) use lookup::is_newer;
pub use lookup::{Look, Looked, Means, look, record_name};
