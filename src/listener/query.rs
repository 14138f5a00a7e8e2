//! What a client asks: octets in, a query or the error it deserves out. A pure function.

use hickory_proto::rr::{Name, RecordType};

use crate::resolver::message::{CLASS_IN, Message};

/// Octets of a message's header.
const HEADER: usize = 12;
/// EDNS option of TCP keepalive (RFC 7828).
const OPTION_KEEPALIVE: u16 = 11;

/// A well-formed question.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub head: Head,
    /// Lower case.
    pub name: Name,
    pub rtype: RecordType,
}

/// What every answer, errors too, takes over from the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub id: u16,
    pub opcode: u8,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// AD in a query: the client understands AD in the answer (RFC 6840 §5.7).
    pub authentic: bool,
    /// Name in the client's case, type and class; empty where there is no question that could be read.
    pub question: Vec<u8>,
    pub edns: Option<ClientEdns>,
}

/// The client's EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientEdns {
    /// Largest UDP answer it takes; below 512 counts as 512 (RFC 6891 §6.2.3).
    pub payload: u16,
    pub dnssec_ok: bool,
    /// It asks how long an idle connection is kept.
    pub keepalive: bool,
}

/// What came.
#[derive(Debug)]
pub(super) enum Parsed {
    /// To be answered.
    Query(Query),
    /// To be answered with an error.
    Error(Head, Error),
    /// Not a query at all: an answer would go to somebody who did not ask.
    Nothing,
}

/// Why a query is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// FORMERR.
    Malformed,
    /// NOTIMP: an opcode other than QUERY.
    Opcode,
    /// BADVERS (RFC 6891 §6.1.3).
    EdnsVersion,
    /// REFUSED: a class other than IN, a zone transfer, or a type that no zone holds.
    Unserved,
}

/// Reads a client's message.
pub(super) fn parse(octets: &[u8]) -> Parsed {
    let Some(([i0, i1, f0, f1, q0, q1, ..], body)) = octets.split_first_chunk::<HEADER>() else {
        return Parsed::Nothing;
    };
    if f0 & 0x80 != 0 {
        return Parsed::Nothing; // an answer
    }
    let mut head = Head {
        id: u16::from_be_bytes([*i0, *i1]),
        opcode: (f0 >> 3) & 0x0f,
        recursion_desired: f0 & 0x01 != 0,
        checking_disabled: f1 & 0x10 != 0,
        authentic: f1 & 0x20 != 0,
        ..Head::default()
    };
    if head.opcode != 0 {
        return Parsed::Error(head, Error::Opcode);
    }
    let question = if [*q0, *q1] == [0, 1] { question(body) } else { None };
    let (Some(question), Ok(message)) = (question, Message::parse(octets)) else {
        return Parsed::Error(head, Error::Malformed);
    };
    head.question = question.to_vec();
    head.edns = message.edns.as_ref().map(|edns| ClientEdns {
        payload: edns.payload.max(512),
        dnssec_ok: edns.dnssec_ok,
        keepalive: edns.option(OPTION_KEEPALIVE).is_some(),
    });
    if message.edns.as_ref().is_some_and(|edns| edns.version > 0) {
        return Parsed::Error(head, Error::EdnsVersion);
    }
    let Some(question) = message.question else { return Parsed::Error(head, Error::Malformed) };
    if message.truncated || !message.answer.is_empty() || !message.authority.is_empty() {
        return Parsed::Error(head, Error::Malformed);
    }
    match (question.class, u16::from(question.rtype)) {
        // OPT, TKEY to MAILA without ANY: meta-types and transfers (RFC 6895 §3.1); type 0 is reserved.
        (CLASS_IN, 0 | 41 | 128..=254) => Parsed::Error(head, Error::Unserved),
        (CLASS_IN, _) => Parsed::Query(Query { name: question.name.to_lowercase(), rtype: question.rtype, head }),
        _ => Parsed::Error(head, Error::Unserved),
    }
}

/// Name, type and class at the start of a message's body; a compressed name has nothing to point to here.
fn question(body: &[u8]) -> Option<&[u8]> {
    let mut end = 0;
    while let length @ 1.. = *body.get(end)? {
        if length > 63 {
            return None;
        }
        end += 1 + usize::from(length);
    }
    body.get(..end + 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `MX eXample.com` with id 0x1234, RD; changes applied.
    fn message(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut octets = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07eXample\x03com\0\0\x0f\0\x01".to_vec();
        change(&mut octets);
        octets
    }

    fn with_opt(octets: &mut Vec<u8>, opt: &[u8]) {
        octets[11] += 1;
        octets.extend_from_slice(opt);
    }

    const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    #[test]
    fn queries_are_told_from_errors_and_noise() {
        let rows: [(&str, Vec<u8>, Option<Error>); 12] = [
            ("two questions", message(|m| m[5] = 2), Some(Error::Malformed)),
            ("no question", message(|m| m[5] = 0), Some(Error::Malformed)),
            ("truncated", message(|m| m[2] |= 2), Some(Error::Malformed)),
            ("cut", message(|m| m.truncate(20)), Some(Error::Malformed)),
            ("a name that points to itself", message(|m| m[12..14].fill(0xc0)), Some(Error::Malformed)),
            ("UPDATE", message(|m| m[2] |= 5 << 3), Some(Error::Opcode)),
            ("class CH", message(|m| m[28] = 3), Some(Error::Unserved)),
            ("AXFR", message(|m| m[26] = 252), Some(Error::Unserved)),
            ("EDNS version 1", message(|m| with_opt(m, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0")), Some(Error::EdnsVersion)),
            ("two OPT records", message(|m| [(); 2].iter().for_each(|()| with_opt(m, OPT))), Some(Error::Malformed)),
            ("an answer", message(|m| m[2] |= 0x80), None),
            ("ten octets", message(|m| m.truncate(10)), None),
        ];
        for (row, octets, expected) in rows {
            match (parse(&octets), expected) {
                (Parsed::Error(head, error), Some(expected)) => {
                    assert_eq!((error, head.id), (expected, 0x1234), "{row}")
                }
                (Parsed::Nothing, None) => {}
                (other, _) => panic!("{row}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_query_keeps_its_case_its_flags_and_its_edns() {
        let octets = message(|m| {
            m[3] = 0x30;
            with_opt(m, OPT);
        });
        let Parsed::Query(query) = parse(&octets) else { panic!("a query") };
        assert_eq!(query.name.to_ascii(), "example.com.");
        assert_eq!(query.rtype, RecordType::MX);
        assert_eq!(query.head.question, &octets[12..29]);
        assert!(query.head.recursion_desired && query.head.checking_disabled && query.head.authentic);
        assert_eq!(query.head.edns, Some(ClientEdns { payload: 1232, dnssec_ok: true, keepalive: false }));
    }
}
