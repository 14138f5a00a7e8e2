//! Opening both copies: read what each has, take the newest of everything, bring both up to date.
//!
//! In: the store's directory in whatever state. Out: every entry that can still be read, the copies ready for
//! writing where the disk allows it, and a [`Report`] for the log. Never fails a start.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hash::RandomState;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::frame::{Body, Census, Frame};
use super::index::Index;
use super::keyspace::{Damage, Keyspace, KeyspaceContents, KeyspaceError};
use super::log::{self, Log, LogContents, MaxBySeq, keep_newest};
use super::texts::Texts;
use crate::clock::UnixTime;
use crate::limits::STORE_MOVED_ASIDE;

/// In the names of what was moved aside, before the time.
pub(super) const DAMAGED: &str = "damaged-";

/// Both copies, ready for writing.
pub(super) struct Copies {
    /// The first to be written and the one that makes an entry durable.
    pub log: Log,
    /// The second.
    pub keyspace: Keyspace,
    /// Long policy texts, which both refer to.
    pub texts: Texts,
    /// What is in them.
    pub index: Index,
    /// The highest position in use.
    pub seq: u64,
    /// Keys that stand as removed in the keyspace until the log has forgotten them.
    pub removed: Vec<Vec<u8>>,
}

/// Why the copies cannot be written now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritable {
    /// A file or directory.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The keyspace.
    #[error(transparent)]
    Keyspace(#[from] KeyspaceError),
}

/// What an opening found.
pub(super) struct Opened {
    /// Live entries, key and value.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The copies, or why there are none to write to.
    pub copies: Result<Copies, Unwritable>,
    /// What there is to tell.
    pub report: Report,
}

/// What a start has to say about the state of the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Stored MTA-STS branches that were read.
    pub policies: u64,
    /// Stored DANE branches that were read.
    pub dane: u64,
    /// Places in either copy that could not be read.
    pub damaged: u64,
    /// Entries that one copy lacked and the other had.
    pub restored: u64,
    /// MTA-STS branches that neither copy has any more.
    pub lost_policies: u64,
    /// DANE branches that neither copy has any more.
    pub lost_dane: u64,
    /// Where files that were of no more use have been put.
    pub moved_aside: Option<PathBuf>,
    /// True where nothing at all could be read though something was there.
    pub beyond_reading: bool,
}

/// Opens the store's directory. Blocks for as long as reading takes.
pub(super) fn open(store: &Path, now: UnixTime) -> Opened {
    open_with(store, now, None)
}

/// Likewise, with a keyspace that was opened before, or could not be.
pub(super) fn open_with(store: &Path, now: UnixTime, opened: Option<Result<Keyspace, KeyspaceError>>) -> Opened {
    let mut found = Findings::default();
    let copies = bring_up(store, now, opened, &mut found);
    found.count();
    Opened { entries: found.live_entries(), copies, report: found.report }
}

/// What both copies hold between them.
#[derive(Default)]
struct Findings {
    newest: HashMap<Vec<u8>, Frame>,
    commit: Option<(u64, Census)>,
    report: Report,
}

impl Findings {
    fn merge(&mut self, newest: HashMap<Vec<u8>, Frame>, commit: Option<(u64, Census)>) {
        newest.into_values().for_each(|frame| keep_newest(&mut self.newest, frame));
        if let Some(commit) = commit {
            self.commit = self.commit.max_by_seq(commit);
        }
    }

    fn is_empty(&self) -> bool {
        self.newest.is_empty() && self.commit.is_none()
    }

    /// The highest position in use.
    fn seq(&self) -> u64 {
        let commit = self.commit.map_or(0, |(seq, _)| seq);
        self.newest.values().map(|frame| frame.seq).fold(commit, u64::max)
    }

    /// Compares what is there with what was there at the last commit.
    fn count(&mut self) {
        let mut index = Index::default();
        self.newest.values().for_each(|frame| index.apply(frame));
        let (there, expected) = (index.census(), self.commit.map(|(_, census)| census).unwrap_or_default());
        self.report.policies = there.sts;
        self.report.dane = there.dane;
        self.report.lost_policies = expected.sts.saturating_sub(there.sts);
        self.report.lost_dane = expected.dane.saturating_sub(there.dane);
    }

    fn live_entries(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let live = std::mem::take(&mut self.newest).into_values().filter_map(|frame| match frame.body {
            Body::Put { key, value } => Some((key, value)),
            Body::Remove { .. } | Body::Commit(_) => None,
        });
        live.collect()
    }
}

/// Reads the keyspace that is open already, or opens it.
fn read_keyspace(
    store: &Path,
    opened: Option<Result<Keyspace, KeyspaceError>>,
    only_copy: bool,
) -> Result<(Keyspace, KeyspaceContents), KeyspaceError> {
    let mut keyspace = match opened {
        Some(Err(KeyspaceError::Damaged(Damage::EndedTheProcess))) | None => {
            Keyspace::open(store, only_copy, RandomState::new())?.0
        }
        Some(opened) => opened?,
    };
    let contents = keyspace.contents()?;
    Ok((keyspace, contents))
}

fn bring_up(
    store: &Path,
    now: UnixTime,
    opened: Option<Result<Keyspace, KeyspaceError>>,
    found: &mut Findings,
) -> Result<Copies, Unwritable> {
    if fs::symlink_metadata(store).is_ok_and(|there| !there.is_dir()) {
        start_empty(store, now, &mut found.report)?;
    }
    files::make_directory(store)?;
    let mut log = log::read(store)?;
    found.report.damaged += log.damaged;
    found.merge(std::mem::take(&mut log.newest), log.commit);

    let (mut keyspace, in_keyspace) = match read_keyspace(store, opened, found.is_empty()) {
        Ok((keyspace, contents)) if !contents.damaged => (Some(keyspace), contents),
        Ok((_, contents)) => {
            found.report.damaged += 1;
            (None, contents)
        }
        Err(KeyspaceError::Damaged(damage)) => {
            tracing::warn!(error = %damage, "the keyspace of the store cannot be opened");
            found.report.damaged += 1;
            (None, KeyspaceContents::default())
        }
        Err(error @ KeyspaceError::Unavailable(_)) => return Err(error.into()),
    };
    let missing = Missing::between(&found.newest, &in_keyspace, &log);
    let mut keyspace_has: HashMap<Vec<u8>, u64> =
        in_keyspace.newest.iter().map(|(key, frame)| (key.clone(), frame.seq)).collect();
    found.merge(in_keyspace.newest, in_keyspace.commit);

    if found.is_empty() && (keyspace.is_none() || log.bytes > 0) {
        drop(keyspace.take());
        start_empty(store, now, &mut found.report)?;
        files::make_directory(store)?;
        log = LogContents::default();
    }
    found.report.restored = missing.in_log;
    if missing.keyspace_was_cut || keyspace.is_none() {
        found.report.restored += missing.in_keyspace;
    }
    // The log first: from here on it alone has everything that could be read.
    let log = if log.damaged > 0 || missing.in_log > 0 {
        Log::rewrite(store, found.newest.values().map(|frame| Ok(Cow::Borrowed(frame))))?
    } else {
        Log::open(store, log.bytes - log.tail)?
    };
    let keyspace = match keyspace {
        Some(keyspace) => keyspace,
        None => {
            keyspace_has.clear();
            replace_keyspace(store, now, &mut found.report)?
        }
    };
    let texts = Texts::of(store);
    let copies = Copies { log, keyspace, texts, index: Index::default(), seq: found.seq(), removed: Vec::new() };
    write_what_is_missing(copies, &keyspace_has, found)
}

/// What each copy lacks and the other has.
struct Missing {
    in_log: u64,
    in_keyspace: u64,
    /// The keyspace ends before the log by more than the one batch that a crash can leave out.
    keyspace_was_cut: bool,
}

impl Missing {
    fn between(in_log: &HashMap<Vec<u8>, Frame>, in_keyspace: &KeyspaceContents, log: &LogContents) -> Self {
        let newer = |frame: &Frame, other: Option<&Frame>| match (&frame.body, other) {
            (_, Some(other)) => other.seq < frame.seq,
            // The log forgets removed keys before the keyspace does.
            (Body::Remove { .. }, None) => false,
            (_, None) => true,
        };
        let count = |from: &HashMap<Vec<u8>, Frame>, to: &HashMap<Vec<u8>, Frame>| {
            from.iter().filter(|(key, frame)| newer(frame, to.get(*key))).count() as u64
        };
        let end = in_keyspace.commit.map_or(0, |(seq, _)| seq);
        Self {
            in_log: count(&in_keyspace.newest, in_log),
            in_keyspace: count(in_log, &in_keyspace.newest),
            keyspace_was_cut: log.commits.iter().filter(|seq| **seq > end).count() > 1,
        }
    }
}

/// Brings the keyspace up to date and closes with a commit mark in both copies.
fn write_what_is_missing(
    mut copies: Copies,
    keyspace_has: &HashMap<Vec<u8>, u64>,
    found: &Findings,
) -> Result<Copies, Unwritable> {
    let mut behind = Vec::new();
    for (key, frame) in &found.newest {
        copies.index.apply(frame);
        if matches!(frame.body, Body::Remove { .. }) {
            copies.removed.push(key.clone());
        }
        if keyspace_has.get(key) != Some(&frame.seq) {
            behind.push(frame.clone());
        }
    }
    copies.seq += 1;
    let commit = Frame { seq: copies.seq, body: Body::Commit(copies.index.census()) };
    behind.push(commit.clone());
    copies.log.append(&[commit])?;
    copies.keyspace.append(behind.into())?;
    Ok(copies)
}

/// Puts a damaged keyspace away and creates a new one.
fn replace_keyspace(store: &Path, now: UnixTime, report: &mut Report) -> Result<Keyspace, Unwritable> {
    if !report.beyond_reading {
        report.moved_aside = Some(Keyspace::put_away(store, &format!("keyspace.{DAMAGED}{now}"))?);
        prune(store);
    }
    Ok(Keyspace::open(store, true, RandomState::new())?.0)
}

/// Moves the whole store aside: nothing of it can be read.
fn start_empty(store: &Path, now: UnixTime, report: &mut Report) -> io::Result<()> {
    let (Some(parent), Some(name)) = (store.parent(), store.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let aside = parent.join(format!("{}.{DAMAGED}{now}", name.to_string_lossy()));
    fs::rename(store, &aside)?;
    prune(parent);
    report.beyond_reading = true;
    report.moved_aside = Some(aside);
    Ok(())
}

/// Keeps only the latest of what was moved aside, so that a bad disk does not fill itself.
fn prune(directory: &Path) {
    let Ok(found) = fs::read_dir(directory) else { return };
    let mut aside: Vec<PathBuf> = found
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(&format!(".{DAMAGED}")))
        .map(|entry| entry.path())
        .collect();
    aside.sort();
    let surplus = aside.len().saturating_sub(STORE_MOVED_ASIDE);
    for old in aside.into_iter().take(surplus) {
        // Best effort: it is in nobody's way but the disk's.
        let _ = fs::remove_dir_all(&old).or_else(|_| fs::remove_file(&old));
    }
}
