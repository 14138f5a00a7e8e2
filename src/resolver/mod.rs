//! Recursion from the root and DNSSEC validation, behind the port [`crate::dns::Lookup`].

pub mod anchors;
pub mod budget;
pub mod message;
pub mod rrset;
pub mod servers;
pub mod settings;
pub mod transport;
pub mod validate;
