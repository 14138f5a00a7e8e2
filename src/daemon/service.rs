//! The socketmap's service: names to maps, keys to next hops, decisions to replies.

use std::sync::Arc;

use bytes::Bytes;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::forms::{Asked, Form};
use super::maps::{Map, Maps};
use super::status::Status;
use crate::caller::own_uid;
use crate::clock::{Clock, Instant};
use crate::http::{Scope, respond, serve_connection};
use crate::limits;
use crate::names::NextHop;
use crate::policy::decision::Decision;
use crate::policy::{self, reply};
use crate::socketmap::{Answer, BoxFuture, Reply, Request, Rewound, Service};
use crate::telemetry::metrics as names;
use crate::telemetry::repeats::Occasionally;

/// Why a reply that Postfix would not read is not sent.
const TOO_LONG: &str = "reply too long";
/// Why a lookup that would take longer than the end of the process gets TEMP.
const STOPPING: &str = "postseal is stopping, the lookup was not done in time";

/// Answers Postfix.
pub(super) struct Lookups {
    shared: Arc<Shared>,
    status: Arc<Status>,
    maps: RwLock<Arc<Maps>>,
    not_a_destination: Counter,
    unknown_map: Counter,
    /// Runs what has to be looked up.
    engines: Handle,
    /// True once the end of the process waits for no lookup any more.
    given_up: watch::Sender<bool>,
    own_uid: u32,
    /// Lines about forms that were refused.
    refused: Occasionally,
}

/// What lookups and forms stand on.
pub(super) struct Shared {
    pub(super) policy: policy::Engine,
    pub(super) clock: Clock,
    hit: Histogram,
    miss: Histogram,
}

impl Lookups {
    /// Needs a tokio runtime: lookups run there.
    pub(super) fn new(policy: policy::Engine, clock: Clock, maps: Maps, status: Arc<Status>) -> Self {
        let duration = |cache| metrics::histogram!(names::QUERY_DURATION, "cache" => cache);
        let other = |answer| metrics::counter!(names::QUERIES, "map" => names::OTHER_MAP, "answer" => answer);
        Self {
            shared: Arc::new(Shared { policy, clock, hit: duration("hit"), miss: duration("miss") }),
            status,
            maps: RwLock::new(Arc::new(maps)),
            not_a_destination: other("not-a-destination"),
            unknown_map: other("perm"),
            engines: Handle::current(),
            given_up: watch::Sender::new(false),
            own_uid: own_uid(),
            refused: Occasionally::default(),
        }
    }

    pub(super) fn policy(&self) -> &policy::Engine {
        &self.shared.policy
    }

    pub(super) fn map(&self, name: &[u8]) -> Option<Arc<Map>> {
        self.maps.read().find(name).cloned()
    }

    /// A reply that takes lookups: not on the thread of its connection, which others share. `late` is what is said
    /// where the process has to end before.
    fn where_engines_live<R>(&self, reply: R, late: impl FnOnce() -> Reply + Send + 'static) -> Answer
    where
        R: Future<Output = Reply> + Send + 'static,
    {
        let task = self.engines.spawn(reply);
        let mut given_up = self.given_up.subscribe();
        Answer::Later(Box::pin(async move {
            tokio::select! {
                biased;
                done = task => done.unwrap_or_else(|_| late()),
                _ = given_up.wait_for(|given_up| *given_up) => late(),
            }
        }))
    }

    /// The process ends, and cannot wait any longer: what is still being looked up is answered without.
    pub(super) fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// What is asked under a name that is no map's.
    fn other(&self, request: &Request<'_>) -> Answer {
        match Form::of(request, self.own_uid) {
            Asked::May(form, caller) => {
                let usual = self.map(b"QUERY").map(|map| map.options).unwrap_or_default();
                match form.answer(request, caller, self.shared.clone(), usual) {
                    Answer::Later(reply) => self.where_engines_live(reply, || Reply::temporary(STOPPING)),
                    at_once => at_once,
                }
            }
            Asked::MayNot(form, caller) => {
                let form = form.name();
                if let Some(held_back) = self.refused.may_say(self.shared.clock.instant()) {
                    let (uid, pid) = (caller.uid, caller.pid);
                    tracing::warn!(form, uid, pid, held_back, "{form} refused to {caller}, neither root nor this user");
                }
                Answer::Now(Reply::permanent(&format!("{form} is for root and postseal's own user alone")))
            }
            Asked::Nothing => {
                self.unknown_map.increment(1);
                Answer::Now(Reply::unknown_map(request.name))
            }
        }
    }

    /// Replaces the maps, from the next query on.
    pub(super) fn set_maps(&self, maps: Maps) {
        *self.maps.write() = Arc::new(maps);
    }
}

impl Service for Lookups {
    fn answer(&self, request: Request<'_>, reply: &mut String) -> Answer {
        let Some(map) = self.map(request.name) else {
            return self.other(&request);
        };
        let Ok(hop) = NextHop::parse(request.key) else {
            self.not_a_destination.increment(1);
            return Answer::Now(Reply::NOT_FOUND);
        };
        match self.shared.policy.answer_at_once(&hop, &map.options, request.received) {
            Some(decision) => {
                self.shared.count(&decision, &map, request.received.instant);
                reply::write(reply, &decision, &hop, &map.options);
                // Within Postfix's limit; should it ever not be, the mail waits instead of going out bare.
                if reply.len() <= limits::REPLY_BYTES {
                    Answer::Written
                } else {
                    Answer::Now(Reply::temporary(TOO_LONG))
                }
            }
            None => {
                let late = hop.clone();
                let late = move || Reply::temporary(&format!("{late}: {STOPPING}"));
                self.where_engines_live(self.shared.clone().decide(hop, map, request.received.instant), late)
            }
        }
    }

    fn http(&self, stream: Rewound) -> BoxFuture<'static, ()> {
        let status = self.status.clone();
        let serve = serve_connection(stream, false, move |head| {
            std::future::ready(respond(&*status, Scope::MetricsOnly, &head))
        });
        Box::pin(async move {
            let _ = timeout(limits::HTTP_HEADER_TIMEOUT, serve).await;
        })
    }
}

impl Shared {
    async fn decide(self: Arc<Self>, hop: NextHop, map: Arc<Map>, started: Instant) -> Reply {
        let decision = self.policy.answer(&hop, &map.options).await;
        self.count(&decision, &map, started);
        let text = Bytes::from(reply::render(&decision, &hop, &map.options).to_string());
        Reply::complete(text).unwrap_or_else(|| Reply::temporary(TOO_LONG))
    }

    fn count(&self, decision: &Decision, map: &Map, started: Instant) {
        map.count(&decision.outcome);
        let duration = if decision.cached { &self.hit } else { &self.miss };
        duration.record(self.clock.instant().saturating_duration_since(started).as_secs_f64());
    }
}
