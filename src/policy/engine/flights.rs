//! Single flight: equal concurrent questions share one lookup, which goes on when nobody waits any more.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Instant;
use crate::limits::POLICY_LOOKUPS;

/// Lookups under way, by what they look up; bounded.
pub struct Flights<K, T: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<T>>>>,
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
        Self { under_way: Arc::default() }
    }

    /// Joins the lookup of `key`, begun at `now` with `begin` where none is under way. It runs as a task of its
    /// own, so that it fills the cache whoever leaves.
    pub fn join<F>(&self, key: &K, now: Instant, begin: impl FnOnce() -> F) -> Result<Flight<T>, Overloaded>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(key) {
            return Ok(Flight { is_first: false, ..flight.clone() });
        }
        if under_way.len() >= POLICY_LOOKUPS {
            return Err(Overloaded);
        }
        let (sender, receiver) = oneshot::channel();
        let flight = Flight { started: now, is_first: true, result: receiver.shared() };
        under_way.insert(key.clone(), flight.clone());
        let landing = Landing { under_way: Arc::clone(&self.under_way), key: key.clone() };
        let lookup = begin();
        tokio::spawn(async move {
            let result = lookup.await;
            drop(landing);
            // Nobody may be waiting any more; the cache has it.
            _ = sender.send(result);
        });
        Ok(flight)
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
    under_way: Arc<Mutex<HashMap<K, Flight<T>>>>,
    key: K,
}

impl<K: Eq + Hash, T: Clone> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}
