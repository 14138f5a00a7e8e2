//! What the operator may set about the engine (design §11, `resolver.*`), already parsed.

use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::exceptions::NegativeAnchor;
use super::rrset::RrSet;

/// Settings of the engine; `Default` is what a bare run uses, without root hints and anchors.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ask servers over IPv4.
    pub ipv4: bool,
    /// Ask servers over IPv6; `None` finds out.
    pub ipv6: Option<bool>,
    /// Ask servers at loopback, private and other special-purpose addresses: labs and private roots.
    pub allow_private_servers: bool,
    /// Port of authoritative servers: 53, except in labs.
    pub upstream_port: u16,
    /// QNAME minimisation (RFC 9156).
    pub qname_minimisation: bool,
    /// 0x20: random case in query names, checked in answers.
    pub case_randomisation: bool,
    /// Bound of the RRset cache in octets.
    pub cache_bytes: usize,
    /// Names and addresses of the root servers to begin with.
    pub root_hints: Vec<(Name, IpAddr)>,
    /// Trust anchors: DS or DNSKEY RRsets, at the root or anywhere else.
    pub trust_anchors: Vec<RrSet>,
    /// Zones that go to named servers.
    pub forward: Vec<Forward>,
    /// Zones that are not validated.
    pub insecure: Vec<NegativeAnchor>,
    /// Count queries and outcomes in the metrics. Not so for a look that only people take: nobody is to be alerted
    /// because somebody asked what is wrong with a domain.
    pub counted: bool,
}

/// A zone whose questions go to named servers instead of the servers it is delegated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The zone; the root forwards everything.
    pub zone: Name,
    /// Servers with port.
    pub servers: Vec<std::net::SocketAddr>,
    /// Name in the servers' certificate, for DNS over TLS.
    pub tls: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: None,
            allow_private_servers: false,
            upstream_port: 53,
            qname_minimisation: true,
            case_randomisation: true,
            cache_bytes: 32 << 20,
            root_hints: Vec::new(),
            trust_anchors: Vec::new(),
            forward: Vec::new(),
            insecure: Vec::new(),
            counted: true,
        }
    }
}
