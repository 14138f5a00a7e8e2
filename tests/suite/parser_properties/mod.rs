//! What strangers and operators write, through the parsers of postseal: never a panic, and what is accepted keeps
//! its promises, whatever the octets.
//!
//! The fuzz targets share this module.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

pub mod checks;
pub mod datagrams;
#[cfg(test)]
mod runs;
