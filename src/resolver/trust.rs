//! The chain of trust: from a trust anchor, over the DS RRset (or its proven absence) at each zone cut, to the
//! keys of a zone (RFC 4035 §5).
//!
//! In: zone cuts as they were met. Out: [`ZoneTrust`], once per zone and shared by all who ask. Never believes
//! what a referral says before the parent's keys have verified it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hickory_proto::rr::{Name, RecordType};
use quick_cache::Weighter;

use super::core::{Context, Core, failure};
use super::delegation::Zone;
use super::ds_status::DsStatus;
use super::iterate::Heard;
use super::iterate::classify::Meaning;
use super::name_hash::{NameCache, cache_weighed};
use super::rrset::RrSet;
use super::rrset_cache::Known;
use super::validate::{KeySet, Trust, ZoneKeys, verify_dnskeys};
use crate::clock::{Stamp, whole_seconds};
use crate::dns::{Bogus, Cause, Failure, Security};
use crate::limits;

/// What a zone's data must be checked against.
#[derive(Clone, Debug)]
pub(super) enum ZoneTrust {
    /// Signed, by one of these keys.
    Secure(Arc<KeySet>),
    /// Proven to be unsigned as far as we can check, or below no anchor.
    Insecure,
}

/// A zone's trust and how long it holds.
#[derive(Clone, Debug)]
pub(super) struct TrustEntry {
    trust: ZoneTrust,
    learnt: Stamp,
    ttl: u32,
}

/// Zones of which it is known, bounded in octets.
pub(super) type Trusts = NameCache<Name, TrustEntry, Octets>;

/// How entries of [`Trusts`] are weighed.
#[derive(Clone)]
pub(super) struct Octets;

impl Weighter<Name, TrustEntry> for Octets {
    fn weight(&self, _: &Name, entry: &TrustEntry) -> u64 {
        let keys = match &entry.trust {
            ZoneTrust::Secure(keys) => keys.bytes(),
            ZoneTrust::Insecure => 0,
        };
        (PLACE + keys) as u64
    }
}

/// Octets the name of a zone takes in the table, of which some has to be empty.
const PLACE: usize = 192;
/// Octets an ordinary zone takes, to size the table by.
const TYPICAL_ZONE: usize = 480;

/// A table for at most about so many octets.
pub(super) fn table(bytes: usize) -> Trusts {
    cache_weighed(bytes / TYPICAL_ZONE, bytes as u64, Octets)
}

impl Core {
    /// Forgets the keys of a zone, unless they are quite new: it signs with one that was not among them.
    pub fn forget_old_keys(&self, zone: &Name) -> bool {
        let now = self.now();
        let old = self.trusts.get(zone).is_some_and(|entry| now.since(entry.learnt) >= REKEY_AFTER);
        if old {
            self.trusts.remove(zone);
        }
        old
    }

    /// Begins to establish the trust of a zone that has an anchor or says that it is signed.
    pub fn start_trust(self: &Arc<Self>, context: &Context, zone: &Arc<Zone>) {
        if self.is_announced_signed(zone) && self.known_trust(&zone.name).is_none() {
            drop(self.trust_flight(context, zone));
        }
    }

    /// Whether the zone is, or claims to be, signed in a way that we can check.
    pub fn is_announced_signed(&self, zone: &Zone) -> bool {
        match self.known_trust(&zone.name) {
            Some(trust) => matches!(trust, ZoneTrust::Secure(_)),
            None if self.anchors().contains_key(&zone.name) => true,
            None => {
                let above = zone.parent.as_ref().and_then(|parent| self.known_trust(&parent.name));
                !matches!(above, Some(ZoneTrust::Insecure))
                    && zone.referral.ds().is_some_and(|ds| Trust::from_sets([&ds]).is_usable())
            }
        }
    }

    /// The trust of a zone, where it is known and fresh.
    pub fn known_trust(&self, zone: &Name) -> Option<ZoneTrust> {
        if self.exception(zone, RecordType::DNSKEY).is_some() {
            return Some(ZoneTrust::Insecure);
        }
        let now = self.now();
        let entry = self.trusts.get(zone)?;
        (now.since(entry.learnt) < Duration::from_secs(u64::from(entry.ttl))).then_some(entry.trust)
    }

    /// Seconds for which what is known of a zone's trust still holds.
    pub fn trust_left(&self, zone: &Name) -> u32 {
        let age = |entry: &TrustEntry| whole_seconds(self.now().since(entry.learnt));
        self.trusts.get(zone).map_or(MIN_TRUST_TTL, |entry| entry.ttl.saturating_sub(age(&entry)))
    }

    /// The trust of a zone.
    pub async fn trust_of(self: &Arc<Self>, context: &Context, zone: &Arc<Zone>) -> Result<ZoneTrust, Failure> {
        if let Some(trust) = self.known_trust(&zone.name) {
            return Ok(trust);
        }
        let is_joined = self.trust_flights.under_way(&(zone.name.clone(), context.generation)).is_some();
        if is_joined {
            // Its last packet may be long lost, and the network back.
            self.exchanger.send_again(&zone.name, RecordType::DNSKEY, &context.budget);
        }
        match self.trust_flight(context, zone).await {
            // It began before us, with limits of its own or without a network: try once for ourselves.
            Err(failure) if is_joined && (is_out_of_budget(&failure) || is_silence(&failure)) => {
                self.trust_flight(context, zone).await
            }
            outcome => outcome,
        }
    }

    fn trust_flight(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
    ) -> impl Future<Output = Result<ZoneTrust, Failure>> + Send + use<> {
        let aborted = Err(failure(zone, &zone.name, RecordType::DNSKEY, Cause::Overloaded, None));
        self.trust_flights.join((zone.name.clone(), context.generation), aborted, || {
            let (core, zone) = (Arc::clone(self), Arc::clone(zone));
            // Many wait for a zone's keys, so whoever asks first does not decide what they may cost, nor for how long
            // they are waited for; what they send counts for the policy question that it is sent for.
            let context = Context { generation: context.generation, ..self.context_beside(context) };
            async move {
                if let Some(failure) = core.failures.get(&zone.name, RecordType::DNSKEY, core.now()) {
                    return Err(failure);
                }
                match core.clone().establish(context.clone(), Arc::clone(&zone)).await {
                    Ok((trust, ttl)) => {
                        let now = core.now();
                        // No longer than the delegation that led here, but for the lookups that wait.
                        let ttl = core.zones.ttl_within(&zone, ttl.min(limits::MAX_TTL), now).max(MIN_TRUST_LIFE);
                        let entry = TrustEntry { trust: trust.clone(), learnt: now, ttl };
                        core.if_proven_today(&context, || core.trusts.insert(zone.name.clone(), entry));
                        core.failures.clear(&zone.name, RecordType::DNSKEY);
                        Ok(trust)
                    }
                    // One lookup's limits are no news about the zone.
                    Err(failure) if is_out_of_budget(&failure) => Err(failure),
                    // No referral led here: that the servers of the zone above do not have its keys is no news, either.
                    Err(failure) if zone.is_guess() && failure.cause == Cause::Bogus(Bogus::NoDnskey) => Err(failure),
                    // The chain broke further up, and it is kept there: when that heals, this has to heal with it.
                    Err(failure) if failure.rtype == RecordType::DNSKEY && failure.name != zone.name => Err(failure),
                    Err(failure) => {
                        let of_zone = Failure { name: zone.name.clone(), rtype: RecordType::DNSKEY, ..failure.clone() };
                        core.if_proven_today(&context, || core.failures.insert(of_zone, core.now()));
                        Err(failure)
                    }
                }
            }
        })
    }

    fn establish(
        self: Arc<Self>,
        context: Context,
        zone: Arc<Zone>,
    ) -> BoxFuture<'static, Result<(ZoneTrust, u32), Failure>> {
        async move {
            if self.exception(&zone.name, RecordType::DNSKEY).is_some() {
                return Ok((ZoneTrust::Insecure, MIN_TRUST_TTL));
            }
            if let Some(anchor) = self.anchors().get(&zone.name) {
                if anchor.is_empty() {
                    let cause = Cause::Bogus(Bogus::AnchorsRevoked);
                    return Err(failure(&zone, &zone.name, RecordType::DNSKEY, cause, None));
                }
                // Anchors we cannot use make a zone insecure only where no algorithm of theirs is known
                // (RFC 4035 §5.2).
                return self.keys_of(&context, &zone, anchor, None).await.map_err(of_anchor);
            }
            let Some(parent) = zone.parent.clone() else { return self.trust_of_forward(&context, &zone).await };
            if let Some(failure) = self.failures.get(&parent.name, RecordType::DNSKEY, self.now()) {
                return Err(failure);
            }
            // The keys do not depend on the parent's answer: where they will be needed, ask for them now.
            let early = async {
                match zone.referral.ds() {
                    Some(_) => Some(self.ask_zone(&context, &zone, &zone.name, RecordType::DNSKEY, &[]).await),
                    None => None,
                }
            };
            let (parent_trust, early) = tokio::join!(self.trust_of(&context, &parent), early);
            let ZoneTrust::Secure(keys) = parent_trust? else {
                return Ok((ZoneTrust::Insecure, parent.ttl.max(MIN_TRUST_TTL)));
            };
            let status = match self.status_in_referral(&context, &parent, &keys, &zone) {
                Some(status) => status,
                None => self.ds_status(&context, Arc::clone(&parent), Arc::clone(&keys), &zone.name).await?,
            };
            match status {
                DsStatus::Signed { trust, ttl } => match self.keys_of(&context, &zone, &trust, early).await {
                    Ok((trust, keys_ttl)) => Ok((trust, ttl.min(keys_ttl))),
                    Err(bogus) if bogus.is_bogus() && !is_out_of_budget(&bogus) => {
                        let other = self.keys_by_other_ds(&context, &parent, &keys, &zone, &trust).await;
                        other.ok_or(bogus)
                    }
                    Err(failure) => Err(failure),
                },
                DsStatus::Unsigned { ttl } => Ok((ZoneTrust::Insecure, ttl)),
                // The parent denies the delegation that it gave: one of the two is false.
                DsStatus::NotACut | DsStatus::Below(_) => {
                    Err(failure(&parent, &zone.name, RecordType::DS, Cause::Bogus(Bogus::DenialNotProven), None))
                }
            }
        }
        .boxed()
    }

    /// The keys that match the DS RRset of the parent's other servers, where it differs from the one that came with
    /// the referral: a server may lag behind the others.
    async fn keys_by_other_ds(
        self: &Arc<Self>,
        context: &Context,
        parent: &Arc<Zone>,
        keys: &KeySet,
        zone: &Arc<Zone>,
        first: &Trust,
    ) -> Option<(ZoneTrust, u32)> {
        let source = zone.referral.source?;
        if self.at_hand(parent).iter().all(|server| *server == source) {
            return None;
        }
        let heard = self.ask_zone(context, parent, &zone.name, RecordType::DS, &[source]).await.ok()?;
        match self.ds_status_heard(context, parent, keys, &zone.name, &heard) {
            Ok(DsStatus::Signed { trust, ttl }) if trust != *first => {
                let (trust, keys_ttl) = self.keys_of(context, zone, &trust, None).await.ok()?;
                Some((trust, ttl.min(keys_ttl)))
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// A forward zone is validated when the chain from an anchor reaches it, and insecure when it is proven that
    /// none does: the public tree has no such zone, or an unsigned one (design §11). While that cannot be found out
    /// nothing is answered: else whoever keeps us from the public tree could forge what is signed.
    async fn trust_of_forward(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
    ) -> Result<(ZoneTrust, u32), Failure> {
        if zone.forward.is_none() || zone.name.is_root() {
            return Ok((ZoneTrust::Insecure, limits::MAX_TTL));
        }
        let outer = self.zones.deepest(&zone.name, true, self.now());
        let ZoneTrust::Secure(keys) = self.trust_of(context, &outer).await? else {
            return Ok((ZoneTrust::Insecure, FORWARD_TRUST_TTL));
        };
        match self.ds_status(context, outer, keys, &zone.name).await? {
            DsStatus::Signed { trust, ttl } => {
                let (trust, keys_ttl) = self.keys_of(context, zone, &trust, None).await?;
                Ok((trust, ttl.min(keys_ttl)))
            }
            DsStatus::Unsigned { .. } | DsStatus::NotACut | DsStatus::Below(_) => {
                Ok((ZoneTrust::Insecure, FORWARD_TRUST_TTL))
            }
        }
    }

    /// Fetches and validates a zone's DNSKEY RRset; a bogus one is asked for at other servers (`early` is an
    /// answer that is here already).
    async fn keys_of(
        self: &Arc<Self>,
        context: &Context,
        zone: &Arc<Zone>,
        trust: &Trust,
        mut early: Option<Result<Heard, Failure>>,
    ) -> Result<(ZoneTrust, u32), Failure> {
        if !trust.is_usable() {
            return Ok((ZoneTrust::Insecure, limits::MAX_TTL));
        }
        let mut excluded: Vec<SocketAddr> = Vec::new();
        let mut bogus = None;
        loop {
            let heard = match early.take() {
                Some(early) => early,
                None => self.ask_zone(context, zone, &zone.name, RecordType::DNSKEY, &excluded).await,
            };
            let heard = match (heard, bogus.take()) {
                (Ok(heard), _) => heard,
                (Err(_), Some(bogus)) => return Err(bogus),
                (Err(failure), None) => return Err(failure),
            };
            let verdict = match &heard.meaning {
                Meaning::Answer(set) => {
                    verify_dnskeys(&zone.name, set, trust, self.clock.wall(), &context.budget).map(|keys| (keys, set))
                }
                _ => Err(Bogus::NoDnskey),
            };
            match verdict {
                Ok((ZoneKeys::Secure { keys, ttl }, set)) => {
                    self.keep(context, set, &[], Security::Secure, ttl);
                    return Ok((ZoneTrust::Secure(Arc::new(keys)), ttl));
                }
                Ok((ZoneKeys::Insecure, _)) => return Ok((ZoneTrust::Insecure, limits::MAX_TTL)),
                Err(reason) => {
                    let last = matches!(reason, Bogus::TooMuchWork(_)) || excluded.len() >= limits::BOGUS_RETRIES;
                    let error = failure(zone, &zone.name, RecordType::DNSKEY, Cause::Bogus(reason), Some(heard.server));
                    if last {
                        return Err(error);
                    }
                    excluded.push(heard.server);
                    bogus = Some(error);
                }
            }
        }
    }

    /// See [`super::Engine::fetch_zone_keys`].
    pub async fn fetch_zone_keys(
        self: &Arc<Self>,
        zone: &Name,
        counts: &(dyn Fn(&RrSet) -> bool + Send + Sync),
    ) -> Result<RrSet, Failure> {
        let context = self.context(true);
        let mut excluded: Vec<SocketAddr> = Vec::new();
        let mut last = None;
        loop {
            let heard = match (self.descend(&context, zone, RecordType::DNSKEY, &excluded).await, last.take()) {
                (Ok(heard), _) => heard,
                (Err(_), Some(set)) => return Ok(set),
                (Err(failure), None) => return Err(failure),
            };
            match heard.meaning {
                Meaning::Answer(set) if counts(&set) || excluded.len() >= limits::BOGUS_RETRIES => return Ok(set),
                Meaning::Answer(set) => last = Some(set),
                _ if excluded.len() >= limits::BOGUS_RETRIES => {
                    let cause = Cause::Bogus(Bogus::NoDnskey);
                    return Err(failure(&heard.zone, zone, RecordType::DNSKEY, cause, Some(heard.server)));
                }
                _ => {}
            }
            excluded.push(heard.server);
        }
    }

    /// Asks the root's servers for the root's keys, past every cache, and checks them against the anchors; what
    /// was learnt is used. Without an anchor it is enough that they answer.
    pub async fn look_at_root(self: &Arc<Self>) -> Result<(), Failure> {
        let context = self.context(false);
        let root = self.zones.deepest(&Name::root(), false, self.now());
        if !self.anchors().contains_key(&root.name) || self.exception(&root.name, RecordType::DNSKEY).is_some() {
            return self.ask_zone(&context, &root, &root.name, RecordType::NS, &[]).await.map(drop);
        }
        let (trust, ttl) = Arc::clone(self).establish(context.clone(), Arc::clone(&root)).await?;
        let entry = TrustEntry { trust, learnt: self.now(), ttl: ttl.min(limits::MAX_TTL) };
        self.if_proven_today(&context, || self.trusts.insert(root.name.clone(), entry));
        self.failures.clear(&root.name, RecordType::DNSKEY);
        Ok(())
    }

    /// Puts a verified RRset into the cache.
    pub fn keep(&self, context: &Context, set: &RrSet, proof: &[RrSet], security: Security, ttl: u32) {
        self.if_proven_today(context, || self.put(set, proof, security, ttl));
    }

    /// See [`Core::keep`].
    pub fn put(&self, set: &RrSet, proof: &[RrSet], security: Security, ttl: u32) {
        let known = Known::Positive { set: Arc::new(set.clone()), proof: proof.into(), dname: None };
        self.cache.insert(known, security, ttl, self.now());
    }
}

/// The same, where a trust anchor of the zone and no DS was to be matched.
fn of_anchor(mut failure: Failure) -> Failure {
    if let Cause::Bogus(Bogus::NoMatchingKey { anchored, .. }) = &mut failure.cause {
        *anchored = true;
    }
    failure
}

/// Whether a lookup failed for its own limits, not for anything the zone did.
fn is_out_of_budget(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Budget(_) | Cause::Bogus(Bogus::TooMuchWork(_)))
}

/// Whether no server answered, or none could be asked.
fn is_silence(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::Timeout | Cause::NoServers | Cause::Network)
}

/// The shortest time for which "insecure" is kept where no record says how long.
pub(super) const MIN_TRUST_TTL: u32 = 60;
/// What was found out of a zone is good for the lookups that wait for it, even where its delegation has just ended.
const MIN_TRUST_LIFE: u32 = 5;
/// Keys are fetched again before their TTL ends at most this often, where a signature is by an unknown key.
const REKEY_AFTER: Duration = Duration::from_secs(60);
/// How long a forward zone counts as insecure before its chain is looked at again.
const FORWARD_TRUST_TTL: u32 = 3_600;
