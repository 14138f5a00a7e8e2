//! Zone keys and signatures (RFC 4034 §3.1.8), written independently of the product; `ring` does the arithmetic.

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};

use super::name::DnsName;
use super::record::{Rdata, RrSet, ds_rdata, key_tag, rtype};

/// Flags of a key that signs keys, and that of one that signs the rest (RFC 4034 §2.1.1).
pub const KSK: u16 = 257;
pub const ZSK: u16 = 256;

enum Pair {
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    /// A public key nobody has the private half of, or of an algorithm nobody knows: signs with noise.
    None,
}

/// A DNSKEY with, mostly, its private half.
pub struct ZoneKey {
    pub algorithm: u8,
    pub dnskey: Vec<u8>,
    pair: Pair,
}

/// `ring` cannot make RSA keys; these two serve all zones that want them. Made once, for tests alone, with
/// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 | openssl pkcs8 -topk8 -nocrypt -outform DER`.
const RSA: [&[u8]; 2] = [include_bytes!("keys/rsa1.der"), include_bytes!("keys/rsa2.der")];

impl ZoneKey {
    /// A new key; `flags` is [`KSK`] or [`ZSK`]. Algorithms 8, 10, 13, 14 and 15 sign; others only look like it.
    pub fn new(algorithm: u8, flags: u16) -> Self {
        let random = SystemRandom::new();
        match algorithm {
            8 | 10 => {
                let pair = RsaKeyPair::from_pkcs8(RSA[usize::from(flags == ZSK)]).unwrap();
                let ring::rsa::PublicKeyComponents::<Vec<u8>> { n: modulus, e: exponent } = pair.public().into();
                let mut octets = vec![exponent.len() as u8]; // RFC 3110 §2
                octets.extend(exponent);
                octets.extend(modulus);
                let padding: &'static dyn signature::RsaEncoding =
                    if algorithm == 8 { &signature::RSA_PKCS1_SHA256 } else { &signature::RSA_PKCS1_SHA512 };
                Self::with(algorithm, flags, &octets, Pair::Rsa(pair, padding))
            }
            13 | 14 => {
                let kind = if algorithm == 13 {
                    &signature::ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &signature::ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap();
                let point = pair.public_key().as_ref()[1..].to_vec(); // RFC 6605 §4: without the leading 4
                Self::with(algorithm, flags, &point, Pair::Ecdsa(pair))
            }
            15 => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
                let public = pair.public_key().as_ref().to_vec();
                Self::with(algorithm, flags, &public, Pair::Ed25519(pair))
            }
            other => Self::foreign(other, flags, &[0x5a; 64]),
        }
    }

    /// A key without private half.
    pub fn foreign(algorithm: u8, flags: u16, public: &[u8]) -> Self {
        Self::with(algorithm, flags, public, Pair::None)
    }

    fn with(algorithm: u8, flags: u16, public: &[u8], pair: Pair) -> Self {
        let [f0, f1] = flags.to_be_bytes();
        let mut dnskey = vec![f0, f1, 3, algorithm];
        dnskey.extend_from_slice(public);
        Self { algorithm, dnskey, pair }
    }

    pub fn tag(&self) -> u16 {
        key_tag(&self.dnskey)
    }

    pub fn is_ksk(&self) -> bool {
        self.dnskey[1] & 1 == 1
    }

    pub fn ds(&self, owner: &DnsName, digest_type: u8) -> Rdata {
        Rdata::octets(ds_rdata(owner, &self.dnskey, digest_type))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, padding) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(*padding, &random, message, &mut out).unwrap();
                out
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::None => vec![0xa5; 64],
        }
    }

    /// RDATA of an RRSIG over `set`, whose records stand in the zone under `source`: the owner itself, or the
    /// wildcard it was made from.
    pub fn rrsig(&self, set: &RrSet, source: &DnsName, signer: &DnsName, window: (i64, i64)) -> Rdata {
        let labels = source.labels().len() - usize::from(source.is_wildcard());
        let mut head = set.rtype.to_be_bytes().to_vec();
        head.extend_from_slice(&[self.algorithm, labels as u8]);
        head.extend_from_slice(&set.ttl.to_be_bytes());
        head.extend_from_slice(&(window.1 as u32).to_be_bytes());
        head.extend_from_slice(&(window.0 as u32).to_be_bytes());
        head.extend_from_slice(&self.tag().to_be_bytes());
        head.extend(signer.lowered().wire());
        let mut message = head.clone();
        let mut rdatas: Vec<Vec<u8>> = set.rdatas.iter().map(|rdata| rdata.canonical(set.rtype)).collect();
        rdatas.sort();
        rdatas.dedup();
        for rdata in rdatas {
            message.extend(source.lowered().wire());
            message.extend_from_slice(&set.rtype.to_be_bytes());
            message.extend_from_slice(&1_u16.to_be_bytes());
            message.extend_from_slice(&set.ttl.to_be_bytes());
            message.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
            message.extend(rdata);
        }
        head.extend(self.sign(&message));
        Rdata::octets(head)
    }
}

/// The DNSKEY RRset of these keys.
pub fn dnskey_set(owner: &DnsName, ttl: u32, keys: &[ZoneKey]) -> RrSet {
    let rdatas = keys.iter().map(|key| Rdata::octets(key.dnskey.clone())).collect();
    RrSet { name: owner.clone(), rtype: rtype::DNSKEY, ttl, rdatas }
}
