//! What an authoritative server says about one zone (RFC 1034 §4.3.2, RFC 4035 §3.1, RFC 5155 §7.2).

use super::name::DnsName;
use super::record::{Rdata, RrSet, rtype};
use super::zone::{Denial, Zone};

/// Response codes.
pub mod rcode {
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NXDOMAIN: u16 = 3;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
}

/// An RRset in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub set: RrSet,
    /// The owner it has in the zone, a wildcard perhaps, where it is to be signed; `None` leaves it unsigned.
    pub source: Option<DnsName>,
    /// Zone whose keys sign it.
    pub zone: DnsName,
}

/// A reply before it is signed and written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub rcode: u16,
    pub authoritative: bool,
    pub truncated: bool,
    pub answer: Vec<Item>,
    pub authority: Vec<Item>,
    pub additional: Vec<Item>,
}

impl Reply {
    /// Nothing but a response code.
    pub fn code(rcode: u16) -> Self {
        Self { rcode, ..Self::default() }
    }

    /// An authoritative answer that has nothing of the type asked for.
    pub fn is_nodata(&self) -> bool {
        self.answer.is_empty() && self.rcode == rcode::NOERROR && self.authoritative
    }

    pub fn sections(&mut self) -> [&mut Vec<Item>; 3] {
        [&mut self.answer, &mut self.authority, &mut self.additional]
    }

    /// Drops RRsets of these types from all sections.
    pub fn drop_types(&mut self, types: &[u16]) {
        for section in self.sections() {
            section.retain(|item| !types.contains(&item.set.rtype));
        }
    }
}

/// The reply of a server of `zone`, all DNSSEC records included.
pub fn answer(zone: &Zone, name: &DnsName, qtype: u16) -> Reply {
    let mut reply = Reply { authoritative: true, ..Reply::default() };
    let mut name = name.clone();
    for _ in 0..12 {
        if let Some(cut) = cut_above(zone, &name, qtype) {
            refer(zone, &cut, &mut reply);
            return reply;
        }
        match step(zone, &name, qtype, &mut reply) {
            Some(target) if target.is_at_or_below(&zone.name) => name = target,
            _ => break,
        }
    }
    reply
}

/// The delegation that takes `name` out of the zone. The DS of a cut is the parent's (RFC 4035 §3.1.4.1).
fn cut_above(zone: &Zone, name: &DnsName, qtype: u16) -> Option<DnsName> {
    let names: Vec<DnsName> = name.and_ancestors().take_while(|above| above.is_below(&zone.name)).collect();
    names.into_iter().rev().find(|above| zone.is_cut(above) && !(above == name && qtype == rtype::DS))
}

/// Answers for one name; gives the name to go on with after an alias.
fn step(zone: &Zone, name: &DnsName, qtype: u16, reply: &mut Reply) -> Option<DnsName> {
    let dname = name.and_ancestors().skip(1).find_map(|above| zone.set(&above, rtype::DNAME));
    if let Some(dname) = dname.filter(|set| set.name.is_at_or_below(&zone.name)) {
        let target = name.rebased(&dname.name, dname.rdatas[0].target().unwrap());
        let made = RrSet {
            name: name.clone(),
            rtype: rtype::CNAME,
            ttl: dname.ttl,
            rdatas: vec![Rdata::name(target.clone())],
        };
        reply.answer.push(item(zone, dname, &dname.name));
        reply.answer.push(Item { set: made, source: None, zone: zone.name.clone() });
        return (qtype != rtype::CNAME).then_some(target);
    }
    let (source, encloser) = source_of(zone, name);
    let Some(source) = source else {
        reply.rcode = rcode::NXDOMAIN;
        deny_name(zone, name, &encloser, reply);
        return None;
    };
    if source != *name {
        prove_expansion(zone, name, &encloser, reply);
    }
    let shown = |set: &RrSet| RrSet { name: name.clone(), ..set.clone() };
    if qtype == rtype::ANY {
        for found in zone.node_types(&source) {
            let set = zone.set(&source, found).unwrap();
            reply.answer.push(item(zone, &shown(set), &source));
        }
        return None;
    }
    if let Some(set) = zone.set(&source, qtype) {
        reply.answer.push(item(zone, &shown(set), &source));
        add_addresses(zone, set, reply);
        return None;
    }
    if let Some(alias) = zone.set(&source, rtype::CNAME) {
        reply.answer.push(item(zone, &shown(alias), &source));
        return alias.rdatas[0].target().cloned();
    }
    deny_type(zone, &source, &encloser, reply);
    None
}

/// The node that answers for `name` (itself, or a wildcard) and the closest encloser.
fn source_of(zone: &Zone, name: &DnsName) -> (Option<DnsName>, DnsName) {
    if zone.exists(name) {
        return (Some(name.clone()), name.clone());
    }
    let encloser = name.and_ancestors().find(|above| zone.exists(above)).unwrap_or_else(|| zone.name.clone());
    let wildcard = encloser.child(b"*");
    (zone.exists(&wildcard).then_some(wildcard), encloser)
}

fn item(zone: &Zone, set: &RrSet, source: &DnsName) -> Item {
    Item { set: set.clone(), source: zone.is_signed().then(|| source.clone()), zone: zone.name.clone() }
}

fn push_once(section: &mut Vec<Item>, item: Item) {
    if !section.contains(&item) {
        section.push(item);
    }
}

fn add_addresses(zone: &Zone, set: &RrSet, reply: &mut Reply) {
    if set.rtype != rtype::NS {
        return;
    }
    for target in set.rdatas.iter().filter_map(Rdata::target) {
        for address_type in [rtype::A, rtype::AAAA] {
            if let Some(addresses) = zone.set(target, address_type) {
                let glue = cut_above(zone, target, address_type).is_some();
                let source = (zone.is_signed() && !glue).then(|| target.clone());
                push_once(&mut reply.additional, Item { set: addresses.clone(), source, zone: zone.name.clone() });
            }
        }
    }
}

fn refer(zone: &Zone, cut: &DnsName, reply: &mut Reply) {
    // After an alias within the zone, the answer so far is authoritative and the referral comes beside it.
    reply.authoritative = !reply.answer.is_empty();
    let delegation = zone.set(cut, rtype::NS).unwrap().clone();
    reply.authority.push(Item { set: delegation.clone(), source: None, zone: zone.name.clone() });
    if let Some(ds) = zone.set(cut, rtype::DS) {
        reply.authority.push(item(zone, ds, cut));
    } else if zone.is_signed() {
        let mut proof = Reply::default();
        deny_type(zone, cut, cut, &mut proof);
        reply.authority.extend(proof.authority.into_iter().filter(|item| item.set.rtype != rtype::SOA));
    }
    add_addresses(zone, &delegation, reply);
}

fn add_soa(zone: &Zone, reply: &mut Reply) {
    // Its TTL is the negative one already: `Zone::finish` sees to that (RFC 2308 §3, RFC 9077 §3).
    let soa = zone.set(&zone.name, rtype::SOA).unwrap();
    push_once(&mut reply.authority, item(zone, soa, &soa.name));
}

fn push_nsec(zone: &Zone, name: &DnsName, reply: &mut Reply) {
    let set = zone.nsec_for(name);
    let source = set.name.clone();
    push_once(&mut reply.authority, item(zone, &set, &source));
}

/// Pushes the NSEC3 that matches or covers `name`; true where it matches.
fn push_nsec3(zone: &Zone, name: &DnsName, reply: &mut Reply) -> bool {
    let (set, matches) = zone.nsec3_for(name);
    let source = set.name.clone();
    push_once(&mut reply.authority, item(zone, &set, &source));
    matches
}

/// The name one label below `encloser` towards `name`.
fn next_closer(name: &DnsName, encloser: &DnsName) -> DnsName {
    name.and_ancestors().take_while(|above| above.is_below(encloser)).last().unwrap_or_else(|| name.clone())
}

/// The closest name at or above `encloser` that has an NSEC3 record: opt-out leaves some names without.
fn provable_encloser(zone: &Zone, encloser: &DnsName) -> DnsName {
    encloser.and_ancestors().find(|above| zone.nsec3_for(above).1).unwrap()
}

/// NXDOMAIN: the name is not there, nor a wildcard for it.
fn deny_name(zone: &Zone, name: &DnsName, encloser: &DnsName, reply: &mut Reply) {
    add_soa(zone, reply);
    match (&zone.denial, zone.is_signed()) {
        (_, false) | (Denial::None, _) => {}
        (Denial::Nsec, true) => {
            push_nsec(zone, name, reply);
            push_nsec(zone, &encloser.child(b"*"), reply);
        }
        (Denial::Nsec3 { .. }, true) => {
            let encloser = provable_encloser(zone, encloser);
            push_nsec3(zone, &encloser, reply);
            push_nsec3(zone, &next_closer(name, &encloser), reply);
            push_nsec3(zone, &encloser.child(b"*"), reply);
        }
    }
}

/// A wildcard was used: nothing closer is there.
fn prove_expansion(zone: &Zone, name: &DnsName, encloser: &DnsName, reply: &mut Reply) {
    match (&zone.denial, zone.is_signed()) {
        (_, false) | (Denial::None, _) => {}
        (Denial::Nsec, true) => push_nsec(zone, name, reply),
        (Denial::Nsec3 { .. }, true) => {
            push_nsec3(zone, &next_closer(name, encloser), reply);
        }
    }
}

/// NODATA at `source`: the name or the wildcard that stands for it, below `encloser`.
fn deny_type(zone: &Zone, source: &DnsName, encloser: &DnsName, reply: &mut Reply) {
    add_soa(zone, reply);
    match (&zone.denial, zone.is_signed()) {
        (_, false) | (Denial::None, _) => {}
        (Denial::Nsec, true) => push_nsec(zone, source, reply),
        (Denial::Nsec3 { .. }, true) => {
            if source.is_wildcard() && source != encloser {
                push_nsec3(zone, encloser, reply);
            }
            if !push_nsec3(zone, source, reply) {
                // Opted out: the closest encloser that has a record, and the span over the next closer name.
                let provable = provable_encloser(zone, &source.parent().unwrap());
                reply.authority.retain(|item| item.set.rtype != rtype::NSEC3);
                push_nsec3(zone, &provable, reply);
                push_nsec3(zone, &next_closer(source, &provable), reply);
            }
        }
    }
}
