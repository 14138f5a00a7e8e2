//! Whether the root can be reached and validated: what readiness rests on (design §9). No other name counts, and a
//! short failure does not, either.

use std::future::Future;

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};
use crate::limits::{ROOT_FAILURE_SUSTAINED, ROOT_LOOK_INTERVAL, ROOT_LOOK_RETRY};

/// What is known of the root.
#[derive(Debug, Default)]
pub(super) struct RootHealth(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Not since the start.
    #[default]
    NeverSeen,
    /// At the last look.
    Well,
    /// Every look has failed since then.
    Failing(Instant),
}

impl RootHealth {
    /// Takes note of a look.
    pub(super) fn note(&self, is_well: bool, now: Instant) {
        let mut state = self.0.lock();
        *state = match (*state, is_well) {
            (_, true) => State::Well,
            (State::Well, false) => State::Failing(now),
            (State::NeverSeen | State::Failing(_), false) => *state,
        };
    }

    /// Whether it was seen since the start.
    pub(super) fn was_seen(&self) -> bool {
        !matches!(*self.0.lock(), State::NeverSeen)
    }

    /// Whether it was seen, and has not failed for long.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        match *self.0.lock() {
            State::NeverSeen => false,
            State::Well => true,
            State::Failing(since) => now.saturating_duration_since(since) < ROOT_FAILURE_SUSTAINED,
        }
    }
}

/// Looks at the root again and again once it was seen. Never ends.
pub(super) async fn follow<F: Future<Output = bool>>(health: &RootHealth, clock: &Clock, look: impl Fn() -> F) {
    let mut was_well = true;
    loop {
        let pause = if was_well { ROOT_LOOK_INTERVAL } else { ROOT_LOOK_RETRY };
        tokio::time::sleep(pause).await;
        if !health.was_seen() {
            // Whoever starts the service looks for it already.
            continue;
        }
        let is_well = look().await;
        health.note(is_well, clock.instant());
        let serves = health.is_well(clock.instant());
        match (was_well, is_well) {
            (true, false) => tracing::warn!(
                "the root cannot be reached or validated: see whether UDP and TCP port 53 are open, and the clock right"
            ),
            (false, true) => tracing::info!("the root can be reached and validated again"),
            (true, true) | (false, false) => {}
        }
        tracing::debug!(is_well, serves, "looked at the root");
        was_well = is_well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    /// Follows a root that tests turn on and off.
    fn start() -> (Arc<RootHealth>, Arc<AtomicBool>, Arc<AtomicU32>) {
        let (health, is_up, looks) = <(Arc<RootHealth>, Arc<AtomicBool>, Arc<AtomicU32>)>::default();
        let (followed, root, count) = (health.clone(), is_up.clone(), looks.clone());
        tokio::spawn(async move {
            let look = || {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::ready(root.load(Ordering::SeqCst))
            };
            follow(&followed, &Clock::system(), look).await;
        });
        (health, is_up, looks)
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_lost_only_when_the_root_fails_for_long_and_comes_back_at_once() {
        let (health, is_up, _) = start();
        pass(ROOT_LOOK_INTERVAL * 2).await;
        assert!(!health.is_well(Instant::now()), "never seen");
        is_up.store(true, Ordering::SeqCst);
        health.note(true, Instant::now());
        assert!(health.is_well(Instant::now()));

        is_up.store(false, Ordering::SeqCst);
        pass(ROOT_FAILURE_SUSTAINED).await;
        assert!(health.is_well(Instant::now()), "it may have failed for less than that");
        pass(ROOT_LOOK_INTERVAL).await;
        assert!(!health.is_well(Instant::now()), "now it has failed for longer");
        is_up.store(true, Ordering::SeqCst);
        pass(ROOT_LOOK_RETRY).await;
        assert!(health.is_well(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_fails_now_and_then_costs_no_readiness() {
        let (health, is_up, _) = start();
        health.note(true, Instant::now());
        for round in 0..100 {
            is_up.store(round % 2 == 0, Ordering::SeqCst);
            pass(ROOT_FAILURE_SUSTAINED / 2).await;
            assert!(health.is_well(Instant::now()), "{round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_is_well_is_asked_one_question_every_five_minutes() {
        let (health, is_up, looks) = start();
        is_up.store(true, Ordering::SeqCst);
        health.note(true, Instant::now());
        pass(Duration::from_secs(3_600)).await;
        assert!((11..=12).contains(&looks.load(Ordering::SeqCst)), "{looks:?}");
    }
}
