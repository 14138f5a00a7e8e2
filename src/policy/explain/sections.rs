//! From what was found to what is shown. Pure.

use hickory_proto::rr::{Name, RData, RecordType};

use super::model::{
    CacheSection, CachedDane, CachedFailure, CachedSts, DsSection, FailureSection, KeySection, Looked, LookedOutcome,
    PolicySection, TlsaSection, ZoneSection, ZoneState,
};
use super::recorder::Outcome;
use crate::cache::entry::{HeldPolicy, RecordOutcome};
use crate::cache::{Snapshot, StsState};
use crate::clock::{Stamp, whole_seconds};
use crate::dns::{Answer, Date, Failure, Found, Insecurity, StepTrust, ZoneStep, text, which_does};
use crate::limits::EXPLAIN_RECORDS;
use crate::policy::dane::tlsa;

/// A question and what came of it.
pub(super) fn looked(name: &Name, rtype: RecordType, outcome: &Outcome) -> Looked {
    let base = Looked {
        name: text(name),
        rtype: rtype.to_string(),
        outcome: LookedOutcome::Failed,
        canonical: None,
        records: Vec::new(),
        ttl: None,
        failure: None,
    };
    match outcome {
        Ok(answer) => Looked {
            outcome: outcome_of(answer),
            canonical: (answer.canonical != name.to_lowercase()).then(|| text(&answer.canonical)),
            records: answer.records().iter().take(EXPLAIN_RECORDS).map(presentation).collect(),
            ttl: Some(answer.ttl),
            ..base
        },
        Err(error) => {
            let outcome = if error.is_bogus() { LookedOutcome::Bogus } else { LookedOutcome::Failed };
            Looked { outcome, failure: Some(failure(error)), ..base }
        }
    }
}

fn outcome_of(answer: &Answer) -> LookedOutcome {
    match (&answer.found, answer.security.is_secure()) {
        (Found::Records(_), true) => LookedOutcome::Secure,
        (Found::Records(_), false) => LookedOutcome::Insecure,
        (Found::NoData | Found::NxDomain, true) => LookedOutcome::SecurelyAbsent,
        (Found::NoData | Found::NxDomain, false) => LookedOutcome::Absent,
    }
}

/// RDATA as zone files have it; what a stranger wrote is kept from the terminal's control codes.
fn presentation(record: &RData) -> String {
    let shown = match record {
        RData::MX(mx) => format!("{} {}", mx.preference, text(&mx.exchange)),
        RData::TXT(txt) => {
            let strings = txt.txt_data.iter().map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
            strings.collect::<Vec<_>>().join(" ")
        }
        RData::TLSA(record) => {
            let section = tlsa_section(record);
            format!("{} {} {} {}", section.usage, section.selector, section.matching_type, section.data)
        }
        other => other.to_string(),
    };
    shown.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A failure: which link, where.
pub(super) fn failure(error: &Failure) -> FailureSection {
    FailureSection {
        cause: error.cause.to_string(),
        rrset: format!("{} {}", text(&error.name), error.rtype),
        zone: error.zone.as_ref().map(text),
        server: error.server.map(|server| server.to_string()),
        habits: error.habits.iter().map(|habit| habit.to_string()).collect(),
    }
}

/// The TLSA records of an answer.
pub(super) fn tlsa_sections(answer: &Answer) -> Vec<TlsaSection> {
    let records = answer.records().iter().filter_map(|record| match record {
        RData::TLSA(record) => Some(tlsa_section(record)),
        _ => None,
    });
    records.take(EXPLAIN_RECORDS).collect()
}

fn tlsa_section(record: &hickory_proto::rr::rdata::TLSA) -> TlsaSection {
    TlsaSection {
        usage: record.cert_usage.into(),
        selector: record.selector.into(),
        matching_type: record.matching.into(),
        data: data_encoding::HEXLOWER.encode(&record.cert_data),
        unusable: tlsa::check(record).err().map(|why| why.to_string()),
    }
}

/// One zone of the chain of trust.
pub(super) fn zone(step: &ZoneStep) -> ZoneSection {
    let (state, words) = match &step.trust {
        StepTrust::Secure if step.anchored => (ZoneState::Secure, "keys validated by a trust anchor".to_owned()),
        StepTrust::Secure => (ZoneState::Secure, "keys validated by the DS records of the zone above".to_owned()),
        StepTrust::Insecure(why) => (ZoneState::Insecure, insecurity(*why)),
        StepTrust::Broken(error) => (ZoneState::Broken, sentence(error)),
    };
    ZoneSection {
        zone: text(&step.zone),
        state,
        text: words,
        anchored: step.anchored,
        ds: step
            .ds
            .iter()
            .map(|ds| DsSection {
                tag: ds.tag,
                algorithm: ds.algorithm,
                digest_type: ds.digest,
                supported: ds.supported,
            })
            .collect(),
        keys: step
            .keys
            .iter()
            .map(|key| KeySection {
                tag: key.tag,
                algorithm: key.algorithm,
                sep: key.sep,
                revoked: key.revoked,
                named: key.named,
            })
            .collect(),
        signed_until: step.signed_until.map(|at| Date(at).to_string()),
        servers: step.servers.iter().map(ToString::to_string).collect(),
        habits: step.habits.iter().map(|(server, habit)| format!("{server} {habit}")).collect(),
    }
}

/// A failure in one line: RRset, cause, zone, server.
pub(super) fn sentence(error: &Failure) -> String {
    failure(error).to_string()
}

impl std::fmt::Display for FailureSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.rrset, self.cause)?;
        let which = which_does(&self.habits);
        match (&self.zone, &self.server) {
            (Some(zone), Some(server)) => write!(f, " (zone {zone}, server {server}{which})"),
            (Some(zone), None) => write!(f, " (zone {zone})"),
            (None, Some(server)) => write!(f, " (server {server}{which})"),
            (None, None) => Ok(()),
        }
    }
}

fn insecurity(why: Insecurity) -> String {
    let words = match why {
        Insecurity::NoAnchor => "no trust anchor at or above it",
        Insecurity::NoDs => "the zone above proves that it has no DS record: it is not signed",
        Insecurity::Unproven => {
            "the zone above does not say for certain whether it has a DS record (NSEC3 opt-out, or too many iterations)"
        }
        Insecurity::UnknownAlgorithms => "signed, but with no algorithm that can be checked here (RFC 4035 §5.2)",
        Insecurity::Forwarded => "its questions are forwarded, and no chain of trust leads to it",
        Insecurity::Above => "the zone above is not signed",
        Insecurity::Excepted { until: None } => "negative trust anchor set by the operator, without end: not validated",
        // The end is the first second after the last day.
        Insecurity::Excepted { until: Some(end) } => {
            return format!("negative trust anchor set by the operator until {}: not validated", Date(end - 1));
        }
    };
    words.to_owned()
}

/// A held policy.
pub(super) fn policy(held: &HeldPolicy, age: u32, valid_for: u32) -> PolicySection {
    PolicySection {
        id: held.id.to_string(),
        mode: held.policy.mode,
        mx: held.policy.mx.iter().map(ToString::to_string).collect(),
        max_age: held.policy.max_age,
        age,
        valid_for,
    }
}

/// The policy that a state holds at `now`, if it has not run out.
pub(super) fn held(state: &StsState, now: Stamp) -> Option<PolicySection> {
    let (held, left) = state.policy(now)?;
    let age = state.policy_age(now).unwrap_or_default();
    Some(policy(held, whole_seconds(age), whole_seconds(left)))
}

/// What the policy cache holds.
pub(super) fn cached(known: Option<&Snapshot>, now: Stamp) -> CacheSection {
    let Some(known) = known else { return CacheSection::default() };
    CacheSection {
        dane: known.dane.as_ref().map(|state| CachedDane {
            verdict: state.entry.verdict,
            reason: state.entry.reason.to_string(),
            age: whole_seconds(state.age(now)),
            ttl: state.left(now).map_or(0, whole_seconds),
        }),
        mta_sts: known.sts.as_ref().map(|state| CachedSts {
            record: match &state.entry.record.outcome {
                RecordOutcome::Id(id) => format!("id {id}"),
                RecordOutcome::Absent(why) => why.to_string(),
                RecordOutcome::Failed(why) => format!("not known: {why}"),
            },
            record_age: whole_seconds(state.record_age(now)),
            record_ttl: state.record_left(now).map_or(0, whole_seconds),
            policy: held(state, now),
            failure: state.entry.failure.as_ref().map(|failure| CachedFailure {
                reason: failure.reason.to_string(),
                kind: failure.kind,
                count: failure.count,
                retry_in: state.retry_left(now).map_or(0, whole_seconds),
            }),
        }),
    }
}
