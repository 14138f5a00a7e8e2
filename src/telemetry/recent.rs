//! What went wrong or slowly within the last hour: for `status`, where metrics may not name a domain. Bounded, in
//! memory alone.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Instant, Stamp, UnixTime};
use crate::limits::{RECENT_PERIOD, RECENT_REASONS, RECENT_ZONES};

/// Failures by reason, and zones by the time that their servers take.
#[derive(Debug, Default)]
pub struct Recent {
    failures: Mutex<HashMap<&'static str, Failures>>,
    zones: Mutex<HashMap<String, Zone>>,
}

/// One reason for failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The reason in a few words.
    pub reason: &'static str,
    /// How often within the last hour.
    pub count: u64,
    /// The last time.
    pub last: UnixTime,
    /// What failed then.
    pub example: String,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// Its name.
    pub zone: String,
    /// Time of a question, smoothed over the last ones.
    pub smoothed: Duration,
    /// The longest.
    pub longest: Duration,
    /// Questions that it was asked.
    pub questions: u64,
    /// How many of them got no answer of use.
    pub failed: u64,
}

/// Parts of the period that are counted apart; the oldest is forgotten as a whole.
const PARTS: usize = 6;

#[derive(Debug)]
struct Failures {
    /// Counts of the present part and those before it, by the part's number modulo their count.
    counts: [u64; PARTS],
    part: u64,
    last: UnixTime,
    example: String,
}

#[derive(Debug)]
struct Zone {
    smoothed: Duration,
    longest: Duration,
    questions: u64,
    failed: u64,
    asked_at: Instant,
}

impl Recent {
    /// Counts a failure; `reason` is one of a closed set, `example` what failed.
    pub fn failed(&self, reason: &'static str, example: impl FnOnce() -> String, now: Stamp) {
        let mut failures = self.failures.lock();
        if failures.len() >= RECENT_REASONS && !failures.contains_key(reason) {
            return;
        }
        let part = part_of(now.wall);
        let entry = failures.entry(reason).or_insert_with(|| Failures {
            counts: [0; PARTS],
            part,
            last: now.wall,
            example: String::new(),
        });
        entry.turn(part);
        if let Some(count) = entry.counts.get_mut(part as usize % PARTS) {
            *count += 1;
        }
        (entry.last, entry.example) = (now.wall, example());
    }

    /// Takes note of how long a zone's servers took, for an answer or for nothing.
    pub fn asked(&self, zone: impl FnOnce() -> String, took: Duration, answered: bool, now: Instant) {
        let mut zones = self.zones.lock();
        let zone = zone();
        if zones.len() >= RECENT_ZONES && !zones.contains_key(&zone) {
            make_room(&mut zones, now);
        }
        let entry = zones.entry(zone).or_insert(Zone {
            smoothed: took,
            longest: Duration::ZERO,
            questions: 0,
            failed: 0,
            asked_at: now,
        });
        if now.saturating_duration_since(entry.asked_at) > RECENT_PERIOD {
            *entry = Zone { smoothed: took, longest: Duration::ZERO, questions: 0, failed: 0, asked_at: now };
        }
        // As round trips are smoothed (RFC 6298 §2).
        entry.smoothed = (entry.smoothed * 7 + took) / 8;
        entry.longest = entry.longest.max(took);
        entry.questions += 1;
        entry.failed += u64::from(!answered);
        entry.asked_at = now;
    }

    /// Failures within the last hour, most frequent first.
    pub fn failures(&self, now: UnixTime) -> Vec<Failing> {
        let mut failures = self.failures.lock();
        failures.values_mut().for_each(|entry| entry.turn(part_of(now)));
        failures.retain(|_, entry| entry.counts.iter().any(|count| *count > 0));
        let of = |(reason, entry): (&&'static str, &Failures)| Failing {
            reason,
            count: entry.counts.iter().sum(),
            last: entry.last,
            example: entry.example.clone(),
        };
        let mut all: Vec<_> = failures.iter().map(of).collect();
        all.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.reason.cmp(other.reason)));
        all
    }

    /// The `count` slowest zones of the last hour, slowest first.
    pub fn slowest(&self, count: usize, now: Instant) -> Vec<Slow> {
        let zones = self.zones.lock();
        let recent = zones.iter().filter(|(_, zone)| now.saturating_duration_since(zone.asked_at) <= RECENT_PERIOD);
        let mut all: Vec<_> = recent
            .map(|(name, zone)| Slow {
                zone: name.clone(),
                smoothed: zone.smoothed,
                longest: zone.longest,
                questions: zone.questions,
                failed: zone.failed,
            })
            .collect();
        all.sort_by(|one, other| other.smoothed.cmp(&one.smoothed).then_with(|| one.zone.cmp(&other.zone)));
        all.truncate(count);
        all
    }
}

impl Failures {
    /// Goes on to the present part; what is older than the period is forgotten.
    fn turn(&mut self, part: u64) {
        let passed = part.saturating_sub(self.part).min(PARTS as u64);
        for step in 1..=passed {
            if let Some(count) = self.counts.get_mut((self.part + step) as usize % PARTS) {
                *count = 0;
            }
        }
        self.part = self.part.max(part);
    }
}

fn part_of(now: UnixTime) -> u64 {
    u64::try_from(now).unwrap_or(0) / (RECENT_PERIOD.as_secs() / PARTS as u64)
}

/// Drops what is over, and then the faster half: whoever floods us with zones of their own cannot push slow ones out.
fn make_room(zones: &mut HashMap<String, Zone>, now: Instant) {
    zones.retain(|_, zone| now.saturating_duration_since(zone.asked_at) <= RECENT_PERIOD);
    if zones.len() >= RECENT_ZONES {
        let mut times: Vec<Duration> = zones.values().map(|zone| zone.smoothed).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        let mut surplus = zones.len() / 2;
        zones.retain(|_, zone| {
            let goes = zone.smoothed <= median && surplus > 0;
            surplus -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test(start_paused = true)]
    async fn failures_count_for_an_hour_most_frequent_first() {
        let (recent, clock) = (Recent::default(), Clock::manual(1_800_000_000));
        let fail = |reason, example: &str| recent.failed(reason, || example.to_owned(), clock.stamp());
        fail("no answer in time", "a.example");
        fail("signature expired", "b.example");
        clock.jump(1_800);
        fail("signature expired", "c.example");
        let seen: Vec<_> = recent.failures(clock.wall()).into_iter().map(|f| (f.reason, f.count, f.example)).collect();
        let row = |reason, count, example: &str| (reason, count, example.to_owned());
        assert_eq!(seen, [row("signature expired", 2, "c.example"), row("no answer in time", 1, "a.example")]);
        clock.jump(2_400);
        let seen: Vec<_> = recent.failures(clock.wall()).into_iter().map(|f| (f.reason, f.count)).collect();
        assert_eq!(seen, [("signature expired", 1)]);
        clock.jump(3_600);
        assert_eq!(recent.failures(clock.wall()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn zones_are_few_and_the_slow_ones_stay() {
        let recent = Recent::default();
        let ask = |zone: String, took| recent.asked(|| zone, Duration::from_millis(took), took < 1_000, Instant::now());
        for _ in 0..3 {
            ask("slow.example".into(), 4_000);
        }
        for number in 0..3 * RECENT_ZONES {
            ask(format!("{number}.example"), 20);
        }
        assert!(recent.zones.lock().len() <= RECENT_ZONES);
        let slowest = recent.slowest(2, Instant::now());
        assert_eq!(slowest.len(), 2);
        let expected = Slow {
            zone: "slow.example".into(),
            smoothed: Duration::from_secs(4),
            longest: Duration::from_secs(4),
            questions: 3,
            failed: 3,
        };
        assert_eq!(slowest.first(), Some(&expected));
        tokio::time::advance(RECENT_PERIOD * 2).await;
        assert_eq!(recent.slowest(2, Instant::now()), []);
    }
}
