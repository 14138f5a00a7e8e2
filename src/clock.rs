//! The only reader of time.
//!
//! Everything that depends on time takes a [`Clock`], so that tests move it: `tokio`'s paused clock drives
//! the monotonic side, [`Clock::manual`] the wall side. Never decides anything.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

/// A moment of the monotonic clock in half the space, for what is kept by the hundred thousand: nanoseconds since this
/// process first asked, which does for 292 years either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(i64);

impl Tick {
    /// Before all others.
    pub const EVER: Self = Self(i64::MIN);
    /// After all others.
    pub const NEVER: Self = Self(i64::MAX);

    /// So much earlier.
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<Instant> for Tick {
    fn from(instant: Instant) -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let first = *FIRST.get_or_init(|| instant);
        let nanoseconds = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match instant.checked_duration_since(first) {
            Some(after) => Self(nanoseconds(after)),
            None => Self(-nanoseconds(first.saturating_duration_since(instant))),
        }
    }
}

/// Whole seconds, as TTLs count them: cut, and at most [`u32::MAX`].
pub fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Seconds since 1970-01-01 UTC. Signed, so that differences need no care.
pub type UnixTime = i64;

/// A handle on both clocks: wall (signatures, `max_age`) and monotonic (TTLs, timeouts, round trips).
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual { start: Instant, wall_at_start: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A wall clock that starts at `wall` and advances with tokio's (pausable) monotonic clock.
    pub fn manual(wall: UnixTime) -> Self {
        Self(Source::Manual { start: Instant::now(), wall_at_start: Arc::new(AtomicI64::new(wall)) })
    }

    /// Moves the wall clock of a manual clock by `seconds`, either way, without touching the monotonic one.
    /// Does nothing on the system's clock.
    pub fn jump(&self, seconds: i64) {
        if let Source::Manual { wall_at_start, .. } = &self.0 {
            wall_at_start.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    /// Now, as the calendar has it.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn wall(&self) -> UnixTime {
        match &self.0 {
            Source::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
            },
            Source::Manual { start, wall_at_start } => {
                let ran = i64::try_from(start.elapsed().as_secs()).unwrap_or(i64::MAX);
                wall_at_start.load(Ordering::SeqCst).saturating_add(ran)
            }
        }
    }

    /// Now, on the clock that only moves forward (and stands still while the machine sleeps).
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Both clocks at once.
    pub fn stamp(&self) -> Stamp {
        Stamp { instant: self.instant(), wall: self.wall() }
    }
}

/// A moment on both clocks. Ages are taken from whichever clock says more, so that neither a suspended
/// machine (monotonic clock stands still) nor a wall clock set back makes something old look fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The monotonic side.
    pub instant: Instant,
    /// The wall side.
    pub wall: UnixTime,
}

impl Stamp {
    /// How long ago `earlier` was; zero when it lies in the future on both clocks.
    pub fn since(&self, earlier: Stamp) -> Duration {
        let ran = self.instant.saturating_duration_since(earlier.instant);
        let wall = Duration::from_secs(u64::try_from(self.wall.saturating_sub(earlier.wall)).unwrap_or(0));
        // Whole seconds on the wall side: prefer the finer monotonic value where both agree.
        if wall > ran + Duration::from_secs(1) { wall } else { ran }
    }
}

/// Seconds as people say them, in the two largest units: `59 s`, `1 h 5 min`, `7 d`.
pub fn span(seconds: impl Into<u64>) -> String {
    let seconds = seconds.into();
    let units = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let largest = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(largest).take(2).enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    shown.map(|(_, (count, unit))| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ages_follow_the_clock_that_says_more() {
        let clock = Clock::manual(1_700_000_000);
        let start = clock.stamp();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(clock.wall(), 1_700_000_030);
        assert_eq!(clock.stamp().since(start), Duration::from_secs(30));
        clock.jump(7 * 86_400); // the machine slept for a week
        assert_eq!(clock.stamp().since(start), Duration::from_secs(7 * 86_400 + 30));
        clock.jump(-400 * 86_400); // and then the wall clock was set back
        assert_eq!(clock.stamp().since(start), Duration::from_secs(30));
    }

    #[test]
    fn spans_show_two_units() {
        for (seconds, expected) in [
            (0_u64, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_600, "1 h"),
            (3_661, "1 h 1 min"),
            (90_061, "1 d 1 h"),
            (86_460, "1 d"),
            (604_800, "7 d"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
