//! Names that never leave this host: special-use names (RFC 6761, 7686, 8375, 9462, 9665) and reverse zones of
//! private address space (RFC 6303, 7793). A pure function of name and type.

use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use crate::dns::Security;
use crate::resolver::resolution::{End, Part, Resolution};
use crate::resolver::rrset::{RrSet, wire_name};

/// TTL of local answers (RFC 6303 §3).
const TTL: u32 = 10_800;
/// Refresh, retry, expire and negative TTL of local zones (RFC 6303 §3).
const SOA_TIMES: [u32; 5] = [1, 3_600, 1_200, 604_800, TTL];

/// Zones whose only names are their apexes (RFC 6303 §4; RFC 8375, RFC 9462, RFC 9665); 16–31.172 and 64–127.100 come on top.
const EMPTY: [&str; 17] = [
    "0.in-addr.arpa.",
    "10.in-addr.arpa.",
    "254.169.in-addr.arpa.",
    "168.192.in-addr.arpa.",
    "2.0.192.in-addr.arpa.",
    "100.51.198.in-addr.arpa.",
    "113.0.203.in-addr.arpa.",
    "255.255.255.255.in-addr.arpa.",
    "8.b.d.0.1.0.0.2.ip6.arpa.",
    "d.f.ip6.arpa.",
    "8.e.f.ip6.arpa.",
    "9.e.f.ip6.arpa.",
    "a.e.f.ip6.arpa.",
    "b.e.f.ip6.arpa.",
    "home.arpa.",
    "resolver.arpa.",
    "service.arpa.",
];
/// Reverse zones of addresses that are this host.
const LOOPBACK: [&str; 2] =
    ["127.in-addr.arpa.", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa."];
/// The unspecified address, reversed.
const UNSPECIFIED: &str = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.";
/// Top-level names that never exist in DNS (RFC 6761 §6.4, RFC 7686 §2).
const NONEXISTENT: [&str; 2] = ["invalid.", "onion."];
/// Nobody's name in the public DNS, but any laboratory's (RFC 6761 §6.2).
const TEST: &str = "test.";
/// The name that the loopback address points to.
const LOCALHOST: &str = "localhost.";
/// The one address below `127.in-addr.arpa` that points to `localhost`; there are 16 million others.
const LOCALHOST_V4: &str = "1.0.0.127.in-addr.arpa.";

/// The zones answered here.
#[derive(Debug)]
pub(super) struct Local {
    zones: HashMap<Name, Kind>,
    /// Zones that go to named servers win, so that a site can serve its own reverse zones.
    forwarded: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Every name in it is this host (RFC 6761 §6.3).
    Localhost,
    /// The reverse of it.
    Loopback,
    /// Nothing but an apex with SOA and NS (RFC 6303 §3).
    Empty,
    /// Not even that.
    Nonexistent,
}

impl Local {
    /// All zones; `forwarded` are those that the operator sends to named servers. Below a private root, `test.` may
    /// well exist.
    pub fn new(forwarded: Vec<Name>, private_root: bool) -> Self {
        let ranges = (16..32).map(|n| format!("{n}.172.in-addr.arpa."));
        let shared = (64..128).map(|n| format!("{n}.100.in-addr.arpa."));
        let empty = EMPTY.iter().chain([&UNSPECIFIED]).map(|zone| (*zone).to_owned()).chain(ranges).chain(shared);
        let fixed = |zones: &[&str], kind: Kind| zones.iter().map(move |zone| (zone.to_string(), kind)).collect();
        let mut all: Vec<(String, Kind)> = fixed(&LOOPBACK, Kind::Loopback);
        all.append(&mut fixed(&NONEXISTENT, Kind::Nonexistent));
        all.extend((!private_root).then(|| (TEST.to_owned(), Kind::Nonexistent)));
        all.push((LOCALHOST.to_owned(), Kind::Localhost));
        all.extend(empty.map(|zone| (zone, Kind::Empty)));
        let zones = all.into_iter().map(|(zone, kind)| (name(&zone), kind)).collect();
        Self { zones, forwarded: forwarded.into_iter().filter(|zone| !zone.is_root()).collect() }
    }

    /// Whether `name` (lower case) is answered here.
    pub fn owns(&self, name: &Name, rtype: RecordType) -> bool {
        self.zone_of(name, rtype).is_some()
    }

    fn zone_of(&self, name: &Name, rtype: RecordType) -> Option<(&Name, Kind)> {
        let top = name.iter().next_back()?;
        // Nothing else holds local zones: most names end here.
        if !matches!(top, b"arpa" | b"localhost" | b"invalid" | b"onion" | b"test") {
            return None;
        }
        let labels = usize::from(name.num_labels());
        let (zone, kind) = (1..=labels).rev().find_map(|n| self.zones.get_key_value(&name.trim_to(n)))?;
        // A DS is the parent's, and proves to those who validate that the zone is unsigned (RFC 8375 §4).
        let is_of_parent = rtype == RecordType::DS && name == zone && zone.num_labels() > 1;
        let leaves = is_of_parent || self.forwarded.iter().any(|forwarded| forwarded.zone_of(name));
        (!leaves).then_some((zone, *kind))
    }

    /// The answer, where `name` (lower case) is answered here.
    pub fn answer(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        let (zone, kind) = self.zone_of(name, rtype)?;
        let found = records(kind, zone, name, rtype);
        let exists = found.is_some() || name == zone && kind != Kind::Nonexistent || kind == Kind::Localhost;
        Some(match found.flatten() {
            Some(rdata) => resolution(name, End::Records, Some(set(name, rtype, rdata)), None),
            None => {
                let end = if exists { End::NoData } else { End::NxDomain };
                resolution(name, end, None, Some(set(zone, RecordType::SOA, soa(zone))))
            }
        })
    }
}

/// The record at `name`: `None` where the name has nothing at all, `Some(None)` where not of this type.
fn records(kind: Kind, zone: &Name, name: &Name, rtype: RecordType) -> Option<Option<Vec<u8>>> {
    let apex = name == zone;
    let points_here = kind == Kind::Loopback && (apex && zone.num_labels() > 3 || *name == self::name(LOCALHOST_V4));
    let rdata = match rtype {
        RecordType::A if kind == Kind::Localhost => vec![127, 0, 0, 1],
        RecordType::AAAA if kind == Kind::Localhost => [&[0; 15][..], &[1]].concat(),
        RecordType::PTR if points_here => wire_name(&self::name(LOCALHOST)),
        RecordType::SOA if apex && kind != Kind::Nonexistent => soa(zone),
        RecordType::NS if apex && kind != Kind::Nonexistent => wire_name(zone),
        _ => return points_here.then_some(None),
    };
    Some(Some(rdata))
}

/// `@ SOA @ nobody.invalid.` (RFC 6303 §3).
fn soa(zone: &Name) -> Vec<u8> {
    let mut rdata = wire_name(zone);
    rdata.extend(wire_name(&name("nobody.invalid.")));
    rdata.extend(SOA_TIMES.iter().flat_map(|time| time.to_be_bytes()));
    rdata
}

fn set(name: &Name, rtype: RecordType, rdata: Vec<u8>) -> Part {
    let set = RrSet { name: name.clone(), rtype, ttl: TTL, rdatas: vec![rdata.into()], sigs: Vec::new() };
    Part { set: Arc::new(set), ttl: TTL }
}

fn resolution(name: &Name, end: End, answer: Option<Part>, authority: Option<Part>) -> Resolution {
    Resolution {
        end,
        answer: answer.into_iter().collect(),
        authority: authority.into_iter().collect(),
        canonical: name.clone(),
        security: Security::Insecure,
        ttl: TTL,
        unchecked: None,
    }
}

#[allow(clippy::expect_used, reason = "all texts are constants or made of small numbers, and tested")]
fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a valid name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_names_and_private_reverse_zones_are_answered_here_and_nothing_else() {
        let local = Local::new(vec![name("10.in-addr.arpa."), name("lab.home.arpa."), Name::root()], false);
        let one = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.";
        use RecordType::{A, AAAA, DS, MX, NS, PTR, SOA};
        let rows: [(&str, RecordType, Option<End>); 33] = [
            ("localhost.", A, Some(End::Records)),
            ("any.localhost.", AAAA, Some(End::Records)),
            ("localhost.", MX, Some(End::NoData)),
            ("localhost.example.com.", A, None),
            ("invalid.", A, Some(End::NxDomain)),
            ("host.invalid.", A, Some(End::NxDomain)),
            ("facebook.onion.", A, Some(End::NxDomain)),
            ("1.0.0.127.in-addr.arpa.", PTR, Some(End::Records)),
            ("1.0.0.127.in-addr.arpa.", A, Some(End::NoData)),
            ("2.0.0.127.in-addr.arpa.", PTR, Some(End::NxDomain)),
            (one, PTR, Some(End::Records)),
            ("1.1.168.192.in-addr.arpa.", PTR, Some(End::NxDomain)),
            ("168.192.in-addr.arpa.", SOA, Some(End::Records)),
            ("168.192.in-addr.arpa.", NS, Some(End::Records)),
            ("168.192.in-addr.arpa.", PTR, Some(End::NoData)),
            ("1.1.31.172.in-addr.arpa.", PTR, Some(End::NxDomain)),
            ("1.1.32.172.in-addr.arpa.", PTR, None),
            ("1.1.64.100.in-addr.arpa.", PTR, Some(End::NxDomain)),
            ("1.2.3.10.in-addr.arpa.", PTR, None), // forwarded
            ("printer.home.arpa.", A, Some(End::NxDomain)),
            ("host.lab.home.arpa.", A, None), // forwarded
            ("home.arpa.", SOA, Some(End::Records)),
            ("home.arpa.", DS, None), // of arpa
            ("x.home.arpa.", DS, Some(End::NxDomain)),
            ("_dns.resolver.arpa.", A, Some(End::NxDomain)),
            ("x.service.arpa.", A, Some(End::NxDomain)),
            ("test.", NS, Some(End::NxDomain)),
            ("mx.host.test.", A, Some(End::NxDomain)),
            ("test.example.com.", A, None),
            ("example.", A, None), // RFC 6761 §6.5: not special to a resolver
            ("arpa.", NS, None),
            ("example.com.", A, None),
            (".", NS, None),
        ];
        for (text, rtype, expected) in rows {
            let answer = local.answer(&name(text), rtype);
            assert_eq!(answer.as_ref().map(|answer| answer.end), expected, "{text} {rtype}");
            if let Some(answer) = answer {
                assert_eq!(answer.answer.is_empty(), answer.end != End::Records, "{text}");
                assert_eq!(answer.authority.is_empty(), answer.end == End::Records, "{text}");
            }
        }
    }

    #[test]
    fn every_zone_of_the_registries_is_here() {
        let local = Local::new(Vec::new(), false);
        // RFC 6303 §4.1 to §4.6, RFC 7793 §3, and the top-level names of RFC 6761 and RFC 7686.
        let reversed =
            |address: &str| name(&Name::from(address.parse::<std::net::IpAddr>().expect("an address")).to_ascii());
        for address in [
            "10.1.2.3",
            "172.16.0.1",
            "172.24.9.9",
            "172.31.255.255",
            "192.168.5.5",
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.1.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "255.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "::",
            "::1",
            "fd00::1",
            "fdff:1::",
            "fe80::1",
            "fe9f::",
            "feaf::",
            "febf::1",
            "2001:db8::1",
            "2001:db8:ffff::",
        ] {
            assert!(local.answer(&reversed(address), RecordType::PTR).is_some(), "{address}");
        }
        for address in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "192.0.3.1",
            "198.51.101.1",
            "203.0.114.1",
            "255.255.255.254",
            "100.63.0.1",
            "100.128.0.1",
            "1.1.1.1",
            "::2",
            "fc00::1",
            "fec0::1",
            "2001:db9::1",
            "2620:fe::fe",
        ] {
            assert!(local.answer(&reversed(address), RecordType::PTR).is_none(), "{address}");
        }
        for top in ["localhost.", "a.localhost.", "invalid.", "a.invalid.", "onion.", "a.onion.", "test.", "a.test."] {
            assert!(local.answer(&name(top), RecordType::A).is_some(), "{top}");
        }
        let private = Local::new(Vec::new(), true);
        assert!(private.answer(&name("mx.test."), RecordType::A).is_none(), "below a private root test. is a name");
        assert!(private.answer(&name("mx.invalid."), RecordType::A).is_some());
    }
}
