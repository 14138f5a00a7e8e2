//! The bridge to `ring`: DNSSEC's forms of keys and signatures in, a verdict out.
//!
//! RSA keys of fewer than 1024 or more than 8192 bits verify nothing: `ring` does not take them.

use ring::{digest, signature};

use super::keys::DnsKey;

/// The hash behind a DS digest type: SHA-1 (RFC 4034 §5.1.3), SHA-256 (RFC 4509), SHA-384 (RFC 6605 §2).
pub(super) fn ds_digest(digest_type: u8) -> Option<&'static digest::Algorithm> {
    match digest_type {
        1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        2 => Some(&digest::SHA256),
        4 => Some(&digest::SHA384),
        _ => None,
    }
}

/// Whether `signed` over `message` verifies with `key`. The costly part of validation.
pub(super) fn verifies(key: &DnsKey, message: &[u8], signed: &[u8]) -> bool {
    match key.algorithm {
        5 | 7 => rsa(&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, key, message, signed),
        8 => rsa(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, key, message, signed),
        10 => rsa(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, key, message, signed),
        13 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED, key, message, signed),
        14 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED, key, message, signed),
        15 => signature::UnparsedPublicKey::new(&signature::ED25519, &key.public).verify(message, signed).is_ok(),
        _ => false,
    }
}

/// The key is the point without the octet that says "uncompressed" (RFC 6605 §4).
fn ecdsa(
    algorithm: &'static signature::EcdsaVerificationAlgorithm,
    key: &DnsKey,
    message: &[u8],
    signed: &[u8],
) -> bool {
    let mut point = Vec::with_capacity(1 + key.public.len());
    point.push(4);
    point.extend_from_slice(&key.public);
    signature::UnparsedPublicKey::new(algorithm, point).verify(message, signed).is_ok()
}

fn rsa(parameters: &'static signature::RsaParameters, key: &DnsKey, message: &[u8], signed: &[u8]) -> bool {
    rsa_parts(&key.public)
        .is_some_and(|(e, n)| signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, signed).is_ok())
}

/// Exponent and modulus (RFC 3110 §2): the exponent's length in one octet, or in two after a zero octet.
/// Leading zeros, which the RFC forbids, change no value and are dropped.
fn rsa_parts(public: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match public {
        [0, l0, l1, rest @ ..] => (usize::from(u16::from_be_bytes([*l0, *l1])), rest),
        [length, rest @ ..] => (usize::from(*length), rest),
        [] => return None,
    };
    let (exponent, modulus) = rest.split_at_checked(length)?;
    let (exponent, modulus) = (without_zeros(exponent), without_zeros(modulus));
    (!exponent.is_empty() && !modulus.is_empty()).then_some((exponent, modulus))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or(&[])
}
