//! Scripted servers in memory: delays, losses and habits, on tokio's paused clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use crate::clock::{Clock, Instant};
use crate::dns::BoxFuture;
use crate::resolver::budget::Budget;
use crate::resolver::message::{Message, OPTION_COOKIE, Rcode};
use crate::resolver::servers::{Ask, AskError, Exchanger, Judgement, Rejection, Reply};
use crate::resolver::settings::Settings;
use crate::resolver::transport::{Accept, NetError, Network, QuestionId, sent_again_at};

/// A query as a server sees it.
pub struct Seen {
    pub octets: Vec<u8>,
    pub message: Message,
    pub tcp: bool,
    /// Queries that this server saw before this one.
    pub before: usize,
}

impl Seen {
    /// The query turned into an answer without records: authoritative, with this response code.
    pub fn answer(&self, rcode: u8) -> Vec<u8> {
        let mut octets = self.octets.clone();
        octets[2] |= 0x84;
        octets[3] = rcode & 0x0f;
        // Drop the OPT record: a server's habit decides whether to add one.
        octets.truncate(self.question_end());
        octets[11] = 0;
        octets
    }

    /// Adds an OPT record with this extended code and cookie.
    pub fn with_opt(&self, mut octets: Vec<u8>, extended: u8, cookie: &[u8]) -> Vec<u8> {
        octets[11] = 1;
        octets.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, extended, 0, 0x80, 0]);
        if cookie.is_empty() {
            octets.extend_from_slice(&[0, 0]);
        } else {
            octets.extend_from_slice(&(cookie.len() as u16 + 4).to_be_bytes());
            octets.extend_from_slice(&OPTION_COOKIE.to_be_bytes());
            octets.extend_from_slice(&(cookie.len() as u16).to_be_bytes());
            octets.extend_from_slice(cookie);
        }
        octets
    }

    /// An answer as a healthy server gives it: with a record.
    pub fn good(&self) -> Vec<u8> {
        if self.edns() { self.with_opt(self.records(), 0, &[]) } else { self.records() }
    }

    /// An answer with one MX record, `10 .`.
    pub fn records(&self) -> Vec<u8> {
        let mut octets = self.answer(0);
        octets[7] = 1;
        octets.extend_from_slice(&[0xc0, 12, 0, 15, 0, 1, 0, 0, 0, 60, 0, 3, 0, 10, 0]);
        octets
    }

    pub fn edns(&self) -> bool {
        self.message.edns.is_some()
    }

    /// The cookie option of the query.
    pub fn cookie(&self) -> Vec<u8> {
        self.message.edns.as_ref().and_then(|edns| edns.option(OPTION_COOKIE)).unwrap_or_default().to_vec()
    }

    pub fn question_end(&self) -> usize {
        let name = self.message.question.as_ref().expect("one question").name.clone();
        12 + name.iter().map(|label| label.len() + 1).sum::<usize>() + 1 + 4
    }
}

/// What a server sends back, each after a delay; nothing is silence.
pub type Habit = Arc<dyn Fn(&Seen) -> Vec<(Duration, Vec<u8>)> + Send + Sync>;

/// How a server takes connections and datagrams.
#[derive(Clone)]
pub struct Server {
    pub habit: Habit,
    pub error: Option<NetError>,
    /// Connections are refused.
    pub no_tcp: bool,
}

/// A log line: where, over TCP, the query.
pub struct Line {
    pub server: SocketAddr,
    pub tcp: bool,
    pub message: Message,
}

pub struct World {
    servers: Mutex<HashMap<SocketAddr, Server>>,
    log: Mutex<Vec<Line>>,
    loss: f64,
    random: Mutex<StdRng>,
}

impl World {
    /// A world in which each datagram is lost with this probability, each way.
    pub fn lossy(loss: f64, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            servers: Mutex::default(),
            log: Mutex::default(),
            loss,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        })
    }

    pub fn new() -> Arc<Self> {
        Self::lossy(0.0, 1)
    }

    /// Adds or replaces a server.
    pub fn put(&self, server: &str, habit: impl Fn(&Seen) -> Vec<(Duration, Vec<u8>)> + Send + Sync + 'static) {
        let server_ = Server { habit: Arc::new(habit), error: None, no_tcp: false };
        self.servers.lock().insert(address(server), server_);
    }

    pub fn change(&self, server: &str, change: impl FnOnce(&mut Server)) {
        change(self.servers.lock().get_mut(&address(server)).expect("a server"));
    }

    /// A server that answers after this time.
    pub fn put_good(&self, server: &str, delay: u64) {
        self.put(server, move |seen| after(delay, seen.good()));
    }

    /// A server that never answers.
    pub fn put_silent(&self, server: &str) {
        self.put(server, |_| Vec::new());
    }

    /// Queries that a server saw, and forgets them.
    pub fn take_log(&self) -> Vec<Line> {
        std::mem::take(&mut *self.log.lock())
    }

    fn lost(&self) -> bool {
        self.loss > 0.0 && self.random.lock().random_bool(self.loss)
    }

    async fn exchange(
        &self,
        server: SocketAddr,
        query: &[u8],
        accept: Accept<'_>,
        timeout: Duration,
        tcp: bool,
    ) -> Result<Vec<u8>, NetError> {
        let end = Instant::now() + timeout;
        let message = Message::parse(query).expect("a query");
        let known = self.servers.lock().get(&server).cloned();
        let mut answers = Vec::new();
        let before = {
            let mut log = self.log.lock();
            let before = log.iter().filter(|line| line.server == server).count();
            log.push(Line { server, tcp, message: message.clone() });
            before
        };
        if let Some(known) = known {
            if let Some(error) = known.error {
                return Err(error);
            }
            if tcp && known.no_tcp {
                return Err(NetError::Refused);
            }
            if tcp || !self.lost() {
                answers = (known.habit)(&Seen { octets: query.to_vec(), message, tcp, before });
            }
        }
        answers.sort_by_key(|(delay, _)| *delay);
        let sent = Instant::now();
        for (delay, octets) in answers {
            if (!tcp && self.lost()) || sent + delay > end {
                continue;
            }
            tokio::time::sleep_until(sent + delay).await;
            if accept(&octets) {
                return Ok(octets);
            }
        }
        tokio::time::sleep_until(end).await;
        Err(NetError::Timeout)
    }
}

impl Network for World {
    fn udp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        again: &'a Notify,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(sent_again_at(again, move || self.exchange(server, query, accept, timeout, false)))
    }

    fn tcp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(self.exchange(server, query, accept, timeout, true))
    }
}

/// An answer after some milliseconds.
pub fn after(delay: u64, octets: Vec<u8>) -> Vec<(Duration, Vec<u8>)> {
    vec![(Duration::from_millis(delay), octets)]
}

/// `198.41.0.4` or `2001:503:ba3e::2:30`, with port 53.
pub fn address(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().expect("an address"), 53)
}

/// Asks these servers about `name`; accepts NOERROR and NXDOMAIN, rejects the rest by its code.
pub async fn ask(exchanger: &Exchanger, servers: &[&str], question: &Ask) -> Result<Reply, AskError> {
    ask_with(exchanger, servers, question, &Arc::default()).await
}

pub async fn ask_with(
    exchanger: &Exchanger,
    servers: &[&str],
    question: &Ask,
    budget: &Arc<Budget>,
) -> Result<Reply, AskError> {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| address(server)).collect();
    let judge = |message: &Message, _: SocketAddr| match message.rcode {
        Rcode::NoError | Rcode::NxDomain => Judgement::Accept,
        Rcode::ServFail => Judgement::Reject(Rejection::ServFail),
        Rcode::Refused => Judgement::Reject(Rejection::Refused),
        Rcode::NotImp => Judgement::Reject(Rejection::NotImp),
        _ => Judgement::Reject(Rejection::FormErr),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    exchanger.ask(&Name::root(), &servers, &Arc::new(question.clone()), budget, deadline, &judge).await
}

pub fn exchanger(world: &Arc<World>) -> Exchanger {
    with(world, |_| ())
}

pub fn with(world: &Arc<World>, change: impl FnOnce(&mut Settings)) -> Exchanger {
    let mut settings = Settings::default();
    change(&mut settings);
    let network: Arc<dyn Network> = Arc::clone(world) as Arc<dyn Network>;
    Exchanger::seeded(network, Clock::manual(1_700_000_000), &settings, 42)
}

pub fn question(name: &str) -> Ask {
    Ask::new(name.parse().expect("a name"), RecordType::MX)
}
