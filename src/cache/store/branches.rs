//! The branches of a next hop as stored values.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::alike::Alike;
use super::index::{KEY_DANE, KEY_STS};
use super::recover::Report;
use super::texts::{self, Digest, REFERRING, Texts};
use super::{KEY_BLOB, Store, StoreError};
use crate::cache::entry::PolicyLines;
use crate::cache::packed::{pack, unpack};
use crate::cache::pool::Pools;
use crate::cache::{DaneEntry, HeldPolicy, Persist, PersistError, StsEntry, StsPolicy};
use crate::limits::STORE_COMPLAINT_INTERVAL;
use crate::names::{Domain, MxPattern, NextHop};
use crate::telemetry::metrics::{STORE_DAMAGED_ENTRIES, STORE_WRITE_ERRORS};

/// Version of the values. Raise it when a field changes its meaning or place, keep reading the old one, and
/// add a fixture of it to the tests.
const VERSION: u8 = 1;

/// What a start read from the store.
#[derive(Debug, Default)]
pub struct Loaded {
    /// MTA-STS branches, valid or not.
    pub sts: Vec<(Domain, StsEntry)>,
    /// DANE branches, valid or not.
    pub dane: Vec<(NextHop, DaneEntry)>,
    /// Entries that were read but not understood: damaged, or of a version from the future.
    pub skipped: u64,
    /// The state of the store.
    pub report: Report,
}

/// What was read, by kind.
pub(super) struct Sorted {
    pub blobs: HashMap<String, Vec<u8>>,
    pub sts: Vec<(Domain, StsEntry)>,
    pub dane: Vec<(NextHop, DaneEntry)>,
    /// Entries that are not understood.
    pub skipped: u64,
    pools: Pools,
    alike: Alike,
    texts: Texts,
    /// What was made of a text, or that there is none.
    referred: HashMap<Digest, Option<Arc<StsPolicy>>>,
}

impl Sorted {
    /// Nothing yet, of the store in this directory.
    pub fn of(store: &Path) -> Self {
        let (blobs, sts, dane, skipped, pools) = Default::default();
        let (alike, referred) = Default::default();
        Self { blobs, sts, dane, skipped, pools, alike, texts: Texts::of(store), referred }
    }

    /// Takes in an entry; what is not understood is left out.
    pub fn take(&mut self, key: &[u8], value: &[u8]) {
        let understood = match key.split_first() {
            Some((&KEY_STS, name)) => domain(name).zip(self.decode_sts(value)).map(|(domain, mut entry)| {
                self.pools.share_sts(&mut entry);
                self.sts.push((domain, entry));
            }),
            Some((&KEY_DANE, name)) => NextHop::parse(name).ok().zip(decode(value)).map(|(hop, mut entry)| {
                self.pools.share_dane(&mut entry);
                self.dane.push((hop, entry));
            }),
            Some((&KEY_BLOB, name)) => {
                std::str::from_utf8(name).ok().map(|name| drop(self.blobs.insert(name.to_owned(), value.to_vec())))
            }
            _ => None,
        };
        self.skipped += u64::from(understood.is_none());
    }

    fn decode_sts(&mut self, value: &[u8]) -> Option<StsEntry> {
        let alike = match value.split_first() {
            Some((&VERSION, packed)) => self.alike.decode(packed),
            Some((&REFERRING, _)) => return self.decode_referring(value),
            _ => None,
        };
        alike.or_else(|| decode(value))
    }

    /// An entry whose policy text is in a file of its own.
    fn decode_referring(&mut self, value: &[u8]) -> Option<StsEntry> {
        let (digest, packed) = Digest::in_value(value)?;
        let mut entry: StsEntry = rmp_serde::from_slice(packed).ok()?;
        let held = Arc::make_mut(entry.policy.as_mut()?);
        let texts = &self.texts;
        let known = self.referred.entry(digest).or_insert_with(|| {
            let lines = PolicyLines::from_text(texts.read(&digest)?);
            let policy = StsPolicy { mx: mx_in(&lines)?, lines, ..(*held.policy).clone() };
            Some(Arc::new(policy))
        });
        let policy = known.as_ref()?;
        let is_same = (policy.mode, policy.max_age) == (held.policy.mode, held.policy.max_age);
        let (mode, max_age) = (held.policy.mode, held.policy.max_age);
        held.policy =
            if is_same { Arc::clone(policy) } else { Arc::new(StsPolicy { mode, max_age, ..(**policy).clone() }) };
        Some(entry)
    }

    /// Takes in what another has.
    pub fn append(&mut self, mut other: Self) {
        self.blobs.extend(other.blobs);
        self.sts.append(&mut other.sts);
        self.dane.append(&mut other.dane);
        self.skipped += other.skipped;
    }

    /// Blobs, and the rest with the store's state; says once what was not understood.
    pub fn finish(self, report: Report) -> (HashMap<String, Vec<u8>>, Loaded) {
        let Self { blobs, sts, dane, skipped, .. } = self;
        if skipped > 0 {
            metrics::counter!(STORE_DAMAGED_ENTRIES).increment(skipped);
            tracing::warn!(skipped, "stored entries that cannot be understood are skipped");
        }
        (blobs, Loaded { sts, dane, skipped, report })
    }
}

fn domain(name: &[u8]) -> Option<Domain> {
    std::str::from_utf8(name).ok().and_then(|name| Domain::parse(name).ok())
}

fn encode<T: Serialize>(entry: &T) -> Result<Vec<u8>, StoreError> {
    pack(VERSION, entry).map_err(|_| StoreError::TooLarge)
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    unpack(VERSION, value)
}

/// The patterns of a policy, which its lines say too.
fn mx_in(lines: &PolicyLines) -> Option<Box<[MxPattern]>> {
    lines.iter().filter(|(key, _)| *key == "mx").map(|(_, value)| MxPattern::parse(value).ok()).collect()
}

/// A policy whose text stands apart, and the digest by which it is found.
type LongText = (Digest, Arc<StsPolicy>);

/// The value of an MTA-STS branch, and the text that it refers to where that is long.
fn encode_sts(entry: &StsEntry) -> Result<(Vec<u8>, Option<LongText>), StoreError> {
    let long = entry
        .policy
        .as_ref()
        .filter(|held| texts::is_long(&held.policy) && mx_in(&held.policy.lines).as_ref() == Some(&held.policy.mx));
    let Some(held) = long else { return Ok((encode(entry)?, None)) };
    let digest = Digest::of(held.policy.lines.as_text().as_bytes());
    let StsPolicy { mode, max_age, .. } = *held.policy;
    let bare = StsPolicy { mode, max_age, mx: Box::default(), lines: PolicyLines::default() };
    let bare = HeldPolicy { policy: Arc::new(bare), ..(**held).clone() };
    let entry = StsEntry { policy: Some(Arc::new(bare)), ..entry.clone() };
    let packed = rmp_serde::to_vec(&entry).map_err(|_| StoreError::TooLarge)?;
    Ok(([&[REFERRING], digest.octets(), &packed].concat(), Some((digest, Arc::clone(&held.policy)))))
}

fn sts_key(domain: &Domain) -> Vec<u8> {
    [&[KEY_STS], domain.as_str().as_bytes()].concat()
}

fn dane_key(hop: &NextHop) -> Vec<u8> {
    [&[KEY_DANE], hop.to_string().as_bytes()].concat()
}

impl Persist for Store {
    fn save_sts<'a>(&'a self, domain: &'a Domain, entry: &'a StsEntry) -> BoxFuture<'a, Result<(), PersistError>> {
        Box::pin(async move {
            let queued = encode_sts(entry)
                .and_then(|(value, text)| self.queue.put_durable_with(sts_key(domain), Some(value), text));
            let saved = match queued {
                Ok(durable) => self.wait(durable).await,
                Err(error) => Err(error),
            };
            saved.map_err(|error| self.not_stored(error))
        })
    }

    fn save_dane(&self, hop: &NextHop, entry: &DaneEntry) {
        if let Err(error) = encode(entry).and_then(|value| self.queue.put(dane_key(hop), Some(value))) {
            self.not_stored(error);
        }
    }

    fn remove(&self, hop: &NextHop) {
        let mut removed = self.queue.put(dane_key(hop), None);
        if let NextHop::Domain { domain, port: None } = hop {
            removed = removed.and(self.queue.put(sts_key(domain), None));
        }
        if let Err(error) = removed {
            self.not_stored(error);
        }
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), PersistError>> {
        Box::pin(async move { Store::flush(self).await.map_err(|error| self.not_stored(error)) })
    }
}

impl Store {
    /// Says, at most once a minute, what the writer cannot say itself: a disk that fails is its business, one
    /// that does not answer keeps it from saying anything.
    fn not_stored(&self, error: StoreError) -> PersistError {
        if error != StoreError::Failing {
            metrics::counter!(STORE_WRITE_ERRORS).increment(1);
            let now = self.clock.instant();
            let mut complained = self.complained.lock();
            if complained.is_none_or(|last| now.saturating_duration_since(last) >= STORE_COMPLAINT_INTERVAL) {
                *complained = Some(now);
                tracing::error!(%error, waiting = self.queue.len(), "the store does not keep up, serving from memory");
            }
        }
        PersistError
    }
}
