//! Questions to the servers of one zone: whom to ask, when to ask another, what to believe of the packet.
//!
//! In: the zone's server addresses, a question, a budget, a deadline and a judge. Out: the first message that
//! the judge accepts. Never looks at zones, caches or signatures: that is the judge's matter.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::budget::Budget;
use super::message::{Message, Query};
use super::settings::Settings;
use super::transport::Network;
use crate::clock::{Clock, Instant};
use crate::dns::{Bogus, Cause};

/// A question to the servers of a zone.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Name, lower case.
    pub name: Name,
    /// Type.
    pub rtype: RecordType,
    /// The servers are forwarders that recurse (and were named by the operator, so that special-purpose
    /// addresses are allowed).
    pub recursion_desired: bool,
    /// The zone is known to be signed: an answer without EDNS could not carry signatures, so a server that
    /// gives no other counts as failing.
    pub edns_required: bool,
    /// Servers not to ask (again), such as those whose answer was bogus.
    pub excluded: Vec<SocketAddr>,
}

impl Ask {
    /// A question to authoritative servers, with nobody excluded.
    pub fn new(name: Name, rtype: RecordType) -> Self {
        Self { name, rtype, recursion_desired: false, edns_required: false, excluded: Vec::new() }
    }
}

/// Decides about a message that answers the question as asked, from the server as asked.
pub type Judge<'a> = &'a (dyn Fn(&Message, SocketAddr) -> Judgement + Send + Sync);

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// This is the reply.
    Accept,
    /// Ask another server; the reason is kept for the failure.
    Reject(Rejection),
}

/// Why a server's answer is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NOTIMP.
    NotImp,
    /// FORMERR.
    FormErr,
    /// Not authoritative for the zone, or refers upward or elsewhere.
    Lame,
    /// Makes no sense.
    Malformed,
    /// Does not validate.
    Bogus(Bogus),
}

/// The message that was accepted, and who sent it.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message.
    pub message: Message,
    /// Its sender.
    pub server: SocketAddr,
}

/// No server gave a message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct AskError {
    /// What went wrong, the most telling of all that did: [`Cause::Bogus`], [`Cause::Lame`],
    /// [`Cause::ServFail`], [`Cause::Malformed`], [`Cause::Timeout`], [`Cause::NoServers`],
    /// [`Cause::Budget`] or [`Cause::Network`].
    pub cause: Cause,
    /// The server it went wrong at, where there was one.
    pub server: Option<SocketAddr>,
}

/// Asks servers, and remembers how each of them behaves.
pub struct Exchanger {
    network: Arc<dyn Network>,
    clock: Clock,
    settings: Settings,
}

impl Exchanger {
    /// An exchanger that knows no server yet.
    pub fn new(network: Arc<dyn Network>, clock: Clock, settings: &Settings) -> Self {
        Self { network, clock, settings: settings.clone() }
    }

    /// The address with the port that authoritative servers listen on.
    pub fn address(&self, ip: std::net::IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.settings.upstream_port)
    }

    /// Asks the servers of `zone` until `judge` accepts an answer: best first, hedged, bounded by `deadline`.
    /// Every packet sent is charged to `budget`.
    pub async fn ask(
        &self,
        zone: &Name,
        servers: &[SocketAddr],
        question: &Ask,
        budget: &Budget,
        deadline: Instant,
        judge: Judge<'_>,
    ) -> Result<Reply, AskError> {
        let _ = zone;
        let mut error = AskError { cause: Cause::NoServers, server: None };
        for &server in servers.iter().filter(|server| !question.excluded.contains(server)) {
            budget.query().map_err(|exceeded| AskError { cause: Cause::Budget(exceeded.0), server: Some(server) })?;
            let id = rand::random::<u16>();
            let query = Query {
                name: question.name.clone(),
                rtype: question.rtype,
                recursion_desired: question.recursion_desired,
                edns: Some(Box::default()),
            };
            let accept = |octets: &[u8]| octets.starts_with(&id.to_be_bytes());
            let timeout = deadline.saturating_duration_since(self.clock.instant());
            error.server = Some(server);
            match self.network.udp(server, &query.encode(id), &accept, timeout).await.map(|m| Message::parse(&m)) {
                Ok(Ok(message)) => match judge(&message, server) {
                    Judgement::Accept => return Ok(Reply { message, server }),
                    Judgement::Reject(_) => error.cause = Cause::ServFail,
                },
                Ok(Err(_)) => error.cause = Cause::Malformed,
                Err(_) => error.cause = Cause::Timeout,
            }
        }
        Err(error)
    }
}
