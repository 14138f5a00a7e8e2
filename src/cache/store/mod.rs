//! What outlives the process: both branches of every next hop, and a few named blobs.
//!
//! In: changes, keyed. Out: at a start, everything that can still be read. Each record is written to two
//! copies, a log of records that check themselves and a keyspace in fjall, so that damage to any one file
//! costs nothing: `recover` takes the newest of each key from both and repairs what is behind. One thread
//! writes; those who wait for durability share one wait for the disk.
//!
//! Never fails a start for what is on disk, never throws away what another copy still has, never decides
//! whether an entry is still valid.

mod alike;
#[cfg(test)]
mod alone;
mod branches;
mod fence;
mod files;
mod frame;
mod index;
mod keyspace;
mod lock;
mod log;
mod queue;
mod quick;
mod recover;
pub(in crate::cache) mod texts;
mod writer;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use branches::Loaded;
pub use files::make_state_directory;
pub use lock::{LockError, StateLock};
pub use recover::Report;

use crate::clock::{Clock, Instant, UnixTime};
use crate::limits::STORE_SAVE_WAIT;
use crate::telemetry::metrics::{STORE_LOST, STORE_MOVED_ASIDE};
use queue::{Batch, Queue};

/// The store's directory in the state directory.
const STORE_DIRECTORY: &str = "store";
/// First octet of the key of a blob.
const KEY_BLOB: u8 = b'b';
/// How long the end of the process waits for the last writes. Unit tests go on afterwards, with the same files.
const CLOSE_WAIT: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 2 });

/// Why something is not on disk now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk does not take writes. The change is queued and will be written once it does.
    #[error("the disk does not take writes")]
    Failing,
    /// The disk did not answer within [`STORE_SAVE_WAIT`]. The change is queued.
    #[error("the disk does not answer in time")]
    Slow,
    /// Too many changes wait already: this one is not kept.
    #[error("too many changes wait for the disk")]
    Overloaded,
    /// Key or value are over their limits: this one is not kept.
    #[error("too large to be stored")]
    TooLarge,
    /// A record of the log did not read back.
    #[error("a record of the log is damaged")]
    LogDamaged,
}

/// The store, open for writing. Dropping it writes what is queued, and waits for that a bounded time.
pub struct Store {
    directory: PathBuf,
    queue: Queue,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    ended: Mutex<mpsc::Receiver<()>>,
    /// How long dropping it waits for the last writes.
    close_wait: Mutex<Duration>,
    clock: Clock,
    /// When it was last said that the disk does not answer.
    complained: Mutex<Option<Instant>>,
}

impl Store {
    /// Locks the state directory, reads the store in it and starts the writer. Blocks while it reads.
    ///
    /// The only error is that another process has the directory: whatever is wrong with the disk or the
    /// files is logged, and the store begins with what can be read.
    pub fn open(state: &Path, clock: Clock) -> Result<(Self, Loaded), LockError> {
        let lock = Self::lock(state, &clock)?;
        Ok(Self::open_locked(state, lock, clock))
    }

    /// Takes the state directory for this process. None where the disk does not let us lock, which is logged: then
    /// nobody else can use it, either.
    pub fn lock(state: &Path, clock: &Clock) -> Result<Option<StateLock>, LockError> {
        files::clear(&state.join(lock::LOCK_FILE), false, clock.wall());
        match StateLock::take(state) {
            Ok(lock) => Ok(Some(lock)),
            Err(held @ LockError::Held { .. }) => Err(held),
            Err(error @ LockError::Io { .. }) => {
                tracing::error!(%error, "the state directory cannot be used");
                Ok(None)
            }
        }
    }

    /// Reads the store of a state directory that is ours, and starts the writer. Blocks while it reads.
    pub fn open_locked(state: &Path, lock: Option<StateLock>, clock: Clock) -> (Self, Loaded) {
        let store = state.join(STORE_DIRECTORY);
        settle(&store, clock.wall());
        // A new store has nothing to be read. Making it waits for the disk some thirty times; the writer does that
        // while the first questions are answered.
        let is_new = std::fs::symlink_metadata(&store).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let opened = (!is_new).then(|| quick::open(&store, clock.wall()));
        let (sorted, report, copies) = match opened {
            Some(opened) => {
                say(&opened.report, &store);
                (opened.sorted, opened.report, Some(opened.copies))
            }
            None => (branches::Sorted::of(&store), Report::default(), None),
        };
        let (blobs, loaded) = sorted.finish(report);
        let (queue, directory) = (Queue::default(), store.clone());
        let writer = writer::Writer { store, lock, clock: clock.clone(), queue: queue.clone() };
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
            let copies = writer.complete(copies);
            writer.run(copies);
            drop(end);
        });
        if let Err(error) = thread {
            // Without threads nothing else will work either; until then this is a disk that takes nothing.
            tracing::error!(%error, "the store has no writer");
            queue.put_back(Batch::default());
        }
        let (blobs, ended) = (Mutex::new(blobs), Mutex::new(ended));
        let (complained, close_wait) = (Mutex::new(None), Mutex::new(CLOSE_WAIT));
        (Self { directory, queue, blobs, ended, close_wait, clock, complained }, loaded)
    }

    /// Dropping it waits for the last writes no longer than this, nor than it would anyway: the process has to end in time
    /// though the disk hangs.
    pub fn close_within(&self, most: Duration) {
        let mut wait = self.close_wait.lock();
        *wait = most.min(*wait);
    }

    /// Keeps `bytes` under `name` (at most [`crate::limits::STORE_KEY_BYTES`] less one octets) until it is
    /// saved again. Ready once durable; after an error other than `TooLarge` and `Overloaded` it is written
    /// as soon as the disk allows.
    pub async fn save_blob(&self, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.blobs.lock().insert(name.to_owned(), bytes.clone());
        let durable = self.queue.put_durable(blob_key(name), Some(bytes))?;
        self.wait(durable).await
    }

    /// What was last saved under `name`.
    pub fn blob(&self, name: &str) -> Option<Vec<u8>> {
        self.blobs.lock().get(name).cloned()
    }

    /// What it takes and how it is, now.
    pub fn usage(&self) -> Usage {
        Usage {
            bytes: octets_below(&self.directory, DEPTH),
            waiting: self.queue.len(),
            failing: self.queue.is_failing(),
        }
    }

    /// Ready once everything that was changed before is durable.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let durable = self.queue.barrier()?;
        self.wait(durable).await
    }

    async fn wait(&self, durable: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
        match tokio::time::timeout(STORE_SAVE_WAIT, durable).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Failing),
            Err(_) => {
                // Those after this one need not wait as long; the writer says when the disk answers again.
                self.queue.set_failing(true);
                Err(StoreError::Slow)
            }
        }
    }
}

/// What the store takes and how it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Octets of all its files.
    pub bytes: u64,
    /// Changes that wait to be written.
    pub waiting: usize,
    /// True while the disk takes nothing.
    pub failing: bool,
}

/// Directories in directories of the store, fjall's included.
const DEPTH: u32 = 5;

/// Octets of all files; what cannot be read, or goes away meanwhile, counts nothing.
fn octets_below(directory: &Path, depth: u32) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() && depth > 0 => octets_below(&entry.path(), depth - 1),
        // Journals are made long in advance: what counts is what the disk has given, in blocks of 512 octets.
        Ok(data) if data.is_file() => data.blocks() * 512,
        _ => 0,
    };
    entries.map(size).sum()
}

impl Drop for Store {
    fn drop(&mut self) {
        self.queue.close();
        // The writer sends nothing; it hangs up when it has ended.
        let wait = *self.close_wait.lock();
        let _ = self.ended.lock().recv_timeout(wait);
    }
}

/// Before anything of the store is opened: what is not as we make it is put away, and all is closed to others. Whatever
/// stands in the store's own place and is no directory is moved aside by `recover`.
fn settle(store: &Path, now: UnixTime) {
    if !files::is_directory(store) {
        return;
    }
    for name in [log::LOG_FILE, log::REWRITE_FILE, log::END_FILE, keyspace::OPENING_FILE] {
        files::clear(&store.join(name), false, now);
    }
    for name in [keyspace::KEYSPACE_DIRECTORY, keyspace::NEW_DIRECTORY, texts::TEXTS_DIRECTORY] {
        files::clear(&store.join(name), true, now);
    }
    files::close_all(store, DEPTH);
}

fn blob_key(name: &str) -> Vec<u8> {
    [&[KEY_BLOB], name.as_bytes()].concat()
}

/// Says once what an opening found.
fn say(report: &Report, store: &Path) {
    let path = store.display();
    let Report { policies, dane, damaged, restored, lost_policies, lost_dane, .. } = *report;
    let moved_to = report.moved_aside.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    metrics::counter!(STORE_MOVED_ASIDE).increment(u64::from(report.beyond_reading));
    metrics::counter!(STORE_LOST).increment(lost_policies + lost_dane);
    if report.beyond_reading {
        tracing::error!(%path, moved_to, "the store is beyond reading: moved aside, starting with an empty one");
    } else if damaged > 0 || restored > 0 || lost_policies > 0 || lost_dane > 0 {
        tracing::warn!(
            %path, policies, dane, lost_policies, lost_dane, damaged, restored, moved_to,
            "the store was damaged: {lost_policies} policies lost, {policies} kept"
        );
    } else {
        tracing::info!(%path, policies, dane, "the store was read");
    }
}

#[cfg(test)]
mod tests;
