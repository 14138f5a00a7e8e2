//! What the cache alone says of a next hop: for listings, never for Postfix.

use std::sync::Arc;

use super::{Engine, decide};
use crate::cache::{DaneVerdict, Snapshot};
use crate::clock::{Stamp, whole_seconds};
use crate::config::MapOptions;
use crate::names::NextHop;
use crate::policy::decision::{DaneView, Decision};
use crate::policy::merge::{Sts, combine};
use crate::policy::mta_sts::life;

/// How old a DANE branch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As for Postfix: within its TTL.
    WithinTtl,
    /// As last known, for a copy that outlives TTLs.
    LastKnown,
}

impl Engine {
    /// The answer that follows from `known`, without any lookup and without counting as use. Nothing, where
    /// Postfix's query would have to wait for a lookup.
    pub fn standing(
        &self,
        hop: &NextHop,
        known: &Snapshot,
        map: &MapOptions,
        fresh: Freshness,
        now: Stamp,
    ) -> Option<Decision> {
        let overrides = Arc::clone(&self.inner.overrides.read());
        if let Some(found) = overrides.find(hop) {
            return Some(Decision::overridden(found));
        }
        let use_dane = map.dane && self.inner.settings.dane;
        let dane = known.dane.as_ref().filter(|_| use_dane).and_then(|state| {
            let left = state.left(now).map(whole_seconds);
            let ttl = left.or((fresh == Freshness::LastKnown).then_some(0))?;
            Some(DaneView { entry: state.entry.clone(), ttl })
        });
        let has_sts = map.mta_sts && self.inner.settings.mta_sts;
        let sts = known.sts.as_ref().filter(|_| has_sts).map(|state| life::view(state, now));
        let row = match &dane {
            Some(view) => Some(view.entry.verdict),
            None => (!use_dane || fresh == Freshness::LastKnown).then_some(DaneVerdict::None),
        };
        let column = match &sts {
            Some(view) => Some(view.standing.column(map.strict_testing)),
            None => (!has_sts || fresh == Freshness::LastKnown).then_some(Sts::None),
        };
        Some(decide(combine(row, column)?, map, dane, sts, true))
    }
}
