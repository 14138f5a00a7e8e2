//! What a certificate is worth: DANE-EE and DANE-TA (RFC 7672 §3.1, RFC 7671 §5), or the web PKI. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use hickory_proto::rr::rdata::TLSA;
use ring::digest::{SHA256, SHA512, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, Der, ServerName, TrustAnchor, UnixTime};
use rustls::{CertificateError, RootCertStore};

use crate::names::Domain;
use crate::policy::dane::{der, tlsa};
use crate::policy::mta_sts::fetch::certificate_text;

/// What a certificate has to show.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// It, or a CA above it, is in these TLSA records; with a CA it has to be for one of these names.
    Dane { records: Vec<TLSA>, names: Vec<Domain> },
    /// A CA that is trusted here vouches for it and one of these names.
    WebPki { roots: Arc<RootCertStore>, names: Vec<Domain> },
}

/// What it does show: why it counts, or why it does not.
pub(super) type Judged = Result<String, String>;

/// Judges certificates in the order in which they were shown, the server's own first.
pub(super) fn judge(certificates: &[CertificateDer<'_>], wanted: &Wanted, now: UnixTime) -> Judged {
    let Some((own, others)) = certificates.split_first() else { return Err("no certificate was shown".to_owned()) };
    match wanted {
        Wanted::WebPki { roots, names } => {
            verify(Arc::clone(roots), own, others, names, now).map_err(|why| format!("certificate {why}"))?;
            Ok("the certificate is valid for its name (web PKI)".to_owned())
        }
        Wanted::Dane { records, names } => by_dane(own, others, records, names, now),
    }
}

fn by_dane(
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    records: &[TLSA],
    names: &[Domain],
    now: UnixTime,
) -> Judged {
    let usable = || records.iter().enumerate().filter(|(_, record)| tlsa::check(record).is_ok());
    let words = |at: usize, record: &TLSA| {
        let (usage, selector) = (u8::from(record.cert_usage), u8::from(record.selector));
        format!("TLSA record {} ({usage} {selector} {})", at + 1, u8::from(record.matching))
    };
    // DANE-EE: neither name nor dates count (RFC 7672 §3.1.1).
    if let Some((at, record)) = usable().find(|(_, record)| u8::from(record.cert_usage) == 3 && matches(record, own)) {
        return Ok(format!("the certificate matches {}", words(at, record)));
    }
    let mut nearly = None;
    for (at, record) in usable().filter(|(_, record)| u8::from(record.cert_usage) == 2) {
        for anchors in anchors(record, own, others) {
            match verify(Arc::new(anchors), own, others, names, now) {
                Ok(()) => return Ok(format!("the certificate is issued by the CA in {}", words(at, record))),
                Err(why) => nearly = nearly.or(Some(format!("{}: certificate {why}", words(at, record)))),
            }
        }
    }
    Err(nearly.unwrap_or_else(|| "the certificate matches no TLSA record".to_owned()))
}

/// Whether a certificate is the one in a TLSA record (RFC 6698 §2.1).
fn matches(record: &TLSA, certificate: &CertificateDer<'_>) -> bool {
    association(record, certificate).is_some_and(|data| data.as_ref() == record.cert_data.as_slice())
}

/// What a TLSA record with this selector and matching type would have to hold for a certificate (RFC 6698 §2.1).
fn association<'c>(record: &TLSA, certificate: &'c CertificateDer<'_>) -> Option<Cow<'c, [u8]>> {
    let selected = match u8::from(record.selector) {
        0 => certificate.as_ref(),
        _ => der::parts(certificate)?.key,
    };
    match u8::from(record.matching) {
        0 => Some(Cow::Borrowed(selected)),
        1 => Some(Cow::Owned(digest(&SHA256, selected).as_ref().to_vec())),
        2 => Some(Cow::Owned(digest(&SHA512, selected).as_ref().to_vec())),
        _ => None,
    }
}

/// What records of the kinds that are published would have to say for the certificates that were shown: the server's own
/// for usage 3, the CA that it sent along last for usage 2. Whole certificates and keys (matching type 0) are left out:
/// they are too long to compare by eye.
pub(super) fn presented(certificates: &[CertificateDer<'_>], records: &[TLSA]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for record in records.iter().filter(|record| tlsa::check(record).is_ok() && u8::from(record.matching) != 0) {
        let (usage, selector) = (u8::from(record.cert_usage), u8::from(record.selector));
        let shown = if usage == 3 { certificates.first() } else { certificates.get(1..).and_then(<[_]>::last) };
        let Some(data) = shown.and_then(|certificate| association(record, certificate)) else { continue };
        let hex = data_encoding::HEXLOWER.encode(&data);
        let line = format!("{usage} {selector} {} {hex}", u8::from(record.matching));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

/// The trust anchors that a DANE-TA record stands for: certificates that the server sent along, or what the record
/// holds in full, which the server need not send (RFC 7671 §5.2.2).
fn anchors(record: &TLSA, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Vec<RootCertStore> {
    let sent = others.iter().filter(|certificate| matches(record, certificate)).cloned();
    let data = record.cert_data.as_slice();
    let (selector, matching) = (u8::from(record.selector), u8::from(record.matching));
    let published = (selector == 0 && matching == 0).then(|| CertificateDer::from(data));
    let mut stores: Vec<RootCertStore> = Vec::new();
    for certificate in sent.chain(published) {
        let mut store = RootCertStore::empty();
        if store.add(certificate.into_owned()).is_ok() {
            stores.push(store);
        }
    }
    if let Some(key) = der::key_content(data).filter(|_| selector == 1 && matching == 0) {
        // A bare key: whoever it signed for names its issuer.
        let issuers = std::iter::once(own).chain(others).filter_map(|certificate| der::parts(certificate));
        stores.extend(issuers.map(|parts| RootCertStore {
            roots: vec![TrustAnchor {
                subject: Der::from(parts.issuer.to_vec()),
                subject_public_key_info: Der::from(key.to_vec()),
                name_constraints: None,
            }],
        }));
    }
    stores
}

/// Whether a chain leads to an anchor, for one of these names, now.
fn verify(
    anchors: Arc<RootCertStore>,
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    names: &[Domain],
    now: UnixTime,
) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(anchors, provider)
        .build()
        .map_err(|error| format!("cannot be verified here: {error}"))?;
    let mut last = "has no name to be verified for".to_owned();
    for name in names {
        let Ok(name) = ServerName::try_from(name.as_str()) else { continue };
        match verifier.verify_server_cert(own, others, &name, &[], now) {
            Ok(_) => return Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => {
                last = certificate_text(&error);
                let of_name = matches!(
                    error,
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                );
                if !of_name {
                    break;
                }
            }
            Err(other) => last = other.to_string(),
        }
    }
    Err(last)
}
