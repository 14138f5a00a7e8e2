//! Whether this process still turns: for `/livez` and systemd's watchdog. Nothing outside the process counts.

use parking_lot::Mutex;

use crate::clock::{Clock, Instant};
use crate::limits::{STUCK_AFTER, UPKEEP_INTERVAL};

/// The loops that must turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Beat {
    /// The task that upkeep, signals and renewals run in.
    Main,
    /// The threads that answer: a task of theirs.
    Workers,
}

/// When each of them turned last.
#[derive(Debug)]
pub(super) struct Pulse {
    main: Mutex<Instant>,
    workers: Mutex<Instant>,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { main: Mutex::new(now), workers: Mutex::new(now) }
    }

    pub(super) fn beat(&self, beat: Beat, now: Instant) {
        let last = match beat {
            Beat::Main => &self.main,
            Beat::Workers => &self.workers,
        };
        *last.lock() = now;
    }

    /// What has not turned for too long.
    pub(super) fn stuck(&self, now: Instant) -> Vec<&'static str> {
        let stands = |last: &Mutex<Instant>| now.saturating_duration_since(*last.lock()) > STUCK_AFTER;
        let loops = [("main loop", &self.main), ("worker threads", &self.workers)];
        loops.into_iter().filter(|(_, last)| stands(last)).map(|(name, _)| name).collect()
    }
}

/// Shows every second that the threads of the runtime take up work. Never ends.
pub(super) async fn turn(pulse: &Pulse, clock: &Clock) {
    let mut tick = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tick.tick().await;
        pulse.beat(Beat::Workers, clock.instant());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_stands_still_is_named_until_it_turns_again() {
        let pulse = Pulse::new(Instant::now());
        assert!(pulse.stuck(Instant::now()).is_empty());
        tokio::time::advance(STUCK_AFTER + UPKEEP_INTERVAL).await;
        pulse.beat(Beat::Workers, Instant::now());
        assert_eq!(pulse.stuck(Instant::now()), ["main loop"]);
        pulse.beat(Beat::Main, Instant::now());
        assert!(pulse.stuck(Instant::now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_turn_beat_every_second() {
        let pulse = std::sync::Arc::new(Pulse::new(Instant::now()));
        let turning = pulse.clone();
        let task = tokio::spawn(async move { turn(&turning, &Clock::system()).await });
        tokio::time::sleep(STUCK_AFTER * 3).await;
        assert_eq!(pulse.stuck(Instant::now()), ["main loop"]);
        task.abort();
        tokio::time::sleep(STUCK_AFTER * 3).await;
        assert_eq!(pulse.stuck(Instant::now()), ["main loop", "worker threads"]);
    }
}
