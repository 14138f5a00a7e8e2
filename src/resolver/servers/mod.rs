//! Questions to the servers of one zone: whom to ask, when to ask another, what to believe of the packet.
//!
//! In: the zone's server addresses, a question, a budget, a deadline and a judge. Out: the first message that
//! the judge accepts. Never looks at zones, caches or signatures: that is the judge's matter.

mod attempt;
mod exchange;
mod matching;
mod question;
mod random;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::exchange::Exchanges;
use self::question::Question;
use self::random::Random;
use self::table::{Form, Table};
use super::budget::Budget;
use super::message::Message;
use super::settings::Settings;
use super::transport::Network;
use crate::clock::{Clock, Instant};
use crate::dns::{Bogus, Cause, Habits};
use crate::limits;

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
    /// Name in the servers' certificate: ask over TLS only (RFC 7858, RFC 8310 §5).
    pub tls: Option<Arc<str>>,
    /// Servers not to ask (again), such as those whose answer was bogus.
    pub excluded: Vec<SocketAddr>,
}

impl Ask {
    /// A question to authoritative servers, with nobody excluded.
    pub fn new(name: Name, rtype: RecordType) -> Self {
        Self { name, rtype, recursion_desired: false, edns_required: false, tls: None, excluded: Vec::new() }
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
    /// [`Cause::ServFail`], [`Cause::ErrorCode`], [`Cause::Malformed`], [`Cause::Timeout`], [`Cause::NoServers`],
    /// [`Cause::Budget`] or [`Cause::Network`].
    pub cause: Cause,
    /// The server it went wrong at, where there was one.
    pub server: Option<SocketAddr>,
}

/// Asks servers, and remembers how each of them behaves. Cloning shares the memory.
#[derive(Clone)]
pub struct Exchanger {
    shared: Arc<Shared>,
}

impl Exchanger {
    /// An exchanger that knows no server yet.
    pub fn new(network: Arc<dyn Network>, clock: Clock, settings: &Settings) -> Self {
        Self::with_random(network, clock, settings, Random::from_system())
    }

    /// The same with ids, cases, cookies and choices that follow from `seed`: for tests alone.
    pub fn seeded(network: Arc<dyn Network>, clock: Clock, settings: &Settings, seed: u64) -> Self {
        Self::with_random(network, clock, settings, Random::from_seed(seed))
    }

    fn with_random(network: Arc<dyn Network>, clock: Clock, settings: &Settings, random: Random) -> Self {
        let (table, probes) = (Mutex::default(), Arc::new(Semaphore::new(limits::PROBES_IN_FLIGHT)));
        let exchanges = Exchanges::default();
        let settings = settings.clone();
        Self { shared: Arc::new(Shared { network, clock, settings, table, random, probes, exchanges }) }
    }

    /// The network that it asks over.
    pub fn network(&self) -> Arc<dyn Network> {
        Arc::clone(&self.shared.network)
    }

    /// Puts these into a random order.
    pub fn shuffle<T>(&self, them: &mut [T]) {
        self.shared.random.shuffle(them);
    }

    /// The address with the port that authoritative servers listen on.
    pub fn address(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.shared.settings.upstream_port)
    }

    /// What was found out of a server's ways so far.
    pub fn habits(&self, ip: IpAddr) -> Habits {
        self.shared.table.lock().habits(self.address(ip), self.shared.clock.instant())
    }

    /// Asks the servers of `zone` until `judge` accepts an answer: best first, hedged, bounded by `deadline`.
    /// Every packet sent is charged to `budget`.
    pub async fn ask(
        &self,
        zone: &Name,
        servers: &[SocketAddr],
        question: &Arc<Ask>,
        budget: &Arc<Budget>,
        deadline: Instant,
        judge: Judge<'_>,
    ) -> Result<Reply, AskError> {
        Question { shared: &self.shared, zone, ask: question, budget, deadline, judge }.run(servers).await
    }

    /// Has what is open of this question sent once more, if that was long ago: somebody new waits for it.
    pub fn send_again(&self, name: &Name, rtype: RecordType, budget: &Budget) {
        self.shared.exchanges.send_again(&self.shared, name, u16::from(rtype), budget);
    }
}

/// What all questions share.
struct Shared {
    network: Arc<dyn Network>,
    clock: Clock,
    settings: Settings,
    /// Never locked across an await.
    table: Mutex<Table>,
    random: Random,
    /// Bounds the probes of silent servers.
    probes: Arc<Semaphore>,
    exchanges: Exchanges,
}

impl Shared {
    /// How to ask `server` this.
    fn form(&self, server: SocketAddr, ask: &Ask) -> Form {
        let now = self.clock.instant();
        let fresh = self.random.cookie();
        // A forwarder was named by the operator, and may not be fit for it; TLS needs none of it.
        let mixed_case = self.settings.case_randomisation && !ask.recursion_desired && ask.tls.is_none();
        let mut form = self.table.lock().form(server, fresh, mixed_case, now);
        if ask.edns_required {
            (form.edns, form.doubts.edns) = (true, false);
        }
        form
    }

    fn timeout(&self, server: SocketAddr) -> Duration {
        self.table.lock().outlook(server, &Name::root(), self.clock.instant()).timeout
    }
}

#[cfg(test)]
mod tests;
