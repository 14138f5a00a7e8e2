//! One question to one server, shared by all who ask it.
//!
//! Answers, name server addresses, keys, probes and repetitions of the same question to the same server are one exchange:
//! with each further one open, a forger off the path could guess as much again (RFC 5452 §5). An exchange waits for the
//! network alone, so nobody can wait in a circle; it lives as long as anybody waits for it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, BoxFuture, Shared as SharedFuture, WeakShared, abortable};
use hickory_proto::rr::Name;
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::attempt::{Attempt, Ended};
use super::table::{Feature, Form};
use super::{Ask, Shared};
use crate::clock::Instant;
use crate::resolver::budget::{Budget, Exceeded};
use crate::resolver::name_hash::NameMap;
use crate::telemetry::metrics as names;

/// A repetition is not sent again earlier than this after the last one, whoever wants it.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Whoever joins an exchange that was last sent this long ago has it sent again: packets may have been lost, or the
/// network come back.
const SENT_LONG_AGO: Duration = Duration::from_millis(300);

/// What is known of an exchange while it is open.
#[derive(Debug)]
pub(super) struct Line {
    server: SocketAddr,
    /// When it began.
    pub begun: Instant,
    /// Asks the transport to send the datagram again.
    pub again: Notify,
    /// A datagram is waited for, and not a connection.
    pub by_datagram: AtomicBool,
    /// What the server may spoil, where a datagram nearly fitted and TCP did not settle it.
    pub suspect: Mutex<Option<Feature>>,
    sent: Mutex<Instant>,
    /// It is at work until then: no reason yet to ask somebody else.
    busy_until: Mutex<Instant>,
}

impl Line {
    fn new(server: SocketAddr, now: Instant) -> Self {
        Self {
            server,
            begun: now,
            again: Notify::new(),
            by_datagram: AtomicBool::new(true),
            suspect: Mutex::new(None),
            sent: Mutex::new(now),
            busy_until: Mutex::new(now),
        }
    }

    /// No reason to ask somebody else before this.
    pub fn busy_until(&self) -> Instant {
        *self.busy_until.lock()
    }

    /// The exchange takes a further step, which may last until `when`.
    pub fn is_busy_until(&self, when: Instant) {
        let mut until = self.busy_until.lock();
        *until = (*until).max(when);
    }

    /// Sends the datagram once more, at the cost of `budget`; not where that was done a moment ago.
    pub fn send_again(&self, shared: &Shared, budget: &Budget) -> Result<(), Exceeded> {
        let now = shared.clock.instant();
        {
            let mut sent = self.sent.lock();
            if !self.by_datagram.load(Ordering::Relaxed) || now.saturating_duration_since(*sent) < LEAST_PAUSE {
                return Ok(());
            }
            budget.packet(self.server.ip(), now)?;
            *sent = now;
        }
        if shared.settings.counted {
            counter!(names::UPSTREAM_QUERIES, "transport" => "udp").increment(1);
        }
        self.again.notify_one();
        Ok(())
    }

    fn was_sent_long_ago(&self, now: Instant) -> bool {
        now.saturating_duration_since(*self.sent.lock()) >= SENT_LONG_AGO
    }
}

/// An exchange that is open.
#[derive(Clone)]
pub(super) struct Exchange {
    /// How it stands.
    pub line: Arc<Line>,
    /// Its end.
    pub ended: SharedFuture<BoxFuture<'static, Ended>>,
    /// Whether it was begun for this asker, and not joined.
    pub is_own: bool,
}

/// Somebody's wait for an exchange, which can be given up at once.
pub(super) struct Waiting {
    ended: Arc<Mutex<Option<SharedFuture<BoxFuture<'static, Ended>>>>>,
    wake: AbortHandle,
}

impl Waiting {
    /// Gives up. Where nobody else waits, the exchange has ended when this returns, its socket closed.
    pub fn give_up(self) {
        drop(self.ended.lock().take());
        self.wake.abort();
    }
}

impl Exchange {
    /// Its end, or none where the wait is given up.
    pub fn wait(self) -> (impl Future<Output = Option<Ended>> + Send + 'static, Waiting) {
        let ended = Arc::new(Mutex::new(Some(self.ended)));
        let inner = Arc::clone(&ended);
        let poll = move |context: &mut Context<'_>| match inner.lock().as_mut() {
            Some(ended) => ended.poll_unpin(context).map(Some),
            None => Poll::Ready(None),
        };
        let (waiting, wake) = abortable(poll_fn(poll));
        (waiting.map(|ended| ended.ok().flatten()), Waiting { ended, wake })
    }
}

/// What tells exchanges about one question apart.
#[derive(Clone, PartialEq, Eq)]
struct Target {
    server: SocketAddr,
    tls: Option<Arc<str>>,
    recursion_desired: bool,
    by_stream: bool,
}

struct Entry {
    target: Target,
    number: u64,
    line: Arc<Line>,
    ended: WeakShared<BoxFuture<'static, Ended>>,
}

/// All exchanges that are open, by question. Bounded by those who ask: each belongs to a lookup or a probe.
#[derive(Default)]
pub(super) struct Exchanges {
    open: Mutex<NameMap<(Name, u16), Vec<Entry>>>,
    begun: AtomicU64,
}

/// Takes an exchange off the list when it has ended, or when nobody waits for it any more.
struct Leave {
    shared: Arc<Shared>,
    question: (Name, u16),
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut open = self.shared.exchanges.open.lock();
        if let Some(entries) = open.get_mut(&self.question) {
            entries.retain(|entry| entry.number != self.number);
            if entries.is_empty() {
                open.remove(&self.question);
            }
        }
    }
}

impl Exchange {
    /// Joins the exchange about this question with `server`, or begins it in this form. `left_out` is what was left out of
    /// the form because the server did not do well with it, and whether it said so.
    pub fn open(
        shared: &Arc<Shared>,
        server: SocketAddr,
        ask: &Arc<Ask>,
        budget: &Arc<Budget>,
        form: Form,
        left_out: Option<(Feature, bool)>,
    ) -> Self {
        let target = Target {
            server,
            tls: ask.tls.clone(),
            recursion_desired: ask.recursion_desired,
            by_stream: form.by_stream,
        };
        let question = (ask.name.clone(), u16::from(ask.rtype));
        let now = shared.clock.instant();
        let mut open = shared.exchanges.open.lock();
        let entries = open.entry(question.clone()).or_default();
        for entry in entries.iter().filter(|entry| entry.target == target) {
            if let Some(ended) = entry.ended.upgrade() {
                let line = Arc::clone(&entry.line);
                drop(open);
                if line.was_sent_long_ago(now) {
                    // The budget of whoever began it is not ours to look at; without any left, we just wait.
                    let _ = line.send_again(shared, budget);
                }
                return Self { line, ended, is_own: false };
            }
        }
        let number = shared.exchanges.begun.fetch_add(1, Ordering::Relaxed);
        let leave = Leave { shared: Arc::clone(shared), question, number };
        let line = Arc::new(Line::new(server, now));
        let attempt = Attempt {
            shared: Arc::clone(shared),
            server,
            ask: Arc::clone(ask),
            budget: Arc::clone(budget),
            line: Arc::clone(&line),
            left_out,
        };
        let ended = async move {
            let ended = attempt.run(form).await;
            drop(leave);
            ended
        };
        let ended = ended.boxed().shared();
        // Only a future that has ended cannot be had as weak.
        if let Some(weak) = ended.downgrade() {
            entries.push(Entry { target, number, line: Arc::clone(&line), ended: weak });
        }
        Self { line, ended, is_own: true }
    }
}

impl Exchanges {
    /// Sends what is open of this question once more, where the last time was long ago.
    pub fn send_again(&self, shared: &Shared, name: &Name, rtype: u16, budget: &Budget) {
        let now = shared.clock.instant();
        let lines: Vec<Arc<Line>> = {
            let open = self.open.lock();
            let Some(entries) = open.get(&(name.clone(), rtype)) else { return };
            entries
                .iter()
                .filter(|entry| entry.line.was_sent_long_ago(now))
                .map(|entry| Arc::clone(&entry.line))
                .collect()
        };
        for line in lines {
            if line.send_again(shared, budget).is_err() {
                return;
            }
        }
    }
}
