//! The test world: zones, the servers that serve them, and what is wrong with them. Knows nothing of sockets:
//! one question in, one [`Action`] out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::answer::{Item, Reply, answer, rcode};
use super::fault::{Fault, On};
use super::name::DnsName;
use super::record::{Rdata, RrSet, rtype};
use super::wire::{OutMessage, OutRecord, Question};
use super::zone::{Delegation, Zone};

const DAY: i64 = 86_400;

/// What a server does with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sends these, each after a while; none is silence. TCP sends at most one.
    Reply(Vec<(Duration, Vec<u8>)>),
    /// Closes the connection (TCP), or says nothing (UDP).
    Close,
}

/// A question that reached a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub server: IpAddr,
    pub name: DnsName,
    pub rtype: u16,
    pub tcp: bool,
}

/// See the module.
pub struct World {
    /// Seconds since 1970 at which all good signatures are valid.
    pub now: i64,
    zones: RwLock<BTreeMap<DnsName, Zone>>,
    hosts: RwLock<HashMap<IpAddr, HashSet<DnsName>>>,
    faults: Mutex<Vec<(On, Fault)>>,
    asked: Mutex<Vec<Asked>>,
    signatures: Mutex<HashMap<SignatureKey, Vec<Rdata>>>,
}

/// Zone, owner in it, type, TTL, canonical RDATA, and what is wrong with the signature.
type SignatureKey = (DnsName, DnsName, u16, u32, Vec<Vec<u8>>, Signing);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Signing {
    Good,
    Expired,
    Future,
    Missing,
    Bad,
}

impl World {
    /// Puts zones together: gives addresses to servers that have none, delegates each zone from the closest one
    /// above it, and fills in apex and denial records.
    pub fn build(now: i64, zones: Vec<Zone>) -> Self {
        let mut zones: BTreeMap<DnsName, Zone> = zones.into_iter().map(|zone| (zone.name.clone(), zone)).collect();
        let mut addresses = (2_u32..).map(|number| IpAddr::V4(Ipv4Addr::from(0x7f35_0000 + number)));
        for zone in zones.values_mut().filter(|zone| zone.nameservers.is_empty()) {
            let base =
                if zone.name == DnsName::root() { DnsName::from("root-servers.test") } else { zone.name.clone() };
            for index in 0..zone.server_count {
                let name = base.child(format!("ns{}", index + 1).as_bytes());
                zone.nameservers.push((name, vec![addresses.next().unwrap()]));
            }
        }
        let names: Vec<DnsName> = zones.keys().cloned().collect();
        for name in &names {
            delegate(&mut zones, name);
        }
        let named: HashMap<DnsName, Vec<IpAddr>> = zones
            .values()
            .flat_map(|zone| zone.nameservers.iter().cloned())
            .filter(|(_, all)| !all.is_empty())
            .collect();
        let mut hosts: HashMap<IpAddr, HashSet<DnsName>> = HashMap::new();
        for zone in zones.values_mut() {
            for (server, own) in &zone.nameservers {
                for address in if own.is_empty() { named.get(server).unwrap_or(own) } else { own } {
                    hosts.entry(*address).or_default().insert(zone.name.clone());
                }
            }
        }
        for zone in zones.values_mut() {
            zone.finish();
        }
        Self {
            now,
            zones: RwLock::new(zones),
            hosts: RwLock::new(hosts),
            faults: Mutex::default(),
            asked: Mutex::default(),
            signatures: Mutex::default(),
        }
    }

    /// Makes `fault` show at `on`, beside all that are there already.
    pub fn inject(&self, on: On, fault: Fault) {
        self.faults.lock().push((on, fault));
    }

    /// Everything works again.
    pub fn heal(&self) {
        self.faults.lock().clear();
    }

    /// Changes a zone while the world runs.
    pub fn change(&self, zone: &str, change: impl FnOnce(&mut Zone)) {
        let mut zones = self.zones.write();
        let zone = zones.get_mut(&zone.into()).unwrap();
        change(zone);
        zone.finish();
    }

    /// Lets a server serve one more zone.
    pub fn host(&self, server: IpAddr, zone: &str) {
        self.hosts.write().entry(server).or_default().insert(zone.into());
    }

    /// All questions so far, and forgets them.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock())
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// Addresses of all servers.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.hosts.read().keys().copied().collect();
        all.sort();
        all
    }

    /// Addresses of the servers of one zone, in the order they were named.
    pub fn servers_of(&self, zone: &str) -> Vec<IpAddr> {
        let zones = self.zones.read();
        zones[&DnsName::from(zone)].nameservers.iter().flat_map(|(_, addresses)| addresses.clone()).collect()
    }

    /// Names and addresses of the root's servers.
    pub fn hints(&self) -> Vec<(DnsName, IpAddr)> {
        let zones = self.zones.read();
        let servers = &zones[&DnsName::root()].nameservers;
        servers.iter().flat_map(|(name, all)| all.iter().map(|address| (name.clone(), *address))).collect()
    }

    /// DS RDATA of a zone's key-signing keys, for use as trust anchors.
    pub fn anchor(&self, zone: &str) -> Vec<Vec<u8>> {
        let zones = self.zones.read();
        let zone = &zones[&DnsName::from(zone)];
        zone.keys.iter().filter(|key| key.is_ksk()).map(|key| key.ds(&zone.name, 2).wire()).collect()
    }

    /// What the server at `server` does with these octets.
    pub fn answer(&self, server: IpAddr, query: &[u8], tcp: bool) -> Action {
        let Some(question) = Question::parse(query) else {
            let id = query.get(..2).unwrap_or_default();
            return Action::Reply(vec![(Duration::ZERO, [id, &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat())]);
        };
        let asked = Asked { server, name: question.name.clone(), rtype: question.rtype, tcp };
        self.asked.lock().push(asked);
        let zones = self.zones.read();
        let zone = self.zone_for(&zones, server, &question);
        let faults: Vec<Fault> = self
            .faults
            .lock()
            .iter()
            .filter(|(on, _)| on.fits(server, zone.map(|zone| &zone.name), &question, tcp))
            .map(|(_, fault)| fault.clone())
            .collect();
        let mut reply = match zone {
            Some(zone) => answer(zone, &question.name, question.rtype),
            None => Reply::code(rcode::REFUSED),
        };
        for fault in &faults {
            fault.spoil(&question, zone.map(|zone| &zone.name), &mut reply);
        }
        self.send(&zones, &question, &reply, &faults, tcp)
    }

    fn zone_for<'z>(
        &self,
        zones: &'z BTreeMap<DnsName, Zone>,
        server: IpAddr,
        question: &Question,
    ) -> Option<&'z Zone> {
        let hosts = self.hosts.read();
        let hosted = hosts.get(&server)?;
        let mut fitting: Vec<DnsName> = question.name.and_ancestors().filter(|above| hosted.contains(above)).collect();
        // The DS of an apex is the parent's, where the parent is here too (RFC 4035 §3.1.4.1).
        if question.rtype == rtype::DS && fitting.len() > 1 && fitting[0] == question.name {
            fitting.remove(0);
        }
        zones.get(fitting.first()?)
    }

    fn send(
        &self,
        zones: &BTreeMap<DnsName, Zone>,
        question: &Question,
        reply: &Reply,
        faults: &[Fault],
        tcp: bool,
    ) -> Action {
        let has = |wanted: fn(&Fault) -> bool| faults.iter().any(wanted);
        if has(|fault| matches!(fault, Fault::Silence))
            || (question.edns.is_some() && has(|fault| matches!(fault, Fault::SilenceToEdns)))
        {
            return Action::Reply(Vec::new());
        }
        if tcp && has(|fault| matches!(fault, Fault::NoTcp | Fault::TruncateWithoutTcp)) {
            return Action::Close;
        }
        let mut octets = self.write(zones, question, reply, faults, tcp);
        for fault in faults {
            octets = patch(fault, question, octets);
        }
        let late = faults.iter().map(|fault| if let Fault::Late(late) = fault { *late } else { Duration::ZERO }).sum();
        let mut replies = vec![(late, octets)];
        if !tcp && has(|fault| matches!(fault, Fault::SpoofedFirst)) {
            let mut forged = reply.clone();
            Fault::ForgedData.spoil(question, None, &mut forged);
            let mut octets = self.write(zones, question, &forged, &[], tcp);
            octets[0] ^= 0xff;
            replies.insert(0, (Duration::ZERO, octets));
        }
        Action::Reply(replies)
    }

    /// The reply as octets: signed, with EDNS as asked for, truncated where it does not fit.
    fn write(
        &self,
        zones: &BTreeMap<DnsName, Zone>,
        question: &Question,
        reply: &Reply,
        faults: &[Fault],
        tcp: bool,
    ) -> Vec<u8> {
        let no_edns = faults.iter().any(|fault| matches!(fault, Fault::NoEdns));
        let dnssec = question.wants_dnssec() && !no_edns;
        let mode = signing_mode(faults);
        let code_to_edns = faults.iter().find_map(|fault| match fault {
            Fault::CodeToEdns(code) if question.edns.is_some() => Some(*code),
            _ => None,
        });
        let records = |items: &[Item]| self.records(zones, items, question, dnssec, mode);
        let edns = question.edns.filter(|_| !no_edns).map(|(_, dnssec_ok)| {
            // RFC 7873 §5.2.3: client cookie and a server cookie of eight octets.
            let cookie = question.cookie.as_ref().and_then(|cookie| cookie.get(..8));
            (dnssec_ok, cookie.map(|client| (10, [client, &[0x5e; 8]].concat())).into_iter().collect())
        });
        let mut message = OutMessage {
            id: question.id,
            authoritative: reply.authoritative,
            truncated: reply.truncated,
            recursion_available: false,
            rcode: reply.rcode,
            recursion_desired: question.recursion_desired,
            checking_disabled: question.checking_disabled,
            question: Some((question.name.clone(), question.rtype)),
            answer: records(&reply.answer),
            authority: records(&reply.authority),
            additional: records(&reply.additional),
            edns,
        };
        if let Some(code) = code_to_edns {
            message.rcode = code;
            message.edns = None;
            for section in [&mut message.answer, &mut message.authority, &mut message.additional] {
                section.clear();
            }
        }
        let octets = message.encode();
        let limit = message.edns.as_ref().and(question.edns).map_or(512, |(payload, _)| usize::from(payload.max(512)));
        let forced = faults.iter().any(|fault| matches!(fault, Fault::Truncate | Fault::TruncateWithoutTcp));
        if !tcp && (octets.len() > limit || forced) {
            message.truncated = true;
            for section in [&mut message.answer, &mut message.authority, &mut message.additional] {
                section.clear();
            }
            return message.encode();
        }
        octets
    }

    fn records(
        &self,
        zones: &BTreeMap<DnsName, Zone>,
        items: &[Item],
        question: &Question,
        dnssec: bool,
        mode: Signing,
    ) -> Vec<OutRecord> {
        let mut out = Vec::new();
        for Item { set, source, zone } in items {
            let only_dnssec = matches!(set.rtype, rtype::DS | rtype::NSEC | rtype::NSEC3);
            if only_dnssec && !dnssec && set.rtype != question.rtype {
                continue;
            }
            let record =
                |rdata: &Rdata, rtype| OutRecord { name: set.name.clone(), rtype, ttl: set.ttl, rdata: rdata.clone() };
            out.extend(set.rdatas.iter().map(|rdata| record(rdata, set.rtype)));
            if let (true, Some(source), Some(zone)) = (dnssec, source, zones.get(zone)) {
                out.extend(self.signatures(zone, set, source, mode).iter().map(|rdata| record(rdata, rtype::RRSIG)));
            }
        }
        out
    }

    fn signatures(&self, zone: &Zone, set: &RrSet, source: &DnsName, mode: Signing) -> Vec<Rdata> {
        let window = match mode {
            Signing::Missing => return Vec::new(),
            Signing::Good | Signing::Bad => (self.now - DAY, self.now + 13 * DAY),
            Signing::Expired => (self.now - 15 * DAY, self.now - DAY),
            Signing::Future => (self.now + DAY, self.now + 15 * DAY),
        };
        let rdatas = set.rdatas.iter().map(|rdata| rdata.canonical(set.rtype)).collect();
        let key = (zone.name.clone(), source.clone(), set.rtype, set.ttl, rdatas, mode);
        if let Some(known) = self.signatures.lock().get(&key) {
            return known.clone();
        }
        let mut made = Vec::new();
        for zone_key in zone.signing_keys(set.rtype) {
            let mut rdata = zone_key.rrsig(set, source, &zone.name, window);
            if mode == Signing::Bad {
                let mut octets = rdata.wire();
                let last = octets.len() - 1;
                octets[last] ^= 1;
                rdata = Rdata::octets(octets);
            }
            made.push(rdata);
        }
        self.signatures.lock().insert(key, made.clone());
        made
    }
}

/// Adds NS, glue and DS of a zone to the closest zone above it.
fn delegate(zones: &mut BTreeMap<DnsName, Zone>, name: &DnsName) {
    let Some(parent) = name.and_ancestors().skip(1).find(|above| zones.contains_key(above)) else { return };
    let child = &zones[name];
    if child.delegation == Delegation::Missing {
        return;
    }
    let all = child.nameservers.iter();
    let nameservers: Vec<(DnsName, Vec<IpAddr>)> = match &child.parent_ns {
        None => all.cloned().collect(),
        Some(names) => names
            .iter()
            .map(|ns| all.clone().find(|(own, _)| own == ns).cloned().unwrap_or_else(|| (ns.clone(), vec![])))
            .collect(),
    };
    let ds = child.ds_rdatas();
    let parent = zones.get_mut(&parent).unwrap();
    for (server, addresses) in nameservers {
        parent.add_rdata(name, rtype::NS, Rdata::name(server.clone()));
        if server.is_at_or_below(name) {
            parent.add_addresses(&server, &addresses);
        }
    }
    for rdata in ds {
        parent.add_rdata(name, rtype::DS, rdata);
    }
}

fn signing_mode(faults: &[Fault]) -> Signing {
    faults
        .iter()
        .find_map(|fault| match fault {
            Fault::BadSignatures => Some(Signing::Bad),
            Fault::ExpiredSignatures => Some(Signing::Expired),
            Fault::FutureSignatures => Some(Signing::Future),
            Fault::MissingSignatures => Some(Signing::Missing),
            _ => None,
        })
        .unwrap_or(Signing::Good)
}

fn patch(fault: &Fault, question: &Question, mut octets: Vec<u8>) -> Vec<u8> {
    match fault {
        Fault::WrongId => octets[0] ^= 0xff,
        Fault::WrongQuestion => octets[13] = if octets[13] == b'z' { b'y' } else { b'z' },
        Fault::LowercaseQuestion => {
            let end = 12 + question.name.wire().len();
            octets[12..end].make_ascii_lowercase();
        }
        Fault::Garbage => octets = vec![0x2a; 40],
        Fault::CutShort => octets.truncate(octets.len() / 2),
        Fault::Patch(patch) => octets = patch(question, octets),
        _ => {}
    }
    octets
}
