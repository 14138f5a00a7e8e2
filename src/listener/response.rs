//! The answer a client gets: flags, sections, truncation. A pure function of query and outcome.

use hickory_proto::rr::RecordType;

use super::error_code::ExtendedError;
use super::query::{ClientEdns, Error, Head};
use super::writer::Writer;
use crate::dns::Security;
use crate::limits;
use crate::resolver::message::Rcode;
use crate::resolver::resolution::{End, Part, Resolution};

/// EDNS option of extended errors (RFC 8914 §2).
const OPTION_EDE: u16 = 15;
/// EDNS option of TCP keepalive (RFC 7828 §3.1).
const OPTION_KEEPALIVE: u16 = 11;
/// Largest message without EDNS (RFC 1035 §2.3.4).
const PLAIN_UDP: usize = 512;

/// A DNAME leads to a name that is too long (RFC 6672 §2.2).
const YXDOMAIN: Rcode = Rcode::Other(6);

/// How the query came, as far as the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp {
        /// The client is on this host.
        loopback: bool,
    },
    /// A connection.
    Tcp,
}

/// An answer before it is octets.
#[derive(Debug)]
pub(super) struct Response<'a> {
    pub rcode: Rcode,
    pub authentic: bool,
    pub answer: &'a [Part],
    pub authority: &'a [Part],
    pub error: Option<ExtendedError>,
}

impl<'a> Response<'a> {
    /// An error without records.
    pub fn error(rcode: Rcode, error: Option<ExtendedError>) -> Self {
        Self { rcode, authentic: false, answer: &[], authority: &[], error }
    }

    /// What is due for a query that cannot be served.
    pub fn unserved(error: Error) -> Self {
        match error {
            Error::Malformed => Self::error(Rcode::FormErr, None),
            Error::Opcode => Self::error(Rcode::NotImp, None),
            Error::EdnsVersion => Self::error(Rcode::BadVers, None),
            Error::Unserved => Self::error(Rcode::Refused, Some(ExtendedError::not_supported())),
        }
    }

    /// What the engine found.
    pub fn found(resolution: &'a Resolution, head: &Head) -> Self {
        let rcode = match resolution.end {
            End::Records | End::NoData => Rcode::NoError,
            End::NxDomain => Rcode::NxDomain,
            End::TooLong => YXDOMAIN,
        };
        // RFC 6840 §5.8: AD goes to those who show that they know it, by DO or by AD.
        let understood = head.authentic || head.edns.is_some_and(|edns| edns.dnssec_ok);
        Self {
            rcode,
            authentic: understood && resolution.security == Security::Secure,
            answer: &resolution.answer,
            authority: &resolution.authority,
            error: resolution.unchecked.as_ref().map(ExtendedError::from),
        }
    }

    /// The message, at most as large as the client takes it.
    pub fn encode(&self, head: &Head, transport: Transport) -> Vec<u8> {
        let limit = match transport {
            Transport::Tcp => limits::RESPONSE_BYTES,
            Transport::Udp { loopback } => {
                let ours = if loopback { limits::DNS_LOOPBACK_PAYLOAD } else { limits::EDNS_UDP_PAYLOAD };
                head.edns.map_or(PLAIN_UDP, |edns| usize::from(edns.payload.min(ours)))
            }
        };
        let opt = head.edns.map(|edns| self.opt(edns, transport)).unwrap_or_default();
        let mut writer = Writer::new(self.header(head, false), &head.question);
        let dnssec_ok = head.edns.is_some_and(|edns| edns.dnssec_ok);
        let mut fits = true;
        let mut section = |writer: &mut Writer, index: usize, parts: &[Part], wanted: &dyn Fn(RecordType) -> bool| {
            let mut count = 0_u16;
            for part in parts.iter().filter(|part| wanted(part.set.rtype)) {
                count = count.saturating_add(writer.set(&part.set, part.ttl, dnssec_ok));
                fits &= writer.len() + opt.len() <= limit;
                if !fits {
                    return;
                }
            }
            writer.set_count(index, count);
        };
        section(&mut writer, 1, self.answer, &|_| true);
        // Proofs are for those who asked for them (RFC 4035 §3.2.1); the SOA is for negative caching (RFC 2308).
        let denial = |rtype: RecordType| dnssec_ok || rtype == RecordType::SOA;
        section(&mut writer, 2, self.authority, &denial);
        if !fits {
            // RFC 2181 §9: half an answer helps nobody.
            writer = Writer::new(self.header(head, true), &head.question);
        }
        writer.raw(&opt);
        writer.set_count(3, u16::from(!opt.is_empty()));
        writer.finish()
    }

    fn header(&self, head: &Head, truncated: bool) -> [u8; 12] {
        let [i0, i1] = head.id.to_be_bytes();
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let flags = 0x80 | head.opcode << 3 | bit(truncated, 0x02) | bit(head.recursion_desired, 0x01);
        let code = (u16::from(self.rcode) & 0x0f) as u8;
        // RA; RFC 4035 §3.2.2: CD is copied.
        let rest = 0x80 | bit(self.authentic && !truncated, 0x20) | bit(head.checking_disabled, 0x10) | code;
        [i0, i1, flags, rest, 0, u8::from(!head.question.is_empty()), 0, 0, 0, 0, 0, 0]
    }

    fn opt(&self, client: ClientEdns, transport: Transport) -> Vec<u8> {
        let mut options = Vec::new();
        let mut option = |code: u16, octets: &[u8]| {
            options.extend_from_slice(&code.to_be_bytes());
            // Extended errors and keepalive are short.
            options.extend_from_slice(&(octets.len() as u16).to_be_bytes());
            options.extend_from_slice(octets);
        };
        if client.keepalive && transport == Transport::Tcp {
            // In units of 100 ms.
            let idle = limits::DNS_TCP_IDLE.as_millis() / 100;
            option(OPTION_KEEPALIVE, &u16::try_from(idle).unwrap_or(u16::MAX).to_be_bytes());
        }
        if let Some(error) = &self.error {
            option(OPTION_EDE, &error.octets());
        }
        let mut opt = vec![0, 0, 41];
        opt.extend_from_slice(&limits::EDNS_UDP_PAYLOAD.to_be_bytes());
        opt.extend_from_slice(&[(u16::from(self.rcode) >> 4) as u8, 0, if client.dnssec_ok { 0x80 } else { 0 }, 0]);
        opt.extend_from_slice(&(options.len() as u16).to_be_bytes());
        opt.extend_from_slice(&options);
        opt
    }
}
