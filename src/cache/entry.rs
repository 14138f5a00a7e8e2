//! The state of the two branches of a next hop, made to be stored.
//!
//! Times are wall-clock times, so that they mean something after a restart; how old an entry is *now* is
//! for [`Age`] to say, which also watches the monotonic clock. Fields keep their order: stored values are
//! MessagePack arrays.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{Stamp, Tick, UnixTime};
use crate::limits::POLICY_SEEN;
use crate::names::{Domain, MxPattern};

/// What DANE says of a next hop (design §4 step 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaneVerdict {
    /// Every host that counts has usable TLSA records and the MX RRset is secure: `dane-only`.
    DaneOnly,
    /// `dane`, with a secure MX RRset and at least one host with usable TLSA records: MTA-STS must not
    /// override it (RFC 8461 §2).
    Dane,
    /// `dane`, but the MX RRset is insecure or no TLSA record of any host is usable: an MTA-STS policy is stronger.
    DaneWeak,
    /// Some hosts have no usable TLSA records, of the others nothing is known: `dane`, never less.
    Partial,
    /// No host has TLSA records.
    None,
    /// Nothing is known: mail waits.
    Temporary,
}

impl DaneVerdict {
    /// True where TLSA records were found.
    pub fn has_records(self) -> bool {
        match self {
            Self::DaneOnly | Self::Dane | Self::DaneWeak => true,
            Self::Partial | Self::None | Self::Temporary => false,
        }
    }

    /// True where Postfix is told to use DANE.
    pub fn protects(self) -> bool {
        match self {
            Self::DaneOnly | Self::Dane | Self::DaneWeak | Self::Partial => true,
            Self::None | Self::Temporary => false,
        }
    }
}

/// The DANE branch of one next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaneEntry {
    /// The verdict.
    pub verdict: DaneVerdict,
    /// Why, in ASCII, for people; without the domain in front.
    pub reason: Arc<str>,
    /// When it was learnt.
    pub checked_at: UnixTime,
    /// Seconds from `checked_at` for which it holds; already clamped (design §7).
    pub ttl: u32,
    /// With [`DaneVerdict::Partial`] the hosts that are proven to have no usable TLSA records; else empty.
    #[serde(default)]
    pub without: Arc<[Domain]>,
    /// Until when a policy of this next hop counts as seen, MTA-STS included; 0 where none ever was. The cache sets it.
    #[serde(default)]
    pub seen_until: UnixTime,
}

impl DaneEntry {
    /// What was learnt at `checked_at` and holds for `ttl` seconds.
    pub fn new(verdict: DaneVerdict, reason: impl Into<Arc<str>>, checked_at: UnixTime, ttl: u32) -> Self {
        Self { verdict, reason: reason.into(), checked_at, ttl, without: Arc::default(), seen_until: 0 }
    }

    /// The same with the hosts that are proven to have no usable TLSA records.
    pub fn without(self, hosts: Arc<[Domain]>) -> Self {
        Self { without: hosts, ..self }
    }

    /// The same, with a policy that counts as seen whatever the verdict: TLSA records were found at some host.
    pub fn seen(self) -> Self {
        Self { seen_until: seen_until(self.checked_at, self.ttl), ..self }
    }

    /// Until when a policy counts as seen for what is known here: a day from when TLSA records were last found.
    pub fn policy_seen_until(&self) -> UnixTime {
        let own = if self.verdict.has_records() { seen_until(self.checked_at, self.ttl) } else { 0 };
        own.max(self.seen_until)
    }
}

/// A policy that was learnt at `since` and holds for `lifetime` seconds counts as seen for a day at least.
fn seen_until(since: UnixTime, lifetime: u32) -> UnixTime {
    since.saturating_add(lifetime.max(POLICY_SEEN).into())
}

/// The MTA-STS branch of one recipient domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StsEntry {
    /// The last policy that was fetched and is valid, whatever came after it.
    pub policy: Option<Arc<HeldPolicy>>,
    /// What the TXT record said when it was last asked for.
    pub record: RecordCheck,
    /// The last fetch, where it failed: rare, and kept apart for that.
    pub failure: Option<Box<FetchFailure>>,
}

impl StsEntry {
    /// Until when a policy counts as seen for what is known here: its `max_age`, and a day at least.
    pub fn policy_seen_until(&self) -> UnixTime {
        self.policy.as_ref().map_or(0, |held| held.seen_until())
    }
}

impl HeldPolicy {
    /// Until when it counts as seen; 0 for one that says that there is none.
    pub fn seen_until(&self) -> UnixTime {
        match self.policy.mode {
            StsMode::Enforce | StsMode::Testing => seen_until(self.fetched_at, self.policy.max_age),
            StsMode::None => 0,
        }
    }
}

/// A policy and its validity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPolicy {
    /// The `id` of the TXT record under which it was fetched.
    pub id: Box<str>,
    /// When it was last fetched with success; it is valid for `max_age` from then.
    pub fetched_at: UnixTime,
    /// The policy; domains that publish the same share it.
    pub policy: Arc<StsPolicy>,
}

/// A parsed MTA-STS policy (RFC 8461 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StsPolicy {
    /// What to do with it.
    pub mode: StsMode,
    /// Seconds of validity, at most [`StsPolicy::LONGEST_MAX_AGE`].
    pub max_age: u32,
    /// The MX hosts it allows; empty only with mode `none`.
    pub mx: Box<[MxPattern]>,
    /// Every line as published, for TLSRPT.
    pub lines: PolicyLines,
}

impl StsPolicy {
    /// Longest `max_age`, about a year (RFC 8461 §3.2).
    pub const LONGEST_MAX_AGE: u32 = 31_557_600;
}

/// The lines of a policy, in one piece: a hundred thousand policies are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<PolicyLine>", into = "Vec<PolicyLine>")]
pub struct PolicyLines(Box<str>);

/// One `key: value` line of a policy, without the white space around the value: how lines are made and stored. The
/// parser lets no colon into a key and no control character into either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLine {
    /// Field name.
    pub key: Box<str>,
    /// Field value.
    pub value: Box<str>,
}

impl PolicyLines {
    /// Key and value of each line, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split_terminator('\n').filter_map(|line| line.split_once(':'))
    }

    /// All of them as one text, `key:value` and LF each.
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// The lines of such a text.
    pub fn from_text(text: String) -> Self {
        Self(text.into())
    }

    /// Octets held.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl From<Vec<PolicyLine>> for PolicyLines {
    fn from(lines: Vec<PolicyLine>) -> Self {
        let mut text = String::with_capacity(lines.iter().map(|line| line.key.len() + line.value.len() + 2).sum());
        for line in lines {
            text.extend([&line.key, ":", &line.value, "\n"]);
        }
        Self(text.into())
    }
}

impl From<PolicyLines> for Vec<PolicyLine> {
    fn from(lines: PolicyLines) -> Self {
        lines.iter().map(|(key, value)| PolicyLine { key: key.into(), value: value.into() }).collect()
    }
}

/// The mode of a policy (RFC 8461 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StsMode {
    /// Deliver only to hosts that match and authenticate.
    Enforce,
    /// Report, but deliver as usual.
    Testing,
    /// As if there were no policy.
    None,
}

/// When the TXT record at `_mta-sts.<domain>` was last asked for, and with what result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCheck {
    /// When.
    pub at: UnixTime,
    /// Seconds from `at` after which it is asked for again; already clamped, and the back-off after a failure.
    pub ttl: u32,
    /// The result.
    pub outcome: RecordOutcome,
    /// Failures in a row; sets the back-off.
    pub failures: u32,
}

/// What the TXT record said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordOutcome {
    /// One valid record with this `id`.
    Id(Box<str>),
    /// Proven or plainly not there, or not a valid record: MTA-STS is not announced. The text says why.
    Absent(Arc<str>),
    /// Could not be found out. The text says why.
    Failed(Arc<str>),
}

/// A failed fetch of a policy, and when it may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchFailure {
    /// The `id` for which it failed: a new one may be fetched at once.
    pub id: Box<str>,
    /// What kind of failure.
    pub kind: FetchFailureKind,
    /// Why, in ASCII, for people.
    pub reason: Box<str>,
    /// When it failed last.
    pub at: UnixTime,
    /// Seconds from `at` before which it is not tried again (RFC 8461 §3.3).
    pub retry_after: u32,
    /// Failures in a row.
    pub count: u32,
}

/// Kinds of failed fetches, as far as they are treated or reported (RFC 8460 §4.3) differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchFailureKind {
    /// No answer, no connection, no address: may well be our own network.
    Network,
    /// The policy host answered, but not with a policy.
    Http,
    /// The policy host's certificate does not verify for its name.
    Certificate,
    /// What was fetched is not a valid policy.
    Invalid,
}

impl FetchFailureKind {
    /// In a few words, for people.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Network => "MTA-STS policy host cannot be reached",
            Self::Http => "MTA-STS policy host answers without a policy",
            Self::Certificate => "MTA-STS policy host's certificate does not verify",
            Self::Invalid => "MTA-STS policy is invalid",
        }
    }
}

/// How old something is, by both clocks.
///
/// The wall clock counts while the machine sleeps and across restarts, the monotonic clock cannot be set;
/// the one that says more is believed, so that nothing expired is served after a clock was set back. What
/// looks expired by the wall clock alone is not served either, but keeps: the clock may be set right again.
///
/// When it came into being by the wall clock (`born`) is part of the entry and not kept here a second time.
#[derive(Clone, Copy, Debug)]
pub struct Age {
    /// When it came into being by the monotonic clock, be that before the machine started.
    began: Tick,
}

impl Age {
    /// The age of something that is new at `now`.
    pub fn new(now: Stamp) -> Self {
        Self { began: now.instant.into() }
    }

    /// The age of something read back from disk, of which `lifetime` is how long it holds. Where it looks
    /// expired at once, perhaps because the clock is not set yet, later readings of the wall clock decide.
    pub fn restored(born: UnixTime, lifetime: Duration, now: Stamp) -> Self {
        let before = wall_since(born, now.wall);
        let before = if before < lifetime { before } else { Duration::ZERO };
        Self { began: Tick::from(now.instant).before(before) }
    }

    /// How old it is at `now`.
    pub fn at(&self, born: UnixTime, now: Stamp) -> Duration {
        let ran = Tick::from(now.instant).since(self.began);
        let wall = wall_since(born, now.wall);
        // Whole seconds on the wall side: prefer the finer monotonic value where both agree.
        if wall > ran + Duration::from_secs(1) { wall } else { ran }
    }
}

fn wall_since(born: UnixTime, wall: UnixTime) -> Duration {
    Duration::from_secs(u64::try_from(wall.saturating_sub(born)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const DAY: i64 = 86_400;
    const YEAR: i64 = 365 * DAY;
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_never_makes_anything_younger() {
        let clock = Clock::manual(1_800_000_000);
        let now = clock.wall();
        let fresh = Age::new(clock.stamp());
        let restored = Age::restored(now - 6 * DAY, WEEK, clock.stamp());
        clock.jump(-YEAR);
        tokio::time::advance(Duration::from_secs(2 * 86_400)).await;
        assert_eq!(fresh.at(now, clock.stamp()).as_secs(), 2 * 86_400);
        assert!(restored.at(now - 6 * DAY, clock.stamp()) >= WEEK, "six days before the restart count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_wrong_for_a_minute_at_start_costs_nothing() {
        let clock = Clock::manual(1_800_000_000 + YEAR);
        let born = 1_800_000_000 - DAY;
        let age = Age::restored(born, WEEK, clock.stamp());
        assert!(age.at(born, clock.stamp()) > WEEK, "not served while the clock is ahead");
        tokio::time::advance(Duration::from_secs(60)).await;
        clock.jump(-YEAR);
        assert_eq!(age.at(born, clock.stamp()).as_secs(), 86_400 + 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_week_asleep_counts() {
        let clock = Clock::manual(1_800_000_000);
        let (age, born) = (Age::new(clock.stamp()), clock.wall());
        clock.jump(7 * DAY);
        assert!(age.at(born, clock.stamp()) >= WEEK);
    }
}
