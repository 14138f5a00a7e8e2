//! Where trust and recursion begin: trust anchors and root hints, compiled in or read from files.
//!
//! In: text, as zone file lines, `root-anchors.xml` or `named.root`. Out: RRsets and addresses for
//! [`super::settings::Settings`]. Never fetches anything, never judges whether a key is still in use.

pub mod file;
mod lines;
pub mod refresh;
pub mod rfc5011;
mod xml;

use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::rrset::RrSet;

/// DNSKEYs and DS of the root's KSKs of 2017 (20326) and 2024 (38696).
const ROOT_KEY: &str = include_str!("../../../trust-anchors/root.key");
/// The thirteen root servers.
const ROOT_HINTS: &str = include_str!("../../../trust-anchors/root.hints");

/// The trust anchors that are compiled in.
#[allow(clippy::expect_used, reason = "a test parses the compiled-in file")]
pub fn built_in_anchors() -> Vec<RrSet> {
    file::parse_anchors(ROOT_KEY, "built-in root.key").expect("the compiled-in trust anchors parse")
}

/// The root hints that are compiled in.
#[allow(clippy::expect_used, reason = "a test parses the compiled-in file")]
pub fn built_in_hints() -> Vec<(Name, IpAddr)> {
    file::parse_hints(ROOT_HINTS, "built-in root.hints").expect("the compiled-in root hints parse")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::RecordType;

    /// RFC 4034 Appendix B.
    fn key_tag(rdata: &[u8]) -> u16 {
        let sum = rdata
            .iter()
            .enumerate()
            .fold(0_u32, |sum, (at, octet)| sum + if at % 2 == 0 { u32::from(*octet) << 8 } else { u32::from(*octet) });
        (sum + (sum >> 16)) as u16
    }

    #[test]
    fn each_built_in_ds_matches_its_built_in_key_and_both_root_keys_are_there() {
        let anchors = built_in_anchors();
        let of = |rtype| anchors.iter().find(|set| set.rtype == rtype).expect("an RRset of this type");
        let (keys, digests) = (of(RecordType::DNSKEY), of(RecordType::DS));
        assert!(anchors.iter().all(|set| set.name == Name::root()), "all at the root");
        let mut tags: Vec<u16> = keys.rdatas.iter().map(|key| key_tag(key)).collect();
        tags.sort_unstable();
        assert_eq!(tags, [20326, 38696]);
        assert_eq!(digests.rdatas.len(), 2);
        for ds in &digests.rdatas {
            let tag = u16::from_be_bytes([ds[0], ds[1]]);
            let key = keys.rdatas.iter().find(|key| key_tag(key) == tag).expect("the key of this DS");
            assert_eq!((key[3], ds[2], ds[3]), (8, 8, 2), "algorithm 8, SHA-256");
            // RFC 4034 §5.1.4: the owner (one zero octet for the root), then the DNSKEY's RDATA.
            let digest = ring::digest::digest(&ring::digest::SHA256, &[&[0], &**key].concat());
            assert_eq!(digest.as_ref(), &ds[4..], "digest of {tag}");
        }
    }

    #[test]
    fn built_in_hints_name_thirteen_servers_in_both_families() {
        let hints = built_in_hints();
        assert_eq!(hints.iter().filter(|(_, address)| address.is_ipv4()).count(), 13);
        assert_eq!(hints.iter().filter(|(_, address)| address.is_ipv6()).count(), 13);
        assert_eq!(hints[0].0.to_ascii(), "a.root-servers.net.");
    }
}
