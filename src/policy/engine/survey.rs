//! What the engine knows and is told about a next hop, for explanations: nothing is looked up, nothing counts as use.

use std::sync::Arc;
use std::time::Duration;

use super::{Engine, EngineSettings, dane_view, decide};
use crate::cache::{DaneVerdict, Snapshot};
use crate::clock::{Clock, Stamp, UnixTime};
use crate::config::{MapOptions, Override};
use crate::names::NextHop;
use crate::policy::decision::{DaneView, Decision, StsView};
use crate::policy::merge::{Sts, combine};
use crate::policy::mta_sts::life;

/// See [`Engine::survey`].
pub(in crate::policy) struct Survey {
    /// The operator's override, if there is one.
    pub override_: Option<Override>,
    /// What is cached, fresh or not.
    pub known: Option<Snapshot>,
    /// Whether the DANE branch counts.
    pub uses_dane: bool,
    /// Whether the MTA-STS branch counts.
    pub uses_sts: bool,
    /// The decision that Postfix would get without any lookup.
    pub at_hand: Option<Decision>,
    /// How long slow MX hosts are waited for.
    pub slow_after: Duration,
}

impl Engine {
    /// The clocks that it goes by.
    pub(in crate::policy) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// How things stand for `hop` at `now`.
    pub(in crate::policy) fn survey(&self, hop: &NextHop, map: &MapOptions, now: Stamp) -> Survey {
        let override_ = Arc::clone(&self.inner.overrides.read()).find(hop).cloned();
        let settings = &self.inner.settings;
        let uses_dane = map.dane && settings.dane;
        let uses_sts = map.mta_sts && settings.mta_sts;
        let known = self.inner.cache.peek(hop);
        let at_hand = match (&override_, &known) {
            (Some(found), _) => Some(Decision::overridden(found)),
            (None, Some(known)) => at_hand(known, map, settings, (uses_dane, uses_sts), now),
            (None, None) => None,
        };
        Survey { override_, known, uses_dane, uses_sts, at_hand, slow_after: self.inner.slow_after() }
    }
}

/// The decision that follows from what is cached, where no query would wait for a lookup.
fn at_hand(
    known: &Snapshot,
    map: &MapOptions,
    settings: &EngineSettings,
    (uses_dane, uses_sts): (bool, bool),
    now: Stamp,
) -> Option<Decision> {
    let dane = if uses_dane { Some(dane_view(known.dane.as_ref()?, now)?) } else { None };
    let verdict = dane.as_ref().map_or(DaneVerdict::None, |view| view.entry.verdict);
    let decided = settings.is_decided_by(verdict);
    let sts = match known.sts.as_ref().filter(|_| uses_sts) {
        Some(state) if decided || !life::needs_lookup(state, now) => Some(life::view(state, now)),
        None if decided || !uses_sts => None,
        Some(_) | None => return None,
    };
    Some(settings.or_fallback(conclude(map, dane, sts, true), known.seen_until, now))
}

impl Engine {
    /// The decision with `policy.on-failure` where that counts, given until when a policy counts as seen.
    pub(in crate::policy) fn or_fallback(&self, decision: Decision, seen_until: UnixTime, now: Stamp) -> Decision {
        self.inner.settings.or_fallback(decision, seen_until, now)
    }
}

/// What both branches come to. A branch that is absent says "none".
pub(in crate::policy) fn conclude(
    map: &MapOptions,
    dane: Option<DaneView>,
    sts: Option<StsView>,
    cached: bool,
) -> Decision {
    let verdict = dane.as_ref().map_or(DaneVerdict::None, |view| view.entry.verdict);
    let column = sts.as_ref().map_or(Sts::None, |view| view.standing.column(map.strict_testing));
    match combine(Some(verdict), Some(column)) {
        Some(combined) => decide(combined, map, dane, sts, cached),
        // With both branches known the table always decides.
        None => Decision::temporary("not decided"),
    }
}
