//! The lookup of one branch, from the question to the cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Inner;
use crate::cache::{DaneEntry, DaneState, DaneVerdict, Protection, StsState};
use crate::dns::Lookup;
use crate::limits::SLOW_HOST_PERCENT;
use crate::names::{Domain, NextHop};
use crate::policy::dane;
use crate::policy::decision::{Standing, StsView};
use crate::policy::merge::{Combined, Sts, combine};
use crate::policy::mta_sts::{self, Look, Looked, Means, is_newer, life};
use crate::telemetry::metrics as metric_names;

impl Inner {
    pub(super) fn slow_after(&self) -> Duration {
        self.settings.timeout * SLOW_HOST_PERCENT / 100
    }

    pub(super) async fn look_up_dane(&self, hop: &NextHop, lookup: &dyn Lookup) -> DaneState {
        let report = dane::evaluate(lookup, hop, self.slow_after()).await;
        metrics::counter!(metric_names::DANE_RESULTS, "result" => verdict_label(report.verdict)).increment(1);
        let now = self.clock.stamp();
        let entry = report.entry(now.wall);
        let holds = self.cache.peek(hop).and_then(|slot| slot.dane).and_then(|dane| Some((dane.left(now)?, dane)));
        match holds {
            // A renewal ahead of time found nothing out: what holds, holds.
            Some(_) if entry.verdict == DaneVerdict::Temporary => return DaneState::new(entry, now),
            // It met the same records in the resolver's cache: they must not live longer for that.
            Some((left, dane)) if is_same(&dane.entry, &entry) && !is_newer(report.carried_ttl, left) => {
                return dane;
            }
            Some(_) | None => {}
        }
        let state = self.cache.put_dane(hop, entry, now);
        self.note_change(hop);
        state
    }

    /// None only where `look` leaves a denial unproven.
    pub(super) async fn look_up_sts(&self, domain: &Domain, look: Look, lookup: &Arc<dyn Lookup>) -> Option<Looked> {
        let hop = NextHop::Domain { domain: domain.clone(), port: None };
        let before = self.cache.peek(&hop).and_then(|slot| slot.sts);
        let shared = self.cache.shared();
        let announced = Announced { domain, all: &self.announced };
        let hear = |state: &StsState| announced.note(state);
        // The policy host's addresses are part of the same question.
        let scoped = self.fetch.over(lookup);
        let fetch = scoped.as_deref().unwrap_or(&*self.fetch);
        let means = Means { lookup: &**lookup, fetch, shared, clock: &self.clock, announced: &hear };
        let looked = mta_sts::look(means, domain, before.as_ref(), look).await?;
        metrics::counter!(metric_names::MTA_STS_RESULTS, "result" => looked.view.status()).increment(1);
        let unchanged = before.as_ref().is_some_and(|before| before.entry == looked.state.entry);
        if !unchanged {
            self.cache.put_sts(domain, looked.state.clone(), self.clock.stamp()).await;
        }
        if let (Standing::InForce(held, _), None) = (&looked.view.standing, &looked.state.entry.policy) {
            // `max_age: 0`: enforced this once and not kept.
            self.cache.note_seen(&hop, held.seen_until());
        }
        if let (Some(shared), true, Some(held)) = (shared, looked.fetched, &looked.state.entry.policy) {
            shared.offer(domain, held);
        }
        let known = before.as_ref().and_then(|before| before.entry.failure.as_ref());
        if let Some(failure) = looked.state.entry.failure.as_ref().filter(|failure| known != Some(*failure)) {
            self.recent.failed(failure.kind.in_words(), || domain.to_string(), self.clock.stamp());
        }
        self.note_change(&hop);
        Some(looked)
    }

    /// Takes note of what both branches come to now, as far as they are known.
    pub(super) fn note_change(&self, hop: &NextHop) {
        let now = self.clock.stamp();
        let Some(slot) = self.cache.peek(hop) else { return };
        let dane = match &slot.dane {
            Some(state) => Some(state.entry.verdict),
            None => (!self.settings.dane).then_some(DaneVerdict::None),
        };
        let sts = match &slot.sts {
            Some(state) => Some(life::standing(state, now).column(false)),
            None if self.settings.mta_sts => None,
            None => Some(Sts::None),
        };
        let protection = match combine(dane, sts) {
            None | Some(Combined::Temporary) => return,
            Some(Combined::NotFound) => Protection::None,
            Some(Combined::Dane) => Protection::Dane,
            Some(Combined::Secure | Combined::SecureHosts) => Protection::Secure,
            Some(Combined::DaneOnly) => Protection::DaneOnly,
        };
        let dane = slot.dane.as_ref().map_or("off", |state| &state.entry.reason);
        let sts = slot.sts.as_ref().map(|state| life::view(state, now));
        let sts = sts.as_ref().map_or("off", StsView::reason);
        self.note_protection(hop, protection, dane, sts);
    }
}

/// Takes note of a policy that is announced, for as long as it is being fetched.
struct Announced<'a> {
    domain: &'a Domain,
    all: &'a Mutex<HashMap<Domain, StsState>>,
}

impl Announced<'_> {
    fn note(&self, state: &StsState) {
        self.all.lock().insert(self.domain.clone(), state.clone());
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(self.domain);
    }
}

/// Whether both say the same.
fn is_same(one: &DaneEntry, other: &DaneEntry) -> bool {
    one.verdict == other.verdict && one.without == other.without
}

/// The metric label of a verdict.
fn verdict_label(verdict: DaneVerdict) -> &'static str {
    match verdict {
        DaneVerdict::DaneOnly => "dane-only",
        DaneVerdict::Dane | DaneVerdict::DaneWeak => "dane",
        DaneVerdict::Partial => "partial",
        DaneVerdict::None => "none",
        DaneVerdict::Temporary => "temporary",
    }
}
