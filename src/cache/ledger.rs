//! What entries take of memory and of the disk, in all and for the names of each zone.
//!
//! A long policy that many have counts once in all, and once for each zone, as it is there once. What is counted is an
//! estimate, of the disk with what a log and a tree of records need beside it; an estimate that is too high bounds as
//! well.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::entry::{DaneVerdict, HeldPolicy, RecordOutcome, StsEntry, StsPolicy};
use super::state::{DaneState, StsState};
use super::store::texts;
use crate::limits::{self, STORE_RECORD_BYTES, STORE_RECORD_TIMES};
use crate::names::NextHop;

/// A zone, as a hash with a secret; nothing where it is not known.
pub(super) type Zone = Option<u64>;

/// How much something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Next hops.
    pub entries: usize,
    /// Octets of memory.
    pub memory: usize,
    /// Octets on disk.
    pub disk: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.memory += other.memory;
        self.disk += other.disk;
    }

    fn take(&mut self, other: Self) {
        self.entries = self.entries.saturating_sub(other.entries);
        self.memory = self.memory.saturating_sub(other.memory);
        self.disk = self.disk.saturating_sub(other.disk);
    }

    /// Whether any of it is more than `bound` has.
    pub fn exceeds(self, bound: Self) -> bool {
        self.entries > bound.entries || self.memory > bound.memory || self.disk > bound.disk
    }

    /// One part in so many of it.
    pub fn share(self, parts: usize) -> Self {
        Self { entries: self.entries / parts, memory: self.memory / parts, disk: self.disk / parts }
    }
}

/// What one entry takes, without its policy where that is long.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// Octets of memory.
    pub memory: u32,
    /// Octets on disk.
    pub disk: u32,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    all: Size,
    zones: HashMap<u64, Size>,
    /// How many entries have a long policy, in all and of each zone, by where it is in memory.
    policies: HashMap<(Zone, usize), usize>,
}

impl Ledger {
    /// Counts an entry of that zone; returns what all take now, and those of the zone.
    pub fn count(&self, zone: Zone, weight: Weight, sts: Option<&StsState>) -> (Size, Size) {
        let mut books = self.0.lock();
        let (policy, size) = (long_policy(sts), Size::of(weight));
        books.all.add(size);
        if let Some(policy) = policy.filter(|policy| books.is_first(None, policy)) {
            books.all.add(Size::of_policy(policy));
        }
        let Some(hash) = zone else { return (books.all, Size::default()) };
        let new = policy.filter(|policy| books.is_first(zone, policy)).map(|policy| Size::of_policy(policy));
        let of_zone = books.zones.entry(hash).or_default();
        of_zone.add(size);
        of_zone.add(new.unwrap_or_default());
        let of_zone = *of_zone;
        (books.all, of_zone)
    }

    /// Takes back what was counted for an entry, whose policy is still the one that it had.
    pub fn uncount(&self, zone: Zone, weight: Weight, sts: Option<&StsState>) {
        let mut books = self.0.lock();
        let (policy, size) = (long_policy(sts), Size::of(weight));
        books.all.take(size);
        if let Some(policy) = policy.filter(|policy| books.was_last(None, policy)) {
            books.all.take(Size::of_policy(policy));
        }
        let Some(hash) = zone else { return };
        let gone = policy.filter(|policy| books.was_last(zone, policy)).map(|policy| Size::of_policy(policy));
        if let Entry::Occupied(mut of_zone) = books.zones.entry(hash) {
            of_zone.get_mut().take(size);
            of_zone.get_mut().take(gone.unwrap_or_default());
            if of_zone.get().entries == 0 {
                of_zone.remove();
            }
        }
    }

    /// What all entries take.
    pub fn all(&self) -> Size {
        self.0.lock().all
    }

    /// What those of a zone take.
    pub fn of(&self, zone: Zone) -> Size {
        zone.and_then(|zone| self.0.lock().zones.get(&zone).copied()).unwrap_or_default()
    }
}

impl Books {
    fn is_first(&mut self, zone: Zone, policy: &Arc<StsPolicy>) -> bool {
        let count = self.policies.entry((zone, Arc::as_ptr(policy).addr())).or_default();
        *count += 1;
        *count == 1
    }

    fn was_last(&mut self, zone: Zone, policy: &Arc<StsPolicy>) -> bool {
        let Entry::Occupied(mut count) = self.policies.entry((zone, Arc::as_ptr(policy).addr())) else { return false };
        *count.get_mut() -= 1;
        let is_last = *count.get() == 0;
        if is_last {
            count.remove();
        }
        is_last
    }
}

impl Size {
    fn of(weight: Weight) -> Self {
        Self { entries: 1, memory: weight.memory as usize, disk: weight.disk as usize }
    }

    fn of_policy(policy: &StsPolicy) -> Self {
        Self { entries: 0, memory: memory_of(policy), disk: texts::bytes_on_disk(policy.lines.bytes()) }
    }
}

fn long_policy(sts: Option<&StsState>) -> Option<&Arc<StsPolicy>> {
    let policy = &sts?.entry.policy.as_ref()?.policy;
    texts::is_long(policy).then_some(policy)
}

fn memory_of(policy: &StsPolicy) -> usize {
    let mx = policy.mx.iter().map(|mx| size_of_val(mx) + limits::allocated(mx.host().as_str().len()));
    limits::allocated_shared(size_of::<StsPolicy>()) + policy.lines.bytes() + mx.sum::<usize>()
}

/// What an entry takes that has a `place` of so many octets in its table.
pub(super) fn weigh(hop: &NextHop, dane: Option<&DaneState>, sts: Option<&StsState>, place: usize) -> Weight {
    let (NextHop::Domain { domain: name, .. } | NextHop::Host { host: name, .. }) = hop;
    let name = name.as_str();
    let dane_memory = dane.map_or(0, |dane| {
        let hosts = dane.entry.without.iter().map(|host| size_of_val(host) + limits::allocated(host.as_str().len()));
        limits::allocated_shared(dane.entry.reason.len()) + hosts.sum::<usize>()
    });
    let memory = place + limits::allocated(name.len()) + dane_memory + sts.map_or(0, |sts| memory_of_entry(&sts.entry));
    let dane_disk = dane.filter(|dane| dane.entry.verdict != DaneVerdict::Temporary).map_or(0, |dane| {
        let hosts = dane.entry.without.iter().map(|host| host.as_str().len() + 2);
        STORE_RECORD_BYTES + name.len() + dane.entry.reason.len() + hosts.sum::<usize>()
    });
    let disk = dane_disk + sts.map_or(0, |sts| name.len() + record_of_entry(&sts.entry));
    let octets = |octets: usize| u32::try_from(octets).unwrap_or(u32::MAX);
    Weight { memory: octets(memory), disk: octets(disk * STORE_RECORD_TIMES) }
}

/// Octets of memory of an MTA-STS branch, without a policy that is long.
fn memory_of_entry(entry: &StsEntry) -> usize {
    let text = |text: &str| limits::allocated(text.len());
    let policy = entry.policy.as_ref().map_or(0, |held| {
        let policy = if texts::is_long(&held.policy) { 0 } else { memory_of(&held.policy) };
        limits::allocated_shared(size_of::<HeldPolicy>()) + text(&held.id) + policy
    });
    let outcome = match &entry.record.outcome {
        RecordOutcome::Id(id) => text(id),
        RecordOutcome::Absent(why) | RecordOutcome::Failed(why) => limits::allocated_shared(why.len()),
    };
    let failure = entry
        .failure
        .as_ref()
        .map_or(0, |failure| limits::allocated(size_of_val(&**failure)) + text(&failure.id) + text(&failure.reason));
    limits::allocated_shared(size_of::<StsEntry>()) + policy + outcome + failure
}

/// Octets of its record, without a policy that is long.
fn record_of_entry(entry: &StsEntry) -> usize {
    if entry.policy.is_none() && entry.failure.is_none() {
        return 0;
    }
    let policy = entry.policy.as_ref().map_or(0, |held| {
        let mx = held.policy.mx.iter().map(|mx| mx.host().as_str().len() + 4).sum::<usize>();
        // Key and value are written one by one, with their lengths.
        let policy = if texts::is_long(&held.policy) { 0 } else { held.policy.lines.bytes() * 5 / 4 + mx };
        held.id.len() + policy
    });
    let outcome = match &entry.record.outcome {
        RecordOutcome::Id(id) => id.len(),
        RecordOutcome::Absent(why) | RecordOutcome::Failed(why) => why.len(),
    };
    let failure = entry.failure.as_ref().map_or(0, |failure| 40 + failure.id.len() + failure.reason.len());
    STORE_RECORD_BYTES + policy + outcome + failure
}
