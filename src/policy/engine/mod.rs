//! The engine: what is cached, what has to be looked up, and when an answer can leave.
//!
//! Both branches of a next hop run at once and are cached apart; the answer is derived from them anew for every
//! query, so that a refreshed branch counts at once. It leaves as soon as the combination table determines it.

mod flights;
mod listing;
mod prefetch;
mod ready;

pub use listing::Freshness;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::{sleep_until, timeout_at};

use self::flights::{Flight, Flights, Overloaded};
use super::dane::{self, DaneReport};
use super::decision::{DaneView, Decision, Outcome, Standing, StsView};
use super::merge::{Combined, Sts, combine};
use super::mta_sts::{self, Fetch, Looked, life};
use crate::cache::entry::{DaneEntry, StsMode};
use crate::cache::{DaneState, DaneVerdict, PolicyCache, Snapshot};
use crate::clock::{Clock, Instant, Stamp};
use crate::config::{MapOptions, Override, Overrides};
use crate::dns::Lookup;
use crate::limits::{SLOW_HOST_PERCENT, STS_RECHECK_WAIT};
use crate::names::{Domain, NextHop};
use crate::telemetry::metrics as metric_names;

/// What the engine is told by the configuration.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// An answer is ready within this time (`policy.timeout`); past it TEMP, while the lookup goes on.
    pub timeout: Duration,
    /// Use DANE (`dane.enabled`).
    pub dane: bool,
    /// Use MTA-STS (`mta-sts.enabled`).
    pub mta_sts: bool,
    /// Renew what is used shortly before it ends (`cache.prefetch`). Policies are renewed daily in any case.
    pub prefetch: bool,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), dane: true, mta_sts: true, prefetch: true }
    }
}

/// Decides the policy of next hops. A handle; clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    lookup: Arc<dyn Lookup>,
    fetch: Arc<dyn Fetch>,
    clock: Clock,
    settings: EngineSettings,
    overrides: RwLock<Arc<Overrides>>,
    cache: Arc<PolicyCache>,
    dane: Flights<NextHop, DaneState>,
    sts: Flights<Domain, Looked>,
}

/// One branch of a query.
enum Branch<V, T: Clone> {
    /// Turned off, or there is none for this next hop.
    Off,
    /// As it stands.
    Known(V),
    /// Being looked up; where there is a view already, it is used when that takes too long.
    Waiting(Flight<T>, Option<V>),
}

impl Engine {
    /// An engine over a cache that has already been filled from disk.
    pub fn new(
        lookup: Arc<dyn Lookup>,
        fetch: Arc<dyn Fetch>,
        clock: Clock,
        settings: EngineSettings,
        overrides: Overrides,
        cache: Arc<PolicyCache>,
    ) -> Self {
        let overrides = RwLock::new(Arc::new(overrides));
        let (dane, sts) = (Flights::new(), Flights::new());
        Self { inner: Arc::new(Inner { lookup, fetch, clock, settings, overrides, cache, dane, sts }) }
    }

    /// Replaces the operator's overrides, from the next query on.
    pub fn set_overrides(&self, overrides: Overrides) {
        *self.inner.overrides.write() = Arc::new(overrides);
    }

    /// What is cached.
    pub fn cache(&self) -> &PolicyCache {
        &self.inner.cache
    }

    /// Decides about `hop` for a map with these options. Ends within `policy.timeout`.
    pub async fn answer(&self, hop: &NextHop, map: &MapOptions) -> Decision {
        let overrides = Arc::clone(&self.inner.overrides.read());
        if let Some(found) = overrides.find(hop) {
            return Decision::overridden(found);
        }
        let now = self.inner.clock.stamp();
        let known = self.inner.cache.get(hop, now);
        let decision = match self.begin(hop, map, known, now) {
            Ok((dane, sts)) => self.wait(map, dane, sts).await,
            Err(overloaded) => Decision::temporary(overloaded),
        };
        if !decision.cached && matches!(decision.outcome, Outcome::Secure(_)) {
            // Whoever was told `secure` gets it again after a crash: that takes the DANE branch as well.
            // A disk that hangs holds no mail.
            _ = timeout_at(now.instant + self.inner.settings.timeout, self.inner.cache.settle()).await;
        }
        let result = if decision.cached { "hit" } else { "miss" };
        metrics::counter!(metric_names::CACHE_REQUESTS, "result" => result).increment(1);
        log(hop, &decision);
        decision
    }

    /// Looks up the DANE branch of `hop` now, past the policy cache, with every host that was looked at.
    pub async fn examine_dane(&self, hop: &NextHop) -> DaneReport {
        dane::evaluate(&*self.inner.lookup, hop, self.inner.slow_after()).await
    }

    /// Both branches as they stand, lookups begun where they are needed.
    #[allow(clippy::type_complexity, reason = "the two branches, nothing more")]
    fn begin(
        &self,
        hop: &NextHop,
        map: &MapOptions,
        known: Option<Snapshot>,
        now: Stamp,
    ) -> Result<(Branch<DaneView, DaneState>, Branch<StsView, Looked>), Overloaded> {
        let (dane, sts) = known.map_or((None, None), |known| (known.dane, known.sts));
        let dane = if !(map.dane && self.inner.settings.dane) {
            Branch::Off
        } else if let Some(view) = dane.and_then(|state| dane_view(&state, now)) {
            Branch::Known(view)
        } else {
            Branch::Waiting(self.dane_flight(hop, now.instant)?, None)
        };
        let sts = match hop {
            NextHop::Domain { domain, port: None } if map.mta_sts && self.inner.settings.mta_sts => {
                let fresh = sts.as_ref().is_some_and(|state| !life::needs_lookup(state, now));
                let view = sts.map(|state| life::view(&state, now));
                match view {
                    Some(view) if fresh || combine(dane.verdict(), None).is_some() => Branch::Known(view),
                    // DANE decides already: nothing to look up for.
                    None if combine(dane.verdict(), None).is_some() => Branch::Off,
                    view => {
                        // A policy in force is served when checking it takes long; and where the last lookup
                        // found nothing out, a slow new one does not hold mail again.
                        let fallback = view.filter(|view| view.standing != Standing::Absent);
                        match (self.sts_flight(domain, false, now.instant), fallback) {
                            (Ok(flight), fallback) => Branch::Waiting(flight, fallback),
                            (Err(Overloaded), Some(view)) => Branch::Known(view),
                            (Err(overloaded), None) => return Err(overloaded),
                        }
                    }
                }
            }
            NextHop::Domain { .. } | NextHop::Host { .. } => Branch::Off,
        };
        Ok((dane, sts))
    }

    /// Waits until the table determines the answer, or the time is over.
    async fn wait(
        &self,
        map: &MapOptions,
        mut dane: Branch<DaneView, DaneState>,
        mut sts: Branch<StsView, Looked>,
    ) -> Decision {
        let cached = !matches!(dane, Branch::Waiting(..)) && !matches!(sts, Branch::Waiting(..));
        let timeout = self.inner.settings.timeout;
        loop {
            if let Some(combined) = combine(dane.verdict(), sts.column(map.strict_testing)) {
                return decide(combined, map, dane.view(), sts.view(), cached);
            }
            let deadline = dane.started().max(sts.started()).map(|started| started + timeout);
            let recheck = sts.fallback_since().map(|started| started + STS_RECHECK_WAIT.min(timeout / 2));
            tokio::select! {
                biased;
                landed = dane.landed() => dane = match landed {
                    Some(state) => Branch::Known(fresh_view(&state)),
                    None => return Decision::temporary("lookup was given up"),
                },
                landed = sts.landed() => sts = match landed {
                    Some(looked) => Branch::Known(looked.view),
                    None => return Decision::temporary("lookup was given up"),
                },
                () = sleep_or_never(recheck) => sts = sts.give_up_waiting(),
                () = sleep_or_never(deadline) => {
                    let missing = match &dane {
                        Branch::Waiting(..) => "MX and TLSA lookup: no answer in time",
                        Branch::Off | Branch::Known(_) => "MTA-STS lookup: no answer in time",
                    };
                    return Decision {
                        outcome: Outcome::Temporary(missing.into()),
                        dane: dane.view(),
                        sts: sts.view(),
                        cached: false,
                    };
                }
            }
        }
    }

    /// The DANE lookup for `hop`, joined or begun.
    fn dane_flight(&self, hop: &NextHop, now: Instant) -> Result<Flight<DaneState>, Overloaded> {
        self.inner.dane.join(hop, now, || {
            let (inner, hop) = (Arc::clone(&self.inner), hop.clone());
            async move { inner.look_up_dane(&hop).await }
        })
    }

    /// The MTA-STS lookup for `domain`, joined or begun.
    fn sts_flight(&self, domain: &Domain, renew: bool, now: Instant) -> Result<Flight<Looked>, Overloaded> {
        self.inner.sts.join(domain, now, || {
            let (inner, domain) = (Arc::clone(&self.inner), domain.clone());
            async move { inner.look_up_sts(&domain, renew).await }
        })
    }
}

impl Inner {
    fn slow_after(&self) -> Duration {
        self.settings.timeout * SLOW_HOST_PERCENT / 100
    }

    async fn look_up_dane(&self, hop: &NextHop) -> DaneState {
        let report = dane::evaluate(&*self.lookup, hop, self.slow_after()).await;
        metrics::counter!(metric_names::DANE_RESULTS, "result" => verdict_label(report.verdict)).increment(1);
        let now = self.clock.stamp();
        let entry =
            DaneEntry { verdict: report.verdict, reason: report.reason.into(), checked_at: now.wall, ttl: report.ttl };
        let holds = self.cache.peek(hop).and_then(|slot| slot.dane).is_some_and(|dane| dane.left(now).is_some());
        if entry.verdict == DaneVerdict::Temporary && holds {
            // A renewal ahead of time found nothing out: what holds, holds.
            return DaneState::new(entry, now);
        }
        let state = self.cache.put_dane(hop, entry, now);
        self.note_change(hop);
        state
    }

    async fn look_up_sts(&self, domain: &Domain, renew: bool) -> Looked {
        let hop = NextHop::Domain { domain: domain.clone(), port: None };
        let before = self.cache.peek(&hop).and_then(|slot| slot.sts);
        let looked = mta_sts::look(&*self.lookup, &*self.fetch, &self.clock, domain, before.as_ref(), renew).await;
        metrics::counter!(metric_names::MTA_STS_RESULTS, "result" => looked.view.status()).increment(1);
        self.cache.put_sts(domain, looked.state.clone(), self.clock.stamp()).await;
        self.note_change(&hop);
        looked
    }

    /// Says so when a next hop that had a policy has none any more.
    fn note_change(&self, hop: &NextHop) {
        let now = self.clock.stamp();
        let Some(slot) = self.cache.peek(hop) else { return };
        let dane = match &slot.dane {
            Some(state) => Some(state.entry.verdict),
            None => (!self.settings.dane).then_some(DaneVerdict::None),
        };
        let sts = match (&slot.sts, hop) {
            (Some(state), _) => Some(life::standing(state, now).column(false)),
            (None, NextHop::Domain { port: None, .. }) if self.settings.mta_sts => None,
            (None, _) => Some(Sts::None),
        };
        let protected = match combine(dane, sts) {
            None | Some(Combined::Temporary) => return,
            Some(Combined::NotFound) => false,
            Some(Combined::DaneOnly | Combined::Dane | Combined::Secure) => true,
        };
        if self.cache.note_protection(hop, protected) && !protected {
            metrics::counter!(metric_names::POLICY_DOWNGRADES).increment(1);
            let dane = slot.dane.as_ref().map_or("off", |state| &state.entry.reason);
            let sts = slot.sts.as_ref().map(|state| life::view(state, now));
            let sts = sts.as_ref().map_or("off", StsView::reason);
            tracing::warn!(next_hop = %hop, dane, mta_sts = sts, "policy lost: this next hop had one and has none now");
        }
    }
}

impl<T: Clone> Branch<DaneView, T> {
    /// Its row in the combination table, once known.
    fn verdict(&self) -> Option<DaneVerdict> {
        match self {
            Self::Off => Some(DaneVerdict::None),
            Self::Known(view) => Some(view.entry.verdict),
            Self::Waiting(..) => None,
        }
    }
}

impl<T: Clone> Branch<StsView, T> {
    /// Its column in the combination table, once known.
    fn column(&self, strict_testing: bool) -> Option<Sts> {
        match self {
            Self::Off => Some(Sts::None),
            Self::Known(view) => Some(view.standing.column(strict_testing)),
            Self::Waiting(..) => None,
        }
    }
}

impl<V: Clone, T: Clone> Branch<V, T> {
    fn view(&self) -> Option<V> {
        match self {
            Self::Off => None,
            Self::Known(view) => Some(view.clone()),
            Self::Waiting(_, fallback) => fallback.clone(),
        }
    }

    /// When the lookup began that is waited for.
    fn started(&self) -> Option<Instant> {
        match self {
            Self::Off | Self::Known(_) => None,
            Self::Waiting(flight, _) => Some(flight.started),
        }
    }

    /// Likewise, where there is something to use instead.
    fn fallback_since(&self) -> Option<Instant> {
        match self {
            Self::Waiting(flight, Some(_)) => Some(flight.started),
            Self::Off | Self::Known(_) | Self::Waiting(_, None) => None,
        }
    }

    fn give_up_waiting(self) -> Self {
        match self {
            Self::Waiting(_, Some(view)) => Self::Known(view),
            other => other,
        }
    }

    /// Waits for the lookup; for ever where there is none.
    async fn landed(&self) -> Option<T> {
        match self {
            Self::Off | Self::Known(_) => std::future::pending().await,
            Self::Waiting(flight, _) => flight.clone().landed().await,
        }
    }
}

impl Decision {
    fn overridden(found: &Override) -> Self {
        let outcome = match found {
            Override::Policy(text) => Outcome::Override(text.as_ref().into()),
            Override::Skip => Outcome::NotFound,
        };
        Self { outcome, dane: None, sts: None, cached: true }
    }

    fn temporary(reason: impl ToString) -> Self {
        let outcome = Outcome::Temporary(reason.to_string().into());
        Self { outcome, dane: None, sts: None, cached: false }
    }
}

async fn sleep_or_never(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The branch as it stands, while it holds.
fn dane_view(state: &DaneState, now: Stamp) -> Option<DaneView> {
    let ttl = u32::try_from(state.left(now)?.as_secs()).unwrap_or(u32::MAX);
    Some(DaneView { entry: Arc::clone(&state.entry), ttl })
}

/// The branch as it was just learnt.
fn fresh_view(state: &DaneState) -> DaneView {
    DaneView { entry: Arc::clone(&state.entry), ttl: state.entry.ttl }
}

/// From the combination table to the decision: the policy that goes with `secure`, the cause that goes with TEMP,
/// and reports in place of NOTFOUND where the map asks for them.
fn decide(
    combined: Combined,
    map: &MapOptions,
    dane: Option<DaneView>,
    sts: Option<StsView>,
    cached: bool,
) -> Decision {
    let held = match sts.as_ref().map(|view| &view.standing) {
        Some(Standing::InForce(held, _)) => Some(Arc::clone(held)),
        Some(Standing::Absent | Standing::Unavailable(_)) | None => None,
    };
    let reason = || dane.as_ref().map_or_else(|| "nothing known".into(), |view| view.entry.reason.as_ref().into());
    let outcome = match (combined, held) {
        (Combined::DaneOnly, _) => Outcome::DaneOnly,
        (Combined::Dane, _) => Outcome::Dane,
        (Combined::Secure, Some(held)) => Outcome::Secure(held),
        (Combined::Secure, None) | (Combined::Temporary, _) => Outcome::Temporary(reason()),
        (Combined::NotFound, held) => match (map.report_level.filter(|_| map.tlsrpt), held, &sts) {
            (Some(level), Some(held), _) if held.policy.mode == StsMode::Testing => Outcome::ReportTesting(level, held),
            (Some(level), None, Some(StsView { standing: Standing::Unavailable(Some(kind)), .. })) => {
                Outcome::ReportFailure(level, *kind)
            }
            _ => Outcome::NotFound,
        },
    };
    Decision { outcome, dane, sts, cached }
}

/// One line per fresh decision that carries a policy or holds mail; all else is for debugging.
fn log(hop: &NextHop, decision: &Decision) {
    let answer = decision.outcome.label();
    let dane = decision.dane.as_ref().map_or("", |view| &view.entry.reason);
    let sts = decision.sts.as_ref().map_or("", StsView::status);
    let quiet = decision.cached || decision.outcome == Outcome::NotFound;
    if quiet {
        tracing::debug!(next_hop = %hop, answer, cached = decision.cached, dane, mta_sts = sts, "answered");
    } else {
        tracing::info!(next_hop = %hop, answer, dane, mta_sts = sts, "policy decided");
    }
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
