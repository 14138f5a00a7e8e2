//! Next hops and their two branches, in memory, bounded in entries and octets.
//!
//! Sharded; a lock is held for one map operation, never across an await or any I/O. A hit allocates nothing.

mod eviction;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::entry::{DaneEntry, DaneVerdict, StsEntry, StsMode};
use super::ledger::{self, Ledger, Size, Weight, Zone};
use super::persist::Persist;
use super::pool::Pools;
use super::shared::Shared;
use super::snapshot::{Snapshot, Usage, joined};
use super::state::{DaneState, Protection, StsState, Worth};
use crate::clock::{Instant, Stamp, Tick, UnixTime};
use crate::limits::{
    CACHE_FREQUENCY_BONUS, CACHE_SHARDS, POLICY_EXPIRED_KEPT, PREFETCH_BACKOFF, STORE_FIXED_BYTES, STORE_LEAST_SHARE,
};
use crate::names::{Domain, NextHop};

/// How much the cache may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Next hops (`cache.max-entries`).
    pub entries: usize,
    /// Octets, by estimate.
    pub bytes: usize,
}

/// Tells the zone that a name lies in, from what is known already; nothing for the root, for registries, whose names are
/// not of one owner, and where it is not known.
pub type ZoneOf = Arc<dyn Fn(&Domain) -> Option<String> + Send + Sync>;

/// What is known about next hops.
pub struct PolicyCache {
    shards: Box<[Shard]>,
    hasher: RandomState,
    bounds: Bounds,
    /// Octets on disk (`cache.max-bytes`).
    disk: usize,
    entries: AtomicUsize,
    ledger: Ledger,
    zone_of: Option<ZoneOf>,
    /// Policies in force that were evicted and not told of yet, and when that was last done.
    evicted: Mutex<(u64, Option<Instant>)>,
    /// Where eviction looks next.
    hand: AtomicUsize,
    persist: Arc<dyn Persist>,
    shared: Option<Arc<dyn Shared>>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Shard {
    slots: Mutex<HashMap<NextHop, Slot>>,
    /// How many slots are here, to pass by without the lock.
    used: AtomicUsize,
    /// Slots here that are worth nothing, as of their last change.
    plain: AtomicUsize,
}

struct Slot {
    dane: Option<DaneState>,
    sts: Option<StsState>,
    usage: Usage,
    weight: Weight,
    /// How deep its zone is, and a hash of that zone's name, where it is known.
    zone: Option<(u8, u64)>,
    worth: Worth,
    /// Until when a policy counts as seen.
    seen_until: UnixTime,
    /// What the last conclusive answer told Postfix.
    protection: Protection,
    /// When its policy was first found expired; [`Tick::NEVER`] where it was not.
    expired_since: Tick,
}

impl PolicyCache {
    /// An empty cache whose entries outlive the process through `persist`.
    pub fn new(bounds: Bounds, persist: Arc<dyn Persist>) -> Self {
        Self {
            shards: (0..CACHE_SHARDS).map(|_| Shard::default()).collect(),
            hasher: RandomState::new(),
            bounds,
            disk: usize::MAX,
            entries: AtomicUsize::new(0),
            ledger: Ledger::default(),
            zone_of: None,
            evicted: Mutex::default(),
            hand: AtomicUsize::new(0),
            persist,
            shared: None,
            pools: Mutex::default(),
        }
    }

    /// With policies that other replicas share.
    pub fn sharing(self, shared: Arc<dyn Shared>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// With a store that may take so many octets of the disk, all its files together.
    pub fn on_disk(self, bytes: usize) -> Self {
        // Of a small bound some is for entries all the same.
        let disk = bytes.saturating_sub(STORE_FIXED_BYTES).max(bytes / STORE_LEAST_SHARE);
        Self { disk, ..self }
    }

    /// With a bound for the names of one zone together.
    pub fn grouped_by(self, zone_of: ZoneOf) -> Self {
        Self { zone_of: Some(zone_of), ..self }
    }

    /// What other replicas share, where they do.
    pub fn shared(&self) -> Option<&dyn Shared> {
        self.shared.as_deref()
    }

    /// What is known about `hop`, for a query: counts as use.
    pub fn get(&self, hop: &NextHop, now: Stamp) -> Option<Snapshot> {
        let own = self.used(hop, true, now);
        match hop.plain() {
            None => own,
            Some(plain) => joined(own, self.used(&plain, false, now)),
        }
    }

    /// What is known about `hop`, without counting as use.
    pub fn peek(&self, hop: &NextHop) -> Option<Snapshot> {
        let own = self.own(hop);
        match hop.plain() {
            None => own,
            Some(plain) => joined(own, self.own(&plain)),
        }
    }

    /// What is kept under `hop` itself.
    fn own(&self, hop: &NextHop) -> Option<Snapshot> {
        self.shard(hop).slots.lock().get(hop).map(Slot::snapshot)
    }

    /// The same, counted as use; that of the DANE branch where `dane`.
    fn used(&self, hop: &NextHop, dane: bool, now: Stamp) -> Option<Snapshot> {
        let mut slots = self.shard(hop).slots.lock();
        let slot = slots.get_mut(hop)?;
        slot.usage.hits = slot.usage.hits.saturating_add(u32::from(dane));
        slot.usage.asked_at = now.instant.into();
        slot.usage.asked_dane |= dane;
        slot.usage.asked_sts = true;
        Some(slot.snapshot())
    }

    /// Takes note of a policy of `hop` that was seen and is not kept.
    pub fn note_seen(&self, hop: &NextHop, until: UnixTime) {
        if let Some(slot) = self.shard(hop).slots.lock().get_mut(hop) {
            slot.seen_until = slot.seen_until.max(until);
        }
    }

    /// Takes in a DANE branch. A background renewal that found nothing out does not displace what still holds.
    pub fn put_dane(&self, hop: &NextHop, mut entry: DaneEntry, now: Stamp) -> DaneState {
        self.pools.lock().share_dane(&mut entry);
        // Kept with whatever comes after the policy, so that it is still known after a restart.
        let before = self.own(hop).map_or(0, |known| known.seen_until);
        entry.seen_until = entry.policy_seen_until().max(before);
        if entry.verdict != DaneVerdict::Temporary {
            self.persist.save_dane(hop, &entry);
        }
        let state = DaneState::new(entry, now);
        self.change(hop, now, |slot| {
            slot.seen_until = slot.seen_until.max(state.entry.seen_until);
            slot.dane = Some(state.clone());
            slot.usage.asked_dane = false;
            slot.usage.dane_retry_at = Tick::EVER;
            slot.usage.dane_failures = 0;
        });
        state
    }

    /// Takes in an MTA-STS branch; what is worth keeping is durable before it can be served from here. Where
    /// the disk fails it is served all the same: the store says so.
    pub async fn put_sts(&self, domain: &Domain, state: StsState, now: Stamp) {
        let hop = NextHop::Domain { domain: domain.clone(), port: None };
        let keep = |entry: &StsEntry| entry.policy.is_some() || entry.failure.is_some();
        let kept_before = self.peek(&hop).and_then(|slot| slot.sts).is_some_and(|sts| keep(&sts.entry));
        if kept_before || keep(&state.entry) {
            _ = self.persist.save_sts(domain, &state.entry).await;
        }
        let mut state = state;
        self.pools.lock().share_sts(Arc::make_mut(&mut state.entry));
        let seen = state.entry.policy_seen_until();
        let mut forgotten = None;
        self.change(&hop, now, |slot| {
            slot.seen_until = slot.seen_until.max(seen);
            slot.sts = Some(state);
            slot.usage.asked_sts = false;
            // The entry on disk no longer tells that there was another policy before it: the other branch does.
            let kept = slot.dane.as_mut().filter(|dane| {
                seen < slot.seen_until
                    && dane.entry.seen_until < slot.seen_until
                    && dane.entry.verdict != DaneVerdict::Temporary
            });
            forgotten = kept.map(|dane| {
                dane.entry.seen_until = slot.seen_until;
                dane.entry.clone()
            });
        });
        if let Some(entry) = forgotten {
            self.persist.save_dane(&hop, &entry);
        }
    }

    /// So many entries are about to be restored.
    pub fn reserve(&self, entries: usize) {
        for shard in &self.shards {
            shard.slots.lock().reserve(entries.min(self.bounds.entries) / CACHE_SHARDS);
        }
    }

    /// Takes in what a store kept. Call before the first query.
    pub fn restore(&self, hop: &NextHop, dane: Option<DaneEntry>, sts: Option<StsEntry>, now: Stamp) {
        let (mut dane, mut sts) = (dane, sts);
        {
            let mut pools = self.pools.lock();
            dane.iter_mut().for_each(|entry| pools.share_dane(entry));
            sts.iter_mut().for_each(|entry| pools.share_sts(entry));
        }
        self.change(hop, now, |slot| {
            slot.dane = dane.map(|entry| DaneState::restored(entry, now)).or(slot.dane.take());
            slot.sts = sts.map(|entry| StsState::restored(entry, now)).or(slot.sts.take());
            let dane = slot.dane.as_ref().map_or(0, |state| state.entry.policy_seen_until());
            let sts = slot.sts.as_ref().map_or(0, |state| state.entry.policy_seen_until());
            slot.seen_until = dane.max(sts);
            let verdict = slot.dane.as_ref().map(|state| state.entry.verdict);
            let held = slot.sts.as_ref().and_then(|state| state.entry.policy.as_ref());
            let enforces = held.is_some_and(|held| held.policy.mode == StsMode::Enforce);
            slot.protection = Protection::restored(verdict, enforces);
        });
    }

    /// Takes note of what the answer about `hop` tells Postfix; returns what it told before.
    pub fn note_protection(&self, hop: &NextHop, protection: Protection) -> Protection {
        let mut slots = self.shard(hop).slots.lock();
        let slot = slots.get_mut(hop);
        slot.map(|slot| std::mem::replace(&mut slot.protection, protection)).unwrap_or_default()
    }

    /// Puts off the next renewal of a DANE branch, longer after each failure in a row.
    pub fn note_failed_renewal(&self, hop: &NextHop, now: Instant) {
        if let Some(slot) = self.shard(hop).slots.lock().get_mut(hop) {
            slot.usage.dane_retry_at =
                (now + PREFETCH_BACKOFF * 2u32.pow(slot.usage.dane_failures.min(8).into())).into();
            slot.usage.dane_failures = slot.usage.dane_failures.saturating_add(1);
        }
    }

    /// Forgets `hop` because the operator says so, on disk and in what is shared as well; true if it was known. With a
    /// key that is not the name alone that is forgotten, too: it has the MTA-STS branch.
    pub fn remove(&self, hop: &NextHop) -> bool {
        let plain = hop.plain().is_some_and(|plain| self.remove_one(&plain));
        self.remove_one(hop) || plain
    }

    fn remove_one(&self, hop: &NextHop) -> bool {
        let removed = self.forget(self.shard(hop), hop);
        self.persist.remove(hop);
        if let (Some(shared), NextHop::Domain { domain, port: None }) = (self.shared(), hop) {
            shared.forget(domain);
        }
        removed
    }

    /// Forgets everything that is known here, like [`PolicyCache::remove`]; returns how many next hops were known.
    pub fn clear(&self) -> usize {
        let hops: Vec<NextHop> = self.rows().into_iter().map(|(hop, _)| hop).collect();
        hops.iter().filter(|hop| self.remove_one(hop)).count()
    }

    /// Ready once everything that was taken in or forgotten before would survive a power cut. Where the disk
    /// fails it is ready all the same: the store says so.
    pub async fn settle(&self) {
        _ = self.persist.flush().await;
    }

    /// Every entry, in no order. Copies; for the command line, not for queries.
    pub fn rows(&self) -> Vec<(NextHop, Snapshot)> {
        let mut rows = Vec::with_capacity(self.len());
        for shard in &self.shards {
            rows.extend(shard.slots.lock().iter().map(|(hop, slot)| (hop.clone(), slot.snapshot())));
        }
        for (hop, row) in &mut rows {
            if let Some(plain) = hop.plain().and_then(|plain| self.own(&plain)) {
                row.add_name(plain);
            }
        }
        rows
    }

    /// The entries of one shard that `wanted` picks, and the removal of policies that expired long ago.
    /// Shards count from 0 to [`CACHE_SHARDS`].
    pub fn scan(&self, shard: usize, now: Stamp, wanted: impl Fn(&NextHop, &Snapshot) -> bool) -> Vec<NextHop> {
        let shard = self.shards.get(shard).filter(|shard| shard.used.load(Ordering::Relaxed) > 0);
        let Some(shard) = shard else { return Vec::new() };
        let (mut picked, mut gone) = (Vec::new(), Vec::new());
        for (hop, slot) in shard.slots.lock().iter_mut() {
            if slot.is_long_expired(now) {
                gone.push(hop.clone());
            } else if wanted(hop, &slot.snapshot()) {
                picked.push(hop.clone());
            }
        }
        for hop in &gone {
            self.forget(shard, hop);
            self.persist.remove(hop);
        }
        picked
    }

    /// The zone of an entry, as a number that means nothing beyond this cache; nothing where it is not known.
    pub fn zone_of(&self, hop: &NextHop) -> Option<u64> {
        self.shard(hop).slots.lock().get(hop).and_then(Slot::zone)
    }

    /// Next hops known.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// True where nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets held, by estimate.
    pub fn bytes(&self) -> usize {
        self.ledger.all().memory
    }

    #[allow(clippy::indexing_slicing, reason = "the index is a remainder by the number of shards")]
    fn shard(&self, hop: &NextHop) -> &Shard {
        &self.shards[self.hasher.hash_one(hop) as usize % self.shards.len()]
    }

    /// Applies `change` to the slot of `hop`, made where it is missing, and keeps the books.
    fn change(&self, hop: &NextHop, now: Stamp, change: impl FnOnce(&mut Slot)) {
        let shard = self.shard(hop);
        let found = self.zone(hop);
        let (zone, all, of_zone) = {
            let mut slots = shard.slots.lock();
            let slot = match slots.get_mut(hop) {
                Some(slot) => {
                    self.uncount(shard, slot);
                    slot
                }
                None => slots.entry(hop.clone()).or_insert_with(|| Slot::empty(now)),
            };
            change(slot);
            // A cut that ended in the resolver's cache does not make it a name of the zone above.
            slot.zone = slot.zone.max(found);
            // Up to half of a table's places are empty.
            let place = 2 * (size_of::<NextHop>() + size_of::<Slot>() + 1);
            slot.weight = ledger::weigh(hop, slot.dane.as_ref(), slot.sts.as_ref(), place);
            slot.worth = Worth::of(slot.dane.as_ref(), slot.sts.as_ref(), slot.seen_until, now);
            self.entries.fetch_add(1, Ordering::Relaxed);
            shard.used.fetch_add(1, Ordering::Relaxed);
            if slot.worth == Worth::Nothing {
                shard.plain.fetch_add(1, Ordering::Relaxed);
            }
            let (all, of_zone) = self.ledger.count(slot.zone(), slot.weight, slot.sts.as_ref());
            (slot.zone(), all, of_zone)
        };
        if self.is_crowded(of_zone) {
            self.trim_zone(zone, now);
        }
        if all.exceeds(self.bound()) {
            self.trim(now);
        }
    }

    /// The zone of `hop`, as far as it is known: how deep it is, and a hash of its name.
    fn zone(&self, hop: &NextHop) -> Option<(u8, u64)> {
        let (NextHop::Domain { domain: name, .. } | NextHop::Host { host: name, .. }) = hop;
        let zone = self.zone_of.as_ref()?(name)?;
        let labels = zone.split('.').filter(|label| !label.is_empty()).count();
        Some((u8::try_from(labels).unwrap_or(u8::MAX), self.hasher.hash_one(zone.trim_end_matches('.'))))
    }

    fn bound(&self) -> Size {
        Size { entries: self.bounds.entries, memory: self.bounds.bytes, disk: self.disk }
    }

    fn uncount(&self, shard: &Shard, slot: &Slot) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        shard.used.fetch_sub(1, Ordering::Relaxed);
        self.ledger.uncount(slot.zone(), slot.weight, slot.sts.as_ref());
        if slot.worth == Worth::Nothing {
            shard.plain.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn forget(&self, shard: &Shard, hop: &NextHop) -> bool {
        let removed = shard.slots.lock().remove(hop);
        if let Some(slot) = &removed {
            self.uncount(shard, slot);
        }
        removed.is_some()
    }
}

impl Slot {
    fn empty(now: Stamp) -> Self {
        let usage = Usage {
            hits: 0,
            asked_at: now.instant.into(),
            asked_dane: false,
            asked_sts: false,
            dane_retry_at: Tick::EVER,
            dane_failures: 0,
        };
        let worth = Worth::Nothing;
        let (protection, expired_since) = (Protection::None, Tick::NEVER);
        Self {
            dane: None,
            sts: None,
            usage,
            weight: Weight::default(),
            zone: None,
            worth,
            seen_until: 0,
            protection,
            expired_since,
        }
    }

    fn zone(&self) -> Zone {
        self.zone.map(|(_, hash)| hash)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { dane: self.dane.clone(), sts: self.sts.clone(), seen_until: self.seen_until, usage: self.usage }
    }

    /// Least is evicted first: by worth, then by how recently it was asked for, with a bonus for each doubling
    /// of how often.
    fn rank(&self, now: Stamp) -> (Worth, i64) {
        let idle = self.usage.idle(now).as_secs();
        let bonus = u64::from((u64::from(self.usage.hits) + 1).ilog2()) * CACHE_FREQUENCY_BONUS.as_secs();
        let recency = i64::try_from(bonus).unwrap_or(i64::MAX) - i64::try_from(idle).unwrap_or(i64::MAX);
        (Worth::of(self.dane.as_ref(), self.sts.as_ref(), self.seen_until, now), recency)
    }

    /// True where neither branch has held for long, and no policy counts as seen any more, by the clock that cannot be set: a wall clock that is wrong
    /// for a while throws nothing away.
    fn is_long_expired(&mut self, now: Stamp) -> bool {
        let holds = self.dane.as_ref().is_some_and(|dane| dane.left(now).is_some())
            || self.sts.as_ref().is_some_and(|sts| sts.policy(now).is_some() || sts.record_left(now).is_some());
        if holds || now.wall < self.seen_until {
            self.expired_since = Tick::NEVER;
            return false;
        }
        let now = Tick::from(now.instant);
        self.expired_since = self.expired_since.min(now);
        now.since(self.usage.asked_at.max(self.expired_since)) >= POLICY_EXPIRED_KEPT
    }
}
