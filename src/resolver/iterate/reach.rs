//! Addresses of name servers: at hand, or looked up without validation, only to reach them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use hickory_proto::rr::{Name, RecordType};

use super::classify::{Meaning, addresses};
use crate::limits;
use crate::resolver::core::{Context, Core};
use crate::resolver::delegation::{NameServer, Zone};
use crate::resolver::rrset_cache::Known;

/// Name servers looked up at a time: enough not to hang on one, not so many that a delegation fans out.
const AT_A_TIME: usize = 2;

impl Core {
    /// Addresses of the zone's servers that are known without asking; servers known as lame come last.
    pub fn at_hand(&self, zone: &Zone) -> Vec<SocketAddr> {
        if let Some(forward) = &zone.forward {
            return forward.servers.clone();
        }
        let now = self.now();
        let mut found: Vec<SocketAddr> = Vec::new();
        for server in &zone.servers {
            let known = if server.addresses.is_empty() { self.known_addresses(&server.name) } else { None };
            for ip in server.addresses.iter().copied().chain(known.into_iter().flatten()) {
                let address = self.exchanger.address(ip);
                if !found.contains(&address) {
                    found.push(address);
                }
            }
        }
        let (lame, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|server| zone.is_lame(*server, now));
        if good.is_empty() { lame } else { good }
    }

    /// Looks addresses of further name servers up: those without glue, then those whose glue may be wrong.
    /// Gives the addresses that are not in `tried`; empty when no more are to be had.
    pub fn reach<'a>(
        self: &'a Arc<Self>,
        context: &'a Context,
        zone: &'a Arc<Zone>,
        tried: &'a [SocketAddr],
    ) -> BoxFuture<'a, Vec<SocketAddr>> {
        async move {
            if zone.forward.is_some() || context.under_way.len() >= limits::REACH_DEPTH {
                return Vec::new();
            }
            // A name server inside the zone cannot be found by asking the zone.
            let outside =
                |server: &&NameServer| !zone.name.zone_of(&server.name) && !context.under_way.contains(&server.name);
            let (bare, glued): (Vec<_>, Vec<_>) =
                zone.servers.iter().filter(outside).partition(|server| server.addresses.is_empty());
            let candidates: Vec<_> = bare.into_iter().chain(glued).take(limits::GLUELESS_NS_PER_DELEGATION).collect();
            for some in candidates.chunks(AT_A_TIME) {
                let lookups = some.iter().map(|server| self.reach_host(context, &server.name));
                let found = join_all(lookups).await.into_iter().flatten();
                let mut found: Vec<_> = found.map(|ip| self.exchanger.address(ip)).collect();
                found.retain(|address| !tried.contains(address));
                found.sort_unstable();
                found.dedup();
                if !found.is_empty() {
                    return found;
                }
            }
            let hints = zone.servers.iter().flat_map(|server| &server.hints);
            hints.map(|ip| self.exchanger.address(*ip)).filter(|address| !tried.contains(address)).collect()
        }
        .boxed()
    }

    /// Addresses of a host from what was validated, or looked up to reach it, before.
    fn known_addresses(&self, host: &Name) -> Option<Vec<IpAddr>> {
        let now = self.now();
        let validated: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|rtype| self.cache.get(host, rtype, now))
            .flat_map(|entry| match entry.known() {
                Known::Positive { set, .. } => addresses(&set).collect::<Vec<_>>(),
                Known::Negative { .. } => Vec::new(),
            })
            .collect();
        if validated.is_empty() { self.zones.reached(host, now) } else { Some(validated) }
    }

    /// Looks one host up: A, and AAAA only where there is no A, so that a delegation costs little.
    async fn reach_host(self: &Arc<Self>, context: &Context, host: &Name) -> Vec<IpAddr> {
        if let Some(known) = self.known_addresses(host) {
            return known;
        }
        let inner = context.reaching(host);
        let (mut found, mut ttl, mut asked) = (Vec::new(), 0, false);
        for (rtype, wanted) in
            [(RecordType::A, self.settings.ipv4), (RecordType::AAAA, self.settings.ipv6 != Some(false))]
        {
            if !wanted || !found.is_empty() {
                continue;
            }
            match self.descend(&inner, host, rtype, &[]).await {
                // RFC 2181 §10.3: the name of a server is not an alias.
                Ok(heard) => {
                    asked = true;
                    if let Meaning::Answer(set) = heard.meaning {
                        let within = self.zones.ttl_within(&heard.zone, set.ttl, self.now());
                        (found, ttl) = (addresses(&set).collect(), within);
                    }
                    // Parent and child may differ on the address of a name server: either may be right.
                    let glue = heard.zone.servers.iter().filter(|server| server.name == *host);
                    found.extend(glue.flat_map(|server| server.addresses.iter().copied()));
                }
                Err(_) => continue,
            }
        }
        if asked {
            self.zones.insert_reached(host.clone(), found.clone(), ttl, self.now());
        }
        found
    }

    /// Asks for the root's current name servers, beside whatever else goes on (RFC 8109); not where the operator
    /// names servers for the root.
    pub fn start_priming(self: &Arc<Self>) {
        if self.zones.is_forward(&Name::root()) {
            return;
        }
        let core = Arc::clone(self);
        drop(self.priming.join((), (), || async move { core.prime().await }));
    }

    async fn prime(self: Arc<Self>) {
        let (root, now) = (Name::root(), self.now());
        if self.failures.get(&root, RecordType::NS, now).is_some() {
            return;
        }
        let context = self.context(false);
        let zone = self.zones.root();
        if zone.forward.is_some() {
            return;
        }
        let heard = match self.fetch_checked(&context, &zone, &root, RecordType::NS).await {
            Ok(heard) => heard,
            Err(failure) => {
                tracing::debug!(%failure, "priming failed, root hints stay in use");
                self.failures.insert(failure, self.now());
                return;
            }
        };
        let Meaning::Answer(ns) = &heard.meaning else { return };
        self.primed.store(true, Ordering::Relaxed);
        let servers: Vec<NameServer> = ns
            .target_names()
            .into_iter()
            .map(|name| {
                let glue = heard.message.additional.iter().filter(|set| set.name == name);
                let mut found: Vec<IpAddr> = glue.flat_map(addresses).collect();
                if found.is_empty() {
                    let hint = zone.servers.iter().find(|server| server.name == name);
                    found = hint.map(|server| server.addresses.to_vec()).unwrap_or_default();
                }
                NameServer { name, addresses: found.into(), hints: Box::default() }
            })
            .collect();
        if servers.iter().any(|server| !server.addresses.is_empty()) {
            let ttl = ns.ttl.clamp(limits::ROOT_MIN_TTL, limits::MAX_TTL);
            self.zones.set_root(Zone::new(root, None, servers, self.now(), ttl));
        }
    }
}
