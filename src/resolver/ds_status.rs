//! What a parent zone says of a child's DS, and what that proves: a signed delegation, an unsigned one, or none
//! (RFC 4035 §5.2, RFC 6840 §4.4).
//!
//! In: the parent's keys, and its referral or its answer. Out: [`DsStatus`]. Never takes a child's word about its
//! own DS.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::core::{Context, Core, failure};
use super::delegation::Zone;
use super::iterate::Heard;
use super::iterate::classify::{Delegation, Meaning};
use super::rrset::RrSet;
use super::rrset_cache::Known;
use super::trust::{MIN_TRUST_TTL, ZoneTrust};
use super::validate::{Cut, Denials, KeySet, Trust, verify};
use crate::clock::whole_seconds;
use crate::dns::{Bogus, Cause, Failure, Security};
use crate::limits;

/// What the parent zone says about a name's DS.
#[derive(Clone, Debug)]
pub(super) enum DsStatus {
    /// A delegation to a signed zone.
    Signed {
        /// What its keys must match.
        trust: Trust,
        /// Seconds for which that holds.
        ttl: u32,
    },
    /// A delegation to an unsigned zone (or one we cannot check), proven.
    Unsigned {
        /// Seconds for which that holds.
        ttl: u32,
    },
    /// No delegation: the name belongs to the zone itself, proven.
    NotACut,
    /// There is another zone in between, and its servers know.
    Below(Arc<Zone>),
}

impl Core {
    /// What the referral itself proves of the child's DS; `None` where it proves nothing.
    pub fn status_in_referral(&self, context: &Context, parent: &Zone, keys: &KeySet, zone: &Zone) -> Option<DsStatus> {
        let age = whole_seconds(self.now().since(zone.learnt));
        // Nothing stale: the cut may outlive what was said of its keys.
        let left = |ttl: u32| Some(ttl.saturating_sub(age)).filter(|left| *left > 0);
        if let Some(ds) = zone.referral.ds() {
            left(ds.ttl)?;
            let mut status = self.signed_status(context, keys, &ds).ok()?;
            if let DsStatus::Signed { ttl, .. } | DsStatus::Unsigned { ttl } = &mut status {
                *ttl = left(*ttl)?;
                self.keep(context, &ds, &[], Security::Secure, *ttl);
            }
            return Some(status);
        }
        let now = self.clock.wall();
        let (denials, _) = Denials::collect(&parent.name, &zone.referral.denial(), keys, now, &context.budget);
        let proof = denials.no_ds(&zone.name, &context.budget).ok()?;
        Some(DsStatus::Unsigned { ttl: left(proof.ttl)? })
    }

    fn signed_status(&self, context: &Context, keys: &KeySet, ds: &RrSet) -> Result<DsStatus, Bogus> {
        let verified = verify(ds, keys, self.clock.wall(), &context.budget)?;
        if verified.wildcard.is_some() {
            // A delegation is never made by a wildcard (RFC 4592 §4.2).
            return Err(Bogus::DenialNotProven);
        }
        let trust = Trust::from_sets([ds]);
        if trust.is_usable() {
            Ok(DsStatus::Signed { trust, ttl: verified.ttl })
        } else {
            // RFC 4035 §5.2, RFC 6840 §5.2: nothing in it that we could check.
            Ok(DsStatus::Unsigned { ttl: verified.ttl })
        }
    }

    /// What the secure zone `zone` says of the DS of `name` below it, going through zones in between.
    pub async fn ds_status(
        self: &Arc<Self>,
        context: &Context,
        mut zone: Arc<Zone>,
        mut keys: Arc<KeySet>,
        name: &Name,
    ) -> Result<DsStatus, Failure> {
        loop {
            let status = match self.ds_status_in(context, &zone, &keys, name).await {
                // Out of an unsigned zone in between, on the same servers, comes a DS that nobody signed.
                Err(bogus) if bogus.is_bogus() => match self.cut_between(context, &zone, &keys, name).await {
                    Some(status) => status,
                    None => return Err(bogus),
                },
                status => status?,
            };
            match status {
                DsStatus::Below(between) => match self.trust_of(context, &between).await? {
                    ZoneTrust::Secure(inner) => (zone, keys) = (between, inner),
                    ZoneTrust::Insecure => return Ok(DsStatus::Unsigned { ttl: MIN_TRUST_TTL }),
                },
                status => return Ok(status),
            }
        }
    }

    /// The topmost delegation strictly between a zone and a name, as the zone itself proves it: the status of
    /// the name where the delegation is unsigned, else the zone that knows.
    async fn cut_between(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        keys: &Arc<KeySet>,
        name: &Name,
    ) -> Option<DsStatus> {
        for labels in zone.name.iter().count() + 1..name.iter().count() {
            let candidate = name.trim_to(labels);
            match self.ds_status_in(context, zone, keys, &candidate).await.ok()? {
                DsStatus::NotACut => {}
                DsStatus::Signed { .. } => return Some(DsStatus::Below(self.zone_on_same_servers(&candidate, zone))),
                status => return Some(status),
            }
        }
        None
    }

    /// Asks the servers of `zone` alone for the DS of `name`; bogus answers are asked for elsewhere.
    pub async fn ds_status_in(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        keys: &Arc<KeySet>,
        name: &Name,
    ) -> Result<DsStatus, Failure> {
        if let Some(status) = self.known_ds_status(name) {
            return Ok(status);
        }
        let mut excluded: Vec<SocketAddr> = Vec::new();
        let mut bogus = None;
        loop {
            let heard = match (self.ask_zone(context, zone, name, RecordType::DS, &excluded).await, bogus.take()) {
                (Ok(heard), _) => heard,
                (Err(_), Some(bogus)) => return Err(bogus),
                (Err(failure), None) => return Err(failure),
            };
            match self.ds_status_heard(context, zone, keys, name, &heard) {
                Ok(status) => return Ok(status),
                Err(reason) => {
                    let last = matches!(reason, Bogus::TooMuchWork(_)) || excluded.len() >= limits::BOGUS_RETRIES;
                    let error = failure(zone, name, RecordType::DS, Cause::Bogus(reason), Some(heard.server));
                    if last {
                        return Err(error);
                    }
                    excluded.push(heard.server);
                    bogus = Some(error);
                }
            }
        }
    }

    /// What is known already: a validated DS RRset, an insecure zone, a name that is no cut.
    fn known_ds_status(&self, name: &Name) -> Option<DsStatus> {
        let now = self.now();
        if let Some(entry) = self.cache.get(name, RecordType::DS, now)
            && entry.security.is_secure()
            && let Known::Positive { set, .. } = entry.known()
        {
            let trust = Trust::from_sets([&*set]);
            let ttl = entry.remaining(now);
            return Some(if trust.is_usable() { DsStatus::Signed { trust, ttl } } else { DsStatus::Unsigned { ttl } });
        }
        if let Some(ZoneTrust::Insecure) = self.known_trust(name) {
            return Some(DsStatus::Unsigned { ttl: MIN_TRUST_TTL });
        }
        self.zones.is_proven_cut_free(name, now).then_some(DsStatus::NotACut)
    }

    /// What one answer of the zone's servers proves of the DS of `name`.
    pub fn ds_status_heard(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        keys: &KeySet,
        name: &Name,
        heard: &Heard,
    ) -> Result<DsStatus, Bogus> {
        let between =
            |signer: &Name| *signer != zone.name && zone.name.zone_of(signer) && signer.zone_of(name) && signer != name;
        match &heard.meaning {
            Meaning::Answer(ds) => match ds.sigs.iter().find(|sig| between(&sig.signer)) {
                Some(sig) => Ok(DsStatus::Below(self.zone_on_same_servers(&sig.signer, zone))),
                None => {
                    let status = self.signed_status(context, keys, ds)?;
                    if let DsStatus::Signed { ttl, .. } | DsStatus::Unsigned { ttl } = status {
                        self.keep(context, ds, &[], Security::Secure, ttl);
                    }
                    Ok(status)
                }
            },
            Meaning::Referral(delegation) => Ok(DsStatus::Below(self.zone_from(zone, delegation.clone(), heard))),
            Meaning::Alias(_) | Meaning::TooLong(_) => {
                // An alias at the name itself: nothing is delegated there. A wildcard's alias is at the name only where
                // nothing closer is there: without that proof it says nothing (RFC 4035 §5.3.4).
                let set = heard.meaning.signed_set().ok_or(Bogus::DenialNotProven)?;
                let signed = self.check_set(context, &heard.message, &zone.name, keys, set)?;
                if !signed.security.is_secure() {
                    // Opt-out: an unsigned delegation may be there (RFC 5155 §12.2).
                    return Ok(DsStatus::Unsigned { ttl: signed.ttl });
                }
                self.zones.insert_proven_cut_free(name.clone(), signed.ttl, self.now());
                Ok(DsStatus::NotACut)
            }
            Meaning::NoData | Meaning::NxDomain => {
                let authority = &heard.message.authority;
                let now = self.clock.wall();
                let (denials, reason) = Denials::collect(&zone.name, authority, keys, now, &context.budget);
                match denials.cut(name, &context.budget) {
                    Ok((Cut::Insecure, proof)) => Ok(DsStatus::Unsigned { ttl: proof.ttl }),
                    Ok((Cut::NotACut, proof)) => {
                        self.zones.insert_proven_cut_free(name.clone(), proof.ttl, self.now());
                        Ok(DsStatus::NotACut)
                    }
                    Err(unproven) => {
                        let signers = authority.iter().flat_map(|set| &set.sigs).map(|sig| &sig.signer);
                        // An unsigned zone in between, on the same servers, shows itself by its SOA.
                        let soas = authority.iter().filter(|set| set.rtype == RecordType::SOA).map(|set| &set.name);
                        match signers.chain(soas).find(|owner| between(owner)) {
                            Some(signer) => Ok(DsStatus::Below(self.zone_on_same_servers(signer, zone))),
                            None => Err(reason.unwrap_or(unproven)),
                        }
                    }
                }
            }
        }
    }

    /// A zone that lives on the servers of the zone above it.
    pub fn zone_on_same_servers(&self, name: &Name, above: &Arc<Zone>) -> Arc<Zone> {
        let known = self.zones.deepest(name, false, self.now());
        if known.name == *name { known } else { Arc::new(Zone::on_same_servers(name.clone(), above)) }
    }

    fn zone_from(&self, above: &Arc<Zone>, delegation: Delegation, heard: &Heard) -> Arc<Zone> {
        let known = self.zones.deepest(&delegation.child, false, self.now());
        if known.name == delegation.child {
            return known;
        }
        self.zones.insert(self.child(above, delegation, heard.server))
    }
}
