//! From a question to the message that answers it: follow referrals from the deepest known zone cut.
//!
//! In: a question and a [`Context`]. Out: the zone whose server answered, its message and what it means.
//! Never judges signatures: that is `check` and `trust`; nothing that leaves here may be handed out as it is.

pub mod classify;
mod further;
pub mod minimise;
mod reach;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;

use self::classify::{Delegation, Meaning, Useless, classify};
use self::further::Further;
use self::minimise::Ask as Shown;
use super::core::{Context, Core, Purpose, failure};
use super::delegation::{NameServer, Referral, Zone};
use super::flight::Turn;
use super::message::{Message, Rcode};
use super::servers::{Ask, AskError, Judgement, Rejection, Reply};
use super::trust::ZoneTrust;
use crate::clock::Stamp;
use crate::dns::{Cause, Failure, text};
use crate::limits;

/// A message from a server of a zone, and what it means.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// The zone that was asked.
    pub zone: Arc<Zone>,
    /// The server that answered.
    pub server: SocketAddr,
    /// What it said.
    pub message: Message,
    /// What that means.
    pub meaning: Meaning,
    /// When that was.
    pub at: Stamp,
}

impl Heard {
    /// Whether this question was asked.
    pub fn is_of(&self, name: &Name, rtype: RecordType) -> bool {
        self.message.question.as_ref().is_some_and(|question| question.name == *name && question.rtype == rtype)
    }
}

/// Patience with the addresses at hand before further name servers are looked up beside them.
const REACH_AFTER: Duration = Duration::from_millis(1500);

impl Core {
    /// Follows referrals until a server answers `name` and `rtype`. `excluded` servers are not asked: their
    /// answers were bogus.
    pub async fn descend(
        self: &Arc<Self>,
        context: &Context,
        name: &Name,
        rtype: RecordType,
        excluded: &[SocketAddr],
    ) -> Result<Heard, Failure> {
        let mut zone = self.zones.deepest(name, rtype == RecordType::DS, self.now());
        let mut excluded = excluded.to_vec();
        let mut probes = 0;
        let mut waited_at = None;
        let mut went_back = None;
        loop {
            self.prepare(context, &zone);
            let lead = match self.take_turn(context, &zone, name, rtype, waited_at.as_ref()) {
                Some(Turn::Wait(wait)) => {
                    let _ = tokio::time::timeout_at(context.deadline, wait.ended()).await;
                    waited_at = Some(zone.name.clone());
                    zone = self.zones.deepest(name, rtype == RecordType::DS, self.now());
                    continue;
                }
                Some(Turn::First(lead)) => Some(lead),
                None => None,
            };
            let shown = self.shown(&zone, name, probes);
            let asked = match &shown {
                Shown::Full => self.ask_zone(context, &zone, name, rtype, &excluded).await,
                Shown::Probe(probe) => self.ask_zone(context, &zone, probe, RecordType::A, &excluded).await,
            };
            let (heard, probe) = match (asked, shown) {
                (Ok(heard), Shown::Full) if !matches!(heard.meaning, Meaning::Referral(_)) => {
                    if matches!(heard.meaning, Meaning::Answer(_)) && !describes_zone(rtype) {
                        heard.zone.mark_data();
                    }
                    return Ok(heard);
                }
                (Ok(heard), Shown::Full) => (heard, None),
                (Ok(heard), Shown::Probe(probe)) => (heard, Some(probe)),
                (Err(error), Shown::Probe(_)) if !matches!(error.cause, Cause::Budget(_)) => {
                    // RFC 9156 §3: a server that breaks on the short question may answer the full one.
                    probes = minimise::MAX_PROBES;
                    continue;
                }
                (Err(error), _) => {
                    // A referral that leads nowhere may be one server's mistake, or lie: ask another parent server.
                    zone = self.step_back(&zone, &mut excluded, &mut went_back, error)?;
                    continue;
                }
            };
            match heard.meaning {
                Meaning::Referral(delegation) => {
                    context
                        .budget
                        .referral()
                        .map_err(|limit| failure(&zone, name, rtype, Cause::Budget(limit.0), Some(heard.server)))?;
                    let child = self.child(&zone, delegation, heard.server);
                    if let Some((failed, error)) = &went_back
                        && same_servers(failed, &child)
                    {
                        return Err(Failure::clone(error));
                    }
                    zone = self.zones.insert(child);
                }
                Meaning::NxDomain => probes = minimise::MAX_PROBES,
                Meaning::Answer(_) | Meaning::Alias(_) | Meaning::TooLong(_) | Meaning::NoData => {
                    probes += 1;
                    if let Some(probe) = probe {
                        self.zones.insert_no_cut(probe, NO_CUT_TTL, self.now());
                    }
                }
            }
            drop(lead);
        }
    }

    /// What can begin before it is needed: priming, and the keys of a zone that says it is signed.
    fn prepare(self: &Arc<Self>, context: &Context, zone: &Arc<Zone>) {
        if zone.name.is_root() && !zone.is_fresh(self.now()) {
            self.start_priming();
        }
        if context.purpose == Purpose::Answer && !context.checking_disabled {
            self.start_trust(context, zone);
        }
    }

    /// In a registry zone, equal descents wait for the first.
    fn take_turn(
        &self,
        context: &Context,
        zone: &Zone,
        name: &Name,
        rtype: RecordType,
        waited_at: Option<&Name>,
    ) -> Option<Turn<(Name, Name)>> {
        let labels = zone.name.iter().count();
        let below = name.iter().count() > labels && !(rtype == RecordType::DS && name.iter().count() == labels + 1);
        if context.purpose == Purpose::Reach || !below || !zone.is_registry() || waited_at == Some(&zone.name) {
            return None;
        }
        Some(self.descents.take((zone.name.clone(), name.trim_to(labels + 1))))
    }

    fn shown(&self, zone: &Zone, name: &Name, probes: u8) -> Shown {
        if !self.settings.qname_minimisation {
            return Shown::Full;
        }
        let now = self.now();
        minimise::next(&zone.name, name, zone.is_registry(), probes, |candidate| self.zones.is_cut_free(candidate, now))
    }

    /// The child zone that a referral names.
    pub fn child(&self, zone: &Arc<Zone>, delegation: Delegation, source: SocketAddr) -> Zone {
        let hosts = delegation.ns.target_names();
        let mut servers: Vec<NameServer> = Vec::with_capacity(hosts.len());
        servers.extend(hosts.into_iter().map(|name| {
            let own = delegation.glue.iter().filter(|(host, _)| *host == name);
            let elsewhere = delegation.hints.iter().filter(|(host, _)| *host == name);
            NameServer {
                addresses: own.map(|(_, address)| *address).collect(),
                hints: elsewhere.map(|(_, address)| *address).collect(),
                name,
            }
        }));
        // Nobody knows who is named first for being alive.
        self.exchanger.shuffle(&mut servers);
        let ttl = delegation.ns.ttl.clamp(MIN_CUT_TTL, limits::MAX_TTL);
        let mut child = Zone::new(delegation.child, Some(Arc::clone(zone)), servers, self.now(), ttl);
        child.referral = Referral::new(&child.name, delegation.ds.as_ref(), &delegation.denial, source);
        child
    }

    /// Once per lookup, goes back to the parent of a zone that cannot be used, leaving out the server that
    /// referred to it.
    fn step_back(
        &self,
        zone: &Arc<Zone>,
        excluded: &mut Vec<SocketAddr>,
        went_back: &mut Option<(Arc<Zone>, Failure)>,
        error: Failure,
    ) -> Result<Arc<Zone>, Failure> {
        if let Some((_, first)) = went_back {
            return Err(first.clone());
        }
        let (Some(parent), Some(source)) = (&zone.parent, zone.referral.source) else { return Err(error) };
        if matches!(error.cause, Cause::Budget(_)) {
            return Err(error);
        }
        // Where this lookup left servers out itself, for what one zone below answered, the cut is as good as ever: others
        // go on with it, unless the parent says otherwise now.
        if !self.at_hand(zone).iter().any(|server| excluded.contains(server)) {
            self.zones.forget(zone);
        }
        excluded.push(source);
        *went_back = Some((Arc::clone(zone), error));
        Ok(Arc::clone(parent))
    }

    /// Asks the servers of one zone, those at hand first; further name servers are looked up when those fail
    /// or are slow.
    pub async fn ask_zone(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        name: &Name,
        rtype: RecordType,
        excluded: &[SocketAddr],
    ) -> Result<Heard, Failure> {
        let at_hand: Vec<SocketAddr> =
            self.at_hand(zone).into_iter().filter(|server| !excluded.contains(server)).collect();
        let mut first = pin!(self.ask_servers(context, zone, &at_hand, name, rtype, excluded));
        let mut first_error = None;
        if at_hand.is_empty() {
            first_error = Some(failure(zone, name, rtype, Cause::NoServers, None));
        } else {
            match tokio::time::timeout(REACH_AFTER, &mut first).await {
                Ok(Ok(heard)) => return Ok(heard),
                Ok(Err(error)) => first_error = Some(error),
                Err(_) => {}
            }
        }
        // Rare, and large enough to be kept out of every lookup's memory.
        let further = || {
            let further = Further { core: self, context, zone, name, rtype, excluded };
            let at_hand = &at_hand;
            Box::pin(async move { further.run(at_hand).await })
        };
        match first_error {
            Some(error) if context.budget.is_spent() => Err(error),
            Some(error) => further().await.map_err(|other| more_telling(error, other)),
            None => {
                let mut further = further();
                tokio::select! {
                    heard = &mut first => match heard {
                        Ok(heard) => Ok(heard),
                        Err(error) => further.await.map_err(|other| more_telling(error, other)),
                    },
                    heard = &mut further => match heard {
                        Ok(heard) => Ok(heard),
                        Err(_) => first.await,
                    },
                }
            }
        }
    }

    async fn ask_servers(
        &self,
        context: &Context,
        zone: &Arc<Zone>,
        servers: &[SocketAddr],
        name: &Name,
        rtype: RecordType,
        excluded: &[SocketAddr],
    ) -> Result<Heard, Failure> {
        let forwarder = zone.forward.is_some();
        // Without EDNS there are no signatures. To reach a server none are needed.
        let edns_required = context.purpose == Purpose::Answer && self.is_announced_signed(zone);
        let mut question = Arc::new(Ask {
            name: name.clone(),
            rtype,
            recursion_desired: forwarder,
            tls: zone.forward.as_ref().and_then(|forward| forward.tls.clone()),
            edns_required,
            excluded: excluded.to_vec(),
        });
        // What the reply means, from the moment it is accepted.
        let accepted: Mutex<Option<Meaning>> = Mutex::new(None);
        // The answer of a recursive server, for the case that no server of the zone does better.
        let second_best: Mutex<Option<Reply>> = Mutex::new(None);
        let judge = |message: &Message, server: SocketAddr| match classify(message, &zone.name, name, rtype, forwarder)
        {
            Ok(meaning) => {
                *accepted.lock() = Some(meaning);
                Judgement::Accept
            }
            Err(useless) => {
                match useless {
                    Useless::Lame => zone.mark_lame(server, self.now()),
                    Useless::Recursive => {
                        second_best.lock().get_or_insert_with(|| Reply { message: message.clone(), server });
                    }
                    Useless::Error(_) | Useless::Malformed => {}
                }
                Judgement::Reject(rejection(useless))
            }
        };
        let ask = async |question: &Arc<Ask>| {
            let begun = self.clock.instant();
            let reply =
                self.exchanger.ask(&zone.name, servers, question, &context.budget, context.deadline, &judge).await;
            let now = self.clock.instant();
            if reply.is_ok() {
                self.failures.heard(&zone.name, now);
            }
            self.recent.asked(|| text(&zone.name), now.saturating_duration_since(begun), reply.is_ok(), now);
            reply
        };
        let mut reply = ask(&question).await;
        if edns_required && all_useless(&reply) && !matches!(self.known_trust(&zone.name), Some(ZoneTrust::Secure(_))) {
            // The zone only says that it is signed; should it count as unsigned, an answer without EDNS will do.
            Arc::make_mut(&mut question).edns_required = false;
            reply = ask(&question).await;
        }
        let (Reply { message, server }, meaning) = match (reply, second_best.into_inner()) {
            (Ok(reply), _) => (reply, accepted.into_inner()),
            (Err(_), Some(reply)) => {
                let meaning = classify(&reply.message, &zone.name, name, rtype, true).ok();
                (reply, meaning)
            }
            (Err(AskError { cause, server }), None) => return Err(failure(zone, name, rtype, cause, server)),
        };
        match meaning {
            Some(meaning) => Ok(Heard { zone: Arc::clone(zone), server, message, meaning, at: self.now() }),
            // Judged to be of use above, so this is never reached; no reason to panic about it.
            None => Err(failure(zone, name, rtype, Cause::Malformed, Some(server))),
        }
    }
}

/// Whether the servers answered, none with anything of use.
fn all_useless(reply: &Result<Reply, AskError>) -> bool {
    reply.as_ref().is_err_and(|error| {
        matches!(error.cause, Cause::ServFail | Cause::ErrorCode(_) | Cause::Lame | Cause::Malformed)
    })
}

/// How long a name that turned out to be no zone cut is not probed again.
const NO_CUT_TTL: u32 = 900;
/// A delegation is usable for this long at least: its own lookup, and those that wait for it.
const MIN_CUT_TTL: u32 = 5;

/// Types that every zone has, a registry, too.
fn describes_zone(rtype: RecordType) -> bool {
    matches!(rtype, RecordType::NS | RecordType::SOA | RecordType::DS | RecordType::DNSKEY)
}

fn rejection(useless: Useless) -> Rejection {
    match useless {
        Useless::Error(Rcode::Refused) => Rejection::Refused,
        Useless::Error(Rcode::NotImp) => Rejection::NotImp,
        Useless::Error(Rcode::FormErr | Rcode::BadVers) => Rejection::FormErr,
        Useless::Error(_) => Rejection::ServFail,
        Useless::Lame | Useless::Recursive => Rejection::Lame,
        Useless::Malformed => Rejection::Malformed,
    }
}

/// Of two failures of one question, the one that says more: what a server answered, rather than that there was
/// none to ask.
fn more_telling(first: Failure, second: Failure) -> Failure {
    if first.cause == Cause::NoServers { second } else { first }
}

fn same_servers(one: &Zone, other: &Zone) -> bool {
    let names = |zone: &Zone| {
        let mut names: Vec<_> = zone.servers.iter().map(|server| server.name.clone()).collect();
        names.sort();
        names
    };
    let addresses = |zone: &Zone| {
        let mut all: Vec<_> = zone.glue().collect();
        all.sort();
        all
    };
    one.name == other.name && names(one) == names(other) && addresses(one) == addresses(other)
}
