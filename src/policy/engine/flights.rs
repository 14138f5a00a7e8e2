//! Single flight: equal concurrent questions share one lookup, which goes on when nobody waits any more.
//!
//! Where too many are under way, that which has been so longest makes room: names whose servers or policy hosts hang, however
//! many, keep nobody out.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::clock::Instant;
use crate::limits::{POLICY_LOOKUP_HELD, POLICY_LOOKUPS};

/// Lookups under way, by what they look up; bounded.
pub struct Flights<K, T: Clone> {
    under_way: Arc<Mutex<UnderWay<K, T>>>,
}

struct UnderWay<K, T: Clone> {
    flights: HashMap<K, (u64, Flight<T>, AbortHandle)>,
    /// In the order in which they began.
    order: BTreeMap<u64, K>,
    next: u64,
}

/// A place on a flight.
pub struct Flight<T: Clone> {
    /// When the lookup began.
    pub started: Instant,
    /// Whether it began for this place: true for one of all that share it.
    pub is_first: bool,
    result: Shared<oneshot::Receiver<T>>,
}

/// No lookup was begun: too many are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many lookups under way")]
pub struct Overloaded;

impl<K, T> Flights<K, T>
where
    K: Clone + Eq + Hash + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Nothing under way.
    pub fn new() -> Self {
        let under_way = UnderWay { flights: HashMap::new(), order: BTreeMap::new(), next: 0 };
        Self { under_way: Arc::new(Mutex::new(under_way)) }
    }

    /// Whether one of `key` is under way.
    pub fn has(&self, key: &K) -> bool {
        self.under_way.lock().flights.contains_key(key)
    }

    /// Joins the lookup of `key`, begun at `now` with `begin` where none is under way. It runs as a task of its
    /// own, so that it fills the cache whoever leaves.
    pub fn join<F>(&self, key: &K, now: Instant, begin: impl FnOnce() -> F) -> Result<Flight<T>, Overloaded>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some((_, flight, _)) = under_way.flights.get(key) {
            return Ok(Flight { is_first: false, ..flight.clone() });
        }
        if under_way.flights.len() >= POLICY_LOOKUPS {
            under_way.make_room(now)?;
        }
        let number = under_way.next;
        under_way.next += 1;
        let (sender, receiver) = oneshot::channel();
        let flight = Flight { started: now, is_first: true, result: receiver.shared() };
        let landing = Landing { under_way: Arc::clone(&self.under_way), number };
        let lookup = begin();
        let task = tokio::spawn(async move {
            let result = lookup.await;
            drop(landing);
            // Nobody may be waiting any more; the cache has it.
            _ = sender.send(result);
        });
        under_way.flights.insert(key.clone(), (number, flight.clone(), task.abort_handle()));
        under_way.order.insert(number, key.clone());
        Ok(flight)
    }
}

impl<K: Eq + Hash, T: Clone> UnderWay<K, T> {
    /// Gives up the lookup that began first, if it has had its time.
    fn make_room(&mut self, now: Instant) -> Result<(), Overloaded> {
        let oldest = self.order.first_key_value().and_then(|(number, key)| Some((*number, self.flights.get(key)?)));
        match oldest {
            Some((number, (_, flight, task)))
                if now.saturating_duration_since(flight.started) >= POLICY_LOOKUP_HELD =>
            {
                task.abort();
                self.leave(number);
                Ok(())
            }
            Some(_) | None => Err(Overloaded),
        }
    }

    fn leave(&mut self, number: u64) {
        if let Some(key) = self.order.remove(&number) {
            self.flights.remove(&key);
        }
    }
}

impl<T: Clone> Flight<T> {
    /// Waits for the result; none where the lookup was given up (the process ends).
    pub async fn landed(self) -> Option<T> {
        self.result.await.ok()
    }
}

impl<T: Clone> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self { started: self.started, is_first: self.is_first, result: self.result.clone() }
    }
}

/// Takes the flight off the list, however the lookup ends.
struct Landing<K: Eq + Hash, T: Clone> {
    under_way: Arc<Mutex<UnderWay<K, T>>>,
    number: u64,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().leave(self.number);
    }
}
