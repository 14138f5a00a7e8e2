//! One lookup of a domain's MTA-STS state: the record, then the policy file where that is due.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};

use super::fetch::{Fetch, FetchError};
use super::life::{self, RecordAnswer};
use super::policy;
use crate::cache::entry::{FetchFailureKind, HeldPolicy, RecordOutcome, StsPolicy};
use crate::cache::{Shared, StsMode, StsState};
use crate::clock::{Clock, Instant, Stamp};
use crate::dns::{Answer, Failure, Glance, Lookup};
use crate::limits::{STS_NETWORK_PAUSE, STS_NETWORK_TRIES, STS_NETWORK_TRY_WITHIN};
use crate::names::Domain;
use crate::policy::decision::{Standing, StsView};
use crate::telemetry::metrics as metric_names;

/// How thoroughly to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A record that seems not to be there stays unproven, for it may not matter.
    UnlessDenied,
    /// The record is looked at, and the policy fetched where that is due.
    Recheck,
    /// A policy is fetched again though it is still held.
    Renew,
}

/// What a lookup came to.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The new state, to be kept.
    pub state: StsState,
    /// What it comes to for whoever asked: here a policy with `max_age: 0` counts.
    pub view: StsView,
    /// True where the policy was fetched just now.
    pub fetched: bool,
}

/// What a lookup is made with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// DNS.
    pub lookup: &'a dyn Lookup,
    /// Policy hosts.
    pub fetch: &'a dyn Fetch,
    /// What other replicas fetched, where they share it.
    pub shared: Option<&'a dyn Shared>,
    /// Both clocks.
    pub clock: &'a Clock,
    /// Hears of a policy that is announced, before it is fetched.
    pub announced: &'a (dyn Fn(&StsState) + Send + Sync),
}

/// Asks for the record and, where that is due, the policy. None where nothing is known but that there seems to be no
/// record, and `look` leaves that unproven.
///
/// Other replicas are asked where nothing is held, beside the record, and where a policy cannot be fetched.
pub async fn look(means: Means<'_>, domain: &Domain, before: Option<&StsState>, look: Look) -> Option<Looked> {
    let Means { lookup, fetch, clock, .. } = means;
    let mut tries = Tries { left: STS_NETWORK_TRIES, until: clock.instant() + STS_NETWORK_TRY_WITHIN };
    let holds = before.is_some_and(|state| state.policy(clock.stamp()).is_some());
    // Other replicas may know of a policy, whatever DNS says.
    let unless_denied = look == Look::UnlessDenied && before.is_none() && means.shared.is_none();
    let record = ask_record(lookup, clock, domain, &mut tries, unless_denied);
    let (answer, shared) = tokio::join!(record, means.ask_replicas(domain, !holds));
    let answer = answer?;
    let now = clock.stamp();
    let state = adopt(after_answer(before, &answer, now), shared, domain, now);
    // What asks for less than `enforce` saves no fetch: it may be an attempt to keep a policy from being learnt.
    let weak = !holds && state.policy(now).is_some_and(|(held, _)| held.policy.mode != StsMode::Enforce);
    let Some(id) = life::to_fetch(&state, look == Look::Renew || weak, now) else {
        return Some(Looked { view: life::view(&state, now), state, fetched: false });
    };
    if matches!(state.entry.record.outcome, RecordOutcome::Id(_)) {
        (means.announced)(&state);
    }
    let result = fetch_policy(fetch, clock, domain, &mut tries).await;
    let now = clock.stamp();
    let entry = (*state.entry).clone();
    match result {
        Ok(policy) => {
            let (entry, held) = life::after_policy(entry, id, policy, now);
            let state = StsState::updated(entry, Some(&state), now);
            let mut view = life::view(&state, now);
            view.standing = Standing::InForce(Arc::clone(&held), held.policy.max_age);
            Some(Looked { state, view, fetched: true })
        }
        Err(failure) => {
            tracing::debug!(%domain, kind = failure.label(), reason = %failure.reason, "policy not fetched");
            let left = state.policy(now).map(|(_, left)| left);
            let entry = life::after_failure(entry, id, failure.kind, &failure.reason, left, now);
            let state = StsState::updated(entry, Some(&state), now);
            let shared = means.ask_replicas(domain, holds).await;
            let now = clock.stamp();
            let state = adopt(state, shared, domain, now);
            Some(Looked { view: life::view(&state, now), state, fetched: false })
        }
    }
}

impl Means<'_> {
    /// What another replica fetched; nothing where that is not `wanted`.
    async fn ask_replicas(&self, domain: &Domain, wanted: bool) -> Option<Arc<HeldPolicy>> {
        match self.shared {
            Some(shared) if wanted => shared.find(domain).await,
            Some(_) | None => None,
        }
    }
}

/// The state after the record was asked for.
fn after_answer(before: Option<&StsState>, answer: &RecordAnswer, now: Stamp) -> StsState {
    // Ahead of its end, the same record out of the resolver's cache must not live longer for that.
    let same = before.filter(|state| {
        let left = state.record_left(now).filter(|left| !is_newer(answer.published_ttl, *left));
        left.is_some() && state.entry.record.outcome == answer.outcome
    });
    let entry = match same {
        Some(state) => (*state.entry).clone(),
        None => life::after_record(before.map(|state| &*state.entry), answer, now),
    };
    StsState::updated(entry, before, now)
}

/// The state with what another replica fetched, where that is to be used.
fn adopt(state: StsState, shared: Option<Arc<HeldPolicy>>, domain: &Domain, now: Stamp) -> StsState {
    match shared.filter(|shared| life::takes(&state, shared, now)) {
        Some(shared) => {
            tracing::info!(%domain, id = %shared.id, fetched_at = shared.fetched_at, "policy of another replica taken");
            life::after_taking(&state, shared, now)
        }
        None => state,
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

/// What there is of a record; none where it is denied, which `unless_denied` leaves unproven.
async fn ask_record(
    lookup: &dyn Lookup,
    clock: &Clock,
    domain: &Domain,
    tries: &mut Tries,
    unless_denied: bool,
) -> Option<RecordAnswer> {
    // Too long for a name: nothing can be there.
    let Some(name) = record_name(domain) else { return Some(RecordAnswer::impossible()) };
    let result = loop {
        let result: Result<Answer, Failure> = match unless_denied {
            true => match lookup.glance(&name, RecordType::TXT).await {
                Ok(Glance::Denied) => return None,
                Ok(Glance::Answer(answer)) => Ok(answer),
                Err(failure) => Err(failure),
            },
            false => lookup.lookup(&name, RecordType::TXT).await,
        };
        match &result {
            Err(failure) if !failure.is_bogus() && tries.again(clock).await => {}
            _ => break result,
        }
    };
    Some(life::read_record(&result))
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
