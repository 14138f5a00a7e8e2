//! What a client asks: octets in, a query or the error it deserves out. A pure function.

use std::borrow::Cow;

use hickory_proto::rr::{Name, RecordType};

use crate::resolver::message::CLASS_IN;
use crate::resolver::rrset::read_name;

/// Octets of a message's header.
pub(super) const HEADER: usize = 12;
/// QR and TC in the third octet of the header.
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
/// Longest label, and the first octet of a compression pointer (RFC 1035 §4.1.4).
const LABEL: u8 = 63;
const POINTER: u8 = 0xc0;
/// Longest name (RFC 1035 §2.3.4).
const NAME: usize = 255;
/// Type of the EDNS record (RFC 6891 §6.1.1).
const OPT: u16 = 41;
/// Type in the bit map of a name that does not exist, never in a question (RFC 9824 §2, §3.5).
const NXNAME: u16 = 128;
/// EDNS option of TCP keepalive (RFC 7828).
const OPTION_KEEPALIVE: u16 = 11;

/// A well-formed question.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    pub head: Head<'a>,
    /// Lower case.
    pub name: Name,
    pub rtype: RecordType,
}

impl Query<'_> {
    /// The same, apart from the octets it was read from.
    pub fn into_owned(self) -> Query<'static> {
        let Query { head, name, rtype } = self;
        let Head { id, opcode, recursion_desired, checking_disabled, authentic, question, edns } = head;
        let question = Cow::Owned(question.into_owned());
        let head = Head { id, opcode, recursion_desired, checking_disabled, authentic, question, edns };
        Query { head, name, rtype }
    }
}

/// What every answer, errors too, takes over from the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub id: u16,
    pub opcode: u8,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// AD in a query: the client understands AD in the answer (RFC 6840 §5.7).
    pub authentic: bool,
    /// Name in the client's case, type and class; empty where there is no question that could be read.
    pub question: Cow<'a, [u8]>,
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
pub(super) enum Parsed<'a> {
    /// To be answered.
    Query(Query<'a>),
    /// To be answered with an error.
    Error(Head<'a>, Error),
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
    /// FORMERR with the reason: NXNAME, which stands in bit maps and nowhere else (RFC 9824 §3.5).
    NxName,
}

/// Reads a client's message.
pub(super) fn parse(octets: &[u8]) -> Parsed<'_> {
    let Some(([i0, i1, f0, f1, counts @ ..], body)) = octets.split_first_chunk::<HEADER>() else {
        return Parsed::Nothing;
    };
    if f0 & RESPONSE != 0 {
        return Parsed::Nothing; // to a query that we did not send
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
    // One question, no answer, no authority; additional records follow.
    let ([0, 1, 0, 0, 0, 0, r0, r1], false, Some((question, rest))) = (counts, f0 & TRUNCATED != 0, question(body))
    else {
        return Parsed::Error(head, Error::Malformed);
    };
    let opt = match find_opt(rest, u16::from_be_bytes([*r0, *r1])) {
        Ok(opt) => opt,
        Err(Malformed) => return Parsed::Error(head, Error::Malformed),
    };
    let Some((name, rtype, class)) = read_question(question) else {
        return Parsed::Error(head, Error::Malformed);
    };
    head.question = Cow::Borrowed(question);
    head.edns = opt.as_ref().map(|opt| opt.client);
    if opt.is_some_and(|opt| opt.version > 0) {
        return Parsed::Error(head, Error::EdnsVersion);
    }
    match (class, rtype) {
        (CLASS_IN, NXNAME) => Parsed::Error(head, Error::NxName),
        // OPT, TKEY to MAILA without ANY: meta-types and transfers (RFC 6895 §3.1); type 0 is reserved.
        (CLASS_IN, 0 | 41 | 129..=254) => Parsed::Error(head, Error::Unserved),
        (CLASS_IN, _) => Parsed::Query(Query { name, rtype: RecordType::from(rtype), head }),
        _ => Parsed::Error(head, Error::Unserved),
    }
}

/// Octets that are no message.
struct Malformed;

/// Name, type and class at the start of a message's body, and what follows. A compressed name has nothing to point
/// to here.
fn question(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut end = 0;
    while let length @ 1.. = *body.get(end)? {
        if length > LABEL {
            return None;
        }
        end += 1 + usize::from(length);
    }
    body.split_at_checked(end + 5)
}

/// The name in lower case, type and class.
fn read_question(question: &[u8]) -> Option<(Name, u16, u16)> {
    let (name, [t0, t1, c0, c1]) = question.split_last_chunk::<4>()?;
    let mut lower = [0; NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    // No length is a letter: labels have at most 63 octets.
    lower.make_ascii_lowercase();
    let (name, _) = read_name(lower).ok()?;
    Some((name, u16::from_be_bytes([*t0, *t1]), u16::from_be_bytes([*c0, *c1])))
}

/// An OPT record.
struct Opt {
    client: ClientEdns,
    version: u8,
}

/// The OPT record among `count` additional records; others (TSIG, say) are passed over.
fn find_opt(mut records: &[u8], count: u16) -> Result<Option<Opt>, Malformed> {
    let mut opt = None;
    for _ in 0..count {
        let (is_root, after) = skip_name(records).ok_or(Malformed)?;
        let (fixed, after) = after.split_first_chunk::<10>().ok_or(Malformed)?;
        let [t0, t1, p0, p1, _, version, flags, _, l0, l1] = *fixed;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (rdata, after) = after.split_at_checked(length).ok_or(Malformed)?;
        records = after;
        if u16::from_be_bytes([t0, t1]) != OPT {
            continue;
        }
        // RFC 6891 §6.1.1, §6.1.2: one OPT at most, and its owner is the root.
        if opt.is_some() || !is_root {
            return Err(Malformed);
        }
        let client = ClientEdns {
            payload: u16::from_be_bytes([p0, p1]).max(512),
            dnssec_ok: flags & 0x80 != 0,
            keepalive: has_keepalive(rdata)?,
        };
        opt = Some(Opt { client, version });
    }
    Ok(opt)
}

/// Whether a record's owner is the root, and what follows it. The name itself is of no interest.
fn skip_name(mut octets: &[u8]) -> Option<(bool, &[u8])> {
    let is_root = octets.first() == Some(&0);
    loop {
        let (length, after) = octets.split_first()?;
        octets = match *length {
            0 => return Some((is_root, after)),
            1..=LABEL => after.get(usize::from(*length)..)?,
            POINTER.. => return Some((false, after.get(1..)?)),
            _ => return None,
        };
    }
}

/// Whether TCP keepalive is among the options of an OPT record, all of which must be whole.
fn has_keepalive(mut options: &[u8]) -> Result<bool, Malformed> {
    let mut found = false;
    while !options.is_empty() {
        let ([c0, c1, l0, l1], after) = options.split_first_chunk::<4>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        options = after.get(length..).ok_or(Malformed)?;
        found |= u16::from_be_bytes([*c0, *c1]) == OPTION_KEEPALIVE;
    }
    Ok(found)
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

    const OPT_RECORD: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    #[test]
    fn queries_are_told_from_errors_and_noise() {
        let malformed = Some(Error::Malformed);
        let rows: [(&str, Vec<u8>, Option<Error>); 25] = [
            ("two questions", message(|m| m[5] = 2), Some(Error::Malformed)),
            ("no question", message(|m| m[5] = 0), Some(Error::Malformed)),
            ("truncated", message(|m| m[2] |= 2), Some(Error::Malformed)),
            ("cut", message(|m| m.truncate(20)), Some(Error::Malformed)),
            ("a name that points to itself", message(|m| m[12..14].fill(0xc0)), Some(Error::Malformed)),
            ("UPDATE", message(|m| m[2] |= 5 << 3), Some(Error::Opcode)),
            ("class CH", message(|m| m[28] = 3), Some(Error::Unserved)),
            ("AXFR", message(|m| m[26] = 252), Some(Error::Unserved)),
            ("EDNS version 1", message(|m| with_opt(m, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0")), Some(Error::EdnsVersion)),
            (
                "two OPT records",
                message(|m| [(); 2].iter().for_each(|()| with_opt(m, OPT_RECORD))),
                Some(Error::Malformed),
            ),
            (
                "an OPT record that is not the root's",
                message(|m| with_opt(m, &[b"\x01x", OPT_RECORD].concat())),
                malformed,
            ),
            ("an OPT record cut short", message(|m| with_opt(m, &OPT_RECORD[..9])), malformed),
            (
                "an option longer than its record",
                message(|m| with_opt(m, &[&OPT_RECORD[..10], b"\x04\0\x0a\0\x09"].concat())),
                malformed,
            ),
            ("an additional record that is not there", message(|m| m[11] = 1), malformed),
            ("an answer record in a query", message(|m| m[7] = 1), malformed),
            ("an authority record in a query", message(|m| m[9] = 1), malformed),
            (
                "a name of 256 octets",
                message(|m| drop(m.splice(12..25, [&[63; 64 * 4][..], &[0]].concat()))),
                malformed,
            ),
            ("IXFR", message(|m| m[26] = 251), Some(Error::Unserved)),
            ("NXNAME", message(|m| m[26] = 128), Some(Error::NxName)),
            ("MAILB", message(|m| m[26] = 253), Some(Error::Unserved)),
            ("TSIG as a question", message(|m| m[26] = 250), Some(Error::Unserved)),
            ("class ANY", message(|m| m[28] = 255), Some(Error::Unserved)),
            ("NOTIFY", message(|m| m[2] |= 4 << 3), Some(Error::Opcode)),
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
            with_opt(m, OPT_RECORD);
        });
        let Parsed::Query(query) = parse(&octets) else { panic!("a query") };
        assert_eq!(query.name.to_ascii(), "example.com.");
        assert_eq!(query.rtype, RecordType::MX);
        assert_eq!(*query.head.question, octets[12..29]);
        assert!(query.head.recursion_desired && query.head.checking_disabled && query.head.authentic);
        assert_eq!(query.head.edns, Some(ClientEdns { payload: 1232, dnssec_ok: true, keepalive: false }));
    }

    #[test]
    fn edns_is_read_as_it_is_meant() {
        let tsig = b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\x02xx";
        let rows: [(&str, Vec<u8>, ClientEdns); 4] = [
            (
                "a payload below 512 is 512",
                [&OPT_RECORD[..3], &[0, 100], &OPT_RECORD[5..]].concat(),
                ClientEdns { payload: 512, dnssec_ok: true, keepalive: false },
            ),
            (
                "unknown options are passed over",
                [&OPT_RECORD[..9], b"\0\x0a\xff\xfe\0\x02ab\0\x0b\0\0"].concat(),
                ClientEdns { payload: 1232, dnssec_ok: true, keepalive: true },
            ),
            (
                "unknown flags, too",
                [&OPT_RECORD[..7], b"\x7f\xff\0\0"].concat(),
                ClientEdns { payload: 1232, dnssec_ok: false, keepalive: false },
            ),
            (
                "a record before it, and a compressed owner",
                [&tsig[..], b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\0", OPT_RECORD].concat(),
                ClientEdns { payload: 1232, dnssec_ok: true, keepalive: false },
            ),
        ];
        for (row, records, expected) in rows {
            let octets = message(|m| {
                m[11] = if records.len() > 20 && records[0] != 0 { 3 } else { 1 };
                m.extend_from_slice(&records);
            });
            let Parsed::Query(query) = parse(&octets) else { panic!("{row}: a query") };
            assert_eq!(query.head.edns, Some(expected), "{row}");
        }
    }
}
