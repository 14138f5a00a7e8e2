//! Gives memory back to the system that a burst has left behind.
//!
//! The system's allocator keeps what was freed for the next time: after thousands of lookups side by side that is many
//! times what the caches hold, and it would stay for days. So the process looks at its size now and then, and while it is
//! much larger than it once was, free pages are given back, those of all arenas (malloc_trim(3)). What is in use is not
//! touched.

#![allow(unsafe_code, reason = "malloc_trim(3) has no safe form; it takes a number and leaves alone what is in use")]

use crate::clock::Clock;
use crate::limits::{MEMORY_LOOK_INTERVAL, MEMORY_PAUSE_MOST, MEMORY_SLACK, MEMORY_WORTH_IT};
use crate::telemetry::process::resident_bytes;

/// What is known of the size of this process.
#[derive(Debug)]
struct Growth {
    /// The least that was seen.
    floor: u64,
    /// Looks that are passed over before the next time.
    wait: u32,
    /// And the time after it, where little comes back: what is in use now may be free then.
    pause: u32,
}

impl Default for Growth {
    fn default() -> Self {
        Self { floor: u64::MAX, wait: 0, pause: 1 }
    }
}

impl Growth {
    /// Takes note of a look; true where memory is to be given back now.
    fn is_due(&mut self, resident: u64) -> bool {
        self.floor = self.floor.min(resident);
        if resident < self.floor.saturating_add(MEMORY_SLACK) {
            (self.wait, self.pause) = (0, 1);
            return false;
        }
        match self.wait.checked_sub(1) {
            Some(wait) => {
                self.wait = wait;
                false
            }
            None => true,
        }
    }

    /// Takes note of what came of it.
    fn given_back(&mut self, before: u64, after: u64) {
        self.floor = self.floor.min(after);
        let was_worth_it = before.saturating_sub(after) >= MEMORY_WORTH_IT;
        self.pause = if was_worth_it { 1 } else { (self.pause * 2).min(MEMORY_PAUSE_MOST) };
        self.wait = self.pause;
    }
}

/// Looks, and gives back. Ends only where the system does not tell the size.
pub(super) async fn follow(clock: &Clock) {
    let mut growth = Growth::default();
    // At once, and what is left is where growth begins: what reading the store took has gone, and no burst has come.
    let mut before = resident_bytes().unwrap_or_default();
    loop {
        let began = clock.instant();
        // Some ten milliseconds for a hundred mebibytes: not on a thread that answers.
        let done = tokio::task::spawn_blocking(|| (give_back(), resident_bytes())).await;
        let Ok((true, Some(after))) = done else { return };
        let took = clock.instant().saturating_duration_since(began);
        tracing::debug!(before, after, ?took, "memory given back");
        growth.given_back(before, after);
        loop {
            tokio::time::sleep(MEMORY_LOOK_INTERVAL).await;
            let Some(resident) = resident_bytes() else { return };
            if growth.is_due(resident) {
                before = resident;
                break;
            }
        }
    }
}

/// False where the system's allocator knows no such thing.
#[cfg(target_env = "gnu")]
fn give_back() -> bool {
    // SAFETY: takes no pointer; glibc locks each arena while it looks through it (MT-Safe, malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
    true
}

#[cfg(not(target_env = "gnu"))]
fn give_back() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_process_that_has_not_grown_is_left_alone() {
        let mut growth = Growth::default();
        for resident in [30, 20, 35, 25, 35, 35] {
            assert!(!growth.is_due(resident * MIB), "{resident} MiB");
        }
    }

    /// Times that memory is given back within so many looks, at a size that does not change by it.
    fn times(growth: &mut Growth, looks: u32, resident: u64, given: u64) -> usize {
        (0..looks)
            .filter(|_| {
                let is_due = growth.is_due(resident);
                if is_due {
                    growth.given_back(resident, resident - given);
                }
                is_due
            })
            .count()
    }

    #[test]
    fn what_was_in_use_the_first_time_is_given_back_soon_after_it_is_free() {
        let mut growth = Growth::default();
        assert!(!growth.is_due(20 * MIB));
        assert!(growth.is_due(200 * MIB));
        growth.given_back(200 * MIB, 199 * MIB);
        // A burst that takes ten minutes, and whatever it has is in use.
        assert!(times(&mut growth, 120, 199 * MIB, 0) >= 120 / (MEMORY_PAUSE_MOST as usize + 1));
        let looks = (1..).find(|_| growth.is_due(199 * MIB)).expect("some time");
        assert!(MEMORY_LOOK_INTERVAL * looks <= std::time::Duration::from_secs(40), "{looks} looks");
    }

    #[test]
    fn a_process_that_has_to_be_large_is_looked_through_twice_a_minute_at_most() {
        let mut growth = Growth::default();
        assert!(!growth.is_due(20 * MIB));
        let hour = 3_600 / MEMORY_LOOK_INTERVAL.as_secs() as u32;
        assert!(times(&mut growth, hour, 200 * MIB, MIB) <= 120);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn free_pages_between_ones_in_use_are_given_back() {
        // Of 64 MiB in small pieces every hundredth stays in use: the allocator by itself gives nothing back.
        let pieces: Vec<Vec<u8>> = (0..32_768).map(|_| vec![1_u8; 2_000]).collect();
        let kept: Vec<Vec<u8>> = pieces.into_iter().step_by(100).collect();
        let before = resident_bytes().expect("told");
        assert!(give_back());
        let after = resident_bytes().expect("told");
        assert!(after + 32 * MIB < before, "{before} {after}");
        assert!(kept.iter().all(|piece| piece.iter().all(|octet| *octet == 1)));
    }
}
