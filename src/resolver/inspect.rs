//! The chain of trust zone by zone, for people who want to see where it breaks.
//!
//! In: a name. Out: [`ZoneStep`]s from the root down, from what the engine believes and why. Decides nothing: it asks
//! the same parts that answers come from.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use tokio::time::timeout_at;

use super::core::Context;
use super::delegation::Zone;
use super::resolution::{End, Resolution};
use super::rrset::RrSet;
use super::trust::ZoneTrust;
use super::validate::{DnsKey, Ds, Trust};
use super::{Engine, Flags};
use crate::clock::{Instant, UnixTime};
use crate::dns::{BoxFuture, Cause, DsRecord, Failure, Insecurity, Inspect, KeyRecord, StepTrust, ZoneStep};
use crate::limits;

impl Inspect for Engine {
    fn chain<'a>(&'a self, name: &'a Name) -> BoxFuture<'a, Vec<ZoneStep>> {
        Box::pin(self.walk(name.to_lowercase()))
    }
}

impl Engine {
    async fn walk(&self, name: Name) -> Vec<ZoneStep> {
        let context = self.core.context(false);
        let until = self.core.clock.instant() + limits::EXPLAIN_CHAIN_TIME;
        let mut steps: Vec<ZoneStep> = Vec::new();
        let mut zone: Option<Arc<Zone>> = None;
        for labels in self.first_labels(&name)..=name.iter().count() {
            let apex = name.trim_to(labels);
            let (next, known) = match self.zone_at(&apex, zone.as_ref(), until).await {
                Ok(Some(next)) => (next, None),
                Ok(None) => continue,
                // Something at or below this name is in the way.
                Err(failure) => match &zone {
                    Some(above) if failure.zone.as_ref() == Some(&apex) => {
                        (self.core.zone_on_same_servers(&apex, above), Some(failure))
                    }
                    Some(_) | None => continue,
                },
            };
            let step = self.step(&context, &next, known, steps.last(), until).await;
            let broken = matches!(step.trust, StepTrust::Broken(_));
            steps.push(step);
            zone = Some(next);
            if broken {
                break;
            }
        }
        steps
    }

    /// Where the walk begins: at the root, but for a forward zone that is exempted from validation, of which nobody
    /// else is asked anything.
    fn first_labels(&self, name: &Name) -> usize {
        let island = self.core.zones.island(name, false);
        let exempted = island.filter(|zone| self.core.exception(&zone.name, RecordType::DNSKEY).is_some());
        exempted.map_or(0, |zone| zone.name.iter().count())
    }

    /// The zone with this apex, if it is one: a known cut, or a name with NS records on the servers of the zone above.
    async fn zone_at(
        &self,
        apex: &Name,
        above: Option<&Arc<Zone>>,
        until: Instant,
    ) -> Result<Option<Arc<Zone>>, Failure> {
        let known = self.core.zones.deepest(apex, false, self.core.now());
        let Some(above) = above.filter(|_| known.name != *apex) else { return Ok(Some(known)) };
        let late = |_| Err(Failure::new(apex.clone(), RecordType::NS, Cause::Timeout));
        let found =
            timeout_at(until, self.resolve(apex, RecordType::NS, Flags::default())).await.unwrap_or_else(late)?;
        // The lookup may just have met the cut.
        let known = self.core.zones.deepest(apex, false, self.core.now());
        let is_apex = found.end == End::Records && found.canonical == *apex;
        if known.name == *apex {
            return Ok(Some(known));
        }
        Ok(is_apex.then(|| self.core.zone_on_same_servers(apex, above)))
    }

    /// `known`: why the zone is beyond reach, where that is known.
    async fn step(
        &self,
        context: &Context,
        zone: &Arc<Zone>,
        known: Option<Failure>,
        above: Option<&ZoneStep>,
        until: Instant,
    ) -> ZoneStep {
        let apex = &zone.name;
        let late = || Failure::new(apex.clone(), RecordType::DNSKEY, Cause::Timeout).in_zone(apex);
        // Where the cut could not be kept, the one server that is known is that of the failure.
        let servers: Vec<IpAddr> = match &known {
            Some(failure) => failure.server.into_iter().collect(),
            None => self.core.at_hand(zone).iter().map(|server| server.ip()).collect(),
        };
        let habits = |server: &IpAddr| {
            let server = *server;
            self.core.exchanger.habits(server).iter().map(move |habit| (server, habit))
        };
        let trust = match known {
            Some(failure) => Err(failure),
            None => timeout_at(until, self.core.trust_of(context, zone)).await.unwrap_or_else(|_| Err(late())),
        };
        let exception = self.core.exception(apex, RecordType::DNSKEY);
        let anchor = self.core.anchors().get(apex).filter(|_| exception.is_none()).cloned();
        let anchored = anchor.is_some();
        let delegated = match (&anchor, apex.is_root()) {
            (None, false) if exception.is_none() => self.look(apex, RecordType::DS, false, until).await,
            (Some(_), _) | (None, _) => None,
        };
        let named = anchor.unwrap_or_else(|| Trust::from_sets(delegated.as_deref().and_then(|found| records(found))));
        let shown = match &trust {
            Ok(ZoneTrust::Insecure) => None,
            Ok(ZoneTrust::Secure(_)) => self.look(apex, RecordType::DNSKEY, false, until).await,
            // What did not validate, for comparison.
            Err(failure) if failure.is_bogus() => self.look(apex, RecordType::DNSKEY, true, until).await,
            Err(_) => None,
        };
        let keys = shown.as_deref().and_then(|found| records(found));
        ZoneStep {
            zone: apex.clone(),
            habits: servers.iter().flat_map(habits).take(limits::EXPLAIN_RECORDS).collect(),
            servers,
            anchored,
            ds: ds_records(&named),
            keys: keys.map(|set| key_records(set, &named)).unwrap_or_default(),
            signed_until: keys.and_then(|set| signed_until(set, self.core.clock.wall())),
            trust: match trust {
                Ok(ZoneTrust::Secure(_)) => StepTrust::Secure,
                Ok(ZoneTrust::Insecure) => match exception {
                    Some(at) => StepTrust::Insecure(Insecurity::Excepted { until: at.until }),
                    None => StepTrust::Insecure(why_insecure(zone, above, anchored, &named, delegated.as_deref())),
                },
                Err(failure) => StepTrust::Broken(Box::new(failure)),
            },
        }
    }

    /// What is there, or nothing where that cannot be had in time.
    async fn look(&self, apex: &Name, rtype: RecordType, unchecked: bool, until: Instant) -> Option<Arc<Resolution>> {
        let flags = Flags { checking_disabled: unchecked };
        timeout_at(until, self.resolve(apex, rtype, flags)).await.ok()?.ok()
    }
}

/// The RRset that was asked for.
fn records(found: &Resolution) -> Option<&RrSet> {
    found.answer.last().filter(|_| found.end == End::Records).map(|part| &*part.set)
}

fn why_insecure(
    zone: &Zone,
    above: Option<&ZoneStep>,
    anchored: bool,
    named: &Trust,
    delegated: Option<&Resolution>,
) -> Insecurity {
    match above.map(|above| &above.trust) {
        _ if anchored || !named.ds.is_empty() => Insecurity::UnknownAlgorithms,
        Some(StepTrust::Insecure(Insecurity::NoAnchor)) | None => Insecurity::NoAnchor,
        Some(StepTrust::Insecure(_)) => Insecurity::Above,
        Some(StepTrust::Secure | StepTrust::Broken(_)) if zone.forward.is_some() => Insecurity::Forwarded,
        Some(StepTrust::Secure | StepTrust::Broken(_)) => match delegated {
            Some(denied) if denied.security.is_secure() => Insecurity::NoDs,
            Some(_) | None => Insecurity::Unproven,
        },
    }
}

fn ds_records(named: &Trust) -> Vec<DsRecord> {
    let records = named.ds.iter().map(|ds: &Ds| DsRecord {
        tag: ds.tag,
        algorithm: ds.algorithm,
        digest: ds.digest_type,
        supported: ds.is_supported(),
    });
    records.take(limits::EXPLAIN_RECORDS).collect()
}

fn key_records(set: &RrSet, named: &Trust) -> Vec<KeyRecord> {
    let keys = set.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata));
    let records = keys.map(|key| KeyRecord {
        tag: key.tag,
        algorithm: key.algorithm,
        sep: key.is_sep(),
        revoked: key.is_revoked(),
        named: named.keys.iter().any(|anchor| anchor.public == key.public) || key.matches_any(&set.name, &named.ds),
    });
    records.take(limits::EXPLAIN_RECORDS).collect()
}

/// The end of the last signature; its 32 bits are taken as nearest to `now` (RFC 4034 §3.1.5).
fn signed_until(set: &RrSet, now: UnixTime) -> Option<UnixTime> {
    let near = |end: u32| now + i64::from(end.wrapping_sub(now as u32) as i32);
    set.sigs.iter().map(|sig| near(sig.expiration)).max()
}
