//! One policy as it lies in the shared store: a version octet, MessagePack, a checksum over both.
//!
//! It holds the policy as published, not as parsed: whoever reads it parses it anew.

use serde::{Deserialize, Serialize};

use crate::cache::entry::HeldPolicy;
use crate::cache::packed::{pack, unpack};
use crate::clock::UnixTime;
use crate::limits::SHARED_VALUE_BYTES;
use crate::names::Domain;

/// Version of keys and values. Replicas of different versions do not see each other's entries, so that neither
/// misreads them: raise it when a field changes its meaning or place.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// A policy that some replica fetched. Nothing in it is to be believed before it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCopy {
    /// The recipient domain, normalised.
    pub domain: Box<str>,
    /// The `id` of the TXT record under which it was fetched.
    pub id: Box<str>,
    /// When it was fetched, by the clock of whoever did.
    pub fetched_at: UnixTime,
    /// The policy file: its lines, separated by LF.
    pub text: Box<str>,
}

/// Why octets in the shared store are not an entry of ours for that domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// More than any entry of ours has.
    #[error("longer than {SHARED_VALUE_BYTES} octets")]
    TooLong,
    /// Not a string, or no octets at all.
    #[error("of another type")]
    OtherType,
    /// Another version, or not ours at all.
    #[error("of another version")]
    Version,
    /// The checksum does not fit.
    #[error("damaged")]
    Damaged,
    /// Not the fields of an entry.
    #[error("malformed")]
    Malformed,
    /// The entry of another domain.
    #[error("of another domain")]
    Domain,
}

impl SharedCopy {
    /// What is shared of a policy that was fetched.
    pub fn of(domain: &Domain, held: &HeldPolicy) -> Self {
        // Without the white space that may have been there, so that it is no longer than it was.
        let lines: Vec<String> = held.policy.lines.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        Self {
            domain: domain.as_str().into(),
            id: held.id.clone(),
            fetched_at: held.fetched_at,
            text: lines.join("\n").into(),
        }
    }

    /// The octets to be stored.
    pub fn encode(&self) -> Result<Vec<u8>, CopyError> {
        let mut octets = pack(VERSION, self).map_err(|_| CopyError::Malformed)?;
        octets.extend(crc32fast::hash(&octets).to_be_bytes());
        if octets.len() > SHARED_VALUE_BYTES { Err(CopyError::TooLong) } else { Ok(octets) }
    }

    /// Reads what was stored under the key of `domain`.
    pub fn decode(domain: &Domain, octets: &[u8]) -> Result<Self, CopyError> {
        if octets.len() > SHARED_VALUE_BYTES {
            return Err(CopyError::TooLong);
        }
        if octets.first() != Some(&VERSION) {
            return Err(CopyError::Version);
        }
        let checked = octets.len().checked_sub(CHECKSUM_BYTES).and_then(|end| octets.split_at_checked(end));
        let (packed, checksum) = checked.ok_or(CopyError::Damaged)?;
        if crc32fast::hash(packed).to_be_bytes() != *checksum {
            return Err(CopyError::Damaged);
        }
        let copy: Self = unpack(VERSION, packed).ok_or(CopyError::Malformed)?;
        if *copy.domain == *domain.as_str() { Ok(copy) } else { Err(CopyError::Domain) }
    }
}

/// Where the entry of `domain` is.
pub(super) fn key_of(domain: &Domain) -> String {
    format!("postseal:{VERSION}:sts:{domain}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::entry::{PolicyLine, StsMode, StsPolicy};
    use crate::names::MxPattern;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).expect("a domain")
    }

    fn held() -> Arc<HeldPolicy> {
        let line = |key: &str, value: &str| PolicyLine { key: key.into(), value: value.into() };
        let lines = vec![
            line("version", "STSv1"),
            line("mode", "enforce"),
            line("mx", "mx.example.com"),
            line("max_age", "86400"),
            line("x-note", "a: b"),
        ];
        let mx = vec![MxPattern::parse("mx.example.com").expect("a pattern")];
        let policy = StsPolicy { mode: StsMode::Enforce, max_age: 86_400, mx: mx.into(), lines: lines.into() };
        Arc::new(HeldPolicy { id: "a1".into(), fetched_at: 1_800_000_000, policy: policy.into() })
    }

    #[test]
    fn an_entry_comes_back_as_it_was_shared_and_only_for_its_domain() {
        let copy = SharedCopy::of(&domain("example.com"), &held());
        let octets = copy.encode().expect("octets");
        assert_eq!(SharedCopy::decode(&domain("example.com"), &octets), Ok(copy.clone()));
        assert_eq!(SharedCopy::decode(&domain("example.net"), &octets), Err(CopyError::Domain));
        assert_eq!(&*copy.text, "version:STSv1\nmode:enforce\nmx:mx.example.com\nmax_age:86400\nx-note:a: b");
        assert_eq!(key_of(&domain("Example.COM")), "postseal:1:sts:example.com");
    }

    #[test]
    fn version_1_stays_readable() {
        let octets = data_encoding::HEXLOWER
            .decode(include_bytes!("../../../tests/fixtures/shared-v1.hex").trim_ascii_end())
            .expect("hex");
        assert_eq!(
            SharedCopy::decode(&domain("example.com"), &octets),
            Ok(SharedCopy::of(&domain("example.com"), &held()))
        );
    }

    #[test]
    fn foreign_versions_and_damage_are_told_apart_and_refused() {
        let name = domain("example.com");
        let octets = SharedCopy::of(&name, &held()).encode().expect("octets");
        let sealed = |packed: &[u8]| [packed, &crc32fast::hash(packed).to_be_bytes()[..]].concat();
        let with = |at: usize, octet: u8| {
            let mut octets = octets.clone();
            octets[at] = octet;
            octets
        };
        let rows: &[(&str, Vec<u8>, CopyError)] = &[
            ("nothing", Vec::new(), CopyError::Version),
            ("text", b"hello".to_vec(), CopyError::Version),
            ("version 2", with(0, 2), CopyError::Version),
            ("version alone", vec![VERSION], CopyError::Damaged),
            ("cut off", octets[..octets.len() - 1].to_vec(), CopyError::Damaged),
            ("octet added", [&octets[..], b"x"].concat(), CopyError::Damaged),
            ("sealed, no MessagePack", sealed(&[VERSION, 0xc1]), CopyError::Malformed),
            ("sealed, other fields", sealed(&[VERSION, 0x91, 0x01]), CopyError::Malformed),
            ("too long", vec![VERSION; SHARED_VALUE_BYTES + 1], CopyError::TooLong),
        ];
        for (name_of_row, octets, expected) in rows {
            assert_eq!(SharedCopy::decode(&name, octets).as_ref(), Err(expected), "{name_of_row}");
        }
        for (at, octet) in octets.iter().enumerate().skip(1) {
            let damaged = with(at, octet ^ 0x10);
            assert_eq!(SharedCopy::decode(&name, &damaged), Err(CopyError::Damaged), "octet {at}");
        }
    }
}
