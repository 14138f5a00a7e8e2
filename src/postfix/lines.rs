//! The lines that belong into `main.cf`, by our own configuration and the version of Postfix.

use std::path::Path;

use super::version::{INSECURE_MX, SERVERNAME, TLSRPT, Version};
use crate::config::{Config, Listen};

/// Where postseal answers Postfix, as `smtp_tls_policy_maps` has it: without the map's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The address to ask at: a wildcard is asked over loopback, a Unix socket below Postfix's queue directory by the
    /// path that also holds in a chroot.
    pub fn of(listen: &Listen, queue_directory: &Path) -> Self {
        match listen {
            Listen::Tcp(address) => {
                let ip = match address.ip() {
                    ip if !ip.is_unspecified() => ip.to_string(),
                    ip if ip.is_ipv6() => "::1".to_owned(),
                    _ => "127.0.0.1".to_owned(),
                };
                let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
                Self(format!("inet:{ip}:{}", address.port()))
            }
            Listen::Unix(path) => {
                let path = path.strip_prefix(queue_directory).unwrap_or(path);
                Self(format!("unix:{}", path.display()))
            }
        }
    }

    /// As a table of Postfix, for this map.
    pub fn table(&self, map: &str) -> String {
        format!("socketmap:{}:{map}", self.0)
    }
}

/// Everywhere postseal answers by this configuration.
pub fn endpoints(config: &Config, queue_directory: &Path) -> Vec<Endpoint> {
    config.socketmap.listen.iter().map(|listen| Endpoint::of(listen, queue_directory)).collect()
}

/// The map to ask: one that sends what this version understands.
pub fn map_name(config: &Config, version: Version) -> Option<String> {
    if version >= TLSRPT {
        return Some("QUERYwithTLSRPT".to_owned());
    }
    if version >= SERVERNAME {
        return Some("QUERY".to_owned());
    }
    let fits = config.maps.iter().find(|(_, map)| !map.require_sni && !map.tlsrpt);
    fits.map(|(name, _)| name.clone())
}

/// The name of a map without SNI, for those who have none.
pub const OLD_MAP: &str = "old";

/// Parameters and their values, in the order of docs/postfix.md.
pub fn lines(config: &Config, version: Version, queue_directory: &Path, ca_file: &str) -> Vec<(&'static str, String)> {
    let map = map_name(config, version).unwrap_or_else(|| OLD_MAP.to_owned());
    let endpoint = endpoints(config, queue_directory).into_iter().next();
    let table = endpoint.map_or_else(|| format!("socketmap:inet:127.0.0.1:8642:{map}"), |at| at.table(&map));
    let mut lines =
        vec![("smtp_dns_support_level", "dnssec".to_owned()), ("smtp_tls_security_level", "may".to_owned())];
    if version >= INSECURE_MX {
        lines.push(("smtp_tls_dane_insecure_mx_policy", "dane".to_owned()));
    }
    lines.extend([("smtp_tls_policy_maps", table), ("smtp_tls_CAfile", ca_file.to_owned())]);
    if version >= TLSRPT {
        lines.extend([
            ("smtp_tlsrpt_enable", "yes".to_owned()),
            ("smtp_tlsrpt_socket_name", "run/tlsrpt/tlsrpt.sock".to_owned()),
        ]);
    }
    lines
}
