//! Places for connections: so many at once, and when there are none left, who makes room.
//!
//! In: what each connection does. Out: a place for every newcomer, and word to the one that has to leave for it. A
//! connection that never finished a request goes first, then the one that has been idle longest, and only where all have
//! answers under way the one that has waited for its own the longest: so nobody is kept out by those who do nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::clock::{Clock, Instant};
use crate::limits::{PLACE_GRACE, PLACE_GRACE_PAUSE, PLACES_LEAVING};

/// Counts connections up to a limit and makes room at it.
#[derive(Debug)]
pub struct Places {
    clock: Clock,
    start: Instant,
    limit: usize,
    open: Mutex<Open>,
    /// Somebody who was told to leave has left, or one who was new has asked.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
    /// Told to leave, and not yet gone.
    leaving: usize,
    /// When a newcomer was last made to wait for another one's first request.
    graced: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// What it does, and since when: [`State`].
    state: AtomicU64,
    leave: Notify,
}

/// What a connection does, in the order in which they make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// It never finished a request.
    Nothing = 0,
    /// Everything that it asked is answered.
    Idle = 1,
    /// Answers are under way.
    Waits = 2,
}

/// What a connection does and since when, in one word that sorts as they make room: microseconds since the start of
/// [`Places`] below two bits for [`Doing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State(u64);

const SINCE: u64 = (1 << 62) - 1;

impl State {
    fn new(doing: Doing, since: Duration) -> Self {
        let since = u64::try_from(since.as_micros()).unwrap_or(SINCE).min(SINCE);
        Self((doing as u64) << 62 | since)
    }

    fn is_new(self) -> bool {
        self.0 >> 62 == Doing::Nothing as u64
    }

    fn since(self) -> Duration {
        Duration::from_micros(self.0 & SINCE)
    }
}

/// One connection's place. Dropping it makes room.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    number: u64,
    entry: Arc<Entry>,
}

/// What becomes of a newcomer.
enum Entering {
    In(Place),
    /// Others have to be gone first.
    Wait(Duration),
}

impl Places {
    /// `limit` places; at least one.
    pub fn new(clock: Clock, limit: usize) -> Arc<Self> {
        let start = clock.instant();
        Arc::new(Self { clock, start, limit: limit.max(1), open: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a new connection. At the limit another one is told to leave and its place is free from then on; so
    /// this waits a moment at most: for one as new as this to ask something, and for those who are leaving.
    pub async fn enter(self: &Arc<Self>) -> Place {
        loop {
            let changed = self.changed.notified();
            match self.try_enter() {
                Entering::In(place) => return place,
                // Whatever comes first: then all is looked at again.
                Entering::Wait(moment) => drop(timeout(moment, changed).await),
            }
        }
    }

    /// Connections that have a place.
    pub fn count(&self) -> usize {
        self.open.lock().entries.len()
    }

    /// Only looks at all connections when there is no room: bounded by the limit.
    fn try_enter(self: &Arc<Self>) -> Entering {
        let now = self.clock.instant();
        let mut open = self.open.lock();
        if open.entries.len() >= self.limit {
            if open.leaving >= PLACES_LEAVING {
                return Entering::Wait(PLACE_GRACE_PAUSE);
            }
            let Some(number) = self.first_to_leave(&mut open, now) else { return Entering::Wait(PLACE_GRACE) };
            if let Some(entry) = open.entries.remove(&number) {
                open.leaving += 1;
                entry.leave.notify_one();
            }
        }
        let number = open.next;
        open.next += 1;
        let state = AtomicU64::new(State::new(Doing::Nothing, self.ran(now)).0);
        let entry = Arc::new(Entry { state, leave: Notify::new() });
        open.entries.insert(number, entry.clone());
        Entering::In(Place { places: self.clone(), number, entry })
    }

    /// Whoever just came has a moment to ask before it has to leave; but newcomers are not held up for that again and
    /// again: then whoever is idle longest goes instead.
    fn first_to_leave(&self, open: &mut Open, now: Instant) -> Option<u64> {
        let ran = self.ran(now);
        let state = |entry: &Entry| State(entry.state.load(Ordering::SeqCst));
        let is_young = |state: State| state.is_new() && ran.saturating_sub(state.since()) < PLACE_GRACE;
        let all = || open.entries.iter().map(|(number, entry)| (state(entry), *number));
        let (first, number) = all().min()?;
        if !is_young(first) {
            return Some(number);
        }
        if open.graced.is_none_or(|last| now.saturating_duration_since(last) >= PLACE_GRACE_PAUSE) {
            open.graced = Some(now + PLACE_GRACE);
            return None;
        }
        if open.graced.is_some_and(|until| now < until) {
            return None;
        }
        Some(all().filter(|(state, _)| !is_young(*state)).min().map_or(number, |(_, number)| number))
    }

    fn ran(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }
}

impl Place {
    /// A request is finished, and its answer under way since `now`.
    pub fn waits(&self, now: Instant) {
        self.set(Doing::Waits, now);
    }

    /// Everything asked is answered, as of `now`; sent or not.
    pub fn idle(&self, now: Instant) {
        self.set(Doing::Idle, now);
    }

    fn set(&self, doing: Doing, now: Instant) {
        let state = State::new(doing, self.places.ran(now));
        if State(self.entry.state.swap(state.0, Ordering::SeqCst)).is_new() {
            self.places.changed.notify_waiters();
        }
    }

    /// Ends when this connection is to make room for another.
    pub async fn told_to_leave(&self) {
        self.entry.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock();
        if open.entries.remove(&self.number).is_none() {
            open.leaving = open.leaving.saturating_sub(1);
        }
        drop(open);
        self.places.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    fn must_leave(place: &Place) -> bool {
        place.told_to_leave().now_or_never().is_some()
    }

    const MOMENT: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn whoever_never_asked_goes_first_then_the_longest_idle_then_the_longest_waiting() {
        let clock = Clock::system();
        let places = Places::new(clock.clone(), 5);
        let mut inside = Vec::new();
        for _ in 0..5 {
            inside.push(Some(places.enter().await));
            pass(MOMENT).await;
        }
        let at = |index: usize, inside: &[Option<Place>], act: fn(&Place, Instant)| {
            act(inside[index].as_ref().expect("inside"), clock.instant());
        };
        at(1, &inside, Place::waits);
        pass(MOMENT).await;
        at(0, &inside, Place::waits);
        at(3, &inside, Place::idle);
        pass(MOMENT).await;
        at(2, &inside, Place::idle);
        let mut newcomers = Vec::new();
        for expected in [4, 3, 2, 1, 0] {
            let newcomer = places.enter().await;
            newcomer.waits(clock.instant());
            newcomers.push(newcomer);
            for (index, place) in inside.iter_mut().enumerate() {
                let goes = place.as_ref().is_some_and(must_leave);
                assert_eq!(goes, index == expected, "{index} where {expected} is to go");
                if goes {
                    *place = None;
                }
            }
            assert_eq!(places.count(), 5);
            pass(MOMENT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_just_came_has_a_moment_to_ask_and_newcomers_are_not_held_up_for_it_again_and_again() {
        let clock = Clock::system();
        let places = Places::new(clock.clone(), 2);
        let idle = places.enter().await;
        idle.idle(clock.instant());
        pass(Duration::from_secs(1)).await;
        let new = places.enter().await;
        let began = clock.instant();
        let third = places.enter().await;
        assert!(must_leave(&new) && clock.instant() - began >= PLACE_GRACE, "it had its moment, and asked nothing");
        drop(new);
        // At once another one: whoever is idle longest goes, and nobody waits.
        let began = clock.instant();
        let fourth = places.enter().await;
        assert!(must_leave(&idle) && !must_leave(&third) && clock.instant() == began);
        drop((idle, third, fourth));
        assert_eq!(places.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_newcomers_keeps_nobody_out_and_those_who_leave_are_bounded() {
        let clock = Clock::system();
        let places = Places::new(clock.clone(), 1_024);
        let mut slow: Vec<Place> = Vec::new();
        for _ in 0..1_100 {
            slow.push(places.enter().await);
            slow.retain(|place| !must_leave(place));
        }
        for _ in 0..100 {
            let began = clock.instant();
            let postfix = places.enter().await;
            postfix.waits(clock.instant());
            assert!(clock.instant() - began < Duration::from_millis(100));
            slow.retain(|place| !must_leave(place));
            drop(postfix);
            slow.push(places.enter().await);
        }
        // They do not go: then newcomers wait for some of them.
        let mut more = Vec::new();
        for _ in 0..PLACES_LEAVING {
            more.push(places.enter().await);
            pass(PLACE_GRACE_PAUSE).await;
        }
        assert!(timeout(PLACE_GRACE_PAUSE * 5, places.enter()).await.is_err());
        slow.retain(|place| !must_leave(place));
        let late = timeout(PLACE_GRACE_PAUSE * 5, places.enter()).await;
        assert!(late.is_ok() && places.count() == 1_024);
    }
}
