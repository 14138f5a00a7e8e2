//! Addresses of name servers: at hand, or looked up without validation, only to reach them; priming.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{BoxFuture, FutureExt};
use hickory_proto::rr::{Name, RecordType};

use super::Heard;
use super::classify::{Meaning, addresses as addresses_of};
use super::further::Found;
use crate::dns::Cause;
use crate::limits;
use crate::resolver::core::{Context, Core};
use crate::resolver::delegation::{Addresses, NameServer, Zone};
use crate::resolver::rrset_cache::Known;

/// Seconds for which it is remembered that a name server has no address: a few lookups, and not the end of a mistake.
const NO_ADDRESS_TTL: u32 = 30;
/// Likewise for the addresses behind a name server that is an alias.
const ALIAS_TTL: u32 = 300;

impl Core {
    /// Addresses of the zone's servers that are known without asking; servers known as lame come last.
    pub fn at_hand(&self, zone: &Zone) -> Vec<SocketAddr> {
        if let Some(forward) = &zone.forward {
            return forward.servers.clone();
        }
        let now = self.now();
        let mut found: Vec<SocketAddr> = Vec::new();
        let (mut by_alias, mut all_known) = (Vec::new(), true);
        for server in &zone.servers {
            let bare = server.addresses.is_empty();
            let known = if bare { self.known_addresses(&server.name) } else { None };
            all_known &= !bare || known.is_some();
            let known = known.unwrap_or_default();
            let place = if known.by_alias { &mut by_alias } else { &mut found };
            for ip in server.addresses.iter().copied().chain(known.all) {
                let address = self.exchanger.address(ip);
                if !place.contains(&address) {
                    place.push(address);
                }
            }
        }
        if found.is_empty() && all_known {
            found = by_alias;
        }
        let (lame, good): (Vec<_>, Vec<_>) = found.into_iter().partition(|server| zone.is_lame(*server, now));
        if good.is_empty() { lame } else { good }
    }

    /// Addresses of a host from what was validated, or looked up to reach it, before.
    pub(super) fn known_addresses(&self, host: &Name) -> Option<Addresses> {
        let now = self.now();
        let validated: Vec<IpAddr> = [RecordType::A, RecordType::AAAA]
            .into_iter()
            .filter_map(|rtype| self.cache.get(host, rtype, now))
            .flat_map(|entry| match entry.known() {
                Known::Positive { set, .. } => addresses_of(&set).collect::<Vec<_>>(),
                Known::Negative { .. } => Vec::new(),
            })
            .collect();
        match validated.is_empty() {
            true => self.zones.reached(host, now),
            false => Some(Addresses { all: validated, by_alias: false }),
        }
    }

    /// Looks one name server up, only to reach it: A, and AAAA only where there is no A, so that a delegation costs
    /// little.
    pub(super) fn look_server_up<'a>(self: &'a Arc<Self>, context: &'a Context, host: Name) -> BoxFuture<'a, Found> {
        async move {
            if let Some(known) = self.known_addresses(&host) {
                return Found { host, addresses: known.all, alias: None };
            }
            let inner = context.reaching(&host);
            let (mut addresses, mut ttl, mut failed) = (Vec::new(), NO_ADDRESS_TTL, false);
            for (rtype, wanted) in
                [(RecordType::A, self.settings.ipv4), (RecordType::AAAA, self.settings.ipv6 != Some(false))]
            {
                if !wanted || !addresses.is_empty() {
                    continue;
                }
                match self.descend(&inner, &host, rtype, &[]).await {
                    Ok(Heard { meaning: Meaning::Alias(alias), .. }) => {
                        return Found { host, addresses, alias: Some(alias.target) };
                    }
                    Ok(heard) => {
                        if let Meaning::Answer(set) = heard.meaning {
                            ttl = self.zones.ttl_within(&heard.zone, set.ttl, self.now());
                            addresses = addresses_of(&set).collect();
                        }
                        // Parent and child may differ on the address of a name server: either may be right.
                        let glue = heard.zone.servers.iter().filter(|server| server.name == host);
                        addresses.extend(glue.flat_map(|server| server.addresses.iter().copied()));
                    }
                    Err(error) => {
                        failed = true;
                        // The other family's question goes to the same servers, which say nothing.
                        if matches!(error.cause, Cause::Timeout | Cause::Budget(_)) {
                            break;
                        }
                    }
                }
            }
            if !addresses.is_empty() || !failed {
                let known = Addresses { all: addresses.clone(), by_alias: false };
                self.zones.insert_reached(host.clone(), known, ttl, self.now());
            }
            Found { host, addresses, alias: None }
        }
        .boxed()
    }

    /// Remembers the addresses behind a name server that is an alias, which nothing else led to.
    pub(super) fn keep_alias_reached(&self, host: &Name, addresses: &[IpAddr]) {
        let ttl = if addresses.is_empty() { NO_ADDRESS_TTL } else { ALIAS_TTL };
        let known = Addresses { all: addresses.to_vec(), by_alias: true };
        self.zones.insert_reached(host.clone(), known, ttl, self.now());
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
                let mut found: Vec<IpAddr> = glue.flat_map(addresses_of).collect();
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
