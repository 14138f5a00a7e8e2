//! Random signed zones: what validation proves of a zone is true of it, and an honest server's records prove
//! what they should (RFC 4035, 5155, 6840, 9824).
//!
//! The fuzz targets share this module.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]
#![allow(clippy::print_stdout, reason = "counts of what a run covered")]

pub mod dice;
pub mod octets;
pub mod properties;
#[cfg(test)]
mod runs;
pub mod signer;
pub mod zone;
