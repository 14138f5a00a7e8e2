//! The start after an orderly end: the log alone is read, if it is whole and nothing was cut from its end. Where
//! anything is wrong with it, `recover` has to look at both copies before the start goes on.
//!
//! That the keyspace has the same is seen to beside the service, before anything is written ([`Whole::check`]): it takes
//! as long as all else, and what it can bring to light is damage to the keyspace, which the log then repairs.
//!
//! The log is read into memory in one piece, checked, and its live entries are decoded where they stand, on two threads.

use std::fs;
use std::hash::RandomState;
use std::io;
use std::path::Path;

use super::branches::Sorted;
use super::files;
use super::frame::{Census, Change, Record};
use super::index::Index;
use super::keyspace::{KEYSPACE_DIRECTORY, Keyspace, Outline};
use super::log::{self, LOG_FILE, Log};
use super::recover::{self, Copies, Report, Unwritable};
use super::texts::Texts;
use crate::clock::UnixTime;
use crate::limits::STORE_QUICK_BYTES;

/// What an opening found, decoded.
pub(super) struct Opened {
    pub sorted: Sorted,
    pub copies: Opening,
    pub report: Report,
}

/// How far the copies have been opened.
pub(super) enum Opening {
    /// The log is whole, the keyspace remains to be looked at.
    Log(Box<Whole>),
    /// Both, or why there are none to write to.
    Both(Box<Result<Copies, Unwritable>>),
}

/// Opens the store's directory. Blocks for as long as reading takes.
pub(super) fn open(store: &Path, now: UnixTime) -> Opened {
    let log = store.join(LOG_FILE);
    let is_usual = fs::metadata(&log).is_ok_and(|log| log.len() <= STORE_QUICK_BYTES)
        && files::is_directory(&store.join(KEYSPACE_DIRECTORY));
    let end = if is_usual { log::end(store) } else { None };
    match end.map(|end| (end, read(store, &log))) {
        Some((end, Ok(Some((whole, sorted))))) if whole.seq >= end => {
            let report = Report { policies: whole.census.sts, dane: whole.census.dane, ..Report::default() };
            Opened { sorted, copies: Opening::Log(Box::new(whole)), report }
        }
        _ => thoroughly(store, now),
    }
}

fn thoroughly(store: &Path, now: UnixTime) -> Opened {
    let opened = recover::open(store, now);
    let mut sorted = Sorted::of(store);
    for (key, value) in &opened.entries {
        sorted.take(key, value);
    }
    Opened { sorted, copies: Opening::Both(Box::new(opened.copies)), report: opened.report }
}

/// A live entry: hash of the key, key, value and position.
type Put<'a> = (u64, &'a [u8], &'a [u8], u64);

/// A log without any damage.
pub(super) struct Whole {
    hasher: RandomState,
    index: Index,
    census: Census,
    /// Position of the last commit mark, which is the last record.
    seq: u64,
    removed: Vec<Vec<u8>>,
    bytes: u64,
}

/// Reads the log; nothing where it is not whole up to a last commit mark that agrees with it.
fn read(store: &Path, log: &Path) -> io::Result<Option<(Whole, Sorted)>> {
    let octets = files::read(log)?;
    let hasher = RandomState::new();
    let mut index = Index::new(hasher.clone());
    let (mut puts, mut removed, mut last) = (Vec::new(), Vec::new(), None);
    let (mut rest, mut highest) = (octets.as_slice(), 0);
    while !rest.is_empty() {
        let Some(record) = Record::first(rest) else { return Ok(None) };
        let hash = index.hash(record.key);
        if index.seq_of(hash) > Some(record.seq) {
            return Ok(None); // later in the file is newer, or something is wrong with it
        }
        highest = highest.max(record.seq);
        last = None;
        match record.change {
            Change::Put(value) => {
                index.put(hash, record.key, value, record.seq);
                puts.push((hash, record.key, value, record.seq));
            }
            Change::Remove => {
                index.remove(hash, record.key);
                removed.push(record.key.to_vec());
            }
            Change::Commit(census) => last = Some((record.seq, census)),
        }
        rest = rest.get(record.length..).unwrap_or_default();
    }
    let Some((seq, census)) = last.filter(|(seq, census)| *seq == highest && *census == index.census()) else {
        return Ok(None);
    };
    puts.retain(|(hash, _, _, seq)| index.seq_of(*hash) == Some(*seq));
    if puts.len() != index.len() {
        return Ok(None);
    }
    removed.retain(|key| !index.contains(key));
    let sorted = decode(store, &puts);
    Ok(Some((Whole { hasher, index, census, seq, removed, bytes: octets.len() as u64 }, sorted)))
}

/// Decodes on two threads.
fn decode(store: &Path, puts: &[Put<'_>]) -> Sorted {
    let sort = |puts: &[Put<'_>]| {
        let mut sorted = Sorted::of(store);
        puts.iter().for_each(|(_, key, value, _)| sorted.take(key, value));
        sorted
    };
    let (one, other) = puts.split_at(puts.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| sort(other));
        let mut sorted = sort(one);
        // Where it panicked, so would this thread have.
        sorted.append(other.join().unwrap_or_else(|_| Sorted::of(store)));
        sorted
    })
}

impl Whole {
    /// Opens the keyspace. Where that does not have what the log has, both are repaired, and the report says of what.
    pub fn check(mut self, store: &Path, now: UnixTime) -> (Result<Copies, Unwritable>, Option<Report>) {
        match Keyspace::open(store, false, self.hasher.clone()) {
            Ok((keyspace, outline)) if self.is_the_same_as(&outline) => {
                self.removed.extend(outline.removed);
                (self.open(store, keyspace), None)
            }
            opened => {
                let opened = recover::open_with(store, now, Some(opened.map(|(keyspace, _)| keyspace)));
                (opened.copies, Some(opened.report))
            }
        }
    }

    /// The keyspace has every entry of the log, no other, and is not ahead.
    fn is_the_same_as(&self, keyspace: &Outline) -> bool {
        let same = |(hash, seq): &(u64, u64)| self.index.seq_of(*hash) == Some(*seq);
        !keyspace.damaged
            && keyspace.commit.is_some_and(|seq| seq <= self.seq)
            && keyspace.entries.len() == self.index.len()
            && keyspace.entries.iter().all(same)
            && !keyspace.removed.iter().any(|key| self.index.contains(key))
    }

    fn open(self, store: &Path, keyspace: Keyspace) -> Result<Copies, Unwritable> {
        let log = Log::open(store, self.bytes)?;
        Ok(Copies { log, keyspace, texts: Texts::of(store), index: self.index, seq: self.seq, removed: self.removed })
    }
}
