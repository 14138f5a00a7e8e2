//! One lookup of a domain's MTA-STS state: the record, then the policy file where that is due.

use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use super::fetch::{Fetch, FetchError};
use super::life::{self, RecordAnswer};
use super::policy;
use crate::cache::StsState;
use crate::cache::entry::{FetchFailureKind, StsPolicy};
use crate::clock::{Clock, Instant};
use crate::dns::{Answer, Failure, Lookup};
use crate::limits::{STS_NETWORK_PAUSE, STS_NETWORK_TRIES, STS_NETWORK_TRY_WITHIN};
use crate::names::Domain;
use crate::policy::decision::{Standing, StsView};
use crate::telemetry::metrics as metric_names;

/// What a lookup came to.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The new state, to be kept.
    pub state: StsState,
    /// What it comes to for whoever asked: here a policy with `max_age: 0` counts.
    pub view: StsView,
}

/// Asks for the record and, where that is due, the policy. `renew` fetches a policy again that is still held.
pub async fn look(
    lookup: &dyn Lookup,
    fetch: &dyn Fetch,
    clock: &Clock,
    domain: &Domain,
    before: Option<&StsState>,
    renew: bool,
) -> Looked {
    let mut tries = Tries { left: STS_NETWORK_TRIES, until: clock.instant() + STS_NETWORK_TRY_WITHIN };
    let answer = ask_record(lookup, clock, domain, &mut tries).await;
    let now = clock.stamp();
    // Ahead of its end, the same record out of the resolver's cache must not live longer for that.
    let same = before.filter(|state| {
        let left = state.record_left(now).filter(|left| !is_newer(answer.published_ttl, *left));
        left.is_some() && state.entry.record.outcome == answer.outcome
    });
    let entry = match same {
        Some(state) => (*state.entry).clone(),
        None => life::after_record(before.map(|state| &*state.entry), &answer, now),
    };
    let state = StsState::updated(entry, before, now);
    let Some(id) = life::to_fetch(&state, renew, now) else {
        return Looked { view: life::view(&state, now), state };
    };
    let fetched = fetch_policy(fetch, clock, domain, &mut tries).await;
    let now = clock.stamp();
    let entry = (*state.entry).clone();
    match fetched {
        Ok(policy) => {
            let (entry, held) = life::after_policy(entry, id, policy, now);
            let state = StsState::updated(entry, Some(&state), now);
            let mut view = life::view(&state, now);
            view.standing = Standing::InForce(std::sync::Arc::clone(&held), held.policy.max_age);
            Looked { state, view }
        }
        Err(failure) => {
            tracing::debug!(%domain, kind = failure.label(), reason = %failure.reason, "policy not fetched");
            let left = state.policy(now).map(|(_, left)| left);
            let entry = life::after_failure(entry, id, failure.kind, &failure.reason, left, now);
            let state = StsState::updated(entry, Some(&state), now);
            Looked { view: life::view(&state, now), state }
        }
    }
}

/// Whether an answer with this TTL was learnt later than something that has `left` left; seconds are whole.
pub(crate) fn is_newer(ttl: u32, left: Duration) -> bool {
    Duration::from_secs(ttl.into()) > left + Duration::from_secs(2)
}

/// Network tries that are left within one lookup: a lost packet must not leave a domain unprotected.
struct Tries {
    left: u32,
    until: Instant,
}

impl Tries {
    /// Waits for the next try; false where there is none.
    async fn again(&mut self, clock: &Clock) -> bool {
        self.left = self.left.saturating_sub(1);
        let pause = STS_NETWORK_PAUSE * if self.left + 1 == STS_NETWORK_TRIES { 1 } else { 4 };
        if self.left == 0 || clock.instant() + pause > self.until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }
}

async fn ask_record(lookup: &dyn Lookup, clock: &Clock, domain: &Domain, tries: &mut Tries) -> RecordAnswer {
    let result = match record_name(domain) {
        Some(name) => loop {
            let result: Result<Answer, Failure> = lookup.lookup(&name, RecordType::TXT).await;
            match &result {
                Err(failure) if !failure.is_bogus() && tries.again(clock).await => {}
                _ => break result,
            }
        },
        // Too long for a name: nothing can be there.
        None => return RecordAnswer::impossible(),
    };
    life::read_record(&result)
}

/// `_mta-sts.<domain>`, unless that is too long for a name.
pub fn record_name(domain: &Domain) -> Option<Name> {
    domain.to_name().prepend_label("_mta-sts").ok()
}

/// A failed fetch in the terms of [`life`].
struct Failed {
    kind: FetchFailureKind,
    reason: String,
}

impl Failed {
    fn label(&self) -> &'static str {
        label(self.kind)
    }
}

fn label(kind: FetchFailureKind) -> &'static str {
    match kind {
        FetchFailureKind::Network => "network",
        FetchFailureKind::Http => "http",
        FetchFailureKind::Certificate => "certificate",
        FetchFailureKind::Invalid => "invalid",
    }
}

async fn fetch_policy(
    fetch: &dyn Fetch,
    clock: &Clock,
    domain: &Domain,
    tries: &mut Tries,
) -> Result<StsPolicy, Failed> {
    let started = clock.instant();
    let result = loop {
        let result = fetch_once(fetch, domain).await;
        match &result {
            Err(failed) if failed.kind == FetchFailureKind::Network && tries.again(clock).await => {}
            _ => break result,
        }
    };
    let took = clock.instant().saturating_duration_since(started);
    metrics::histogram!(metric_names::MTA_STS_FETCH_DURATION).record(took.as_secs_f64());
    let word = result.as_ref().err().map_or("ok", Failed::label);
    metrics::counter!(metric_names::MTA_STS_FETCH, "result" => word).increment(1);
    result
}

async fn fetch_once(fetch: &dyn Fetch, domain: &Domain) -> Result<StsPolicy, Failed> {
    let fetched = fetch
        .fetch(domain)
        .await
        .map_err(|error: FetchError| Failed { kind: error.kind(), reason: error.to_string() })?;
    policy::parse(&fetched.body)
        .map_err(|error| Failed { kind: FetchFailureKind::Invalid, reason: format!("policy: {error}") })
}
