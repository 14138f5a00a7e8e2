//! postseal tells Postfix how strictly to protect mail to each domain.
//!
//! The crate reads along the path of one question:
//!
//! 1. [`socketmap`] takes a lookup from Postfix and answers in order;
//! 2. [`policy`] decides: DANE and MTA-STS side by side, then one table that combines them;
//! 3. [`cache`] keeps what was learnt, in memory and on disk;
//! 4. [`dns`] is the port through which anything above sees DNS, always with a security status;
//! 5. [`resolver`] stands behind that port: recursion from the root and DNSSEC validation;
//! 6. [`listener`] serves the same answers to Postfix's own resolver.
//!
//! Around it: [`daemon`] wires and ends everything, [`cli`] holds one file per command, [`config`] the
//! settings, [`postfix`] what Postfix must be told, [`limits`] every bound with its reason, [`clock`] the only reader of time, [`names`] the
//! names that were parsed and can be trusted, [`addresses`] which addresses a stranger may name, [`caller`] who is at the other end of a Unix socket,
//! [`places`] who makes room where all connections are taken, [`telemetry`] logs and metrics.

pub mod addresses;
pub mod cache;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod http;
pub mod limits;
pub mod listener;
pub mod names;
pub mod places;
pub mod policy;
pub mod postfix;
pub mod resolver;
pub mod socketmap;
pub mod telemetry;
