//! A fresh look at MTA-STS: the record, and the policy whenever one is announced.

use hickory_proto::rr::RecordType;
use tokio::time::timeout_at;

use super::model::{FetchSection, StsSection};
use super::recorder::Recorder;
use super::sections;
use crate::cache::StsState;
use crate::cache::entry::{FetchFailureKind, HeldPolicy, RecordOutcome, StsPolicy};
use crate::clock::{Clock, Instant};
use crate::dns::{Failure, Lookup};
use crate::names::Domain;
use crate::policy::decision::{Standing, StsView};
use crate::policy::mta_sts::life::{self, RecordAnswer};
use crate::policy::mta_sts::{Fetch, FetchError, policy, record_name};

/// What came of it.
pub(super) struct StsLook {
    /// For showing.
    pub section: StsSection,
    /// What a lookup for Postfix would come to now, with the policy that is held.
    pub view: StsView,
    /// The record's lookup, where it failed.
    pub failure: Option<Failure>,
    /// Kind and reason of a fetch that failed.
    pub fetch_failure: Option<(FetchFailureKind, String)>,
}

/// Looks, without asking whether the policy was fetched lately: somebody wants to know now.
pub(super) async fn look(
    dns: &Recorder,
    fetch: &dyn Fetch,
    clock: &Clock,
    domain: &Domain,
    before: Option<&StsState>,
    until: Instant,
) -> StsLook {
    let name = record_name(domain);
    let outcome = match &name {
        Some(name) => Some(dns.lookup(name, RecordType::TXT).await),
        None => None,
    };
    let answer = outcome.as_ref().map_or_else(RecordAnswer::impossible, life::read_record);
    let now = clock.stamp();
    let entry = life::after_record(before.map(|state| &*state.entry), &answer, now);
    let mut state = StsState::updated(entry, before, now);
    let due = life::to_fetch(&state, false, now);
    let (mut fetched, mut fetch_failure, mut at_once) = (None, None, None);
    if let RecordOutcome::Id(id) = &answer.outcome {
        let result = fetch_policy(fetch, domain, until).await;
        let now = clock.stamp();
        let entry = (*state.entry).clone();
        let policy = result.as_ref().ok().map(|policy| {
            let held = HeldPolicy { id: id.clone(), fetched_at: now.wall, policy: policy.clone().into() };
            sections::policy(&held, 0, policy.max_age)
        });
        fetch_failure = result.as_ref().err().cloned();
        fetched = Some(FetchSection {
            url: format!("https://mta-sts.{domain}/.well-known/mta-sts.txt"),
            problem: fetch_failure.as_ref().map(|(_, reason)| reason.clone()),
            kind: fetch_failure.as_ref().map(|(kind, _)| *kind),
            policy,
        });
        // Where no fetch is due, Postfix's query would not have seen this one.
        match (due, result) {
            (Some(id), Ok(policy)) => {
                let (entry, held) = life::after_policy(entry, id, policy, now);
                state = StsState::updated(entry, Some(&state), now);
                at_once = Some(held);
            }
            (Some(id), Err((kind, reason))) => {
                let left = state.policy(now).map(|(_, left)| left);
                state = StsState::updated(life::after_failure(entry, id, kind, &reason, left, now), Some(&state), now);
            }
            (None, _) => {}
        }
    }
    let now = clock.stamp();
    let mut view = life::view(&state, now);
    let mut policy = sections::held(&state, now);
    if let Some(held) = at_once {
        policy = Some(sections::policy(&held, 0, held.policy.max_age));
        view.standing = Standing::InForce(held.clone(), held.policy.max_age);
    }
    let lookup = name.zip(outcome.as_ref()).map(|(name, outcome)| sections::looked(&name, RecordType::TXT, outcome));
    let (id, no_record) = match answer.outcome {
        RecordOutcome::Id(id) => (Some(id.into()), None),
        RecordOutcome::Absent(why) => (None, Some(why.to_string())),
        RecordOutcome::Failed(_) => (None, None),
    };
    let section = StsSection { lookup, id, no_record, fetch: fetched, policy, status: view.status().to_owned() };
    StsLook { section, view, failure: outcome.and_then(Result::err), fetch_failure }
}

async fn fetch_policy(
    fetch: &dyn Fetch,
    domain: &Domain,
    until: Instant,
) -> Result<StsPolicy, (FetchFailureKind, String)> {
    let fetched = timeout_at(until, fetch.fetch(domain)).await.unwrap_or(Err(FetchError::Timeout));
    let fetched = fetched.map_err(|error| (error.kind(), error.to_string()))?;
    policy::parse(&fetched.body).map_err(|error| (FetchFailureKind::Invalid, format!("policy: {error}")))
}
