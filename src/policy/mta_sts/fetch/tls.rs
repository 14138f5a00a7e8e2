//! TLS towards policy hosts: web PKI, TLS 1.2 or newer (RFC 8461 §3.3).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::FetchError;
use crate::clock::Clock;
use crate::dns::Date;

/// Why there are no CAs to verify policy hosts with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// The CA file cannot be read, or is not PEM.
    #[error("{0}: {1}")]
    Read(PathBuf, rustls::pki_types::pem::Error),
    /// There is no certificate in it, or one that is no CA.
    #[error("{0}: no usable CA certificate")]
    Empty(PathBuf),
    /// The TLS library refuses the set-up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The CAs that count: those of `ca_file`, else Mozilla's as compiled in.
pub fn trusted_roots(ca_file: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let read = |error| RootsError::Read(path.to_owned(), error);
            let certificates: Vec<CertificateDer<'static>> =
                CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(RootsError::Empty(path.to_owned()));
            }
        }
    }
    Ok(roots)
}

/// For connections to policy hosts.
pub(super) fn client_config(roots: Arc<RootCertStore>, clock: &Clock) -> Result<Arc<ClientConfig>, RootsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = Arc::new(Now(clock.clone()));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would show no certificate, and each fetch has to see one.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What a failed handshake means.
pub(super) fn handshake_error(error: &io::Error) -> FetchError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => FetchError::Certificate(certificate_text(error).into()),
        Some(rustls::Error::NoCertificatesPresented) => FetchError::Certificate("none shown".into()),
        Some(other) => FetchError::Tls(other.to_string().into()),
        None => FetchError::Broken,
    }
}

pub(in crate::policy) fn certificate_text(error: &CertificateError) -> String {
    let date = |time: UnixTime| Date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match error {
        CertificateError::Expired => "expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("expired on {}", date(*not_after)),
        CertificateError::NotValidYet => "not yet valid".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("not yet valid: valid from {}", date(*not_before))
        }
        CertificateError::UnknownIssuer => "issued by an unknown CA".to_owned(),
        // Two CAs of one name, or a certificate that was changed.
        CertificateError::BadSignature => "not signed by the CA that it names".to_owned(),
        CertificateError::NotValidForName => "for another name".to_owned(),
        CertificateError::NotValidForNameContext { presented, .. } => match names(presented) {
            names if names.is_empty() => "for no host name".to_owned(),
            names => format!("for another name: {names}"),
        },
        other => other.to_string(),
    }
}

/// The names in a certificate, a few of them, without what the library writes around them (`DnsName("…")`).
fn names(presented: &[String]) -> String {
    let bare = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name));
    // A stranger wrote them: nothing but what names are made of gets through.
    let bare = bare.filter(|name| name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._*:".contains(&octet)));
    bare.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ")
}

/// Names of a certificate that an error tells.
const NAMES_SHOWN: usize = 3;

/// Our clock, in the form that rustls asks for.
#[derive(Debug)]
struct Now(Clock);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.wall()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
