//! The engine's face: questions in, validated answers out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt, TryFutureExt};
use hickory_proto::rr::{Name, RecordType};

use super::budget::{Exceeded, OUT_OF_TIME, Scope};
use super::core::{Context, Core, Seen};
use super::exceptions::NegativeAnchor;
use super::resolution::{Ready, Resolution};
use super::rrset::RrSet;
use super::settings::Settings;
use super::transport::Network;
use super::trust::ZoneTrust;
use crate::clock::{Clock, Stamp};
use crate::dns::{Answer, BoxFuture, Cause, Failure, Glance, Lookup, Security};
use crate::limits;
use crate::names::Domain;
use crate::telemetry::metrics::{LOOKUP_DURATION, VALIDATIONS};
use crate::telemetry::recent::Recent;

/// A validating recursive resolver. Cheap to clone; all clones share caches and work under way.
#[derive(Clone)]
pub struct Engine {
    pub(super) core: Arc<Core>,
    /// The policy question that it looks up for, if for one.
    scope: Option<Arc<Scope>>,
}

/// What a client asks of a lookup beside name and type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// CD: hand over what does not validate, too (RFC 4035 §3.2.2). It is never cached, and never secure.
    pub checking_disabled: bool,
}

impl Engine {
    /// An engine that knows nothing yet but its hints and anchors.
    pub fn new(settings: Settings, network: Arc<dyn Network>, clock: Clock) -> Self {
        Self { core: Arc::new(Core::new(settings, network, clock)), scope: None }
    }

    /// An engine on the same network, with the same settings and anchors, that knows nothing yet and keeps what it
    /// learns to itself: to look afresh without changing what is known here. It counts nothing in the metrics.
    pub fn apart(&self) -> Self {
        Self { core: Arc::new(self.core.apart()), scope: None }
    }

    /// The answer, if it is one cache entry; never asks anybody. `name` is in lower case.
    pub fn ready(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Ready> {
        self.core.ready(name, rtype, now)
    }

    /// The answer, if the cache holds all of it; never asks anybody. `name` is in lower case.
    pub fn at_hand(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        self.core.cached_answer(name, rtype)
    }

    /// Answers a question. Equal questions share one lookup, which goes on when callers give up; lookups under
    /// way are bounded by [`limits::LOOKUPS_IN_FLIGHT`], beyond which they fail at once.
    pub async fn resolve(&self, name: &Name, rtype: RecordType, flags: Flags) -> Result<Arc<Resolution>, Failure> {
        let name = name.to_lowercase();
        for _ in 0..OTHERS_LIMITS {
            match self.join_lookup(&name, rtype, flags).await {
                (Err(failure), false) if is_limit_of_scope(&failure) => {}
                (outcome, _) => return outcome,
            }
        }
        self.join_lookup(&name, rtype, flags).await.0
    }

    /// See [`Engine::resolve`]. With it, whether the lookup was begun for this question.
    async fn join_lookup(
        &self,
        name: &Name,
        rtype: RecordType,
        flags: Flags,
    ) -> (Result<Arc<Resolution>, Failure>, bool) {
        if let Some(resolution) = self.core.cached_answer(name, rtype) {
            return (Ok(Arc::new(resolution)), true);
        }
        if !flags.checking_disabled
            && let Some(glance) = self.core.glances.under_way(&(name.clone(), u16::from(rtype)))
            && let Some(outcome) = glance.await.transpose()
        {
            return (outcome, false);
        }
        if let Err(failure) = self.admit(name, rtype) {
            return (Err(failure), true);
        }
        let aborted = Err(Failure::new(name.clone(), rtype, Cause::Overloaded));
        let key = (name.clone(), u16::from(rtype), flags.checking_disabled);
        let mut is_own = false;
        let flight = self.core.lookups.join(key, aborted, || {
            is_own = true;
            let (core, name, scope) = (Arc::clone(&self.core), name.clone(), self.scope.clone());
            async move {
                let context = core.context_within(scope, flags.checking_disabled);
                let answer = core.answer(&context, name.clone(), rtype, None).map_ok(Arc::new).boxed();
                core.conclude(&context, &name, rtype, answer, |answer| Some(answer.security)).await
            }
        });
        (flight.await, is_own)
    }

    /// Answers a question unless it is denied in a way that has yet to be proven: then `None`, and
    /// [`Engine::resolve`] proves it.
    async fn glance_at(&self, name: &Name, rtype: RecordType) -> Seen {
        let name = name.to_lowercase();
        for _ in 0..OTHERS_LIMITS {
            match self.join_glance(&name, rtype).await {
                (Err(failure), false) if is_limit_of_scope(&failure) => {}
                (seen, _) => return seen,
            }
        }
        self.join_glance(&name, rtype).await.0
    }

    /// See [`Engine::glance_at`]. With it, whether the lookup was begun for this question.
    async fn join_glance(&self, name: &Name, rtype: RecordType) -> (Seen, bool) {
        if let Some(resolution) = self.core.cached_answer(name, rtype) {
            return (Ok(Some(Arc::new(resolution))), true);
        }
        if let Some(lookup) = self.core.lookups.under_way(&(name.clone(), u16::from(rtype), false)) {
            return (lookup.await.map(Some), false);
        }
        if let Err(failure) = self.admit(name, rtype) {
            return (Err(failure), true);
        }
        let aborted = Err(Failure::new(name.clone(), rtype, Cause::Overloaded));
        let mut is_own = false;
        let flight = self.core.glances.join((name.clone(), u16::from(rtype)), aborted, || {
            is_own = true;
            let (core, name, scope) = (Arc::clone(&self.core), name.clone(), self.scope.clone());
            async move {
                let context = core.context_within(scope, false);
                let glance = core.glance(&context, name.clone(), rtype).map_ok(|seen| seen.map(Arc::new)).boxed();
                core.conclude(&context, &name, rtype, glance, |seen| Some(seen.as_ref()?.security)).await
            }
        });
        (flight.await, is_own)
    }

    /// Whether there is room for another lookup.
    fn admit(&self, name: &Name, rtype: RecordType) -> Result<(), Failure> {
        if self.core.lookups.count() + self.core.glances.count() < limits::LOOKUPS_IN_FLIGHT {
            return Ok(());
        }
        Err(Failure::new(name.clone(), rtype, Cause::Overloaded).in_zone(&Name::root()))
    }

    /// The DNSKEY RRset of `zone` straight from its servers, not from any cache, and not validated: the first that
    /// `counts` takes, else the last that was seen. For following trust anchors (RFC 5011 §2.3).
    pub async fn fetch_zone_keys(
        &self,
        zone: &Name,
        counts: &(dyn Fn(&RrSet) -> bool + Send + Sync),
    ) -> Result<RrSet, Failure> {
        self.core.fetch_zone_keys(zone, counts).await
    }

    /// Replaces the trust anchors.
    pub fn set_trust_anchors(&self, anchors: &[RrSet]) {
        self.core.set_anchors(anchors);
    }

    /// Begins to learn the root's servers and keys before the first question comes.
    pub fn warm_up(&self) {
        let root = self.core.zones.root();
        self.core.start_priming();
        self.core.start_trust(&self.core.context(false), &root);
    }

    /// Looks whether the root can be reached and validated now, past every cache. Costs one question.
    pub async fn look_at_root(&self) -> Result<(), Failure> {
        let late = Failure::new(Name::root(), RecordType::DNSKEY, Cause::Timeout).in_zone(&Name::root());
        let look = self.core.look_at_root();
        tokio::time::timeout(limits::LOOKUP_TIME, look).await.unwrap_or(Err(late))
    }

    /// Whether the root's servers have said who they are (RFC 8109), or forwarders stand for them.
    pub fn is_root_primed(&self) -> bool {
        let forwarded = self.core.settings.forward.iter().any(|forward| forward.zone.is_root());
        forwarded || self.core.primed.load(Ordering::Relaxed)
    }

    /// What failed or was slow of late.
    pub fn recent(&self) -> &Recent {
        &self.core.recent
    }

    /// Whether the root's keys are known and validated (or there is no anchor for the root).
    pub fn is_root_validated(&self) -> bool {
        let root = Name::root();
        self.core.known_trust(&root).is_some() || !self.core.anchors().contains_key(&root)
    }

    /// Whether a key of the root with this tag is a trust anchor (RFC 8509).
    pub fn trusts_root_key(&self, tag: u16) -> bool {
        let anchors = self.core.anchors();
        anchors
            .get(&Name::root())
            .is_some_and(|trust| trust.ds.iter().any(|ds| ds.tag == tag) || trust.keys.iter().any(|key| key.tag == tag))
    }

    /// What the operator exempted from validation, in force or not.
    pub fn exceptions(&self) -> &[NegativeAnchor] {
        &self.core.settings.insecure
    }

    /// The zone that `name` lies in, by the zone cuts that are known; nothing where only the root or a top-level domain
    /// is. Asks nobody.
    pub fn zone_of(&self, name: &Domain) -> Option<String> {
        let zone = self.core.zones.deepest(&name.to_name().to_lowercase(), false, self.core.now());
        (zone.name.iter().count() > 1).then(|| zone.name.to_ascii())
    }

    /// Octets in the RRset cache.
    pub fn cache_bytes(&self) -> u64 {
        self.core.cache_bytes()
    }
}

/// Lookups begun for another policy question, which ended with what that may cost, that one question joins.
const OTHERS_LIMITS: usize = 3;

/// Whether a lookup failed for what its policy question may cost: another one does not suffer for that.
fn is_limit_of_scope(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Budget(what) if Exceeded::is_of_scope(what))
}

impl Core {
    /// Brings a lookup to its end, at its deadline at the latest, and takes note of how it went. What `security` finds
    /// none in counts when it is proven.
    async fn conclude<T>(
        &self,
        context: &Context,
        name: &Name,
        rtype: RecordType,
        lookup: BoxFuture<'_, Result<T, Failure>>,
        security: impl FnOnce(&T) -> Option<Security>,
    ) -> Result<T, Failure> {
        let begun = self.clock.instant();
        let outcome = match tokio::time::timeout_at(context.deadline, lookup).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Who was slow is not known: it may have been anybody on the way, or this host.
                Err(Failure::new(name.clone(), rtype, Cause::Budget(OUT_OF_TIME)))
            }
        };
        if self.settings.counted
            && let Some(security) = outcome.as_ref().map(security).transpose()
        {
            count(security, self.clock.instant() - begun);
        }
        if let Err(failure) = &outcome {
            self.recent.failed(failure.kind(), || failure.place(), self.now());
        }
        outcome
    }
}

/// Counts a lookup that the cache could not answer (design §12).
fn count(outcome: Result<Security, &Failure>, took: Duration) {
    let result = match outcome {
        Ok(Security::Secure) => "secure",
        Ok(Security::Insecure) => "insecure",
        Err(failure) if failure.is_bogus() => "bogus",
        Err(_) => "failed",
    };
    metrics::counter!(VALIDATIONS, "result" => result).increment(1);
    metrics::histogram!(LOOKUP_DURATION).record(took.as_secs_f64());
}

impl Lookup for Engine {
    fn lookup<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move { self.resolve(name, rtype, Flags::default()).await?.to_answer(rtype) })
    }

    fn glance<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Result<Glance, Failure>> {
        Box::pin(async move {
            match self.glance_at(name, rtype).await? {
                Some(resolution) => resolution.to_answer(rtype).map(Glance::Answer),
                None => Ok(Glance::Denied),
            }
        })
    }

    fn zone_proven_insecure<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Option<u32>> {
        Box::pin(async move {
            let context = self.core.context_within(self.scope.clone(), false);
            self.core.proven_insecure(&context, &name.to_lowercase()).await
        })
    }

    fn scoped(&self) -> Option<Arc<dyn Lookup>> {
        Some(Arc::new(Self { core: Arc::clone(&self.core), scope: Some(Arc::default()) }))
    }

    fn zone_known_signed(&self, name: &Name) -> bool {
        let zone = self.core.zones.deepest(&name.to_lowercase(), false, self.core.now());
        // RFC 7672 §2.2.2: what lies in a signed registry may well be delegated to an unsigned zone.
        zone.is_likely_home() && matches!(self.core.known_trust(&zone.name), Some(ZoneTrust::Secure(_)))
    }
}
