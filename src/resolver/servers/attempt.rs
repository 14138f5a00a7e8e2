//! One try at one server, from the query to a message that answers it: EDNS and its fall-back, cookies, 0x20,
//! truncation. Never decides whether the message is of use.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{Either, select};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::matching::{Fit, fit};
use super::table::{Cookie, Form};
use super::{Ask, Shared};
use crate::clock::Instant;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::message::{Message, OPTION_COOKIE, Query, Rcode};
use crate::resolver::transport::NetError;
use crate::telemetry::metrics as names;

/// Messages sent in one try, at most: without cookie, without EDNS, over TCP, each for a reason.
const STEPS: usize = 5;
/// Waits for an answer with EDNS from a server that was silent and then answered without.
const EDNS_AGAIN: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(350), Duration::from_millis(500)];

/// A try at `server`.
pub(super) struct Attempt<'a> {
    pub shared: &'a Shared,
    pub server: SocketAddr,
    pub ask: &'a Ask,
    pub budget: &'a Budget,
    pub pace: &'a Pace,
    pub deadline: Instant,
    /// The server was silent, perhaps because of EDNS: see whether it answers without.
    pub doubt_edns: bool,
}

/// How a try ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With a message that answers the query, whatever it says.
    Answer(Box<Message>),
    /// With octets that repeat the query's id and question, and are no message.
    Malformed,
    /// Without an answer over UDP.
    Silent(NetError),
    /// Without an answer over a connection, which only servers that answered over UDP are asked for.
    Disconnected(NetError),
    /// Before sending: the limit that was reached.
    Exceeded(&'static str),
}

/// When the question goes out again. A try that sees the server at work postpones it.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Instant>);

impl Pace {
    /// Due at `when`.
    pub fn new(when: Instant) -> Self {
        Self(Mutex::new(when))
    }
    /// When it is due.
    pub fn due(&self) -> Instant {
        *self.0.lock()
    }
    /// Sets when it is due.
    pub fn set(&self, when: Instant) {
        *self.0.lock() = when;
    }
    /// Makes it due no earlier than `when`.
    fn postpone(&self, when: Instant) {
        let mut due = self.0.lock();
        *due = (*due).max(when);
    }
}

/// Why a datagram that nearly fits is checked over TCP instead of being believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The case of the question was not kept: a forgery, or a server that does not keep it.
    Case,
    /// A server that sends cookies sent none: a forgery, or it ceased to (RFC 7873 §5.3).
    Cookie,
}

impl Attempt<'_> {
    /// Runs the try to its end; within its own time limits, so that dropping it is not needed.
    pub async fn run(self) -> Ended {
        let ended = if self.doubt_edns { self.without_edns_first().await } else { self.with(self.form()).await };
        if let Some(reason) = ended.error_reason()
            && self.shared.settings.counted
        {
            counter!(names::UPSTREAM_ERRORS, "reason" => reason).increment(1);
        }
        ended
    }

    fn form(&self) -> Form {
        let mut form = self.shared.form(self.server);
        form.edns |= self.ask.edns_required;
        form
    }

    /// Asks in this form, and in others as the answers demand.
    async fn with(&self, mut form: Form) -> Ended {
        let mut by_stream = self.ask.tls.is_some();
        let mut bad_cookie = false;
        for _ in 0..STEPS {
            let message = match self.exchange(&form, by_stream).await {
                Ok(message) => message,
                Err(ended) => return ended,
            };
            let has_cookie = form.edns && form.cookie.is_some();
            match message.rcode {
                // RFC 7873 §5.3: try once with the cookie that came along, then over TCP.
                Rcode::BadCookie if has_cookie && !by_stream => {
                    by_stream = bad_cookie;
                    bad_cookie = true;
                    form.cookie = self.shared.form(self.server).cookie;
                }
                // It knows EDNS: then it is the cookie that it does not understand.
                Rcode::FormErr if has_cookie && message.edns.is_some() => {
                    form.cookie = None;
                    self.shared.table.lock().cookies_break(self.server, self.shared.clock.instant());
                }
                // RFC 6891 §7.
                Rcode::FormErr | Rcode::NotImp | Rcode::BadVers if form.edns && !self.ask.edns_required => {
                    form.edns = false;
                }
                // Some servers that do not know EDNS put it this way.
                Rcode::ServFail if form.edns && message.edns.is_none() && !self.ask.edns_required => {
                    form.edns = false;
                }
                Rcode::NoError | Rcode::NxDomain if message.truncated && !by_stream => by_stream = true,
                Rcode::NoError | Rcode::NxDomain => {
                    if !form.edns {
                        self.shared.table.lock().edns_breaks(self.server, self.shared.clock.instant());
                    }
                    return Ended::Answer(message);
                }
                _ => return Ended::Answer(message),
            }
            self.postpone(by_stream);
        }
        Ended::Malformed
    }

    /// An answer without EDNS, unless one with EDNS can be had after all: lost packets look the same.
    async fn without_edns_first(&self) -> Ended {
        let plain = match self.exchange(&Form { edns: false, ..self.form() }, false).await {
            Ok(message) if !message.truncated => message,
            Ok(_) => return self.with(self.form()).await,
            Err(ended) => return ended,
        };
        for patience in EDNS_AGAIN {
            self.pace.postpone(self.shared.clock.instant() + patience + limits::RETRANSMIT_SLACK);
            if let Ok(ended) = tokio::time::timeout(patience, self.with(self.form())).await {
                return ended;
            }
        }
        self.shared.table.lock().edns_breaks(self.server, self.shared.clock.instant());
        Ended::Answer(plain)
    }

    /// Gives a further step of this try the time it needs before the question goes elsewhere.
    fn postpone(&self, by_stream: bool) {
        let now = self.shared.clock.instant();
        let timeout = self.shared.timeout(self.server);
        // A connection takes a round trip before the query can leave.
        self.pace.postpone(now + if by_stream { timeout * 2 } else { timeout });
    }

    /// One query and its answer.
    async fn exchange(&self, form: &Form, by_stream: bool) -> Result<Box<Message>, Ended> {
        let (query, id) = self.query(form);
        let octets = query.encode(id);
        if by_stream { self.stream(&octets).await } else { self.datagram(&octets, form).await }
    }

    fn query(&self, form: &Form) -> (Query, u16) {
        let edns = form.edns.then(|| match &form.cookie {
            Some(Cookie { client, server }) => [client, &**server].concat().into_boxed_slice(),
            None => Box::default(),
        });
        let (id, name) = self.shared.random.id_and_name(&self.ask.name, form.mixed_case && self.ask.tls.is_none());
        let Ask { rtype, recursion_desired, .. } = *self.ask;
        (Query { name, rtype, recursion_desired, edns }, id)
    }

    async fn datagram(&self, query: &[u8], form: &Form) -> Result<Box<Message>, Ended> {
        self.charge("udp")?;
        let taken: Mutex<Option<Box<Message>>> = Mutex::new(None);
        let (doubt, doubted) = (Mutex::new(None), Notify::new());
        let accept = |octets: &[u8]| match self.weigh(query, form, octets) {
            Weighed::Take(message) => {
                *taken.lock() = message;
                true
            }
            Weighed::Ignore => false,
            Weighed::Doubt(why) => {
                doubt.lock().get_or_insert(why);
                doubted.notify_one();
                false
            }
        };
        let sent = self.shared.clock.instant();
        let patience = limits::DATAGRAM_PATIENCE.min(self.deadline.saturating_duration_since(sent));
        let mut by_datagram = self.shared.network.udp(self.server, query, &accept, patience);
        let outcome = tokio::select! {
            biased;
            outcome = &mut by_datagram => outcome,
            () = doubted.notified() => {
                self.postpone(true);
                match self.settle(by_datagram, query, &doubt).await {
                    Either::Left(outcome) => outcome,
                    Either::Right(ended) => return ended,
                }
            }
        };
        outcome.map_err(Ended::Silent)?;
        let round_trip = self.shared.clock.instant().saturating_duration_since(sent);
        self.shared.table.lock().answered(self.server, Some(round_trip));
        let message = taken.lock().take().ok_or(Ended::Malformed)?;
        self.learn(&message);
        Ok(message)
    }

    /// Asks over TCP while the datagram's wait goes on; whichever gives an answer first settles a doubt.
    async fn settle<F>(
        &self,
        by_datagram: F,
        query: &[u8],
        doubt: &Mutex<Option<Doubt>>,
    ) -> Either<Result<Vec<u8>, NetError>, Result<Box<Message>, Ended>>
    where
        F: Future<Output = Result<Vec<u8>, NetError>> + Unpin,
    {
        let by_stream = Box::pin(self.stream(query));
        match select(by_datagram, by_stream).await {
            Either::Left((Ok(octets), _)) => Either::Left(Ok(octets)),
            Either::Left((Err(_), by_stream)) => Either::Right(self.settled(by_stream.await, *doubt.lock())),
            Either::Right((Err(ended), by_datagram)) => {
                let _ = self.settled(Err(ended), *doubt.lock());
                Either::Left(by_datagram.await)
            }
            Either::Right((message, _)) => Either::Right(self.settled(message, *doubt.lock())),
        }
    }

    /// Remembers what TCP says about a doubt. Where it says nothing, the server has to do without what is in
    /// doubt: it can be asked in no other way.
    fn settled(&self, outcome: Result<Box<Message>, Ended>, doubt: Option<Doubt>) -> Result<Box<Message>, Ended> {
        let now = self.shared.clock.instant();
        let mut table = self.shared.table.lock();
        match (&outcome, doubt) {
            (Ok(message), Some(Doubt::Case)) if !keeps_case(message) => table.mixed_case_breaks(self.server, now),
            (Ok(message), Some(Doubt::Cookie)) if cookie(message).is_none() => table.cookies_ended(self.server),
            (Err(Ended::Disconnected(_)), Some(Doubt::Case)) => table.mixed_case_breaks(self.server, now),
            (Err(Ended::Disconnected(_)), Some(Doubt::Cookie)) => table.cookies_break(self.server, now),
            _ => {}
        }
        // Not a fault of the server's: it is worth another try, in its new form.
        outcome.map_err(|ended| match ended {
            Ended::Disconnected(_) => Ended::Silent(NetError::Timeout),
            other => other,
        })
    }

    async fn stream(&self, query: &[u8]) -> Result<Box<Message>, Ended> {
        // Nobody off the path can answer here, so the case of the question matters no more.
        let accept = |octets: &[u8]| fit(query, octets) != Fit::Foreign;
        let left = self.deadline.saturating_duration_since(self.shared.clock.instant());
        let patience = limits::TCP_PATIENCE.min(left);
        let octets = match &self.ask.tls {
            Some(name) => {
                self.charge("tls")?;
                self.shared.network.tls(self.server, name, query, &accept, patience).await
            }
            None => {
                self.charge("tcp")?;
                self.shared.network.tcp(self.server, query, &accept, patience).await
            }
        };
        let message = Message::parse(&octets.map_err(Ended::Disconnected)?).map_err(|_| Ended::Malformed)?;
        self.shared.table.lock().answered(self.server, None);
        self.learn(&message);
        Ok(Box::new(message))
    }

    /// What to do with a datagram from the server's address.
    fn weigh(&self, query: &[u8], form: &Form, octets: &[u8]) -> Weighed {
        match fit(query, octets) {
            Fit::Foreign => return Weighed::Ignore,
            Fit::OtherCase => return Weighed::Doubt(Doubt::Case),
            Fit::Exact => {}
        }
        let Ok(message) = Message::parse(octets) else { return Weighed::Take(None) };
        match &form.cookie {
            Some(sent) if form.edns => match cookie(&message) {
                // RFC 7873 §5.3: a cookie that is not ours marks a forgery.
                Some((client, _)) if client != sent.client => Weighed::Ignore,
                None if !sent.server.is_empty() => Weighed::Doubt(Doubt::Cookie),
                _ => Weighed::Take(Some(Box::new(message))),
            },
            _ => Weighed::Take(Some(Box::new(message))),
        }
    }

    /// Remembers what the message shows of the server.
    fn learn(&self, message: &Message) {
        if message.edns.is_some() {
            let server_cookie = cookie(message).map(|(_, server)| server).filter(|server| !server.is_empty());
            self.shared.table.lock().edns_works(self.server, server_cookie);
        }
    }

    fn charge(&self, transport: &'static str) -> Result<(), Ended> {
        self.budget.query().map_err(|exceeded| Ended::Exceeded(exceeded.0))?;
        if self.shared.settings.counted {
            counter!(names::UPSTREAM_QUERIES, "transport" => transport).increment(1);
        }
        Ok(())
    }
}

/// What to do with a datagram.
enum Weighed {
    /// End the wait, with a message or with octets that are none.
    Take(Option<Box<Message>>),
    /// Go on waiting.
    Ignore,
    /// Go on waiting, and ask over TCP meanwhile.
    Doubt(Doubt),
}

impl Ended {
    /// A label for metrics, for tries without a usable message.
    fn error_reason(&self) -> Option<&'static str> {
        Some(match self {
            Self::Answer(message) => match message.rcode {
                Rcode::NoError | Rcode::NxDomain => return None,
                Rcode::FormErr => "formerr",
                Rcode::ServFail => "servfail",
                Rcode::NotImp => "notimp",
                Rcode::Refused => "refused",
                Rcode::BadVers | Rcode::BadCookie | Rcode::Other(_) => "rcode",
            },
            Self::Malformed => "malformed",
            Self::Silent(error) | Self::Disconnected(error) => match error {
                NetError::Timeout => "timeout",
                NetError::Refused => "connection_refused",
                NetError::Unreachable => "unreachable",
                NetError::Closed => "closed",
                NetError::NoSocket => "no_socket",
            },
            Self::Exceeded(_) => "budget",
        })
    }
}

/// The client's and the server's cookie in a message; options of other lengths than RFC 7873 §4 allows are none.
fn cookie(message: &Message) -> Option<([u8; 8], &[u8])> {
    let option = message.edns.as_ref()?.option(OPTION_COOKIE)?;
    let (client, server) = option.split_first_chunk::<8>()?;
    matches!(server.len(), 0 | 8..=32).then_some((*client, server))
}

/// Whether the question came back with capital letters; one without any tells nothing, and was not in doubt.
fn keeps_case(message: &Message) -> bool {
    let has_capital = |label: &[u8]| label.iter().any(u8::is_ascii_uppercase);
    message.question.as_ref().is_none_or(|question| question.name.iter().any(has_capital))
}
