//! The keyspace: the store's copy in fjall, a log-structured tree.
//!
//! fjall checks its blocks but gives up on a whole database for one bad octet in some of its files, silently
//! cuts its journal at others, and panics at others again. All of that is turned into
//! [`KeyspaceError::Damaged`] or into missing records here; nothing in this file decides what follows from it.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use super::fence::{Fence, Stopped};
use super::files;
use super::frame::{Body, Census, Change, Frame, Record};
use super::log::{MaxBySeq, keep_newest, sync_directory};
use crate::limits::{STORE_BATCH, STORE_OPEN_WAIT, STORE_WRITE_WAIT};

/// Directory of the keyspace in the store's directory.
pub(super) const KEYSPACE_DIRECTORY: &str = "keyspace";
/// Where a keyspace is made, so that one under its own name is always complete.
pub(super) const NEW_DIRECTORY: &str = "keyspace.new";
/// Grows by an octet with each opening and goes when one succeeds: so many starts ended while they read.
pub(super) const OPENING_FILE: &str = "keyspace.opening";
/// Starts that may end while they open the keyspace; after that it counts as the cause.
const OPENINGS: u64 = 3;
/// Key of the commit mark; sorts before all others.
const COMMIT_KEY: &[u8] = b"\0commit";
/// Memory for blocks; reads happen at start only.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Memory for what is not yet in a table.
const MEMTABLE_BYTES: u64 = 1024 * 1024;
/// The least that fjall takes as a bound for its journals.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

/// Why there is no keyspace.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyspaceError {
    /// The disk refuses (full, read-only, no permission): try again later, leave the files alone.
    #[error("{0}")]
    Unavailable(#[source] fjall::Error),
    /// It cannot be read: put it away and build a new one.
    #[error("{0}")]
    Damaged(Damage),
}

/// What is wrong with a keyspace that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    /// fjall says so.
    #[error("{0}")]
    Fjall(#[source] fjall::Error),
    /// fjall panicked over it, or did not come to an end.
    #[error("fjall: {0}")]
    Stopped(#[from] Stopped),
    /// The process ended while it was being opened, again and again.
    #[error("the last starts ended while opening it")]
    EndedTheProcess,
}

impl From<fjall::Error> for KeyspaceError {
    fn from(error: fjall::Error) -> Self {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let kind = match &error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error.kind()),
            _ => None,
        };
        match kind {
            Some(StorageFull | ReadOnlyFilesystem | PermissionDenied | QuotaExceeded) => Self::Unavailable(error),
            _ => Self::Damaged(Damage::Fjall(error)),
        }
    }
}

/// What is in the keyspace, without the values: enough to see whether it has what the log has.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Hash of the key and position of each entry that is there.
    pub entries: Vec<(u64, u64)>,
    /// Keys that stand as removed.
    pub removed: Vec<Vec<u8>>,
    /// The position of the commit mark.
    pub commit: Option<u64>,
    /// Something could not be read.
    pub damaged: bool,
}

/// What reading the keyspace gave.
#[derive(Debug, Default)]
pub(super) struct KeyspaceContents {
    /// The record of each key.
    pub newest: HashMap<Vec<u8>, Frame>,
    /// The commit mark and its position.
    pub commit: Option<(u64, Census)>,
    /// Something could not be read.
    pub damaged: bool,
}

/// The keyspace, open, behind its fence.
pub(super) struct Keyspace(Option<Fence<Tree>>);

/// What the fenced thread holds.
struct Tree {
    database: Database,
    entries: fjall::Keyspace,
}

impl Keyspace {
    /// Opens the keyspace, or creates it, and reads it through. Blocks. With `only_copy` it is tried even where the
    /// last attempt ended the process. Keys are hashed by `hasher`.
    pub fn open(store: &Path, only_copy: bool, hasher: RandomState) -> Result<(Self, Outline), KeyspaceError> {
        let marker = store.join(OPENING_FILE);
        if !only_copy && fs::metadata(&marker).is_ok_and(|marker| marker.len() >= OPENINGS) {
            return Err(KeyspaceError::Damaged(Damage::EndedTheProcess));
        }
        note_opening(&marker).map_err(fjall::Error::Io)?;
        let fence = Fence::start().map_err(|error| KeyspaceError::Unavailable(fjall::Error::Io(error)))?;
        let (directory, new) = (store.join(KEYSPACE_DIRECTORY), store.join(NEW_DIRECTORY));
        let opened = fence.run(STORE_OPEN_WAIT, move |held| {
            if !fs::exists(&directory)? {
                create(&new, &directory)?;
            }
            let tree = Tree::open(&directory)?;
            let outline = tree.outline(&hasher);
            *held = Some(tree);
            Ok::<_, fjall::Error>(outline)
        });
        let mut keyspace = Self(Some(fence));
        fs::remove_file(&marker).map_err(fjall::Error::Io)?;
        match opened {
            Ok(Ok(outline)) => Ok((keyspace, outline)),
            Ok(Err(error)) => Err(error.into()),
            Err(stopped) => Err(keyspace.stopped(stopped)),
        }
    }

    /// Reads everything.
    pub fn contents(&mut self) -> Result<KeyspaceContents, KeyspaceError> {
        let mut contents = KeyspaceContents::default();
        let read = |tree: &Tree| Ok(tree.contents());
        if let Some(read) = self.work(STORE_OPEN_WAIT, read)? {
            contents = read;
        }
        Ok(contents)
    }

    /// Puts the files of a keyspace away, so that the next [`Keyspace::open`] creates a new one.
    pub fn put_away(store: &Path, name: &str) -> io::Result<PathBuf> {
        let aside = store.join(name);
        match fs::rename(store.join(KEYSPACE_DIRECTORY), &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        match fs::remove_file(store.join(OPENING_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(aside),
        }
    }

    /// Writes records and makes them durable. After an error the keyspace must be opened again.
    pub fn append(&mut self, frames: Arc<[Frame]>) -> Result<(), KeyspaceError> {
        let append = move |tree: &Tree| {
            for some in frames.chunks(STORE_BATCH) {
                let mut batch = tree.database.batch().durability(None);
                for frame in some {
                    batch.insert(&tree.entries, frame.key().unwrap_or(COMMIT_KEY), frame.encode());
                }
                batch.commit()?;
            }
            tree.database.persist(PersistMode::SyncData)
        };
        self.work(STORE_WRITE_WAIT, append).map(drop)
    }

    /// Drops removed keys for good, once no older record of them exists anywhere.
    pub fn forget(&mut self, keys: Vec<Vec<u8>>) -> Result<(), KeyspaceError> {
        let forget = move |tree: &Tree| {
            for some in keys.chunks(STORE_BATCH) {
                let mut batch = tree.database.batch().durability(None);
                for key in some {
                    batch.remove(&tree.entries, key.as_slice());
                }
                batch.commit()?;
            }
            Ok(())
        };
        self.work(STORE_WRITE_WAIT, forget).map(drop)
    }

    /// Moves everything from the journal into tables.
    #[cfg(test)]
    pub fn flush_to_tables(&mut self) {
        self.work(STORE_WRITE_WAIT, |tree| tree.entries.rotate_memtable_and_wait()).expect("rotates");
    }

    /// Has `work` done behind the fence; nothing where there is no tree.
    fn work<T: Send + 'static>(
        &mut self,
        patience: Duration,
        work: impl FnOnce(&Tree) -> fjall::Result<T> + Send + 'static,
    ) -> Result<Option<T>, KeyspaceError> {
        let Some(fence) = &self.0 else { return Err(KeyspaceError::Damaged(Damage::Stopped(Stopped::GaveUp))) };
        match fence.run(patience, |held| held.as_ref().map(work).transpose()) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(error.into()),
            Err(stopped) => Err(self.stopped(stopped)),
        }
    }

    /// Leaves a thread that stopped to itself.
    fn stopped(&mut self, stopped: Stopped) -> KeyspaceError {
        drop(self.0.take());
        KeyspaceError::Damaged(Damage::Stopped(stopped))
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        if let Some(fence) = self.0.take() {
            fence.end(STORE_WRITE_WAIT);
        }
    }
}

fn note_opening(marker: &Path) -> io::Result<()> {
    files::open(marker, fs::OpenOptions::new().create(true).append(true))?.write_all(b".")
}

/// Makes an empty keyspace, whole or not at all.
fn create(new: &Path, directory: &Path) -> fjall::Result<()> {
    if fs::exists(new)? {
        fs::remove_dir_all(new)?;
    }
    drop(Tree::open(new)?);
    fs::rename(new, directory)?;
    if let Some(store) = directory.parent() {
        sync_directory(store)?;
    }
    Ok(())
}

impl Tree {
    fn open(directory: &Path) -> fjall::Result<Self> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .manual_journal_persist(true)
            .open()?;
        let options =
            || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES).manual_journal_persist(true);
        let entries = database.keyspace("entries", options)?;
        Ok(Self { database, entries })
    }

    fn outline(&self, hasher: &RandomState) -> Outline {
        let mut outline = Outline::default();
        for item in self.entries.iter() {
            let value = item.into_inner().map(|(_, value)| value);
            let Some(record) = value.as_ref().ok().and_then(|value| Record::only(value)) else {
                outline.damaged = true;
                return outline;
            };
            match record.change {
                Change::Put(_) => outline.entries.push((hasher.hash_one(record.key), record.seq)),
                Change::Remove => outline.removed.push(record.key.to_vec()),
                Change::Commit(_) => outline.commit = outline.commit.max(Some(record.seq)),
            }
        }
        outline
    }

    fn contents(&self) -> KeyspaceContents {
        let mut contents = KeyspaceContents::default();
        if !read_until_damage(self.entries.iter(), &mut contents) {
            // What lies behind the damage is still to be had from the other end.
            contents.damaged = true;
            read_until_damage(self.entries.iter().rev(), &mut contents);
        }
        contents
    }
}

/// True where the end was reached.
fn read_until_damage(items: impl Iterator<Item = fjall::Guard>, contents: &mut KeyspaceContents) -> bool {
    for item in items {
        let Ok((_, value)) = item.into_inner() else { return false };
        match Frame::decode(&value) {
            Some(Frame { seq, body: Body::Commit(census) }) => {
                contents.commit = contents.commit.max_by_seq((seq, census));
            }
            Some(frame) => keep_newest(&mut contents.newest, frame),
            None => contents.damaged = true,
        }
    }
    true
}
