//! Work that several callers want at once is done once.
//!
//! Never holds a lock across an await; never runs work on a caller's task, so that a caller who gives up
//! takes nothing away from the others.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::name_hash::NameMap;

/// Work under way, by key. Bounded by the callers: each piece of work belongs to a lookup, and lookups are
/// bounded ([`crate::limits::LOOKUPS_IN_FLIGHT`]).
pub struct Flights<K, V> {
    under_way: Arc<Mutex<NameMap<K, Shared<BoxFuture<'static, V>>>>>,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Nothing under way.
    pub fn new() -> Self {
        Self { under_way: Arc::new(Mutex::new(NameMap::default())) }
    }

    /// How many pieces of work are under way.
    pub fn count(&self) -> usize {
        self.under_way.lock().len()
    }

    /// The work for `key`, where it is under way.
    pub fn under_way(&self, key: &K) -> Option<Shared<BoxFuture<'static, V>>> {
        self.under_way.lock().get(key).cloned()
    }

    /// Joins the work for `key`, or starts `work` on a task of its own. The future that comes back may be
    /// dropped; the work goes on. `aborted` is the result should the task die.
    pub fn join<F>(&self, key: K, aborted: V, work: impl FnOnce() -> F) -> Shared<BoxFuture<'static, V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(&key) {
            return flight.clone();
        }
        let done = Done { key: key.clone(), under_way: Arc::clone(&self.under_way) };
        let work = work();
        let task = tokio::spawn(async move {
            let _done = done;
            work.await
        });
        let flight = task.map(move |result| result.unwrap_or(aborted)).boxed().shared();
        under_way.insert(key, flight.clone());
        flight
    }
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + Sync + 'static> Default for Flights<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the work off the list when it ends, however it ends.
struct Done<K: Eq + Hash, V: Clone> {
    key: K,
    under_way: Arc<Mutex<NameMap<K, Shared<BoxFuture<'static, V>>>>>,
}

impl<K: Eq + Hash, V: Clone> Drop for Done<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

/// Turns: the first to come does the work in its own task, the others wait until it has ended and then look
/// again. For steps whose outcome is left in a shared table.
#[derive(Default)]
pub struct Turns<K> {
    taken: Arc<Mutex<NameMap<K, Arc<Semaphore>>>>,
}

/// What [`Turns::take`] gives.
pub enum Turn<K: Eq + Hash> {
    /// Yours: do the work, then drop this.
    First(Lead<K>),
    /// Somebody else's; wait with [`Wait::ended`].
    Wait(Wait),
}

/// The right to do the work; dropping it lets the others go on.
pub struct Lead<K: Eq + Hash> {
    key: Option<K>,
    taken: Arc<Mutex<NameMap<K, Arc<Semaphore>>>>,
}

/// Somebody else's turn.
pub struct Wait(Arc<Semaphore>);

impl Wait {
    /// Returns when the work has ended, well or not.
    pub async fn ended(self) {
        // Never has permits: acquire() returns when the semaphore closes.
        let _ = self.0.acquire().await;
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// Takes the turn for `key`, or finds that somebody has it.
    pub fn take(&self, key: K) -> Turn<K> {
        let mut taken = self.taken.lock();
        if let Some(gate) = taken.get(&key) {
            return Turn::Wait(Wait(Arc::clone(gate)));
        }
        taken.insert(key.clone(), Arc::new(Semaphore::new(0)));
        Turn::First(Lead { key: Some(key), taken: Arc::clone(&self.taken) })
    }
}

impl<K: Eq + Hash> Drop for Lead<K> {
    fn drop(&mut self) {
        if let Some(gate) = self.key.take().and_then(|key| self.taken.lock().remove(&key)) {
            gate.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn equal_work_runs_once_and_goes_on_without_its_callers() {
        let flights: Flights<u8, u32> = Flights::new();
        let runs = Arc::new(AtomicU32::new(0));
        let start = || {
            let runs = Arc::clone(&runs);
            flights.join(1, 0, move || async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                runs.fetch_add(1, Ordering::SeqCst) + 1
            })
        };
        let (one, two) = (start(), start());
        drop(one);
        assert_eq!(two.await, 1);
        assert_eq!(flights.count(), 0);
        assert_eq!(start().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_go_on_when_the_first_has_ended() {
        let turns: Turns<u8> = Turns::default();
        let Turn::First(lead) = turns.take(1) else { panic!("nobody was there") };
        let Turn::Wait(wait) = turns.take(1) else { panic!("the turn is taken") };
        let waiting = tokio::spawn(wait.ended());
        drop(lead);
        waiting.await.expect("ends");
        assert!(matches!(turns.take(1), Turn::First(_)));
    }
}
