//! Single flight: equal concurrent questions share one lookup, which goes on when nobody waits any more.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::Shared;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use crate::clock::Instant;
use crate::limits::{POLICY_LOOKUPS, POLICY_LOOKUPS_BEGINNING, POLICY_PLACE_TIME};

/// Lookups under way, by what they look up; bounded.
///
/// Of a burst only so many begin at once: one under way takes some 40 KiB, one that waits for its place next to nothing.
/// A lookup gives its place away when it takes long, so that slow servers keep nobody from beginning.
pub struct Flights<K, T: Clone> {
    under_way: Arc<Mutex<HashMap<K, Flight<T>>>>,
    places: Arc<Semaphore>,
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
        Self { under_way: Arc::default(), places: Arc::new(Semaphore::new(POLICY_LOOKUPS_BEGINNING)) }
    }

    /// Joins the lookup of `key`, begun at `now` with `begin` where none is under way. It runs as a task of its
    /// own, so that it fills the cache whoever leaves.
    pub fn join<F>(
        &self,
        key: &K,
        now: Instant,
        begin: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Flight<T>, Overloaded>
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
        let places = Arc::clone(&self.places);
        tokio::spawn(async move {
            // The semaphore is never closed.
            let place = places.acquire().await;
            let mut lookup = Box::pin(begin());
            let soon = timeout(POLICY_PLACE_TIME, &mut lookup).await;
            drop(place);
            let result = match soon {
                Ok(result) => result,
                Err(_) => lookup.await,
            };
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_begins_in_steps_and_slow_lookups_keep_nobody_from_beginning() {
        let (flights, begun) = (Flights::<usize, usize>::new(), Arc::new(AtomicUsize::new(0)));
        for number in 0..POLICY_LOOKUPS {
            let begun = Arc::clone(&begun);
            let slow = move || async move {
                begun.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            };
            assert!(flights.join(&number, Instant::now(), slow).is_ok());
        }
        for step in 1..=3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(begun.load(Ordering::Relaxed), step * POLICY_LOOKUPS_BEGINNING);
            tokio::time::sleep(POLICY_PLACE_TIME).await;
        }
        let all = POLICY_LOOKUPS.div_ceil(POLICY_LOOKUPS_BEGINNING);
        tokio::time::sleep(POLICY_PLACE_TIME * u32::try_from(all).expect("a few")).await;
        assert_eq!(begun.load(Ordering::Relaxed), POLICY_LOOKUPS, "none waits for those that hang");
        let quick = flights.join(&0, Instant::now(), || std::future::ready(0));
        assert!(quick.is_ok_and(|flight| !flight.is_first), "still one for each key");
    }
}
