//! The daemon as a whole: what `status` and the page say.

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Now, as the daemon's calendar has it.
    pub now: UnixTime,
    /// Seconds since its start.
    pub uptime: u64,
    /// What is missing before questions can be answered; empty when ready.
    pub missing: Vec<String>,
    /// Whether the root could be reached and validated at the last look. Readiness waits for it at a start alone.
    #[serde(default)]
    pub root_reachable: bool,
    /// What is listened on.
    pub listeners: Vec<Listening>,
    /// Lookups answered since the start.
    pub queries: u64,
    /// Share of looks into the policy cache that found the answer; none before the first.
    pub hit_rate: Option<f64>,
    /// Next hops in the policy cache.
    pub cache_entries: usize,
    /// Octets that they take, by estimate.
    pub cache_bytes: usize,
    /// Octets in the DNS cache.
    pub resolver_cache_bytes: u64,
    /// What outlives the process.
    pub store: StoreStatus,
    /// The store that replicas share, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_store: Option<SharedStoreStatus>,
    /// Every trust anchor, and every key that may become one (RFC 5011).
    pub trust_anchors: Vec<Anchor>,
    /// Zones that the operator exempted from validation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub insecure: Vec<InsecureZone>,
    /// Lookups and fetches that failed within the last hour, most frequent first.
    pub failures: Vec<Failing>,
    /// Zones whose servers took longest within the last hour, slowest first.
    pub slow_zones: Vec<SlowZone>,
}

/// A service and one address of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// `socketmap`, `http`, `dns` or `control`.
    pub service: String,
    /// Where.
    pub address: String,
}

/// The store that replicas share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedStoreStatus {
    /// Where it is, password masked.
    pub url: String,
    /// `starting`, `up` or `down`.
    pub state: String,
    /// Changes that wait to be written.
    pub waiting: usize,
    /// The last failure, where it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The store on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The state directory.
    pub path: String,
    /// Octets on disk.
    pub bytes: u64,
    /// Changes that wait to be written.
    pub waiting: usize,
    /// True while it cannot be written.
    pub failing: bool,
}

/// A key and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// A negative trust anchor (RFC 7646): a zone of `resolver.insecure`, or a forward zone with `insecure = true`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsecureZone {
    /// The zone, `.` for the root. Empty for those who may not see names.
    pub zone: String,
    /// Its last day, UTC; none where it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// True once the last day is over: it is validated again.
    pub ended: bool,
    /// True for a forward zone.
    pub forward: bool,
}

/// One reason for failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// The reason in a few words.
    pub reason: String,
    /// How often within the last hour.
    pub count: u64,
    /// The last time.
    pub last: UnixTime,
    /// What failed then: a zone, or a domain whose MTA-STS policy could not be had. Empty for those who may not see
    /// names.
    pub example: String,
}

/// A zone and how long its servers take, as they are asked: silence counts, too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlowZone {
    /// The zone.
    pub zone: String,
    /// Seconds, smoothed over the last questions.
    pub seconds: f64,
    /// The longest, in seconds.
    pub longest: f64,
    /// Questions that it was asked.
    pub questions: u64,
    /// How many of them got no answer of use.
    pub failed: u64,
}

impl Status {
    /// For those who may not learn which domains are written to: no zone or domain is named.
    pub fn without_names(mut self) -> Self {
        self.slow_zones.clear();
        self.insecure.iter_mut().for_each(|insecure| insecure.zone.clear());
        self.failures.iter_mut().for_each(|failing| failing.example.clear());
        self
    }
}

/// A time span in its two largest units.
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let parts = units.iter().skip(first).take(2).filter_map(|(size, name)| {
        let count = rest / size;
        rest %= size;
        (count > 0 || *size == 1 && seconds == 0).then(|| format!("{count} {name}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// Octets in the unit that suits them.
pub fn size(octets: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| octets >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", octets as f64 / unit as f64),
        None => format!("{octets} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_in_the_units_that_suit_them() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (90_061, "1 d 1 h"), (-5, "0 s")] {
            assert_eq!(span(seconds), text);
        }
        for (octets, text) in
            [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
        {
            assert_eq!(size(octets), text);
        }
    }

    #[test]
    fn names_can_be_left_out() {
        let failing =
            Failing { reason: "no answer in time".into(), example: "secret.example".into(), ..Failing::default() };
        let slow = SlowZone { zone: "secret.example".into(), ..SlowZone::default() };
        let insecure = vec![InsecureZone { zone: "secret.example".into(), ..InsecureZone::default() }];
        let status = Status { failures: vec![failing], slow_zones: vec![slow], insecure, ..Status::default() };
        let text = serde_json::to_string(&status.without_names()).expect("JSON");
        assert!(text.contains("no answer in time") && !text.contains("secret"), "{text}");
    }
}
