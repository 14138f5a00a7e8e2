//! Name servers whose addresses are not at hand: looked up a few at a time, while those that were found are asked.
//!
//! No name server waits for another: one that is dead, or whose own zone is, costs a moment and not the answer.

use std::collections::VecDeque;
use std::mem::take;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::{Name, RecordType};

use super::{Heard, REACH_AFTER, more_telling};
use crate::clock::Instant;
use crate::dns::{Cause, Failure};
use crate::limits;
use crate::resolver::core::{Context, Core, failure};
use crate::resolver::delegation::{NameServer, Zone};

/// Name servers looked up at a time: enough not to hang on one, not so many that a delegation fans out.
const AT_A_TIME: usize = 2;
/// Patience with these before another one is looked up.
const PACE: Duration = Duration::from_millis(700);
/// Aliases of aliases that are followed to a name server.
const ALIAS_HOPS: usize = 3;

/// What the lookup of a name server came to.
pub(super) struct Found {
    /// The name that was looked up.
    pub host: Name,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it leads, if it is an alias.
    pub alias: Option<Name>,
}

/// A question to the servers of one zone that are not at hand.
pub(super) struct Further<'a> {
    pub core: &'a Arc<Core>,
    pub context: &'a Context,
    pub zone: &'a Arc<Zone>,
    pub name: &'a Name,
    pub rtype: RecordType,
    pub excluded: &'a [SocketAddr],
}

/// Where it stands.
struct Search<'a> {
    /// Not to be asked (again).
    tried: Vec<SocketAddr>,
    /// Found, and not asked yet.
    found: Vec<SocketAddr>,
    /// To be looked up.
    hosts: VecDeque<Name>,
    /// Name servers that are aliases (RFC 2181 §10.3 forbids it), each with where it leads: looked up after all others.
    aliases: VecDeque<(Vec<Name>, Name)>,
    /// Name servers reached by an alias, with the names on the way.
    aliased: Vec<(Vec<Name>, Name)>,
    /// Asked when nothing better is left.
    last: Vec<SocketAddr>,
    looking: FuturesUnordered<BoxFuture<'a, Found>>,
    asking: FuturesUnordered<BoxFuture<'a, Result<Heard, Failure>>>,
    /// When more is done than waiting.
    due: Instant,
    error: Option<Failure>,
}

impl<'a> Further<'a> {
    /// Asks until a server answers, or none is left. `at_hand` are asked by somebody else.
    pub async fn run(&self, at_hand: &[SocketAddr]) -> Result<Heard, Failure> {
        let mut search = self.begin(at_hand);
        loop {
            let now = self.core.clock.instant();
            let is_due = search.due <= now;
            if (search.asking.is_empty() || is_due) && !search.found.is_empty() {
                self.ask(&mut search, now);
            } else {
                self.look_further(&mut search, is_due, now);
            }
            if now >= self.context.deadline || search.looking.is_empty() && search.asking.is_empty() {
                let none = || failure(self.zone, self.name, self.rtype, Cause::NoServers, None);
                return Err(search.error.unwrap_or_else(none));
            }
            let wake = if search.due <= now { self.context.deadline } else { search.due };
            tokio::select! {
                biased;
                Some(outcome) = search.asking.next(), if !search.asking.is_empty() => match outcome {
                    Ok(heard) => return Ok(heard),
                    Err(error) if matches!(error.cause, Cause::Budget(_)) && self.context.budget.is_spent() => {
                        return Err(error);
                    }
                    Err(error) => {
                        search.error = Some(match search.error.take() {
                            Some(first) => more_telling(first, error),
                            None => error,
                        });
                        search.due = self.core.clock.instant();
                    }
                },
                Some(found) = search.looking.next(), if !search.looking.is_empty() => self.take_in(&mut search, found),
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn begin(&self, at_hand: &[SocketAddr]) -> Search<'a> {
        let (core, zone, now) = (self.core, self.zone, self.core.now());
        let mut search = Search {
            tried: at_hand.iter().chain(self.excluded).copied().collect(),
            found: Vec::new(),
            hosts: VecDeque::new(),
            aliases: VecDeque::new(),
            aliased: Vec::new(),
            last: Vec::new(),
            looking: FuturesUnordered::new(),
            asking: FuturesUnordered::new(),
            due: core.clock.instant(),
            error: None,
        };
        if zone.forward.is_some() || self.context.under_way.len() >= limits::REACH_DEPTH {
            return search;
        }
        // A name server inside the zone cannot be found by asking the zone.
        let outside =
            |server: &&NameServer| !zone.name.zone_of(&server.name) && !self.context.under_way.contains(&server.name);
        // Those without glue first, then those whose glue may be wrong.
        let (bare, glued): (Vec<_>, Vec<_>) =
            zone.servers.iter().filter(outside).partition(|server| server.addresses.is_empty());
        let mut without_address = 0;
        for server in bare.into_iter().chain(glued) {
            match core.known_addresses(&server.name) {
                None => search.hosts.push_back(server.name.clone()),
                Some(known) if known.all.is_empty() => without_address += 1,
                Some(known) => {
                    let by_alias = known.by_alias;
                    let known = known.all.into_iter().map(|ip| core.exchanger.address(ip));
                    let (lame, good): (Vec<_>, Vec<_>) =
                        known.partition(|server| by_alias || zone.is_lame(*server, now));
                    search.last.extend(lame);
                    search.found.extend(good.into_iter().filter(|server| !search.tried.contains(server)));
                }
            }
        }
        search.tried.extend(&search.found);
        // A name that is known to have no address does not count; whoever names many of these gains little by it.
        let most = limits::GLUELESS_NS_PER_DELEGATION;
        search.hosts.truncate(most + most.min(without_address));
        search.last.extend(zone.servers.iter().flat_map(|server| &server.hints).map(|ip| core.exchanger.address(*ip)));
        search
    }

    /// Asks all that were found, beside those that are being asked.
    fn ask(&self, search: &mut Search<'a>, now: Instant) {
        let servers = take(&mut search.found);
        let Self { core, context, zone, name, rtype, excluded } = *self;
        search
            .asking
            .push(Box::pin(async move { core.ask_servers(context, zone, &servers, name, rtype, excluded).await }));
        search.due = now + REACH_AFTER;
    }

    /// Looks name servers up where nothing else goes on, or that takes long; at the end, what is a last resort.
    fn look_further(&self, search: &mut Search<'a>, is_due: bool, now: Instant) {
        let Self { core, context, .. } = *self;
        let idle = if search.asking.is_empty() { AT_A_TIME.saturating_sub(search.looking.len()) } else { 0 };
        for _ in 0..idle.max(usize::from(is_due)) {
            let Some(host) = search.hosts.pop_front() else { break };
            search.looking.push(core.look_server_up(context, host));
            search.due = now + PACE;
        }
        let is_idle = search.asking.is_empty() && search.looking.is_empty();
        if !is_idle && (search.due > now || !search.hosts.is_empty()) {
            return;
        }
        if let Some((way, target)) = search.aliases.pop_front() {
            search.looking.push(core.look_server_up(context, target.clone()));
            search.aliased.push((way, target));
            search.due = now + PACE;
        } else if !search.last.is_empty() {
            let last = take(&mut search.last);
            search.found.extend(last.into_iter().filter(|server| !search.tried.contains(server)));
            search.tried.extend(&search.found);
            if !search.found.is_empty() {
                self.ask(search, now);
            }
        }
    }

    fn take_in(&self, search: &mut Search<'a>, found: Found) {
        let way = search.aliased.iter().find(|(_, target)| *target == found.host).map(|(way, _)| way.clone());
        if let Some(target) = found.alias {
            let way: Vec<Name> = way.into_iter().flatten().chain([found.host]).collect();
            let is_new = !way.contains(&target) && search.aliased.iter().all(|(_, known)| *known != target);
            if way.len() <= ALIAS_HOPS && is_new && search.aliases.len() < limits::GLUELESS_NS_PER_DELEGATION {
                search.aliases.push_back((way, target));
            }
            return;
        }
        if let Some(host) = way.as_ref().and_then(|way| way.first()) {
            self.core.keep_alias_reached(host, &found.addresses);
        }
        for address in found.addresses.into_iter().map(|ip| self.core.exchanger.address(ip)) {
            if !search.tried.contains(&address) {
                search.tried.push(address);
                search.found.push(address);
            }
        }
    }
}
