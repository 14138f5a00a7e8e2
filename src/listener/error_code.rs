//! Why there is no answer, in the words of Extended DNS Errors (RFC 8914 §4).

use crate::dns::{Bogus, Cause, Failure};

/// Longest text; clients show it in one line.
const TEXT: usize = 200;

/// An INFO-CODE with its EXTRA-TEXT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError {
    pub code: u16,
    pub text: String,
}

impl ExtendedError {
    /// An error with a text of our own.
    pub fn new(code: u16, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }

    /// Prohibited: the client is not in `dns.allow`.
    pub fn prohibited() -> Self {
        Self::new(18, "")
    }

    /// Not Supported.
    pub fn not_supported() -> Self {
        Self::new(21, "")
    }

    /// Invalid Query Type (RFC 9824 §10.3).
    pub fn invalid_type() -> Self {
        Self::new(30, "")
    }

    /// Not Authoritative: only recursive service is offered (RD was not set).
    pub fn recursion_only() -> Self {
        Self::new(20, "recursive queries only")
    }

    /// The option's octets: code and text (RFC 8914 §2).
    pub fn octets(&self) -> Vec<u8> {
        let mut end = self.text.len().min(TEXT);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let text = self.text.get(..end).unwrap_or_default();
        [&self.code.to_be_bytes(), text.as_bytes()].concat()
    }
}

impl From<&Failure> for ExtendedError {
    fn from(failure: &Failure) -> Self {
        Self { code: code(&failure.cause), text: failure.to_string() }
    }
}

fn code(cause: &Cause) -> u16 {
    match cause {
        Cause::Bogus(bogus) => match bogus {
            Bogus::Expired { .. } => 7,
            Bogus::NotYetValid { .. } => 8,
            Bogus::NoDnskey | Bogus::NoMatchingKey { .. } | Bogus::AnchorsRevoked => 9,
            Bogus::MissingSignature { .. } => 10,
            Bogus::DenialNotProven => 12,
            Bogus::BadSignature { .. }
            | Bogus::UnknownKey { .. }
            | Bogus::WrongSigner { .. }
            | Bogus::TooMuchWork(_) => 6,
        },
        // No Reachable Authority, Network Error, Other.
        Cause::Timeout | Cause::NoServers | Cause::Lame | Cause::ServFail | Cause::ErrorCode(_) => 22,
        Cause::Network | Cause::Malformed => 23,
        Cause::AliasChain | Cause::Budget(_) | Cause::Overloaded => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RecordType};

    #[test]
    fn a_failure_names_its_code_and_its_reason() {
        let cause = Cause::Bogus(Bogus::Expired { at: 1_790_812_800, tag: 7 });
        let error = ExtendedError::from(&Failure::new(Name::root(), RecordType::MX, cause));
        assert_eq!(error.octets(), b"\0\x07MX lookup: signature expired 2026-10-01 (key tag 7)");
        assert_eq!(ExtendedError::new(0, &"ä".repeat(150)).octets().len(), 2 + TEXT);
        assert_eq!(ExtendedError::new(0, &format!("x{}", "ä".repeat(150))).octets().len(), 2 + TEXT - 1);
    }

    /// RFC 8914 §4.
    #[test]
    fn each_reason_has_the_code_that_names_it() {
        let bogus = [
            (Bogus::Expired { at: 1, tag: 7 }, 7),
            (Bogus::NotYetValid { from: 1, tag: 7 }, 8),
            (Bogus::NoDnskey, 9),
            (Bogus::NoMatchingKey { tags: vec![7], anchored: false }, 9),
            (Bogus::AnchorsRevoked, 9),
            (Bogus::MissingSignature { name: Name::root(), rtype: RecordType::A }, 10),
            (Bogus::DenialNotProven, 12),
            (Bogus::BadSignature { name: Name::root(), rtype: RecordType::A, tag: 7 }, 6),
            (Bogus::UnknownKey { tag: 7 }, 6),
            (Bogus::WrongSigner { signer: Name::root() }, 6),
        ];
        let rows = bogus.into_iter().map(|(bogus, code)| (Cause::Bogus(bogus), code)).chain([
            (Cause::Timeout, 22),
            (Cause::NoServers, 22),
            (Cause::Lame, 22),
            (Cause::ServFail, 22),
            (Cause::Network, 23),
            (Cause::Malformed, 23),
            (Cause::AliasChain, 0),
            (Cause::Overloaded, 0),
        ]);
        for (cause, expected) in rows {
            let failure = Failure::new(Name::root(), RecordType::A, cause);
            let error = ExtendedError::from(&failure);
            assert_eq!(error.code, expected, "{failure}");
            assert!(!error.text.is_empty());
        }
    }
}
