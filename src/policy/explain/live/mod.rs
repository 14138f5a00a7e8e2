//! MX hosts as they are: SMTP, STARTTLS, and the certificate held against TLSA records or the MTA-STS policy.
//!
//! In: hosts with their addresses, and what each has to show. Out: a verdict per address. The one place besides policy
//! fetches where `policy` opens sockets, and only when an operator asks for it. Never sends mail.

mod judge;
mod smtp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use hickory_proto::rr::rdata::TLSA;
use rustls::RootCertStore;
use rustls::pki_types::UnixTime;
use tokio::time::{Instant, timeout_at};

use self::judge::{Wanted, judge};
use super::model::LiveCheck;
use crate::clock::Clock;
use crate::limits::{CHECK_ADDRESSES, CHECK_TIME, CHECKS_AT_ONCE};
use crate::names::Domain;

/// What a host has to show, by the policy that is in force.
#[derive(Clone, Debug)]
pub(super) enum Duty {
    /// A certificate that fits these TLSA records; with a CA in them, for one of these names (RFC 7672 §3.2.2).
    Dane { records: Vec<TLSA>, names: Vec<Domain> },
    /// A certificate for its name from a trusted CA (RFC 8461 §4.2).
    MtaSts,
    /// TLS.
    Tls,
    /// Nothing.
    None,
}

/// A host to look at.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub host: Domain,
    /// Name for SNI.
    pub sni: Domain,
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub duty: Duty,
}

/// Looks at all targets, at each of their addresses; the results in the order of the targets.
pub(super) async fn check(targets: Vec<Target>, roots: &Arc<RootCertStore>, clock: &Clock) -> Vec<Vec<LiveCheck>> {
    let until = clock.instant() + CHECK_TIME;
    let mut results: Vec<Vec<LiveCheck>> = targets.iter().map(|_| Vec::new()).collect();
    let mut visits = Vec::new();
    for (at, target) in targets.into_iter().enumerate() {
        let addresses = target.addresses.clone().into_iter().take(CHECK_ADDRESSES);
        visits.extend(addresses.map(|address| (at, target.clone(), address)));
    }
    let mut visits = stream::iter(visits)
        .map(|(at, target, address)| async move { (at, visit(&target, address, roots, clock, until).await) })
        .buffered(CHECKS_AT_ONCE);
    while let Some((at, check)) = visits.next().await {
        if let Some(place) = results.get_mut(at) {
            place.push(check);
        }
    }
    results
}

async fn visit(
    target: &Target,
    address: IpAddr,
    roots: &Arc<RootCertStore>,
    clock: &Clock,
    until: Instant,
) -> LiveCheck {
    let server = SocketAddr::new(address, target.port);
    let base = LiveCheck {
        address: server.to_string(),
        reached: false,
        passed: false,
        text: String::new(),
        tls: None,
        presented: Vec::new(),
    };
    let shown = match timeout_at(until, smtp::look(server, &target.sni)).await {
        Ok(Ok(shown)) => shown,
        Ok(Err(problem)) => {
            // In the clear is fine where nothing else is asked for.
            let passed = matches!((&target.duty, &problem), (Duty::None, smtp::Problem::NoStartTls));
            return LiveCheck { reached: problem.is_after_connecting(), passed, text: problem.to_string(), ..base };
        }
        Err(_) => return LiveCheck { text: "not looked at: no time left".to_owned(), ..base },
    };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(clock.wall()).unwrap_or(0)));
    let web_pki = || Wanted::WebPki { roots: Arc::clone(roots), names: vec![target.host.clone()] };
    let wanted = match &target.duty {
        Duty::Dane { records, names } => Wanted::Dane { records: records.clone(), names: names.clone() },
        Duty::MtaSts | Duty::Tls | Duty::None => web_pki(),
    };
    let judged = judge(&shown.certificates, &wanted, now);
    let has_to = matches!(target.duty, Duty::Dane { .. } | Duty::MtaSts);
    let passed = judged.is_ok() || !has_to;
    let text = match judged {
        Ok(why) => why,
        Err(why) if has_to => why,
        Err(why) => format!("{why}; nobody asks for more"),
    };
    let presented = match &wanted {
        Wanted::Dane { records, .. } if !passed => judge::presented(&shown.certificates, records),
        Wanted::Dane { .. } | Wanted::WebPki { .. } => Vec::new(),
    };
    LiveCheck { reached: true, passed, text, tls: Some(shown.tls), presented, ..base }
}
