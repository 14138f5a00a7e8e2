//! The answer a client gets: flags, sections, truncation. A pure function of query and outcome.

use hickory_proto::rr::RecordType;

use super::error_code::ExtendedError;
use super::query::{Error, HEADER, Head};
use super::writer::Writer;
use crate::dns::Security;
use crate::limits;
use crate::resolver::message::Rcode;
use crate::resolver::resolution::{End, Part, Ready, Resolution};
use crate::resolver::rrset_cache::Wire;

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
    /// TC although nothing is left out: the client is to come over TCP.
    pub truncated: bool,
    pub error: Option<ExtendedError>,
}

impl<'a> Response<'a> {
    /// An error without records.
    pub fn error(rcode: Rcode, error: Option<ExtendedError>) -> Self {
        Self { rcode, authentic: false, answer: &[], authority: &[], truncated: false, error }
    }

    /// What is due for a query that cannot be served.
    pub fn unserved(error: Error) -> Self {
        match error {
            Error::Malformed => Self::error(Rcode::FormErr, None),
            Error::Opcode => Self::error(Rcode::NotImp, None),
            Error::EdnsVersion => Self::error(Rcode::BadVers, None),
            Error::Unserved => Self::error(Rcode::Refused, Some(ExtendedError::not_supported())),
            Error::NxName => Self::error(Rcode::FormErr, Some(ExtendedError::invalid_type())),
        }
    }

    /// What the engine found.
    pub fn found(resolution: &'a Resolution, head: &Head<'_>) -> Self {
        Self {
            rcode: rcode(resolution.end),
            authentic: understands_ad(head) && resolution.security == Security::Secure,
            answer: &resolution.answer,
            authority: &resolution.authority,
            truncated: false,
            error: resolution.unchecked.as_ref().map(ExtendedError::from),
        }
    }

    /// An answer whose records are octets already.
    pub fn ready(ready: &Ready, head: &Head<'_>) -> Self {
        Self {
            authentic: ready.entry.security.is_secure() && understands_ad(head),
            ..Self::error(rcode(ready.end), None)
        }
    }

    /// The message, at most as large as the client takes it.
    pub fn encode(&self, head: &Head<'_>, transport: Transport) -> Vec<u8> {
        let mut opt = Vec::new();
        self.push_opt(head, transport, &mut opt);
        let room = largest(head, transport).saturating_sub(opt.len());
        let mut writer = Writer::new(self.header(head, self.truncated), &head.question);
        if !self.write_records(&mut writer, wants_dnssec(head), room) {
            // RFC 2181 §9: half an answer helps nobody.
            writer = Writer::new(self.header(head, true), &head.question);
        }
        writer.raw(&opt);
        writer.set_count(3, u16::from(!opt.is_empty()));
        writer.finish()
    }

    /// The message, with records that are octets already, in place of what is in `out`. False where it is larger than
    /// the client takes it.
    pub fn encode_ready(
        &self,
        wire: &Wire,
        ttl: u32,
        head: &Head<'_>,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let mut header = self.header(head, false);
        let [answers, authorities] = wire.counts;
        // ANCOUNT, NSCOUNT, ARCOUNT.
        let counts = [answers, authorities, u16::from(head.edns.is_some())];
        for (place, octet) in header.iter_mut().skip(6).zip(counts.iter().flat_map(|count| count.to_be_bytes())) {
            *place = octet;
        }
        out.extend_from_slice(&header);
        out.extend_from_slice(&head.question);
        let start = out.len();
        out.extend_from_slice(&wire.octets);
        for at in &wire.ttls {
            let at = start + usize::from(*at);
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(&ttl.to_be_bytes());
            }
        }
        self.push_opt(head, transport, out);
        out.len() <= largest(head, transport)
    }

    /// The records as octets, for [`Response::encode_ready`]; none where no message holds them.
    pub fn wire(&self, head: &Head<'_>) -> Option<Wire> {
        let mut writer = Writer::new([0; HEADER], &head.question);
        let start = writer.len();
        if !self.write_records(&mut writer, wants_dnssec(head), limits::RESPONSE_BYTES) {
            return None;
        }
        let counts = [writer.count(1), writer.count(2)];
        let (octets, ttls) = writer.finish_from(start);
        Some(Wire { octets, counts, ttls })
    }

    /// Writes both sections; false, with some records missing, where they take more than `room`.
    fn write_records(&self, writer: &mut Writer, dnssec_ok: bool, room: usize) -> bool {
        // Proofs are for those who asked for them (RFC 4035 §3.2.1); the SOA is for negative caching (RFC 2308).
        let wanted = |part: &&Part| dnssec_ok || part.set.rtype == RecordType::SOA;
        let authority: Vec<&Part> = self.authority.iter().filter(wanted).collect();
        for (index, parts) in [(1, self.answer.iter().collect()), (2, authority)] {
            let mut count = 0_u16;
            for part in parts {
                count = count.saturating_add(writer.set(&part.set, part.ttl, dnssec_ok));
                if writer.len() > room {
                    return false;
                }
            }
            writer.set_count(index, count);
        }
        true
    }

    fn header(&self, head: &Head<'_>, truncated: bool) -> [u8; HEADER] {
        let [i0, i1] = head.id.to_be_bytes();
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        let flags = 0x80 | head.opcode << 3 | bit(truncated, 0x02) | bit(head.recursion_desired, 0x01);
        let code = (u16::from(self.rcode) & 0x0f) as u8;
        // RA; RFC 4035 §3.2.2: CD is copied.
        let rest = 0x80 | bit(self.authentic && !truncated, 0x20) | bit(head.checking_disabled, 0x10) | code;
        [i0, i1, flags, rest, 0, u8::from(!head.question.is_empty()), 0, 0, 0, 0, 0, 0]
    }

    /// The OPT record, where the client sent one.
    fn push_opt(&self, head: &Head<'_>, transport: Transport, out: &mut Vec<u8>) {
        let Some(client) = head.edns else { return };
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&limits::EDNS_UDP_PAYLOAD.to_be_bytes());
        out.extend_from_slice(&[(u16::from(self.rcode) >> 4) as u8, 0, if client.dnssec_ok { 0x80 } else { 0 }, 0]);
        let length_at = out.len();
        out.extend_from_slice(&[0, 0]);
        if client.keepalive && transport == Transport::Tcp {
            // In units of 100 ms.
            let idle = limits::DNS_TCP_IDLE.as_millis() / 100;
            push_option(out, OPTION_KEEPALIVE, &u16::try_from(idle).unwrap_or(u16::MAX).to_be_bytes());
        }
        if let Some(error) = &self.error {
            push_option(out, OPTION_EDE, &error.octets());
        }
        // Extended errors and keepalive are short.
        let length = out.len().saturating_sub(length_at + 2) as u16;
        if let Some(place) = out.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
}

fn push_option(out: &mut Vec<u8>, code: u16, octets: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&(octets.len() as u16).to_be_bytes());
    out.extend_from_slice(octets);
}

fn rcode(end: End) -> Rcode {
    match end {
        End::Records | End::NoData => Rcode::NoError,
        End::NxDomain => Rcode::NxDomain,
        End::TooLong => YXDOMAIN,
    }
}

/// RFC 6840 §5.8: AD goes to those who show that they know it, by DO or by AD.
fn understands_ad(head: &Head<'_>) -> bool {
    head.authentic || wants_dnssec(head)
}

fn wants_dnssec(head: &Head<'_>) -> bool {
    head.edns.is_some_and(|edns| edns.dnssec_ok)
}

/// Octets of the largest answer that this client takes this way.
fn largest(head: &Head<'_>, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => limits::RESPONSE_BYTES,
        Transport::Udp { loopback } => {
            let ours = if loopback { limits::DNS_LOOPBACK_PAYLOAD } else { limits::EDNS_UDP_PAYLOAD };
            head.edns.map_or(PLAIN_UDP, |edns| usize::from(edns.payload.min(ours)))
        }
    }
}
