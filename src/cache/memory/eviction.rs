//! What has to go where the cache takes more than it may: what would be missed least, and where the names of one zone
//! take more than their share, one of theirs.

use std::sync::atomic::Ordering;

use super::{PolicyCache, Shard, Slot};
use crate::cache::ledger::{Size, Zone};
use crate::cache::state::Worth;
use crate::clock::Stamp;
use crate::limits::{CACHE_EVICTION_SAMPLE, CACHE_ZONE_SHARE, STORE_COMPLAINT_INTERVAL};
use crate::names::NextHop;
use crate::telemetry::metrics as metric_names;

impl PolicyCache {
    /// Whether the names of a zone take more than their share; a single one is always let in.
    pub(super) fn is_crowded(&self, zone: Size) -> bool {
        zone.entries > 1 && zone.exceeds(self.bound().share(CACHE_ZONE_SHARE))
    }

    /// Makes the names of a zone fit into their share: they evict each other and nobody else.
    pub(super) fn trim_zone(&self, zone: Zone, now: Stamp) {
        while zone.is_some() && self.is_crowded(self.ledger.of(zone)) {
            let of_zone = |slot: &Slot| slot.zone() == zone;
            let least = |shard| Some((self.least(shard, of_zone, now)?, shard));
            let sample = self.turn().filter_map(least).take(CACHE_EVICTION_SAMPLE);
            let Some(((_, hop), shard)) = sample.min_by_key(|((rank, _), _)| *rank) else { return };
            self.evict(shard, &hop, now);
        }
    }

    /// All shards, beginning with another one each time.
    fn turn(&self) -> impl Iterator<Item = &Shard> {
        let count = self.shards.len();
        let start = self.hand.fetch_add(1, Ordering::Relaxed) % count;
        self.shards.iter().cycle().skip(start).take(count)
    }

    fn evict(&self, shard: &Shard, hop: &NextHop, now: Stamp) {
        let worth = shard.slots.lock().get(hop).map(|slot| slot.worth);
        if self.forget(shard, hop) {
            self.persist.remove(hop);
            metrics::counter!(metric_names::CACHE_EVICTIONS).increment(1);
            if worth == Some(Worth::Sts) {
                self.tell_of_evicted(hop, now);
            }
        }
    }

    /// Says that policies in force are lost for want of room, all of a minute in one line.
    fn tell_of_evicted(&self, hop: &NextHop, now: Stamp) {
        let mut evicted = self.evicted.lock();
        let (count, told) = &mut *evicted;
        *count += 1;
        if told.is_none_or(|told| now.instant.saturating_duration_since(told) >= STORE_COMPLAINT_INTERVAL) {
            let policies = std::mem::take(count);
            *told = Some(now.instant);
            tracing::warn!(
                policies, last = %hop,
                "policies in force were evicted: cache.max-entries, cache.max-bytes or the share of their zone is used up"
            );
        }
    }

    /// Evicts until the bounds hold: what has no policy first, wherever it is, else what is worth least; looks
    /// through a few shards for each, a different few each time.
    pub(super) fn trim(&self, now: Stamp) {
        while self.ledger.all().exceeds(self.bound()) {
            let least = |shard| Some((self.least(shard, |_| true, now)?, shard));
            let plain = self.turn().filter(|shard| shard.plain.load(Ordering::Relaxed) > 0);
            let victim =
                plain.filter_map(least).take(CACHE_EVICTION_SAMPLE).min_by_key(|((rank, _), _)| *rank).or_else(|| {
                    self.turn().filter_map(least).take(CACHE_EVICTION_SAMPLE).min_by_key(|((rank, _), _)| *rank)
                });
            let Some(((_, hop), shard)) = victim else { return };
            self.evict(shard, &hop, now);
        }
    }

    /// The entry of a shard that would be missed least, of those that are `wanted`, and its rank.
    fn least(&self, shard: &Shard, wanted: impl Fn(&Slot) -> bool, now: Stamp) -> Option<((Worth, i64), NextHop)> {
        if shard.used.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let slots = shard.slots.lock();
        let (hop, slot) = slots.iter().filter(|(_, slot)| wanted(slot)).min_by_key(|(_, slot)| slot.rank(now))?;
        Some((slot.rank(now), hop.clone()))
    }
}
