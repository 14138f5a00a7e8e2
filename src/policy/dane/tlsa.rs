//! Which TLSA records Postfix can use (RFC 7672 §3.1, design §4 step 3).

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TLSA;

use super::der;

/// What an RRset of TLSA records is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsaSet {
    /// At least one record can authenticate a server.
    Usable,
    /// None can: TLS is still mandatory (RFC 7672 §2.2).
    Unusable,
}

/// Judges the records of a secure TLSA RRset.
pub fn judge(records: &[RData]) -> TlsaSet {
    if usable_records(records) > 0 { TlsaSet::Usable } else { TlsaSet::Unusable }
}

/// How many of the records can be used.
pub fn usable_records(records: &[RData]) -> usize {
    records.iter().filter(|record| matches!(record, RData::TLSA(tlsa) if is_usable(tlsa))).count()
}

fn is_usable(tlsa: &TLSA) -> bool {
    check(tlsa).is_ok()
}

/// Why Postfix cannot use a TLSA record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableTlsa {
    /// PKIX-TA(0) and PKIX-EE(1).
    #[error("usage {0} is not for SMTP (RFC 7672 §3.1.3): 2 or 3 is needed")]
    Pkix(u8),
    /// Any other.
    #[error("unknown usage {0}: 2 or 3 is needed")]
    Usage(u8),
    /// Neither certificate nor public key.
    #[error("unknown selector {0}: 0 or 1 is needed")]
    Selector(u8),
    /// Neither all of it nor a digest that is known.
    #[error("unknown matching type {0}: 0, 1 or 2 is needed")]
    Matching(u8),
    /// Selector 0, matching type 0.
    #[error("the data is no certificate")]
    NotACertificate,
    /// Selector 1, matching type 0.
    #[error("the data is no public key")]
    NotAKey,
    /// A digest that is not as long as its type says.
    #[error("a digest of {found} octets, where matching type {matching} has {wanted}")]
    Length {
        /// The matching type.
        matching: u8,
        /// Octets there.
        found: usize,
        /// Octets that belong there.
        wanted: usize,
    },
}

/// Whether one record can be used (RFC 7672 §3.1).
pub fn check(tlsa: &TLSA) -> Result<(), UnusableTlsa> {
    let data = tlsa.cert_data.as_slice();
    match u8::from(tlsa.cert_usage) {
        2 | 3 => {}
        // RFC 7672 §3.1.3
        usage @ (0 | 1) => return Err(UnusableTlsa::Pkix(usage)),
        usage => return Err(UnusableTlsa::Usage(usage)),
    }
    let digest = |matching, wanted| match data.len() == wanted {
        true => Ok(()),
        false => Err(UnusableTlsa::Length { matching, found: data.len(), wanted }),
    };
    match (u8::from(tlsa.selector), u8::from(tlsa.matching)) {
        (selector @ 2.., _) => Err(UnusableTlsa::Selector(selector)),
        (0, 0) if !der::is_certificate(data) => Err(UnusableTlsa::NotACertificate),
        (1, 0) if !der::is_public_key_info(data) => Err(UnusableTlsa::NotAKey),
        (0 | 1, 0) => Ok(()),
        (0 | 1, 1) => digest(1, 32), // SHA-256
        (0 | 1, 2) => digest(2, 64), // SHA-512
        (0 | 1, matching) => Err(UnusableTlsa::Matching(matching)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::PublicKeyData;

    fn record(usage: u8, selector: u8, matching: u8, data: &[u8]) -> RData {
        RData::TLSA(TLSA::new(usage.into(), selector.into(), matching.into(), data.to_vec()))
    }

    #[test]
    fn usability_follows_usage_selector_matching_type_and_data() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["mx.example.com".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").der().to_vec();
        let key = key.subject_public_key_info();
        let (sha256, sha512) = ([7; 32], [7; 64]);
        type Row<'a> = (&'a str, u8, u8, u8, &'a [u8], bool);
        let rows: &[Row<'_>] = &[
            ("3 1 1 of 32 octets", 3, 1, 1, &sha256, true),
            ("3 0 1 of 32 octets", 3, 0, 1, &sha256, true),
            ("2 0 1 of 32 octets", 2, 0, 1, &sha256, true),
            ("2 1 2 of 64 octets", 2, 1, 2, &sha512, true),
            ("3 1 1 of 31 octets", 3, 1, 1, &sha256[..31], false),
            ("3 1 1 of 64 octets", 3, 1, 1, &sha512, false),
            ("3 1 2 of 32 octets", 3, 1, 2, &sha256, false),
            ("3 1 1 of nothing", 3, 1, 1, &[], false),
            ("3 0 0 with a certificate", 3, 0, 0, &certificate, true),
            ("2 0 0 with a certificate", 2, 0, 0, &certificate, true),
            ("3 0 0 with a key", 3, 0, 0, &key, false),
            ("3 1 0 with a key", 3, 1, 0, &key, true),
            ("3 1 0 with a certificate", 3, 1, 0, &certificate, false),
            ("3 0 0 with anything else", 3, 0, 0, &sha256, false),
            ("PKIX-TA", 0, 0, 1, &sha256, false),
            ("PKIX-EE", 1, 0, 1, &sha256, false),
            ("unassigned usage", 4, 0, 1, &sha256, false),
            ("private usage", 255, 0, 1, &sha256, false),
            ("unassigned selector", 3, 2, 1, &sha256, false),
            ("unassigned matching type", 3, 1, 3, &sha256, false),
        ];
        for (name, usage, selector, matching, data, usable) in rows {
            assert_eq!(
                is_usable(&TLSA::new((*usage).into(), (*selector).into(), (*matching).into(), data.to_vec())),
                *usable,
                "{name}"
            );
        }
    }

    #[test]
    fn one_usable_record_is_enough() {
        let good = record(3, 1, 1, &[1; 32]);
        let bad = record(1, 1, 1, &[1; 32]);
        assert_eq!(judge(&[bad.clone(), good]), TlsaSet::Usable);
        assert_eq!(judge(&[bad.clone(), bad]), TlsaSet::Unusable);
    }
}
