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
    /// A DNAME whose target would be too long a name: YXDOMAIN (RFC 6672 §2.2).
    TooLong(RrSet),
}

impl Meaning {
    /// The RRset of a positive answer whose signature counts: for an alias made from a DNAME, the DNAME.
    pub fn signed_set(&self) -> Option<&RrSet> {
        match self {
            Self::Answer(set) | Self::TooLong(set) => Some(set),
            Self::Alias(alias) => Some(alias.dname.as_ref().unwrap_or(&alias.cname)),
            Self::Referral(_) | Self::NoData | Self::NxDomain => None,
        }
    }
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
    /// Addresses given for name servers elsewhere: somebody else's to give, worth a try for this very
    /// delegation when nothing else leads to its servers.
    pub hints: Vec<(Name, IpAddr)>,
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
    /// An answer out of a recursive server's cache (RA, no AA): worth something when no server does better.
    Recursive,
    /// It makes no sense: an alias that cannot be made, or the like.
    Malformed,
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
        // YXDOMAIN, which only a DNAME can cause here.
        Rcode::Other(6) if find_dname(message, zone, name).is_some() => {}
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
    if let Some(meaning) = find_alias(message, zone, name, rtype)? {
        return usable(message, forwarder).map(|()| meaning);
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
    let upward = |set: &RrSet| set.rtype == RecordType::NS && set.name != *zone && set.name.zone_of(zone);
    if !forwarder && message.authority.iter().any(upward) {
        return Err(Useless::Lame);
    }
    usable(message, forwarder).map(|()| Meaning::NoData)
}

/// Whether the server speaks with authority. Some servers forget AA on answers that are theirs; an answer with
/// RA and without AA comes from a recursive server, and an empty one without AA from a lame one.
fn usable(message: &Message, forwarder: bool) -> Result<(), Useless> {
    let silent = message.answer.is_empty() && message.loose_sigs.is_empty();
    let empty = silent && !message.authority.iter().any(|set| set.rtype == RecordType::SOA);
    match message.recursion_available {
        _ if forwarder || message.authoritative => Ok(()),
        _ if empty => Err(Useless::Lame),
        true => Err(Useless::Recursive),
        false => Ok(()),
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

/// A DNAME above the name.
fn find_dname<'a>(message: &'a Message, zone: &Name, name: &Name) -> Option<&'a RrSet> {
    message.answer.iter().find(|set| {
        set.rtype == RecordType::DNAME && set.name != *name && set.name.zone_of(name) && zone.zone_of(&set.name)
    })
}

fn find_alias(message: &Message, zone: &Name, name: &Name, rtype: RecordType) -> Result<Option<Meaning>, Useless> {
    if let Some(dname) = find_dname(message, zone, name) {
        return meaning_of_dname(dname, name).map(Some);
    }
    if rtype == RecordType::CNAME {
        return Ok(None);
    }
    let Some(cname) = find(&message.answer, name, RecordType::CNAME) else { return Ok(None) };
    // RFC 2181 §10.1: there is only one canonical name.
    match cname.target_names().as_slice() {
        [target] => Ok(Some(Meaning::Alias(Alias { cname: cname.clone(), dname: None, target: target.clone() }))),
        _ => Err(Useless::Malformed),
    }
}

/// Makes the CNAME for `name` from a DNAME above it (RFC 6672 §2.2, §3.1).
fn meaning_of_dname(dname: &RrSet, name: &Name) -> Result<Meaning, Useless> {
    let [rdata] = dname.rdatas.as_slice() else { return Err(Useless::Malformed) };
    let (replacement, _) = read_name(rdata).map_err(|_| Useless::Malformed)?;
    let front = name.iter().count().saturating_sub(dname.name.iter().count());
    let labels: Vec<&[u8]> = name.iter().take(front).chain(replacement.iter()).collect();
    // RFC 1035 §2.3.4: 255 octets with the root label.
    let octets: usize = labels.iter().map(|label| label.len() + 1).sum();
    let target = match Name::from_labels(labels) {
        Ok(target) if octets < 255 => target.to_lowercase(),
        _ => return Ok(Meaning::TooLong(dname.clone())),
    };
    let cname = RrSet {
        name: name.clone(),
        rtype: RecordType::CNAME,
        ttl: dname.ttl,
        rdatas: vec![wire_name(&target).into()],
        sigs: Vec::new(),
    };
    Ok(Meaning::Alias(Alias { cname, dname: Some(dname.clone()), target }))
}

fn delegation(message: &Message, zone: &Name, ns: &RrSet) -> Delegation {
    let hosts = ns.target_names();
    let (mut glue, mut hints) = (Vec::new(), Vec::new());
    for set in message.additional.iter().filter(|set| hosts.contains(&set.name)) {
        let within = zone.zone_of(&set.name);
        let list = if within { &mut glue } else { &mut hints };
        list.extend(addresses(set).map(|address| (set.name.clone(), address)));
    }
    let denial = message
        .authority
        .iter()
        .filter(|set| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) && zone.zone_of(&set.name))
        .cloned()
        .collect();
    let ds = find(&message.authority, &ns.name, RecordType::DS).cloned();
    Delegation { child: ns.name.clone(), ns: ns.clone(), glue, hints, ds, denial }
}

/// The addresses in an RRset of type A or AAAA.
pub fn addresses(set: &RrSet) -> impl Iterator<Item = IpAddr> + '_ {
    set.rdatas.iter().filter_map(move |rdata| match set.rtype {
        RecordType::A => <[u8; 4]>::try_from(&**rdata).ok().map(|octets| Ipv4Addr::from(octets).into()),
        RecordType::AAAA => <[u8; 16]>::try_from(&**rdata).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::rrset::encode_rdata;
    use hickory_proto::rr::{RData, rdata};
    use std::str::FromStr;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("a name")
    }

    fn set(owner: &str, rdata: RData) -> RrSet {
        let rdatas = vec![encode_rdata(&rdata).expect("RDATA")];
        RrSet { name: name(owner), rtype: rdata.record_type(), ttl: 60, rdatas, sigs: Vec::new() }
    }

    fn a(owner: &str) -> RrSet {
        set(owner, RData::A(rdata::A::new(192, 0, 2, 1)))
    }
    fn ns(owner: &str, host: &str) -> RrSet {
        set(owner, RData::NS(rdata::NS(name(host))))
    }
    fn cname(owner: &str, target: &str) -> RrSet {
        set(owner, RData::CNAME(rdata::CNAME(name(target))))
    }
    fn dname(owner: &str, target: &str) -> RrSet {
        RrSet { rtype: RecordType::DNAME, ..cname(owner, target) }
    }
    fn soa(owner: &str) -> RrSet {
        set(owner, RData::SOA(rdata::SOA::new(name("ns."), name("h."), 1, 2, 3, 4, 5)))
    }

    /// A message from its flags (AA, RA), response code and sections.
    fn message(aa: bool, ra: bool, rcode: Rcode, answer: &[RrSet], authority: &[RrSet]) -> Message {
        let mut message = Message::parse(&[0; 12]).expect("a header");
        (message.authoritative, message.recursion_available, message.rcode) = (aa, ra, rcode);
        (message.answer, message.authority) = (answer.to_vec(), authority.to_vec());
        message
    }

    fn meaning(message: &Message, zone: &str, asked: &str, rtype: RecordType) -> String {
        match classify(message, &name(zone), &name(asked), rtype, false) {
            Ok(Meaning::Answer(set)) => format!("answer {}", set.name),
            Ok(Meaning::Alias(alias)) => format!("alias {}", alias.target),
            Ok(Meaning::Referral(to)) => format!("referral {}", to.child),
            Ok(Meaning::TooLong(_)) => "too long".to_owned(),
            Ok(Meaning::NoData) => "nodata".to_owned(),
            Ok(Meaning::NxDomain) => "nxdomain".to_owned(),
            Err(useless) => format!("{useless:?}"),
        }
    }

    #[test]
    fn each_kind_of_message_means_what_it_should() {
        use Rcode::{NoError, NxDomain, Refused};
        let long = format!("{0}.{0}.{0}.", "l".repeat(60));
        let rows: Vec<(&str, Message, &str)> = vec![
            ("an answer", message(true, false, NoError, &[a("a.ex.")], &[]), "answer a.ex."),
            (
                "an answer without AA, as some servers give",
                message(false, false, NoError, &[a("a.ex.")], &[]),
                "answer a.ex.",
            ),
            ("an answer out of a cache", message(false, true, NoError, &[a("a.ex.")], &[]), "Recursive"),
            ("an answer to another name", message(true, false, NoError, &[a("b.ex.")], &[soa("ex.")]), "nodata"),
            ("an alias", message(true, false, NoError, &[cname("a.ex.", "B.other.")], &[]), "alias b.other."),
            (
                "two aliases at one name",
                {
                    let mut two = cname("a.ex.", "b.");
                    two.rdatas.extend(cname("a.ex.", "c.").rdatas);
                    message(true, false, NoError, &[two], &[])
                },
                "Malformed",
            ),
            ("a DNAME", message(true, false, NoError, &[dname("ex.", "other.")], &[]), "alias a.other."),
            (
                "a DNAME outside the zone",
                message(true, false, NoError, &[dname(".", "other.")], &[soa("ex.")]),
                "nodata",
            ),
            ("YXDOMAIN for no reason", message(true, false, Rcode::Other(6), &[], &[]), "Error(Other(6))"),
            ("a referral", message(false, false, NoError, &[], &[ns("a.ex.", "ns.a.ex.")]), "referral a.ex."),
            ("a referral to the zone itself", message(false, false, NoError, &[], &[ns("ex.", "ns.ex.")]), "Lame"),
            ("a referral upwards with AA", message(true, false, NoError, &[], &[ns(".", "ns.")]), "Lame"),
            ("a referral upwards", message(false, false, NoError, &[], &[ns(".", "ns.")]), "Lame"),
            ("a referral elsewhere", message(false, false, NoError, &[], &[ns("b.ex.", "ns.b.ex.")]), "Lame"),
            (
                "the parent's copy of the child's address",
                message(false, false, NoError, &[a("a.ex.")], &[ns("a.ex.", "a.ex.")]),
                "referral a.ex.",
            ),
            ("NODATA", message(true, false, NoError, &[], &[soa("ex.")]), "nodata"),
            (
                "NODATA with the zone's NS",
                message(true, false, NoError, &[], &[soa("ex."), ns("ex.", "ns.ex.")]),
                "nodata",
            ),
            ("NODATA with nothing", message(true, false, NoError, &[], &[]), "nodata"),
            ("nothing at all, without authority", message(false, false, NoError, &[], &[]), "Lame"),
            ("NXDOMAIN", message(true, false, NxDomain, &[], &[soa("ex.")]), "nxdomain"),
            (
                "NXDOMAIN with the zone's NS",
                message(true, false, NxDomain, &[], &[soa("ex."), ns("ex.", "ns.ex.")]),
                "nxdomain",
            ),
            ("REFUSED", message(false, false, Refused, &[], &[]), "Error(Refused)"),
        ];
        for (what, message, expected) in rows {
            assert_eq!(meaning(&message, "ex.", "a.ex.", RecordType::A), expected, "{what}");
        }
        let too_long =
            message(true, false, Rcode::Other(6), &[dname("ex.", &format!("{long}{}.", "m".repeat(60)))], &[]);
        let asked = format!("{}.ex.", "n".repeat(60));
        assert_eq!(meaning(&too_long, "ex.", &asked, RecordType::A), "too long");
        // The DS of a delegation is the parent's: a referral instead is no answer.
        let referral = message(false, false, NoError, &[], &[ns("a.ex.", "ns.a.ex.")]);
        assert_eq!(meaning(&referral, "ex.", "a.ex.", RecordType::DS), "Lame");
    }

    #[test]
    fn glue_counts_only_for_the_name_servers_and_below_the_zone_that_refers() {
        let mut message = message(false, false, Rcode::NoError, &[], &[ns("a.ex.", "ns.a.ex.")]);
        message.authority.first_mut().expect("NS").rdatas.extend(ns("a.ex.", "ns.other.").rdatas);
        message.additional = vec![a("ns.a.ex."), a("ns.other."), a("www.a.ex.")];
        let Ok(Meaning::Referral(to)) = classify(&message, &name("ex."), &name("b.a.ex."), RecordType::A, false) else {
            panic!("a referral")
        };
        assert_eq!(to.glue, vec![(name("ns.a.ex."), IpAddr::from([192, 0, 2, 1]))]);
        assert_eq!(to.hints, vec![(name("ns.other."), IpAddr::from([192, 0, 2, 1]))]);
    }
}
