//! Just enough DER (X.690) to tell a certificate and a public key from anything else.
//!
//! Checks what OpenSSL's `d2i_X509` and `d2i_PUBKEY` check before Postfix accepts a full TLSA record: the
//! structure, no octet left over, and a key of a kind that can be used. Never verifies a signature.

/// What DANE looks at in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateParts<'a> {
    /// Content of the issuer's distinguished name.
    pub issuer: &'a [u8],
    /// SubjectPublicKeyInfo, tag and length included: what selector 1 selects (RFC 6698 §2.1.2).
    pub key: &'a [u8],
}

/// The parts of a certificate, where it is one.
pub fn parts(octets: &[u8]) -> Option<CertificateParts<'_>> {
    certificate(octets)
}

/// The content of a SubjectPublicKeyInfo, where it is one.
pub fn key_content(octets: &[u8]) -> Option<&[u8]> {
    is_public_key_info(octets).then(|| Reader(octets).take(tag::SEQUENCE))?
}

/// Tags that occur in what is checked here.
mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OID: u8 = 0x06;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const OCTET_STRING: u8 = 0x04;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[0]`, `[1]`, `[2]`, `[3]` of a TBSCertificate (RFC 5280 §4.1).
    pub const VERSION: u8 = 0xa0;
    pub const ISSUER_ID: u8 = 0x81;
    pub const SUBJECT_ID: u8 = 0x82;
    pub const EXTENSIONS: u8 = 0xa3;
}

/// Object identifiers of public keys, encoded.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ED448: &[u8] = &[0x2b, 0x65, 0x71];

/// True where `octets` are a Certificate (RFC 5280 §4.1) and nothing else.
pub fn is_certificate(octets: &[u8]) -> bool {
    certificate(octets).is_some()
}

/// True where `octets` are a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) and nothing else.
pub fn is_public_key_info(octets: &[u8]) -> bool {
    let mut reader = Reader(octets);
    reader.take(tag::SEQUENCE).and_then(public_key_info).is_some() && reader.is_empty()
}

fn certificate(octets: &[u8]) -> Option<CertificateParts<'_>> {
    let mut outer = Reader(octets);
    let mut certificate = Reader(outer.take(tag::SEQUENCE)?);
    let mut tbs = Reader(certificate.take(tag::SEQUENCE)?);
    algorithm(certificate.take(tag::SEQUENCE)?)?;
    bit_string(certificate.take(tag::BIT_STRING)?)?;

    if let Some(version) = tbs.take(tag::VERSION) {
        let mut version = Reader(version);
        version.take(tag::INTEGER)?;
        version.end()?;
    }
    tbs.take(tag::INTEGER).filter(|serial| !serial.is_empty())?;
    algorithm(tbs.take(tag::SEQUENCE)?)?;
    let issuer = tbs.take(tag::SEQUENCE)?;
    distinguished_name(issuer)?;
    let mut validity = Reader(tbs.take(tag::SEQUENCE)?);
    for _ in 0..2 {
        validity.take(tag::UTC_TIME).or_else(|| validity.take(tag::GENERALIZED_TIME))?;
    }
    validity.end()?;
    distinguished_name(tbs.take(tag::SEQUENCE)?)?;
    let at_key = tbs.0;
    public_key_info(tbs.take(tag::SEQUENCE)?)?;
    let key = at_key.get(..at_key.len() - tbs.0.len())?;
    tbs.take(tag::ISSUER_ID);
    tbs.take(tag::SUBJECT_ID);
    if let Some(list) = tbs.take(tag::EXTENSIONS) {
        extensions(list)?;
    }
    tbs.end()?;
    certificate.end()?;
    outer.end()?;
    Some(CertificateParts { issuer, key })
}

fn distinguished_name(content: &[u8]) -> Option<()> {
    let mut sets = Reader(content);
    while !sets.is_empty() {
        let mut set = Reader(sets.take(tag::SET)?);
        while !set.is_empty() {
            let mut attribute = Reader(set.take(tag::SEQUENCE)?);
            attribute.take(tag::OID)?;
            attribute.any()?;
            attribute.end()?;
        }
    }
    Some(())
}

fn extensions(content: &[u8]) -> Option<()> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.take(tag::SEQUENCE)?);
    while !list.is_empty() {
        let mut extension = Reader(list.take(tag::SEQUENCE)?);
        extension.take(tag::OID)?;
        extension.take(tag::BOOLEAN);
        extension.take(tag::OCTET_STRING)?;
        extension.end()?;
    }
    outer.end()
}

/// Tag and content of an element.
type Element<'a> = (u8, &'a [u8]);

/// An AlgorithmIdentifier: its object identifier and the parameters, which may be absent.
fn algorithm(content: &[u8]) -> Option<(&[u8], Option<Element<'_>>)> {
    let mut reader = Reader(content);
    let oid = reader.take(tag::OID).filter(|oid| !oid.is_empty())?;
    let parameters = if reader.is_empty() { None } else { Some(reader.any()?) };
    reader.end()?;
    Some((oid, parameters))
}

/// The octets of a BIT STRING that ends on a whole octet.
fn bit_string(content: &[u8]) -> Option<&[u8]> {
    match content.split_first()? {
        (0, octets) => Some(octets),
        _ => None,
    }
}

fn public_key_info(content: &[u8]) -> Option<()> {
    let mut reader = Reader(content);
    let (oid, parameters) = algorithm(reader.take(tag::SEQUENCE)?)?;
    let key = bit_string(reader.take(tag::BIT_STRING)?)?;
    reader.end()?;
    let fits = match oid {
        RSA | RSA_PSS => rsa_key(key).is_some(),
        EC => parameters.is_some_and(|(kind, curve)| kind == tag::OID && ec_point(curve, key)),
        ED25519 => key.len() == 32,
        ED448 => key.len() == 57,
        _ => false, // no key that TLS could present and OpenSSL would read
    };
    fits.then_some(())
}

/// RSAPublicKey (RFC 3279 §2.3.1).
fn rsa_key(key: &[u8]) -> Option<()> {
    let mut outer = Reader(key);
    let mut numbers = Reader(outer.take(tag::SEQUENCE)?);
    for _ in 0..2 {
        numbers.take(tag::INTEGER).filter(|number| !number.is_empty())?;
    }
    numbers.end()?;
    outer.end()
}

/// A point of the right length for the curve, uncompressed or compressed (RFC 5480 §2.2). Curves not known
/// here are taken for what they claim to be.
fn ec_point(curve: &[u8], key: &[u8]) -> bool {
    let size = match curve {
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => Some(32), // P-256
        [0x2b, 0x81, 0x04, 0x00, 0x22] => Some(48),                   // P-384
        [0x2b, 0x81, 0x04, 0x00, 0x23] => Some(66),                   // P-521
        _ => None,
    };
    match key.split_first() {
        Some((0x04, point)) => size.is_none_or(|size| point.len() == 2 * size),
        Some((0x02 | 0x03, point)) => size.is_none_or(|size| point.len() == size),
        _ => false,
    }
}

/// Reads one element after the other from definite-length DER.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next element, if its tag is `wanted`; else nothing is consumed.
    fn take(&mut self, wanted: u8) -> Option<&'a [u8]> {
        if self.0.first() != Some(&wanted) {
            return None;
        }
        self.any().map(|(_, content)| content)
    }

    /// Tag and content of the next element.
    fn any(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // high tag numbers occur nowhere in a certificate
        }
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short if short < 0x80 => (usize::from(short), rest),
            // The shortest form is the only form (X.690 §10.1); four octets of length are more than DNS carries.
            long @ 0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                let length = octets.iter().fold(0usize, |sum, octet| (sum << 8) | usize::from(*octet));
                let shortest = octets.first() != Some(&0) && (length >= 0x80);
                (shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left over.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PublicKeyData;

    fn certificates() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
        [
            ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
            ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
            ("Ed25519", &rcgen::PKCS_ED25519),
        ]
        .into_iter()
        .map(|(name, algorithm)| {
            let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
            let params = rcgen::CertificateParams::new(vec!["mx.example.com".to_owned()]).expect("a name");
            let certificate = params.self_signed(&key).expect("a certificate");
            (name, certificate.der().to_vec(), key.subject_public_key_info())
        })
        .collect()
    }

    #[test]
    fn certificates_and_keys_are_told_apart() {
        for (name, certificate, key) in certificates() {
            assert!(is_certificate(&certificate), "{name}");
            assert!(is_public_key_info(&key), "{name}");
            assert!(!is_certificate(&key), "{name}");
            assert!(!is_public_key_info(&certificate), "{name}");
            assert_eq!(parts(&certificate).map(|parts| parts.key), Some(&*key), "{name}");
            assert!(key_content(&key).is_some_and(|content| key.ends_with(content)), "{name}");
        }
    }

    #[test]
    fn a_missing_or_additional_octet_is_noticed() {
        for (name, certificate, key) in certificates() {
            for (octets, check) in [(certificate, is_certificate as fn(&[u8]) -> bool), (key, is_public_key_info)] {
                for end in 0..octets.len() {
                    assert!(!check(&octets[..end]), "{name} cut at {end}");
                }
                assert!(!check(&[octets, vec![0]].concat()), "{name} with one more octet");
            }
        }
    }

    #[test]
    fn any_octets_are_survived() {
        let (_, certificate, _) = certificates().remove(0);
        for at in 0..certificate.len() {
            for value in [0x00, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut octets = certificate.clone();
                octets[at] = value;
                let _ = is_certificate(&octets);
                let _ = is_public_key_info(&octets[at..]);
            }
        }
    }
}
