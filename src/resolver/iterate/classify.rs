//! What a message means for the question that was asked of a zone's server. Pure.
//!
//! Only records within the zone's bailiwick count, in every section (RFC 5452 §6); of the additional section
//! nothing but addresses of the name servers in a referral.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use crate::resolver::message::{Message, Rcode};
use crate::resolver::rrset::{RrSet, read_name, wire_name};

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The RRset asked for.
    Answer(RrSet),
    /// An alias to follow.
    Alias(Alias),
    /// Ask the servers of a child zone.
    Referral(Delegation),
    /// The name is there, or may be; nothing of this type.
    NoData,
    /// No such name.
    NxDomain,
}

/// A CNAME, its own or made from a DNAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The CNAME RRset; for a DNAME the one that follows from it (RFC 6672 §3.1), unsigned.
    pub cname: RrSet,
    /// The DNAME RRset.
    pub dname: Option<RrSet>,
    /// Where it leads, lower case.
    pub target: Name,
}

/// A referral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The child zone.
    pub child: Name,
    /// Its NS RRset, as the parent has it.
    pub ns: RrSet,
    /// Addresses of its name servers, as far as they lie below the referring zone.
    pub glue: Vec<(Name, IpAddr)>,
    /// DS RRset of the child.
    pub ds: Option<RrSet>,
    /// NSEC and NSEC3 RRsets.
    pub denial: Vec<RrSet>,
}

/// Why a message is of no use; another server may do better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Useless {
    /// An error of the server's own.
    Error(Rcode),
    /// The server does not serve the zone: no authority, or a referral to the zone itself or upwards.
    Lame,
    /// It makes no sense: an alias that cannot be made, or the like.
    Malformed,
    /// The name that a DNAME leads to would be too long (RFC 6672 §2.2).
    AliasTooLong,
}

/// Judges `message` as the answer to `name` and `rtype` asked of a server of `zone`; `forwarder` where the
/// server recurses, so that authority is not to be expected.
pub fn classify(
    message: &Message,
    zone: &Name,
    name: &Name,
    rtype: RecordType,
    forwarder: bool,
) -> Result<Meaning, Useless> {
    match message.rcode {
        Rcode::NoError | Rcode::NxDomain => {}
        // YXDOMAIN: the name a DNAME leads to is too long.
        Rcode::Other(6) => return Err(Useless::AliasTooLong),
        error => return Err(Useless::Error(error)),
    }
    // The parent's copy of what the child owns (addresses of name servers, in old servers) is no answer.
    if !message.authoritative
        && !forwarder
        && let Some(ns) = referral(message, zone, name, rtype)
    {
        return Ok(Meaning::Referral(delegation(message, zone, ns)));
    }
    if let Some(set) = find(&message.answer, name, rtype) {
        // A recursive server's cached copy is no authority for what only the zone's own servers know.
        return usable(message, forwarder).map(|()| Meaning::Answer(set.clone()));
    }
    if rtype == RecordType::RRSIG
        && let Some(set) = signatures_as_set(message, name)
    {
        return usable(message, forwarder).map(|()| Meaning::Answer(set));
    }
    if let Some(alias) = find_alias(message, zone, name, rtype)? {
        return usable(message, forwarder).map(|()| Meaning::Alias(alias));
    }
    if message.rcode == Rcode::NxDomain {
        return usable(message, forwarder).map(|()| Meaning::NxDomain);
    }
    let has_soa = message
        .authority
        .iter()
        .any(|set| set.rtype == RecordType::SOA && zone.zone_of(&set.name) && set.name.zone_of(name));
    if has_soa {
        return usable(message, forwarder).map(|()| Meaning::NoData);
    }
    if !forwarder && let Some(ns) = referral(message, zone, name, rtype) {
        return Ok(Meaning::Referral(delegation(message, zone, ns)));
    }
    if !message.authoritative && message.authority.iter().any(|set| set.rtype == RecordType::NS) {
        // A referral to the zone itself, upwards or sideways: the server does not serve it.
        return Err(Useless::Lame);
    }
    usable(message, forwarder).map(|()| Meaning::NoData)
}

/// Whether the server speaks with authority. Some servers forget AA on answers that are theirs; an answer with
/// RA and without AA comes from a recursive server, and an empty one without AA from a lame one.
fn usable(message: &Message, forwarder: bool) -> Result<(), Useless> {
    let empty = message.answer.is_empty() && !message.authority.iter().any(|set| set.rtype == RecordType::SOA);
    if forwarder || message.authoritative || (!message.recursion_available && !empty) {
        Ok(())
    } else {
        Err(Useless::Lame)
    }
}

/// The NS RRset of a cut below `zone` on the way to `name`.
fn referral<'a>(message: &'a Message, zone: &Name, name: &Name, rtype: RecordType) -> Option<&'a RrSet> {
    message.authority.iter().find(|set| {
        set.rtype == RecordType::NS && set.name != *zone && zone.zone_of(&set.name) && leads_to(&set.name, name, rtype)
    })
}

/// Whether a delegation at `cut` is on the way to `name`; the DS at the cut is the parent's own business.
fn leads_to(cut: &Name, name: &Name, rtype: RecordType) -> bool {
    cut.zone_of(name) && !(rtype == RecordType::DS && cut == name)
}

/// The RRset of this owner and type.
pub fn find<'a>(sets: &'a [RrSet], name: &Name, rtype: RecordType) -> Option<&'a RrSet> {
    sets.iter().find(|set| set.rtype == rtype && set.name == *name)
}

/// RRSIG records as an RRset of their own, for those who ask for them.
fn signatures_as_set(message: &Message, name: &Name) -> Option<RrSet> {
    let loose = message.loose_sigs.iter().filter(|(owner, _)| owner == name).map(|(_, sig)| sig);
    let beside = message.answer.iter().filter(|set| set.name == *name).flat_map(|set| &set.sigs);
    let sigs: Vec<_> = loose.chain(beside).collect();
    let ttl = sigs.iter().map(|sig| sig.ttl).min()?;
    let rdatas = sigs.iter().map(|sig| [sig.head(), sig.signature.to_vec()].concat().into()).collect();
    Some(RrSet { name: name.clone(), rtype: RecordType::RRSIG, ttl, rdatas, sigs: Vec::new() })
}

fn find_alias(message: &Message, zone: &Name, name: &Name, rtype: RecordType) -> Result<Option<Alias>, Useless> {
    let dname = message.answer.iter().find(|set| {
        set.rtype == RecordType::DNAME && set.name != *name && set.name.zone_of(name) && zone.zone_of(&set.name)
    });
    if let Some(dname) = dname {
        return alias_from_dname(dname, name).map(Some);
    }
    if rtype == RecordType::CNAME {
        return Ok(None);
    }
    let Some(cname) = find(&message.answer, name, RecordType::CNAME) else { return Ok(None) };
    // RFC 2181 §10.1: there is only one canonical name.
    match cname.target_names().as_slice() {
        [target] => Ok(Some(Alias { cname: cname.clone(), dname: None, target: target.clone() })),
        _ => Err(Useless::Malformed),
    }
}

/// Makes the CNAME for `name` from a DNAME above it (RFC 6672 §2.2, §3.1).
pub fn alias_from_dname(dname: &RrSet, name: &Name) -> Result<Alias, Useless> {
    let [rdata] = dname.rdatas.as_slice() else { return Err(Useless::Malformed) };
    let (replacement, _) = read_name(rdata).map_err(|_| Useless::Malformed)?;
    let front = name.iter().count().saturating_sub(dname.name.iter().count());
    let labels = name.iter().take(front).chain(replacement.iter());
    let target = Name::from_labels(labels).map_err(|_| Useless::AliasTooLong)?.to_lowercase();
    if target.len() > 254 {
        return Err(Useless::AliasTooLong);
    }
    let cname = RrSet {
        name: name.clone(),
        rtype: RecordType::CNAME,
        ttl: dname.ttl,
        rdatas: vec![wire_name(&target).into()],
        sigs: Vec::new(),
    };
    Ok(Alias { cname, dname: Some(dname.clone()), target })
}

fn delegation(message: &Message, zone: &Name, ns: &RrSet) -> Delegation {
    let hosts = ns.target_names();
    let mut glue = Vec::new();
    for set in &message.additional {
        // RFC 5452 §6: addresses of names outside the referring zone are somebody else's to give.
        if !zone.zone_of(&set.name) || !hosts.contains(&set.name) {
            continue;
        }
        glue.extend(addresses(set).map(|address| (set.name.clone(), address)));
    }
    let denial = message
        .authority
        .iter()
        .filter(|set| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) && zone.zone_of(&set.name))
        .cloned()
        .collect();
    let ds = find(&message.authority, &ns.name, RecordType::DS).cloned();
    Delegation { child: ns.name.clone(), ns: ns.clone(), glue, ds, denial }
}

/// The addresses in an RRset of type A or AAAA.
pub fn addresses(set: &RrSet) -> impl Iterator<Item = IpAddr> + '_ {
    set.rdatas.iter().filter_map(move |rdata| match set.rtype {
        RecordType::A => <[u8; 4]>::try_from(&**rdata).ok().map(|octets| Ipv4Addr::from(octets).into()),
        RecordType::AAAA => <[u8; 16]>::try_from(&**rdata).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    })
}
