//! Recursion from the root and DNSSEC validation, behind the port [`crate::dns::Lookup`].
//!
//! In: a name and a type. Out: a validated answer with all that proves it, or the reason why there is none.
//! One question passes through, in this order:
//!
//! [`engine`] shares equal questions and bounds them; `lookup` follows aliases, from the cache where it can;
//! [`iterate`] goes from the deepest known zone cut ([`delegation`]) down to the zone's servers ([`servers`],
//! [`transport`]); `trust` and `ds_status` build the chain of keys beside it; `check` validates with the pure rules of
//! [`validate`]; `glance` puts off what may not be needed; [`rrset_cache`] keeps what is right and [`failures`] what went wrong.
//!
//! Never hands out anything that was not validated (but for clients that ask for just that), never trusts glue
//! or additional data beyond reaching servers, never serves anything stale.

pub mod anchors;
pub mod budget;
mod chain_steps;
mod check;
mod core;
pub mod delegation;
mod ds_status;
pub mod engine;
pub mod exceptions;
pub mod failures;
pub mod flight;
mod glance;
mod insecurity;
mod inspect;
pub mod iterate;
mod lookup;
pub mod message;
mod name_hash;
mod packed;
pub mod resolution;
pub mod rrset;
pub mod rrset_cache;
mod sections;
pub mod servers;
pub mod settings;
pub mod transport;
mod trust;
pub mod validate;

pub use engine::{Engine, Flags};
pub use resolution::{End, Part, Resolution};
