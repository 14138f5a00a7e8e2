//! What is on disk, by a hash of each key: enough to count, to compact and to leave out needless removals.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::frame::{Body, Census, Frame};
use super::texts::Digest;

/// First octet of the key of an MTA-STS branch.
pub(super) const KEY_STS: u8 = b's';
/// First octet of the key of a DANE branch.
pub(super) const KEY_DANE: u8 = b'd';

/// Live entries on disk. Keys are hashed with a secret, so that nobody can make two of them meet.
#[derive(Debug, Default)]
pub(super) struct Index {
    hasher: RandomState,
    slots: HashMap<u64, Slot, BuildHasherDefault<Hashed>>,
    census: Census,
    bytes: u64,
    /// The text that the entry of a key refers to, where it does.
    texts: HashMap<u64, Digest, BuildHasherDefault<Hashed>>,
    /// How many entries refer to each.
    referred: HashMap<Digest, usize>,
    /// Texts that were referred to, once.
    idle: Vec<Digest>,
}

/// Of keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, octets: &[u8]) {
        // Only `write_u64` is used; this would do as well.
        self.0 = octets.iter().fold(self.0, |hash, octet| hash.rotate_left(8) ^ u64::from(*octet));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    seq: u64,
    bytes: u32,
}

impl Index {
    /// An empty index that hashes keys like others with the same `hasher`.
    pub fn new(hasher: RandomState) -> Self {
        Self { hasher, ..Self::default() }
    }

    /// Takes note of a record that was written.
    pub fn apply(&mut self, frame: &Frame) {
        match &frame.body {
            Body::Put { key, value } => self.put(self.hash(key), key, value, frame.seq),
            Body::Remove { key } => self.remove(self.hash(key), key),
            Body::Commit(_) => {}
        }
    }

    /// The hash of a key, for what follows.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// There is a live entry of this key, with this value.
    pub fn put(&mut self, hash: u64, key: &[u8], value: &[u8], seq: u64) {
        // What a record takes beside its key and value is small change.
        let bytes = u32::try_from(key.len() + value.len() + 32).unwrap_or(u32::MAX);
        self.refer(hash, Digest::in_value(value).map(|(digest, _)| digest));
        self.bytes += u64::from(bytes);
        match self.slots.insert(hash, Slot { seq, bytes }) {
            Some(old) => self.bytes -= u64::from(old.bytes),
            None => self.count(key, 1),
        }
    }

    /// There is no live entry of this key.
    pub fn remove(&mut self, hash: u64, key: &[u8]) {
        self.refer(hash, None);
        if let Some(old) = self.slots.remove(&hash) {
            self.bytes -= u64::from(old.bytes);
            self.count(key, -1);
        }
    }

    /// The entry of this key refers to that text now.
    fn refer(&mut self, hash: u64, text: Option<Digest>) {
        let before = match text {
            Some(digest) => {
                *self.referred.entry(digest).or_default() += 1;
                self.texts.insert(hash, digest)
            }
            None => self.texts.remove(&hash),
        };
        let Some(before) = before else { return };
        if let Some(count) = self.referred.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                self.referred.remove(&before);
                self.idle.push(before);
            }
        }
    }

    /// Whether a live entry refers to that text.
    pub fn refers_to(&self, text: &Digest) -> bool {
        self.referred.contains_key(text)
    }

    /// The texts that no live entry refers to any more, as of the last such call.
    pub fn take_idle_texts(&mut self) -> Vec<Digest> {
        let idle = std::mem::take(&mut self.idle);
        idle.into_iter().filter(|text| !self.refers_to(text)).collect()
    }

    /// The position of the live record of a key.
    pub fn seq_of(&self, hash: u64) -> Option<u64> {
        self.slots.get(&hash).map(|slot| slot.seq)
    }

    /// Whether there is a live entry of this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.slots.contains_key(&self.hasher.hash_one(key))
    }

    /// Whether this record is the live one of its key.
    pub fn is_current(&self, frame: &Frame) -> bool {
        let Body::Put { key, .. } = &frame.body else { return false };
        self.slots.get(&self.hasher.hash_one(key)).is_some_and(|slot| slot.seq == frame.seq)
    }

    /// Live entries of every kind.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Live entries by kind.
    pub fn census(&self) -> Census {
        self.census
    }

    /// About how many octets the live entries take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, key: &[u8], by: i64) {
        let counter = match key.first() {
            Some(&KEY_STS) => &mut self.census.sts,
            Some(&KEY_DANE) => &mut self.census.dane,
            _ => return,
        };
        *counter = counter.saturating_add_signed(by);
    }
}
