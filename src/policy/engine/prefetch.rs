//! Renewal in the background: what is used, shortly before it ends; policies, daily; failures, after a while.
//!
//! Never outranks queries: a bounded number at once and per second, from one task.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::Engine;
use super::scope::Scope;
use crate::cache::entry::RecordOutcome;
use crate::cache::{DaneVerdict, Snapshot};
use crate::clock::Stamp;
use crate::dns::BoxFuture;
use crate::limits::{
    CACHE_SHARDS, PREFETCH_AFTER, PREFETCH_AT_ONCE, PREFETCH_HELD, PREFETCH_LEAD, PREFETCH_PER_TICK, PREFETCH_PER_ZONE,
    PREFETCH_QUEUE, PREFETCH_RETRY_FOR, PREFETCH_SHARDS_PER_TICK, PREFETCH_SLOW, PREFETCH_TICK,
};
use crate::names::NextHop;
use crate::policy::mta_sts::{Look, life};
use crate::telemetry::metrics as metric_names;

/// What of an entry is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The DANE branch.
    pub dane: bool,
    /// The MTA-STS branch, and how.
    pub sts: Option<Look>,
}

/// Decides what of an entry is due at `now`. Without `ahead` only policies are renewed, and failures retried.
pub(super) fn due(hop: &NextHop, known: &Snapshot, ahead: bool, now: Stamp) -> Due {
    let spread = spread(hop);
    let ends = |ttl: u32, left: Option<Duration>, age: Duration| match left {
        Some(left) => ahead && left <= lead(spread),
        // Where the resolver's cache had the same records until now, it is renewed at once.
        None => ahead && age < Duration::from_secs(ttl.into()) + PREFETCH_AFTER,
    };
    let dane = known.dane.as_ref().is_some_and(|state| {
        known.usage.asked_dane
            && state.entry.verdict != DaneVerdict::Temporary
            && ends(state.entry.ttl, state.left(now), state.age(now))
            && known.usage.may_renew_dane(now)
    });
    let sts = known.sts.as_ref().and_then(|state| {
        let record = &state.entry.record;
        let idle = known.usage.idle(now);
        // A policy is kept alive for as long as it would live after the last mail.
        let renew = life::wants_renewal(state, spread, now)
            && state.policy(now).is_some_and(|(held, _)| idle < Duration::from_secs(held.policy.max_age.into()));
        let recheck = known.usage.asked_sts
            && !matches!(record.outcome, RecordOutcome::Failed(_))
            && ends(record.ttl, state.record_left(now), state.record_age(now));
        let failed = matches!(record.outcome, RecordOutcome::Failed(_)) || state.entry.failure.is_some();
        let retry = failed && idle < PREFETCH_RETRY_FOR && life::needs_lookup(state, now);
        (renew || recheck || retry).then_some(if renew { Look::Renew } else { Look::Recheck })
    });
    Due { dane, sts }
}

/// How long before its end an entry is renewed: more than one round over the cache takes, spread out by name.
fn lead(spread: u8) -> Duration {
    PREFETCH_LEAD + PREFETCH_LEAD * u32::from(spread) / 510
}

/// From 0 to 255, always the same for one next hop: renewals of entries made at once do not come at once.
fn spread(hop: &NextHop) -> u8 {
    let [first, ..] = BuildHasherDefault::<DefaultHasher>::default().hash_one(hop).to_be_bytes();
    first
}

/// Renewals under way by zone: one whose servers are slow leaves places for the others.
#[derive(Default)]
struct Zones(HashMap<u64, usize>);

impl Zones {
    /// Takes a place for a name of that zone; false where the zone has all that it may have. Names of which no zone is
    /// known are on their own.
    fn enter(&mut self, zone: Option<u64>) -> bool {
        let Some(zone) = zone else { return true };
        let count = self.0.entry(zone).or_default();
        let is_free = *count < PREFETCH_PER_ZONE;
        *count += usize::from(is_free);
        is_free
    }

    fn leave(&mut self, zone: Option<u64>) {
        let Some(zone) = zone else { return };
        if let Entry::Occupied(mut count) = self.0.entry(zone) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The zone whose place is given back, and what of the renewal goes on without.
type Held<'a> = (Option<u64>, Option<BoxFuture<'a, ()>>);

impl Engine {
    /// Renews entries until the future is dropped. One such task per engine.
    pub async fn maintain(self) {
        let mut tick = interval(PREFETCH_TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shard = 0;
        let mut queue: VecDeque<NextHop> = VecDeque::new();
        let mut under_way: FuturesUnordered<BoxFuture<'_, Held<'_>>> = FuturesUnordered::new();
        let mut slow: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut zones = Zones::default();
        loop {
            tokio::select! {
                Some((zone, rest)) = under_way.next() => {
                    zones.leave(zone);
                    // What goes on holds no place of others; beyond the bound it is not counted.
                    if let Some(rest) = rest.filter(|_| slow.len() < PREFETCH_SLOW) {
                        slow.push(rest);
                    }
                    continue;
                }
                Some(()) = slow.next() => continue,
                _ = tick.tick() => {}
            }
            self.summarise();
            let now = self.inner.clock.stamp();
            for _ in 0..PREFETCH_SHARDS_PER_TICK {
                if queue.len() < PREFETCH_QUEUE {
                    queue.extend(self.due_in(shard, now));
                    shard = (shard + 1) % CACHE_SHARDS;
                }
            }
            let mut begun = 0;
            while begun < PREFETCH_PER_TICK && under_way.len() < PREFETCH_AT_ONCE {
                let Some(hop) = queue.pop_front() else { break };
                if self.is_looking_up(&hop) {
                    continue;
                }
                let zone = self.inner.cache.zone_of(&hop);
                // Without a place now it is found again in the next round.
                if zones.enter(zone) {
                    begun += 1;
                    let engine = &self;
                    under_way.push(Box::pin(async move {
                        let renewal: BoxFuture<'_, ()> = Box::pin(engine.renew(hop));
                        match select(renewal, Box::pin(sleep(PREFETCH_HELD))).await {
                            Either::Left(((), _)) => (zone, None),
                            Either::Right(((), rest)) => (zone, Some(rest)),
                        }
                    }));
                }
            }
        }
    }

    /// Whether a lookup of `hop` is under way: whoever waits for it, it renews.
    fn is_looking_up(&self, hop: &NextHop) -> bool {
        let of_name = || matches!(hop, NextHop::Domain { domain, port: None } if self.inner.sts.has(domain));
        self.inner.dane.has(hop) || of_name()
    }

    fn due_in(&self, shard: usize, now: Stamp) -> Vec<NextHop> {
        let ahead = self.inner.settings.prefetch;
        self.inner.cache.scan(shard, now, |hop, known| {
            let due = due(hop, known, ahead, now);
            due.dane || due.sts.is_some()
        })
    }

    /// Renews what is still due of `hop`, both branches at once.
    async fn renew(&self, hop: NextHop) {
        let now = self.inner.clock.stamp();
        let Some(known) = self.inner.cache.peek(&hop) else { return };
        let due = due(&hop, &known, self.inner.settings.prefetch, now);
        let scope = Scope::new(&self.inner.lookup);
        let dane = async {
            if due.dane
                && self.inner.settings.dane
                && let Ok(flight) = self.dane_flight(&hop, &scope, now.instant)
            {
                let landed = flight.landed().await;
                let ok = landed.is_some_and(|state| state.entry.verdict != DaneVerdict::Temporary);
                if !ok {
                    self.inner.cache.note_failed_renewal(&hop, self.inner.clock.instant());
                }
                count(ok);
            }
        };
        let sts = async {
            if let (Some(renew), NextHop::Domain { domain, port: None }) = (due.sts, &hop)
                && self.inner.settings.mta_sts
                && let Ok(flight) = self.sts_flight(domain, renew, &scope, now.instant)
            {
                let landed = flight.landed().await;
                let ok = landed.flatten().is_some_and(|looked| {
                    looked.state.entry.failure.is_none()
                        && !matches!(looked.state.entry.record.outcome, RecordOutcome::Failed(_))
                });
                count(ok);
            }
        };
        tokio::join!(dane, sts);
    }
}

fn count(ok: bool) {
    metrics::counter!(metric_names::PREFETCH, "result" => if ok { "ok" } else { "failed" }).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_a_quarter_of_the_places_and_gets_them_back() {
        let mut zones = Zones::default();
        let entered = |zones: &mut Zones, zone| (0..PREFETCH_AT_ONCE).filter(|_| zones.enter(zone)).count();
        assert_eq!(entered(&mut zones, Some(1)), PREFETCH_AT_ONCE / 4);
        assert_eq!(entered(&mut zones, Some(2)), PREFETCH_AT_ONCE / 4, "another zone has its own");
        assert_eq!(entered(&mut zones, None), PREFETCH_AT_ONCE, "nobody knows of which zone these are");
        zones.leave(Some(1));
        assert!(zones.enter(Some(1)) && !zones.enter(Some(1)));
        (0..PREFETCH_PER_ZONE).for_each(|_| zones.leave(Some(1)));
        (0..PREFETCH_PER_ZONE).for_each(|_| zones.leave(Some(2)));
        assert!(zones.0.is_empty(), "nothing is kept of zones without renewals");
    }
}
