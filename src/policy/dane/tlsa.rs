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
    // PKIX-TA(0) and PKIX-EE(1) are not for SMTP (RFC 7672 §3.1.3).
    let usage = matches!(u8::from(tlsa.cert_usage), 2 | 3);
    let data = tlsa.cert_data.as_slice();
    usage
        && match (u8::from(tlsa.selector), u8::from(tlsa.matching)) {
            (0, 0) => der::is_certificate(data),
            (1, 0) => der::is_public_key_info(data),
            (0 | 1, 1) => data.len() == 32, // SHA-256
            (0 | 1, 2) => data.len() == 64, // SHA-512
            _ => false,
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
