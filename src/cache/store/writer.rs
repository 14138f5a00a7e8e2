//! The one thread that writes: takes everything that is queued, writes it to both copies with one wait for the
//! disk each, tells those who wait, and keeps trying when the disk fails.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use super::frame::{Body, Frame};
use super::lock::{LockError, StateLock};
use super::queue::{Batch, Queue, Work};
use super::quick::Opening;
use super::recover::{self, Copies, Unwritable};
use super::texts::Digest;
use super::{StoreError, say};
use crate::clock::{Clock, Instant};
use crate::limits::{STORE_CHECK_AFTER, STORE_COMPLAINT_INTERVAL, STORE_RETRY_MAX, STORE_RETRY_MIN};
use crate::telemetry::metrics::{STORE_FAILING, STORE_WRITE_ERRORS};

/// State of the writer thread.
pub(super) struct Writer {
    /// Where the store lives, in the state directory.
    pub store: PathBuf,
    /// Keeps others out; absent where the disk did not let us lock.
    pub lock: Option<StateLock>,
    /// For the age of complaints and names of what is moved aside.
    pub clock: Clock,
    /// Where changes come from.
    pub queue: Queue,
}

impl Writer {
    /// Opens what an opening left for later: everything of a new store, the keyspace where the log said all.
    pub fn complete(&self, opening: Option<Opening>) -> Result<Copies, Unwritable> {
        match opening {
            Some(Opening::Both(copies)) => *copies,
            Some(Opening::Log(whole)) => {
                // The start goes first, if nothing is to be written.
                self.queue.await_work(STORE_CHECK_AFTER);
                let (copies, report) = whole.check(&self.store, self.clock.wall());
                if let Some(report) = report {
                    say(&report, &self.store);
                }
                copies
            }
            None => recover::open(&self.store, self.clock.wall()).copies,
        }
    }

    /// Runs until the queue is closed and empty. Blocks.
    pub fn run(mut self, opened: Result<Copies, Unwritable>) {
        let mut copies = match opened {
            Ok(copies) => copies,
            Err(error) => {
                self.queue.put_back(Batch::default());
                let Some(copies) = self.recover(&error) else { return };
                copies
            }
        };
        copies.sweep_texts();
        loop {
            match self.queue.take(STORE_RETRY_MAX) {
                Work::Idle => {}
                Work::Closed => return,
                Work::Write(batch) => {
                    let error = match copies.write_log(&batch) {
                        Ok(frames) => {
                            for waiter in batch.waiters {
                                // One who no longer waits has been answered already.
                                let _ = waiter.send(Ok(()));
                            }
                            let second = copies.write_keyspace(frames);
                            self.queue.set_failing(second.is_err());
                            second.err()
                        }
                        Err(error) => {
                            self.queue.put_back(batch);
                            Some(error.into())
                        }
                    };
                    if let Some(error) = error {
                        drop(copies);
                        let Some(again) = self.recover(&error) else { return };
                        copies = again;
                        copies.sweep_texts();
                    }
                }
            }
        }
    }

    /// Takes the lock of the state directory where a failing disk kept it from us at the start.
    fn lock(&mut self) -> Result<(), LockError> {
        if self.lock.is_none() {
            let state = self.store.parent().unwrap_or(&self.store);
            self.lock = Some(StateLock::take(state)?);
        }
        Ok(())
    }

    /// The process ends while the disk fails.
    fn last_attempt(&mut self) -> Option<Copies> {
        let opened = match self.lock() {
            Ok(()) => recover::open(&self.store, self.clock.wall()).copies.ok(),
            Err(_) => None,
        };
        if opened.is_none() {
            tracing::error!(lost = self.queue.len(), "changes that could not be written are lost with this process");
        }
        opened
    }

    /// Tries until the disk takes writes again. Nothing, when the process ends before.
    fn recover(&mut self, first: &Unwritable) -> Option<Copies> {
        let mut pause = STORE_RETRY_MIN;
        let mut complained: Option<Instant> = None;
        let (clock, queue, store) = (self.clock.clone(), self.queue.clone(), self.store.clone());
        let mut complain = |error: &dyn std::fmt::Display| {
            metrics::counter!(STORE_WRITE_ERRORS).increment(1);
            let now = clock.instant();
            if complained.is_none_or(|last| now.saturating_duration_since(last) >= STORE_COMPLAINT_INTERVAL) {
                complained = Some(now);
                let waiting = queue.len();
                let path = store.display();
                tracing::error!(%error, %path, waiting, "the store cannot be written, serving from memory");
            }
        };
        metrics::gauge!(STORE_FAILING).set(1.0);
        complain(first);
        loop {
            if self.queue.sleep(pause) {
                return self.last_attempt();
            }
            if let Err(error) = self.lock() {
                complain(&error);
                continue;
            }
            let opened = recover::open(&self.store, self.clock.wall());
            match opened.copies {
                Ok(copies) => {
                    say(&opened.report, &self.store);
                    metrics::gauge!(STORE_FAILING).set(0.0);
                    let waiting = self.queue.len();
                    tracing::info!(waiting, "the store can be written again, writing what is missing");
                    self.queue.set_failing(false);
                    return Some(copies);
                }
                Err(error) => complain(&error),
            }
            pause = (pause * 2).min(STORE_RETRY_MAX);
        }
    }
}

impl Copies {
    /// Removes texts that no entry refers to.
    fn sweep_texts(&self) {
        self.texts.sweep(|digest| self.index.refers_to(digest));
    }

    /// Writes texts, and then changes to the log: they are durable after this. After an error the copies must be opened
    /// again.
    fn write_log(&mut self, batch: &Batch) -> io::Result<Vec<Frame>> {
        let referred = batch.changes.values().flatten().filter_map(|value| Some(Digest::in_value(value)?.0));
        let referred: HashSet<Digest> = referred.collect();
        self.texts.save(referred.iter().filter_map(|digest| Some((digest, &**batch.texts.get(digest)?))))?;
        let mut frames = Vec::with_capacity(batch.changes.len() + 1);
        for (key, change) in &batch.changes {
            let body = match change {
                Some(value) => Body::Put { key: key.clone(), value: value.clone() },
                // What never reached the disk need not be removed from it.
                None if !self.index.contains(key) => continue,
                None => {
                    self.removed.push(key.clone());
                    Body::Remove { key: key.clone() }
                }
            };
            self.seq += 1;
            frames.push(Frame { seq: self.seq, body });
        }
        if !frames.is_empty() {
            frames.iter().for_each(|frame| self.index.apply(frame));
            self.seq += 1;
            frames.push(Frame { seq: self.seq, body: Body::Commit(self.index.census()) });
            self.log.append(&frames)?;
        }
        Ok(frames)
    }

    /// Writes the same to the keyspace. After an error the copies must be opened again.
    fn write_keyspace(&mut self, frames: Vec<Frame>) -> Result<(), Unwritable> {
        if !frames.is_empty() {
            self.keyspace.append(frames.into())?;
        }
        // Neither copy has a newest record that refers to them.
        self.index.take_idle_texts().iter().for_each(|digest| self.texts.remove(digest));
        if self.log.wants_compaction(self.index.bytes()) { self.compact() } else { Ok(()) }
    }

    /// Rewrites the log without what is out of date, then forgets removed keys.
    fn compact(&mut self) -> Result<(), Unwritable> {
        self.seq += 1;
        let commit = Frame { seq: self.seq, body: Body::Commit(self.index.census()) };
        match self.log.compact(&self.index, commit)? {
            Some(log) => self.log = log,
            // Opening both copies again repairs the log from the keyspace.
            None => return Err(io::Error::other(StoreError::LogDamaged).into()),
        }
        let index = &self.index;
        self.removed.retain(|key| !index.contains(key));
        self.keyspace.forget(std::mem::take(&mut self.removed))?;
        Ok(())
    }
}
