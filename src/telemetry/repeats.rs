//! Lines that a stranger can cause: the first ones are written, the rest is counted and summarised.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Instant;
use crate::limits::{
    LOG_LINES_PER_PERIOD, LOG_LINES_PER_REASON, LOG_PERIOD, LOG_POLICIES_PER_PERIOD, LOG_REASONS, LOG_SUMMARIES,
};

/// Decides which lines about failures are written. A reason gets its first few lines, one for each subject; from then
/// on it is summarised once a period, until a period passes without it.
#[derive(Debug, Default)]
pub struct Repeats {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the present period began; none before the first line.
    since: Option<Instant>,
    /// Lines written in it.
    lines: u32,
    reasons: HashMap<String, Reason>,
    /// Lines held back whose reason found no place.
    others: u64,
    found: Listed,
    lost: Listed,
}

/// Lines of one kind in a period.
#[derive(Debug, Default)]
struct Listed {
    written: u32,
    held: u64,
}

/// What becomes of a policy. Each kind has lines of its own: what is lost is told however much is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A next hop has one.
    Found,
    /// A next hop is protected less than before.
    Lost,
}

#[derive(Debug, Default)]
struct Reason {
    subjects: BTreeSet<String>,
    held: u64,
    seen: bool,
}

/// Lines that were held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What they would have said; none where they had many reasons.
    pub reason: Option<String>,
    /// How many.
    pub count: u64,
    /// Within how long.
    pub period: Duration,
}

impl Repeats {
    /// Whether a line about this subject, for this reason, may be written; otherwise it is counted.
    pub fn may_say(&self, subject: &str, reason: &str, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.since.get_or_insert(now);
        let has_room = state.lines < LOG_LINES_PER_PERIOD;
        if !state.reasons.contains_key(reason) {
            if state.reasons.len() >= LOG_REASONS {
                state.others += 1;
                return false;
            }
            state.reasons.insert(reason.to_owned(), Reason::default());
        }
        let Some(entry) = state.reasons.get_mut(reason) else { return false };
        entry.seen = true;
        let is_new = entry.subjects.len() < LOG_LINES_PER_REASON && !entry.subjects.contains(subject);
        if !(has_room && is_new) {
            entry.held += 1;
            return false;
        }
        entry.subjects.insert(subject.to_owned());
        state.lines += 1;
        true
    }

    /// Whether a line about a policy may be written; otherwise it is counted.
    pub fn may_list(&self, policy: Policy, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.since.get_or_insert(now);
        let listed = match policy {
            Policy::Found => &mut state.found,
            Policy::Lost => &mut state.lost,
        };
        let may = listed.written < LOG_POLICIES_PER_PERIOD;
        if may {
            listed.written += 1;
        } else {
            listed.held += 1;
        }
        may
    }

    /// What was held back in a period that has ended; nothing while it goes on.
    pub fn summary(&self, now: Instant) -> Vec<Held> {
        let mut state = self.state.lock();
        let Some(since) = state.since else { return Vec::new() };
        let period = now.saturating_duration_since(since);
        if period < LOG_PERIOD {
            return Vec::new();
        }
        let held = state.reasons.iter().filter(|(_, entry)| entry.held > 0);
        let mut held: Vec<_> = held.map(|(reason, entry)| (reason.clone(), entry.held)).collect();
        held.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let rest = held.split_off(held.len().min(LOG_SUMMARIES));
        let others = state.others + rest.into_iter().map(|(_, count)| count).sum::<u64>();
        let mut summary: Vec<_> =
            held.into_iter().map(|(reason, count)| Held { reason: Some(reason), count, period }).collect();
        summary.extend((others > 0).then_some(Held { reason: None, count: others, period }));
        for (listed, what) in
            [(std::mem::take(&mut state.lost), "policy lost"), (std::mem::take(&mut state.found), "policy found")]
        {
            let held = || Held { reason: Some(what.to_owned()), count: listed.held, period };
            summary.extend((listed.held > 0).then(held));
        }
        state.reasons.retain(|_, entry| std::mem::take(&mut entry.seen));
        state.reasons.values_mut().for_each(|entry| entry.held = 0);
        (state.lines, state.others) = (0, 0);
        state.since = (!state.reasons.is_empty()).then_some(now);
        summary
    }
}

/// At most one line a period, for something that can happen a thousand times a second.
#[derive(Debug, Default)]
pub struct Occasionally {
    last: Mutex<Option<Instant>>,
    held: AtomicU64,
}

impl Occasionally {
    /// Whether to say it now, and how often it was held back since it was said last.
    pub fn may_say(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < LOG_PERIOD) {
            self.held.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.held.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(reason: &str, count: u64) -> Held {
        Held { reason: Some(reason.to_owned()), count, period: LOG_PERIOD }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_failure_again_is_counted_and_summarised_while_it_lasts() {
        let repeats = Repeats::default();
        let say = |subject: &str| repeats.may_say(subject, "expired", Instant::now());
        assert!(say("a.example") && !say("a.example") && say("b.example"));
        assert_eq!(repeats.summary(Instant::now()), []);
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(repeats.summary(Instant::now()), [held("expired", 1)]);
        assert!(!say("a.example"), "still the same");
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(repeats.summary(Instant::now()), [held("expired", 1)]);
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(repeats.summary(Instant::now()), [], "it is over");
        assert!(say("a.example"), "and so it is news again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_writes_a_bounded_number_of_lines() {
        let repeats = Repeats::default();
        let mut lines = 0;
        for number in 0..100_000 {
            let (subject, reason) = (format!("{number}.example"), format!("reason {}", number % 1_000));
            lines += u32::from(repeats.may_say(&subject, &reason, Instant::now()));
        }
        assert!((1..=LOG_LINES_PER_PERIOD).contains(&lines), "{lines}");
        tokio::time::advance(LOG_PERIOD).await;
        let summary = repeats.summary(Instant::now());
        assert_eq!(summary.len(), LOG_SUMMARIES + 1);
        assert_eq!(summary.iter().map(|held| held.count).sum::<u64>() + u64::from(lines), 100_000);
        assert!(repeats.state.lock().reasons.len() <= LOG_REASONS);
    }

    #[tokio::test(start_paused = true)]
    async fn policies_are_listed_one_by_one_up_to_a_bound() {
        let repeats = Repeats::default();
        let may_list = |policy| repeats.may_list(policy, Instant::now());
        let listed = (0..LOG_POLICIES_PER_PERIOD + 7).filter(|_| may_list(Policy::Found)).count();
        assert_eq!(listed, LOG_POLICIES_PER_PERIOD as usize);
        assert!(may_list(Policy::Lost), "what is lost is told all the same");
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(repeats.summary(Instant::now()), [held("policy found", 7)]);
        assert!(repeats.may_list(Policy::Found, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn something_frequent_is_said_once_a_period_with_its_count() {
        let often = Occasionally::default();
        let said: Vec<_> = (0..1_000).filter_map(|_| often.may_say(Instant::now())).collect();
        assert_eq!(said, [0]);
        tokio::time::advance(LOG_PERIOD).await;
        assert_eq!(often.may_say(Instant::now()), Some(999));
    }
}
