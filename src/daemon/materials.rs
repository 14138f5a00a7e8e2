//! What the configuration names beside itself: trust anchors, root hints, CA certificates. Read and checked
//! before anything is bound; read again on reload.

use std::path::{Path, PathBuf};

use hickory_proto::rr::Name;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::clock::UnixTime;
use crate::config::{self, Config};
use crate::names::Domain;
use crate::resolver::anchors::file::{FileError, read_anchors, read_hints};
use crate::resolver::anchors::{built_in_anchors, built_in_hints};
use crate::resolver::rrset::RrSet;
use crate::resolver::settings::{Forward, Settings};
use crate::resolver::transport::mozilla_roots;

/// A file that the configuration names and that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// `resolver.trust-anchors`.
    #[error("resolver.trust-anchors: {0}")]
    Anchors(FileError),
    /// `resolver.root-hints`.
    #[error("resolver.root-hints: {0}")]
    Hints(FileError),
    /// `mta-sts.ca-file` cannot be read, or is no PEM.
    #[error("mta-sts.ca-file: {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// `mta-sts.ca-file` has a certificate that is none.
    #[error("mta-sts.ca-file: {}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// `mta-sts.ca-file` has no certificate.
    #[error("mta-sts.ca-file: {}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
}

/// The engine's settings, with the files they name.
pub(super) fn resolver_settings(config: &config::Resolver, now: UnixTime) -> Result<Settings, MaterialError> {
    let root_hints = match &config.root_hints {
        Some(path) => read_hints(path).map_err(MaterialError::Hints)?,
        None => built_in_hints(),
    };
    let forward = config.forward.iter().map(|zone| Forward {
        zone: zone.zone.as_ref().map_or_else(Name::root, Domain::to_name),
        servers: zone.addresses(),
        tls: zone.tls.as_ref().map(ToString::to_string),
    });
    Ok(Settings {
        ipv4: config.ipv4,
        ipv6: config.ipv6,
        allow_private_servers: config.allow_private_servers,
        upstream_port: config.upstream_port,
        qname_minimisation: config.qname_minimisation,
        case_randomisation: config.case_randomisation,
        cache_bytes: config.cache_bytes,
        root_hints,
        trust_anchors: trust_anchors(config, now)?,
        forward: forward.collect(),
    })
}

/// The trust anchors of the file, or those that are built in.
pub(super) fn trust_anchors(config: &config::Resolver, now: UnixTime) -> Result<Vec<RrSet>, MaterialError> {
    match &config.trust_anchors {
        Some(path) => read_anchors(path, now).map_err(MaterialError::Anchors),
        None => Ok(built_in_anchors()),
    }
}

/// Whom policy hosts' certificates are believed from.
pub(super) fn authorities(config: &Config) -> Result<RootCertStore, MaterialError> {
    match &config.mta_sts.ca_file {
        Some(path) => read_authorities(path),
        None => Ok(mozilla_roots()),
    }
}

fn read_authorities(path: &Path) -> Result<RootCertStore, MaterialError> {
    let unreadable = |source| MaterialError::Authorities { path: path.to_owned(), source };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        store
            .add(certificate.map_err(unreadable)?)
            .map_err(|source| MaterialError::Certificate { path: path.to_owned(), source })?;
    }
    if store.is_empty() { Err(MaterialError::NoCertificate(path.to_owned())) } else { Ok(store) }
}
