//! What all parts of the engine share: settings, network, clock, tables and work under way.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::RwLock;

use super::budget::{Budget, Scope};
use super::delegation::{Forwarding, Zone, Zones};
use super::exceptions::{Exceptions, NegativeAnchor};
use super::failures::Failures;
use super::flight::{Flights, Turns};
use super::glance::Unproven;
use super::resolution::Resolution;
use super::rrset::RrSet;
use super::rrset_cache::RrsetCache;
use super::servers::Exchanger;
use super::settings::Settings;
use super::transport::Network;
use super::trust::{self, Trusts, ZoneTrust};
use super::validate::Trust;
use crate::clock::{Clock, Instant, Stamp};
use crate::dns::{Cause, Failure, Habits};
use crate::limits;
use crate::telemetry::recent::Recent;

/// The shared insides of the engine; its work is spread over `iterate`, `trust` and `check`.
pub(super) struct Core {
    pub settings: Settings,
    pub clock: Clock,
    pub exchanger: Exchanger,
    pub cache: RrsetCache,
    pub zones: Zones,
    pub failures: Failures,
    anchors: RwLock<Arc<HashMap<Name, Trust>>>,
    /// How often the anchors were replaced; held while something that was proven is kept ([`Core::if_proven_today`]).
    generation: RwLock<u64>,
    /// What the operator said is not to be validated.
    pub exceptions: Exceptions,
    pub trusts: Trusts,
    /// Descents from a registry zone into a child: one asks, the others wait for the zone cut.
    pub descents: Turns<(Name, Name)>,
    /// By the generation of the anchors, too: nobody waits for keys that others have yet to judge by former ones.
    pub trust_flights: Flights<(Name, u64), Result<ZoneTrust, Failure>>,
    pub lookups: Flights<(Name, u16, bool), Result<Arc<Resolution>, Failure>>,
    /// Lookups that leave denials unproven.
    pub glances: Flights<(Name, u16), Seen>,
    pub unproven: Unproven,
    pub priming: Flights<(), ()>,
    /// Whether the root's servers were asked for, and named, once (RFC 8109).
    pub primed: AtomicBool,
    /// What failed or was slow of late.
    pub recent: Recent,
}

/// What comes of a glance: nothing where a denial stays unproven.
pub(super) type Seen = Result<Option<Arc<Resolution>>, Failure>;

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be answered: validated, cached, shared with equal questions.
    Answer,
    /// To reach a name server: not validated, not handed out, and never waiting for anybody else's work, so
    /// that name servers that need each other cannot wait in a circle.
    Reach,
}

/// One lookup: what it may cost, until when, and on whose behalf.
#[derive(Clone)]
pub(super) struct Context {
    pub budget: Arc<Budget>,
    pub deadline: Instant,
    pub purpose: Purpose,
    /// Name servers whose addresses are being looked up, outermost first.
    pub under_way: Vec<Name>,
    /// The client validates for itself (CD).
    pub checking_disabled: bool,
    /// The generation of the anchors when it began.
    pub generation: u64,
}

impl Core {
    pub fn new(settings: Settings, network: Arc<dyn Network>, clock: Clock) -> Self {
        let now = clock.stamp();
        let forwards = settings.forward.iter().map(|forward| {
            let mut zone = Zone::new(forward.zone.to_lowercase(), None, Vec::new(), now, u32::MAX);
            let tls = forward.tls.as_deref().map(Arc::from);
            zone.forward = Some(Box::new(Forwarding { servers: forward.servers.clone(), tls }));
            zone
        });
        let for_cuts = settings.cache_bytes / limits::ZONE_CUTS_SHARE;
        let for_keys = settings.cache_bytes / limits::ZONE_KEYS_SHARE;
        Self {
            exchanger: Exchanger::new(network, clock.clone(), &settings),
            cache: RrsetCache::new(settings.cache_bytes - for_cuts - for_keys),
            zones: Zones::new(for_cuts, &settings.root_hints, forwards.collect(), now),
            failures: Failures::new(now.instant),
            exceptions: Exceptions::new(&settings.insecure),
            anchors: RwLock::new(Arc::new(group_anchors(&settings.trust_anchors))),
            generation: RwLock::new(0),
            trusts: trust::table(for_keys),
            descents: Turns::default(),
            trust_flights: Flights::new(),
            lookups: Flights::new(),
            glances: Flights::new(),
            unproven: Unproven::new(),
            priming: Flights::new(),
            primed: AtomicBool::new(false),
            recent: Recent::default(),
            settings,
            clock,
        }
    }

    /// The same settings, network and anchors, and nothing that was learnt.
    pub fn apart(&self) -> Self {
        let cache_bytes = self.settings.cache_bytes.min(limits::EXPLAIN_CACHE_BYTES);
        let settings = Settings { counted: false, cache_bytes, ..self.settings.clone() };
        let core = Self::new(settings, self.exchanger.network(), self.clock.clone());
        *core.anchors.write() = self.anchors();
        core
    }

    /// Octets of all that was learnt from servers, as weighed.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes() + self.zones.bytes() + self.trusts.weight()
    }

    /// Replaces the trust anchors; if they differ, the chain of trust is built anew, and what was judged by an anchor that
    /// is gone, or without one that has come, is judged again.
    pub fn set_anchors(&self, anchors: &[RrSet]) {
        let anchors = group_anchors(anchors);
        let again: Vec<Name> = {
            let mut current = self.anchors.write();
            if **current == anchors {
                return;
            }
            let names: HashSet<&Name> = current.keys().chain(anchors.keys()).collect();
            let is_judged_again = |zone: &&Name| match (current.get(*zone), anchors.get(*zone)) {
                // With one more, what was proven by the others stays proven.
                (Some(before), Some(now)) => !before.is_part_of(now),
                (before, now) => before.is_some() || now.is_some(),
            };
            let again = names.into_iter().filter(is_judged_again).cloned().collect();
            *current = Arc::new(anchors);
            again
        };
        // Whatever began before this has no say from here on.
        let mut generation = self.generation.write();
        *generation += 1;
        self.trusts.clear();
        self.failures.clear_all();
        if !again.is_empty() {
            self.cache.forget_within(&again);
            self.zones.forget_proofs();
        }
    }

    /// The trust anchors by zone.
    pub fn anchors(&self) -> Arc<HashMap<Name, Trust>> {
        Arc::clone(&self.anchors.read())
    }

    /// Keeps what a lookup has proven, unless the anchors were replaced since it began: a revoked key has no say any more.
    pub fn if_proven_today(&self, context: &Context, keep: impl FnOnce()) {
        let generation = self.generation.read();
        if *generation == context.generation {
            keep();
        }
    }

    /// The deepest zone with a trust anchor at or above `name` and strictly below `zone`; for a DS question
    /// strictly above the name, since the DS is the parent's.
    pub fn anchor_below(&self, zone: &Name, name: &Name, rtype: RecordType) -> Option<Name> {
        let anchors = self.anchors();
        let holds = |at: &Name| at.zone_of(name) && !(rtype == RecordType::DS && at == name);
        let below = anchors.keys().filter(|at| *at != zone && zone.zone_of(at) && holds(at));
        below.max_by_key(|at| at.iter().count()).cloned()
    }

    /// The exception that the operator made for `name`, if one is in force and no trust anchor is closer; for a DS
    /// question strictly above the name, since the DS is the parent's.
    pub fn exception(&self, name: &Name, rtype: RecordType) -> Option<&NegativeAnchor> {
        if self.exceptions.is_empty() {
            return None;
        }
        let name = if rtype == RecordType::DS { name.base_name() } else { name.clone() };
        self.exceptions.over(&name, &self.anchors(), self.clock.wall())
    }

    /// Whether an exception lies below `zone` on the way to `name`, with a trust anchor further down.
    pub fn is_exception_between(&self, zone: &Name, name: &Name) -> bool {
        self.exceptions.in_force(self.clock.wall()).any(|at| zone.zone_of(&at.zone) && at.zone.zone_of(name))
    }

    /// How many labels the shortest name has that may say anything of `name`: nothing from above a forward zone holds
    /// within it, nor anything proven above a negative trust anchor below that.
    pub fn own_labels(&self, name: &Name, rtype: RecordType) -> usize {
        let island = self.zones.island(name, rtype == RecordType::DS).map_or(0, |zone| zone.name.iter().count());
        let excepted = self.exception(name, rtype).map_or(0, |exception| exception.zone.iter().count());
        island.max(excepted)
    }

    pub fn now(&self) -> Stamp {
        self.clock.stamp()
    }

    /// A lookup of its own, from now.
    pub fn context(&self, checking_disabled: bool) -> Context {
        self.context_within(None, checking_disabled)
    }

    /// Another lookup for the same policy question, from now.
    pub fn context_beside(&self, other: &Context) -> Context {
        Context { budget: Arc::new(other.budget.beside()), ..self.context(false) }
    }

    /// A lookup for this policy question, from now.
    pub fn context_within(&self, scope: Option<Arc<Scope>>, checking_disabled: bool) -> Context {
        Context {
            generation: *self.generation.read(),
            budget: Arc::new(Budget::within(scope)),
            deadline: self.clock.instant() + limits::LOOKUP_TIME,
            purpose: Purpose::Answer,
            under_way: Vec::new(),
            checking_disabled,
        }
    }
}

impl Context {
    /// The same lookup, on its way to the addresses of a name server.
    pub fn reaching(&self, host: &Name) -> Self {
        let mut inner = self.clone();
        inner.purpose = Purpose::Reach;
        inner.under_way.push(host.clone());
        inner
    }
}

fn group_anchors(anchors: &[RrSet]) -> HashMap<Name, Trust> {
    let mut zones: HashMap<Name, Vec<&RrSet>> = HashMap::new();
    for set in anchors {
        zones.entry(set.name.to_lowercase()).or_default().push(set);
    }
    zones.into_iter().map(|(zone, sets)| (zone, Trust::from_sets(sets))).collect()
}

/// A failure at a server of a zone.
pub(super) fn failure(
    zone: &Zone,
    name: &Name,
    rtype: RecordType,
    cause: Cause,
    server: Option<SocketAddr>,
) -> Failure {
    let (zone, server) = (Some(zone.name.clone()), server.map(|at| at.ip()));
    Failure { name: name.clone(), rtype, cause, zone, server, habits: Habits::default() }
}
