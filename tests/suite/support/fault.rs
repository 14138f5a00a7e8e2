//! What can be wrong with a server, a zone, a name: the knobs of the test world.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Item, Reply, rcode};
use super::name::DnsName;
use super::record::{Rdata, RrSet, rtype};
use super::wire::Question;

/// Where a fault shows. All that is set must fit.
#[derive(Clone, Debug, Default)]
pub struct On {
    server: Option<IpAddr>,
    zone: Option<DnsName>,
    name: Option<DnsName>,
    qtype: Option<u16>,
    tcp: Option<bool>,
}

impl On {
    /// Every question to every server.
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn server(server: IpAddr) -> Self {
        Self { server: Some(server), ..Self::default() }
    }

    /// Questions that are answered from this zone.
    pub fn zone(zone: &str) -> Self {
        Self { zone: Some(zone.into()), ..Self::default() }
    }

    /// Questions for this very name.
    pub fn name(name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    pub fn qtype(mut self, qtype: u16) -> Self {
        self.qtype = Some(qtype);
        self
    }

    pub fn udp(mut self) -> Self {
        self.tcp = Some(false);
        self
    }

    pub fn tcp(mut self) -> Self {
        self.tcp = Some(true);
        self
    }

    pub fn fits(&self, server: IpAddr, zone: Option<&DnsName>, question: &Question, tcp: bool) -> bool {
        self.server.is_none_or(|wanted| wanted == server)
            && self.zone.as_ref().is_none_or(|wanted| Some(wanted) == zone)
            && self.name.as_ref().is_none_or(|wanted| *wanted == question.name)
            && self.qtype.is_none_or(|wanted| wanted == question.rtype)
            && self.tcp.is_none_or(|wanted| wanted == tcp)
    }
}

/// Changes a reply before it is signed.
pub type Edit = Arc<dyn Fn(&Question, &mut Reply) + Send + Sync>;
/// Changes a reply as octets.
pub type Patch = Arc<dyn Fn(&Question, Vec<u8>) -> Vec<u8> + Send + Sync>;

/// One thing that is wrong.
#[derive(Clone)]
pub enum Fault {
    /// Signatures with one bit flipped.
    BadSignatures,
    /// Signatures that ended yesterday.
    ExpiredSignatures,
    /// Signatures that begin tomorrow.
    FutureSignatures,
    /// No signatures.
    MissingSignatures,
    /// A middlebox that drops every DNSSEC record.
    StripDnssec,
    /// Denials without NSEC and NSEC3.
    MissingDenial,
    /// DS records of other keys, properly signed.
    WrongDs,
    /// This response code and nothing else.
    Code(u16),
    /// This response code, header only, where the query has EDNS.
    CodeToEdns(u16),
    /// Silence where the query has EDNS.
    SilenceToEdns,
    /// Takes no notice of EDNS: no OPT, no DNSSEC, 512 octets.
    NoEdns,
    Silence,
    /// Answers this much later.
    Late(Duration),
    /// TC over UDP, whatever the size.
    Truncate,
    /// Takes TCP connections and closes them.
    NoTcp,
    /// Neither: TC over UDP, closed TCP.
    TruncateWithoutTcp,
    /// Not authoritative and says nothing useful.
    Lame,
    /// Refers to the root.
    UpwardReferral,
    /// Refers to the very zone it should answer for.
    SelfReferral,
    /// Echoes another question.
    WrongQuestion,
    /// Echoes another id.
    WrongId,
    /// Echoes the question in lower case.
    LowercaseQuestion,
    /// A datagram with a wrong id and forged data first, then the answer.
    SpoofedFirst,
    /// Octets that are no message.
    Garbage,
    /// The first half of the message.
    CutShort,
    /// NXDOMAIN, unsigned, with an SOA.
    ForgedNxDomain,
    /// NODATA, unsigned, with an SOA.
    ForgedNoData,
    /// NXDOMAIN for names that only have names below them.
    NxDomainAtEmptyNonTerminal,
    /// AA clear in what are answers otherwise.
    NotAuthoritative,
    /// An unsigned address in place of addresses, an unsigned MX in place of MX.
    ForgedData,
    /// Anything else.
    Edit(Edit),
    /// Anything else, in octets.
    Patch(Patch),
}

/// Every fault there is, except those that a test writes itself, with a name.
pub fn catalogue() -> Vec<(&'static str, Fault)> {
    vec![
        ("bad signatures", Fault::BadSignatures),
        ("expired signatures", Fault::ExpiredSignatures),
        ("signatures of tomorrow", Fault::FutureSignatures),
        ("missing signatures", Fault::MissingSignatures),
        ("stripped DNSSEC", Fault::StripDnssec),
        ("missing denial", Fault::MissingDenial),
        ("wrong DS", Fault::WrongDs),
        ("FORMERR", Fault::Code(rcode::FORMERR)),
        ("SERVFAIL", Fault::Code(rcode::SERVFAIL)),
        ("NXDOMAIN, nothing else", Fault::Code(rcode::NXDOMAIN)),
        ("NOTIMP", Fault::Code(rcode::NOTIMP)),
        ("REFUSED", Fault::Code(rcode::REFUSED)),
        ("NOERROR, nothing else", Fault::Code(rcode::NOERROR)),
        ("unknown rcode", Fault::Code(11)),
        ("FORMERR to EDNS", Fault::CodeToEdns(rcode::FORMERR)),
        ("NOTIMP to EDNS", Fault::CodeToEdns(rcode::NOTIMP)),
        ("SERVFAIL to EDNS", Fault::CodeToEdns(rcode::SERVFAIL)),
        ("silence to EDNS", Fault::SilenceToEdns),
        ("no EDNS", Fault::NoEdns),
        ("silence", Fault::Silence),
        ("late", Fault::Late(Duration::from_secs(30))),
        ("truncated", Fault::Truncate),
        ("no TCP", Fault::NoTcp),
        ("truncated without TCP", Fault::TruncateWithoutTcp),
        ("lame", Fault::Lame),
        ("upward referral", Fault::UpwardReferral),
        ("self referral", Fault::SelfReferral),
        ("wrong question", Fault::WrongQuestion),
        ("wrong id", Fault::WrongId),
        ("question in lower case", Fault::LowercaseQuestion),
        ("spoofed first", Fault::SpoofedFirst),
        ("garbage", Fault::Garbage),
        ("cut short", Fault::CutShort),
        ("forged NXDOMAIN", Fault::ForgedNxDomain),
        ("forged NODATA", Fault::ForgedNoData),
        ("NXDOMAIN at empty non-terminals", Fault::NxDomainAtEmptyNonTerminal),
        ("AA clear", Fault::NotAuthoritative),
        ("forged data", Fault::ForgedData),
    ]
}

impl Fault {
    pub fn edit(edit: impl Fn(&Question, &mut Reply) + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(edit))
    }

    pub fn patch(patch: impl Fn(&Question, Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::Patch(Arc::new(patch))
    }

    /// What it does to the unsigned reply from `zone`.
    pub fn spoil(&self, question: &Question, zone: Option<&DnsName>, reply: &mut Reply) {
        match self {
            Self::MissingDenial => reply.drop_types(&[rtype::NSEC, rtype::NSEC3]),
            Self::StripDnssec => {
                reply.drop_types(&[rtype::NSEC, rtype::NSEC3, rtype::DS, rtype::DNSKEY]);
                unsign(reply);
            }
            Self::WrongDs => {
                for item in reply.sections().into_iter().flatten().filter(|item| item.set.rtype == rtype::DS) {
                    item.set.rdatas = item.set.rdatas.iter().map(|rdata| flip(rdata, 4)).collect();
                }
            }
            Self::Code(code) => *reply = Reply::code(*code),
            Self::Lame => *reply = Reply::default(),
            Self::UpwardReferral => *reply = referral(&DnsName::root()),
            Self::SelfReferral => *reply = referral(zone.unwrap_or(&DnsName::root())),
            Self::ForgedNxDomain => forge_denial(reply, zone, rcode::NXDOMAIN),
            Self::ForgedNoData => forge_denial(reply, zone, rcode::NOERROR),
            Self::NxDomainAtEmptyNonTerminal if reply.is_nodata() => reply.rcode = rcode::NXDOMAIN,
            Self::NotAuthoritative => reply.authoritative = false,
            Self::ForgedData => forge_data(question, zone, reply),
            Self::Edit(edit) => edit(question, reply),
            _ => {}
        }
    }
}

/// Leaves everything in place, unsigned.
pub fn unsign(reply: &mut Reply) {
    for item in reply.sections().into_iter().flatten() {
        item.source = None;
    }
}

fn flip(rdata: &Rdata, at: usize) -> Rdata {
    let mut octets = rdata.wire();
    octets[at] ^= 1;
    Rdata::octets(octets)
}

fn unsigned(name: DnsName, rtype: u16, rdata: Rdata) -> Item {
    Item { set: RrSet { name, rtype, ttl: 3600, rdatas: vec![rdata] }, source: None, zone: DnsName::root() }
}

fn referral(to: &DnsName) -> Reply {
    let server = Rdata::name("a.root-servers.test".into());
    Reply { authority: vec![unsigned(to.clone(), rtype::NS, server)], ..Reply::default() }
}

fn forge_denial(reply: &mut Reply, zone: Option<&DnsName>, code: u16) {
    let soa = reply.authority.iter().find(|item| item.set.rtype == rtype::SOA).cloned();
    let apex = zone.cloned().unwrap_or_else(DnsName::root);
    *reply = Reply { rcode: code, authoritative: true, ..Reply::default() };
    reply.authority.push(soa.unwrap_or_else(|| {
        let mut octets = vec![0, 0];
        octets.extend([1_u32, 7200, 3600, 1_209_600, 900].iter().flat_map(|number| number.to_be_bytes()));
        unsigned(apex, rtype::SOA, Rdata::octets(octets))
    }));
    unsign(reply);
}

fn forge_data(question: &Question, zone: Option<&DnsName>, reply: &mut Reply) {
    let rdata = match question.rtype {
        rtype::A => Rdata::octets([203, 0, 113, 66]),
        rtype::MX => {
            let host = zone.cloned().unwrap_or_else(DnsName::root).child(b"evil");
            Rdata([vec![super::record::Part::Octets(vec![0, 1])], Rdata::name(host).0].concat())
        }
        _ => return,
    };
    *reply = Reply { authoritative: true, ..Reply::default() };
    reply.answer.push(unsigned(question.name.clone(), question.rtype, rdata));
}
