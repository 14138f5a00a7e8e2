//! One stored record as bytes that check themselves; the same bytes stand in the log and in the keyspace.
//!
//! `magic (4) · crc32 of the rest (4) · seq (8) · kind (1) · key length (2) · value length (4) · key · value`,
//! integers little-endian. A reader that meets damage looks for the next record that checks, so that damage
//! costs only the records it touches.

use std::io::{self, Read};

use crate::limits::{STORE_KEY_BYTES, STORE_VALUE_BYTES};

/// Begins each record; its last byte is the version of the framing. The first byte never occurs in UTF-8.
const MAGIC: [u8; 4] = [0xF5, b'P', b'S', 1];
/// Octets before the key.
const HEAD: usize = 4 + 4 + 8 + 1 + 2 + 4;
/// Largest record.
const FRAME_MAX: usize = HEAD + STORE_KEY_BYTES + STORE_VALUE_BYTES;
/// How much is read from a file at a time.
const CHUNK: usize = 256 * 1024;

const KIND_PUT: u8 = 1;
const KIND_REMOVE: u8 = 2;
const KIND_COMMIT: u8 = 3;

/// A record. Of two with the same key the higher `seq` is the newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Position in the order of all changes; never used twice.
    pub seq: u64,
    /// The change.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// `key` now has this value.
    Put { key: Vec<u8>, value: Vec<u8> },
    /// `key` is gone; kept until no older record of it can come back.
    Remove { key: Vec<u8> },
    /// Everything up to here was written; so many entries were alive then.
    Commit(Census),
}

/// How many entries are alive, by kind: against this count a start says how many are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// MTA-STS branches.
    pub sts: u64,
    /// DANE branches.
    pub dane: u64,
}

impl Frame {
    /// The record as bytes. Keys and values are within their limits: [`fits`] was asked before.
    pub fn encode(&self) -> Vec<u8> {
        let census;
        let (kind, key, value): (u8, &[u8], &[u8]) = match &self.body {
            Body::Put { key, value } => (KIND_PUT, key, value),
            Body::Remove { key } => (KIND_REMOVE, key, &[]),
            Body::Commit(counts) => {
                census = [counts.sts.to_le_bytes(), counts.dane.to_le_bytes()].concat();
                (KIND_COMMIT, &[], &census)
            }
        };
        let mut checked = Vec::with_capacity(HEAD + key.len() + value.len());
        checked.extend_from_slice(&self.seq.to_le_bytes());
        checked.push(kind);
        checked.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
        checked.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        checked.extend_from_slice(key);
        checked.extend_from_slice(value);
        let mut bytes = Vec::with_capacity(8 + checked.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&crc32fast::hash(&checked).to_le_bytes());
        bytes.extend_from_slice(&checked);
        bytes
    }

    /// The record that `bytes` are exactly; nothing where they do not check.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Record::only(bytes).map(Record::to_frame)
    }

    /// The key, where the record has one.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Put { key, .. } | Body::Remove { key } => Some(key),
            Body::Commit(_) => None,
        }
    }
}

/// Whether a key and value can be framed.
pub(super) fn fits(key: &[u8], value: &[u8]) -> bool {
    key.len() <= STORE_KEY_BYTES && value.len() <= STORE_VALUE_BYTES
}

enum Parsed<'a> {
    /// A record.
    Record(Record<'a>),
    /// The beginning of one that would need so many octets.
    Short(usize),
    /// Not a record.
    Damaged,
}

/// A record that checks, where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// See [`Frame::seq`].
    pub seq: u64,
    /// Empty in a commit mark.
    pub key: &'a [u8],
    /// What it says.
    pub change: Change<'a>,
    /// Octets of the whole record.
    pub length: usize,
}

/// See [`Body`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    /// The key now has this value.
    Put(&'a [u8]),
    /// The key is gone.
    Remove,
    /// Everything up to here was written.
    Commit(Census),
}

impl<'a> Record<'a> {
    /// The record that `bytes` begin with; nothing where there is none that checks.
    pub fn first(bytes: &'a [u8]) -> Option<Self> {
        match parse(bytes) {
            Parsed::Record(record) => Some(record),
            Parsed::Short(_) | Parsed::Damaged => None,
        }
    }

    /// The record that `bytes` are exactly.
    pub fn only(bytes: &'a [u8]) -> Option<Self> {
        Self::first(bytes).filter(|record| record.length == bytes.len())
    }

    fn to_frame(self) -> Frame {
        let key = self.key.to_vec();
        let body = match self.change {
            Change::Put(value) => Body::Put { key, value: value.to_vec() },
            Change::Remove => Body::Remove { key },
            Change::Commit(census) => Body::Commit(census),
        };
        Frame { seq: self.seq, body }
    }
}

fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        let known = bytes.len().min(MAGIC.len());
        return if bytes.get(..known) == MAGIC.get(..known) { Parsed::Short(HEAD) } else { Parsed::Damaged };
    };
    let [m0, m1, m2, m3, c0, c1, c2, c3, s0, s1, s2, s3, s4, s5, s6, s7, kind, k0, k1, v0, v1, v2, v3] = *head;
    let key_length = usize::from(u16::from_le_bytes([k0, k1]));
    let Ok(value_length) = usize::try_from(u32::from_le_bytes([v0, v1, v2, v3])) else { return Parsed::Damaged };
    if [m0, m1, m2, m3] != MAGIC || key_length > STORE_KEY_BYTES || value_length > STORE_VALUE_BYTES {
        return Parsed::Damaged;
    }
    let length = HEAD + key_length + value_length;
    let Some(checked) = bytes.get(8..length) else { return Parsed::Short(length) };
    if crc32fast::hash(checked) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Parsed::Damaged;
    }
    let key = bytes.get(HEAD..HEAD + key_length).unwrap_or_default();
    let value = bytes.get(HEAD + key_length..length).unwrap_or_default();
    let change = match kind {
        KIND_PUT => Change::Put(value),
        KIND_REMOVE => Change::Remove,
        KIND_COMMIT => match (value.first_chunk::<8>(), value.last_chunk::<8>()) {
            (Some(sts), Some(dane)) if value.len() == 16 => {
                Change::Commit(Census { sts: u64::from_le_bytes(*sts), dane: u64::from_le_bytes(*dane) })
            }
            _ => return Parsed::Damaged,
        },
        _ => return Parsed::Damaged,
    };
    Parsed::Record(Record { seq: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]), key, change, length })
}

/// What a scan of a file of records finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record that checks, and its length in octets.
    Frame(Frame, usize),
    /// So many octets that are no record, with records after them.
    Damage(u64),
    /// So many octets that are no record, up to the end: a write cut short, or damage.
    Tail(u64),
}

/// Reads records one after the other in bounded memory, over damage.
pub(super) struct Scanner<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    ended: bool,
}

impl<R: Read> Scanner<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::with_capacity(2 * CHUNK), start: 0, ended: false }
    }

    /// The next find, nothing at the end.
    pub fn next(&mut self) -> io::Result<Option<Found>> {
        let mut skipped = 0u64;
        loop {
            let pending = self.buffer.get(self.start..).unwrap_or_default();
            match parse(pending) {
                Parsed::Record(record) if skipped == 0 => {
                    self.start += record.length;
                    return Ok(Some(Found::Frame(record.to_frame(), record.length)));
                }
                Parsed::Record(_) => return Ok(Some(Found::Damage(skipped))),
                Parsed::Short(length) if !self.ended => self.fill(length.min(FRAME_MAX))?,
                Parsed::Short(_) | Parsed::Damaged if pending.is_empty() => {
                    return Ok((skipped > 0).then_some(Found::Tail(skipped)));
                }
                Parsed::Short(_) | Parsed::Damaged => {
                    // On to the next place where a record may begin.
                    let step = pending.iter().skip(1).position(|byte| *byte == MAGIC[0]).map(|at| at + 1);
                    let step = step.unwrap_or(pending.len());
                    skipped += step as u64;
                    self.start += step;
                }
            }
        }
    }

    /// Reads until `wanted` octets are there, or the end.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < wanted && !self.ended {
            let before = self.buffer.len();
            self.buffer.resize(before + CHUNK, 0);
            let read = match self.source.read(self.buffer.get_mut(before..).unwrap_or_default()) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.buffer.truncate(before);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.buffer.truncate(before + read);
            self.ended = read == 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(seq: u64, key: &str, value: &[u8]) -> Frame {
        Frame { seq, body: Body::Put { key: key.into(), value: value.to_vec() } }
    }

    fn sample() -> Vec<Frame> {
        let mut frames: Vec<_> = (0..20).map(|n| put(n, &format!("s:{n}.example"), &[0xF5; 40])).collect();
        frames.push(Frame { seq: 20, body: Body::Remove { key: b"s:3.example".to_vec() } });
        frames.push(Frame { seq: 20, body: Body::Commit(Census { sts: 19, dane: 7 }) });
        frames.push(put(21, "d:empty.example", b""));
        frames
    }

    /// Frames that were found, and whether there was anything else.
    fn scan(bytes: &[u8]) -> (Vec<Frame>, Vec<Found>) {
        let mut scanner = Scanner::new(bytes);
        let (mut frames, mut others) = (Vec::new(), Vec::new());
        while let Some(found) = scanner.next().expect("reads") {
            match found {
                Found::Frame(frame, length) => {
                    assert_eq!(frame.encode().len(), length);
                    frames.push(frame);
                }
                other => others.push(other),
            }
        }
        (frames, others)
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes: Vec<u8> = sample().iter().flat_map(Frame::encode).collect();
        assert_eq!(scan(&bytes), (sample(), vec![]));
        assert_eq!(scan(b""), (vec![], vec![]));
    }

    #[test]
    fn one_changed_byte_costs_one_record() {
        let bytes: Vec<u8> = sample().iter().flat_map(Frame::encode).collect();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let (frames, others) = scan(&damaged);
                assert_eq!(frames.len(), sample().len() - 1, "byte {at} xor {flip}");
                assert_eq!(others.len(), 1, "byte {at} xor {flip}");
            }
        }
    }

    #[test]
    fn a_write_cut_short_is_a_tail() {
        let whole: Vec<u8> = sample().iter().flat_map(Frame::encode).collect();
        let last = sample().last().expect("a frame").encode().len();
        for cut in 1..last {
            let (frames, others) = scan(&whole[..whole.len() - cut]);
            assert_eq!(frames.len(), sample().len() - 1);
            assert_eq!(others, [Found::Tail((last - cut) as u64)]);
        }
    }

    #[test]
    fn records_across_read_boundaries_are_whole() {
        let frames: Vec<_> = (0..40).map(|n| put(n, "s:big.example", &vec![n as u8; 50_000])).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        assert_eq!(scan(&bytes), (frames, vec![]));
    }

    #[test]
    fn noise_is_no_record() {
        let noise: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(scan(&noise), (vec![], vec![Found::Tail(300_000)]));
        assert_eq!(scan(&[0u8; 1000]), (vec![], vec![Found::Tail(1000)]));
    }
}
