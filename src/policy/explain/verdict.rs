//! The headline of an explanation: is mail to this next hop protected? Pure.
//!
//! In: the decision, what Postfix does with each MX host, and what a check of those hosts showed. Out: one [`Verdict`],
//! and a [`CheckSection`] where the hosts were connected to.

use super::model::{CheckSection, DeliveryKind, HostSection, Verdict};
use crate::cache::DaneVerdict;
use crate::policy::dane::mx::Nobody;
use crate::policy::decision::{Decision, Outcome};

/// The verdict on a next hop. `nobody`: why no host receives mail, where that is what the MX records say.
///
/// A check comes after the policy: where every host fails it, Postfix keeps the mail, whatever the policy promises. A host
/// that cannot be connected to from here says nothing about that.
pub(super) fn verdict(
    decision: &Decision,
    nobody: Option<Nobody>,
    hosts: &[HostSection],
    check: Option<&CheckSection>,
) -> Verdict {
    let by_policy = match (nobody, by_policy(decision)) {
        // An override is the operator's own word, whatever the MX records are.
        (Some(_), by_policy) if matches!(decision.outcome, Outcome::Override(_)) => by_policy,
        (Some(Nobody::NullMx), _) => return Verdict::NullMx,
        (Some(Nobody::NoDomain), _) => return Verdict::NoSuchDomain,
        (_, by_policy) => by_policy,
    };
    if check.is_some_and(CheckSection::is_hopeless) {
        return Verdict::Undeliverable;
    }
    let is_anybody =
        |host: &HostSection| matches!(host.delivery.kind, DeliveryKind::ClearPossible | DeliveryKind::Encrypted);
    match by_policy {
        Verdict::Protected if hosts.iter().any(is_anybody) => Verdict::PartlyProtected,
        other => other,
    }
}

/// What the policy alone promises.
fn by_policy(decision: &Decision) -> Verdict {
    let dane = decision.dane.as_ref().map(|view| view.entry.verdict);
    match &decision.outcome {
        Outcome::DaneOnly | Outcome::Secure(_) | Outcome::SecureHosts(..) => Verdict::Protected,
        Outcome::Dane if dane == Some(DaneVerdict::Dane) => Verdict::Protected,
        Outcome::Dane => Verdict::Weak,
        Outcome::Override(text) => match super::words::level(text) {
            "none" | "may" | "encrypt" => Verdict::Weak,
            _ => Verdict::Protected,
        },
        Outcome::ReportTesting(..) | Outcome::ReportFailure(..) | Outcome::Fallback(..) => Verdict::Weak,
        Outcome::NotFound => Verdict::NoPolicy,
        Outcome::Temporary(_) => Verdict::Held,
    }
}

/// What the checks of all hosts come to; absent where no host was connected to.
pub(super) fn check(hosts: &[HostSection]) -> Option<CheckSection> {
    // A host that Postfix never delivers to under this policy costs nothing when it fails.
    let counts = |host: &&HostSection| !host.live.is_empty() && host.delivery.kind != DeliveryKind::NotUsed;
    let mut section = CheckSection::default();
    for host in hosts.iter().filter(counts) {
        section.hosts += 1;
        if host.live.iter().any(|check| check.passed) {
            section.passed += 1;
        } else if host.live.iter().any(|check| check.reached) {
            section.failed += 1;
        } else {
            section.unreachable += 1;
        }
    }
    (section.hosts > 0).then_some(section)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::entry::DaneEntry;
    use crate::policy::dane::{HostAddresses, HostStatus};
    use crate::policy::decision::DaneView;
    use crate::policy::explain::{Delivery, LiveCheck};
    use DeliveryKind::{Authenticated, ClearPossible, Deferred, Encrypted, NotUsed};

    /// What the check of a host shows: nothing was asked, no connection, a failure, a pass.
    #[derive(Clone, Copy)]
    enum Shows {
        Nothing,
        NoConnection,
        Failure,
        Pass,
    }
    use Shows::{Failure, NoConnection, Nothing, Pass};

    fn host(kind: DeliveryKind, shows: Shows) -> HostSection {
        let live = match shows {
            Nothing => Vec::new(),
            _ => vec![LiveCheck {
                address: "192.0.2.1:25".to_owned(),
                reached: !matches!(shows, NoConnection),
                passed: matches!(shows, Pass),
                text: String::new(),
                tls: None,
                presented: Vec::new(),
            }],
        };
        HostSection {
            host: "mx.example.com".to_owned(),
            preference: 10,
            status: HostStatus::NoTlsa,
            addresses: HostAddresses::Secure,
            lookups: Vec::new(),
            base: None,
            tlsa: Vec::new(),
            failure: None,
            delivery: Delivery { kind, text: String::new() },
            live,
        }
    }

    fn decision(outcome: Outcome, dane: DaneVerdict) -> Decision {
        let entry = DaneEntry {
            verdict: dane,
            reason: "".into(),
            checked_at: 0,
            ttl: 60,
            without: Arc::default(),
            seen_until: 0,
        };
        let dane = Some(DaneView { entry, ttl: 60 });
        Decision { outcome, dane, sts: None, cached: true }
    }

    #[test]
    fn each_verdict_follows_from_policy_records_hosts_and_check() {
        let level = |text: &str| Outcome::Override(text.into());
        let hold = || Outcome::Temporary("".into());
        type Row<'a> = (&'a str, Outcome, DaneVerdict, Option<Nobody>, &'a [(DeliveryKind, Shows)], Verdict);
        use DaneVerdict::{Dane, DaneOnly, DaneWeak, None as NoDane, Temporary};
        let rows: Vec<Row<'_>> = vec![
            ("DANE", Outcome::DaneOnly, DaneOnly, None, &[(Authenticated, Nothing)], Verdict::Protected),
            (
                "one unused",
                Outcome::DaneOnly,
                DaneOnly,
                None,
                &[(Authenticated, Nothing), (NotUsed, Nothing)],
                Verdict::Protected,
            ),
            (
                "one waits",
                Outcome::Dane,
                Dane,
                None,
                &[(Authenticated, Nothing), (Deferred, Nothing)],
                Verdict::Protected,
            ),
            (
                "one open",
                Outcome::Dane,
                Dane,
                None,
                &[(Authenticated, Nothing), (ClearPossible, Nothing)],
                Verdict::PartlyProtected,
            ),
            (
                "one unusable",
                Outcome::Dane,
                Dane,
                None,
                &[(Authenticated, Nothing), (Encrypted, Nothing)],
                Verdict::PartlyProtected,
            ),
            ("MX not signed", Outcome::Dane, DaneWeak, None, &[(Encrypted, Nothing)], Verdict::Weak),
            ("none", Outcome::NotFound, NoDane, None, &[(ClearPossible, Nothing)], Verdict::NoPolicy),
            ("null MX", Outcome::NotFound, NoDane, Some(Nobody::NullMx), &[], Verdict::NullMx),
            ("no domain", Outcome::NotFound, NoDane, Some(Nobody::NoDomain), &[], Verdict::NoSuchDomain),
            ("override", level("encrypt"), NoDane, Some(Nobody::NullMx), &[], Verdict::Weak),
            ("override", level("secure match=nexthop"), NoDane, None, &[(Authenticated, Nothing)], Verdict::Protected),
            ("held", hold(), Temporary, None, &[(Deferred, Nothing)], Verdict::Held),
            ("passes", Outcome::DaneOnly, DaneOnly, None, &[(Authenticated, Pass)], Verdict::Protected),
            ("fails", Outcome::DaneOnly, DaneOnly, None, &[(Authenticated, Failure)], Verdict::Undeliverable),
            (
                "all fail",
                Outcome::DaneOnly,
                DaneOnly,
                None,
                &[(Authenticated, Failure), (Authenticated, Failure)],
                Verdict::Undeliverable,
            ),
            (
                "one fails",
                Outcome::DaneOnly,
                DaneOnly,
                None,
                &[(Authenticated, Failure), (Authenticated, Pass)],
                Verdict::Protected,
            ),
            (
                "fails, other blocked",
                Outcome::DaneOnly,
                DaneOnly,
                None,
                &[(Authenticated, Failure), (Authenticated, NoConnection)],
                Verdict::Undeliverable,
            ),
            ("blocked", Outcome::DaneOnly, DaneOnly, None, &[(Authenticated, NoConnection)], Verdict::Protected),
            (
                "blocked, no policy",
                Outcome::NotFound,
                NoDane,
                None,
                &[(ClearPossible, NoConnection)],
                Verdict::NoPolicy,
            ),
            (
                "an unused one fails",
                Outcome::DaneOnly,
                DaneOnly,
                None,
                &[(Authenticated, Pass), (NotUsed, Failure)],
                Verdict::Protected,
            ),
            (
                "partly, one fails",
                Outcome::Dane,
                Dane,
                None,
                &[(Authenticated, Failure), (ClearPossible, Pass)],
                Verdict::PartlyProtected,
            ),
        ];
        for (name, outcome, dane, nobody, hosts, expected) in rows {
            let hosts: Vec<HostSection> = hosts.iter().map(|(kind, shows)| host(*kind, *shows)).collect();
            let check = check(&hosts);
            assert_eq!(verdict(&decision(outcome, dane), nobody, &hosts, check.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn a_host_passes_where_one_of_its_addresses_does() {
        let mut two = host(Authenticated, Failure);
        two.live.extend(host(Authenticated, Pass).live);
        let found =
            check(&[two, host(Authenticated, NoConnection), host(NotUsed, Failure), host(Authenticated, Nothing)]);
        assert_eq!(found, Some(CheckSection { hosts: 2, passed: 1, failed: 0, unreachable: 1 }));
        assert_eq!(check(&[host(Authenticated, Nothing)]), None);
    }
}
