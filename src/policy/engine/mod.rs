//! The engine: what is cached, what has to be looked up, and when an answer can leave.
//!
//! Both branches of a next hop run at once and are cached apart; the answer is derived from them anew for every
//! query, so that a refreshed branch counts at once. It leaves as soon as the combination table determines it.

mod branch;
mod failing;
mod flights;
mod journal;
mod listing;
mod lookups;
mod prefetch;
mod ready;
mod scope;
mod survey;

pub use listing::Freshness;
pub(super) use survey::{Survey, conclude};

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use parking_lot::{Mutex, RwLock};
use tokio::time::{sleep_until, timeout_at};

use self::branch::Branch;
use self::flights::{Flight, Flights, Overloaded};
use self::scope::Scope;
use super::decision::{DaneView, Decision, Outcome, Standing, StsView};
use super::merge::{Combined, Sts, combine};
use super::mta_sts::{Fetch, Look, Looked, life};
use super::reply;
use crate::cache::entry::{StsMode, StsPolicy};
use crate::cache::{DaneState, DaneVerdict, PolicyCache, Snapshot, StsState};
use crate::clock::{Clock, Instant, Stamp, whole_seconds};
use crate::config::{MapOptions, OnFailure, Override, Overrides};
use crate::dns::Lookup;
use crate::limits::STS_RECHECK_WAIT;
use crate::names::{Domain, NextHop};
use crate::telemetry::metrics as metric_names;
use crate::telemetry::recent::Recent;
use crate::telemetry::repeats::Repeats;

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
    /// What is answered in place of TEMP where nothing was ever known of a domain (`policy.on-failure`).
    pub on_failure: OnFailure,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            dane: true,
            mta_sts: true,
            prefetch: true,
            on_failure: OnFailure::Temp,
        }
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
    /// None where there seems to be no record, which was not proven.
    sts: Flights<Domain, Option<Looked>>,
    /// Policies that are being fetched: bounded by the lookups under way.
    announced: Mutex<HashMap<Domain, StsState>>,
    /// Which lines about failures are written.
    repeats: Repeats,
    /// Policies that could not be had of late.
    recent: Recent,
    hits: Counter,
    misses: Counter,
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
        let requests = |result| metrics::counter!(metric_names::CACHE_REQUESTS, "result" => result);
        let (hits, misses) = (requests("hit"), requests("miss"));
        let (announced, repeats, recent) = Default::default();
        let inner = Inner {
            lookup,
            fetch,
            clock,
            settings,
            overrides,
            cache,
            dane,
            sts,
            announced,
            repeats,
            recent,
            hits,
            misses,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Replaces the operator's overrides, from the next query on.
    pub fn set_overrides(&self, overrides: Overrides) {
        *self.inner.overrides.write() = Arc::new(overrides);
    }

    /// What is cached.
    pub fn cache(&self) -> &PolicyCache {
        &self.inner.cache
    }

    /// Policies that could not be had of late.
    pub fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    /// Decides about `hop` for a map with these options. Ends within `policy.timeout`.
    pub async fn answer(&self, hop: &NextHop, map: &MapOptions) -> Decision {
        let overrides = Arc::clone(&self.inner.overrides.read());
        if let Some(found) = overrides.find(hop) {
            return Decision::overridden(found);
        }
        let now = self.inner.clock.stamp();
        let (decision, is_first) = self.find_out(hop, map, now).await;
        let count = if decision.cached { &self.inner.hits } else { &self.inner.misses };
        count.increment(1);
        self.log(hop, &decision, is_first, now.instant);
        decision
    }

    /// What [`Engine::answer`] would say with these options, for people: neither counted nor in the log.
    pub async fn look(&self, hop: &NextHop, map: &MapOptions) -> Decision {
        let overrides = Arc::clone(&self.inner.overrides.read());
        match overrides.find(hop) {
            Some(found) => Decision::overridden(found),
            None => self.find_out(hop, map, self.inner.clock.stamp()).await.0,
        }
    }

    /// The decision, and whether this question began a lookup that it rests on.
    async fn find_out(&self, hop: &NextHop, map: &MapOptions, now: Stamp) -> (Decision, bool) {
        let known = self.inner.cache.get(hop, now);
        let scope = Scope::new(&self.inner.lookup);
        let (decision, is_first) = match self.begin(hop, map, known, &scope, now) {
            Ok((dane, sts)) => self.wait(hop, map, &scope, dane, sts).await,
            Err(overloaded) => (Decision::temporary(overloaded), true),
        };
        if hop.plain().is_some() && !decision.cached {
            // What changed may be the branch that it shares with the name.
            self.inner.note_change(hop);
        }
        if !decision.cached && matches!(decision.outcome, Outcome::Secure(_) | Outcome::SecureHosts(..)) {
            // Whoever was told `secure` gets it again after a crash: that takes the DANE branch as well.
            // A disk that hangs holds no mail.
            _ = timeout_at(now.instant + self.inner.settings.timeout, self.inner.cache.settle()).await;
        }
        // What is seen by now counts.
        let seen_until = self.inner.cache.peek(hop).map_or(0, |known| known.seen_until);
        (self.inner.settings.or_fallback(decision, seen_until, now), is_first)
    }

    /// Both branches as they stand, lookups begun where they are needed.
    #[allow(clippy::type_complexity, reason = "the two branches, nothing more")]
    fn begin(
        &self,
        hop: &NextHop,
        map: &MapOptions,
        known: Option<Snapshot>,
        scope: &Scope<'_>,
        now: Stamp,
    ) -> Result<(Branch<DaneView, DaneState>, Branch<StsView, Option<Looked>>), Overloaded> {
        let outdated =
            map.dane && self.inner.settings.dane && known.as_ref().is_some_and(|known| is_outdated(known, now));
        let (dane, sts) = known.map_or((None, None), |known| (known.dane, known.sts));
        let dane = if !(map.dane && self.inner.settings.dane) {
            Branch::Off
        } else if let Some(view) = dane.and_then(|state| dane_view(&state, now)) {
            Branch::Known(view)
        } else {
            Branch::Waiting(self.dane_flight(hop, scope, now.instant)?, None)
        };
        let decided = dane.verdict().is_some_and(|verdict| self.inner.settings.is_decided_by(verdict));
        let sts = match map.mta_sts && self.inner.settings.mta_sts {
            true => {
                let fresh = !outdated && sts.as_ref().is_some_and(|state| !life::needs_lookup(state, now));
                let view = sts.map(|state| life::view(&state, now));
                match view {
                    Some(view) if fresh || decided => Branch::Known(view),
                    // DANE decides already: nothing to look up for.
                    None if decided => Branch::Off,
                    view => {
                        // A policy in force is served when checking it takes long; and where the last lookup
                        // gave no file, a slow new one does not hold mail again. A record that could not be had says nothing.
                        let look = match (&dane, &view) {
                            // DANE may decide alone: then it makes no difference whether there is no record.
                            (Branch::Waiting(..), None) => Look::UnlessDenied,
                            _ => Look::Recheck,
                        };
                        let fallback = view
                            .filter(|view| !matches!(view.standing, Standing::Absent | Standing::Unavailable(None)));
                        match (self.sts_flight(hop.policy_domain(), look, scope, now.instant), fallback) {
                            (Ok(flight), fallback) => Branch::Waiting(flight, fallback),
                            (Err(Overloaded), Some(view)) => Branch::Known(view),
                            (Err(overloaded), None) => return Err(overloaded),
                        }
                    }
                }
            }
            false => Branch::Off,
        };
        Ok((dane, sts))
    }

    /// Waits until the table determines the answer, or the time is over. With it, whether this question began a lookup
    /// that the answer rests on; one that is left under way, or that proved nothing, is not such a one.
    async fn wait(
        &self,
        hop: &NextHop,
        map: &MapOptions,
        scope: &Scope<'_>,
        mut dane: Branch<DaneView, DaneState>,
        mut sts: Branch<StsView, Option<Looked>>,
    ) -> (Decision, bool) {
        let mut is_first = false;
        let cached = !matches!(dane, Branch::Waiting(..)) && !matches!(sts, Branch::Waiting(..));
        let timeout = self.inner.settings.timeout;
        let latest = self.inner.clock.instant() + timeout;
        loop {
            let (verdict, column) = (dane.verdict(), sts.column(map.strict_testing));
            let waits = column.is_none() && verdict.is_some_and(|verdict| !self.inner.settings.is_decided_by(verdict));
            if let Some(combined) = combine(verdict, column).filter(|_| !waits) {
                return (decide(combined, map, dane.view(), sts.view(), cached), is_first);
            }
            if let (Some(_), Branch::Unproven(_)) = (verdict, &sts) {
                sts = match self.sts_flight(hop.policy_domain(), Look::Recheck, scope, self.inner.clock.instant()) {
                    Ok(flight) => Branch::Waiting(flight, None),
                    Err(overloaded) => return (Decision::temporary(overloaded), true),
                };
            }
            let deadline = dane.started().max(sts.started()).map(|started| started + timeout);
            let recheck = sts.fallback_since().map(|started| started + STS_RECHECK_WAIT.min(timeout / 2));
            // Once DANE is known: until then, a policy may still arrive in time.
            let first = sts.alone_since().filter(|_| verdict.is_some()).map(|from| (from + timeout / 2).min(latest));
            tokio::select! {
                biased;
                landed = dane.landed() => {
                    is_first |= dane.is_first();
                    dane = match landed {
                        Some(state) => Branch::Known(fresh_view(&state)),
                        None => return (Decision::temporary("lookup was given up"), is_first),
                    };
                    sts = self.ask_again(hop, scope, sts);
                }
                landed = sts.landed() => match landed {
                    Some(Some(looked)) => {
                        is_first |= sts.is_first();
                        sts = Branch::Known(looked.view);
                    }
                    Some(None) => sts = sts.unproven(),
                    None => return (Decision::temporary("lookup was given up"), is_first || sts.is_first()),
                },
                () = sleep_or_never(first) => {
                    is_first |= sts.is_first();
                    let now = self.inner.clock.stamp();
                    let announced = self.inner.announced.lock().get(hop.policy_domain()).cloned();
                    sts = Branch::Known(life::unanswered(announced.as_ref(), now));
                }
                () = sleep_or_never(recheck) => {
                    is_first |= sts.is_first();
                    sts = sts.give_up_waiting();
                }
                () = sleep_or_never(deadline) => {
                    // Where DANE says something, it says so whatever becomes of the policy.
                    if combine(verdict, Some(Sts::Temporary)) == Some(Combined::Dane) {
                        let is_first = is_first || sts.is_first();
                        return (decide(Combined::Dane, map, dane.view(), sts.view(), false), is_first);
                    }
                    let missing = match &dane {
                        Branch::Waiting(..) | Branch::Unproven(_) => "MX and TLSA lookup: no answer in time",
                        Branch::Off | Branch::Known(_) => "MTA-STS lookup: no answer in time",
                    };
                    let outcome = Outcome::Temporary(missing.into());
                    let decision = Decision { outcome, dane: dane.view(), sts: sts.view(), cached: false };
                    return (decision, is_first || dane.is_first() || sts.is_first());
                }
            }
        }
    }

    /// The MTA-STS branch once DANE is known: a record that could not be had before that is asked for once more.
    fn ask_again(
        &self,
        hop: &NextHop,
        scope: &Scope<'_>,
        sts: Branch<StsView, Option<Looked>>,
    ) -> Branch<StsView, Option<Looked>> {
        let now = self.inner.clock.stamp();
        let outdated = || self.inner.cache.peek(hop).is_some_and(|known| is_outdated(&known, now));
        match &sts {
            Branch::Known(view) if view.standing == Standing::Unavailable(None) && outdated() => self
                .sts_flight(hop.policy_domain(), Look::Recheck, scope, now.instant)
                .map_or(sts, |flight| Branch::Waiting(flight, None)),
            _ => sts,
        }
    }

    /// The DANE lookup for `hop`, joined or begun.
    fn dane_flight(&self, hop: &NextHop, scope: &Scope<'_>, now: Instant) -> Result<Flight<DaneState>, Overloaded> {
        let (inner, key, lookup) = (Arc::clone(&self.inner), hop.clone(), scope.lookup());
        self.inner.dane.join(hop, now, move || async move { inner.look_up_dane(&key, &*lookup).await })
    }

    /// The MTA-STS lookup for `domain`, joined or begun.
    fn sts_flight(
        &self,
        domain: &Domain,
        look: Look,
        scope: &Scope<'_>,
        now: Instant,
    ) -> Result<Flight<Option<Looked>>, Overloaded> {
        let (inner, key, lookup) = (Arc::clone(&self.inner), domain.clone(), scope.lookup());
        self.inner.sts.join(domain, now, move || async move { inner.look_up_sts(&key, look, &lookup).await })
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

/// Whether DANE was found out after the TXT record could not be had.
fn is_outdated(known: &Snapshot, now: Stamp) -> bool {
    let dane = known.dane.as_ref().filter(|dane| dane.entry.verdict != DaneVerdict::Temporary);
    let sts = known.sts.as_ref();
    sts.zip(dane).is_some_and(|(state, dane)| dane.left(now).is_some() && life::is_outdated(state, dane.age(now), now))
}

/// The branch as it stands, while it holds.
fn dane_view(state: &DaneState, now: Stamp) -> Option<DaneView> {
    let ttl = whole_seconds(state.left(now)?);
    Some(DaneView { entry: state.entry.clone(), ttl })
}

/// The branch as it was just learnt.
fn fresh_view(state: &DaneState) -> DaneView {
    DaneView { entry: state.entry.clone(), ttl: state.entry.ttl }
}

/// Those of `hosts` that the policy allows (RFC 8461 §4.1) and `match=` can name.
fn allowed(policy: &StsPolicy, hosts: &[Domain]) -> Arc<[Domain]> {
    let allowed =
        hosts.iter().filter(|host| !reply::is_match_word(host) && policy.mx.iter().any(|mx| mx.matches(host)));
    allowed.cloned().collect()
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
        (Combined::Secure, Some(held)) if reply::can_match(&held.policy) => Outcome::Secure(held),
        (Combined::Secure, Some(_)) => {
            Outcome::Temporary("the MTA-STS policy allows no host that Postfix can be told".into())
        }
        (Combined::SecureHosts, Some(held)) => {
            let hosts = allowed(&held.policy, dane.as_ref().map_or(&[], |view| &view.entry.without));
            if hosts.is_empty() { Outcome::Temporary(reason()) } else { Outcome::SecureHosts(held, hosts) }
        }
        (Combined::Secure | Combined::SecureHosts, None) | (Combined::Temporary, _) => Outcome::Temporary(reason()),
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
