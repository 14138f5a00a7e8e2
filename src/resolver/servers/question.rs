//! One question to the servers of one zone: whom to ask first, when to ask another, when to give up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::Name;
use metrics::counter;

use super::attempt::Ended;
use super::exchange::{Exchange, Line, Waiting};
use super::table::{Feature, Form, Outlook};
use super::{Ask, AskError, Judge, Judgement, Rejection, Reply, Shared};
use crate::addresses::is_public;
use crate::clock::Instant;
use crate::dns::Cause;
use crate::limits;
use crate::resolver::budget::{Budget, Exceeded, OUT_OF_TIME};
use crate::resolver::message::{Message, Rcode};
use crate::resolver::transport::NetError;
use crate::telemetry::metrics as names;

/// Round trips below this are as good as each other; also what makes a try at another server worthwhile.
const LEAST_COST: Duration = Duration::from_millis(50);
/// Longest pause between two tries, for servers that are not known to be slower.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Silence after which it may be due to something in the query. Longer than any usual round trip: what was sent before is
/// listened for no more.
const PLAINER_AFTER: Duration = Duration::from_millis(1_800);
/// The same for each further thing that is left out.
const PLAINER_STILL_AFTER: Duration = Duration::from_millis(900);
/// Silence of all servers after which they are tried over TCP as well, one after the other, once each.
const STREAM_AFTER: Duration = Duration::from_secs(2);
/// Wait for such a try. One that is silent, too, is the last: the zone is dead, and mail waits.
const STREAM_PATIENCE: Duration = Duration::from_secs(3);

/// A question under way.
pub(super) struct Question<'a> {
    pub shared: &'a Arc<Shared>,
    pub zone: &'a Name,
    pub ask: &'a Arc<Ask>,
    pub budget: &'a Arc<Budget>,
    pub deadline: Instant,
    pub judge: Judge<'a>,
}

/// A server of the zone, as far as this question goes.
struct Candidate {
    server: SocketAddr,
    outlook: Outlook,
    tries: u32,
    fault: Option<Fault>,
    /// The exchange that is open, and what ends our waiting for it.
    open: Option<(Arc<Line>, Waiting)>,
    /// What its query does without, and whether the server had answered with an error before.
    left_out: Vec<(Feature, bool)>,
    /// What to leave out next. With it, a fault may be due to the query.
    next_doubt: Option<Feature>,
    /// It was tried over TCP because all were silent.
    streamed: bool,
}

/// Why a server is not asked again, in this form at least.
enum Fault {
    Rejected(Rejection),
    Connection(NetError),
    /// It got all that one policy question may send to a server that does not answer.
    Spent,
}

/// The end of an exchange, for the loop that waits for several.
struct Outcome {
    index: usize,
    /// Over TCP, because all were silent.
    streamed: bool,
    /// Begun by this question, and not joined.
    is_own: bool,
    /// None where it is not waited for any more.
    ended: Option<Ended>,
}

/// Where a question stands.
struct Progress {
    candidates: Vec<Candidate>,
    tries_left: u32,
    begun: Instant,
    /// When the question goes out again.
    due: Instant,
    /// The candidate that was asked last, while it has neither answered nor been found silent.
    waiting_for: Option<usize>,
    /// A try over TCP is open, because all were silent.
    stream_open: bool,
    /// Such a try was silent.
    stream_was_silent: bool,
    exceeded: Option<&'static str>,
    no_socket: bool,
}

type Open = FuturesUnordered<BoxFuture<'static, Outcome>>;

impl Question<'_> {
    /// Asks until the judge accepts, or nobody is left to ask, or time is over.
    pub async fn run(&self, servers: &[SocketAddr]) -> Result<Reply, AskError> {
        let mut progress = self.begin(servers);
        let mut open = Open::new();
        loop {
            let now = self.shared.clock.instant();
            let due_at = progress.due_at();
            let due = due_at <= now;
            if due && let Some(silent) = progress.waiting_for.take() {
                self.note_silence(&progress, silent);
            }
            let next = progress.next();
            let is_at_end = next.is_none() && (due || open.is_empty());
            if !progress.stream_open && (is_at_end || due && progress.is_all_silence(now)) {
                self.try_stream(&mut progress, &open);
            }
            let is_over = is_at_end && !progress.stream_open;
            if now >= self.deadline || is_over {
                return Err(progress.error(now >= self.deadline && !is_over));
            }
            if due && let Some(index) = next.filter(|index| open.len() < limits::TRIES_OPEN || progress.is_open(*index))
            {
                self.probe_beside(&mut progress, index);
                self.launch(&mut progress, index, &open);
                continue;
            }
            // With as many tries open as may be, the next one waits until one ends.
            let wake = if due { self.deadline } else { due_at.min(self.deadline) };
            tokio::select! {
                biased;
                Some(outcome) = open.next(), if !open.is_empty() => {
                    if let Some(reply) = self.take(&mut progress, outcome) {
                        return Ok(reply);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn begin(&self, servers: &[SocketAddr]) -> Progress {
        let now = self.shared.clock.instant();
        let settings = &self.shared.settings;
        let allowed = |server: &SocketAddr| {
            let family = if server.is_ipv6() { settings.ipv6.unwrap_or(true) } else { settings.ipv4 };
            // The operator named the forwarders; anybody may name the servers of a zone.
            let named = self.ask.recursion_desired || settings.allow_private_servers || is_public(server.ip());
            family && named && server.port() != 0 && !self.ask.excluded.contains(server)
        };
        let table = self.shared.table.lock();
        let mut candidates: Vec<Candidate> = Vec::with_capacity(servers.len());
        for &server in servers.iter().filter(|server| allowed(server)) {
            if candidates.iter().all(|known| known.server != server) {
                let mut outlook = table.outlook(server, self.zone, now);
                outlook.cost = self.shared.random.jitter(outlook.cost.max(LEAST_COST));
                candidates.push(Candidate::new(server, outlook));
            }
        }
        let hopeless = candidates.iter().all(|candidate| candidate.outlook.hopeless);
        let tries_left = if hopeless { limits::TRIES_AT_SILENT_SERVERS } else { limits::TRIES_PER_QUESTION };
        Progress {
            candidates,
            tries_left,
            begun: now,
            due: now,
            waiting_for: None,
            stream_open: false,
            stream_was_silent: hopeless,
            exceeded: None,
            no_socket: false,
        }
    }

    fn note_silence(&self, progress: &Progress, index: usize) {
        if let Some(candidate) = progress.candidates.get(index) {
            self.shared.table.lock().silent(candidate.server, self.shared.clock.instant());
            // Here and not at the end of the exchange, which nobody may wait for any more by then.
            if self.shared.settings.counted {
                counter!(names::UPSTREAM_ERRORS, "reason" => "timeout").increment(1);
            }
        }
    }

    /// Asks this candidate: for the first time, once more the same, or in a plainer form.
    fn launch(&self, progress: &mut Progress, index: usize, open: &Open) {
        let now = self.shared.clock.instant();
        let Some(candidate) = progress.candidates.get_mut(index) else { return };
        let growth = 1.5_f64.powi(candidate.tries.min(8) as i32);
        let timeout = candidate.outlook.timeout;
        let pause = timeout.mul_f64(growth).min(PAUSE_MAX.max(timeout));
        candidate.tries += 1;
        progress.tries_left -= 1;
        progress.waiting_for = Some(index);
        let pause = if progress.tries_left == 0 { pause.max(limits::LAST_PATIENCE) } else { pause };
        progress.due = now + pause;
        if let Some((line, waiting)) = candidate.open.take() {
            let Some(feature) = candidate.silent_doubt(&line, now) else {
                let sent = line.send_again(self.shared, self.budget);
                candidate.open = Some((line, waiting));
                match sent {
                    Ok(()) => {}
                    Err(Exceeded::SILENT) => {
                        candidate.next_doubt = None;
                        candidate.fault = Some(Fault::Spent);
                    }
                    Err(exceeded) => progress.exceed(exceeded.0, now),
                }
                return;
            };
            waiting.give_up();
            candidate.left_out.push((feature, false));
        } else if candidate.fault.take().is_some()
            && let Some(feature) = candidate.next_doubt
        {
            candidate.left_out.push((feature, true));
        }
        let form = candidate.form(self.shared, self.ask);
        candidate.next_doubt = form.next_doubt(None);
        let left_out = candidate.left_out.last().copied();
        let exchange = Exchange::open(self.shared, candidate.server, self.ask, self.budget, form, left_out);
        let (line, is_own) = (Arc::clone(&exchange.line), exchange.is_own);
        let (ended, waiting) = exchange.wait();
        candidate.open = Some((line, waiting));
        open.push(Box::pin(async move { Outcome { index, streamed: false, is_own, ended: ended.await } }));
    }

    /// Tries the next candidate over TCP, where datagrams may not get through.
    fn try_stream(&self, progress: &mut Progress, open: &Open) {
        let silence = progress.is_all_silence(self.shared.clock.instant()) && !progress.stream_was_silent;
        if self.ask.tls.is_some() || progress.exceeded.is_some() || !silence {
            return;
        }
        let untried = progress.candidates.iter_mut().enumerate();
        let untried = untried.filter(|(_, candidate)| !candidate.streamed);
        let Some((index, candidate)) = untried.min_by_key(|(_, candidate)| candidate.outlook.cost) else { return };
        candidate.streamed = true;
        progress.stream_open = true;
        let form = Form { by_stream: true, ..self.shared.form(candidate.server, self.ask) };
        let exchange = Exchange::open(self.shared, candidate.server, self.ask, self.budget, form, None);
        let is_own = exchange.is_own;
        open.push(Box::pin(async move {
            let late = Ended::Silent(NetError::Timeout);
            let ended = tokio::time::timeout(STREAM_PATIENCE, exchange.ended).await.unwrap_or(late);
            Outcome { index, streamed: true, is_own, ended: Some(ended) }
        }));
    }

    /// Where the first try goes to a server that answers, sees whether a silent one is back, at no risk.
    fn probe_beside(&self, progress: &mut Progress, index: usize) {
        let first = progress.candidates.iter().all(|candidate| candidate.tries == 0);
        if !first || !progress.candidates.get(index).is_some_and(|candidate| candidate.outlook.healthy) {
            return;
        }
        let due = progress.candidates.iter_mut().find(|candidate| candidate.outlook.probe_due);
        let (Some(due), Ok(permit)) = (due, Arc::clone(&self.shared.probes).try_acquire_owned()) else { return };
        due.outlook.probe_due = false;
        let (shared, server) = (Arc::clone(self.shared), due.server);
        shared.table.lock().probing(server, shared.clock.instant());
        if self.budget.packet(server.ip(), shared.clock.instant()).is_err() {
            return;
        }
        // Its own budget: one packet was charged to the question, and the answer is not used.
        let form = shared.form(server, self.ask);
        let exchange = Exchange::open(&shared, server, self.ask, &Arc::default(), form, None);
        tokio::spawn(async move {
            if let Ended::Silent(_) | Ended::Doubted(_) = exchange.ended.await {
                shared.table.lock().silent(server, shared.clock.instant());
            }
            drop(permit);
        });
    }

    /// Takes the end of an exchange; gives the reply where the judge accepts it.
    fn take(&self, progress: &mut Progress, outcome: Outcome) -> Option<Reply> {
        let now = self.shared.clock.instant();
        let Outcome { index, streamed, is_own, ended } = outcome;
        // None: left for a plainer form.
        let ended = ended?;
        if streamed {
            progress.stream_open = false;
        } else if let Some(candidate) = progress.candidates.get_mut(index) {
            candidate.open = None;
        }
        // An exchange that ends by its own timeout is an old one: the silence of the latest is noted by the pace.
        if progress.waiting_for == Some(index) && !matches!(ended, Ended::Silent(NetError::Timeout)) {
            progress.waiting_for = None;
        }
        let candidate = progress.candidates.get_mut(index)?;
        let server = candidate.server;
        if matches!(ended, Ended::Answer(_)) {
            // Whoever began the exchange.
            self.budget.answered(server.ip());
        }
        let fault = match ended {
            Ended::Answer(message) => match (self.judge)(&message, server) {
                Judgement::Accept => {
                    if streamed {
                        self.shared.table.lock().datagrams_get_lost(server, now);
                    }
                    return Some(Reply { message: Arc::unwrap_or_clone(message), server });
                }
                Judgement::Reject(rejection) => {
                    candidate.weigh_doubts(&rejection, &message);
                    Fault::Rejected(rejection)
                }
            },
            Ended::Malformed => {
                candidate.next_doubt = None;
                Fault::Rejected(Rejection::Malformed)
            }
            // What TCP has to say counts only where it answers.
            Ended::Silent(error) | Ended::Disconnected(error) if streamed => {
                progress.stream_was_silent |= error == NetError::Timeout;
                return None;
            }
            Ended::Silent(NetError::Timeout) => return None,
            Ended::Doubted(feature) => {
                candidate.left_out.push((feature, false));
                progress.due = now;
                return None;
            }
            // Our places are short: that says nothing of the server.
            Ended::Silent(NetError::NoSocket) | Ended::Disconnected(NetError::NoSocket) => {
                progress.no_socket = true;
                if !is_own {
                    // Somebody else's question ran out of its share: ours may not have.
                    progress.due = now;
                }
                return None;
            }
            Ended::Silent(error) | Ended::Disconnected(error) => Fault::Connection(error),
            // Somebody else's limit: ours may not be reached.
            Ended::Exceeded(_) if !is_own => {
                progress.due = now;
                return None;
            }
            Ended::Exceeded(what) if what == Exceeded::SILENT.0 => Fault::Spent,
            Ended::Exceeded(what) => {
                progress.exceed(what, now);
                return None;
            }
        };
        if !matches!(fault, Fault::Rejected(_)) {
            candidate.next_doubt = None;
        }
        let mut table = self.shared.table.lock();
        match &fault {
            Fault::Rejected(Rejection::Lame | Rejection::Refused | Rejection::NotImp) => {
                table.lame(server, self.zone, now);
            }
            Fault::Connection(NetError::Refused) => table.refused(server, now),
            Fault::Connection(NetError::Unreachable) => table.unreachable(server, now),
            Fault::Rejected(_) | Fault::Connection(_) | Fault::Spent => {}
        }
        candidate.fault = Some(fault);
        // Somebody who was not asked yet is asked at once, or this one in a plainer form; otherwise the pace stays as it is.
        if progress.candidates.iter().any(|other| other.may_be_asked() && (other.tries == 0 || other.fault.is_some())) {
            progress.due = now;
        }
        None
    }
}

impl Candidate {
    fn new(server: SocketAddr, outlook: Outlook) -> Self {
        Self {
            server,
            outlook,
            tries: 0,
            fault: None,
            open: None,
            left_out: Vec::new(),
            next_doubt: None,
            streamed: false,
        }
    }

    /// How to ask it, without what this question has to do without.
    fn form(&self, shared: &Shared, ask: &Ask) -> Form {
        let form = shared.form(self.server, ask);
        self.left_out.iter().fold(form, |form, (feature, _)| form.without(*feature))
    }

    /// What its silence may be due to, if it has lasted: what came close to an answer tells, else there are guesses.
    fn silent_doubt(&self, line: &Line, now: Instant) -> Option<Feature> {
        let suspect = (*line.suspect.lock()).filter(|suspect| !self.leaves_out(*suspect));
        let silence = now.saturating_duration_since(line.begun);
        let patience = if self.left_out.is_empty() { PLAINER_AFTER } else { PLAINER_STILL_AFTER };
        suspect.or(self.next_doubt.filter(|_| silence >= patience))
    }

    fn leaves_out(&self, feature: Feature) -> bool {
        self.left_out.iter().any(|(known, _)| *known == feature)
    }

    /// Whether there is any sense in asking it.
    fn may_be_asked(&self) -> bool {
        self.fault.is_none() || self.next_doubt.is_some()
    }

    /// After an answer that is of no use: whether the query may be the reason.
    fn weigh_doubts(&mut self, rejection: &Rejection, message: &Message) {
        let no_edns = message.edns.is_none() && matches!(message.rcode, Rcode::ServFail);
        let is_edns_error = matches!(message.rcode, Rcode::FormErr | Rcode::NotImp | Rcode::BadVers) || no_edns;
        let is_error =
            matches!(rejection, Rejection::ServFail | Rejection::Refused | Rejection::NotImp | Rejection::FormErr);
        self.next_doubt = self.next_doubt.filter(|doubt| is_error && (*doubt != Feature::Edns || is_edns_error));
    }
}

impl Progress {
    /// When the question goes out again: not while the exchange that was begun last is at work.
    fn due_at(&self) -> Instant {
        let waiting = self.waiting_for.and_then(|index| self.candidates.get(index)?.open.as_ref());
        waiting.map_or(self.due, |(line, _)| self.due.max(line.busy_until()))
    }

    fn is_open(&self, index: usize) -> bool {
        self.candidates.get(index).is_some_and(|candidate| candidate.open.is_some())
    }

    /// Whether datagrams have led to nothing but silence, for long enough.
    fn is_all_silence(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= STREAM_AFTER
            && self.candidates.iter().all(|candidate| candidate.fault.is_none())
    }

    /// Our own limit is reached: what is under way is waited for, for a while.
    fn exceed(&mut self, what: &'static str, now: Instant) {
        self.exceeded = Some(what);
        self.due = now + limits::LAST_PATIENCE;
    }

    /// The candidate to ask next: the least cost, where each try that led to nothing multiplies it by four.
    fn next(&self) -> Option<usize> {
        if self.tries_left == 0 || self.exceeded.is_some() {
            return None;
        }
        let weight =
            |candidate: &Candidate| candidate.outlook.cost.saturating_mul(4_u32.saturating_pow(candidate.tries));
        let open = self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.may_be_asked());
        open.min_by_key(|(_, candidate)| weight(candidate)).map(|(index, _)| index)
    }

    /// The most telling of all that went wrong; where our time was over first, that says nothing of the servers.
    fn error(&self, out_of_time: bool) -> AskError {
        let rank = |candidate: &&Candidate| match &candidate.fault {
            Some(Fault::Rejected(Rejection::Bogus(_))) => 6,
            Some(Fault::Rejected(Rejection::Lame)) => 4,
            Some(Fault::Rejected(Rejection::Malformed)) => 2,
            Some(Fault::Rejected(_)) => 3,
            Some(Fault::Connection(_)) => 0,
            // Our own limit, whatever others said: it might have known better.
            Some(Fault::Spent) => 5,
            None => 1,
        };
        let worst = self.candidates.iter().max_by_key(rank);
        let server = worst.filter(|candidate| candidate.tries > 0).map(|candidate| candidate.server);
        let cause = match worst.map(|candidate| &candidate.fault) {
            Some(Some(Fault::Rejected(Rejection::Bogus(bogus)))) => Cause::Bogus(bogus.clone()),
            _ if self.exceeded.is_some() => Cause::Budget(self.exceeded.unwrap_or_default()),
            Some(Some(Fault::Spent)) => Cause::Budget(Exceeded::SILENT.0),
            Some(Some(Fault::Rejected(rejection))) => match rejection {
                Rejection::Lame => Cause::Lame,
                Rejection::Malformed => Cause::Malformed,
                Rejection::Refused => Cause::ErrorCode("REFUSED"),
                Rejection::NotImp => Cause::ErrorCode("NOTIMP"),
                Rejection::FormErr => Cause::ErrorCode("FORMERR"),
                Rejection::ServFail | Rejection::Bogus(_) => Cause::ServFail,
            },
            Some(None) if self.no_socket => Cause::Network,
            Some(None) if out_of_time => Cause::Budget(OUT_OF_TIME),
            Some(None) => Cause::Timeout,
            Some(Some(Fault::Connection(_))) => {
                let unreachable = |c: &Candidate| matches!(c.fault, Some(Fault::Connection(NetError::Unreachable)));
                if self.candidates.iter().all(unreachable) { Cause::Network } else { Cause::NoServers }
            }
            None => Cause::NoServers,
        };
        AskError { cause, server }
    }
}
