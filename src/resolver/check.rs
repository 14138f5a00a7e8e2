//! Is a message from a zone's server what the zone said? Validation of positive and negative answers
//! (RFC 4035 §5.3, §5.4; RFC 6840), and what of them goes into the cache.
//!
//! In: what was heard. Out: [`Checked`], or the reason why it is bogus. Never asks anybody except about zone
//! cuts that the message itself makes doubtful (a child zone on its parent's servers).

use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::core::{Context, Core, failure};
use super::delegation::Zone;
use super::ds_status::DsStatus;
use super::iterate::Heard;
use super::iterate::classify::{Alias, Meaning, find};
use super::message::Message;
use super::rrset::{RrSet, Rrsig};
use super::rrset_cache::Known;
use super::trust::ZoneTrust;
use super::validate::{Denials, KeySet, Proof, verify};
use crate::dns::{Bogus, Cause, Failure, Security};
use crate::limits;

/// A validated step of an answer, ready to be kept.
#[derive(Clone, Debug)]
pub(super) enum Checked {
    /// The RRset asked for.
    Records(Signed),
    /// An alias.
    Alias {
        /// Where it leads.
        target: Name,
        /// The CNAME; where a DNAME made it, the DNAME's security and TTL.
        cname: Signed,
        /// That DNAME.
        dname: Option<Arc<RrSet>>,
    },
    /// A DNAME whose target would be too long a name.
    TooLong(Signed),
    /// A denial.
    Denial {
        /// The name does not exist at all.
        nxdomain: bool,
        /// SOA, NSEC and NSEC3 records.
        proof: Arc<[RrSet]>,
        /// Its security.
        security: Security,
        /// Seconds for which it holds.
        ttl: u32,
    },
}

impl Checked {
    /// The same, for so many seconds and no longer.
    fn at_most(mut self, seconds: u32) -> Self {
        match &mut self {
            Self::Records(signed) | Self::TooLong(signed) | Self::Alias { cname: signed, .. } => {
                signed.ttl = signed.ttl.min(seconds);
            }
            Self::Denial { ttl, .. } => *ttl = (*ttl).min(seconds),
        }
        self
    }

    /// The same so many seconds after it was heard; only denials are ever kept before they are checked.
    pub fn aged(mut self, age: u32) -> Self {
        if let Self::Denial { ttl, .. } = &mut self {
            *ttl = ttl.saturating_sub(age);
        }
        self
    }
}

/// An RRset with its standing.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    /// The RRset.
    pub set: Arc<RrSet>,
    /// Proof of a wildcard expansion.
    pub proof: Arc<[RrSet]>,
    /// Its security.
    pub security: Security,
    /// Seconds for which it holds.
    pub ttl: u32,
}

/// Whose data it is: the zone that was asked, or one below it on the same servers.
enum Holder {
    Secure(Arc<Zone>, Arc<KeySet>),
    Insecure,
}

impl Core {
    /// Validates what was heard for `name` and `rtype`; what was heard of another question fails.
    pub async fn check(
        self: &Arc<Self>,
        context: &Context,
        heard: &Heard,
        name: &Name,
        rtype: RecordType,
    ) -> Result<Checked, Failure> {
        if !heard.is_of(name, rtype) {
            // An insecure zone is taken at its word: never about a name that it was not asked for.
            return Err(failure(&heard.zone, name, rtype, Cause::Malformed, Some(heard.server)));
        }
        if let Some(exception) = self.exception(name, rtype) {
            // RFC 7646 §2: as if the zone were not signed, until the exception ends.
            let left = exception.seconds_left(self.clock.wall());
            return Ok(insecure(heard, &heard.zone.name, name).at_most(left));
        }
        let (mut zone, mut trust) = (Arc::clone(&heard.zone), self.trust_of(context, &heard.zone).await?);
        if (matches!(trust, ZoneTrust::Insecure) || self.is_exception_between(&zone.name, name))
            && let Some(island) = self.anchor_below(&zone.name, name, rtype)
        {
            // An anchor further down, on the same servers: an island of security (RFC 4033 §2).
            zone = self.zone_on_same_servers(&island, &zone);
            trust = self.trust_of(context, &zone).await?;
        }
        let ZoneTrust::Secure(mut keys) = trust else { return Ok(insecure(heard, &heard.zone.name, name)) };
        if rtype == RecordType::RRSIG {
            // Signatures are not signed; they come without a claim.
            return Ok(insecure(heard, &zone.name, name));
        }
        let mut verdict = self.check_with(context, heard, &zone.name, &keys, name, rtype);
        if verdict.as_ref().is_err_and(|reason| may_be_newer_keys(reason, heard, &keys))
            && self.forget_old_keys(&zone.name)
        {
            // A new key, before the old key set has timed out here: look before crying wolf.
            if let ZoneTrust::Secure(newer) = self.trust_of(context, &zone).await? {
                keys = newer;
                verdict = self.check_with(context, heard, &zone.name, &keys, name, rtype);
            }
        }
        let reason = match verdict {
            Ok(checked) => return Ok(checked),
            Err(reason @ Bogus::TooMuchWork(_)) => return Err(bogus(heard, &zone, name, rtype, reason)),
            Err(reason) => reason,
        };
        // Signed by the zone itself, and wrong: no zone below could mend that.
        if signed_by(heard, &zone.name) {
            return Err(bogus(heard, &zone, name, rtype, reason));
        }
        // Rare, and large enough to be kept out of every lookup's memory.
        match Box::pin(self.holder(context, heard, &zone, keys, name, rtype)).await? {
            Holder::Insecure => Ok(insecure(heard, &zone.name, name)),
            Holder::Secure(inner, _) if inner.name == zone.name => Err(bogus(heard, &zone, name, rtype, reason)),
            Holder::Secure(inner, keys) => self
                .check_with(context, heard, &inner.name, &keys, name, rtype)
                .map_err(|reason| bogus(heard, &inner, name, rtype, reason)),
        }
    }

    fn check_with(
        &self,
        context: &Context,
        heard: &Heard,
        zone: &Name,
        keys: &KeySet,
        name: &Name,
        rtype: RecordType,
    ) -> Result<Checked, Bogus> {
        let message = &heard.message;
        match &heard.meaning {
            Meaning::Answer(set) => Ok(Checked::Records(self.check_set(context, message, zone, keys, set)?)),
            Meaning::Alias(Alias { cname, dname: None, target }) => {
                let cname = self.check_set(context, message, zone, keys, cname)?;
                self.keep_chain(context, heard, zone, keys, target, (name, rtype));
                Ok(Checked::Alias { target: target.clone(), cname, dname: None })
            }
            Meaning::Alias(Alias { cname, dname: Some(dname), target }) => {
                let signed = self.check_set(context, message, zone, keys, dname)?;
                let cname = Signed { set: Arc::new(cname.clone()), ..signed.clone() };
                Ok(Checked::Alias { target: target.clone(), cname, dname: Some(signed.set) })
            }
            Meaning::TooLong(dname) => Ok(Checked::TooLong(self.check_set(context, message, zone, keys, dname)?)),
            Meaning::NxDomain => self.check_denial(context, message, zone, keys, name, rtype, true),
            Meaning::NoData => self.check_denial(context, message, zone, keys, name, rtype, false),
            Meaning::Referral(_) => Err(Bogus::DenialNotProven),
        }
    }

    /// A positive RRset, and for a wildcard expansion the proof that nothing closer matches (RFC 4035 §5.3.4).
    pub fn check_set(
        &self,
        context: &Context,
        message: &Message,
        zone: &Name,
        keys: &KeySet,
        set: &RrSet,
    ) -> Result<Signed, Bogus> {
        let now = self.clock.wall();
        let verified = verify(set, keys, now, &context.budget)?;
        let mut signed =
            Signed { set: Arc::new(set.clone()), proof: Arc::default(), security: Security::Secure, ttl: verified.ttl };
        if let Some(encloser) = &verified.wildcard {
            let (denials, reason) = Denials::collect(zone, &message.authority, keys, now, &context.budget);
            let proof = denials
                .wildcard_answer(&set.name, encloser, &context.budget)
                .map_err(|unproven| reason.unwrap_or(unproven))?;
            signed.security = proof.security;
            signed.ttl = signed.ttl.min(proof.ttl);
            signed.proof = used(&proof, &message.authority, None);
        }
        Ok(signed)
    }

    #[allow(clippy::too_many_arguments, reason = "the question, the message and the zone it is checked against")]
    fn check_denial(
        &self,
        context: &Context,
        message: &Message,
        zone: &Name,
        keys: &KeySet,
        name: &Name,
        rtype: RecordType,
        says_nxdomain: bool,
    ) -> Result<Checked, Bogus> {
        let now = self.clock.wall();
        let (denials, reason) = Denials::collect(zone, &message.authority, keys, now, &context.budget);
        let name_error = || denials.name_error(name, &context.budget).map(|proof| (true, proof));
        let no_data = || denials.no_data(name, rtype, &context.budget).map(|proof| (proof.nxdomain, proof));
        // The proof counts, not the response code: servers say NXDOMAIN for empty non-terminals and NOERROR for
        // names that do not exist.
        let (nxdomain, proof) = match if says_nxdomain { name_error() } else { no_data() } {
            Ok(proven) => proven,
            Err(too_much @ Bogus::TooMuchWork(_)) => return Err(too_much),
            Err(unproven) => {
                let other = if says_nxdomain { no_data() } else { name_error() };
                other.map_err(|_| reason.unwrap_or(unproven))?
            }
        };
        // What a zone denies, or shows to be there, it does not delegate: for aliases that lead to it.
        let denied = (rtype != RecordType::DS && proof.security.is_secure()).then_some((name, proof.ttl));
        for (own, ttl) in denials.undelegated().chain(denied) {
            if zone.zone_of(own) && own != zone {
                self.zones.insert_proven_cut_free(own.clone(), ttl, self.now());
            }
        }
        let soa = find_soa(message, zone, name).filter(|soa| verify(soa, keys, now, &context.budget).is_ok());
        let ttl = soa.map_or(NO_SOA_TTL, negative_ttl).min(proof.ttl);
        let records = used(&proof, &message.authority, soa);
        Ok(Checked::Denial { nxdomain, proof: records, security: proof.security, ttl })
    }

    /// Finds the zone that `name` belongs to, going down from a secure zone whose servers answered for it.
    async fn holder(
        self: &Arc<Self>,
        context: &Context,
        heard: &Heard,
        zone: &Arc<Zone>,
        keys: Arc<KeySet>,
        name: &Name,
        rtype: RecordType,
    ) -> Result<Holder, Failure> {
        let (mut zone, mut keys) = (Arc::clone(zone), keys);
        let end = name.iter().count() - usize::from(rtype == RecordType::DS && !name.is_root());
        for labels in zone.name.iter().count() + 1..=end {
            let candidate = name.trim_to(labels);
            match self.ds_status(context, Arc::clone(&zone), Arc::clone(&keys), &candidate).await? {
                DsStatus::NotACut | DsStatus::Below(_) => {}
                DsStatus::Unsigned { .. } => return Ok(Holder::Insecure),
                DsStatus::Signed { .. } => {
                    let (inner, trust) = self.signed_zone(context, &candidate, &zone).await?;
                    match trust {
                        // Its own signature says where it belongs: no need to look for zones further down.
                        ZoneTrust::Secure(inner_keys) if speaks_for(heard, &inner.name) => {
                            return Ok(Holder::Secure(inner, inner_keys));
                        }
                        ZoneTrust::Secure(inner_keys) => (zone, keys) = (inner, inner_keys),
                        ZoneTrust::Insecure => return Ok(Holder::Insecure),
                    }
                }
            }
        }
        Ok(Holder::Secure(zone, keys))
    }

    /// A signed zone below `above` that no referral was seen for: on the same servers, else wherever it is
    /// delegated to.
    async fn signed_zone(
        self: &Arc<Self>,
        context: &Context,
        name: &Name,
        above: &Arc<Zone>,
    ) -> Result<(Arc<Zone>, ZoneTrust), Failure> {
        let zone = self.zone_on_same_servers(name, above);
        match self.trust_of(context, &zone).await {
            Err(failure) if !failure.is_bogus() => {
                let Ok(heard) = self.descend(context, name, RecordType::DNSKEY, &[]).await else { return Err(failure) };
                if heard.zone.name != *name {
                    return Err(failure);
                }
                self.failures.clear(name, RecordType::DNSKEY);
                let trust = self.trust_of(context, &heard.zone).await?;
                Ok((heard.zone, trust))
            }
            trust => trust.map(|trust| (zone, trust)),
        }
    }

    /// Puts a checked step into the cache; within [`Core::if_proven_today`].
    pub fn keep_checked(&self, checked: &Checked, name: &Name, rtype: RecordType) {
        let now = self.now();
        match checked {
            // The parent's side may deny the name of a forward zone or of an exception, or have an alias there: that is
            // about the DS alone.
            Checked::Alias { .. } | Checked::Denial { nxdomain: true, .. }
                if rtype == RecordType::DS && self.own_labels(name, RecordType::A) == name.iter().count() => {}
            Checked::Records(Signed { set, proof, security, ttl }) => {
                if rtype != RecordType::RRSIG {
                    let known = Known::Positive { set: Arc::clone(set), proof: Arc::clone(proof), dname: None };
                    self.cache.insert(known, *security, *ttl, now);
                }
            }
            Checked::Alias { cname, dname, .. } => {
                if let Some(dname) = dname {
                    self.put(dname, &cname.proof, cname.security, cname.ttl);
                }
                let known = Known::Positive {
                    set: Arc::clone(&cname.set),
                    proof: Arc::clone(&cname.proof),
                    dname: dname.clone(),
                };
                self.cache.insert(known, cname.security, cname.ttl, now);
            }
            Checked::TooLong(dname) => self.put(&dname.set, &dname.proof, dname.security, dname.ttl),
            Checked::Denial { nxdomain, proof, security, ttl } => {
                let rtype = (!nxdomain).then_some(rtype);
                self.cache.insert_denial(name, rtype, proof, *security, *ttl, now);
            }
        }
    }
}

/// A denial without SOA says nothing of how long it holds (RFC 2308 §5 would not cache it at all).
const NO_SOA_TTL: u32 = 5;

/// A failure of `zone`, which is the one that was asked or one below it on the same servers.
fn bogus(heard: &Heard, zone: &Zone, name: &Name, rtype: RecordType, reason: Bogus) -> Failure {
    failure(zone, name, rtype, Cause::Bogus(reason), Some(heard.server))
}

/// Whether the zone may sign with keys that are newer than those known here: a signature is by none of them, and those
/// that are not good are old.
fn may_be_newer_keys(reason: &Bogus, heard: &Heard, keys: &KeySet) -> bool {
    let is_unknown = |sig: &&Rrsig| {
        sig.signer == keys.zone && !keys.keys.iter().any(|key| (key.tag, key.algorithm) == (sig.key_tag, sig.algorithm))
    };
    match reason {
        Bogus::UnknownKey { .. } => true,
        Bogus::Expired { .. } | Bogus::NotYetValid { .. } => match heard.meaning.signed_set() {
            Some(set) => set.sigs.iter().any(|sig| is_unknown(&sig)),
            None => heard.message.authority.iter().flat_map(|set| &set.sigs).any(|sig| is_unknown(&sig)),
        },
        _ => false,
    }
}

/// Whether the records that answer carry a signature of `zone`.
fn signed_by(heard: &Heard, zone: &Name) -> bool {
    heard.meaning.signed_set().is_some_and(|set| set.sigs.iter().any(|sig| sig.signer == *zone))
}

/// Whether `zone` signed the answer, or all that there is of a denial.
fn speaks_for(heard: &Heard, zone: &Name) -> bool {
    if heard.meaning.signed_set().is_some() {
        return signed_by(heard, zone);
    }
    let proofs = heard.message.authority.iter().filter(|set| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3));
    let mut signers = proofs.map(|set| set.sigs.iter().any(|sig| sig.signer == *zone)).peekable();
    signers.peek().is_some() && signers.all(|signed| signed)
}

/// What an insecure zone said, taken as it is, within its bailiwick; where it is signed all the same, with its proofs,
/// for clients that have an anchor of their own for it (RFC 4035 §3.2.1).
fn insecure(heard: &Heard, zone: &Name, name: &Name) -> Checked {
    let plain = |set: &RrSet| Signed {
        set: Arc::new(set.clone()),
        proof: if is_expanded(set) { denials_of(heard, zone).cloned().collect() } else { Arc::default() },
        security: Security::Insecure,
        ttl: set.ttl,
    };
    match &heard.meaning {
        Meaning::Answer(set) => Checked::Records(plain(set)),
        Meaning::Alias(alias) => Checked::Alias {
            target: alias.target.clone(),
            cname: plain(&alias.cname),
            dname: alias.dname.clone().map(Arc::new),
        },
        Meaning::TooLong(dname) => Checked::TooLong(plain(dname)),
        Meaning::NoData | Meaning::NxDomain | Meaning::Referral(_) => {
            let soa = find_soa(&heard.message, zone, name);
            Checked::Denial {
                nxdomain: heard.meaning == Meaning::NxDomain,
                proof: soa.into_iter().chain(denials_of(heard, zone)).cloned().collect(),
                security: Security::Insecure,
                ttl: soa.map_or(NO_SOA_TTL, negative_ttl),
            }
        }
    }
}

/// The signed NSEC and NSEC3 RRsets of a zone in a message, as many as would be checked.
fn denials_of<'a>(heard: &'a Heard, zone: &'a Name) -> impl Iterator<Item = &'a RrSet> {
    let is_denial = |set: &&RrSet| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) && !set.sigs.is_empty();
    let within = move |set: &&RrSet| zone.zone_of(&set.name);
    heard.message.authority.iter().filter(is_denial).filter(within).take(limits::DENIAL_RRSETS_PER_RESPONSE)
}

/// Whether a wildcard made it, as its signatures say: they are over fewer labels than its owner has (RFC 4034 §3.1.3).
fn is_expanded(set: &RrSet) -> bool {
    let labels = set.name.iter().count();
    set.sigs.iter().any(|sig| usize::from(sig.labels) < labels)
}

/// The SOA of a denial: of the zone or of one below it, at or above the name.
fn find_soa<'a>(message: &'a Message, zone: &Name, name: &Name) -> Option<&'a RrSet> {
    let mut candidates = message
        .authority
        .iter()
        .filter(|set| set.rtype == RecordType::SOA && zone.zone_of(&set.name) && set.name.zone_of(name));
    candidates.next().and_then(|first| find(&message.authority, &first.name, RecordType::SOA))
}

/// How long a denial would hold, as far as it says so itself.
pub(super) fn claimed_ttl(heard: &Heard, name: &Name) -> u32 {
    find_soa(&heard.message, &heard.zone.name, name).map_or(NO_SOA_TTL, negative_ttl)
}

/// The lesser of the SOA's TTL and its MINIMUM field (RFC 2308 §5).
fn negative_ttl(soa: &RrSet) -> u32 {
    let minimum =
        soa.rdatas.first().and_then(|rdata| rdata.last_chunk::<4>()).map(|octets| u32::from_be_bytes(*octets));
    minimum.map_or(NO_SOA_TTL, |minimum| minimum.min(soa.ttl))
}

/// The records a proof rests on, and the SOA.
fn used(proof: &Proof, authority: &[RrSet], soa: Option<&RrSet>) -> Arc<[RrSet]> {
    let records = proof.used.iter().filter_map(|index| authority.get(*index));
    soa.into_iter().chain(records).cloned().collect()
}
