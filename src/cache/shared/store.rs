//! The shared store as lookups see it: asked while there is a connection, left alone for a while after a failure.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::{RedisError, cmd};
use tokio::sync::watch;
use tokio::time::timeout;

use super::changes::{Change, Changes};
use super::copy::{CopyError, SharedCopy, key_of};
use super::link::{Connection, Trouble};
use super::{Shared, Unusable, Verify};
use crate::cache::entry::HeldPolicy;
use crate::clock::{Clock, Instant, UnixTime};
use crate::config::SharedUrl;
use crate::limits::{SHARED_READ_WAIT, SHARED_VALUE_BYTES, STORE_COMPLAINT_INTERVAL};
use crate::names::Domain;
use crate::telemetry::metrics::{SHARED_STORE_FAILING, SHARED_STORE_PENDING, SHARED_STORE_REQUESTS};

/// The client of a shared store. Somebody has to run [`SharedStore::run`].
pub struct SharedStore {
    pub(super) url: SharedUrl,
    /// PEM certificates of the CAs that count, in place of Mozilla's.
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) clock: Clock,
    verify: Verify,
    pub(super) link: watch::Sender<Link>,
    /// Failures since anything worked; sets the back-off.
    pub(super) failures: AtomicU32,
    pub(super) changes: Changes,
    pub(super) last_error: Mutex<Option<String>>,
    complaints: Mutex<Complaints>,
}

pub(super) enum Link {
    /// Not known yet.
    Starting,
    /// The connection, and which one it is.
    Up(Connection, u64),
    /// Left alone.
    Down,
}

/// How the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The first connection is being made.
    Starting,
    /// In use.
    Up,
    /// Left alone since a failure; tried again after a while.
    Down,
}

/// How things stand, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedStatus {
    /// Where it is, password masked.
    pub url: String,
    /// The link.
    pub link: LinkState,
    /// Changes that are still to be written.
    pub pending: usize,
    /// The last failure, while it is down.
    pub error: Option<String>,
}

#[derive(Default)]
struct Complaints {
    /// Not told yet.
    count: u64,
    last: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl SharedStore {
    /// A store that is not connected yet. `authorities` are PEM certificates of the CAs that count in place of
    /// Mozilla's; `verify` parses what is read.
    pub fn new(url: SharedUrl, authorities: Option<Vec<u8>>, clock: Clock, verify: Verify) -> Self {
        let (failures, changes, last_error, complaints) = Default::default();
        let link = watch::Sender::new(Link::Starting);
        Self { url, authorities, clock, verify, link, failures, changes, last_error, complaints }
    }

    /// How things stand.
    pub fn status(&self) -> SharedStatus {
        let link = match &*self.link.borrow() {
            Link::Starting => LinkState::Starting,
            Link::Up(..) => LinkState::Up,
            Link::Down => LinkState::Down,
        };
        let error = self.last_error.lock().clone().filter(|_| link != LinkState::Up);
        SharedStatus { url: self.url.to_string(), link, pending: self.changes.len(), error }
    }

    /// Gives the connection of that generation up, unless somebody did already.
    pub(super) fn lose(&self, generation: u64, error: &LinkError) {
        let was_up = self.link.send_if_modified(|link| {
            let is_this = matches!(link, Link::Up(_, current) if *current == generation);
            if is_this {
                *link = Link::Down;
            }
            is_this
        });
        if was_up {
            self.note_down(error);
        }
    }

    pub(super) fn note_down(&self, error: &LinkError) {
        metrics::gauge!(SHARED_STORE_FAILING).set(1.0);
        *self.last_error.lock() = Some(error.to_string());
        tracing::warn!(url = %self.url, %error, "shared store lost: going on with what is stored here");
    }

    /// Asks for the entry of `domain`, if there is a connection, or the first one comes in time.
    async fn ask(&self, domain: &Domain) -> Asked {
        let mut link = self.link.subscribe();
        let known = link.wait_for(|link| !matches!(link, Link::Starting));
        // Who waits for longer does without; whether it can be reached is for the keeper to find out.
        let _ = timeout(SHARED_READ_WAIT, known).await.is_ok();
        let up = match &*link.borrow() {
            Link::Up(connection, generation) => Some((connection.clone(), *generation)),
            Link::Starting | Link::Down => None,
        };
        let Some((mut connection, generation)) = up else { return Asked::Skipped };
        match within(SHARED_READ_WAIT, fetch(&mut connection, domain)).await {
            Ok(found) => {
                self.worked();
                Asked::Answered(found)
            }
            Err(error) => {
                self.lose(generation, &error);
                Asked::Failed
            }
        }
    }

    /// What is shared of `domain`, and the word for the metrics.
    async fn look_up(&self, domain: &Domain) -> (&'static str, Option<HeldPolicy>) {
        let octets = match self.ask(domain).await {
            Asked::Answered(octets) => octets,
            Asked::Skipped => return ("skipped", None),
            Asked::Failed => return ("failed", None),
        };
        // Purged here, perhaps while the answer was on its way.
        if self.changes.is_leaving(domain) {
            return ("miss", None);
        }
        let read = match octets {
            Ok(None) => return ("miss", None),
            Ok(Some(octets)) => self.read(domain, &octets, self.clock.wall()),
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(held) => ("hit", Some(held)),
            Err(Refusal::Unusable(Unusable::Expired)) => ("miss", None),
            Err(error) => {
                self.complain("entries of the shared store that cannot be used are skipped", domain, &error);
                ("invalid", None)
            }
        }
    }

    /// The policy in these octets, if it is one that may be believed.
    pub(super) fn read(&self, domain: &Domain, octets: &[u8], now: UnixTime) -> Result<HeldPolicy, Refusal> {
        let copy = SharedCopy::decode(domain, octets)?;
        Ok((self.verify)(&copy, now)?)
    }

    pub(super) fn show_pending(&self) {
        metrics::gauge!(SHARED_STORE_PENDING).set(self.changes.len() as f64);
    }

    pub(super) fn worked(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Says what is wrong with single entries, all of a minute in one line.
    pub(super) fn complain(&self, what: &'static str, domain: &Domain, error: &dyn std::fmt::Display) {
        let now = self.clock.instant();
        let mut complaints = self.complaints.lock();
        complaints.count += 1;
        if complaints.last.is_none_or(|last| now.saturating_duration_since(last) >= STORE_COMPLAINT_INTERVAL) {
            let times = std::mem::take(&mut complaints.count);
            complaints.last = Some(now);
            tracing::warn!(url = %self.url, times, last = %domain, %error, "{what}");
        }
    }
}

/// What came of a question.
enum Asked {
    /// There is no connection now.
    Skipped,
    Failed,
    Answered(Result<Option<Vec<u8>>, CopyError>),
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl Shared for SharedStore {
    fn find<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Option<Arc<HeldPolicy>>> {
        Box::pin(async move {
            let (result, held) = self.look_up(domain).await;
            count("read", result);
            held.map(Arc::new)
        })
    }

    fn offer(&self, domain: &Domain, held: &Arc<HeldPolicy>) {
        if !self.changes.put(domain, Change::Put(Arc::clone(held))) {
            count("write", "dropped");
        }
        self.show_pending();
    }

    fn forget(&self, domain: &Domain) {
        if !self.changes.put(domain, Change::Remove) {
            count("remove", "dropped");
        }
        self.show_pending();
    }
}

/// The octets under the key of `domain`, of which no more are taken than an entry can have. The outer error is the
/// connection's, the inner one the entry's.
pub(super) async fn fetch(
    connection: &mut Connection,
    domain: &Domain,
) -> Result<Result<Option<Vec<u8>>, CopyError>, RedisError> {
    let asked: Result<Vec<u8>, _> =
        connection.ask(cmd("GETRANGE").arg(key_of(domain)).arg(0).arg(SHARED_VALUE_BYTES)).await;
    match asked {
        Ok(octets) => Ok(Ok((!octets.is_empty()).then_some(octets))),
        Err(error) if Trouble::of(&error) == Trouble::OtherType => Ok(Err(CopyError::OtherType)),
        Err(error) => Err(error),
    }
}

pub(super) async fn within<T>(
    wait: Duration,
    future: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, LinkError> {
    match timeout(wait, future).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LinkError::Silent(wait)),
    }
}

/// Counts a request.
pub(super) fn count(operation: &'static str, result: &'static str) {
    metrics::counter!(SHARED_STORE_REQUESTS, "operation" => operation, "result" => result).increment(1);
}
