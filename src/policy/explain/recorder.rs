//! DNS with a memory: every question that was asked on the way to a verdict, and its answer, so that what is shown is
//! what was judged.

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use tokio::time::timeout_at;

use crate::clock::Instant;
use crate::dns::{Answer, BoxFuture, Cause, Failure, Inspect, Lookup};

/// What came of a question.
pub(super) type Outcome = Result<Answer, Failure>;

/// See the module.
pub(super) struct Recorder {
    inner: Arc<dyn Inspect>,
    until: Instant,
    asked: Mutex<Vec<(Name, RecordType, Outcome)>>,
}

impl Recorder {
    /// Asks `inner`, but nothing that takes longer than `until`.
    pub fn new(inner: Arc<dyn Inspect>, until: Instant) -> Self {
        Self { inner, until, asked: Mutex::default() }
    }

    /// What came of a question that has been asked.
    pub fn outcome(&self, name: &Name, rtype: RecordType) -> Option<Outcome> {
        let asked = self.asked.lock();
        asked.iter().find(|(known, of, _)| known == name && *of == rtype).map(|(_, _, outcome)| outcome.clone())
    }
}

impl Lookup for Recorder {
    fn lookup<'a>(&'a self, name: &'a Name, rtype: RecordType) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if let Some(known) = self.outcome(name, rtype) {
                return known;
            }
            let outcome = match timeout_at(self.until, self.inner.lookup(name, rtype)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::new(name.clone(), rtype, Cause::Timeout)),
            };
            self.asked.lock().push((name.clone(), rtype, outcome.clone()));
            outcome
        })
    }

    fn zone_proven_insecure<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Option<u32>> {
        Box::pin(async move { timeout_at(self.until, self.inner.zone_proven_insecure(name)).await.ok().flatten() })
    }

    fn zone_known_signed(&self, name: &Name) -> bool {
        self.inner.zone_known_signed(name)
    }
}
