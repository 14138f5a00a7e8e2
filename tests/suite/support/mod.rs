//! The test world: real signed zones on real sockets or in memory, and an HTTPS policy host, with a knob for
//! every fault. Written without the product's own DNS code, so that a mistake there cannot hide.

pub mod answer;
pub mod captured;
pub mod daemon;
pub mod fault;
pub mod forwarder;
pub mod https;
pub mod key;
pub mod killable;
pub mod lab;
pub mod mail;
pub mod memory;
pub mod name;
pub mod policy_lab;
pub mod record;
pub mod serve;
pub mod wire;
pub mod world;
pub mod zone;
