//! A decision: the outcome, and what both branches had to say.

use std::sync::Arc;

use crate::cache::entry::{DaneEntry, FetchFailureKind, HeldPolicy, RecordOutcome, StsEntry, StsMode};
use crate::config::ReportLevel;
use crate::names::Domain;
use crate::policy::merge::Sts;

/// What Postfix is told about one next hop, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What Postfix is told.
    pub outcome: Outcome,
    /// The DANE branch; absent where it was not needed, is turned off, or had not answered in time.
    pub dane: Option<DaneView>,
    /// The MTA-STS branch, likewise; next hops that are no plain recipient domains have none.
    pub sts: Option<StsView>,
    /// True where nothing had to be looked up.
    pub cached: bool,
}

/// What Postfix is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The operator's own policy text (`policy.overrides`).
    Override(Arc<str>),
    /// `dane-only`.
    DaneOnly,
    /// `dane`.
    Dane,
    /// `secure`, by this policy.
    Secure(Arc<HeldPolicy>),
    /// `secure`, by this policy, for these of the hosts that it allows: of the others nobody knows whether they have
    /// TLSA records.
    SecureHosts(Arc<HeldPolicy>, Arc<[Domain]>),
    /// `policy.on-failure`, in place of TEMP for this reason: nothing was ever known of the domain.
    Fallback(ReportLevel, Arc<str>),
    /// The map's `report-level`, so that a `testing` policy is reported by TLSRPT.
    ReportTesting(ReportLevel, Arc<HeldPolicy>),
    /// The map's `report-level`, so that the missing policy is reported by TLSRPT.
    ReportFailure(ReportLevel, FetchFailureKind),
    /// No policy.
    NotFound,
    /// Ask again later, for this reason.
    Temporary(Arc<str>),
}

impl Outcome {
    /// A short word: the `answer` of metrics and of `--json`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Override(_) => "override",
            Self::DaneOnly => "dane-only",
            Self::Dane => "dane",
            Self::Secure(_) | Self::SecureHosts(..) => "secure",
            Self::Fallback(..) => "fallback",
            Self::ReportTesting(..) | Self::ReportFailure(..) => "report",
            Self::NotFound => "notfound",
            Self::Temporary(_) => "temp",
        }
    }
}

/// The DANE branch as it stands.
#[derive(Clone, Debug)]
pub struct DaneView {
    /// Verdict and reason.
    pub entry: DaneEntry,
    /// Seconds for which it still holds.
    pub ttl: u32,
}

/// The MTA-STS branch as it stands.
#[derive(Clone, Debug)]
pub struct StsView {
    /// Everything known.
    pub entry: Arc<StsEntry>,
    /// What that comes to now.
    pub standing: Standing,
    /// Seconds until the TXT record, or a failed fetch, is looked at again.
    pub ttl: u32,
}

/// What an MTA-STS branch comes to at a given time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A policy that has not expired, whatever its mode, and the seconds it has left.
    InForce(Arc<HeldPolicy>, u32),
    /// None is announced.
    Absent,
    /// Could not be found out, or announced but not to be had; no policy is left from before.
    Unavailable(Option<FetchFailureKind>),
}

impl Standing {
    /// Its place in the combination table.
    pub fn column(&self, strict_testing: bool) -> Sts {
        match self {
            Self::InForce(held, _) => match held.policy.mode {
                StsMode::Enforce => Sts::Secure,
                StsMode::Testing if strict_testing => Sts::Secure,
                StsMode::Testing | StsMode::None => Sts::None,
            },
            Self::Absent => Sts::None,
            Self::Unavailable(_) => Sts::Temporary,
        }
    }
}

impl StsView {
    /// A short word for what it comes to.
    pub fn status(&self) -> &'static str {
        match &self.standing {
            Standing::InForce(held, _) => match held.policy.mode {
                StsMode::Enforce => "enforce",
                StsMode::Testing => "testing",
                StsMode::None => "none",
            },
            Standing::Absent => "absent",
            Standing::Unavailable(_) => "unavailable",
        }
    }

    /// Why, for people: the last failure, or what the record said.
    pub fn reason(&self) -> &str {
        if let RecordOutcome::Failed(reason) | RecordOutcome::Absent(reason) = &self.entry.record.outcome {
            return reason;
        }
        match &self.entry.failure {
            Some(failure) => &failure.reason,
            None => "policy fetched",
        }
    }
}
