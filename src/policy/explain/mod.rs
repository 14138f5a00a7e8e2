//! Why a next hop has the policy that it has, for people (design §10).
//!
//! In: a next hop, what the engine knows of it, and a resolver and an HTTPS client of its own ([`Looker`]). Out: an
//! [`Explanation`]. Never changes what is known: nothing is cached, stored, counted or put off, and every lookup begins
//! at the root with nothing remembered.

mod advice;
mod input;
mod live;
mod model;
mod recorder;
mod sections;
mod sts;
pub mod text;
mod tree;
mod verdict;
mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use hickory_proto::rr::rdata::TLSA;
use hickory_proto::rr::{Name, RData, RecordType};
use rustls::RootCertStore;

pub use model::*;

use self::live::{Duty, Target};
use self::recorder::Recorder;
use self::sts::StsLook;
use self::words::HostFacts;
use super::dane::host::{examine, tlsa_name};
use super::dane::mx::{MailHosts, Nobody, mail_hosts};
use super::dane::{self, DaneReport, HostReport, HostStatus};
use super::decision::{DaneView, Decision, Outcome};
use super::engine::{Engine, Survey, conclude};
use super::merge::Sts;
use super::mta_sts::Fetch;
use super::reply;
use crate::cache::DaneVerdict;
use crate::clock::Instant;
use crate::config::{MapOptions, Override};
use crate::dns::{Inspect, Lookup, Security, StepTrust, ZoneStep};
use crate::limits::{EXPLAIN_ZONES, MX_HOSTS_AT_ONCE};
use crate::names::{Domain, NextHop, NotADestination, SMTP_PORT};

/// What a fresh look is taken with. One for each look: what it learns must not make the next one less fresh.
#[derive(Clone)]
pub struct Looker {
    /// A resolver that knows nothing yet.
    pub dns: Arc<dyn Inspect>,
    /// A client for policy files that asks that resolver.
    pub fetch: Arc<dyn Fetch>,
    /// The CAs that count, for MX hosts under an MTA-STS policy.
    pub roots: Arc<RootCertStore>,
    /// How long lookups may take; what is not known by then is told as not known.
    pub patience: Duration,
}

/// What is asked: a next hop, at a map with these options.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The next hop.
    pub hop: &'a NextHop,
    /// Name of the map.
    pub map_name: &'a str,
    /// Its options.
    pub map: &'a MapOptions,
    /// Connect to each MX host, too.
    pub check_mx: bool,
}

/// Explains. Ends within the looker's patience and [`EXPLAIN_CHAIN_TIME`]; with checks of MX hosts, [`CHECK_TIME`]
/// later.
///
/// [`EXPLAIN_CHAIN_TIME`]: crate::limits::EXPLAIN_CHAIN_TIME
/// [`CHECK_TIME`]: crate::limits::CHECK_TIME
pub async fn explain(engine: &Engine, looker: &Looker, question: Question<'_>) -> Explanation {
    let Question { hop, map_name, map, check_mx } = question;
    let begun = engine.clock().instant();
    let survey = engine.survey(hop, map, engine.clock().stamp());
    let until = begun + looker.patience;
    let dns = Recorder::new(Arc::clone(&looker.dns), until);
    let look = Look { engine, looker, hop, dns, survey, until };
    let (mut report, sts) = tokio::join!(look.dane(), look.sts());
    look.late_hosts(&mut report).await;
    let chain = look.chain(&report).await;
    let fresh = look.conclude(map, &report, sts.as_ref());
    let standing = look.survey.at_hand.as_ref().unwrap_or(&fresh);
    let mut hosts: Vec<HostSection> =
        report.hosts.iter().map(|host| look.host(host, &report, &standing.outcome)).collect();
    if check_mx {
        look.check_hosts(&report, &mut hosts).await;
    }
    let overridden = look.survey.override_.is_some();
    let source = match (overridden, look.survey.at_hand.is_some()) {
        (true, _) => Source::Override,
        (false, true) => Source::Cache,
        (false, false) => Source::Lookup,
    };
    let check = verdict::check(&hosts);
    let advice = advice::advice(&advice::Facts {
        hop,
        hosts: &hosts,
        report: &report,
        mx: look.mx_outcome(),
        sts: sts.as_ref(),
        survey: &look.survey,
        chain: &chain,
        decision: standing,
        fresh: &fresh,
    });
    Explanation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        next_hop: hop.to_string(),
        map: map_name.to_owned(),
        notes: Vec::new(),
        verdict: verdict::verdict(standing, look.nobody(), &hosts, check.as_ref()),
        check,
        answer: look.answer(standing, source, map),
        fresh: (!overridden).then(|| look.answer(&fresh, Source::Lookup, map)),
        options: look.options(map),
        mx: look.mx(),
        hosts,
        chain: chain.iter().map(sections::zone).collect(),
        mta_sts: sts.map(|sts| sts.section),
        cached: sections::cached(look.survey.known.as_ref(), engine.clock().stamp()),
        advice,
        took: (begun.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0,
    }
}

impl Explanation {
    /// With notes on what was made of the key, as it was typed.
    pub fn with_notes_on(self, key: &str) -> Self {
        Self { notes: input::notes(key), ..self }
    }

    /// For a key that is no next hop: Postfix gets NOTFOUND without any lookup.
    pub fn of_no_destination(key: &str, map_name: &str, why: NotADestination) -> Self {
        let answer = Answer {
            reply: reply::Reply::NotFound.to_string(),
            source: Source::Key,
            ttl: None,
            rule: format!("{why}: no policy is looked up for such a key"),
        };
        let verdict = match why {
            // Postfix asks for these itself.
            NotADestination::Address | NotADestination::Parent => Verdict::NoPolicy,
            NotADestination::Name(_) | NotADestination::Malformed => Verdict::NotAMailDomain,
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            next_hop: key.to_owned(),
            map: map_name.to_owned(),
            notes: input::notes(key),
            verdict,
            check: None,
            answer,
            fresh: None,
            options: Vec::new(),
            mx: None,
            hosts: Vec::new(),
            chain: Vec::new(),
            mta_sts: None,
            cached: CacheSection::default(),
            advice: Vec::new(),
            took: 0.0,
        }
    }
}

/// One look, and what it is taken with.
struct Look<'a> {
    engine: &'a Engine,
    looker: &'a Looker,
    hop: &'a NextHop,
    dns: Recorder,
    survey: Survey,
    until: Instant,
}

impl Look<'_> {
    async fn dane(&self) -> DaneReport {
        dane::evaluate(&self.dns, self.hop, self.survey.slow_after).await
    }

    async fn sts(&self) -> Option<StsLook> {
        let domain = self.hop.policy_domain();
        let before = self.survey.known.as_ref().and_then(|known| known.sts.as_ref());
        Some(sts::look(&self.dns, &*self.looker.fetch, self.engine.clock(), domain, before, self.until).await)
    }

    /// Hosts that the verdict did not wait for: what is it that they are waiting for?
    async fn late_hosts(&self, report: &mut DaneReport) {
        let port = self.port();
        let late = report.hosts.iter().enumerate();
        let late: Vec<(usize, Domain, u16)> = late
            .filter(|(_, host)| host.status == HostStatus::Unknown && host.failure.is_none())
            .map(|(index, host)| (index, host.host.clone(), host.preference))
            .collect();
        let examined: Vec<(usize, HostReport)> = stream::iter(late)
            .map(|(index, host, preference)| async move { (index, examine(&self.dns, host, preference, port).await) })
            .buffer_unordered(MX_HOSTS_AT_ONCE)
            .collect()
            .await;
        for (index, examined) in examined {
            if let Some(place) = report.hosts.get_mut(index) {
                *place = examined;
            }
        }
    }

    fn port(&self) -> u16 {
        match self.hop {
            NextHop::Domain { port, .. } => port.unwrap_or(SMTP_PORT),
            NextHop::Host { port, .. } => *port,
        }
    }

    /// The zones of all names that matter, outer ones first, each once.
    async fn chain(&self, report: &DaneReport) -> Vec<ZoneStep> {
        let mut names: Vec<Name> = Vec::new();
        let mut add = |name: Name| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        match self.hop {
            NextHop::Domain { domain, .. } => add(domain.to_name()),
            NextHop::Host { host, .. } => add(host.to_name()),
        }
        for host in &report.hosts {
            let name = host.host.to_name();
            for rtype in [RecordType::A, RecordType::AAAA] {
                if let Some(Ok(answer)) = self.dns.outcome(&name, rtype) {
                    add(answer.canonical);
                }
            }
            add(name);
        }
        let chains: Vec<Vec<ZoneStep>> = stream::iter(names.into_iter().take(EXPLAIN_ZONES))
            .map(|name| async move { self.looker.dns.chain(&name).await })
            .buffered(MX_HOSTS_AT_ONCE)
            .collect()
            .await;
        let mut zones: Vec<ZoneStep> = Vec::new();
        for step in chains.into_iter().flatten() {
            match zones.iter_mut().find(|known| known.zone == step.zone) {
                // Of two looks, the one that got further.
                Some(known) if matches!(known.trust, StepTrust::Broken(_)) => *known = step,
                Some(_) => {}
                None => zones.push(step),
            }
        }
        zones.truncate(EXPLAIN_ZONES);
        zones
    }

    /// What a lookup for Postfix would come to now.
    fn conclude(&self, map: &MapOptions, report: &DaneReport, sts: Option<&StsLook>) -> Decision {
        let dane = self
            .survey
            .uses_dane
            .then(|| DaneView { entry: report.entry(self.engine.clock().wall()), ttl: report.ttl });
        let sts = sts.filter(|_| self.survey.uses_sts).map(|sts| sts.view.clone());
        let seen_until = self.survey.known.as_ref().map_or(0, |known| known.seen_until);
        self.engine.or_fallback(conclude(map, dane, sts, false), seen_until, self.engine.clock().stamp())
    }

    fn answer(&self, decision: &Decision, source: Source, map: &MapOptions) -> Answer {
        let rule = match &self.survey.override_ {
            Some(Override::Policy(text)) => format!("policy.overrides says so: \"{text}\""),
            Some(Override::Skip) => "policy.overrides says so: \"skip\"".to_owned(),
            None => {
                let dane = decision.dane.as_ref().map_or(DaneVerdict::None, |view| view.entry.verdict);
                let sts = decision.sts.as_ref();
                let rule = words::rule(dane, sts.map_or(Sts::None, |view| view.standing.column(map.strict_testing)));
                match &decision.outcome {
                    Outcome::Fallback(..) => format!("{rule}; but {}", words::FALLBACK),
                    _ => rule.to_owned(),
                }
            }
        };
        let dane = decision.dane.as_ref().map(|view| view.ttl);
        let ttl = dane.into_iter().chain(decision.sts.as_ref().map(|view| view.ttl)).min();
        Answer { reply: reply::render(decision, self.hop, map).to_string(), source, ttl, rule }
    }

    /// What is set differently from a plain map.
    fn options(&self, map: &MapOptions) -> Vec<String> {
        let off = |name: &str, on: bool| (!on).then(|| format!("{name} is turned off"));
        let strict = map.strict_testing.then(|| "testing policies count as enforce (strict-testing)".to_owned());
        let sts = off("MTA-STS", self.survey.uses_sts);
        off("DANE", self.survey.uses_dane).into_iter().chain(sts).chain(strict).collect()
    }

    /// What came of the MX lookup.
    fn mx_outcome(&self) -> Option<recorder::Outcome> {
        match self.hop {
            NextHop::Domain { domain, .. } => self.dns.outcome(&domain.to_name(), RecordType::MX),
            NextHop::Host { .. } => None,
        }
    }

    /// Why nobody receives mail, where the MX records say so.
    fn nobody(&self) -> Option<Nobody> {
        let NextHop::Domain { domain, .. } = self.hop else { return None };
        let answer = self.mx_outcome()?.ok()?;
        match mail_hosts(domain, &answer) {
            MailHosts::Nobody(why) => Some(why),
            MailHosts::Hosts { .. } => None,
        }
    }

    fn mx(&self) -> Option<MxSection> {
        let NextHop::Domain { domain, .. } = self.hop else { return None };
        let outcome = self.mx_outcome()?;
        let (note, left_out) = match &outcome {
            Err(_) => (None, 0),
            Ok(answer) => match mail_hosts(domain, answer) {
                MailHosts::Nobody(why) => (Some(why.to_string()), 0),
                MailHosts::Hosts { left_out, .. } if answer.records().is_empty() => {
                    (Some("no MX records: the domain itself receives mail (RFC 5321 §5.1)".to_owned()), left_out)
                }
                MailHosts::Hosts { left_out, .. } => (None, left_out),
            },
        };
        Some(MxSection { lookup: sections::looked(&domain.to_name(), RecordType::MX, &outcome), note, left_out })
    }

    fn host(&self, host: &HostReport, report: &DaneReport, outcome: &Outcome) -> HostSection {
        let name = host.host.to_name();
        let mut lookups = Vec::new();
        let mut add = |name: &Name, rtype| {
            let outcome = self.dns.outcome(name, rtype)?;
            lookups.push(sections::looked(name, rtype, &outcome));
            outcome.ok()
        };
        let addresses = [add(&name, RecordType::A), add(&name, RecordType::AAAA)];
        add(&name, RecordType::CNAME);
        let canonical = addresses.into_iter().flatten().map(|answer| answer.canonical).find(|other| *other != name);
        let mut tlsa = Vec::new();
        for base in canonical.into_iter().chain([name]) {
            let Some(owner) = tlsa_name(&base, self.port()) else { continue };
            let Some(answer) = add(&owner, RecordType::TLSA) else { continue };
            if tlsa.is_empty() && answer.security.is_secure() {
                tlsa = sections::tlsa_sections(&answer);
            }
        }
        let secure_mx = report.mx.is_none_or(Security::is_secure);
        let facts = HostFacts { host: &host.host, status: host.status, secure_mx };
        HostSection {
            host: host.host.to_string(),
            preference: host.preference,
            status: host.status,
            addresses: host.addresses,
            lookups,
            base: host.base.as_ref().map(ToString::to_string),
            tlsa,
            failure: host.failure.as_ref().map(sections::failure),
            delivery: words::delivery(outcome, &facts),
            live: Vec::new(),
        }
    }

    /// Looks at each host itself, and takes note.
    async fn check_hosts(&self, report: &DaneReport, hosts: &mut [HostSection]) {
        let mut targets = Vec::new();
        for (host, section) in report.hosts.iter().zip(&*hosts) {
            targets.push(self.target(host, section, report));
        }
        let targets = join_all(targets).await;
        let checks = live::check(targets, &self.looker.roots, self.engine.clock()).await;
        for (section, checks) in hosts.iter_mut().zip(checks) {
            section.live = checks;
        }
    }

    /// What a host has to show, by what Postfix does with it.
    async fn target(&self, host: &HostReport, section: &HostSection, report: &DaneReport) -> Target {
        let name = host.host.to_name();
        let (four, six) = tokio::join!(self.dns.lookup(&name, RecordType::A), self.dns.lookup(&name, RecordType::AAAA));
        let records = [six, four].into_iter().flatten().flat_map(|answer| answer.records().to_vec());
        let addresses = records.filter_map(|record| match record {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        });
        let base = host.base.clone().unwrap_or_else(|| host.host.clone());
        let by_dane = host.status == HostStatus::Usable && self.survey.uses_dane;
        let duty = match section.delivery.kind {
            DeliveryKind::Authenticated | DeliveryKind::Encrypted if by_dane => {
                Duty::Dane { records: self.tlsa(&base), names: self.reference_names(host, &base, report) }
            }
            DeliveryKind::Authenticated | DeliveryKind::NotUsed => Duty::MtaSts,
            DeliveryKind::Encrypted => Duty::Tls,
            DeliveryKind::ClearPossible | DeliveryKind::Deferred => Duty::None,
        };
        Target { host: host.host.clone(), sni: base, addresses: addresses.collect(), port: self.port(), duty }
    }

    fn tlsa(&self, base: &Domain) -> Vec<TLSA> {
        let owner = tlsa_name(&base.to_name(), self.port());
        let answer = owner.and_then(|owner| self.dns.outcome(&owner, RecordType::TLSA)).and_then(Result::ok);
        let records = answer.map(|answer| answer.records().to_vec()).unwrap_or_default();
        let records = records.into_iter().filter_map(|record| match record {
            RData::TLSA(record) => Some(record),
            _ => None,
        });
        records.collect()
    }

    /// The names that a certificate under a DANE-TA record may be for (RFC 7672 §3.2.2).
    fn reference_names(&self, host: &HostReport, base: &Domain, report: &DaneReport) -> Vec<Domain> {
        let mut names = vec![base.clone(), host.host.clone()];
        if let NextHop::Domain { domain, .. } = self.hop
            && report.mx.is_some_and(Security::is_secure)
        {
            names.push(domain.clone());
        }
        names.dedup();
        names
    }
}
