//! What is wrong, who has to fix it, and how. Pure.

use super::model::{Advice, DeliveryKind, HostSection};
use super::recorder::Outcome as Looked;
use super::sections::sentence;
use super::sts::StsLook;
use crate::cache::DaneVerdict;
use crate::cache::entry::{FetchFailureKind, RecordOutcome, StsMode};
use crate::config::Override;
use crate::dns::{Bogus, Cause, Failure, Insecurity, StepTrust, ZoneStep, text};
use crate::names::NextHop;
use crate::policy::dane::{DaneReport, HostAddresses, HostReport, HostStatus};
use crate::policy::decision::{Decision, Outcome, Standing};
use crate::policy::engine::Survey;

/// What advice follows from.
pub(super) struct Facts<'a> {
    pub hop: &'a NextHop,
    pub report: &'a DaneReport,
    /// What Postfix does with each MX host, and what a check of it showed.
    pub hosts: &'a [HostSection],
    /// What came of the MX lookup.
    pub mx: Option<Looked>,
    pub sts: Option<&'a StsLook>,
    pub survey: &'a Survey,
    /// The zones of all names that matter.
    pub chain: &'a [ZoneStep],
    /// What Postfix is told now.
    pub decision: &'a Decision,
    /// What a lookup would come to.
    pub fresh: &'a Decision,
}

/// Whoever runs this program.
const OURS: &str = "you, here";

/// All advice, what matters most first.
pub(super) fn advice(facts: &Facts<'_>) -> Vec<Advice> {
    let mut all = Vec::new();
    if let Some(found) = &facts.survey.override_ {
        let text = match found {
            Override::Policy(text) => text.as_ref(),
            Override::Skip => "skip",
        };
        let problem = format!("policy.overrides decides with \"{text}\", whatever DANE and MTA-STS say");
        all.push(new(OURS, problem, "remove the override, and what is shown below counts again"));
    }
    if let Some(Err(failure)) = &facts.mx {
        all.push(of_failure(failure));
    }
    all.extend(facts.report.hosts.iter().filter_map(of_host));
    all.extend(facts.hosts.iter().filter_map(of_check));
    all.extend(of_exceptions(facts));
    all.extend(of_mx_security(facts));
    all.extend(facts.sts.and_then(|sts| of_sts(facts, sts)));
    all.extend(of_cache(facts));
    all.extend(of_nothing(facts));
    all.extend(ways_out(facts));
    all.dedup();
    all
}

fn new(whose: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Advice {
    Advice { whose: whose.into(), problem: problem.into(), remedy: remedy.into() }
}

fn of_host(host: &HostReport) -> Option<Advice> {
    let name = &host.host;
    match (host.status, &host.failure) {
        (HostStatus::Unknown, Some(failure)) => {
            let advice = of_failure(failure);
            Some(Advice { problem: format!("MX host {name}: {}", advice.problem), ..advice })
        }
        (HostStatus::Unknown, None) => Some(new(
            format!("the operators of {name}"),
            format!("MX host {name}: no answer in time"),
            "its name servers have to answer faster",
        )),
        (HostStatus::Unusable, _) => Some(new(
            format!("the operators of {}", host.base.as_ref().unwrap_or(name)),
            format!("MX host {name}: it has {} TLSA records, and none can be used", host.records),
            "publish a record with usage 3 (or 2), selector 1 (or 0) and matching type 1",
        )),
        (HostStatus::Ignored, _) => Some(new(
            "the operators of the domain",
            format!("MX host {name}: has no address, so it receives nothing"),
            "take it out of the MX records, or give it an address",
        )),
        (HostStatus::NoTlsa | HostStatus::Usable, _) => None,
    }
}

/// A host that failed the check at each of its addresses.
fn of_check(host: &HostSection) -> Option<Advice> {
    let failed = !host.live.is_empty() && host.live.iter().all(|check| !check.passed);
    if !failed || host.delivery.kind == DeliveryKind::NotUsed {
        return None;
    }
    let name = &host.host;
    let Some(check) = host.live.iter().find(|check| check.reached) else {
        let why = host.live.first().map_or("no connection", |check| check.text.as_str());
        return Some(new(
            OURS,
            format!("MX host {name} could not be checked: {why}"),
            "check from a host that may connect to port 25: many networks block it",
        ));
    };
    let remedy = match check.presented.as_slice() {
        [] => "the server has to do what this policy asks for: STARTTLS, with a certificate that fits".to_owned(),
        lines => format!(
            "publish a TLSA record for the certificate that the server shows now ({}), or install the one that the \
             published records name",
            lines.join(", ")
        ),
    };
    Some(new(format!("the operators of {name}"), format!("MX host {name} fails the check: {}", check.text), remedy))
}

/// What the operator here can do about mail that waits for somebody else, and what each way gives up.
fn ways_out(facts: &Facts<'_>) -> Vec<Advice> {
    let held = matches!(facts.decision.outcome, Outcome::Temporary(_));
    let hopeless = super::verdict::check(facts.hosts).is_some_and(|check| check.is_hopeless());
    if !held && !hopeless {
        return Vec::new();
    }
    let hop = facts.hop;
    let waiting = format!("until then Postfix keeps mail for {hop} queued");
    let broken = facts.mx.iter().filter_map(|looked| looked.as_ref().err());
    let broken = broken.chain(facts.report.hosts.iter().filter_map(|host| host.failure.as_ref()));
    let mut zones: Vec<String> = Vec::new();
    for failure in broken.filter(|failure| matches!(failure.cause, Cause::Bogus(_))) {
        match failure.zone.as_ref().filter(|zone| !zone.is_root()).map(text) {
            Some(zone) if !zones.contains(&zone) => zones.push(zone),
            Some(_) | None => {}
        }
    }
    let mut ways: Vec<Advice> = zones
        .iter()
        .map(|zone| {
            let remedy = format!(
                "to send it before the zone is repaired: resolver.insecure = [\"{zone}\"] (a negative trust anchor). It \
                 gives up DNSSEC, and so DANE, for every name below {zone}"
            );
            new(OURS, waiting.clone(), remedy)
        })
        .collect();
    let remedy = format!(
        "to send it anyway: policy.overrides.\"{hop}\" = \"encrypt\". It gives up authentication: whoever answers in place \
         of the mail host can read the mail. \"may\" gives up encryption, too"
    );
    ways.push(new(OURS, waiting, remedy));
    ways
}

/// Zones that are not validated because the operator said so.
fn exceptions(chain: &[ZoneStep]) -> impl Iterator<Item = &ZoneStep> {
    chain.iter().filter(|step| matches!(step.trust, StepTrust::Insecure(Insecurity::Excepted { .. })))
}

/// What an exception costs, once for each topmost zone.
fn of_exceptions(facts: &Facts<'_>) -> Vec<Advice> {
    let is_topmost = |step: &&ZoneStep| {
        !exceptions(facts.chain).any(|above| above.zone != step.zone && above.zone.zone_of(&step.zone))
    };
    let advice = exceptions(facts.chain).filter(is_topmost).map(|step| {
        new(
            OURS,
            format!(
                "{} is not validated, by a negative trust anchor set here: no DANE for its names",
                text(&step.zone)
            ),
            "once its DNSSEC works, take it out of resolver.insecure, or insecure = true off its forward zone",
        )
    });
    advice.collect()
}

/// Where TLSA records are there and signatures are missing, that is worth a word.
fn of_mx_security(facts: &Facts<'_>) -> Option<Advice> {
    let verdict = facts.report.verdict;
    let insecure_mx = facts.report.mx.is_some_and(|security| !security.is_secure());
    let has_tlsa = facts.report.hosts.iter().any(|host| host.status == HostStatus::Usable);
    let own = match facts.hop {
        NextHop::Domain { domain, .. } => domain.to_name(),
        NextHop::Host { host, .. } => host.to_name(),
    };
    if exceptions(facts.chain).any(|step| step.zone.zone_of(&own)) {
        // Whether they are signed was not looked at.
        return None;
    }
    (verdict == DaneVerdict::DaneWeak && insecure_mx && has_tlsa).then(|| {
        new(
            format!("the operators of {}", facts.hop),
            "its MX hosts have TLSA records, but its own MX records are not signed, so they could be forged",
            "sign the domain's zone with DNSSEC: then the answer is dane-only",
        )
    })
}

fn of_sts(facts: &Facts<'_>, sts: &StsLook) -> Option<Advice> {
    let held = matches!(sts.view.standing, Standing::InForce(..));
    let covered = if held {
        "; the policy that is held stays in force until its max_age ends"
    } else {
        "; until then the domain has no MTA-STS policy"
    };
    if let Some(failure) = &sts.failure {
        let advice = of_failure(failure);
        return Some(Advice { problem: format!("MTA-STS record: {}{covered}", advice.problem), ..advice });
    }
    if let Some((kind, reason)) = &sts.fetch_failure {
        let remedy = match kind {
            FetchFailureKind::Network => "the policy host has to be reachable over HTTPS from here",
            FetchFailureKind::Http => "the policy host has to serve the file with status 200 and type text/plain",
            FetchFailureKind::Certificate => {
                "the policy host needs a valid certificate for its own name, from a CA that is trusted here"
            }
            FetchFailureKind::Invalid => "the file has to follow RFC 8461 §3.2",
        };
        let whose = format!("the operators of the policy host mta-sts.{}", facts.hop);
        return Some(new(whose, format!("MTA-STS policy: {reason}{covered}"), remedy));
    }
    let whose = || format!("the operators of {}", facts.hop);
    if let RecordOutcome::Absent(why) = &sts.view.entry.record.outcome {
        let malformed = why.contains("malformed") || why.contains("several");
        return malformed.then(|| {
            new(whose(), format!("MTA-STS record: {why}{covered}"), "publish exactly one record: v=STSv1; id=…;")
        });
    }
    let Standing::InForce(policy, _) = &sts.view.standing else { return None };
    if policy.policy.mode == StsMode::Testing {
        return Some(new(whose(), "its MTA-STS policy is in testing mode: nothing is enforced", "mode: enforce"));
    }
    let enforced = policy.policy.mode == StsMode::Enforce;
    let outside = facts.report.hosts.iter().filter(|host| host.status != HostStatus::Ignored);
    let outside: Vec<&str> = outside
        .filter(|host| !policy.policy.mx.iter().any(|pattern| pattern.matches(&host.host)))
        .map(|host| host.host.as_str())
        .collect();
    (enforced && !outside.is_empty()).then(|| {
        let problem = format!("its MTA-STS policy does not allow these MX hosts: {}", outside.join(", "));
        new(whose(), problem, "add them to the policy, with a new id in the TXT record, or take them out of MX")
    })
}

/// The cache and a fresh look may differ for as long as a TTL.
fn of_cache(facts: &Facts<'_>) -> Option<Advice> {
    let cached = facts.survey.override_.is_none() && facts.survey.at_hand.is_some();
    let differs = facts.decision.outcome.label() != facts.fresh.outcome.label();
    (cached && differs).then(|| {
        let problem =
            format!("the answer comes from the cache; a lookup now would answer {}", facts.fresh.outcome.label());
        new(OURS, problem, format!("wait until it ends, or `postseal purge {}`", facts.hop))
    })
}

/// Nothing is wrong, and there is no policy.
fn of_nothing(facts: &Facts<'_>) -> Option<Advice> {
    let plain = facts.fresh.outcome == Outcome::NotFound && facts.survey.override_.is_none();
    let healthy = facts.sts.is_none_or(|sts| sts.fetch_failure.is_none() && sts.failure.is_none());
    let hosts = &facts.report.hosts;
    if !plain || !healthy || hosts.is_empty() || facts.report.verdict != DaneVerdict::None {
        return None;
    }
    let signed = hosts.iter().filter(|host| host.addresses == HostAddresses::Secure).count();
    let problem = match signed {
        0 => "no MX host has an address in a signed zone, so none can have TLSA records that count".to_owned(),
        signed => format!("{signed} of {} MX hosts are in signed zones, and none has TLSA records", hosts.len()),
    };
    let remedy = "DANE: sign the zones and publish TLSA records; or MTA-STS: publish a policy in mode enforce";
    Some(new(format!("the operators of {} and of its MX hosts", facts.hop), problem, remedy))
}

/// Who can mend a failed lookup, and how.
pub(super) fn of_failure(failure: &Failure) -> Advice {
    let root = failure.zone.as_ref().is_some_and(hickory_proto::rr::Name::is_root);
    let zone = failure.zone.as_ref().map_or_else(|| text(&failure.name), text);
    let whose = match &failure.cause {
        Cause::Overloaded | Cause::Network => OURS.to_owned(),
        _ if root => "you, here, or the network between here and the root's servers".to_owned(),
        _ => format!("the operators of the zone {zone}"),
    };
    new(whose, sentence(failure), remedy(failure, &zone))
}

fn remedy(failure: &Failure, zone: &str) -> String {
    match &failure.cause {
        Cause::Bogus(bogus) => bogus_remedy(bogus, failure, zone),
        Cause::Timeout => format!("the name servers of {zone} have to answer; they are silent, as seen from here"),
        Cause::ServFail => {
            format!("the name servers of {zone} have to answer without error: SERVFAIL is a fault of theirs")
        }
        Cause::ErrorCode(code) => format!("the name servers of {zone} have to serve it to everybody, without {code}"),
        Cause::Lame => {
            format!("the servers to which {zone} is delegated have to serve it, or the delegation to change")
        }
        Cause::NoServers => {
            format!("the name servers of {zone} need addresses that can be reached from here, over TCP as well as UDP")
        }
        Cause::Malformed => format!("the name servers of {zone} have to send well-formed answers"),
        Cause::AliasChain => "the CNAME and DNAME records on the way have to end at a name, soon".to_owned(),
        Cause::Budget(_) => "the delegations and aliases on the way have to become fewer".to_owned(),
        Cause::Overloaded => "too many lookups are under way: ask again later".to_owned(),
        Cause::Network => "this host's network has to work: sockets, routes, descriptors".to_owned(),
    }
}

fn bogus_remedy(bogus: &Bogus, failure: &Failure, zone: &str) -> String {
    match bogus {
        Bogus::Expired { .. } => format!("{zone} has to be signed again: see why its signer stopped"),
        Bogus::NotYetValid { .. } => format!("the clock of the signer of {zone} is ahead, or the clock here is behind"),
        Bogus::MissingSignature { .. } => format!(
            "{zone} is signed according to its DS records: it has to be signed in full, its servers have to take EDNS, \
             and a middlebox that removes signatures has to go"
        ),
        Bogus::BadSignature { .. } => {
            format!("{zone} has to be signed again: its data was changed after signing, or on the way")
        }
        Bogus::NoDnskey => format!("{zone} has to publish its DNSKEY records, or have its DS records removed"),
        Bogus::NoMatchingKey { anchored: true, .. } => format!(
            "the trust anchor of {zone} in resolver.trust-anchors has to name keys that sign its DNSKEY records, or \
             {zone} to sign with those"
        ),
        Bogus::NoMatchingKey { anchored: false, .. } => {
            format!("the DS records of {zone} have to be those of keys that sign its DNSKEY records")
        }
        Bogus::AnchorsRevoked => format!(
            "the owner of {zone} revoked the keys that are trusted here: resolver.trust-anchors has to name a file with \
             its present keys, or postseal has to be a newer one"
        ),
        Bogus::UnknownKey { .. } => format!("{zone} has to publish the key that it signs with"),
        Bogus::DenialNotProven => format!(
            "the name servers of {zone} have to prove with NSEC or NSEC3 records that there is no {} {}",
            text(&failure.name),
            failure.rtype
        ),
        Bogus::WrongSigner { .. } => format!("{zone} has to be signed with its own keys"),
        Bogus::TooMuchWork(_) => format!("{zone} has to do with fewer keys, signatures and NSEC3 iterations"),
    }
}
