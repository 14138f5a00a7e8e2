//! The words of an explanation: which rule decided, and what Postfix does with a host. Pure.

use super::model::{Delivery, DeliveryKind};
use crate::cache::DaneVerdict;
use crate::config::ReportLevel;
use crate::names::Domain;
use crate::policy::dane::HostStatus;
use crate::policy::decision::Outcome;
use crate::policy::merge::Sts;

/// The row of the combination table (design §4) that decided.
pub(super) fn rule(dane: DaneVerdict, sts: Sts) -> &'static str {
    match (dane, sts) {
        (DaneVerdict::DaneOnly, _) => {
            "every MX host that counts has usable TLSA records and the MX records are signed: DANE alone, whatever \
             MTA-STS says"
        }
        (DaneVerdict::Dane, Sts::Secure) => {
            "the MX records are signed and some MX hosts have usable TLSA records, and an MTA-STS policy is in force: DANE \
             alone, for MTA-STS must not override it, and nothing may go out unauthenticated (RFC 8461 §2, §5)"
        }
        (DaneVerdict::Dane, Sts::None | Sts::Temporary) => {
            "the MX records are signed and some MX hosts have usable TLSA records: DANE per host; no MTA-STS \
             policy enforces anything"
        }
        (DaneVerdict::DaneWeak, Sts::Secure) => {
            "TLSA records are there, but the MX records are not signed or none is usable; an MTA-STS policy \
             authenticates: MTA-STS"
        }
        (DaneVerdict::DaneWeak, Sts::None | Sts::Temporary) => {
            "TLSA records are there, but the MX records are not signed or none is usable; no MTA-STS policy enforces \
             anything: DANE per host"
        }
        (DaneVerdict::Partial, Sts::Secure) => {
            "an MX host that cannot be looked up might have TLSA records, and MTA-STS must not override those: MTA-STS for \
             the hosts that are proven to have no usable ones and that the policy allows; without such a host, Postfix keeps the mail \
             queued"
        }
        (DaneVerdict::Partial, Sts::None | Sts::Temporary) => {
            "an MX host that cannot be looked up might have TLSA records: DANE, so that nothing is downgraded"
        }
        (DaneVerdict::Temporary, _) => {
            "DNS does not say which hosts receive mail, or whether they have TLSA records: Postfix keeps the mail queued, \
             because sending it could be unprotected"
        }
        (DaneVerdict::None, Sts::Secure) => "no DANE; an MTA-STS policy is in force: MTA-STS",
        (DaneVerdict::None, Sts::Temporary) => {
            "no DANE; the MTA-STS policy could not be fetched and none is known from before: as if there were none (RFC \
             8461 §5.1)"
        }
        (DaneVerdict::None, Sts::None) => "no DANE, and no MTA-STS policy that enforces anything: no policy",
    }
}

/// What is added to the rule where `policy.on-failure` took the place of TEMP.
pub(super) const FALLBACK: &str =
    "no policy of this domain was ever seen, and policy.on-failure says what is answered in place of TEMP";

/// What counts of an MX host when Postfix delivers.
pub(super) struct HostFacts<'a> {
    /// Its name.
    pub host: &'a Domain,
    /// What DANE makes of it.
    pub status: HostStatus,
    /// Whether the MX records that lead to it are signed (or there are none: a host in brackets).
    pub secure_mx: bool,
}

/// What Postfix does with a host, given an answer.
pub(super) fn delivery(outcome: &Outcome, host: &HostFacts<'_>) -> Delivery {
    let (kind, text) = match outcome {
        _ if host.status == HostStatus::Ignored => (DeliveryKind::NotUsed, "has no address: never tried".to_owned()),
        // Postfix skips a host without usable records at this level.
        Outcome::DaneOnly if matches!(host.status, HostStatus::NoTlsa | HostStatus::Unusable) => {
            (DeliveryKind::NotUsed, "has no usable TLSA records: refused at this level".to_owned())
        }
        Outcome::DaneOnly | Outcome::Dane => by_dane(host),
        Outcome::SecureHosts(_, hosts) if hosts.contains(host.host) => {
            (DeliveryKind::Authenticated, "only with a valid certificate for its name (web PKI)".to_owned())
        }
        Outcome::SecureHosts(held, _) if held.policy.mx.iter().any(|pattern| pattern.matches(host.host)) => (
            DeliveryKind::NotUsed,
            "refused until its DNS answers: it might have TLSA records; other hosts are tried".to_owned(),
        ),
        Outcome::SecureHosts(..) => {
            (DeliveryKind::NotUsed, "matches no mx line of the MTA-STS policy: refused".to_owned())
        }
        Outcome::Secure(held) if held.policy.mx.iter().any(|pattern| pattern.matches(host.host)) => {
            (DeliveryKind::Authenticated, "only with a valid certificate for its name (web PKI)".to_owned())
        }
        Outcome::Secure(_) => (DeliveryKind::NotUsed, "matches no mx line of the MTA-STS policy: refused".to_owned()),
        Outcome::Override(text) => by_level(level(text)),
        Outcome::ReportTesting(level, _) | Outcome::ReportFailure(level, _) | Outcome::Fallback(level, _) => {
            match level {
                ReportLevel::May => by_level("may"),
                ReportLevel::Encrypt => by_level("encrypt"),
            }
        }
        Outcome::NotFound => (
            DeliveryKind::ClearPossible,
            "Postfix's own default; with level `may`, TLS where it is offered, else unencrypted".to_owned(),
        ),
        Outcome::Temporary(_) => (DeliveryKind::Deferred, "Postfix keeps the mail queued, and tries again".to_owned()),
    };
    Delivery { kind, text }
}

fn by_dane(host: &HostFacts<'_>) -> (DeliveryKind, String) {
    let (kind, text) = match host.status {
        HostStatus::Usable if host.secure_mx => {
            (DeliveryKind::Authenticated, "only with a certificate that matches its TLSA records")
        }
        HostStatus::Usable => (
            DeliveryKind::Encrypted,
            "only with a certificate that matches its TLSA records; but the MX records are not signed, so the name of \
             the host itself could be forged",
        ),
        HostStatus::Unusable => {
            (DeliveryKind::Encrypted, "TLS is required, but authenticates nobody: no TLSA record is usable")
        }
        HostStatus::NoTlsa => {
            (DeliveryKind::ClearPossible, "no TLSA records: TLS where it is offered, else unencrypted")
        }
        HostStatus::Ignored => (DeliveryKind::NotUsed, "has no address: never tried"),
        HostStatus::Unknown => (DeliveryKind::Deferred, "skipped until its DNS answers; other hosts are tried"),
    };
    (kind, text.to_owned())
}

fn by_level(level: &str) -> (DeliveryKind, String) {
    let kind = match level {
        "none" | "may" => DeliveryKind::ClearPossible,
        "encrypt" => DeliveryKind::Encrypted,
        _ => DeliveryKind::Authenticated,
    };
    let text = match kind {
        DeliveryKind::ClearPossible => "TLS at most where it is offered, else unencrypted",
        DeliveryKind::Encrypted => "TLS is required, but authenticates nobody",
        _ => "only to an authenticated host, as this level says",
    };
    (kind, format!("level {level}: {text}"))
}

/// The security level in a policy text: its first word.
pub(super) fn level(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}
