//! DNSKEY and DS records (RFC 4034 §2, §5), and which algorithms and digests count.

use hickory_proto::rr::Name;
use ring::digest;

use super::crypto;
use crate::limits;
use crate::resolver::rrset::wire_name;

/// A DNSKEY (RFC 4034 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsKey {
    /// Flags field.
    pub flags: u16,
    /// Protocol field; only 3 is valid.
    pub protocol: u8,
    /// Algorithm number (IANA).
    pub algorithm: u8,
    /// Key tag (RFC 4034 appendix B).
    pub tag: u16,
    /// Public key in the form of its algorithm.
    pub public: Box<[u8]>,
}

impl DnsKey {
    /// Parses RDATA of type DNSKEY; `None` where it is too short to hold a key.
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let ([f0, f1, protocol, algorithm], public) = rdata.split_first_chunk::<4>()?;
        if public.is_empty() {
            return None;
        }
        Some(Self {
            flags: u16::from_be_bytes([*f0, *f1]),
            protocol: *protocol,
            algorithm: *algorithm,
            tag: key_tag(rdata),
            public: public.into(),
        })
    }

    /// Zone Key flag: without it a key must not verify RRsets (RFC 4034 §2.1.1).
    pub fn is_zone_key(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    /// Secure Entry Point flag (RFC 4034 §2.1.1): a hint for people and for RFC 5011, of no weight in validation.
    pub fn is_sep(&self) -> bool {
        self.flags & 0x0001 != 0
    }

    /// REVOKE flag (RFC 5011 §2.1).
    pub fn is_revoked(&self) -> bool {
        self.flags & 0x0080 != 0
    }

    /// Whether signatures by this key may count at all: a zone key (RFC 4034 §2.1.1) of protocol 3 (§2.1.2),
    /// not revoked (RFC 5011 §2.1), of an algorithm we know.
    pub fn is_usable(&self) -> bool {
        self.is_zone_key() && self.protocol == 3 && !self.is_revoked() && algorithm_supported(self.algorithm)
    }

    /// Whether one of `set` is the digest of this key at `zone` (RFC 4034 §5.1.4). Hashes once per digest type,
    /// however many DS records carry this key's tag.
    pub fn matches_any(&self, zone: &Name, set: &[Ds]) -> bool {
        let named: Vec<&Ds> = set.iter().filter(|ds| ds.tag == self.tag && ds.algorithm == self.algorithm).collect();
        [1, 2, 4].into_iter().any(|digest_type| {
            let mut named = named.iter().filter(|ds| ds.digest_type == digest_type).peekable();
            named.peek().is_some()
                && digest_of(digest_type, zone, self)
                    .is_some_and(|digest| named.any(|ds| &*ds.digest == digest.as_ref()))
        })
    }

    /// The RDATA.
    pub fn rdata(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.public.len());
        out.extend_from_slice(&self.flags.to_be_bytes());
        out.extend_from_slice(&[self.protocol, self.algorithm]);
        out.extend_from_slice(&self.public);
        out
    }
}

/// Key tag over DNSKEY RDATA (RFC 4034 appendix B). Algorithm 1, which counts otherwise, is not supported.
fn key_tag(rdata: &[u8]) -> u16 {
    let sum: u32 = rdata
        .iter()
        .enumerate()
        .map(|(index, octet)| if index % 2 == 0 { u32::from(*octet) << 8 } else { u32::from(*octet) })
        // RDATA has at most 65,535 octets, so the sum fits.
        .sum();
    (sum.wrapping_add(sum >> 16) & 0xffff) as u16
}

/// A DS (RFC 4034 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ds {
    /// Tag of the key it refers to.
    pub tag: u16,
    /// Algorithm of that key.
    pub algorithm: u8,
    /// Digest type (IANA).
    pub digest_type: u8,
    /// Digest.
    pub digest: Box<[u8]>,
}

impl Ds {
    /// Parses RDATA of type DS; `None` where it is too short to hold a digest.
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let ([t0, t1, algorithm, digest_type], digest) = rdata.split_first_chunk::<4>()?;
        if digest.is_empty() {
            return None;
        }
        let tag = u16::from_be_bytes([*t0, *t1]);
        Some(Self { tag, algorithm: *algorithm, digest_type: *digest_type, digest: digest.into() })
    }

    /// Whether digest and algorithm are ones we know.
    pub fn is_supported(&self) -> bool {
        algorithm_supported(self.algorithm) && digest_supported(self.digest_type)
    }
}

/// The digest a DS of this type has for `key` at `zone`; `None` for a type that is not supported.
fn digest_of(digest_type: u8, zone: &Name, key: &DnsKey) -> Option<digest::Digest> {
    let mut context = digest::Context::new(crypto::ds_digest(digest_type)?);
    context.update(&wire_name(zone));
    context.update(&key.rdata());
    Some(context.finish())
}

/// Whether signatures of this algorithm can be checked: 5, 7 (RFC 3110, 5155), 8, 10 (RFC 5702), 13, 14
/// (RFC 6605), 15 (RFC 8080).
pub fn algorithm_supported(algorithm: u8) -> bool {
    matches!(algorithm, 5 | 7 | 8 | 10 | 13 | 14 | 15)
}

/// Whether DS records of this digest type can be checked: 1 (RFC 4034), 2 (RFC 4509), 4 (RFC 6605).
pub fn digest_supported(digest_type: u8) -> bool {
    crypto::ds_digest(digest_type).is_some()
}

/// The usable keys of a DNSKEY RRset that was validated, and the zone they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// Zone apex.
    pub zone: Name,
    /// Keys for which [`DnsKey::is_usable`] holds.
    pub keys: Vec<DnsKey>,
}

impl KeySet {
    /// Octets it takes, roughly.
    pub fn bytes(&self) -> usize {
        let public = self.keys.iter().map(|key| limits::allocated(key.public.len()));
        limits::allocated_shared(size_of::<Self>())
            + limits::allocated(self.keys.capacity() * size_of::<DnsKey>())
            + public.sum::<usize>()
    }
}
