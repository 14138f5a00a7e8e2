//! The answer that needs no lookup: no future, no waiting, for nearly every query of a busy server.

use super::{Engine, dane_view, decide, is_outdated};
use crate::cache::DaneVerdict;
use crate::clock::Stamp;
use crate::config::MapOptions;
use crate::names::NextHop;
use crate::policy::decision::Decision;
use crate::policy::merge::{Sts, combine};
use crate::policy::mta_sts::life;

impl Engine {
    /// What [`Engine::answer`] would say at `now`, where it would say so at once; begins nothing.
    pub fn answer_at_once(&self, hop: &NextHop, map: &MapOptions, now: Stamp) -> Option<Decision> {
        let inner = &self.inner;
        if let Some(found) = inner.overrides.read().find(hop) {
            return Some(Decision::overridden(found));
        }
        let uses_dane = map.dane && inner.settings.dane;
        let uses_sts = map.mta_sts && inner.settings.mta_sts;
        let known = inner.cache.get(hop, now)?;
        let outdated = uses_dane && is_outdated(&known, now);
        let dane = if uses_dane { Some(dane_view(&known.dane?, now)?) } else { None };
        let verdict = dane.as_ref().map_or(DaneVerdict::None, |view| view.entry.verdict);
        // DANE decides already: MTA-STS need not be fresh, nor known.
        let decided = inner.settings.is_decided_by(verdict);
        let sts = match known.sts.filter(|_| uses_sts) {
            Some(state) if decided || !(outdated || life::needs_lookup(&state, now)) => Some(life::view(&state, now)),
            None if decided || !uses_sts => None,
            Some(_) | None => return None,
        };
        let column = sts.as_ref().map_or(Sts::None, |view| view.standing.column(map.strict_testing));
        let decision = decide(combine(Some(verdict), Some(column))?, map, dane, sts, true);
        let decision = inner.settings.or_fallback(decision, known.seen_until, now);
        inner.hits.increment(1);
        self.log(hop, &decision, false, now.instant);
        Some(decision)
    }
}
