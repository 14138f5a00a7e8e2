//! The start after an orderly end: both copies are read through at the same time, the log for what it says and the
//! keyspace to see that it has the same. Where anything differs, or anything is damaged, `recover` has to look.
//!
//! The log is read into memory in one piece, checked, and its live entries are decoded where they stand, on two threads.

use std::fs;
use std::hash::RandomState;
use std::io;
use std::path::Path;

use super::branches::Sorted;
use super::frame::{Census, Change, Record};
use super::index::Index;
use super::keyspace::{Keyspace, KeyspaceError, Outline};
use super::log::{LOG_FILE, Log};
use super::recover::{Copies, Report, Unwritable, open_with};
use crate::clock::UnixTime;
use crate::limits::STORE_QUICK_BYTES;

/// What an opening found, decoded.
pub(super) struct Opened {
    pub sorted: Sorted,
    /// The copies, or why there are none to write to.
    pub copies: Result<Copies, Unwritable>,
    pub report: Report,
}

/// Opens the store's directory. Blocks for as long as reading takes.
pub(super) fn open(store: &Path, now: UnixTime) -> Opened {
    let hasher = RandomState::new();
    let log = store.join(LOG_FILE);
    let is_usual = fs::metadata(&log).is_ok_and(|log| log.len() <= STORE_QUICK_BYTES);
    let mut keyspace = None;
    if is_usual {
        let (read, opened) = std::thread::scope(|scope| {
            // Decoding goes on while the keyspace is read: the two cost about the same.
            let keyspace = scope.spawn(|| Keyspace::open(store, false, hasher.clone()));
            let read = read(&log, &hasher);
            (read, keyspace.join())
        });
        match (read, opened) {
            (Ok(Some(mut whole)), Ok(Ok((keyspace, outline)))) if whole.is_the_same_as(&outline) => {
                whole.removed.extend(outline.removed);
                let report = Report { policies: whole.census.sts, dane: whole.census.dane, ..Report::default() };
                let sorted = std::mem::take(&mut whole.sorted);
                return Opened { sorted, copies: whole.open(store, keyspace), report };
            }
            (_, Ok(opened)) => keyspace = Some(opened.map(|(keyspace, _)| keyspace)),
            // It panicked where only the fence may; then nothing was opened.
            (_, Err(_)) => {}
        }
    }
    thoroughly(store, now, keyspace)
}

fn thoroughly(store: &Path, now: UnixTime, keyspace: Option<Result<Keyspace, KeyspaceError>>) -> Opened {
    let opened = open_with(store, now, keyspace);
    let mut sorted = Sorted::default();
    for (key, value) in &opened.entries {
        sorted.take(key, value);
    }
    Opened { sorted, copies: opened.copies, report: opened.report }
}

/// A live entry: key, value and position.
type Put<'a> = (&'a [u8], &'a [u8], u64);

/// A log without any damage.
struct Whole {
    sorted: Sorted,
    index: Index,
    census: Census,
    /// Position of the last commit mark, which is the last record.
    seq: u64,
    removed: Vec<Vec<u8>>,
    bytes: u64,
}

/// Reads the log; nothing where it is not whole up to a last commit mark that agrees with it.
fn read(log: &Path, hasher: &RandomState) -> io::Result<Option<Whole>> {
    let octets = fs::read(log)?;
    let mut index = Index::new(hasher.clone());
    let (mut puts, mut removed, mut last) = (Vec::new(), Vec::new(), None);
    let (mut rest, mut highest) = (octets.as_slice(), 0);
    while !rest.is_empty() {
        let Some(record) = Record::first(rest) else { return Ok(None) };
        if index.seq_of(record.key) > Some(record.seq) {
            return Ok(None); // later in the file is newer, or something is wrong with it
        }
        highest = highest.max(record.seq);
        last = None;
        match record.change {
            Change::Put(value) => {
                index.put(record.key, value.len(), record.seq);
                puts.push((record.key, value, record.seq));
            }
            Change::Remove => {
                index.remove(record.key);
                removed.push(record.key.to_vec());
            }
            Change::Commit(census) => last = Some((record.seq, census)),
        }
        rest = rest.get(record.length..).unwrap_or_default();
    }
    let Some((seq, census)) = last.filter(|(seq, census)| *seq == highest && *census == index.census()) else {
        return Ok(None);
    };
    puts.retain(|(key, _, seq)| index.seq_of(key) == Some(*seq));
    if puts.len() != index.len() {
        return Ok(None);
    }
    removed.retain(|key| !index.contains(key));
    let sorted = decode(&puts);
    Ok(Some(Whole { sorted, index, census, seq, removed, bytes: octets.len() as u64 }))
}

/// Decodes on two threads: what is left over when one of two processors reads the keyspace.
fn decode(puts: &[Put<'_>]) -> Sorted {
    let sort = |puts: &[Put<'_>]| {
        let mut sorted = Sorted::default();
        puts.iter().for_each(|(key, value, _)| sorted.take(key, value));
        sorted
    };
    let (one, other) = puts.split_at(puts.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| sort(other));
        let mut sorted = sort(one);
        // Where it panicked, so would this thread have.
        sorted.append(other.join().unwrap_or_default());
        sorted
    })
}

impl Whole {
    /// The keyspace has every entry of the log, no other, and is not ahead.
    fn is_the_same_as(&self, keyspace: &Outline) -> bool {
        let same = |(hash, seq): &(u64, u64)| self.index.seq_of_hash(*hash) == Some(*seq);
        !keyspace.damaged
            && keyspace.commit.is_some_and(|seq| seq <= self.seq)
            && keyspace.entries.len() == self.index.len()
            && keyspace.entries.iter().all(same)
            && !keyspace.removed.iter().any(|key| self.index.contains(key))
    }

    fn open(self, store: &Path, keyspace: Keyspace) -> Result<Copies, Unwritable> {
        let log = Log::open(store, self.bytes)?;
        Ok(Copies { log, keyspace, index: self.index, seq: self.seq, removed: self.removed })
    }
}
