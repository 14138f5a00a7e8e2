//! Requests and replies of the socketmap protocol (socketmap_table(5)).

use bytes::Bytes;

use crate::caller::Caller;
use crate::clock::Stamp;
use crate::limits;

/// One request, `NAME SP KEY`, still as octets: nothing about it has been believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The map's name. Whether there is such a map is the service's business.
    pub name: &'a [u8],
    /// The key; empty where the request had no space.
    pub key: &'a [u8],
    /// Who asks.
    pub peer: Peer,
    /// When it was read from the connection.
    pub received: Stamp,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A Unix socket: whoever the file's permissions let in.
    Unix(Caller),
    /// This machine.
    Loopback,
    /// Another machine.
    Remote,
}

impl<'a> Request<'a> {
    /// Splits a netstring's payload at its first space.
    pub fn parse(payload: &'a [u8], peer: Peer, received: Stamp) -> Self {
        let space = payload.iter().position(|octet| *octet == b' ');
        let (name, rest) = space.and_then(|space| payload.split_at_checked(space)).unwrap_or((payload, b""));
        Self { name, key: rest.get(1..).unwrap_or_default(), peer, received }
    }
}

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    text: Bytes,
    framing: Framing,
}

/// How a reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As a netstring: all that Postfix ever gets.
    Netstring,
    /// As it is, as postfix-tlspol answers `JSON`.
    Plain,
    /// As it is, and then the connection ends, as postfix-tlspol answers `DUMP`, `EXPORT` and `PURGE`.
    PlainAndLast,
}

impl Reply {
    /// `NOTFOUND `: no policy; the trailing space belongs to it.
    pub const NOT_FOUND: Self = Self { text: Bytes::from_static(b"NOTFOUND "), framing: Framing::Netstring };

    /// `OK` and the policy. Whoever calls has made sure that it is one Postfix takes.
    pub fn ok(policy: &str) -> Self {
        Self { text: Bytes::from([b"OK ", policy.as_bytes()].concat()), framing: Framing::Netstring }
    }

    /// `TEMP` and why: Postfix defers and asks again.
    pub fn temporary(reason: &str) -> Self {
        Self::with_reason("TEMP ", reason)
    }

    /// `PERM` and why: Postfix reports an error of configuration.
    pub fn permanent(reason: &str) -> Self {
        Self::with_reason("PERM ", reason)
    }

    /// A reply that is complete already, status word included; `None` where Postfix would not read it.
    pub fn complete(text: Bytes) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= limits::REPLY_BYTES;
        fits.then_some(Self { text, framing: Framing::Netstring })
    }

    /// A reply that was written as [`super::Answer::Written`] and has to wait for others.
    pub(super) fn written(text: &str) -> Self {
        Self { text: Bytes::copy_from_slice(text.as_bytes()), framing: Framing::Netstring }
    }

    /// Text for an operator's tool, without netstring; with `last` the connection ends after it.
    pub fn plain(text: Bytes, last: bool) -> Self {
        Self { text, framing: if last { Framing::PlainAndLast } else { Framing::Plain } }
    }

    /// `PERM unknown map "…"`.
    pub fn unknown_map(name: &[u8]) -> Self {
        Self::permanent(&format!("unknown map \"{}\"", String::from_utf8_lossy(name)))
    }

    /// The reply's octets, without netstring framing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// A reason is printable ASCII and short, whatever it was made from.
    fn with_reason(status: &str, reason: &str) -> Self {
        let mut text = String::with_capacity(status.len() + reason.len().min(limits::REASON_BYTES));
        text.push_str(status);
        let printable = reason.chars().map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' });
        let length = reason.chars().count();
        if length <= limits::REASON_BYTES {
            text.extend(printable);
        } else {
            // Keep the end as well: a quoted name stays closed, and its tail is what a long one is known by.
            let tail = 20;
            text.extend(printable.clone().take(limits::REASON_BYTES - tail - 3));
            text.push_str("...");
            text.extend(printable.skip(length - tail));
        }
        Self { text: Bytes::from(text), framing: Framing::Netstring }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_request_is_a_name_one_space_and_a_key() {
        for (payload, name, key) in [
            (&b"QUERY example.com"[..], &b"QUERY"[..], &b"example.com"[..]),
            (b"QUERY a b", b"QUERY", b"a b"),
            (b"QUERY ", b"QUERY", b""),
            (b"DUMP", b"DUMP", b""),
            (b"", b"", b""),
            (b" x", b"", b"x"),
        ] {
            let request = Request::parse(payload, Peer::Loopback, Clock::system().stamp());
            assert_eq!((request.name, request.key), (name, key));
        }
    }

    #[test]
    fn reasons_are_short_printable_ascii() {
        assert_eq!(Reply::unknown_map(b"x\n\xff\"y").as_bytes(), b"PERM unknown map \"x??\"y\"");
        let long = Reply::temporary(&"é".repeat(5_000));
        assert_eq!(long.as_bytes().len(), "TEMP ".len() + limits::REASON_BYTES);
        assert!(long.as_bytes().iter().all(|b| (b' '..=b'~').contains(b)));
        assert!(Reply::unknown_map(&[b'm'; 9_000]).as_bytes().ends_with(b"m\""));
        assert_eq!(Reply::NOT_FOUND.as_bytes(), b"NOTFOUND ");
        assert_eq!(Reply::ok("dane-only").as_bytes(), b"OK dane-only");
    }
}
