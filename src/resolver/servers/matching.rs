//! Whether octets from the network answer a query (RFC 5452 §9): a pure function of both.

/// Octets of a message's header.
const HEADER: usize = 12;

/// How well a message fits a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// It answers it; the question is repeated octet by octet, or left out of an error.
    Exact,
    /// It would, but for the case of letters in the name (0x20).
    OtherCase,
    /// It is no answer to this query.
    Foreign,
}

/// Compares a message with the query that went to its sender. `query` is a whole message with one question.
pub(super) fn fit(query: &[u8], message: &[u8]) -> Fit {
    let (Some((query_header, rest)), Some((header, body))) =
        (query.split_first_chunk::<HEADER>(), message.split_first_chunk::<HEADER>())
    else {
        return Fit::Foreign;
    };
    let question = question(rest);
    let [i0, i1, flags, code, q0, q1, a0, a1, n0, n1, ..] = *header;
    // Same id, a response (QR), opcode QUERY.
    if [i0, i1] != query_header[..2] || flags & 0xf8 != 0x80 {
        return Fit::Foreign;
    }
    match u16::from_be_bytes([q0, q1]) {
        // Servers that cannot read a query may not repeat the question: an error and nothing else.
        0 if matches!(code & 0x0f, 1 | 2 | 4 | 5) && [a0, a1, n0, n1] == [0; 4] => Fit::Exact,
        1 => match body.get(..question.len()) {
            Some(repeated) if repeated == question => Fit::Exact,
            Some(repeated) if same_but_case(repeated, question) => Fit::OtherCase,
            _ => Fit::Foreign,
        },
        _ => Fit::Foreign,
    }
}

/// The question at the start of `rest`: name (never compressed in our queries), type and class.
fn question(rest: &[u8]) -> &[u8] {
    let mut end = 0;
    while let Some(length @ 1..) = rest.get(end).copied() {
        end += 1 + usize::from(length);
    }
    rest.get(..end + 5).unwrap_or(rest)
}

/// Equal but for the case of the name; length octets are below `A`, type and class must be the same.
fn same_but_case(one: &[u8], other: &[u8]) -> bool {
    let (Some((name, rest)), Some((other_name, other_rest))) =
        (one.split_at_checked(one.len().saturating_sub(4)), other.split_at_checked(other.len().saturating_sub(4)))
    else {
        return false;
    };
    rest == other_rest && name.eq_ignore_ascii_case(other_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::message::Query;
    use hickory_proto::rr::{Name, RecordType};

    fn query() -> Vec<u8> {
        let name = Name::from_ascii("eXample.Com.").expect("a name");
        Query { name, rtype: RecordType::MX, recursion_desired: false, edns: Some(Box::default()) }.encode(0x1234)
    }

    /// The query turned into a response, with changes.
    fn answer(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut octets = query();
        octets[2] |= 0x80;
        change(&mut octets);
        octets
    }

    #[test]
    fn only_a_response_with_the_same_id_and_question_fits() {
        let error_without_question = |code: u8| {
            answer(move |m| {
                m.truncate(12);
                m[3] = code;
                m[4..12].fill(0);
            })
        };
        let rows: [(&str, Vec<u8>, Fit); 13] = [
            ("as asked", answer(|_| ()), Fit::Exact),
            ("authoritative, truncated", answer(|m| m[2] |= 0x06), Fit::Exact),
            ("a query", query(), Fit::Foreign),
            ("other id", answer(|m| m[1] ^= 1), Fit::Foreign),
            ("opcode 4", answer(|m| m[2] |= 0x20), Fit::Foreign),
            ("lower case", answer(|m| m[12..25].make_ascii_lowercase()), Fit::OtherCase),
            ("other name", answer(|m| m[14] = b'y'), Fit::Foreign),
            ("other type", answer(|m| m[26] ^= 0x20), Fit::Foreign),
            ("other class", answer(|m| m[28] = 3), Fit::Foreign),
            ("two questions", answer(|m| m[5] = 2), Fit::Foreign),
            ("FORMERR without question", error_without_question(1), Fit::Exact),
            ("NOERROR without question", error_without_question(0), Fit::Foreign),
            ("cut inside the question", answer(|m| m.truncate(20)), Fit::Foreign),
        ];
        for (row, octets, expected) in rows {
            assert_eq!(fit(&query(), &octets), expected, "{row}");
        }
        for end in 0..12 {
            assert_eq!(fit(&query(), &answer(|m| m.truncate(end))), Fit::Foreign, "{end} octets");
        }
    }
}
