//! The DANE branch of a next hop from MX lookup to verdict.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use hickory_proto::rr::RecordType;

use super::host::{HostReport, examine};
use super::mx::{MailHosts, mail_hosts};
use super::ttl::{Carried, of_failure};
use super::verdict::{HostStatus, is_settled, verdict};
use crate::cache::{DaneEntry, DaneVerdict};
use crate::clock::UnixTime;
use crate::dns::{Failure, Lookup, Security};
use crate::limits::{MX_HOSTS_AT_ONCE, SETTLED_HOST_WAIT};
use crate::names::{Domain, NextHop, SMTP_PORT};

/// A verdict and all that led to it.
#[derive(Clone, Debug)]
pub struct DaneReport {
    /// The verdict.
    pub verdict: DaneVerdict,
    /// Seconds for which it holds.
    pub ttl: u32,
    /// What the TTL was before it was clamped: little, where answers came from the resolver's cache.
    pub carried_ttl: u32,
    /// Why, for people; without the domain.
    pub reason: String,
    /// Security of the MX answer; none where there was no MX lookup or it failed.
    pub mx: Option<Security>,
    /// Each host that was looked at, best preference first.
    pub hosts: Vec<HostReport>,
}

/// Finds out what DANE says of `hop`. Hosts that have not answered after `slow_after` count as unknown where
/// the others carry a verdict, much earlier where they cannot change it; without any verdict, it goes on until
/// the resolver gives up.
pub async fn evaluate(lookup: &dyn Lookup, hop: &NextHop, slow_after: Duration) -> DaneReport {
    let deadline = tokio::time::sleep(slow_after);
    let (hosts, port, mx, carried) = match hop {
        // No MX lookup: the host itself is the TLSA base domain (RFC 7672 §2.2.3).
        NextHop::Host { host, port } => (vec![(0, host.clone())], *port, None, Carried::nothing()),
        NextHop::Domain { domain, port } => {
            let answer = match lookup.lookup(&domain.to_name(), RecordType::MX).await {
                Ok(answer) => answer,
                Err(failure) => return DaneReport::failed(&failure),
            };
            let carried = Carried::nothing().and(&answer);
            match mail_hosts(domain, &answer) {
                MailHosts::Nobody(why) => return DaneReport::nobody(why.to_string(), answer.security, carried),
                // Those of best preference decide: Postfix tries a few, and asks again for each that it tries.
                MailHosts::Hosts { hosts, left_out: _ } => {
                    (hosts, port.unwrap_or(SMTP_PORT), Some(answer.security), carried)
                }
            }
        }
    };
    let secure_mx = mx.is_none_or(Security::is_secure);
    let mut reports: Vec<HostReport> =
        hosts.iter().map(|(preference, host)| HostReport::unknown(host.clone(), *preference)).collect();
    let mut pending = stream::iter(hosts.into_iter().enumerate())
        .map(|(index, (preference, host))| async move { (index, examine(lookup, host, preference, port).await) })
        .buffer_unordered(MX_HOSTS_AT_ONCE);
    tokio::pin!(deadline);
    let mut late = false;
    loop {
        tokio::select! {
            biased;
            done = pending.next() => match done {
                Some((index, report)) => {
                    if let Some(place) = reports.get_mut(index) {
                        *place = report;
                    }
                    let soon = tokio::time::Instant::now() + SETTLED_HOST_WAIT;
                    if !late && soon < deadline.deadline() && is_settled(&statuses(&reports), secure_mx) {
                        deadline.as_mut().reset(soon);
                    }
                }
                None => break,
            },
            () = &mut deadline, if !late => late = true,
        }
        if late && verdict(&statuses(&reports), secure_mx).0 != DaneVerdict::Temporary {
            break;
        }
    }
    drop(pending);
    DaneReport::of(reports, mx, carried)
}

fn statuses(reports: &[HostReport]) -> Vec<HostStatus> {
    reports.iter().map(|report| report.status).collect()
}

impl DaneReport {
    fn failed(failure: &Failure) -> Self {
        let verdict = DaneVerdict::Temporary;
        let ttl = of_failure(&failure.cause);
        Self { verdict, ttl, carried_ttl: 0, reason: failure.to_string(), mx: None, hosts: Vec::new() }
    }

    fn nobody(reason: String, mx: Security, carried: Carried) -> Self {
        let verdict = DaneVerdict::None;
        let ttl = carried.clamp(verdict, false);
        Self { verdict, ttl, carried_ttl: carried.seconds(), reason, mx: Some(mx), hosts: Vec::new() }
    }

    /// The DANE branch, learnt at `now`.
    pub fn entry(&self, now: UnixTime) -> DaneEntry {
        let without: Arc<[Domain]> = match self.verdict {
            DaneVerdict::Partial => {
                let known = |host: &&HostReport| matches!(host.status, HostStatus::NoTlsa | HostStatus::Unusable);
                self.hosts.iter().filter(known).map(|host| host.host.clone()).collect()
            }
            _ => Arc::default(),
        };
        let entry = DaneEntry::new(self.verdict, self.reason.as_str(), now, self.ttl).without(without);
        let has_records =
            self.hosts.iter().any(|host| matches!(host.status, HostStatus::Usable | HostStatus::Unusable));
        if has_records { entry.seen() } else { entry }
    }

    fn of(hosts: Vec<HostReport>, mx: Option<Security>, carried: Carried) -> Self {
        let (verdict, unknown) = verdict(&statuses(&hosts), mx.is_none_or(Security::is_secure));
        let known = hosts.iter().filter(|host| host.status != HostStatus::Unknown);
        let carried = known.fold(carried, |carried, host| carried.min(host.carried));
        let reason = reason(verdict, &hosts, mx);
        let failure = hosts.iter().find_map(|host| host.failure.as_ref());
        let ttl = match (verdict, failure) {
            (DaneVerdict::Temporary, Some(failure)) => of_failure(&failure.cause),
            _ => carried.clamp(verdict, unknown),
        };
        Self { verdict, ttl, carried_ttl: carried.seconds(), reason, mx, hosts }
    }
}

/// The verdict in words: the cause where mail waits, else what was counted.
fn reason(verdict: DaneVerdict, hosts: &[HostReport], mx: Option<Security>) -> String {
    let unknown = hosts.iter().find(|host| host.status == HostStatus::Unknown).map(|host| match &host.failure {
        Some(failure) => format!("{}: {failure}", host.host),
        None => format!("{}: no answer in time", host.host),
    });
    let count = |status| hosts.iter().filter(|host| host.status == status).count();
    let all = hosts.len() - count(HostStatus::Ignored);
    let mx = if mx.is_none_or(Security::is_secure) { "" } else { "; MX record not signed" };
    let text = match verdict {
        DaneVerdict::Temporary => return unknown.unwrap_or_else(|| "no answer in time".to_owned()),
        DaneVerdict::DaneOnly | DaneVerdict::Dane | DaneVerdict::DaneWeak => {
            let (usable, unusable) = (count(HostStatus::Usable), count(HostStatus::Unusable));
            let unusable = if unusable > 0 { format!(", {unusable} unusable ones") } else { String::new() };
            format!("{usable} of {all} hosts have usable TLSA records{unusable}{mx}")
        }
        DaneVerdict::Partial => {
            let unusable = count(HostStatus::Unusable);
            let unusable = if unusable > 0 { format!(", unusable ones at {unusable}") } else { String::new() };
            format!("no TLSA records at {} of {all} hosts{unusable}{mx}", count(HostStatus::NoTlsa))
        }
        DaneVerdict::None if all == 0 => "no host with an address".to_owned(),
        DaneVerdict::None => format!("no TLSA records at any of {all} hosts"),
    };
    match unknown {
        Some(unknown) => format!("{unknown}; {text}"),
        None => text,
    }
}
