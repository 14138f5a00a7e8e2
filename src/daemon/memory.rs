//! Gives memory back to the system that a burst has left behind.
//!
//! The system's allocator keeps what was freed for the next time: after thousands of lookups side by side that is many
//! times what the caches hold, and it would stay for days. So the process looks at its size now and then, and once it has
//! grown and the growth is over, free pages are given back, all arenas' (malloc_trim(3)). What is in use is not touched.

#![allow(unsafe_code, reason = "malloc_trim(3) has no safe form; it takes a number and leaves alone what is in use")]

use crate::clock::Clock;
use crate::limits::{MEMORY_LOOK_INTERVAL, MEMORY_LOOKS_MOST, MEMORY_SLACK, MEMORY_STILL};
use crate::telemetry::process::resident_bytes;

/// What is known of the size of this process.
#[derive(Debug, Default)]
struct Growth {
    /// After memory was last given back, or the least since; 0 before the first time.
    floor: u64,
    /// At the last look.
    last: u64,
    /// Looks in a row that found it much above the floor.
    looks: u32,
}

impl Growth {
    /// Takes note of a look; true where memory is to be given back now.
    fn is_due(&mut self, resident: u64) -> bool {
        self.floor = self.floor.min(resident);
        let is_still = resident < self.last.saturating_add(MEMORY_STILL);
        self.last = resident;
        if resident < self.floor.saturating_add(MEMORY_SLACK) {
            self.looks = 0;
            return false;
        }
        self.looks += 1;
        is_still || self.looks >= MEMORY_LOOKS_MOST
    }

    /// Takes note of what is left.
    fn given_back(&mut self, resident: u64) {
        *self = Self { floor: resident, last: resident, looks: 0 };
    }
}

/// Looks, and gives back. Ends only where the system does not tell the size.
pub(super) async fn follow(clock: &Clock) {
    let mut growth = Growth::default();
    loop {
        tokio::time::sleep(MEMORY_LOOK_INTERVAL).await;
        let Some(before) = resident_bytes() else { return };
        if !growth.is_due(before) {
            continue;
        }
        let began = clock.instant();
        // Some ten milliseconds for a hundred mebibytes: not on a thread that answers.
        let done = tokio::task::spawn_blocking(|| (give_back(), resident_bytes())).await;
        let Ok((true, Some(after))) = done else { return };
        let took = clock.instant().saturating_duration_since(began);
        tracing::debug!(before, after, ?took, "memory given back");
        growth.given_back(after);
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
    fn memory_is_given_back_once_growth_is_over_and_not_again_before_it_has_grown_again() {
        let mut growth = Growth::default();
        growth.given_back(20 * MIB);
        let looks = [(20, false), (60, false), (120, false), (200, false), (200, true)];
        for (index, (resident, expected)) in looks.into_iter().enumerate() {
            assert_eq!(growth.is_due(resident * MIB), expected, "look {index}");
        }
        growth.given_back(50 * MIB);
        for resident in [50, 55, 64, 65, 65] {
            assert!(!growth.is_due(resident * MIB), "{resident} MiB");
        }
        assert!(!growth.is_due(67 * MIB), "it grows");
        assert!(growth.is_due(67 * MIB), "it has grown");
    }

    #[test]
    fn whoever_grows_without_end_gives_back_now_and_then() {
        let mut growth = Growth::default();
        growth.given_back(20 * MIB);
        let due = (1..=u64::from(MEMORY_LOOKS_MOST)).filter(|n| growth.is_due((40 + 10 * n) * MIB)).count();
        assert_eq!(due, 1);
    }

    #[test]
    fn what_shrinks_by_itself_is_the_new_floor() {
        let mut growth = Growth::default();
        growth.given_back(100 * MIB);
        assert!(!growth.is_due(30 * MIB));
        assert!(!growth.is_due(60 * MIB), "it grows");
        assert!(growth.is_due(60 * MIB));
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
