//! A small random signed zone in memory: its records, the truth about it, and what an honest server would show.
//!
//! Never uses the code under test to decide what is true; only RDATA's canonical form is shared with it.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::{Name, RecordType};
use postseal::resolver::rrset::{RrSet, wire_name};

use super::dice::Dice;
use super::signer::{Signer, TTL, base32hex, bitmap, denial_set, neighbour, nsec3_hash};

/// NXNAME (RFC 9824).
pub const NXNAME: u16 = 128;

/// How a zone denies.
#[derive(Clone, Debug)]
pub enum Denial {
    /// RFC 4034.
    Nsec,
    /// RFC 5155; with `opt_out`, insecure delegations have no record.
    Nsec3 { salt: Vec<u8>, iterations: u16, opt_out: bool },
}

/// What is true of a name and type, seen from the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// Records of the type, or a CNAME, at the name itself.
    Answer,
    /// The name exists, the type does not.
    NoData,
    /// Records or a CNAME through the wildcard below this encloser.
    Wildcard(Name),
    /// The wildcard below this encloser applies, and lacks the type.
    WildcardNoData(Name),
    /// No such name; its closest encloser.
    NxDomain(Name),
    /// Below a DNAME.
    Redirected,
    /// The apex's DS: the parent's to tell.
    Parents,
    /// At or below this delegation.
    Delegated { cut: Name, secure: bool },
}

/// A zone, signed.
pub struct Zone {
    pub apex: Name,
    pub denial: Denial,
    pub signer: Signer,
    nodes: BTreeMap<Name, BTreeSet<u16>>,
    /// Every NSEC or NSEC3 RRset.
    pub denials: Vec<RrSet>,
}

const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const DNAME: u16 = 39;
const DS: u16 = 43;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const DNSKEY: u16 = 48;
const NSEC3PARAM: u16 = 51;

/// Types a question may have.
pub const QUESTION_TYPES: [u16; 10] = [1, 15, 16, 52, NS, CNAME, SOA, DNAME, DS, 65280];

/// What ordinary names hold.
const PLAIN: [&[u16]; 4] = [&[1], &[15, 52], &[16], &[1, 65280]];

const LABELS: [&str; 8] = ["a", "b", "*", "aa", "A-", "_25", "z", "\\000"];

/// A name of one to three labels below `parent`.
pub fn random_name(dice: &mut Dice, parent: &Name) -> Name {
    let mut name = parent.clone();
    for _ in 0..=dice.below(3) {
        name = child(&name, LABELS[dice.below(LABELS.len())]);
    }
    name
}

/// `label.parent`, lower case.
pub fn child(parent: &Name, label: &str) -> Name {
    if label == "\\000" {
        return parent.prepend_label(&[0_u8][..]).expect("a short name");
    }
    parent.prepend_label(label).expect("a short name").to_lowercase()
}

impl Zone {
    /// A random zone at `apex`, signed with the key of this seed.
    pub fn random(dice: &mut Dice, apex: &Name, key_seed: u8) -> Self {
        let mut nodes = BTreeMap::from([(apex.clone(), BTreeSet::from([NS, SOA, DNSKEY]))]);
        for _ in 0..dice.below(9) {
            let name = random_name(dice, apex);
            let types: &[u16] = match dice.below(8) {
                0 | 1 if !name.is_wildcard() => &[NS],
                2 if !name.is_wildcard() => &[NS, DS],
                3 if !name.is_wildcard() && dice.one_in(2) => &[DNAME],
                3 if !name.is_wildcard() => &[DNAME, 1],
                4 => &[CNAME],
                _ => PLAIN[dice.below(PLAIN.len())],
            };
            nodes.insert(name, types.iter().copied().collect());
        }
        let denial = match dice.below(3) {
            0 => Denial::Nsec,
            kind => {
                Denial::Nsec3 { salt: vec![0xab; dice.below(3)], iterations: dice.below(3) as u16, opt_out: kind == 2 }
            }
        };
        Self::new(apex, nodes, denial, key_seed)
    }

    /// A zone of these nodes; what lies below a cut or a DNAME is left out.
    pub fn new(apex: &Name, nodes: BTreeMap<Name, BTreeSet<u16>>, denial: Denial, key_seed: u8) -> Self {
        let mut zone =
            Self { apex: apex.clone(), denial, signer: Signer::new(apex, key_seed), nodes, denials: Vec::new() };
        let hidden: Vec<Name> = zone.nodes.keys().filter(|name| zone.is_hidden(name)).cloned().collect();
        for name in hidden {
            zone.nodes.remove(&name);
        }
        if matches!(zone.denial, Denial::Nsec3 { .. })
            && let Some(types) = zone.nodes.get_mut(apex)
        {
            types.insert(NSEC3PARAM);
        }
        zone.denials = zone.chain().into_iter().map(|set| zone.signer.sign(set)).collect();
        zone
    }

    fn is_hidden(&self, name: &Name) -> bool {
        self.nodes.iter().any(|(other, types)| {
            *other != *name
                && other.zone_of(name)
                && (types.contains(&DNAME) || (types.contains(&NS) && *other != self.apex))
        })
    }

    /// All names that have records.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    /// Delegated names.
    pub fn cuts(&self) -> Vec<Name> {
        let cut = |(name, types): &(&Name, &BTreeSet<u16>)| types.contains(&NS) && **name != self.apex;
        self.nodes.iter().filter(cut).map(|(name, _)| name.clone()).collect()
    }

    /// Every signed RRset but the denials, with made-up RDATA.
    pub fn positive_sets(&self) -> Vec<RrSet> {
        let mut sets = Vec::new();
        for (name, types) in &self.nodes {
            let is_cut = types.contains(&NS) && *name != self.apex;
            for rtype in types.iter().filter(|rtype| !is_cut || **rtype == DS) {
                let rdata: Box<[u8]> = match *rtype {
                    NS | CNAME | DNAME => b"\x04HosT\x07example\x00"[..].into(),
                    15 => b"\x00\x0a\x04MaiL\x07example\x00"[..].into(),
                    SOA => [&b"\x01M\x00\x01R\x00"[..], &[0; 20]].concat().into(),
                    _ => vec![7; 36].into(),
                };
                let rtype = RecordType::from(*rtype);
                let set = RrSet { name: name.clone(), rtype, ttl: TTL, rdatas: vec![rdata], sigs: Vec::new() };
                sets.push(self.signer.sign(set));
            }
        }
        sets
    }

    fn exists(&self, name: &Name) -> bool {
        self.nodes.keys().any(|node| name.zone_of(node))
    }

    fn closest_encloser(&self, name: &Name) -> Name {
        let mut encloser = name.base_name();
        while !self.exists(&encloser) {
            encloser = encloser.base_name();
        }
        encloser
    }

    /// What is true of this question; the name is in the zone.
    pub fn truth(&self, qname: &Name, qtype: u16) -> Truth {
        let finds = |types: &BTreeSet<u16>| types.contains(&qtype) || types.contains(&CNAME);
        for (name, types) in self.nodes.iter().filter(|(name, _)| name.zone_of(qname)) {
            let at = name == qname;
            if *name != self.apex && types.contains(&NS) && !(at && qtype == DS) {
                return Truth::Delegated { cut: name.clone(), secure: types.contains(&DS) };
            }
            if types.contains(&DNAME) && !at {
                return Truth::Redirected;
            }
        }
        if *qname == self.apex && qtype == DS {
            return Truth::Parents;
        }
        if let Some(types) = self.nodes.get(qname) {
            return if finds(types) { Truth::Answer } else { Truth::NoData };
        }
        if self.exists(qname) {
            return Truth::NoData;
        }
        let encloser = self.closest_encloser(qname);
        let wildcard = child(&encloser, "*");
        match self.nodes.get(&wildcard) {
            Some(types) if finds(types) => Truth::Wildcard(encloser),
            Some(_) => Truth::WildcardNoData(encloser),
            None if self.exists(&wildcard) => Truth::WildcardNoData(encloser),
            None => Truth::NxDomain(encloser),
        }
    }

    fn bitmap(&self, types: &BTreeSet<u16>, is_cut: bool, nsec: bool) -> Vec<u8> {
        let mut types: BTreeSet<u16> =
            types.iter().copied().filter(|rtype| !is_cut || matches!(*rtype, NS | DS)).collect();
        if nsec || !types.is_empty() && (!is_cut || types.contains(&DS)) {
            types.insert(RRSIG);
        }
        if nsec {
            types.insert(NSEC);
        }
        bitmap(&types)
    }

    fn chain(&self) -> Vec<RrSet> {
        match &self.denial {
            Denial::Nsec => self.nsec_chain(),
            Denial::Nsec3 { salt, iterations, opt_out } => self.nsec3_chain(salt, *iterations, *opt_out),
        }
    }

    fn nsec_chain(&self) -> Vec<RrSet> {
        let cuts = self.cuts();
        let nexts = self.nodes.keys().skip(1).chain([&self.apex]);
        let link = |((name, types), next): ((&Name, &BTreeSet<u16>), &Name)| {
            let rdata = [wire_name(next), self.bitmap(types, cuts.contains(name), true)].concat();
            denial_set(name.clone(), RecordType::NSEC, rdata)
        };
        self.nodes.iter().zip(nexts).map(link).collect()
    }

    fn nsec3_chain(&self, salt: &[u8], iterations: u16, opt_out: bool) -> Vec<RrSet> {
        let cuts = self.cuts();
        let mut hashed: BTreeMap<[u8; 20], Vec<u8>> = BTreeMap::new();
        for (name, types) in &self.nodes {
            let is_cut = cuts.contains(name);
            if opt_out && is_cut && !types.contains(&DS) {
                continue;
            }
            hashed.insert(nsec3_hash(name, salt, iterations), self.bitmap(types, is_cut, false));
            let mut ancestor = name.base_name();
            while self.apex.zone_of(&ancestor) && ancestor != self.apex {
                hashed.entry(nsec3_hash(&ancestor, salt, iterations)).or_default();
                ancestor = ancestor.base_name();
            }
        }
        // An empty non-terminal may have been entered before its own node was seen: nodes win.
        for (name, types) in &self.nodes {
            if let Some(bits) = hashed.get_mut(&nsec3_hash(name, salt, iterations)) {
                *bits = self.bitmap(types, cuts.contains(name), false);
            }
        }
        let first = *hashed.keys().next().expect("the apex");
        let nexts: Vec<[u8; 20]> = hashed.keys().copied().skip(1).chain([first]).collect();
        let link = |((hash, bits), next): ((&[u8; 20], &Vec<u8>), [u8; 20])| {
            let mut rdata = vec![1, u8::from(opt_out)];
            rdata.extend_from_slice(&iterations.to_be_bytes());
            rdata.push(salt.len() as u8);
            rdata.extend_from_slice(salt);
            rdata.push(20);
            rdata.extend_from_slice(&next);
            rdata.extend_from_slice(bits);
            denial_set(child(&self.apex, &base32hex(hash)), RecordType::NSEC3, rdata)
        };
        hashed.iter().zip(nexts).map(link).collect()
    }

    /// The NSEC and NSEC3 RRsets that an honest server shows for this question; `None` where the truth cannot be
    /// proven (opt-out hides the closest encloser).
    pub fn honest_denial(&self, qname: &Name, truth: &Truth) -> Option<Vec<RrSet>> {
        let covering = |name: &Name| self.record_at_or_before(name);
        let mut sets = match (truth, &self.denial) {
            (Truth::NoData, Denial::Nsec) => vec![covering(qname)],
            (Truth::NxDomain(encloser), Denial::Nsec) | (Truth::WildcardNoData(encloser), Denial::Nsec) => {
                vec![covering(qname), covering(&child(encloser, "*"))]
            }
            (Truth::Wildcard(_), Denial::Nsec) => vec![covering(qname)],
            (Truth::NoData, _) if self.has_record(qname) => vec![covering(qname)],
            (Truth::NoData, _) => self.encloser_proof(qname, None)?,
            (Truth::NxDomain(encloser) | Truth::WildcardNoData(encloser), _) => {
                let mut sets = self.encloser_proof(qname, Some(encloser))?;
                sets.push(covering(&child(encloser, "*")));
                sets
            }
            (Truth::Wildcard(encloser), _) => vec![covering(&qname.trim_to(encloser.iter().count() + 1))],
            (Truth::Answer | Truth::Redirected | Truth::Parents | Truth::Delegated { .. }, _) => Vec::new(),
        };
        sets.dedup();
        Some(sets)
    }

    /// What an honest server shows beside a referral to an insecure delegation.
    pub fn honest_referral(&self, cut: &Name) -> Option<Vec<RrSet>> {
        if self.has_record(cut) { Some(vec![self.record_at_or_before(cut)]) } else { self.encloser_proof(cut, None) }
    }

    fn encloser_proof(&self, qname: &Name, expected: Option<&Name>) -> Option<Vec<RrSet>> {
        let mut labels = qname.iter().count() - 1;
        while !self.has_record(&qname.trim_to(labels)) {
            labels -= 1;
        }
        let encloser = qname.trim_to(labels);
        if expected.is_some_and(|expected| *expected != encloser) {
            return None;
        }
        Some(vec![self.record_at_or_before(&encloser), self.record_at_or_before(&qname.trim_to(labels + 1))])
    }

    /// Whether the name has an NSEC or NSEC3 record of its own.
    pub fn has_record(&self, name: &Name) -> bool {
        let owner = self.denial_owner(name);
        self.denials.iter().any(|set| set.name == owner)
    }

    fn denial_owner(&self, name: &Name) -> Name {
        match &self.denial {
            Denial::Nsec => name.clone(),
            Denial::Nsec3 { salt, iterations, .. } => {
                child(&self.apex, &base32hex(&nsec3_hash(name, salt, *iterations)))
            }
        }
    }

    /// The record that matches or covers the name: the last owner not after it, else the last of all.
    fn record_at_or_before(&self, name: &Name) -> RrSet {
        let owner = self.denial_owner(name);
        let before = self.denials.iter().rev().find(|set| set.name <= owner);
        before.or(self.denials.last()).expect("the apex has a record").clone()
    }

    /// What a server that makes NSEC3 records up as it goes shows (RFC 7129 appendix B): each spans as little as
    /// can be.
    pub fn narrow_denial(&self, qname: &Name, truth: &Truth) -> Option<Vec<RrSet>> {
        let Denial::Nsec3 { salt, iterations, opt_out: false } = &self.denial else { return None };
        let next_closer = |encloser: &Name| qname.trim_to(encloser.iter().count() + 1);
        let span = |name: &Name, before: i8| {
            let hash = nsec3_hash(name, salt, *iterations);
            let record = self.record_at_or_before(name);
            let matches = record.name == self.denial_owner(name);
            let types = if matches { &record.rdatas[0][26 + salt.len()..] } else { &[] };
            let (owner, next) = (neighbour(hash, before), neighbour(hash, 1));
            let rdata = [&record.rdatas[0][..6 + salt.len()], &next, types].concat();
            self.signer.sign(denial_set(child(&self.apex, &base32hex(&owner)), RecordType::NSEC3, rdata))
        };
        let (exact, cover) = (|name: &Name| span(name, 0), |name: &Name| span(name, -1));
        Some(match truth {
            Truth::NoData => vec![exact(qname)],
            Truth::NxDomain(encloser) => {
                vec![exact(encloser), cover(&next_closer(encloser)), cover(&child(encloser, "*"))]
            }
            Truth::Wildcard(encloser) => vec![cover(&next_closer(encloser))],
            Truth::WildcardNoData(encloser) => {
                vec![exact(encloser), cover(&next_closer(encloser)), exact(&child(encloser, "*"))]
            }
            Truth::Answer | Truth::Redirected | Truth::Parents | Truth::Delegated { .. } => return None,
        })
    }

    /// Compact denial of this question (RFC 9824): one NSEC made for it, where it is a denial at all.
    pub fn compact_denial(&self, qname: &Name, truth: &Truth) -> Option<RrSet> {
        let types = match truth {
            Truth::NoData => match self.nodes.get(qname) {
                Some(types) => self.bitmap(types, self.cuts().contains(qname), true),
                None => bitmap(&BTreeSet::from([RRSIG, NSEC])),
            },
            Truth::NxDomain(_) => bitmap(&BTreeSet::from([RRSIG, NSEC, NXNAME])),
            _ => return None,
        };
        let next = child(qname, "\\000");
        Some(self.signer.sign(denial_set(qname.clone(), RecordType::NSEC, [wire_name(&next), types].concat())))
    }
}
