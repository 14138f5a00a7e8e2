//! Questions that failed a while ago (RFC 9520): answered with the same failure, less and less often tried again.
//!
//! A failure is remembered for the very question that failed, and only where it tells something of those who were asked.
//! What ran out here (work, time, places, our own network) says nothing of anybody, and is not remembered. Where no server
//! answered, the question is tried again soon, and at once when a server of the zone, or of one above it, is heard again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use super::name_hash::{NameCache, cache};
use crate::clock::{Instant, Stamp};
use crate::dns::{Bogus, Cause, Failure};
use crate::limits;

#[derive(Clone)]
struct Failed {
    failure: Failure,
    at: Stamp,
    pause: Duration,
}

/// What a failure says of those who were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// They answered, and not with what could be used.
    Answered,
    /// None of them answered.
    Silent,
    /// Nothing: something of ours ran out or failed.
    Nothing,
}

impl Says {
    fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Bogus(Bogus::TooMuchWork(_)) | Cause::Budget(_) | Cause::Overloaded | Cause::Network => {
                Self::Nothing
            }
            Cause::Timeout | Cause::NoServers => Self::Silent,
            Cause::Bogus(_)
            | Cause::ServFail
            | Cause::ErrorCode(_)
            | Cause::Lame
            | Cause::Malformed
            | Cause::AliasChain => Self::Answered,
        }
    }
}

/// The failure cache, bounded.
pub struct Failures {
    failed: NameCache<(Name, u16), Failed>,
    /// When servers of a zone were last heard, for zones that were heard while a silence was remembered.
    heard: NameCache<Name, Instant>,
    began: Instant,
    /// Until when some silence is remembered, in milliseconds from `began`: before anything has failed, and long after,
    /// nobody needs to know who was heard.
    silence_until: AtomicU64,
}

impl Failures {
    /// Nothing has failed.
    pub fn new(now: Instant) -> Self {
        let (failed, heard) = (cache(limits::FAILURES_KEPT), cache(limits::FAILURES_KEPT));
        Self { failed, heard, began: now, silence_until: AtomicU64::new(0) }
    }

    /// The failure of this question, while it is not to be tried again.
    pub fn get(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Failure> {
        let failed = self.failed.get(&(name.clone(), u16::from(rtype)))?;
        let lasts = now.since(failed.at) < failed.pause;
        let is_over = lasts && Says::of(&failed.failure.cause) == Says::Silent && self.is_heard_since(&failed, now);
        (lasts && !is_over).then_some(failed.failure)
    }

    /// Remembers a failure; the pause doubles each time, from 1 s to 5 min (RFC 9520 §3.2; where nobody answered to 5 s),
    /// and starts anew when the question was quiet for as long as the longest pause. The root's silence is not remembered:
    /// everything hangs on it, so the first question after the network's return has to find it.
    pub fn insert(&self, failure: Failure, now: Stamp) {
        let most = match Says::of(&failure.cause) {
            Says::Nothing => return,
            Says::Silent if failure.name.is_root() || failure.zone.as_ref().is_some_and(Name::is_root) => return,
            Says::Silent => limits::SILENCE_TTL_MAX,
            Says::Answered if failure.name.is_root() => limits::ROOT_FAILURE_TTL_MAX,
            Says::Answered => limits::FAILURE_TTL_MAX,
        };
        if most == limits::SILENCE_TTL_MAX {
            self.silence_until.fetch_max(self.millis(now.instant + most), Ordering::Relaxed);
        }
        let key = (failure.name.clone(), u16::from(failure.rtype));
        let pause = match self.failed.get(&key) {
            Some(last) if now.since(last.at) < last.pause + most => (last.pause * 2).min(most),
            _ => limits::FAILURE_TTL_MIN,
        };
        self.failed.insert(key, Failed { failure, at: now, pause });
    }

    /// Forgets the failures of a question that has been answered.
    pub fn clear(&self, name: &Name, rtype: RecordType) {
        self.failed.remove(&(name.clone(), u16::from(rtype)));
    }

    /// Forgets all failures.
    pub fn clear_all(&self) {
        self.failed.clear();
    }

    /// A server of `zone` has answered.
    pub fn heard(&self, zone: &Name, now: Instant) {
        if self.millis(now) < self.silence_until.load(Ordering::Relaxed) {
            self.heard.insert(zone.clone(), now);
        }
    }

    /// Whether a server of the zone that was silent has answered since, or one of a zone above it, which has to be back
    /// first. The latter says less where the zone alone is dead, so that counts after the least pause only.
    fn is_heard_since(&self, failed: &Failed, now: Stamp) -> bool {
        let Some(zone) = &failed.failure.zone else { return false };
        let since = |zone: &Name| self.heard.get(zone).is_some_and(|heard| heard > failed.at.instant);
        let above = || (0..zone.iter().count()).any(|labels| since(&zone.trim_to(labels)));
        since(zone) || now.since(failed.at) >= limits::FAILURE_TTL_MIN && above()
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::str::FromStr;

    const MX: RecordType = RecordType::MX;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("a name")
    }

    fn new() -> (Failures, Clock) {
        let clock = Clock::manual(0);
        (Failures::new(clock.instant()), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_pause_up_to_its_limit() {
        let answered = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
        let silent = [1, 2, 4, 5, 5];
        for (cause, pauses) in
            [(Cause::ServFail, &answered[..]), (Cause::Timeout, &silent), (Cause::NoServers, &silent)]
        {
            let (failures, clock) = new();
            let failure = Failure::new(name("example."), MX, cause);
            for pause in pauses {
                failures.insert(failure.clone(), clock.stamp());
                tokio::time::advance(Duration::from_millis(pause * 1000 - 1)).await;
                assert!(failures.get(&failure.name, MX, clock.stamp()).is_some(), "{failure} after {pause}");
                tokio::time::advance(Duration::from_millis(1)).await;
                assert!(failures.get(&failure.name, MX, clock.stamp()).is_none(), "{failure} after {pause}");
            }
            assert!(failures.get(&failure.name, RecordType::A, clock.stamp()).is_none());
            failures.clear(&failure.name, MX);
            failures.insert(failure.clone(), clock.stamp());
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(failures.get(&failure.name, MX, clock.stamp()).is_none(), "{failure}: begins anew");
        }
        let (failures, clock) = new();
        for _ in 0..10 {
            failures.insert(Failure::new(Name::root(), RecordType::DNSKEY, Cause::ServFail), clock.stamp());
        }
        tokio::time::advance(limits::ROOT_FAILURE_TTL_MAX).await;
        assert!(failures.get(&Name::root(), RecordType::DNSKEY, clock.stamp()).is_none(), "the root is tried soon");
    }

    #[tokio::test(start_paused = true)]
    async fn what_ran_out_here_is_not_remembered() {
        let (failures, clock) = new();
        let work = Cause::Bogus(Bogus::TooMuchWork("signature checks"));
        for cause in [work, Cause::Budget("upstream queries"), Cause::Overloaded, Cause::Network] {
            failures.insert(Failure::new(name("example."), MX, cause.clone()), clock.stamp());
            assert!(failures.get(&name("example."), MX, clock.stamp()).is_none(), "{cause}");
        }
        failures.insert(Failure::new(Name::root(), RecordType::DNSKEY, Cause::Timeout), clock.stamp());
        assert!(failures.get(&Name::root(), RecordType::DNSKEY, clock.stamp()).is_none(), "the root's silence");
        failures.insert(Failure::new(name("example."), MX, Cause::Timeout).in_zone(&Name::root()), clock.stamp());
        assert!(failures.get(&name("example."), MX, clock.stamp()).is_none(), "the root's silence, for another name");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_ends_when_the_zone_or_one_above_it_is_heard() {
        // Who is heard after this many milliseconds; whether the question may be asked again then.
        for (row, cause, heard, after, again) in [
            ("nobody", Cause::Timeout, None, 900, false),
            ("the zone", Cause::Timeout, Some("mail.example."), 10, true),
            ("one above, in the first second", Cause::Timeout, Some("example."), 10, false),
            ("one above", Cause::Timeout, Some("example."), 1_100, true),
            ("the root", Cause::NoServers, Some("."), 1_100, true),
            ("a sibling", Cause::Timeout, Some("other.example."), 1_100, false),
            ("one below", Cause::Timeout, Some("below.mail.example."), 1_100, false),
            ("the zone, which had answered before", Cause::ServFail, Some("mail.example."), 1_100, false),
        ] {
            let (failures, clock) = new();
            let failure = Failure::new(name("mx.mail.example."), MX, cause).in_zone(&name("mail.example."));
            // Twice, so that the pause is two seconds.
            failures.insert(failure.clone(), clock.stamp());
            failures.heard(&name("mail.example."), clock.instant());
            failures.heard(&Name::root(), clock.instant());
            tokio::time::advance(Duration::from_millis(1)).await;
            failures.insert(failure.clone(), clock.stamp());
            tokio::time::advance(Duration::from_millis(after)).await;
            if let Some(heard) = heard {
                failures.heard(&name(heard), clock.instant());
            }
            assert_eq!(failures.get(&failure.name, MX, clock.stamp()).is_none(), again, "{row}");
        }
    }
}
