//! From a DS RRset or trust anchors to a zone's keys (RFC 4035 §5.2).

use hickory_proto::rr::{Name, RecordType};

use super::keys::{DnsKey, Ds, KeySet, algorithm_supported};
use super::rrsig;
use crate::clock::UnixTime;
use crate::dns::Bogus;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::RrSet;

/// What is known of a zone's keys before its DNSKEY RRset is seen: the validated DS RRset of its parent, or
/// trust anchors, which may mix DS and DNSKEY form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// DS records.
    pub ds: Vec<Ds>,
    /// Keys that are trusted as they are.
    pub keys: Vec<DnsKey>,
}

impl Trust {
    /// The records of validated DS RRsets, or of anchors in DS and DNSKEY form, all for one zone. Sets of other
    /// types add nothing.
    pub fn from_sets<'a>(sets: impl IntoIterator<Item = &'a RrSet>) -> Self {
        let mut trust = Self::default();
        for set in sets {
            let rdatas = set.rdatas.iter();
            match set.rtype {
                RecordType::DS => trust.ds.extend(rdatas.filter_map(|rdata| Ds::parse(rdata))),
                RecordType::DNSKEY => trust.keys.extend(rdatas.filter_map(|rdata| DnsKey::parse(rdata))),
                _ => {}
            }
        }
        trust
    }

    /// Whether anything in it can be checked. If not, the zone is insecure and its DNSKEY need not be fetched
    /// (RFC 4035 §5.2, RFC 6840 §5.2).
    pub fn is_usable(&self) -> bool {
        !usable_ds(&self.ds).is_empty() || self.keys.iter().any(|key| algorithm_supported(key.algorithm))
    }

    /// Whether all of it is in `other`, too.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.ds.iter().all(|ds| other.ds.contains(ds)) && self.keys.iter().all(|key| other.keys.contains(key))
    }

    /// Whether nothing is left of it: every anchor of the zone was revoked (RFC 5011 §5).
    pub fn is_empty(&self) -> bool {
        self.ds.is_empty() && self.keys.is_empty()
    }

    /// Tags of all that is trusted, for the reason of a failure.
    fn tags(&self) -> Vec<u16> {
        let mut tags: Vec<u16> = self.ds.iter().map(|ds| ds.tag).chain(self.keys.iter().map(|key| key.tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        tags
    }
}

/// A zone's keys, or that there are none we could use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneKeys {
    /// The DNSKEY RRset is validated.
    Secure {
        /// Its usable keys.
        keys: KeySet,
        /// Seconds for which they may be used.
        ttl: u32,
    },
    /// No algorithm or digest that we support: the zone counts as unsigned (RFC 4035 §5.2, RFC 6840 §5.2).
    Insecure,
}

/// The DS records that count: of supported algorithm and digest, and those with SHA-1 only where none with a
/// stronger digest is usable (RFC 4509 §3). Empty: the delegation is insecure.
pub fn usable_ds(set: &[Ds]) -> Vec<Ds> {
    let supported = || set.iter().filter(|ds| ds.is_supported());
    let strong = supported().any(|ds| ds.digest_type != 1);
    supported().filter(|ds| ds.digest_type != 1 || !strong).cloned().collect()
}

/// Validates the DNSKEY RRset of `zone`: some key that `trust` names must have signed it. One path is enough,
/// whatever else is wrong (RFC 6840 §5.4, §5.11); algorithms without a signature do not matter.
pub fn verify_dnskeys(
    zone: &Name,
    dnskey: &RrSet,
    trust: &Trust,
    now: UnixTime,
    budget: &Budget,
) -> Result<ZoneKeys, Bogus> {
    if !trust.is_usable() {
        return Ok(ZoneKeys::Insecure);
    }
    if dnskey.name != *zone || dnskey.rtype != RecordType::DNSKEY {
        return Err(Bogus::NoDnskey);
    }
    let mut usable: Vec<DnsKey> = dnskey.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)).collect();
    usable.retain(DnsKey::is_usable);
    // Kept for long.
    usable.shrink_to_fit();
    let ds = usable_ds(&trust.ds);
    let entries: Vec<DnsKey> = usable.iter().filter(|key| is_trusted(zone, key, &ds, &trust.keys)).cloned().collect();
    if entries.is_empty() {
        return Err(Bogus::NoMatchingKey { tags: trust.tags(), anchored: false });
    }
    let entries = KeySet { zone: zone.clone(), keys: entries };
    let verified = rrsig::verify(dnskey, &entries, now, budget).map_err(|reason| match reason {
        Bogus::UnknownKey { .. } => Bogus::NoMatchingKey { tags: trust.tags(), anchored: false },
        other => other,
    })?;
    Ok(ZoneKeys::Secure { keys: KeySet { zone: zone.clone(), keys: usable }, ttl: verified.ttl })
}

fn is_trusted(zone: &Name, key: &DnsKey, ds: &[Ds], anchors: &[DnsKey]) -> bool {
    anchors.iter().any(|anchor| anchor.algorithm == key.algorithm && anchor.public == key.public)
        || key.matches_any(zone, ds)
}
