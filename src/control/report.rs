//! One domain as the daemon sees it: the answer, and both branches.

use serde::{Deserialize, Serialize};

use crate::cache::DaneVerdict;
use crate::clock::Clock;
use crate::config::MapOptions;
use crate::names::{NextHop, NotADestination};
use crate::policy::decision::{DaneView, Decision, Outcome, Standing, StsView};
use crate::policy::merge::Sts;
use crate::policy::{self, reply};

/// What is known about one next hop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of the daemon.
    pub version: String,
    /// The next hop, normalised.
    pub domain: String,
    /// The map that was asked.
    pub map: String,
    /// The reply that Postfix gets, status word first.
    pub answer: String,
    /// True where nothing had to be looked up.
    pub cached: bool,
    /// True where the operator's override answered.
    pub overridden: bool,
    /// The DANE branch.
    pub dane: Branch,
    /// The MTA-STS branch.
    pub mta_sts: Branch,
}

/// One branch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// What it would answer alone; empty: no policy; `TEMP`: not known.
    pub policy: String,
    /// TLSRPT attributes that go with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub report: String,
    /// Seconds until it is looked at again.
    pub ttl: u32,
    /// Seconds that it took to look it up now.
    pub time: f64,
    /// `enforce`, `dane-only`, `absent` …: how it stands; `off` where it is not used.
    pub status: String,
    /// Why, for people.
    pub reason: String,
    /// Seconds for which a held MTA-STS policy stays valid whatever happens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_for: Option<u32>,
}

impl Report {
    /// The report as postfix-tlspol's `JSON` gives it: the same fields, where that has them under its names.
    pub fn as_tlspol(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        if let Some(fields) = value.as_object_mut()
            && let Some(branch) = fields.remove("mta_sts")
        {
            fields.insert("mta-sts".to_owned(), branch);
        }
        Ok(value)
    }

    /// For a key that is no next hop: Postfix gets NOTFOUND without any lookup.
    pub fn of_no_destination(key: &str, map: &str, why: NotADestination) -> Self {
        let branch = Branch { reason: why.to_string(), ..off() };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            domain: key.to_owned(),
            map: map.to_owned(),
            answer: reply::Reply::NotFound.to_string(),
            cached: true,
            overridden: false,
            dane: branch.clone(),
            mta_sts: branch,
        }
    }
}

/// Asks the engine as Postfix does, and then for what was not needed for that answer.
pub async fn examine(policy: &policy::Engine, clock: &Clock, hop: &NextHop, name: &str, map: &MapOptions) -> Report {
    let started = clock.instant();
    let seconds = || (started.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
    let only_dane = MapOptions { mta_sts: false, ..*map };
    let only_sts = MapOptions { dane: false, ..*map };
    let (decision, (dane, dane_time), (sts, sts_time)) =
        tokio::join!(policy.answer(hop, map), async { (policy.look(hop, &only_dane).await.dane, seconds()) }, async {
            (policy.look(hop, &only_sts).await.sts, seconds())
        },);
    Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        domain: hop.to_string(),
        map: name.to_owned(),
        answer: reply::render(&decision, hop, map).to_string(),
        cached: decision.cached,
        overridden: matches!(decision.outcome, Outcome::Override(_)),
        dane: dane_branch(decision.dane.or(dane), dane_time),
        mta_sts: sts_branch(decision.sts.or(sts), sts_time, hop, map),
    }
}

fn off() -> Branch {
    Branch { status: "off".to_owned(), reason: "not used for this next hop".to_owned(), ..Branch::default() }
}

fn dane_branch(view: Option<DaneView>, time: f64) -> Branch {
    let Some(view) = view else { return off() };
    let (policy, status) = match view.entry.verdict {
        DaneVerdict::DaneOnly => ("dane-only", "dane-only"),
        DaneVerdict::Dane => ("dane", "dane"),
        DaneVerdict::DaneWeak => ("dane", "weak"),
        DaneVerdict::Partial => ("dane", "partial"),
        DaneVerdict::None => ("", "none"),
        DaneVerdict::Temporary => ("TEMP", "temporary"),
    };
    Branch {
        policy: policy.to_owned(),
        ttl: view.ttl,
        time,
        status: status.to_owned(),
        reason: view.entry.reason.to_string(),
        ..Branch::default()
    }
}

fn sts_branch(view: Option<StsView>, time: f64, hop: &NextHop, map: &MapOptions) -> Branch {
    let Some(view) = view else { return off() };
    let (policy, report) = alone(&view, hop, map);
    let valid_for = match &view.standing {
        Standing::InForce(_, left) => Some(*left),
        Standing::Absent | Standing::Unavailable(_) => None,
    };
    Branch {
        policy,
        report,
        ttl: view.ttl,
        time,
        status: view.status().to_owned(),
        reason: view.reason().to_owned(),
        valid_for,
    }
}

/// What an MTA-STS branch would answer alone, and the attributes that would go with it.
fn alone(view: &StsView, hop: &NextHop, map: &MapOptions) -> (String, String) {
    match (view.standing.column(map.strict_testing), &view.standing) {
        (Sts::Secure, Standing::InForce(held, _)) => {
            let outcome = Outcome::Secure(held.clone());
            let decision = Decision { outcome, dane: None, sts: None, cached: true };
            let render = |tlsrpt| reply::render(&decision, hop, &MapOptions { tlsrpt, ..*map }).to_string();
            let (plain, full) = (render(false), render(true));
            let report = full.strip_prefix(&plain).unwrap_or_default().trim_start().to_owned();
            (plain.trim_start_matches("OK ").to_owned(), report)
        }
        (Sts::Temporary, _) => ("TEMP".to_owned(), String::new()),
        (Sts::Secure | Sts::None, _) => Default::default(),
    }
}
