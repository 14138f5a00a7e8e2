//! Questions that failed of late (RFC 9520): answered with the same failure, less and less often tried again.

use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use super::name_hash::{NameCache, cache};
use crate::clock::Stamp;
use crate::dns::Failure;
use crate::limits;

#[derive(Clone)]
struct Failed {
    failure: Failure,
    at: Stamp,
    pause: Duration,
}

/// The failure cache, bounded.
pub struct Failures {
    failed: NameCache<(Name, u16), Failed>,
}

impl Failures {
    /// Nothing has failed.
    pub fn new() -> Self {
        Self { failed: cache(limits::FAILURES_KEPT) }
    }

    /// The failure of this question, while it is not to be tried again.
    pub fn get(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Failure> {
        let failed = self.failed.get(&(name.clone(), u16::from(rtype)))?;
        (now.since(failed.at) < failed.pause).then_some(failed.failure)
    }

    /// Remembers a failure; the pause doubles each time, from 1 s to 5 min (RFC 9520 §3.2; the root's to 4 s), and
    /// starts anew when the question was quiet for as long as the longest pause.
    pub fn insert(&self, failure: Failure, now: Stamp) {
        let most = if failure.name.is_root() { limits::ROOT_FAILURE_TTL_MAX } else { limits::FAILURE_TTL_MAX };
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
}

impl Default for Failures {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dns::Cause;
    use std::str::FromStr;

    #[tokio::test(start_paused = true)]
    async fn each_failure_doubles_the_pause_up_to_five_minutes() {
        let (failures, clock) = (Failures::new(), Clock::manual(0));
        let name = Name::from_str("example.").expect("a name");
        let failure = Failure::new(name.clone(), RecordType::MX, Cause::Timeout);
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            failures.insert(failure.clone(), clock.stamp());
            tokio::time::advance(Duration::from_millis(pause * 1000 - 1)).await;
            assert!(failures.get(&name, RecordType::MX, clock.stamp()).is_some(), "after {pause}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(failures.get(&name, RecordType::MX, clock.stamp()).is_none(), "after {pause}");
        }
        assert!(failures.get(&name, RecordType::A, clock.stamp()).is_none());
        for _ in 0..10 {
            failures.insert(Failure::new(Name::root(), RecordType::DNSKEY, Cause::Timeout), clock.stamp());
        }
        tokio::time::advance(limits::ROOT_FAILURE_TTL_MAX).await;
        assert!(failures.get(&Name::root(), RecordType::DNSKEY, clock.stamp()).is_none(), "the root is tried soon");
        failures.clear(&name, RecordType::MX);
        failures.insert(failure, clock.stamp());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(failures.get(&name, RecordType::MX, clock.stamp()).is_none());
    }
}
