//! A zone: its records, keys and denial chain. What it says to a question is in `answer`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::key::{KSK, ZSK, ZoneKey, dnskey_set};
use super::name::DnsName;
use super::record::{Part, Rdata, Record, RrSet, base32hex, nsec3_hash, parse_records, rtype, type_bitmap};

/// How a zone proves what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    Nsec,
    Nsec3 {
        iterations: u16,
        salt: Vec<u8>,
        opt_out: bool,
    },
    /// Signed, but without any denial records: broken for anything that is not there.
    None,
}

impl Denial {
    /// NSEC3 as RFC 9276 wants it: no iterations, no salt.
    pub fn nsec3() -> Self {
        Self::Nsec3 { iterations: 0, salt: Vec::new(), opt_out: false }
    }

    pub fn opt_out() -> Self {
        Self::Nsec3 { iterations: 0, salt: Vec::new(), opt_out: true }
    }
}

/// What the parent says about a zone's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delegation {
    /// A DS (SHA-256) for each key-signing key, where the zone is signed.
    Secure,
    /// A DS with each of these digest types.
    Digests(Vec<u8>),
    /// No DS, signed or not.
    Insecure,
    /// A DS of this algorithm number instead of the key's.
    Algorithm(u8),
    /// A DS of this digest type number, with noise for a digest.
    UnknownDigest(u8),
    /// A DS with a wrong digest.
    WrongDigest,
    /// A DS for a key that is not there, besides the right one.
    WithStranger,
    /// The parent knows nothing of the zone: it is served, but not delegated.
    Missing,
}

/// One zone, as a test writes it.
pub struct Zone {
    pub name: DnsName,
    pub keys: Vec<ZoneKey>,
    pub denial: Denial,
    pub delegation: Delegation,
    /// Names and addresses of its servers; addresses outside the zone are glue only where the parent can have it.
    pub nameservers: Vec<(DnsName, Vec<IpAddr>)>,
    /// NS names in the parent, where they differ from those in the zone.
    pub parent_ns: Option<Vec<DnsName>>,
    /// TTL of records that name none.
    pub ttl: u32,
    /// Number of servers it gets where it names none.
    pub server_count: usize,
    sets: BTreeMap<(DnsName, u16), RrSet>,
    /// Owners of authoritative data and delegations, with their types; empty non-terminals with none.
    nodes: BTreeMap<DnsName, BTreeSet<u16>>,
    /// NSEC3 owner hashes, sorted, with the name each stands for.
    hashes: BTreeMap<Vec<u8>, DnsName>,
}

impl Zone {
    /// An unsigned zone with one server.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            keys: Vec::new(),
            denial: Denial::Nsec,
            delegation: Delegation::Secure,
            nameservers: Vec::new(),
            parent_ns: None,
            ttl: 3600,
            server_count: 1,
            sets: BTreeMap::new(),
            nodes: BTreeMap::new(),
            hashes: BTreeMap::new(),
        }
    }

    /// Signs with a key-signing and a zone-signing key of this algorithm.
    pub fn signed(self, algorithm: u8) -> Self {
        self.keys(vec![ZoneKey::new(algorithm, KSK), ZoneKey::new(algorithm, ZSK)])
    }

    /// Signs with these keys: those with the SEP flag sign the keys, the others the rest; without others, they
    /// sign everything.
    pub fn keys(mut self, keys: Vec<ZoneKey>) -> Self {
        self.keys = keys;
        self
    }

    pub fn denial(mut self, denial: Denial) -> Self {
        self.denial = denial;
        self
    }

    pub fn delegation(mut self, delegation: Delegation) -> Self {
        self.delegation = delegation;
        self
    }

    pub fn ttl(mut self, ttl: u32) -> Self {
        self.ttl = ttl;
        self
    }

    /// This many servers with addresses of their own, `ns1`, `ns2`, … in the zone.
    pub fn servers(mut self, count: usize) -> Self {
        self.server_count = count;
        self
    }

    /// A server by name. Without addresses here, the name is an ordinary host of another zone of the world.
    pub fn nameserver(mut self, name: &str, addresses: &[IpAddr]) -> Self {
        self.nameservers.push((name.into(), addresses.to_vec()));
        self
    }

    pub fn parent_ns(mut self, names: &[&str]) -> Self {
        self.parent_ns = Some(names.iter().map(|name| DnsName::from(*name)).collect());
        self
    }

    /// Adds records: lines of `name [ttl] TYPE rdata`, names relative to the zone.
    pub fn records(mut self, text: &str) -> Self {
        for record in parse_records(text, &self.name, self.ttl) {
            self.add(record);
        }
        self
    }

    pub fn is_signed(&self) -> bool {
        !self.keys.is_empty()
    }

    pub fn add(&mut self, record: Record) {
        let Record { name, rtype, ttl, rdata } = record;
        let key = (name.clone(), rtype);
        let set = self.sets.entry(key).or_insert_with(|| RrSet { name, rtype, ttl, rdatas: Vec::new() });
        if !set.rdatas.contains(&rdata) {
            set.rdatas.push(rdata);
        }
    }

    pub fn add_rdata(&mut self, name: &DnsName, rtype: u16, rdata: Rdata) {
        self.add(Record { name: name.clone(), rtype, ttl: self.ttl, rdata });
    }

    pub fn remove(&mut self, name: &DnsName, rtype: u16) {
        self.sets.remove(&(name.clone(), rtype));
    }

    pub fn set(&self, name: &DnsName, rtype: u16) -> Option<&RrSet> {
        self.sets.get(&(name.clone(), rtype))
    }

    /// RDATA of the DS records that the parent publishes.
    pub fn ds_rdatas(&self) -> Vec<Rdata> {
        let ksks: Vec<&ZoneKey> = self.keys.iter().filter(|key| key.is_ksk()).collect();
        let good = || ksks.iter().map(|key| key.ds(&self.name, 2)).collect::<Vec<_>>();
        let patched = |patch: &dyn Fn(&mut Vec<u8>)| {
            let patch_one = |rdata: Rdata| {
                let mut octets = rdata.wire();
                patch(&mut octets);
                Rdata::octets(octets)
            };
            good().into_iter().map(patch_one).collect::<Vec<_>>()
        };
        match &self.delegation {
            Delegation::Secure => good(),
            Delegation::Digests(types) => {
                ksks.iter().flat_map(|key| types.iter().map(|digest| key.ds(&self.name, *digest))).collect()
            }
            Delegation::Insecure | Delegation::Missing => Vec::new(),
            Delegation::Algorithm(number) => patched(&|octets| octets[2] = *number),
            Delegation::UnknownDigest(number) => patched(&|octets| octets[3] = *number),
            Delegation::WrongDigest => patched(&|octets| octets[4] ^= 1),
            Delegation::WithStranger => {
                let stranger = ZoneKey::new(self.keys[0].algorithm.max(13), KSK);
                [good(), vec![stranger.ds(&self.name, 2)]].concat()
            }
        }
    }

    /// Puts apex and denial chain in place; to be called after every change.
    pub fn finish(&mut self) {
        let apex = self.name.clone();
        if self.set(&apex, rtype::SOA).is_none() {
            let server = self.nameservers.first().map_or_else(|| apex.clone(), |(name, _)| name.clone());
            let mut soa = vec![Part::Name(server), Part::Name(apex.child(b"hostmaster"))];
            let numbers = [1_u32, 7200, 3600, 1_209_600, self.ttl.min(900)];
            soa.push(Part::Octets(numbers.iter().flat_map(|number| number.to_be_bytes()).collect()));
            // RFC 9077 §3: denials live as long as SOA TTL and minimum both allow; here they are equal.
            self.add(Record { name: apex.clone(), rtype: rtype::SOA, ttl: self.ttl.min(900), rdata: Rdata(soa) });
        }
        if self.set(&apex, rtype::NS).is_none() {
            for (name, _) in self.nameservers.clone() {
                self.add_rdata(&apex, rtype::NS, Rdata::name(name));
            }
        }
        for (name, addresses) in self.nameservers.clone() {
            if name.is_at_or_below(&apex) {
                self.add_addresses(&name, &addresses);
            }
        }
        if self.is_signed() && self.set(&apex, rtype::DNSKEY).is_none() {
            let set = dnskey_set(&apex, self.ttl, &self.keys);
            self.sets.insert((apex.clone(), rtype::DNSKEY), set);
        }
        if let (true, Denial::Nsec3 { iterations, salt, .. }) = (self.is_signed(), self.denial.clone()) {
            let mut octets = nsec3_head(0, iterations, &salt);
            octets.truncate(5 + salt.len());
            self.remove(&apex, rtype::NSEC3PARAM);
            self.add_rdata(&apex, rtype::NSEC3PARAM, Rdata::octets(octets));
        }
        self.build_nodes();
        self.build_hashes();
    }

    pub fn add_addresses(&mut self, name: &DnsName, addresses: &[IpAddr]) {
        for address in addresses {
            match address {
                IpAddr::V4(v4) => self.add_rdata(name, rtype::A, Rdata::octets(v4.octets())),
                IpAddr::V6(v6) => self.add_rdata(name, rtype::AAAA, Rdata::octets(v6.octets())),
            }
        }
    }

    fn build_nodes(&mut self) {
        self.nodes.clear();
        for (name, rtype) in self.sets.keys() {
            if self.is_occluded(name) || (self.is_cut(name) && !matches!(*rtype, rtype::NS | rtype::DS)) {
                continue;
            }
            self.nodes.entry(name.clone()).or_default().insert(*rtype);
            for above in name.and_ancestors().skip(1).take_while(|above| above.is_at_or_below(&self.name)) {
                self.nodes.entry(above).or_default();
            }
        }
    }

    fn build_hashes(&mut self) {
        self.hashes.clear();
        let Denial::Nsec3 { iterations, salt, opt_out } = &self.denial else { return };
        // Opt-out leaves out unsigned delegations and the empty non-terminals only they need (RFC 5155 §7.1).
        let left_out = |name: &DnsName| *opt_out && self.is_cut(name) && self.set(name, rtype::DS).is_none();
        let kept: BTreeSet<DnsName> = self
            .nodes
            .iter()
            .filter(|(name, types)| !types.is_empty() && !left_out(name))
            .flat_map(|(name, _)| {
                name.and_ancestors().take_while(|above| above.is_at_or_below(&self.name)).collect::<Vec<_>>()
            })
            .collect();
        self.hashes = kept.into_iter().map(|name| (nsec3_hash(&name, *iterations, salt), name)).collect();
    }

    /// A delegation point of this zone.
    pub fn is_cut(&self, name: &DnsName) -> bool {
        *name != self.name && self.set(name, rtype::NS).is_some()
    }

    /// Below a delegation or a DNAME: not this zone's data.
    fn is_occluded(&self, name: &DnsName) -> bool {
        name.and_ancestors()
            .skip(1)
            .take_while(|above| above.is_at_or_below(&self.name))
            .any(|above| self.is_cut(&above) || self.set(&above, rtype::DNAME).is_some())
    }

    /// The name is there: with records, or as an empty non-terminal.
    pub fn exists(&self, name: &DnsName) -> bool {
        self.nodes.contains_key(name)
    }

    /// The records of one node, for a question of type ANY.
    pub fn node_types(&self, name: &DnsName) -> Vec<u16> {
        self.nodes.get(name).map(|types| types.iter().copied().collect()).unwrap_or_default()
    }

    /// Negative TTL (RFC 2308 §5).
    pub fn negative_ttl(&self) -> u32 {
        let soa = self.set(&self.name, rtype::SOA).unwrap();
        let octets = soa.rdatas[0].wire();
        let minimum = u32::from_be_bytes(octets[octets.len() - 4..].try_into().unwrap());
        soa.ttl.min(minimum)
    }

    /// The NSEC record at `name`, or the one that covers it.
    pub fn nsec_for(&self, name: &DnsName) -> RrSet {
        let with_data = |entry: &(&DnsName, &BTreeSet<u16>)| !entry.1.is_empty();
        let (owner, types) = self.nodes.range(..=name.clone()).rev().find(with_data).unwrap();
        let after = (std::ops::Bound::Excluded(owner.clone()), std::ops::Bound::Unbounded);
        let next = self.nodes.range(after).find(with_data).map_or(&self.name, |(next, _)| next);
        let bitmap = type_bitmap(types.iter().copied().chain([rtype::RRSIG, rtype::NSEC]));
        let rdata = Rdata(vec![Part::Name(next.clone()), Part::Octets(bitmap)]);
        RrSet { name: owner.clone(), rtype: rtype::NSEC, ttl: self.negative_ttl(), rdatas: vec![rdata] }
    }

    /// The NSEC3 record that matches `name`, or the one that covers it; true where it matches.
    pub fn nsec3_for(&self, name: &DnsName) -> (RrSet, bool) {
        let Denial::Nsec3 { iterations, salt, opt_out } = &self.denial else { panic!("{} has no NSEC3", self.name) };
        let hash = nsec3_hash(name, *iterations, salt);
        let at_or_before = self.hashes.range(..=hash.clone()).next_back().or_else(|| self.hashes.last_key_value());
        let (owner_hash, owner) = at_or_before.unwrap();
        let after = (std::ops::Bound::Excluded(owner_hash.clone()), std::ops::Bound::Unbounded);
        let next = self.hashes.range(after).next().or_else(|| self.hashes.first_key_value()).unwrap().0;
        let types = &self.nodes[owner];
        let signed = types.iter().any(|rtype| *rtype != rtype::NS || *owner == self.name);
        let bitmap = type_bitmap(types.iter().copied().chain(signed.then_some(rtype::RRSIG)));
        let mut octets = nsec3_head(u8::from(*opt_out), *iterations, salt);
        octets.push(next.len() as u8);
        octets.extend_from_slice(next);
        octets.extend(bitmap);
        let set = RrSet {
            name: self.name.child(&base32hex(owner_hash)),
            rtype: rtype::NSEC3,
            ttl: self.negative_ttl(),
            rdatas: vec![Rdata::octets(octets)],
        };
        (set, *owner_hash == hash)
    }

    /// The keys that sign this type.
    pub fn signing_keys(&self, rtype: u16) -> Vec<&ZoneKey> {
        let wants_ksk = rtype == rtype::DNSKEY;
        let fitting: Vec<&ZoneKey> = self.keys.iter().filter(|key| key.is_ksk() == wants_ksk).collect();
        if fitting.is_empty() { self.keys.iter().collect() } else { fitting }
    }
}

fn nsec3_head(flags: u8, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let [i0, i1] = iterations.to_be_bytes();
    let mut octets = vec![1, flags, i0, i1, salt.len() as u8];
    octets.extend_from_slice(salt);
    octets
}
