//! What the configuration names beside itself: trust anchors, root hints, CA certificates. Read and checked
//! before anything is bound; read again on reload.

use std::io;
use std::path::PathBuf;

use hickory_proto::rr::Name;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::clock::UnixTime;
use crate::config::{self, Environment, LastDay};
use crate::names::Domain;
use crate::policy::mta_sts::fetch::{FetchSettings, NotAProxy, ProxyRules, RootsError, trusted_roots};
use crate::resolver::anchors::file::{FileError, read_anchors, read_hints};
use crate::resolver::anchors::{built_in_anchors, built_in_hints};
use crate::resolver::exceptions::NegativeAnchor;
use crate::resolver::rrset::RrSet;
use crate::resolver::settings::{Forward, Settings};

/// A file that the configuration names and that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// `resolver.trust-anchors`.
    #[error("resolver.trust-anchors: {0}")]
    Anchors(FileError),
    /// `resolver.root-hints`.
    #[error("resolver.root-hints: {0}")]
    Hints(FileError),
    /// `resolver.forward-ca-file`.
    #[error("resolver.forward-ca-file: {0}")]
    ForwardAuthorities(RootsError),
    /// `mta-sts.ca-file`.
    #[error("mta-sts.ca-file: {0}")]
    Authorities(#[from] RootsError),
    /// `HTTPS_PROXY` in the environment: going direct in its place would break what the operator wants.
    #[error("HTTPS_PROXY: {0}; only where NO_PROXY is `*` it does not matter")]
    Proxy(NotAProxy),
    /// `store.shared-ca-file` cannot be read.
    #[error("store.shared-ca-file: {0}: {1}")]
    SharedAuthoritiesRead(PathBuf, io::Error),
    /// `store.shared-ca-file` holds something else, or nothing.
    #[error("store.shared-ca-file: {0}: no CA certificates in PEM, or something that is none between them")]
    SharedAuthorities(PathBuf),
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
        insecure: negative_anchors(config),
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
        counted: true,
    })
}

/// What is not to be validated: `resolver.insecure`, and forward zones with `insecure = true`.
pub(super) fn negative_anchors(config: &config::Resolver) -> Vec<NegativeAnchor> {
    let name = |zone: &Option<Domain>| zone.as_ref().map_or_else(Name::root, Domain::to_name);
    let listed = config.insecure.iter().map(|entry| NegativeAnchor {
        zone: name(&entry.zone),
        until: entry.until.map(LastDay::end),
        forwarded: false,
    });
    let forwarded = config.forward.iter().filter(|zone| zone.insecure).map(|zone| NegativeAnchor {
        zone: name(&zone.zone),
        until: None,
        forwarded: true,
    });
    listed.chain(forwarded).collect()
}

/// The CAs that a server asked over TLS is verified against.
pub(super) fn forward_authorities(config: &config::Resolver) -> Result<RootCertStore, MaterialError> {
    trusted_roots(config.forward_ca_file.as_deref()).map_err(MaterialError::ForwardAuthorities)
}

/// The trust anchors of the file, or those that are built in.
pub(super) fn trust_anchors(config: &config::Resolver, now: UnixTime) -> Result<Vec<RrSet>, MaterialError> {
    match &config.trust_anchors {
        Some(path) => match read_anchors(path, now) {
            // A lab's own root may be unsigned; the Internet's is not, and an empty file there is an accident.
            Err(FileError::Empty { .. }) if config.root_hints.is_some() => Ok(Vec::new()),
            read => read.map_err(MaterialError::Anchors),
        },
        None => Ok(built_in_anchors()),
    }
}

/// How policy files are fetched. The proxy of the configuration is used for all; that of the environment with its
/// exceptions. Without MTA-STS it is used for nothing, and may be anything.
pub(super) fn fetch_settings(
    config: &config::MtaSts,
    environment: &Environment,
) -> Result<FetchSettings, MaterialError> {
    let variable = |upper, lower| environment.get(upper).or_else(|| environment.get(lower));
    let proxy = match &config.proxy {
        Some(proxy) => ProxyRules::new(Some(proxy), None),
        None => ProxyRules::new(variable("HTTPS_PROXY", "https_proxy"), variable("NO_PROXY", "no_proxy")),
    };
    let proxy = match proxy {
        Err(error) if config.enabled => return Err(MaterialError::Proxy(error)),
        proxy => proxy.unwrap_or_default(),
    };
    Ok(FetchSettings {
        ca_file: config.ca_file.clone(),
        proxy,
        port: config.port,
        allow_private_addresses: config.allow_private_addresses,
    })
}

/// The CA certificates of the shared store's servers, in PEM, each of them checked.
pub(super) fn shared_authorities(config: &config::Store) -> Result<Option<Vec<u8>>, MaterialError> {
    let Some(path) = &config.shared_ca_file else { return Ok(None) };
    let pem = std::fs::read(path).map_err(|error| MaterialError::SharedAuthoritiesRead(path.clone(), error))?;
    let mut roots = RootCertStore::empty();
    let usable = CertificateDer::pem_slice_iter(&pem)
        .all(|certificate| certificate.is_ok_and(|certificate| roots.add(certificate).is_ok()));
    if usable && !roots.is_empty() { Ok(Some(pem)) } else { Err(MaterialError::SharedAuthorities(path.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_of_the_shared_store_is_certificates_or_a_mistake() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = rcgen::CertificateParams::new(["ca.example".to_owned()]).expect("names").self_signed(&key);
        let ca = ca.expect("a certificate").pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let rows =
            [("two", format!("{ca}{ca}"), true), ("empty", String::new(), false), ("text", "hello".into(), false)]
                .into_iter()
                .chain([("one of two broken", format!("{ca}{broken}"), false)]);
        for (name, text, expected) in rows {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            let config = config::Store { shared: None, shared_ca_file: Some(path) };
            assert_eq!(shared_authorities(&config).is_ok(), expected, "{name}");
        }
        let config = config::Store { shared: None, shared_ca_file: Some(directory.path().join("missing")) };
        let message = shared_authorities(&config).expect_err("no such file").to_string();
        assert!(message.starts_with("store.shared-ca-file: ") && message.contains("missing"), "{message}");
    }

    #[test]
    fn an_empty_anchor_file_is_an_accident_except_under_a_root_of_ones_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let empty = directory.path().join("postseal.toml");
        std::fs::write(&empty, "").expect("written");
        let sources = config::Sources { file: Some(empty), ..config::Sources::default() };
        let mut config = config::Config::load(&sources).expect("the defaults").resolver;
        config.trust_anchors = Some(file("anchors", "; none\n"));
        assert!(matches!(trust_anchors(&config, 0), Err(MaterialError::Anchors(FileError::Empty { .. }))));
        config.root_hints = Some(file("hints", ". NS ns.\nns. A 192.0.2.1\n"));
        assert_eq!(trust_anchors(&config, 0).expect("no anchor is needed"), Vec::new());
    }
}
