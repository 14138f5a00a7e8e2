//! The connections that are open, and which of them has been idle longest.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::{Clock, Instant};

/// Counts connections up to a limit and makes room at it.
#[derive(Debug)]
pub(super) struct Registry {
    clock: Clock,
    start: Instant,
    limit: usize,
    open: Mutex<Open>,
    /// Something ended or became idle: whoever waits for room looks again.
    changed: Notify,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    /// Microseconds since the registry's start; [`BUSY`] while lookups are under way.
    idle_since: AtomicU64,
    leave: Notify,
}

const BUSY: u64 = u64::MAX;
/// Chosen to make room; not chosen again.
const LEAVING: u64 = u64::MAX - 1;

/// One connection's place. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Slot {
    registry: Arc<Registry>,
    number: u64,
    entry: Arc<Entry>,
}

impl Registry {
    pub(super) fn new(clock: Clock, limit: usize) -> Arc<Self> {
        let start = clock.instant();
        let (open, changed, waiting) = Default::default();
        Arc::new(Self { clock, start, limit, open, changed, waiting })
    }

    /// A place for a new connection. At the limit the connection that has been idle longest is told to leave;
    /// while all have lookups under way, the newcomer waits.
    pub(super) async fn enter(self: &Arc<Self>) -> Slot {
        if let Some(slot) = self.try_enter() {
            return slot;
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        loop {
            let changed = self.changed.notified();
            if let Some(slot) = self.try_enter() {
                return slot;
            }
            self.make_room();
            changed.await;
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.lock().entries.len()
    }

    fn try_enter(self: &Arc<Self>) -> Option<Slot> {
        let mut open = self.open.lock();
        if open.entries.len() >= self.limit {
            return None;
        }
        let number = open.next;
        open.next += 1;
        let idle_since = AtomicU64::new(self.since_start(self.clock.instant()));
        let entry = Arc::new(Entry { idle_since, leave: Notify::new() });
        open.entries.insert(number, entry.clone());
        Some(Slot { registry: self.clone(), number, entry })
    }

    /// Only looks at all connections when there is no room: bounded by the limit.
    fn make_room(&self) {
        let open = self.open.lock();
        let idle = |entry: &&Arc<Entry>| entry.idle_since.load(Ordering::SeqCst) < LEAVING;
        let longest = open.entries.values().filter(idle).min_by_key(|entry| entry.idle_since.load(Ordering::SeqCst));
        if let Some(entry) = longest {
            entry.idle_since.store(LEAVING, Ordering::SeqCst);
            entry.leave.notify_one();
        }
    }

    fn since_start(&self, now: Instant) -> u64 {
        let ran = now.saturating_duration_since(self.start).as_micros();
        u64::try_from(ran).unwrap_or(LEAVING - 1).min(LEAVING - 1)
    }
}

impl Slot {
    /// Lookups are under way: this connection is not asked to leave.
    pub(super) fn busy(&self) {
        if self.entry.idle_since.load(Ordering::SeqCst) != LEAVING {
            self.entry.idle_since.store(BUSY, Ordering::SeqCst);
        }
    }

    /// Everything asked is answered, as of `now`.
    pub(super) fn idle(&self, now: Instant) {
        if self.entry.idle_since.load(Ordering::SeqCst) != LEAVING {
            self.entry.idle_since.store(self.registry.since_start(now), Ordering::SeqCst);
        }
        if self.registry.waiting.load(Ordering::SeqCst) > 0 {
            self.registry.changed.notify_waiters();
        }
    }

    /// Ends when this connection is to make room for another.
    pub(super) async fn told_to_leave(&self) {
        self.entry.leave.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.registry.open.lock().entries.remove(&self.number);
        self.registry.changed.notify_waiters();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
