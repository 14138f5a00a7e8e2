//! The two branches as they live in memory: shared entries and the age of each of their parts.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Age, DaneEntry, DaneVerdict, HeldPolicy, StsEntry, StsMode};
use crate::clock::{Stamp, UnixTime};

/// A DANE branch and its age.
#[derive(Clone, Debug)]
pub struct DaneState {
    /// What was learnt.
    pub entry: DaneEntry,
    age: Age,
}

impl DaneState {
    /// A branch learnt just now.
    pub fn new(entry: DaneEntry, now: Stamp) -> Self {
        Self { entry, age: Age::new(now) }
    }

    /// A branch read back from disk.
    pub fn restored(entry: DaneEntry, now: Stamp) -> Self {
        let age = Age::restored(entry.checked_at, seconds(entry.ttl), now);
        Self { entry, age }
    }

    /// How long it still holds, if it does.
    pub fn left(&self, now: Stamp) -> Option<Duration> {
        left(self.age(now), self.entry.ttl)
    }

    /// How old it is.
    pub fn age(&self, now: Stamp) -> Duration {
        self.age.at(self.entry.checked_at, now)
    }
}

/// An MTA-STS branch and the ages of its parts.
#[derive(Clone, Debug)]
pub struct StsState {
    /// What was learnt.
    pub entry: Arc<StsEntry>,
    record: Age,
    /// Of no meaning where there is none.
    policy: Age,
    /// Of no meaning where there was none.
    failure: Age,
}

impl StsState {
    /// A branch of which parts may have been learnt just now: those that `before` has unchanged keep their age.
    pub fn updated(entry: StsEntry, before: Option<&StsState>, now: Stamp) -> Self {
        let same = |at: UnixTime, earlier: Option<(UnixTime, Age)>| match earlier {
            Some((then, age)) if then == at && at != now.wall => age,
            _ => Age::new(now),
        };
        let old = before.map(|state| (&state.entry, state));
        let record = same(entry.record.at, old.map(|(e, s)| (e.record.at, s.record)));
        let old_policy = old.and_then(|(e, s)| Some((e.policy.as_ref()?.fetched_at, s.policy)));
        let policy = entry.policy.as_ref().map_or(Age::new(now), |held| same(held.fetched_at, old_policy));
        let old_failure = old.and_then(|(e, s)| Some((e.failure.as_ref()?.at, s.failure)));
        let failure = entry.failure.as_ref().map_or(Age::new(now), |failure| same(failure.at, old_failure));
        Self { entry: Arc::new(entry), record, policy, failure }
    }

    /// A branch read back from disk.
    pub fn restored(entry: StsEntry, now: Stamp) -> Self {
        let record = Age::restored(entry.record.at, seconds(entry.record.ttl), now);
        let policy = entry.policy.as_ref().map_or(Age::new(now), |held| held_for(held, now));
        let failure =
            entry.failure.as_ref().map_or(Age::new(now), |f| Age::restored(f.at, seconds(f.retry_after), now));
        Self { entry: Arc::new(entry), record, policy, failure }
    }

    /// The branch with a policy that was fetched elsewhere, and is as old as it says.
    pub fn adopting(&self, held: Arc<HeldPolicy>, now: Stamp) -> Self {
        let policy = held_for(&held, now);
        let entry = StsEntry { policy: Some(held), ..(*self.entry).clone() };
        Self { entry: Arc::new(entry), policy, ..self.clone() }
    }

    /// The policy, and how long it still holds, if it does (RFC 8461 §3.2, `max_age`).
    pub fn policy(&self, now: Stamp) -> Option<(&Arc<HeldPolicy>, Duration)> {
        let held = self.entry.policy.as_ref()?;
        Some((held, left(self.policy_age(now)?, held.policy.max_age)?))
    }

    /// How old the policy is, expired or not.
    pub fn policy_age(&self, now: Stamp) -> Option<Duration> {
        self.entry.policy.as_ref().map(|held| self.policy.at(held.fetched_at, now))
    }

    /// How long the TXT record need not be asked for again.
    pub fn record_left(&self, now: Stamp) -> Option<Duration> {
        left(self.record_age(now), self.entry.record.ttl)
    }

    /// How long ago the TXT record was asked for.
    pub fn record_age(&self, now: Stamp) -> Duration {
        self.record.at(self.entry.record.at, now)
    }

    /// How long the policy may not be fetched again after a failure.
    pub fn retry_left(&self, now: Stamp) -> Option<Duration> {
        let failure = self.entry.failure.as_ref()?;
        left(self.failure.at(failure.at, now), failure.retry_after)
    }
}

/// How much would be lost with an entry; eviction takes the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// No policy.
    Nothing,
    /// None now, but one was seen not long ago: until that is over `policy.on-failure` says nothing about the domain.
    Seen,
    /// DANE protects: the next lookup finds it again, or none does.
    Dane,
    /// An MTA-STS policy in force: once forgotten, an attacker may keep it forgotten (RFC 8461 §10.2).
    Sts,
}

impl Worth {
    /// The worth of an entry with these branches, of which a policy counts as seen until then.
    pub fn of(dane: Option<&DaneState>, sts: Option<&StsState>, seen_until: UnixTime, now: Stamp) -> Self {
        let held = sts.and_then(|sts| sts.policy(now)).is_some_and(|(held, _)| held.policy.mode != StsMode::None);
        if held {
            return Self::Sts;
        }
        let protects = |state: &DaneState| {
            state.entry.verdict.protects() && state.entry.verdict != DaneVerdict::Partial && state.left(now).is_some()
        };
        match dane.is_some_and(protects) {
            true => Self::Dane,
            false if now.wall < seen_until => Self::Seen,
            false => Self::Nothing,
        }
    }
}

/// How far an answer protects a mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Not at all: no policy.
    #[default]
    None,
    /// `dane`: Postfix decides for each MX host.
    Dane,
    /// `secure`: authenticated by MTA-STS.
    Secure,
    /// `dane-only`: authenticated by DANE.
    DaneOnly,
}

impl Protection {
    /// What was answered last, as far as what was kept of both branches tells.
    pub fn restored(verdict: Option<DaneVerdict>, enforces: bool) -> Self {
        match verdict {
            Some(DaneVerdict::DaneOnly) => Self::DaneOnly,
            Some(DaneVerdict::Dane) => Self::Dane,
            _ if enforces => Self::Secure,
            Some(verdict) if verdict.protects() => Self::Dane,
            Some(_) | None => Self::None,
        }
    }

    /// Whether a mail is protected less than under `before`.
    pub fn is_weaker_than(self, before: Self) -> bool {
        let rank = |protection| match protection {
            Self::None => 0,
            Self::Dane => 1,
            Self::Secure | Self::DaneOnly => 2,
        };
        rank(self) < rank(before)
    }

    /// In one word.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Dane => "dane",
            Self::Secure => "secure",
            Self::DaneOnly => "dane-only",
        }
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// The age of a policy that was kept, or fetched elsewhere.
fn held_for(held: &HeldPolicy, now: Stamp) -> Age {
    Age::restored(held.fetched_at, seconds(held.policy.max_age), now)
}

fn left(age: Duration, lifetime: u32) -> Option<Duration> {
    seconds(lifetime).checked_sub(age).filter(|left| !left.is_zero())
}
