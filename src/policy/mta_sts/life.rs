//! The life of a domain's MTA-STS state (design §5; RFC 8461 §3.3, §5.1, §10.2): pure, `now` is an argument.
//!
//! Whatever fails, a policy stays in force until its `max_age` ends; only a new policy file replaces it.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RData;

use super::record::{NoRecord, select};
use crate::cache::StsState;
use crate::cache::entry::{
    FetchFailure, FetchFailureKind, HeldPolicy, RecordCheck, RecordOutcome, StsEntry, StsMode, StsPolicy,
};
use crate::clock::{Stamp, whole_seconds};
use crate::dns::{Answer, Failure, Found};
use crate::limits::{DANE_NEGATIVE_TTL, STS_BACKOFF, STS_NETWORK_BACKOFF, STS_RECORD_TTL, STS_REFRESH};
use crate::policy::decision::{Standing, StsView};

/// A policy may be renewed this soon before or after its last fetch, however short its `max_age` is.
const SHORTEST_REFRESH: u32 = 10;

/// What a TXT lookup came to, and how long that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAnswer {
    /// What the record says.
    pub outcome: RecordOutcome,
    /// Its TTL in seconds, clamped; of no meaning after a failure.
    pub ttl: u32,
    /// Its TTL as it came.
    pub published_ttl: u32,
}

impl RecordAnswer {
    /// For a domain so long that no record can be there.
    pub fn impossible() -> Self {
        Self {
            outcome: RecordOutcome::Absent(NoRecord::Missing.to_string().into()),
            ttl: DANE_NEGATIVE_TTL,
            published_ttl: DANE_NEGATIVE_TTL,
        }
    }
}

/// Reads the answer to a TXT lookup at `_mta-sts.<domain>`.
pub fn read_record(result: &Result<Answer, Failure>) -> RecordAnswer {
    let answer = match result {
        Ok(answer) => answer,
        Err(failure) => {
            return RecordAnswer {
                outcome: RecordOutcome::Failed(failure.to_string().into()),
                ttl: 0,
                published_ttl: 0,
            };
        }
    };
    let found = match &answer.found {
        Found::Records(records) => {
            let texts = records.iter().filter_map(|record| match record {
                RData::TXT(text) => Some(text.txt_data.iter()),
                _ => None,
            });
            select(texts)
        }
        Found::NoData | Found::NxDomain => Err(NoRecord::Missing),
    };
    let longest = if answer.records().is_empty() { DANE_NEGATIVE_TTL } else { STS_RECORD_TTL.1 };
    let outcome = match found {
        Ok(id) => RecordOutcome::Id(id.into()),
        Err(why) => RecordOutcome::Absent(why.to_string().into()),
    };
    RecordAnswer { outcome, ttl: answer.ttl.clamp(STS_RECORD_TTL.0, longest), published_ttl: answer.ttl }
}

/// The entry after the record was asked for: all else is kept.
pub fn after_record(before: Option<&StsEntry>, answer: &RecordAnswer, now: Stamp) -> StsEntry {
    let failures = match (&answer.outcome, before) {
        (RecordOutcome::Failed(_), Some(entry)) => entry.record.failures.saturating_add(1),
        (RecordOutcome::Failed(_), None) => 1,
        (RecordOutcome::Id(_) | RecordOutcome::Absent(_), _) => 0,
    };
    let ttl = if failures > 0 { back_off(STS_NETWORK_BACKOFF, failures) } else { answer.ttl };
    StsEntry {
        policy: before.and_then(|entry| entry.policy.clone()),
        record: RecordCheck { at: now.wall, ttl, outcome: answer.outcome.clone(), failures },
        failure: before.and_then(|entry| entry.failure.clone()),
    }
}

/// The `id` for which the policy is to be fetched now, if it is. `renew` asks for the policy to be fetched again
/// before it ends, though nothing says that it changed.
pub fn to_fetch(state: &StsState, renew: bool, now: Stamp) -> Option<Box<str>> {
    let held = state.policy(now);
    let id = match (&state.entry.record.outcome, held) {
        (RecordOutcome::Id(id), Some((held, _))) if *id == held.id && !renew && !is_unconfirmed(state, held) => {
            return None;
        }
        (RecordOutcome::Id(id), _) => id,
        // The record cannot be had, perhaps because somebody blocks it: what is held is renewed all the same.
        (RecordOutcome::Failed(_), Some((held, _))) if renew => &held.id,
        // No longer announced: what is held runs out (RFC 8461 §8.3).
        (RecordOutcome::Failed(_) | RecordOutcome::Absent(_), _) => return None,
    };
    let failed_lately =
        state.entry.failure.as_ref().is_some_and(|failure| failure.id == *id) && state.retry_left(now).is_some();
    (!failed_lately).then(|| id.clone())
}

/// The state where a policy that is due was not had yet, and no answer may wait longer: as after a failure of the network.
pub fn unanswered(announced: Option<&StsState>, now: Stamp) -> StsView {
    let nothing = || {
        after_record(
            None,
            &RecordAnswer { outcome: RecordOutcome::Failed(NO_ANSWER.into()), ttl: 0, published_ttl: 0 },
            now,
        )
    };
    let entry = announced.map_or_else(|| nothing().into(), |state| Arc::clone(&state.entry));
    let kind = announced.map(|_| FetchFailureKind::Network);
    StsView { entry, standing: Standing::Unavailable(kind), ttl: 0 }
}

const NO_ANSWER: &str = "no answer in time";

/// Whether the TXT question failed, and something else of the domain was answered since, `learnt` ago: then the failure may
/// have been our own network's, and says nothing any more.
pub fn is_outdated(state: &StsState, learnt: Duration, now: Stamp) -> bool {
    matches!(state.entry.record.outcome, RecordOutcome::Failed(_))
        && state.policy(now).is_none()
        && learnt < state.record_age(now)
}

/// The state with a policy of another replica. A weak one holds only as long as the policy host cannot be asked: it counts
/// as not fetched here.
pub fn after_taking(state: &StsState, shared: Arc<HeldPolicy>, now: Stamp) -> StsState {
    let weak = shared.policy.mode != StsMode::Enforce;
    let id = shared.id.clone();
    let state = state.adopting(shared, now);
    if !weak || state.entry.failure.as_ref().is_some_and(|failure| failure.id == id) {
        return state;
    }
    let kind = FetchFailureKind::Network;
    let failure = FetchFailure { id, kind, reason: UNCONFIRMED.into(), at: now.wall, retry_after: 0, count: 0 };
    let entry = StsEntry { failure: Some(failure.into()), ..(*state.entry).clone() };
    StsState::updated(entry, Some(&state), now)
}

const UNCONFIRMED: &str = "policy of another replica, not fetched here yet";

/// Whether what is held asks for less than `enforce` and was not fetched here since the last failure under its `id`.
fn is_unconfirmed(state: &StsState, held: &HeldPolicy) -> bool {
    held.policy.mode != StsMode::Enforce && state.entry.failure.as_ref().is_some_and(|failure| failure.id == held.id)
}

/// Whether a policy that another replica fetched takes the place of what is held here. Where nothing is, it does.
/// Otherwise it has to be the newer fetch, and of a policy that could not be fetched here: the one that the TXT record
/// announces now under an `id` of its own. And whatever it says, `enforce` gives way to `enforce` alone.
pub fn takes(state: &StsState, shared: &HeldPolicy, now: Stamp) -> bool {
    let Some((held, _)) = state.policy(now) else { return true };
    let announced = matches!(&state.entry.record.outcome, RecordOutcome::Id(id) if *id == shared.id && *id != held.id);
    let weakens = held.policy.mode == StsMode::Enforce && shared.policy.mode != StsMode::Enforce;
    announced && shared.fetched_at > held.fetched_at && !weakens
}

/// The entry after a fetch for `id` that gave a policy. One with `max_age: 0` is not kept, and neither is what it
/// replaces.
pub fn after_policy(entry: StsEntry, id: Box<str>, policy: StsPolicy, now: Stamp) -> (StsEntry, Arc<HeldPolicy>) {
    let held = Arc::new(HeldPolicy { id, fetched_at: now.wall, policy: policy.into() });
    let policy = (held.policy.max_age > 0).then(|| Arc::clone(&held));
    (StsEntry { policy, failure: None, ..entry }, held)
}

/// The entry after a fetch for `id` that failed. `left` is what the policy that is held has left, if any: the
/// next try comes before that ends.
pub fn after_failure(
    entry: StsEntry,
    id: Box<str>,
    kind: FetchFailureKind,
    reason: &str,
    left: Option<Duration>,
    now: Stamp,
) -> StsEntry {
    let network = |kind| kind == FetchFailureKind::Network;
    let count = match &entry.failure {
        Some(last) if last.id == id && network(last.kind) == network(kind) => last.count.saturating_add(1),
        _ => 1,
    };
    let wait = back_off(if network(kind) { STS_NETWORK_BACKOFF } else { STS_BACKOFF }, count);
    let in_time = left.map_or(wait, |left| u32::try_from(left.as_secs() / 2).unwrap_or(u32::MAX).max(SHORTEST_REFRESH));
    let failure = FetchFailure { id, kind, reason: reason.into(), at: now.wall, retry_after: wait.min(in_time), count };
    StsEntry { failure: Some(failure.into()), ..entry }
}

/// First interval, doubled for each further failure in a row, up to the longest.
fn back_off((first, longest): (u32, u32), count: u32) -> u32 {
    let factor = 1u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

/// What the state comes to now.
pub fn standing(state: &StsState, now: Stamp) -> Standing {
    if let Some((held, left)) = state.policy(now) {
        return Standing::InForce(Arc::clone(held), whole_seconds(left));
    }
    match &state.entry.record.outcome {
        RecordOutcome::Absent(_) => Standing::Absent,
        RecordOutcome::Failed(_) => Standing::Unavailable(None),
        RecordOutcome::Id(id) => {
            let failure = state.entry.failure.as_ref().filter(|failure| failure.id == *id);
            Standing::Unavailable(failure.map(|failure| failure.kind))
        }
    }
}

/// The state as a branch of a decision.
pub fn view(state: &StsState, now: Stamp) -> StsView {
    let record = state.record_left(now).unwrap_or_default();
    let standing = standing(state, now);
    let next = match (&standing, state.retry_left(now)) {
        (Standing::Unavailable(Some(_)), Some(retry)) => record.min(retry),
        (Standing::InForce(_, left), _) => record.min(Duration::from_secs((*left).into())),
        (Standing::Absent | Standing::Unavailable(_), _) => record,
    };
    let ttl = whole_seconds(next);
    StsView { entry: Arc::clone(&state.entry), standing, ttl }
}

/// True where a query has to wait for a lookup: the record's TTL ended, or a policy is announced that was not
/// fetched yet and may be.
pub fn needs_lookup(state: &StsState, now: Stamp) -> bool {
    state.record_left(now).is_none()
        || (matches!(state.entry.record.outcome, RecordOutcome::Id(_)) && to_fetch(state, false, now).is_some())
}

/// True where the policy that is held should be fetched again in the background: daily, or at half of a shorter
/// `max_age`. `spread` from 0 to 255 moves that a little forward, so that domains do not come in flocks.
pub fn wants_renewal(state: &StsState, spread: u8, now: Stamp) -> bool {
    let (Some((held, _)), Some(age)) = (state.policy(now), state.policy_age(now)) else { return false };
    let interval = STS_REFRESH.min(held.policy.max_age / 2).max(SHORTEST_REFRESH);
    let earlier = interval / 10 * u32::from(spread) / 255;
    age >= Duration::from_secs((interval - earlier).into()) && to_fetch(state, true, now).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dns::{Cause, Security};
    use hickory_proto::rr::rdata::TXT;
    use hickory_proto::rr::{Name, RecordType};

    fn answer(texts: &[&str], ttl: u32) -> Result<Answer, Box<Failure>> {
        let records: Vec<RData> = texts.iter().map(|text| RData::TXT(TXT::new(vec![(*text).to_owned()]))).collect();
        let found = if records.is_empty() { Found::NoData } else { Found::Records(records) };
        Ok(Answer { found, canonical: Name::root(), security: Security::Insecure, ttl })
    }

    fn read(result: Result<Answer, Box<Failure>>) -> RecordAnswer {
        read_record(&result.map_err(|failure| *failure))
    }

    #[test]
    fn records_are_checked_again_when_their_ttl_ends_within_bounds() {
        let good = "v=STSv1; id=a1;";
        let rows = [
            ("as it is", answer(&[good], 3_600), 3_600),
            ("below a minute", answer(&[good], 5), 60),
            ("above a day", answer(&[good], 1_000_000), 86_400),
            ("none, within bounds", answer(&[], 900), 900),
            ("none, above an hour", answer(&[], 86_400), 3_600),
            ("invalid counts as it is published", answer(&["v=STSv1;"], 7_200), 7_200),
        ];
        for (name, result, ttl) in rows {
            assert_eq!(read(result).ttl, ttl, "{name}");
        }
        let failure = Failure::new(Name::root(), RecordType::TXT, Cause::Timeout);
        assert!(matches!(read(Err(Box::new(failure))).outcome, RecordOutcome::Failed(_)));
    }

    #[test]
    fn back_off_doubles_up_to_its_longest() {
        let series = |bounds| (1..=6).map(|count| back_off(bounds, count)).collect::<Vec<_>>();
        assert_eq!(series(STS_BACKOFF), [300, 600, 1_200, 2_400, 3_600, 3_600]);
        assert_eq!(series(STS_NETWORK_BACKOFF), [30, 60, 120, 240, 300, 300]);
        assert_eq!(back_off(STS_BACKOFF, u32::MAX), 3_600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_of_another_replica_fills_a_gap_and_never_weakens_what_is_held() {
        use StsMode::{Enforce, None as Off, Testing};
        let clock = Clock::manual(1_800_000_000);
        let now = clock.stamp();
        let held = |id: &str, mode, age: i64| {
            let policy = StsPolicy { mode, max_age: 1_000, mx: Box::default(), lines: Default::default() };
            HeldPolicy { id: id.into(), fetched_at: now.wall - age, policy: policy.into() }
        };
        let state = |announced: &str, local: Option<HeldPolicy>| {
            let state = StsState::updated(after_record(None, &read(answer(&[announced], 600)), now), None, now);
            local.map_or(state.clone(), |local| state.adopting(Arc::new(local), now))
        };
        let (one, two, gone) = ("v=STSv1; id=1;", "v=STSv1; id=2;", "none");
        let rows = [
            ("nothing held", one, None, held("1", Enforce, 0), true),
            ("nothing held, another id", two, None, held("1", Enforce, 0), true),
            ("nothing held, none announced", gone, None, held("1", Enforce, 0), true),
            ("nothing held, it is none", one, None, held("1", Off, 0), true),
            ("what was held is over", one, Some(held("1", Enforce, 1_000)), held("1", Off, 0), true),
            ("newer, announced", two, Some(held("1", Enforce, 100)), held("2", Enforce, 0), true),
            ("as old, announced", two, Some(held("1", Enforce, 100)), held("2", Enforce, 100), false),
            ("older, announced", two, Some(held("1", Enforce, 100)), held("2", Enforce, 200), false),
            ("newer, not announced", one, Some(held("1", Enforce, 100)), held("2", Enforce, 0), false),
            ("newer, same id", one, Some(held("1", Enforce, 100)), held("1", Enforce, 0), false),
            ("newer, none announced", gone, Some(held("1", Enforce, 100)), held("2", Enforce, 0), false),
            ("none for enforce", two, Some(held("1", Enforce, 100)), held("2", Off, 0), false),
            ("testing for enforce", two, Some(held("1", Enforce, 100)), held("2", Testing, 0), false),
            ("enforce for testing", two, Some(held("1", Testing, 100)), held("2", Enforce, 0), true),
            ("none for testing", two, Some(held("1", Testing, 100)), held("2", Off, 0), true),
            ("older enforce for none", two, Some(held("1", Off, 100)), held("2", Enforce, 200), false),
        ];
        for (name, announced, local, shared, expected) in rows {
            assert_eq!(takes(&state(announced, local), &shared, now), expected, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_weak_policy_of_another_replica_holds_only_until_the_host_can_be_asked() {
        let clock = Clock::manual(1_800_000_000);
        let now = clock.stamp();
        let shared = |mode| {
            let policy = StsPolicy { mode, max_age: 86_400, mx: Box::default(), lines: Default::default() };
            Arc::new(HeldPolicy { id: "1".into(), fetched_at: now.wall, policy: policy.into() })
        };
        let record = after_record(None, &read(answer(&["v=STSv1; id=1;"], 86_400)), now);
        let failed = after_failure(record.clone(), "1".into(), FetchFailureKind::Network, "", None, now);
        let unheard =
            after_record(None, &read(Err(Box::new(Failure::new(Name::root(), RecordType::TXT, Cause::Timeout)))), now);
        let down = StsState::updated(failed, None, now);
        let weak = after_taking(&down, shared(StsMode::None), now);
        let strong = after_taking(&down, shared(StsMode::Enforce), now);
        let blind = after_taking(&StsState::updated(unheard, None, now), shared(StsMode::Testing), now);
        assert_eq!(to_fetch(&weak, false, now), None, "the host was just asked");
        tokio::time::advance(Duration::from_secs(31)).await;
        let later = clock.stamp();
        assert_eq!(to_fetch(&weak, false, later).as_deref(), Some("1"), "at the back-off, not at the daily renewal");
        assert!(needs_lookup(&weak, later));
        assert_eq!(to_fetch(&strong, false, later), None);
        let heard = after_record(Some(&blind.entry), &read(answer(&["v=STSv1; id=1;"], 600)), later);
        let heard = StsState::updated(heard, Some(&blind), later);
        assert_eq!(to_fetch(&heard, false, later).as_deref(), Some("1"), "nor is one from before the record was known");
        let (entry, _) =
            after_policy((*weak.entry).clone(), "1".into(), (*shared(StsMode::None).policy).clone(), later);
        assert_eq!(to_fetch(&StsState::updated(entry, Some(&weak), later), false, later), None, "fetched here");
    }

    #[tokio::test(start_paused = true)]
    async fn an_adopted_policy_is_as_old_as_it_says() {
        let clock = Clock::manual(1_800_000_000);
        let now = clock.stamp();
        let policy =
            StsPolicy { mode: StsMode::Enforce, max_age: 1_000, mx: Box::default(), lines: Default::default() };
        let held = Arc::new(HeldPolicy { id: "1".into(), fetched_at: now.wall - 900, policy: policy.into() });
        let entry = after_record(None, &read(answer(&["v=STSv1; id=1;"], 600)), now);
        let state = StsState::updated(entry, None, now).adopting(held, now);
        assert_eq!(state.policy(now).map(|(_, left)| left.as_secs()), Some(100));
        clock.jump(-86_400);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(state.policy(clock.stamp()).is_none(), "nor does a clock that is set back lengthen it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_is_tried_again_before_the_policy_ends() {
        let now = Clock::manual(1_800_000_000).stamp();
        let entry = after_record(None, &read(answer(&["v=STSv1; id=a1;"], 600)), now);
        let failed = |left: Option<u64>| {
            let left = left.map(Duration::from_secs);
            let entry = after_failure(entry.clone(), "a1".into(), FetchFailureKind::Http, "", left, now);
            entry.failure.map(|failure| failure.retry_after)
        };
        assert_eq!(failed(None), Some(300));
        assert_eq!(failed(Some(86_400)), Some(300));
        assert_eq!(failed(Some(100)), Some(50));
        assert_eq!(failed(Some(1)), Some(10));
    }
}
