//! One exchange with one server, from the query to a message that answers it: cookies, 0x20, truncation. Never decides
//! whether the message is of use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hickory_proto::rr::RecordType;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::exchange::Line;
use super::matching::{Fit, fit};
use super::table::{Cookie, Feature, Form};
use super::{Ask, Shared};
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::message::{Message, OPTION_COOKIE, Query, Rcode};
use crate::resolver::rrset::RrSet;
use crate::resolver::transport::NetError;
use crate::telemetry::metrics as names;

/// Messages sent in one exchange, repetitions not counted: without cookie, in plain case, over TCP, each for a reason.
const STEPS: usize = 5;

/// An exchange with `server`.
pub(super) struct Attempt {
    pub shared: Arc<Shared>,
    pub server: SocketAddr,
    pub ask: Arc<Ask>,
    pub budget: Arc<Budget>,
    pub line: Arc<Line>,
    /// What was left out of the form at last, and whether the server had answered with an error before.
    pub left_out: Option<(Feature, bool)>,
}

/// How an exchange ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// With a message that answers the query, whatever it says.
    Answer(Arc<Message>),
    /// With octets that repeat the query's id and question, and are no message.
    Malformed,
    /// Without an answer over UDP.
    Silent(NetError),
    /// With datagrams that nearly fit and that TCP could not settle: forged, or the server spoils this.
    Doubted(Feature),
    /// Without an answer over a connection, which only servers that answered over UDP are asked for.
    Disconnected(NetError),
    /// Before sending: the limit that was reached.
    Exceeded(&'static str),
}

/// Why a datagram that nearly fits is checked over TCP instead of being believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// The case of the question was not kept: a forgery, or a server that does not keep it.
    Case,
    /// A server that sends cookies sent none, or somebody else's, again and again: a forgery, or it ceased to send them
    /// (RFC 7873 §5.3), or mixes its clients up.
    Cookie,
    /// So many datagrams that do not fit that somebody may be guessing: no datagram is believed any more.
    Guessing,
}

impl Attempt {
    /// Runs the exchange to its end; within its own time limits, so that dropping it is not needed.
    pub async fn run(self, form: Form) -> Ended {
        let ended = self.with(form).await;
        if let Some(reason) = ended.error_reason()
            && self.shared.settings.counted
        {
            counter!(names::UPSTREAM_ERRORS, "reason" => reason).increment(1);
        }
        ended
    }

    /// Asks in this form, and in others as the answers demand.
    async fn with(&self, mut form: Form) -> Ended {
        let mut by_stream = self.ask.tls.is_some() || form.by_stream;
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
                    form.cookie = self.shared.form(self.server, &self.ask).cookie;
                }
                // It knows EDNS: then it is the cookie that it does not understand.
                Rcode::FormErr if has_cookie && message.edns.is_some() => {
                    form.cookie = None;
                    self.breaks(Feature::Cookie, true);
                }
                Rcode::NoError | Rcode::NxDomain if message.truncated && !by_stream => by_stream = true,
                Rcode::NoError | Rcode::NxDomain => return self.answered(form, message, by_stream).await,
                _ => return Ended::Answer(message),
            }
            self.postpone(by_stream);
        }
        Ended::Malformed
    }

    /// Takes an answer; one that denies is asked for again in plain case, unless the server is known to stand mixed case:
    /// some deny whatever has capitals.
    async fn answered(&self, mut form: Form, message: Arc<Message>, by_stream: bool) -> Ended {
        if let Some((feature, said_so)) = self.left_out {
            self.breaks(feature, said_so);
        }
        if is_well(&message) {
            self.shared.table.lock().worked(self.server, &form, self.shared.clock.instant());
            return Ended::Answer(message);
        }
        if !form.mixed_case || !form.doubts.case {
            return Ended::Answer(message);
        }
        form.mixed_case = false;
        self.postpone(by_stream);
        match self.exchange(&form, by_stream).await {
            Ok(plain) if plain.truncated => {
                let whole = self.exchange(&form, true).await.unwrap_or(plain);
                self.breaks(Feature::Case, true);
                Ended::Answer(whole)
            }
            Ok(plain) if says_the_same(&plain, &message) => {
                form.mixed_case = true;
                self.shared.table.lock().worked(self.server, &form, self.shared.clock.instant());
                Ended::Answer(message)
            }
            Ok(plain) if matches!(plain.rcode, Rcode::NoError | Rcode::NxDomain) => {
                self.breaks(Feature::Case, true);
                Ended::Answer(plain)
            }
            _ => Ended::Answer(message),
        }
    }

    fn breaks(&self, feature: Feature, said_so: bool) {
        self.shared.table.lock().breaks(self.server, feature, said_so, self.shared.clock.instant());
    }

    /// Gives a further step of this exchange the time it needs before the question goes elsewhere.
    fn postpone(&self, by_stream: bool) {
        let now = self.shared.clock.instant();
        let timeout = self.shared.timeout(self.server);
        // A connection takes a round trip before the query can leave.
        self.line.is_busy_until(now + if by_stream { timeout * 2 } else { timeout });
    }

    /// One query and its answer.
    async fn exchange(&self, form: &Form, by_stream: bool) -> Result<Arc<Message>, Ended> {
        let (query, id) = self.query(form);
        let octets = query.encode(id);
        if by_stream { self.stream(&octets).await } else { self.datagram(&octets, form).await }
    }

    fn query(&self, form: &Form) -> (Query, u16) {
        let edns = form.edns.then(|| match &form.cookie {
            Some(Cookie { client, server }) => [client, &**server].concat().into_boxed_slice(),
            None => Box::default(),
        });
        let (id, name) = self.shared.random.id_and_name(&self.ask.name, form.mixed_case);
        let Ask { rtype, recursion_desired, .. } = *self.ask;
        (Query { name, rtype, recursion_desired, edns }, id)
    }

    async fn datagram(&self, query: &[u8], form: &Form) -> Result<Arc<Message>, Ended> {
        self.charge("udp").await?;
        // A wish from before this datagram is fulfilled by it.
        let _ = self.line.again.notified().now_or_never();
        self.line.by_datagram.store(true, Ordering::Relaxed);
        let taken: Mutex<Option<Arc<Message>>> = Mutex::new(None);
        let (doubt, doubted) = (Mutex::new(None), Notify::new());
        let (misfits, foreign_cookies) = (AtomicU32::new(0), AtomicU32::new(0));
        let raise = |why: Doubt| {
            let mut doubt = doubt.lock();
            if doubt.is_none() || why == Doubt::Guessing {
                *doubt = Some(why);
            }
            doubted.notify_one();
        };
        let accept = |octets: &[u8]| {
            if *doubt.lock() == Some(Doubt::Guessing) {
                return false;
            }
            match self.weigh(query, form, octets) {
                Weighed::Take(message) => {
                    *taken.lock() = message;
                    return true;
                }
                Weighed::Misfit => {}
                Weighed::ForeignCookie if foreign_cookies.fetch_add(1, Ordering::Relaxed) == 0 => {}
                Weighed::ForeignCookie => raise(Doubt::Cookie),
                Weighed::Doubt(why) => raise(why),
            }
            if misfits.fetch_add(1, Ordering::Relaxed) + 1 >= limits::MISFITS_PER_EXCHANGE {
                raise(Doubt::Guessing);
            }
            false
        };
        let (sent, question) = (self.shared.clock.instant(), self.budget.question());
        let mut by_datagram =
            self.shared.network.udp(self.server, question, query, &accept, &self.line.again, limits::DATAGRAM_PATIENCE);
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
        let now = self.shared.clock.instant();
        self.shared.table.lock().answered(self.server, Some(now.saturating_duration_since(sent)), now);
        self.budget.answered(self.server.ip());
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
    ) -> Either<Result<Vec<u8>, NetError>, Result<Arc<Message>, Ended>>
    where
        F: Future<Output = Result<Vec<u8>, NetError>> + Unpin,
    {
        let by_stream = Box::pin(self.stream(query));
        match select(by_datagram, by_stream).await {
            Either::Left((Ok(octets), _)) => Either::Left(Ok(octets)),
            Either::Left((Err(_), by_stream)) => Either::Right(self.settled(by_stream.await, *doubt.lock())),
            // TCP says nothing: a datagram that fits may still come, unless so many did not that none is believed.
            Either::Right((Err(ended), by_datagram)) => {
                let doubt = *doubt.lock();
                match self.settled(Err(ended), doubt) {
                    Err(Ended::Doubted(feature)) => {
                        *self.line.suspect.lock() = Some(feature);
                        match by_datagram.await {
                            Ok(octets) => Either::Left(Ok(octets)),
                            Err(_) => Either::Right(Err(Ended::Doubted(feature))),
                        }
                    }
                    settled => Either::Right(settled),
                }
            }
            Either::Right((message, _)) => Either::Right(self.settled(message, *doubt.lock())),
        }
    }

    /// Remembers what TCP says about a doubt. Where it says nothing, nothing is known of the server: one forged datagram
    /// must not turn a protection off.
    fn settled(&self, outcome: Result<Arc<Message>, Ended>, doubt: Option<Doubt>) -> Result<Arc<Message>, Ended> {
        let message = match (outcome, doubt) {
            (Ok(message), _) => message,
            (Err(Ended::Disconnected(_)), Some(Doubt::Case)) => return Err(Ended::Doubted(Feature::Case)),
            (Err(Ended::Disconnected(_)), Some(Doubt::Cookie)) => return Err(Ended::Doubted(Feature::Cookie)),
            // Not a fault of the server's: it is worth another try.
            (Err(Ended::Disconnected(_)), _) => return Err(Ended::Silent(NetError::Timeout)),
            (Err(ended), _) => return Err(ended),
        };
        match doubt {
            Some(Doubt::Case) if !keeps_case(&message) => self.breaks(Feature::Case, true),
            Some(Doubt::Cookie) => match cookie(&message) {
                None => self.shared.table.lock().cookies_ended(self.server),
                Some((client, _)) if !self.shared.table.lock().is_our_cookie(self.server, client) => {
                    self.breaks(Feature::Cookie, true);
                }
                Some(_) => {}
            },
            _ => {}
        }
        Ok(message)
    }

    async fn stream(&self, query: &[u8]) -> Result<Arc<Message>, Ended> {
        // Nobody off the path can answer here, so the case of the question matters no more.
        let accept = |octets: &[u8]| fit(query, octets) != Fit::Foreign;
        let (patience, question) = (limits::TCP_PATIENCE, self.budget.question());
        self.line.by_datagram.store(false, Ordering::Relaxed);
        let octets = match &self.ask.tls {
            Some(name) => {
                self.charge("tls").await?;
                self.shared.network.tls((self.server, question), name, query, &accept, patience).await
            }
            None => {
                self.charge("tcp").await?;
                self.shared.network.tcp(self.server, question, query, &accept, patience).await
            }
        };
        let message = Message::parse(&octets.map_err(Ended::Disconnected)?).map_err(|_| Ended::Malformed)?;
        self.shared.table.lock().answered(self.server, None, self.shared.clock.instant());
        self.budget.answered(self.server.ip());
        self.learn(&message);
        Ok(Arc::new(message))
    }

    /// What to do with a datagram from the server's address.
    fn weigh(&self, query: &[u8], form: &Form, octets: &[u8]) -> Weighed {
        match fit(query, octets) {
            Fit::Foreign => return Weighed::Misfit,
            Fit::OtherCase => return Weighed::Doubt(Doubt::Case),
            Fit::Exact => {}
        }
        let Ok(message) = Message::parse(octets) else { return Weighed::Take(None) };
        // Without the question only an error is an answer; BADVERS shows in the OPT record alone.
        if message.question.is_none() && message.rcode == Rcode::NoError {
            return Weighed::Misfit;
        }
        match &form.cookie {
            Some(sent) if form.edns => match cookie(&message) {
                // RFC 7873 §5.3: a cookie that is not ours marks a forgery.
                Some((client, _)) if client != sent.client => Weighed::ForeignCookie,
                None if !sent.server.is_empty() => Weighed::Doubt(Doubt::Cookie),
                _ => Weighed::Take(Some(Arc::new(message))),
            },
            _ => Weighed::Take(Some(Arc::new(message))),
        }
    }

    /// Remembers what the message shows of the server.
    fn learn(&self, message: &Message) {
        // BADVERS comes with an OPT record, and says that it is of no use.
        if message.edns.is_some() && message.rcode != Rcode::BadVers {
            let server_cookie = cookie(message).map(|(_, server)| server).filter(|server| !server.is_empty());
            self.shared.table.lock().edns_works(self.server, server_cookie);
        }
    }

    async fn charge(&self, transport: &'static str) -> Result<(), Ended> {
        self.budget.room(self.server.ip()).await;
        self.budget
            .packet(self.server.ip(), self.shared.clock.instant())
            .map_err(|exceeded| Ended::Exceeded(exceeded.0))?;
        if self.shared.settings.counted {
            counter!(names::UPSTREAM_QUERIES, "transport" => transport).increment(1);
        }
        Ok(())
    }
}

/// What to do with a datagram.
enum Weighed {
    /// End the wait, with a message or with octets that are none.
    Take(Option<Arc<Message>>),
    /// Not to this query: go on waiting.
    Misfit,
    /// With the cookie of another client: go on waiting, unless it comes again.
    ForeignCookie,
    /// Go on waiting, and ask over TCP meanwhile.
    Doubt(Doubt),
}

impl Ended {
    /// A label for metrics, for exchanges without a usable message.
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
            // Counted by those who wait.
            Self::Silent(NetError::Timeout) | Self::Doubted(_) => return None,
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

/// Whether a server that breaks on capitals could not have said this: it has records, refers downward, or signs.
fn is_well(message: &Message) -> bool {
    let shows = |set: &RrSet| !set.sigs.is_empty() || set.rtype == RecordType::NS && !set.name.is_root();
    !message.answer.is_empty() || message.authority.iter().any(shows)
}

/// Whether two denials deny the same.
fn says_the_same(one: &Message, other: &Message) -> bool {
    one.rcode == other.rcode && one.answer.is_empty() && !is_well(one)
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
