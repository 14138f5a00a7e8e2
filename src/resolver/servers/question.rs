//! One question to the servers of one zone: whom to ask first, when to ask another, when to give up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::Name;

use super::attempt::{Attempt, Ended, Pace};
use super::table::Outlook;
use super::{Ask, AskError, Judge, Judgement, Rejection, Reply, Shared};
use crate::addresses::is_public;
use crate::clock::Instant;
use crate::dns::Cause;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::transport::NetError;

/// Round trips below this are as good as each other; also what makes a try at another server worthwhile.
const LEAST_COST: Duration = Duration::from_millis(50);
/// Longest pause between two tries, for servers that are not known to be slower.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Tries at one server after which its silence may be due to EDNS.
const TRIES_BEFORE_DOUBTING_EDNS: u32 = 3;

/// A question under way.
pub(super) struct Question<'a> {
    pub shared: &'a Arc<Shared>,
    pub zone: &'a Name,
    pub ask: &'a Ask,
    pub budget: &'a Budget,
    pub deadline: Instant,
    pub judge: Judge<'a>,
}

/// A server of the zone, as far as this question goes.
struct Candidate {
    server: SocketAddr,
    outlook: Outlook,
    tries: u32,
    fault: Option<Fault>,
}

/// Why a server is not asked again.
enum Fault {
    Rejected(Rejection),
    Connection(NetError),
}

/// Where a question stands.
struct Progress {
    candidates: Vec<Candidate>,
    tries_left: u32,
    /// The candidate that was asked last, while it has neither answered nor been found silent.
    waiting_for: Option<usize>,
    exceeded: Option<&'static str>,
    no_socket: bool,
}

impl Question<'_> {
    /// Asks until the judge accepts, or nobody is left to ask, or time is over.
    pub async fn run(&self, servers: &[SocketAddr]) -> Result<Reply, AskError> {
        let mut progress = self.begin(servers);
        let pace = Pace::new(self.shared.clock.instant());
        let mut open = FuturesUnordered::new();
        loop {
            let now = self.shared.clock.instant();
            let due = pace.due() <= now;
            if due && let Some(silent) = progress.waiting_for.take() {
                self.note_silence(&progress, silent);
            }
            let next = progress.next();
            if now >= self.deadline || next.is_none() && (due || open.is_empty()) {
                return Err(progress.error());
            }
            if due && let Some(index) = next.filter(|_| open.len() < limits::TRIES_OPEN) {
                self.probe_beside(&mut progress, index);
                if let Some((attempt, pause)) = progress.launch(self, index, &pace) {
                    pace.set(now + pause);
                    open.push(async move { (index, attempt.run().await) });
                }
                continue;
            }
            // With as many tries open as may be, the next one waits until one ends.
            let wake = if due { self.deadline } else { pace.due().min(self.deadline) };
            tokio::select! {
                biased;
                Some((index, ended)) = open.next(), if !open.is_empty() => {
                    if let Some(reply) = self.take(&mut progress, index, ended, &pace) {
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
                candidates.push(Candidate { server, outlook, tries: 0, fault: None });
            }
        }
        let hopeless = candidates.iter().all(|candidate| candidate.outlook.hopeless);
        let tries_left = if hopeless { limits::TRIES_AT_SILENT_SERVERS } else { limits::TRIES_PER_QUESTION };
        Progress { candidates, tries_left, waiting_for: None, exceeded: None, no_socket: false }
    }

    fn note_silence(&self, progress: &Progress, index: usize) {
        if let Some(candidate) = progress.candidates.get(index) {
            self.shared.table.lock().silent(candidate.server, self.shared.clock.instant());
        }
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
        let (shared, server, ask) = (Arc::clone(self.shared), due.server, self.ask.clone());
        let now = shared.clock.instant();
        shared.table.lock().probing(server, now);
        if self.budget.query().is_err() {
            return;
        }
        tokio::spawn(async move {
            // Its own budget: one packet was charged to the question, and the answer is not used.
            let (budget, pace) = (Budget::default(), Pace::new(now));
            let deadline = now + limits::DATAGRAM_PATIENCE;
            let attempt = Attempt {
                shared: &shared,
                server,
                ask: &ask,
                budget: &budget,
                pace: &pace,
                deadline,
                doubt_edns: false,
            };
            if let Ended::Silent(_) = attempt.run().await {
                shared.table.lock().silent(server, shared.clock.instant());
            }
            drop(permit);
        });
    }

    /// Takes the end of a try; gives the reply where the judge accepts it.
    fn take(&self, progress: &mut Progress, index: usize, ended: Ended, pace: &Pace) -> Option<Reply> {
        let now = self.shared.clock.instant();
        // A try that ends by its own timeout is an old one: the silence of the latest is noted by the pace.
        if progress.waiting_for == Some(index) && !matches!(ended, Ended::Silent(NetError::Timeout)) {
            progress.waiting_for = None;
        }
        let candidate = progress.candidates.get_mut(index)?;
        let server = candidate.server;
        let fault = match ended {
            Ended::Answer(message) => match (self.judge)(&message, server) {
                Judgement::Accept => return Some(Reply { message: *message, server }),
                Judgement::Reject(rejection) => Fault::Rejected(rejection),
            },
            Ended::Malformed => Fault::Rejected(Rejection::Malformed),
            Ended::Silent(NetError::Timeout) => return None,
            Ended::Silent(NetError::NoSocket) => {
                progress.no_socket = true;
                return None;
            }
            Ended::Silent(error) | Ended::Disconnected(error) => Fault::Connection(error),
            Ended::Exceeded(what) => {
                progress.exceeded = Some(what);
                pace.set(now + limits::LAST_PATIENCE);
                return None;
            }
        };
        let mut table = self.shared.table.lock();
        match &fault {
            Fault::Rejected(Rejection::Lame | Rejection::Refused | Rejection::NotImp) => {
                table.lame(server, self.zone, now);
            }
            Fault::Connection(NetError::Refused) => table.refused(server, now),
            Fault::Connection(NetError::Unreachable) => table.unreachable(server, now),
            Fault::Rejected(_) | Fault::Connection(_) => {}
        }
        candidate.fault = Some(fault);
        // Somebody who was not asked yet is asked at once; otherwise the pace stays as it is.
        if progress.candidates.iter().any(|other| other.fault.is_none() && other.tries == 0) {
            pace.set(now);
        }
        None
    }
}

impl Progress {
    /// The candidate to ask next: the least cost, where each try that led to nothing multiplies it by four.
    fn next(&self) -> Option<usize> {
        if self.tries_left == 0 || self.exceeded.is_some() {
            return None;
        }
        let weight =
            |candidate: &Candidate| candidate.outlook.cost.saturating_mul(4_u32.saturating_pow(candidate.tries));
        let open = self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.fault.is_none());
        open.min_by_key(|(_, candidate)| weight(candidate)).map(|(index, _)| index)
    }

    /// A try at this candidate, and how long to wait until the next one.
    fn launch<'a>(&mut self, question: &Question<'a>, index: usize, pace: &'a Pace) -> Option<(Attempt<'a>, Duration)> {
        let candidate = self.candidates.get_mut(index)?;
        let growth = 1.5_f64.powi(candidate.tries.min(8) as i32);
        let timeout = candidate.outlook.timeout;
        let pause = timeout.mul_f64(growth).min(PAUSE_MAX.max(timeout));
        candidate.tries += 1;
        self.tries_left -= 1;
        self.waiting_for = Some(index);
        let pause = if self.tries_left == 0 { pause.max(limits::LAST_PATIENCE) } else { pause };
        let Question { shared, ask, budget, deadline, .. } = *question;
        let doubt_edns = candidate.tries > TRIES_BEFORE_DOUBTING_EDNS
            && !ask.edns_required
            && ask.tls.is_none()
            && !shared.table.lock().edns_seen(candidate.server);
        let server = candidate.server;
        Some((Attempt { shared, server, ask, budget, pace, deadline, doubt_edns }, pause))
    }

    /// The most telling of all that went wrong.
    fn error(&self) -> AskError {
        let rank = |candidate: &&Candidate| match &candidate.fault {
            Some(Fault::Rejected(Rejection::Bogus(_))) => 5,
            Some(Fault::Rejected(Rejection::Lame)) => 4,
            Some(Fault::Rejected(Rejection::Malformed)) => 2,
            Some(Fault::Rejected(_)) => 3,
            Some(Fault::Connection(_)) => 0,
            None => 1,
        };
        let worst = self.candidates.iter().max_by_key(rank);
        let server = worst.filter(|candidate| candidate.tries > 0).map(|candidate| candidate.server);
        let cause = match worst.map(|candidate| &candidate.fault) {
            Some(Some(Fault::Rejected(Rejection::Bogus(bogus)))) => Cause::Bogus(bogus.clone()),
            _ if self.exceeded.is_some() => Cause::Budget(self.exceeded.unwrap_or_default()),
            Some(Some(Fault::Rejected(rejection))) => match rejection {
                Rejection::Lame => Cause::Lame,
                Rejection::Malformed => Cause::Malformed,
                Rejection::Refused => Cause::ErrorCode("REFUSED"),
                Rejection::NotImp => Cause::ErrorCode("NOTIMP"),
                Rejection::FormErr => Cause::ErrorCode("FORMERR"),
                Rejection::ServFail | Rejection::Bogus(_) => Cause::ServFail,
            },
            Some(None) if self.no_socket => Cause::Network,
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
