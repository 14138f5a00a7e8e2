//! Zone cuts: which zones are known, who serves them, and what the parent said of their keys.
//!
//! What is kept here serves to reach servers and to find proofs; none of it is ever handed out as an answer.
//! A cut lives as long as the parent's NS RRset says and is never prolonged by the child
//! (ghost domains, NDSS 2012; RFC 9471 for glue), and no longer than any delegation on the way to it
//! (phoenix domains, NDSS 2023).
//!
//! A forward zone is an island: what was learnt above its apex says nothing of names at or below it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use quick_cache::Weighter;

use super::name_hash::{NameCache, cache, cache_weighed};
use super::packed::Packed;
use super::rrset::RrSet;
use crate::clock::{Stamp, whole_seconds};
use crate::limits;

/// A zone as its parent delegates it (or as hints and forwards name it).
#[derive(Debug)]
pub struct Zone {
    /// Apex, lower case.
    pub name: Name,
    /// The zone whose server gave the referral; none for the root and for forward zones.
    pub parent: Option<Arc<Zone>>,
    /// Name servers with the addresses that came along.
    pub servers: Box<[NameServer]>,
    /// DS or its denial as it came with the referral: not validated.
    pub referral: Referral,
    /// Questions go out with RD, answers need no AA: a forward zone.
    pub forward: Option<Box<Forwarding>>,
    /// When it was learnt.
    pub learnt: Stamp,
    /// Seconds for which it may be used.
    pub ttl: u32,
    /// Delegations seen below; three make a registry.
    children: AtomicU32,
    /// Whether it holds data of its own, and not only delegations.
    has_data: AtomicBool,
    /// Servers that turned out not to serve the zone, and since when.
    lame: Mutex<Vec<(SocketAddr, Stamp)>>,
}

/// A name server of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServer {
    /// Its name, lower case.
    pub name: Name,
    /// Its addresses from glue or hints; empty where there was no glue that counts.
    pub addresses: Box<[IpAddr]>,
    /// Addresses that the referral gave although they are not the referring zone's to give: a last resort.
    pub hints: Box<[IpAddr]>,
}

/// Where a forward zone's questions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Servers with port.
    pub servers: Vec<SocketAddr>,
    /// Name in their certificate: ask over TLS only (RFC 8310 §5).
    pub tls: Option<Arc<str>>,
}

/// What a referral said of the child's keys, not validated.
#[derive(Debug, Default)]
pub struct Referral {
    /// The server that gave the referral.
    pub source: Option<SocketAddr>,
    /// The DS RRset, if there was one, then NSEC and NSEC3 RRsets.
    sets: Option<Packed>,
}

impl Referral {
    /// The referral to `child` that `source` gave.
    pub fn new(child: &Name, ds: Option<&RrSet>, denial: &[RrSet], source: SocketAddr) -> Self {
        let is_silent = ds.is_none() && denial.is_empty();
        Self { source: Some(source), sets: (!is_silent).then(|| Packed::new(child, ds.into_iter().chain(denial))) }
    }

    /// The DS RRset.
    pub fn ds(&self) -> Option<RrSet> {
        self.sets().next().filter(|set| set.rtype == RecordType::DS)
    }

    /// NSEC and NSEC3 RRsets.
    pub fn denial(&self) -> Vec<RrSet> {
        self.sets().filter(|set| set.rtype != RecordType::DS).collect()
    }

    fn sets(&self) -> impl Iterator<Item = RrSet> {
        self.sets.iter().flat_map(Packed::sets)
    }
}

/// How long a server is passed over for a zone that it turned out not to serve.
const LAME_FOR: Duration = Duration::from_secs(900);
/// Servers remembered as lame per zone.
const LAME_MAX: usize = 32;
/// Delegations seen below a zone that make it a registry in the eyes of QNAME minimisation.
const REGISTRY_CHILDREN: u32 = 3;

impl Zone {
    /// A zone without history.
    pub fn new(name: Name, parent: Option<Arc<Zone>>, servers: Vec<NameServer>, learnt: Stamp, ttl: u32) -> Self {
        Self {
            name,
            parent,
            servers: servers.into(),
            referral: Referral::default(),
            forward: None,
            learnt,
            ttl,
            children: AtomicU32::new(0),
            has_data: AtomicBool::new(false),
            lame: Mutex::default(),
        }
    }

    /// The child zone that lives on its parent's servers: no referral is ever seen for it.
    pub fn on_same_servers(name: Name, parent: &Arc<Zone>) -> Self {
        let mut zone = Self::new(name, Some(Arc::clone(parent)), parent.servers.to_vec(), parent.learnt, parent.ttl);
        zone.forward.clone_from(&parent.forward);
        zone
    }

    /// Whether it is only thought to live on the servers of the zone above it: no referral led to it.
    pub fn is_guess(&self) -> bool {
        self.parent.is_some() && self.referral.source.is_none() && self.forward.is_none()
    }

    /// Whether its own time is not over yet; [`Zones::left`] looks at the way to it, too.
    pub fn is_fresh(&self, now: Stamp) -> bool {
        !self.own_time(now).is_zero()
    }

    /// What is left of its own time.
    fn own_time(&self, now: Stamp) -> Duration {
        Duration::from_secs(u64::from(self.ttl)).saturating_sub(now.since(self.learnt))
    }

    /// Whether both delegations name the same servers.
    fn has_servers_of(&self, other: &Self) -> bool {
        self.servers.len() == other.servers.len()
            && self.servers.iter().all(|server| other.servers.iter().any(|known| known.name == server.name))
    }

    /// Whether the zone's business is to delegate: there the servers see no more of a name than they must.
    pub fn is_registry(&self) -> bool {
        self.forward.is_none()
            && (self.name.iter().count() < 2 || self.children.load(Ordering::Relaxed) >= REGISTRY_CHILDREN)
    }

    /// Remembers that the zone answered with data of its own.
    pub fn mark_data(&self) {
        self.has_data.store(true, Ordering::Relaxed);
    }

    /// Whether names below are likely its own: below a registry, a name lies in a zone that is not yet known.
    pub fn is_likely_home(&self) -> bool {
        self.has_data.load(Ordering::Relaxed) && !self.is_registry()
    }

    /// Remembers that `server` does not serve this zone.
    pub fn mark_lame(&self, server: SocketAddr, now: Stamp) {
        let mut lame = self.lame.lock();
        lame.retain(|(known, _)| *known != server);
        if lame.len() < LAME_MAX {
            lame.push((server, now));
        }
    }

    /// Whether `server` turned out not to serve this zone of late.
    pub fn is_lame(&self, server: SocketAddr, now: Stamp) -> bool {
        self.lame.lock().iter().any(|(known, since)| *known == server && now.since(*since) < LAME_FOR)
    }

    /// Octets it takes, roughly.
    fn bytes(&self) -> usize {
        let addresses = |of: &[IpAddr]| if of.is_empty() { 0 } else { limits::allocated(size_of_val(of)) };
        let servers = self.servers.iter().map(|server| addresses(&server.addresses) + addresses(&server.hints));
        let referral = self.referral.sets.as_ref().map_or(0, |sets| limits::allocated(sets.len()));
        limits::allocated_shared(size_of::<Self>())
            + limits::allocated(size_of_val(&*self.servers))
            + servers.sum::<usize>()
            + referral
    }

    /// All addresses that came with the delegation.
    pub fn glue(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.servers.iter().flat_map(|server| server.addresses.iter().copied())
    }
}

/// Addresses of name servers that were looked up to reach them: not validated, not handed out.
#[derive(Clone, Debug)]
struct Reached {
    addresses: Addresses,
    learnt: Stamp,
    ttl: u32,
}

/// Addresses that a name server's name leads to.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// None at all where it is known to have none.
    pub all: Vec<IpAddr>,
    /// The name is an alias, which a name server's must not be (RFC 2181 §10.3): a last resort.
    pub by_alias: bool,
}

/// A name that was probed and is no zone cut.
#[derive(Clone, Copy, Debug)]
struct NoCut {
    learnt: Stamp,
    ttl: u32,
}

#[derive(Clone)]
struct Octets;

impl Weighter<Name, Arc<Zone>> for Octets {
    fn weight(&self, _: &Name, zone: &Arc<Zone>) -> u64 {
        (CUT_PLACE + zone.bytes()) as u64
    }
}

/// Octets the name of a cut takes in the table, of which some has to be empty.
const CUT_PLACE: usize = 160;
/// Octets an ordinary cut takes, to size the table by.
const TYPICAL_CUT: usize = 640;

/// All known zone cuts, bounded.
pub struct Zones {
    root: Mutex<Arc<Zone>>,
    forwards: Vec<Arc<Zone>>,
    cuts: NameCache<Name, Arc<Zone>, Octets>,
    no_cuts: NameCache<Name, NoCut>,
    proven_no_cuts: NameCache<Name, NoCut>,
    reached: NameCache<Name, Reached>,
}

impl Zones {
    /// Knows the root from `hints`, and the forward zones; zone cuts take at most about `bytes`.
    pub fn new(bytes: usize, hints: &[(Name, IpAddr)], forwards: Vec<Zone>, now: Stamp) -> Self {
        let mut servers: Vec<NameServer> = Vec::new();
        for (name, address) in hints {
            match servers.iter_mut().find(|server| server.name == *name) {
                Some(server) => server.addresses = server.addresses.iter().copied().chain([*address]).collect(),
                None => servers.push(NameServer {
                    name: name.to_lowercase(),
                    addresses: Box::new([*address]),
                    hints: Box::default(),
                }),
            }
        }
        let forwards: Vec<Arc<Zone>> = forwards.into_iter().map(Arc::new).collect();
        let root = forwards
            .iter()
            .find(|zone| zone.name.is_root())
            .cloned()
            .unwrap_or_else(|| Arc::new(Zone::new(Name::root(), None, servers, now, 0)));
        Self {
            root: Mutex::new(root),
            forwards,
            cuts: cache_weighed(bytes / TYPICAL_CUT, bytes as u64, Octets),
            no_cuts: cache(limits::NAMES_KEPT),
            proven_no_cuts: cache(limits::NAMES_KEPT),
            reached: cache(limits::NAMES_KEPT),
        }
    }

    /// Octets that zone cuts take, as weighed.
    pub fn bytes(&self) -> u64 {
        self.cuts.weight()
    }

    /// The root.
    pub fn root(&self) -> Arc<Zone> {
        Arc::clone(&self.root.lock())
    }

    /// Replaces the root's servers after priming (RFC 8109 §4).
    pub fn set_root(&self, root: Zone) {
        *self.root.lock() = Arc::new(root);
    }

    /// The deepest known zone at or above `name`; with `strictly_above`, above it (for DS questions, which the
    /// parent answers: RFC 4035 §3.1.4.1).
    pub fn deepest(&self, name: &Name, strictly_above: bool, now: Stamp) -> Arc<Zone> {
        let island = self.island(name, strictly_above);
        let floor = island.map_or(0, |zone| zone.name.iter().count());
        let mut labels = name.iter().count();
        if strictly_above && labels > 0 {
            labels -= 1;
        }
        while labels > floor {
            if let Some(zone) = self.cuts.get(&name.trim_to(labels)).filter(|zone| !self.left(zone, now).is_zero()) {
                return zone;
            }
            labels -= 1;
        }
        island.map_or_else(|| self.root(), Arc::clone)
    }

    /// The island that `name` lies on: the deepest forward zone at or above it, with `strictly_above` above it.
    /// Nothing that was learnt further up may be used there.
    pub fn island(&self, name: &Name, strictly_above: bool) -> Option<&Arc<Zone>> {
        let holds = |zone: &&Arc<Zone>| zone.name.zone_of(name) && !(strictly_above && zone.name == *name);
        self.forwards.iter().filter(holds).max_by_key(|zone| zone.name.iter().count())
    }

    /// For how long `zone` may still be used: until the first delegation on the way to it ends. One that was learnt
    /// again meanwhile, with the same name servers, goes on; the root and forward zones have no end.
    pub fn left(&self, zone: &Zone, now: Stamp) -> Duration {
        let Some(mut above) = zone.parent.clone() else { return Duration::MAX };
        let mut left = zone.own_time(now);
        while let Some(next) = above.parent.clone() {
            let time = above.own_time(now);
            if !time.is_zero() {
                (left, above) = (left.min(time), next);
                continue;
            }
            let again = self.cuts.peek(&above.name).filter(|known| known.is_fresh(now) && known.has_servers_of(&above));
            let Some((again, next)) = again.and_then(|again| Some((again.clone(), again.parent.clone()?))) else {
                return Duration::ZERO;
            };
            (left, above) = (left.min(again.own_time(now)), next);
        }
        left
    }

    /// `ttl` seconds, or as many as `zone` has left where that is less.
    pub fn ttl_within(&self, zone: &Zone, ttl: u32, now: Stamp) -> u32 {
        ttl.min(whole_seconds(self.left(zone, now)))
    }

    /// Whether a forward zone is configured at exactly this name.
    pub fn is_forward(&self, name: &Name) -> bool {
        self.forwards.iter().any(|zone| zone.name == *name)
    }

    /// Learns a cut from a referral. One that reaches onto an island from outside is good for the lookup that met it
    /// and is not kept.
    pub fn insert(&self, zone: Zone) -> Arc<Zone> {
        let apex = |name: &Name| self.island(name, false).map(|island| island.name.clone());
        if zone.parent.as_ref().is_some_and(|parent| apex(&parent.name) != apex(&zone.name)) {
            return Arc::new(zone);
        }
        if let Some(parent) = &zone.parent
            && self.cuts.peek(&zone.name).is_none()
        {
            parent.children.fetch_add(1, Ordering::Relaxed);
        }
        let zone = Arc::new(zone);
        self.cuts.insert(zone.name.clone(), Arc::clone(&zone));
        zone
    }

    /// Forgets a cut that led nowhere, unless it has been replaced since.
    pub fn forget(&self, zone: &Arc<Zone>) {
        if self.cuts.peek(&zone.name).is_some_and(|known| Arc::ptr_eq(&known, zone)) {
            self.cuts.remove(&zone.name);
        }
    }

    /// Remembers that there is no zone cut at `name`.
    pub fn insert_no_cut(&self, name: Name, ttl: u32, now: Stamp) {
        self.no_cuts.insert(name, NoCut { learnt: now, ttl: ttl.clamp(1, limits::MAX_NEGATIVE_TTL) });
    }

    /// Whether it is known that there is no zone cut at `name`.
    pub fn is_cut_free(&self, name: &Name, now: Stamp) -> bool {
        self.no_cuts.get(name).is_some_and(|known| now.since(known.learnt) < Duration::from_secs(u64::from(known.ttl)))
    }

    /// Remembers that the zone above proved `name` to be no delegation.
    pub fn insert_proven_cut_free(&self, name: Name, ttl: u32, now: Stamp) {
        self.proven_no_cuts.insert(name, NoCut { learnt: now, ttl: ttl.clamp(1, limits::MAX_NEGATIVE_TTL) });
    }

    /// Forgets which names were proven to be no delegation.
    pub fn forget_proofs(&self) {
        self.proven_no_cuts.clear();
    }

    /// Whether the zone above proved `name` to be no delegation.
    pub fn is_proven_cut_free(&self, name: &Name, now: Stamp) -> bool {
        self.proven_no_cuts
            .get(name)
            .is_some_and(|known| now.since(known.learnt) < Duration::from_secs(u64::from(known.ttl)))
    }

    /// Keeps the addresses of a name server; none at all is worth keeping too, for a short while.
    pub fn insert_reached(&self, name: Name, addresses: Addresses, ttl: u32, now: Stamp) {
        self.reached.insert(name, Reached { addresses, learnt: now, ttl: ttl.clamp(5, limits::MAX_TTL) });
    }

    /// Forgets the addresses that the zone's servers were looked up to have: what came from there does not validate.
    pub fn forget_reached(&self, zone: &Zone) {
        for server in zone.servers.iter().filter(|server| server.addresses.is_empty()) {
            self.reached.remove(&server.name);
        }
    }

    /// The addresses of a name server that was looked up before.
    pub fn reached(&self, name: &Name, now: Stamp) -> Option<Addresses> {
        self.reached
            .get(name)
            .filter(|known| now.since(known.learnt) < Duration::from_secs(u64::from(known.ttl)))
            .map(|known| known.addresses)
    }
}
