//! One MX host: its addresses, then its TLSA records (design §4 steps 2 and 3).

use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::{Either, Shared, join, select};
use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};

use super::tlsa::{TlsaSet, judge, usable_records};
use super::ttl::Carried;
use super::verdict::HostStatus;
use crate::dns::{Answer, BoxFuture, Failure, Found, Glance, Lookup, Security};
use crate::limits::HOST_ZONE_WAIT;
use crate::names::Domain;

/// What was found out about one host, and on the way to it.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// The host, as MX names it.
    pub host: Domain,
    /// Its MX preference.
    pub preference: u16,
    /// What counts.
    pub status: HostStatus,
    /// What its addresses were.
    pub addresses: HostAddresses,
    /// The TLSA base domain at which records were found (RFC 7672 §2.2.2).
    pub base: Option<Domain>,
    /// TLSA records there.
    pub records: usize,
    /// Of which usable.
    pub usable: usize,
    /// Why it is unknown.
    pub failure: Option<Failure>,
    pub(super) carried: Carried,
}

/// What the address lookups of a host came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddresses {
    /// Addresses in a signed zone.
    Secure,
    /// Not signed.
    Insecure,
    /// Not signed, but the host itself is a signed alias.
    InsecureBehindSecureAlias,
    /// Proven to have none.
    Absent,
    /// Could not be found out, but its zone is proven to be unsigned: whatever they are, they are not signed.
    UnknownOfUnsignedZone,
    /// Could not be found out.
    Unknown,
}

impl HostReport {
    /// A host of which nothing is known yet.
    pub(super) fn unknown(host: Domain, preference: u16) -> Self {
        Self {
            host,
            preference,
            status: HostStatus::Unknown,
            addresses: HostAddresses::Unknown,
            base: None,
            records: 0,
            usable: 0,
            failure: None,
            carried: Carried::nothing(),
        }
    }

    /// Takes note of why the host is unknown.
    fn failed(&mut self, failure: Failure) -> HostStatus {
        self.failure = Some(failure);
        HostStatus::Unknown
    }
}

/// A TLSA lookup that several may wait for.
type EarlyTlsa<'a> = Shared<BoxFuture<'a, Result<Answer, Failure>>>;

/// Finds out about one host, whose TLSA records are those for `port`.
pub(in crate::policy) async fn examine(lookup: &dyn Lookup, host: Domain, preference: u16, port: u16) -> HostReport {
    let name = host.to_name();
    let own_tlsa = tlsa_name(&name, port);
    // Side by side where it can do no harm: servers of unsigned zones often break on TLSA (RFC 7672 §2.2.2).
    let early = own_tlsa
        .as_ref()
        .filter(|_| lookup.zone_known_signed(&name))
        .map(|tlsa| lookup.lookup(tlsa, RecordType::TLSA).shared());
    let addresses = match &early {
        None => find_addresses_or_zone(lookup, &name).await,
        Some(early) => match select(pin!(find_addresses_or_zone(lookup, &name)), early.clone()).await {
            Either::Left((addresses, _)) => addresses,
            Either::Right((_, addresses)) => addresses.await,
        },
    };
    let mut report = HostReport::unknown(host, preference);
    match find_bases(lookup, &name, addresses, &mut report).await {
        Ok(bases) => find_tlsa(lookup, &name, bases, port, early, report).await,
        Err(decided) => {
            report.status = decided;
            report
        }
    }
}

/// The TLSA base domains in the order in which they count, or what the addresses decide alone.
async fn find_bases(
    lookup: &dyn Lookup,
    name: &Name,
    addresses: Addresses,
    report: &mut HostReport,
) -> Result<Vec<Name>, HostStatus> {
    match addresses {
        Addresses::Secure { canonical, carried } => {
            report.addresses = HostAddresses::Secure;
            report.carried = carried;
            // The fully expanded name first, then the original one, never one between (RFC 7672 §2.2.2).
            Ok(if canonical == *name { vec![canonical] } else { vec![canonical, name.clone()] })
        }
        Addresses::Insecure { aliased, carried } => {
            report.addresses = HostAddresses::Insecure;
            report.carried = carried;
            if !aliased {
                return Err(HostStatus::NoTlsa);
            }
            // A secure alias makes the host a candidate, wherever it leads (RFC 7672 §2.2.2).
            let answer = lookup.lookup(name, RecordType::CNAME).await.map_err(|failure| report.failed(failure))?;
            report.carried = report.carried.and(&answer);
            if !answer.security.is_secure() || answer.records().is_empty() {
                return Err(HostStatus::NoTlsa);
            }
            report.addresses = HostAddresses::InsecureBehindSecureAlias;
            Ok(vec![name.clone()])
        }
        Addresses::OfUnsignedZone { carried } => {
            report.addresses = HostAddresses::UnknownOfUnsignedZone;
            report.carried = carried;
            Err(HostStatus::NoTlsa)
        }
        Addresses::Absent { carried } => {
            report.addresses = HostAddresses::Absent;
            report.carried = carried;
            Err(HostStatus::Ignored)
        }
        Addresses::Unknown(failure) => Err(report.failed(failure)),
    }
}

/// The TLSA records at the first base that has any.
async fn find_tlsa(
    lookup: &dyn Lookup,
    name: &Name,
    bases: Vec<Name>,
    port: u16,
    early: Option<EarlyTlsa<'_>>,
    mut report: HostReport,
) -> HostReport {
    report.status = HostStatus::NoTlsa;
    for base in bases {
        let result = match (&early, base == *name) {
            (Some(early), true) => early.clone().await,
            _ => match tlsa_name(&base, port) {
                Some(tlsa) => lookup.lookup(&tlsa, RecordType::TLSA).await,
                None => continue, // too long a name: nothing can be there
            },
        };
        match result {
            // A failing lookup is not skipped over: its records might be stricter (RFC 7672 §2.2.2).
            Err(failure) => {
                report.status = report.failed(failure);
                return report;
            }
            Ok(answer) => {
                report.carried = report.carried.and(&answer);
                if let (Security::Secure, Found::Records(records)) = (answer.security, &answer.found) {
                    report.base = Domain::from_name(&base).ok();
                    report.records = records.len();
                    report.usable = usable_records(records);
                    report.status = match judge(records) {
                        TlsaSet::Usable => HostStatus::Usable,
                        TlsaSet::Unusable => HostStatus::Unusable,
                    };
                    return report;
                }
            }
        }
    }
    report
}

/// `_25._tcp.<base>`, unless that is too long for a name.
pub(in crate::policy) fn tlsa_name(base: &Name, port: u16) -> Option<Name> {
    base.prepend_label("_tcp").and_then(|name| name.prepend_label(format!("_{port}"))).ok()
}

/// What both address families come to.
#[derive(Debug, PartialEq, Eq)]
enum Addresses {
    Secure { canonical: Name, carried: Carried },
    Insecure { aliased: bool, carried: Carried },
    OfUnsignedZone { carried: Carried },
    Absent { carried: Carried },
    Unknown(Failure),
}

/// The addresses; where they do not come, or cannot be had, whether the host lies in an unsigned zone: then there can be
/// no secure TLSA records, whatever its addresses do (RFC 7672 §2.2.2).
async fn find_addresses_or_zone(lookup: &dyn Lookup, name: &Name) -> Addresses {
    let unsigned = || async { lookup.zone_proven_insecure(name).await.map(|ttl| Carried::nothing().denied_for(ttl)) };
    let addresses = find_addresses(lookup, name);
    let late = async {
        tokio::time::sleep(HOST_ZONE_WAIT).await;
        unsigned().await
    };
    let addresses = match select(pin!(addresses), pin!(late)).await {
        Either::Left((addresses, _)) => addresses,
        Either::Right((Some(carried), _)) => return Addresses::OfUnsignedZone { carried },
        // Not yet known to be unsigned: once more when the lookup has gone all the way.
        Either::Right((None, addresses)) => addresses.await,
    };
    match addresses {
        Addresses::Unknown(failure) => match unsigned().await {
            Some(carried) => Addresses::OfUnsignedZone { carried },
            None => Addresses::Unknown(failure),
        },
        known => known,
    }
}

/// Asks for both families at once; one secure address is enough, and then nobody needs to prove that the other family
/// has none.
async fn find_addresses(lookup: &dyn Lookup, name: &Name) -> Addresses {
    let look = |rtype| Box::pin(async move { (rtype, lookup.glance(name, rtype).await) });
    let (first, other) = select(look(RecordType::A), look(RecordType::AAAA)).await.factor_first();
    if let Some(secure) = at_a_glance(&first.1) {
        return secure;
    }
    let other = other.await;
    if let Some(secure) = at_a_glance(&other.1) {
        return secure;
    }
    let prove = async |(rtype, glance)| match glance {
        Ok(Glance::Answer(answer)) => Ok(answer),
        Ok(Glance::Denied) => lookup.lookup(name, rtype).await,
        Err(failure) => Err(failure),
    };
    let (first, other) = join(prove(first), prove(other)).await;
    classify(name, first, other)
}

fn at_a_glance(glance: &Result<Glance, Failure>) -> Option<Addresses> {
    match glance {
        Ok(Glance::Answer(answer)) => secure_addresses(answer),
        Ok(Glance::Denied) | Err(_) => None,
    }
}

fn secure_addresses(answer: &Answer) -> Option<Addresses> {
    let is_secure = answer.security.is_secure() && !answer.records().is_empty();
    is_secure
        .then(|| Addresses::Secure { canonical: answer.canonical.clone(), carried: Carried::nothing().and(answer) })
}

fn classify(name: &Name, first: Result<Answer, Failure>, second: Result<Answer, Failure>) -> Addresses {
    if let Some(secure) = [&first, &second].into_iter().flatten().find_map(secure_addresses) {
        return secure;
    }
    let (mut insecure, mut aliased) = (None, false);
    for answer in [&first, &second].into_iter().flatten().filter(|answer| !answer.security.is_secure()) {
        insecure = Some(insecure.unwrap_or_else(Carried::nothing).and(answer));
        aliased |= &answer.canonical != name;
    }
    match (insecure, first, second) {
        (Some(carried), _, _) => Addresses::Insecure { aliased, carried },
        (None, Ok(first), Ok(second)) => Addresses::Absent { carried: Carried::nothing().and(&first).and(&second) },
        (None, Err(failure), _) | (None, _, Err(failure)) => Addresses::Unknown(failure),
    }
}
