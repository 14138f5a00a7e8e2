//! DANE for SMTP (RFC 7672): from MX hosts and their TLSA records to a verdict.
//!
//! In: validated answers. Out: what each host has, and the verdict over all. Never sees a bogus answer, and
//! never asks for TLSA records in a zone that is not known to be signed.

pub(in crate::policy) mod der;
pub(in crate::policy) mod host;
mod hosts;
pub mod mx;
pub mod tlsa;
mod ttl;
pub mod verdict;

pub use host::{HostAddresses, HostReport};
pub use hosts::{DaneReport, evaluate};
pub use verdict::HostStatus;
