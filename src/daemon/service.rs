//! The socketmap's service: names to maps, keys to next hops, decisions to replies.

use std::sync::Arc;

use bytes::Bytes;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use tokio::time::timeout;

use super::forms::Form;
use super::maps::{Map, Maps};
use super::status::Status;
use crate::clock::{Clock, Instant};
use crate::http::{Scope, respond, serve_connection};
use crate::limits;
use crate::names::NextHop;
use crate::policy::decision::Decision;
use crate::policy::{self, reply};
use crate::socketmap::{Answer, BoxFuture, Reply, Request, Rewound, Service};
use crate::telemetry::metrics as names;

/// Answers Postfix.
pub(super) struct Lookups {
    shared: Arc<Shared>,
    status: Arc<Status>,
    maps: RwLock<Arc<Maps>>,
    not_a_destination: Counter,
    unknown_map: Counter,
}

/// What lookups and forms stand on.
pub(super) struct Shared {
    pub(super) policy: policy::Engine,
    pub(super) clock: Clock,
    hit: Histogram,
    miss: Histogram,
}

impl Lookups {
    pub(super) fn new(policy: policy::Engine, clock: Clock, maps: Maps, status: Arc<Status>) -> Self {
        let duration = |cache| metrics::histogram!(names::QUERY_DURATION, "cache" => cache);
        let other = |answer| metrics::counter!(names::QUERIES, "map" => names::OTHER_MAP, "answer" => answer);
        Self {
            shared: Arc::new(Shared { policy, clock, hit: duration("hit"), miss: duration("miss") }),
            status,
            maps: RwLock::new(Arc::new(maps)),
            not_a_destination: other("not-a-destination"),
            unknown_map: other("perm"),
        }
    }

    pub(super) fn policy(&self) -> &policy::Engine {
        &self.shared.policy
    }

    pub(super) fn map(&self, name: &[u8]) -> Option<Arc<Map>> {
        self.maps.read().find(name).cloned()
    }

    /// Replaces the maps, from the next query on.
    pub(super) fn set_maps(&self, maps: Maps) {
        *self.maps.write() = Arc::new(maps);
    }
}

impl Service for Lookups {
    fn answer(&self, request: Request<'_>) -> Answer {
        let Some(map) = self.map(request.name) else {
            if let Some(form) = Form::of(&request) {
                let usual = self.map(b"QUERY").map(|map| map.options).unwrap_or_default();
                return form.answer(&request, self.shared.clone(), usual);
            }
            self.unknown_map.increment(1);
            return Answer::Now(Reply::unknown_map(request.name));
        };
        let Ok(hop) = NextHop::parse(request.key) else {
            self.not_a_destination.increment(1);
            return Answer::Now(Reply::NOT_FOUND);
        };
        let started = self.shared.clock.instant();
        match self.shared.policy.answer_at_once(&hop, &map.options) {
            Some(decision) => Answer::Now(self.shared.reply(&decision, &hop, &map, started)),
            None => Answer::Later(Box::pin(self.shared.clone().decide(hop, map, started))),
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
        self.reply(&decision, &hop, &map, started)
    }

    fn reply(&self, decision: &Decision, hop: &NextHop, map: &Map, started: Instant) -> Reply {
        map.count(&decision.outcome);
        let duration = if decision.cached { &self.hit } else { &self.miss };
        duration.record(self.clock.instant().saturating_duration_since(started).as_secs_f64());
        to_reply(decision, hop, map)
    }
}

fn to_reply(decision: &Decision, hop: &NextHop, map: &Map) -> Reply {
    let text = Bytes::from(reply::render(decision, hop, &map.options).to_string());
    // `render` keeps within Postfix's limit; should it ever not, the mail waits instead of going out bare.
    Reply::complete(text).unwrap_or_else(|| Reply::temporary("reply too long"))
}
