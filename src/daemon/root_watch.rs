//! Whether the root can be reached and validated (design §9): what readiness waits for at a start, for a while, and what the
//! metric `postseal_root_reachable` and `status` tell. No other name counts.

use std::future::Future;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Instant;
use crate::limits::{ROOT_LOOK_INTERVAL, ROOT_LOOK_RETRY, ROOT_WAIT_AT_START};

/// What is known of the root.
#[derive(Debug)]
pub(super) struct RootHealth {
    started: Instant,
    state: Mutex<State>,
    /// Wanted: a look before its time.
    look: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not since the start.
    NeverSeen,
    /// At the last look.
    Well,
    /// The last look failed.
    Failing,
}

impl RootHealth {
    /// Of a process that started then.
    pub(super) fn new(started: Instant) -> Self {
        Self { started, state: Mutex::new(State::NeverSeen), look: Notify::new() }
    }

    /// Takes note of a look.
    pub(super) fn note(&self, is_well: bool) {
        let mut state = self.state.lock();
        *state = match (*state, is_well) {
            (_, true) => State::Well,
            (State::NeverSeen, false) => State::NeverSeen,
            (State::Well | State::Failing, false) => State::Failing,
        };
    }

    /// Whether it was seen since the start.
    pub(super) fn was_seen(&self) -> bool {
        *self.state.lock() != State::NeverSeen
    }

    /// Whether it could be reached and validated at the last look.
    pub(super) fn is_well(&self) -> bool {
        *self.state.lock() == State::Well
    }

    /// Whether readiness still waits for it: at a start, for [`ROOT_WAIT_AT_START`] at most.
    pub(super) fn is_waited_for(&self, now: Instant) -> bool {
        !self.was_seen() && now.saturating_duration_since(self.started) < ROOT_WAIT_AT_START
    }

    /// Asks for a look now, as after the trust anchors have changed.
    pub(super) fn look_again(&self) {
        self.look.notify_one();
    }
}

/// Looks at the root again and again once it was seen. Never ends.
pub(super) async fn follow<F: Future<Output = bool>>(health: &RootHealth, look: impl Fn() -> F) {
    let mut was_well = true;
    loop {
        let pause = if was_well { ROOT_LOOK_INTERVAL } else { ROOT_LOOK_RETRY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = health.look.notified() => {}
        }
        if !health.was_seen() {
            // Whoever starts the service looks for it already.
            continue;
        }
        let is_well = look().await;
        health.note(is_well);
        match (was_well, is_well) {
            (true, false) => tracing::warn!(
                "the root cannot be reached or validated: see whether UDP and TCP port 53 are open, and the clock right"
            ),
            (false, true) => tracing::info!("the root can be reached and validated again"),
            (true, true) | (false, false) => {}
        }
        tracing::debug!(is_well, "looked at the root");
        was_well = is_well;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    /// A follower of a root that is well while the switch says so; counts the looks.
    fn start() -> (Arc<RootHealth>, Arc<AtomicBool>, Arc<AtomicUsize>) {
        let health = Arc::new(RootHealth::new(Instant::now()));
        let (is_up, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (followed, root, count) = (health.clone(), is_up.clone(), looks.clone());
        tokio::spawn(async move {
            let look = || {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::ready(root.load(Ordering::SeqCst))
            };
            follow(&followed, look).await;
        });
        (health, is_up, looks)
    }

    async fn pass(time: Duration) {
        tokio::time::sleep(time + Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_the_root_for_a_minute_and_no_longer() {
        let (health, _, _) = start();
        let clock = Clock::system();
        assert!(health.is_waited_for(clock.instant()));
        pass(ROOT_WAIT_AT_START - Duration::from_secs(1)).await;
        assert!(health.is_waited_for(clock.instant()));
        pass(Duration::from_secs(1)).await;
        assert!(!health.is_waited_for(clock.instant()), "it serves without");
        assert!(!health.is_well());
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_was_seen_is_never_waited_for_again_however_long_it_fails() {
        let (health, is_up, _) = start();
        let clock = Clock::system();
        health.note(true);
        assert!(!health.is_waited_for(clock.instant()));
        is_up.store(false, Ordering::SeqCst);
        for hour in 0..48 {
            pass(Duration::from_secs(3_600)).await;
            assert!(!health.is_waited_for(clock.instant()), "hour {hour}");
            assert!(!health.is_well(), "hour {hour}");
        }
        is_up.store(true, Ordering::SeqCst);
        pass(ROOT_LOOK_RETRY).await;
        assert!(health.is_well());
    }

    #[tokio::test(start_paused = true)]
    async fn a_root_that_is_well_is_asked_one_question_every_five_minutes() {
        let (health, is_up, looks) = start();
        is_up.store(true, Ordering::SeqCst);
        health.note(true);
        pass(Duration::from_secs(3_600)).await;
        assert!((11..=12).contains(&looks.load(Ordering::SeqCst)), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_for_a_look_need_not_wait_for_it() {
        let (health, _, looks) = start();
        health.note(true);
        pass(Duration::from_secs(1)).await;
        health.look_again();
        pass(Duration::ZERO).await;
        assert_eq!(looks.load(Ordering::SeqCst), 1);
        assert!(!health.is_well());
    }
}
