//! The daemon as a whole: for `status`.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
    /// What is missing before questions can be answered; empty when ready.
    pub missing: Vec<String>,
    /// Next hops in the policy cache.
    pub cache_entries: usize,
    /// Octets in the DNS cache.
    pub resolver_cache_bytes: u64,
    /// Where state is kept.
    pub state_dir: String,
    /// Every trust anchor, and every key that may become one (RFC 5011).
    pub trust_anchors: Vec<Anchor>,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The zone, `.` for the root.
    pub zone: String,
    /// Key tag.
    pub tag: u16,
    /// Algorithm number.
    pub algorithm: u8,
    /// State (RFC 5011 §4.2).
    pub state: String,
    /// Since when it is in that state.
    pub since: UnixTime,
    /// When the zone's keys were last seen; 0 for never.
    pub refreshed_at: UnixTime,
    /// When they are looked at next.
    pub next_refresh: UnixTime,
}
