//! Policies and zones for the tests of what the policy cache and its store hold.

use std::sync::Arc;

use postseal::cache::entry::{PolicyLine, RecordCheck, RecordOutcome};
use postseal::cache::{StsEntry, StsMode, StsPolicy, ZoneOf};
use postseal::clock::Clock;
use postseal::names::{Domain, MxPattern};

pub fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

/// A policy of about so many octets, with hosts that no other number has.
pub fn long_policy(number: usize, bytes: usize) -> Arc<StsPolicy> {
    let line = |key: &str, value: String| PolicyLine { key: key.into(), value: value.into() };
    let mut lines = vec![line("version", "STSv1".into()), line("mode", "enforce".into())];
    let mut taken = 0;
    while taken < bytes {
        lines.push(line("mx", format!("mx{}-of-{number}.mail.example", lines.len())));
        taken += 32;
    }
    lines.push(line("max_age", "604800".into()));
    let mx = lines.iter().filter(|line| &*line.key == "mx").map(|line| MxPattern::parse(&line.value).unwrap());
    let mx = mx.collect();
    Arc::new(StsPolicy { mode: StsMode::Enforce, max_age: 604_800, mx, lines: lines.into() })
}

/// An MTA-STS branch without a policy.
pub fn announced() -> StsEntry {
    let at = Clock::system().wall();
    let record = RecordCheck { at, ttl: 86_400, outcome: RecordOutcome::Id("1".into()), failures: 0 };
    StsEntry { policy: None, record, failure: None }
}

/// Every name is a zone of its own, but for those below `hostile.example`.
pub fn zone_of() -> ZoneOf {
    Arc::new(|name: &Domain| {
        let name = name.as_str();
        Some(if name.ends_with(".hostile.example") { "hostile.example" } else { name }.to_owned())
    })
}
