//! The log: one file of records in the order of their changes, the store's second and self-checking copy.
//!
//! It is read without trust in anything but the records themselves, and rewritten when more than half of it
//! is out of date. Never decides which copy is right: that is for `recover`.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::files;
use super::frame::{Body, Census, Found, Frame, Scanner};
use super::index::Index;
use crate::limits::STORE_LOG_SLACK;

/// Name of the log in the store's directory.
pub(super) const LOG_FILE: &str = "policies.log";
pub(super) const REWRITE_FILE: &str = "policies.log.new";
/// Name of the file that says how far the log goes.
pub(super) const END_FILE: &str = "policies.end";

/// What reading the log gave.
#[derive(Debug, Default)]
pub(super) struct LogContents {
    /// The newest record of each key.
    pub newest: HashMap<Vec<u8>, Frame>,
    /// The last commit mark and its position.
    pub commit: Option<(u64, Census)>,
    /// Commit marks, with their positions, to tell how far the other copy lags.
    pub commits: Vec<u64>,
    /// Places where something is that is no record.
    pub damaged: u64,
    /// Octets at the end that are no record: a write cut short, or damage.
    pub tail: u64,
    /// Length of the file.
    pub bytes: u64,
}

/// Reads the log; an absent file is an empty one. Works on a read-only file system.
pub(super) fn read(directory: &Path) -> io::Result<LogContents> {
    let file = match files::open_to_read(&directory.join(LOG_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogContents::default()),
        Err(error) => return Err(error),
    };
    let mut contents = LogContents { bytes: file.metadata()?.len(), ..LogContents::default() };
    let mut scanner = Scanner::new(BufReader::new(file));
    loop {
        let found = match scanner.next() {
            Ok(Some(found)) => found,
            Ok(None) => break,
            // A bad sector: what was read before it counts, the rest has to come from the other copy.
            Err(_) => {
                contents.damaged += 1;
                break;
            }
        };
        match found {
            Found::Damage(_) => contents.damaged += 1,
            Found::Tail(bytes) => contents.tail = bytes,
            Found::Frame(Frame { seq, body: Body::Commit(census) }, _) => {
                contents.commits.push(seq);
                contents.commit = contents.commit.max_by_seq((seq, census));
            }
            Found::Frame(frame, _) => keep_newest(&mut contents.newest, frame),
        }
    }
    Ok(contents)
}

/// Keeps the newer of two records of one key.
pub(super) fn keep_newest(newest: &mut HashMap<Vec<u8>, Frame>, frame: Frame) {
    let Some(key) = frame.key() else { return };
    match newest.get_mut(key) {
        Some(held) if held.seq > frame.seq => {}
        Some(held) => *held = frame,
        None => {
            newest.insert(key.to_vec(), frame);
        }
    }
}

/// Picks the later of two commit marks.
pub(super) trait MaxBySeq {
    /// The one with the higher position.
    fn max_by_seq(self, other: (u64, Census)) -> Self;
}

impl MaxBySeq for Option<(u64, Census)> {
    fn max_by_seq(self, other: (u64, Census)) -> Self {
        match self {
            Some(held) if held.0 > other.0 => Some(held),
            _ => Some(other),
        }
    }
}

/// The position of the last record that was written to the log, as a file beside it tells: what ends before that has
/// been cut. Nothing where that cannot be told.
///
/// The file is written after the log is durable, and not waited for: it may fall behind, and is never ahead.
pub(super) fn end(directory: &Path) -> Option<u64> {
    let octets = files::read(&directory.join(END_FILE)).ok()?;
    let (seq, sum) = octets.split_first_chunk::<8>()?;
    (sum == crc32fast::hash(seq).to_le_bytes()).then(|| u64::from_le_bytes(*seq))
}

/// The log, open for writing at its end.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    file: File,
    /// For [`end`]; without it the next start takes longer.
    end: Option<File>,
    /// Octets that are known to be good; anything beyond is a write that failed.
    bytes: u64,
}

impl Log {
    /// Opens the log, of which the first `bytes` octets are kept, or creates it.
    pub fn open(directory: &Path, bytes: u64) -> io::Result<Self> {
        let path = directory.join(LOG_FILE);
        let file = files::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false))?;
        file.set_len(bytes)?;
        let end = open_end(directory);
        sync_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), file, end, bytes })
    }

    /// Writes the log anew with these records, in place of whatever was there.
    pub fn rewrite<'a>(
        directory: &Path,
        frames: impl Iterator<Item = io::Result<std::borrow::Cow<'a, Frame>>>,
    ) -> io::Result<Self> {
        let path = directory.join(REWRITE_FILE);
        let file = files::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(true))?;
        let mut writer = BufWriter::new(&file);
        let (mut bytes, mut last) = (0, 0);
        for frame in frames {
            let frame = frame?;
            last = frame.seq.max(last);
            let encoded = frame.encode();
            writer.write_all(&encoded)?;
            bytes += encoded.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        fs::rename(&path, directory.join(LOG_FILE))?;
        let end = open_end(directory);
        sync_directory(directory)?;
        let log = Self { directory: directory.to_owned(), file, end, bytes };
        log.note_end(last);
        Ok(log)
    }

    /// Appends records and makes them durable. After an error nothing of them counts.
    pub fn append(&mut self, frames: &[Frame]) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        let mut writer = BufWriter::with_capacity(256 * 1024, &self.file);
        let mut written = 0;
        for frame in frames {
            let encoded = frame.encode();
            writer.write_all(&encoded)?;
            written += encoded.len() as u64;
        }
        writer.flush()?;
        drop(writer);
        self.file.sync_data()?;
        self.bytes += written;
        if let Some(last) = frames.last() {
            self.note_end(last.seq);
        }
        Ok(())
    }

    /// Says for [`end`] that the log goes as far as `seq`.
    pub fn note_end(&self, seq: u64) {
        let seq = seq.to_le_bytes();
        let octets = [&seq[..], &crc32fast::hash(&seq).to_le_bytes()].concat();
        // Where it fails the file says less than it could, or nothing: then the next start takes longer.
        _ = self.end.as_ref().map(|end| end.write_all_at(&octets, 0));
    }

    /// Whether more than half of the log is out of date, given the octets that are not.
    pub fn wants_compaction(&self, alive: u64) -> bool {
        self.bytes > 2 * alive + STORE_LOG_SLACK
    }

    /// Leaves out everything that `index` does not name. Nothing, where the log turns out to be damaged: then
    /// it is still as it was.
    pub fn compact(&self, index: &Index, commit: Frame) -> io::Result<Option<Self>> {
        let mut scanner = Scanner::new(BufReader::new(files::open_to_read(&self.directory.join(LOG_FILE))?));
        let mut kept = 0;
        let alive = std::iter::from_fn(|| {
            loop {
                match scanner.next() {
                    Ok(Some(Found::Frame(frame, _))) if index.is_current(&frame) => {
                        kept += 1;
                        return Some(Ok(std::borrow::Cow::Owned(frame)));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) if kept < index.len() => {
                        return Some(Err(io::Error::new(io::ErrorKind::InvalidData, "the log is damaged")));
                    }
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                }
            }
        });
        let commit = std::iter::once(Ok(std::borrow::Cow::Owned(commit)));
        match Self::rewrite(&self.directory, alive.chain(commit)) {
            Ok(log) => Ok(Some(log)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn open_end(directory: &Path) -> Option<File> {
    files::open(&directory.join(END_FILE), OpenOptions::new().write(true).create(true).truncate(false)).ok()
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
