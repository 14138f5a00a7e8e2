//! Changes on their way to the disk: the newest per key, so that a slow disk gathers work instead of a queue.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::StoreError;
use super::frame::fits;
use super::texts::{Digest, Pending};
use crate::cache::StsPolicy;
use crate::clock::Instant;
use crate::limits::{STORE_LINGER, STORE_PENDING};

/// The new value of a key; nothing where it is gone.
pub(super) type Change = Option<Vec<u8>>;
/// Told when everything that was queued before is on disk.
pub(super) type Waiter = oneshot::Sender<Result<(), StoreError>>;

/// Between those who change entries and the thread that writes. Cheap to clone; never held across anything
/// that waits.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    changes: HashMap<Vec<u8>, Change>,
    texts: Pending,
    waiters: Vec<Waiter>,
    /// The disk does not take writes: nobody need wait for it.
    failing: bool,
    closed: bool,
}

/// What is written together.
#[derive(Default)]
pub(super) struct Batch {
    /// Changes by key.
    pub changes: HashMap<Vec<u8>, Change>,
    /// The texts that they refer to, and perhaps some more.
    pub texts: Pending,
    /// To be told once it is durable.
    pub waiters: Vec<Waiter>,
}

/// What the writer has to do next.
pub(super) enum Work {
    /// Write this, then tell the waiters.
    Write(Batch),
    /// Nothing came in the given time.
    Idle,
    /// Nobody is left to send changes and all is written.
    Closed,
}

impl Queue {
    /// Queues a change that nobody waits for.
    pub fn put(&self, key: Vec<u8>, change: Change) -> Result<(), StoreError> {
        let mut state = self.0.state.lock();
        let first = state.changes.is_empty();
        state.insert(key, change)?;
        drop(state);
        if first {
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Queues a change and says when it is durable. While the disk fails it stays queued, at once with an error.
    pub fn put_durable(
        &self,
        key: Vec<u8>,
        change: Change,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.put_durable_with(key, change, None)
    }

    /// Likewise, with the text that the value refers to.
    pub fn put_durable_with(
        &self,
        key: Vec<u8>,
        change: Change,
        text: Option<(Digest, Arc<StsPolicy>)>,
    ) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let mut state = self.0.state.lock();
        state.insert(key, change)?;
        state.texts.extend(text);
        if state.texts.len() > state.changes.len() {
            state.prune_texts();
        }
        state.wait(&self.0.wake)
    }

    /// Says when everything queued so far is durable.
    pub fn barrier(&self) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.0.state.lock().wait(&self.0.wake)
    }

    /// No more changes will come: the writer ends once all is written.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.wake.notify_one();
    }

    /// Changes that wait.
    pub fn len(&self) -> usize {
        self.0.state.lock().changes.len()
    }

    /// For the writer: the next work, or [`Work::Idle`] after `patience`.
    pub fn take(&self, patience: Duration) -> Work {
        self.await_work(patience);
        let mut state = self.0.state.lock();
        // Changes nobody waits for are gathered for a moment.
        if !state.changes.is_empty() && state.waiters.is_empty() && !state.closed {
            self.0.wake.wait_for(&mut state, STORE_LINGER);
        }
        if state.changes.is_empty() && state.waiters.is_empty() {
            return if state.closed { Work::Closed } else { Work::Idle };
        }
        let State { changes, texts, waiters, .. } = &mut *state;
        let (changes, texts, waiters) = (std::mem::take(changes), std::mem::take(texts), std::mem::take(waiters));
        Work::Write(Batch { changes, texts, waiters })
    }

    /// For the writer: returns when there is work, at the latest after `patience`.
    pub fn await_work(&self, patience: Duration) {
        let mut state = self.0.state.lock();
        if state.changes.is_empty() && state.waiters.is_empty() && !state.closed {
            self.0.wake.wait_for(&mut state, patience);
        }
    }

    /// For the writer: these could not be written. What came in since is newer.
    pub fn put_back(&self, batch: Batch) {
        let Batch { changes, texts, waiters } = batch;
        let mut state = self.0.state.lock();
        for (key, change) in changes {
            state.changes.entry(key).or_insert(change);
        }
        state.texts.extend(texts);
        state.prune_texts();
        state.failing = true;
        for waiter in state.waiters.drain(..).chain(waiters) {
            // One who no longer waits has been answered already.
            let _ = waiter.send(Err(StoreError::Failing));
        }
    }

    /// Whether the disk is known to take nothing.
    pub fn is_failing(&self) -> bool {
        self.0.state.lock().failing
    }

    /// Whether the disk takes no writes, so that nobody need wait for it.
    pub fn set_failing(&self, failing: bool) {
        self.0.state.lock().failing = failing;
    }

    /// For the writer while the disk fails: waits, but not past the end of the process. True where that has come.
    pub fn sleep(&self, patience: Duration) -> bool {
        let mut state = self.0.state.lock();
        // New changes wake it up; they must not put the next attempt off.
        let end = (Instant::now() + patience).into_std();
        while !state.closed && !self.0.wake.wait_until(&mut state, end).timed_out() {}
        state.closed
    }
}

impl State {
    /// Leaves out texts of changes that newer ones have taken the place of.
    fn prune_texts(&mut self) {
        let Self { changes, texts, .. } = self;
        let referred = changes.values().flatten().filter_map(|value| Some(Digest::in_value(value)?.0));
        let referred: HashSet<Digest> = referred.collect();
        texts.retain(|digest, _| referred.contains(digest));
    }

    fn insert(&mut self, key: Vec<u8>, change: Change) -> Result<(), StoreError> {
        if !fits(&key, change.as_deref().unwrap_or_default()) {
            return Err(StoreError::TooLarge);
        }
        if self.changes.len() >= STORE_PENDING && !self.changes.contains_key(&key) {
            return Err(StoreError::Overloaded);
        }
        self.changes.insert(key, change);
        Ok(())
    }

    fn wait(&mut self, wake: &Condvar) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        wake.notify_one();
        if self.failing || self.closed {
            return Err(StoreError::Failing);
        }
        let (waiter, durable) = oneshot::channel();
        self.waiters.push(waiter);
        Ok(durable)
    }
}
