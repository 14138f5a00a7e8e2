//! The tree of settings, with every value parsed and in range.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use figment::error::Kind as FigmentKind;
use serde::Deserialize;

use super::error::ConfigError;
use super::fields;
use super::insecure::InsecureZone;
use super::maps::MapOptions;
use super::overrides::Overrides;
use super::shared_url::SharedUrl;
use super::sources::Sources;
use super::values::{self, Listen};
use crate::names::Domain;

/// All settings. `KEYS` holds each key's default and meaning; nothing here has a default of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Where state lives: store, trust anchor state, control socket.
    pub state_dir: PathBuf,
    /// Lookups by Postfix.
    pub socketmap: Socketmap,
    /// Metrics and health.
    pub http: Http,
    /// DNS for Postfix's own resolver.
    pub dns: Dns,
    /// The engine.
    pub resolver: Resolver,
    /// MTA-STS.
    pub mta_sts: MtaSts,
    /// DANE.
    pub dane: Dane,
    /// Decisions.
    pub policy: Policy,
    /// Maps by exact name.
    #[serde(default, deserialize_with = "fields::maps")]
    pub maps: BTreeMap<String, MapOptions>,
    /// Postfix's own resolver.
    pub postfix: Postfix,
    /// Policies in memory.
    pub cache: Cache,
    /// Policies on disk and beyond.
    #[serde(default)]
    pub store: Store,
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Logging.
    pub log: Log,
}

/// `[socketmap]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Socketmap {
    /// TCP and Unix addresses.
    pub listen: Vec<Listen>,
    /// Permissions of Unix sockets.
    #[serde(deserialize_with = "values::mode")]
    pub socket_mode: u32,
    /// SO_REUSEPORT on TCP.
    pub reuse_port: bool,
    /// Open connections, 1 to 65,535.
    #[serde(deserialize_with = "values::within::<1, 65_535, _, _>")]
    pub max_connections: usize,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Http {
    /// TCP addresses.
    #[serde(deserialize_with = "values::socket_addresses")]
    pub listen: Vec<SocketAddr>,
    /// Also expose postfix-tlspol's metric names.
    pub tlspol_metric_names: bool,
    /// Whose requests count as from this host.
    #[serde(deserialize_with = "values::networks")]
    pub trusted_sources: Vec<ipnet::IpNet>,
}

/// `[dns]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dns {
    /// UDP and TCP addresses; empty: off.
    #[serde(deserialize_with = "values::socket_addresses")]
    pub listen: Vec<SocketAddr>,
    /// Who may ask.
    #[serde(deserialize_with = "values::networks")]
    pub allow: Vec<ipnet::IpNet>,
}

/// `[postfix]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Postfix {
    /// See whether Postfix's resolvers validate; `None`: where Postfix is installed on this host.
    #[serde(deserialize_with = "values::switch_or_auto")]
    pub check_resolver: Option<bool>,
    /// The file that names them.
    pub resolv_conf: PathBuf,
}

/// `[resolver]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Resolver {
    /// File of trust anchors; `None`: built in.
    pub trust_anchors: Option<PathBuf>,
    /// File of root hints; `None`: built in.
    pub root_hints: Option<PathBuf>,
    /// Zones that go to named servers.
    pub forward: Vec<ForwardZone>,
    /// Zones that are not validated.
    pub insecure: Vec<InsecureZone>,
    /// PEM file of CAs for DNS over TLS; `None`: Mozilla's, built in.
    pub forward_ca_file: Option<PathBuf>,
    /// Ask over IPv4.
    pub ipv4: bool,
    /// Ask over IPv6; `None`: find out.
    #[serde(deserialize_with = "values::switch_or_auto")]
    pub ipv6: Option<bool>,
    /// Ask servers at private and loopback addresses.
    pub allow_private_servers: bool,
    /// Port of authoritative servers.
    #[serde(deserialize_with = "values::within::<1, 65_535, _, _>")]
    pub upstream_port: u16,
    /// RFC 9156.
    pub qname_minimisation: bool,
    /// 0x20.
    pub case_randomisation: bool,
    /// Bound of the DNS cache in octets, at least 1 MiB.
    #[serde(deserialize_with = "fields::cache_bytes")]
    pub cache_bytes: usize,
}

/// A zone whose questions go to named servers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ForwardZone {
    /// The zone; `None` is the root.
    #[serde(deserialize_with = "fields::zone")]
    pub zone: Option<Domain>,
    /// Servers; the port is 53, or 853 with TLS, unless given.
    #[serde(deserialize_with = "fields::servers")]
    pub servers: Vec<ForwardServer>,
    /// Name in the servers' certificate: DNS over TLS.
    #[serde(default, deserialize_with = "fields::optional_domain")]
    pub tls: Option<Domain>,
    /// Its answers are not validated, and nobody else is asked about it.
    #[serde(default)]
    pub insecure: bool,
}

/// One server of a forward zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardServer {
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its port, where one was given.
    pub port: Option<u16>,
}

impl ForwardZone {
    /// The servers with their ports: as given, else 853 with TLS (RFC 7858 §3.1), else 53.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let default = if self.tls.is_some() { 853 } else { 53 };
        self.servers.iter().map(|server| SocketAddr::new(server.address, server.port.unwrap_or(default))).collect()
    }
}

/// `[mta-sts]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MtaSts {
    /// Use it.
    pub enabled: bool,
    /// PEM file of CAs; `None`: Mozilla's, built in.
    pub ca_file: Option<PathBuf>,
    /// `http://host:port`; `None`: the environment decides.
    #[serde(default, deserialize_with = "fields::proxy")]
    pub proxy: Option<String>,
    /// Port of policy hosts.
    #[serde(deserialize_with = "values::within::<1, 65_535, _, _>")]
    pub port: u16,
    /// Fetch from private and loopback addresses.
    pub allow_private_addresses: bool,
}

/// `[dane]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dane {
    /// Use it.
    pub enabled: bool,
}

/// `[policy]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// An answer is ready within this time, 1 s to 90 s (Postfix gives up after 100 s).
    #[serde(deserialize_with = "fields::timeout")]
    pub timeout: Duration,
    /// What is answered in place of TEMP where nothing was ever known of a domain.
    pub on_failure: super::OnFailure,
    /// What the operator decides instead of us.
    #[serde(skip)]
    pub overrides: Overrides,
    #[serde(rename = "overrides")]
    overrides_as_written: BTreeMap<String, String>,
}

/// `[cache]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cache {
    /// Policies kept, at least 100.
    #[serde(deserialize_with = "values::within::<100, 100_000_000, _, _>")]
    pub max_entries: usize,
    /// Octets that all files of the store may take.
    #[serde(deserialize_with = "fields::store_bytes")]
    pub max_bytes: usize,
    /// Renew what is in use.
    pub prefetch: bool,
}

/// `[store]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Store {
    /// Second-level store for MTA-STS policies.
    #[serde(default, deserialize_with = "fields::shared_url")]
    pub shared: Option<SharedUrl>,
    /// PEM file of the CAs of its servers; `None`: Mozilla's, built in.
    pub shared_ca_file: Option<PathBuf>,
}

/// `[shutdown]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shutdown {
    /// How long everything is served after SIGTERM, not ready, before connections end; 0 s to 5 min.
    #[serde(deserialize_with = "fields::linger")]
    pub linger: Duration,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Log {
    /// What is logged.
    pub level: LogLevel,
    /// How.
    pub format: LogFormat,
}

/// The least severe event that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Needs an operator.
    Error,
    /// May need one.
    Warn,
    /// Starts, stops, changes.
    Info,
    /// Each decision.
    Debug,
    /// Each exchange.
    Trace,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads, merges and checks all sources.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::from_figment(&sources.merge()?)
    }

    pub(super) fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        let mut config: Self = figment.extract().map_err(|error| explain(figment, error))?;
        config.policy.overrides = Overrides::parse(&config.policy.overrides_as_written).map_err(|source| {
            let origin = figment.find_metadata("policy.overrides");
            ConfigError::Override { origin: origin.map_or("default".into(), |m| m.name.to_string()), source }
        })?;
        Ok(config)
    }
}

/// Turns figment's first error into ours: place, key, what is there, what is expected.
fn explain(figment: &Figment, error: figment::Error) -> ConfigError {
    let Some(error) = error.into_iter().next() else {
        return ConfigError::Default("configuration");
    };
    let key = error.path.join(".");
    // Elements of lists and tables of the operator's choice carry no metadata of their own in every case.
    let origin = error
        .metadata
        .as_ref()
        .map(|metadata| metadata.name.to_string())
        .or_else(|| figment.find_metadata(&key).map(|metadata| metadata.name.to_string()))
        .unwrap_or_else(|| "configuration".to_owned());
    let (found, expected) = match error.kind {
        FigmentKind::InvalidType(found, expected) | FigmentKind::InvalidValue(found, expected) => {
            (found.to_string(), expected)
        }
        FigmentKind::InvalidLength(length, expected) => (format!("{length} elements"), expected),
        FigmentKind::UnknownVariant(found, expected) => {
            (format!("{found:?}"), format!("one of {}", expected.join(", ")))
        }
        FigmentKind::UnknownField(found, expected) => {
            (format!("field `{found}`"), format!("one of {}", expected.join(", ")))
        }
        FigmentKind::MissingField(field) => ("no such field".to_owned(), format!("`{field}`")),
        other => (other.to_string(), "another value".to_owned()),
    };
    ConfigError::Value { origin, key, found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, KEYS, ReportLevel, variable_of};

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("postseal.toml");
        std::fs::write(&path, file).expect("written");
        Config::load(&Sources {
            file: Some(path),
            environment: environment.iter().copied().collect(),
            flags: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        })
    }

    fn error(file: &str, environment: &[(&str, &str)]) -> String {
        load(file, environment, &[]).expect_err(file).to_string()
    }

    #[test]
    fn a_bare_run_has_the_documented_defaults() {
        let config = load("", &[], &[]).expect("the defaults");
        assert_eq!(config.socketmap.listen, [Listen::Tcp(([127, 0, 0, 1], 8642).into())]);
        assert_eq!(config.socketmap.socket_mode, 0o666);
        assert_eq!(config.resolver.cache_bytes, 32 << 20);
        assert_eq!((config.resolver.ipv4, config.resolver.ipv6), (true, None));
        assert_eq!(config.policy.timeout, Duration::from_secs(20));
        assert_eq!((config.cache.max_entries, config.cache.max_bytes), (100_000, 200 << 20));
        assert!(config.maps.is_empty() && config.policy.overrides.is_empty() && config.store.shared.is_none());
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let file = "[log]\nlevel = \"warn\"\n[cache]\nprefetch = false\nmax-entries = 500";
        let env = [("POSTSEAL_LOG__LEVEL", "debug"), ("POSTSEAL_CACHE__MAX_ENTRIES", "600")];
        let config = load(file, &env, &[("log.level", "trace")]).expect("a configuration");
        assert_eq!(config.log.level, LogLevel::Trace);
        assert_eq!(config.cache.max_entries, 600);
        assert!(!config.cache.prefetch);
    }

    #[test]
    fn every_shape_of_value_can_come_from_the_environment() {
        let env = [
            ("POSTSEAL_SOCKETMAP__LISTEN", "127.0.0.1:0, unix:/run/postseal.sock"),
            ("POSTSEAL_SOCKETMAP__SOCKET_MODE", "0660"),
            ("POSTSEAL_HTTP__LISTEN", "[]"),
            ("POSTSEAL_DNS__LISTEN", "[::1]:53"),
            ("POSTSEAL_DNS__ALLOW", r#"["10.0.0.0/8", "::1"]"#),
            ("POSTSEAL_RESOLVER__IPV6", "false"),
            ("POSTSEAL_RESOLVER__CACHE_BYTES", "64MiB"),
            ("POSTSEAL_RESOLVER__FORWARD", r#"[{ zone = "cluster.local", servers = ["10.96.0.10"] }]"#),
            ("POSTSEAL_POLICY__OVERRIDES", r#"{ "example.com" = "encrypt" }"#),
            ("POSTSEAL_MAPS__My_Map__REPORT_LEVEL", "may"),
            ("POSTSEAL_MTA_STS__CA_FILE", "/etc/ca.pem"),
            ("POSTSEAL_PORT_8642_TCP", "tcp://10.0.0.1:8642"),
            ("POSTSEAL_STORE__SHARED", ""),
        ];
        let config = load("", &env, &[]).expect("a configuration");
        assert_eq!(config.socketmap.listen.len(), 2);
        assert_eq!(config.socketmap.socket_mode, 0o660);
        assert!(config.http.listen.is_empty());
        assert_eq!(config.dns.listen.len(), 1);
        assert_eq!(config.dns.allow.len(), 2);
        assert_eq!(config.resolver.ipv6, Some(false));
        assert_eq!(config.resolver.forward[0].addresses(), [SocketAddr::from(([10, 96, 0, 10], 53))]);
        assert_eq!(config.policy.overrides.len(), 1);
        assert_eq!(config.maps["My_Map"].report_level, Some(ReportLevel::May));
        assert_eq!(config.mta_sts.ca_file.as_deref(), Some(std::path::Path::new("/etc/ca.pem")));
    }

    #[test]
    fn unknown_keys_name_place_key_and_the_nearest_known_key() {
        let message = error("[socketmap]\nlisten-on = []", &[]);
        for part in ["postseal.toml", "`socketmap.listen-on`", "`socketmap.listen`"] {
            assert!(message.contains(part), "{message}");
        }
        let message = error("", &[("POSTSEAL_SOCKETMAP_LISTEN", "x")]);
        assert!(message.contains("`POSTSEAL_SOCKETMAP_LISTEN`"), "{message}");
        assert!(message.contains("`POSTSEAL_SOCKETMAP__LISTEN`"), "{message}");
        for file in ["colour = 1", "[a.b]\nc = 1", "[maps.x]\ndan = true", "[policy.override]\n\"a.example\" = \"may\""]
        {
            assert!(error(file, &[]).contains("did you mean"), "{file}");
        }
        assert!(error("[[resolver.forward]]\nzone=\".\"\nservers=[\"192.0.2.1\"]\nport=1", &[]).contains("port"));
    }

    #[test]
    fn wrong_values_say_where_what_and_what_would_be_right() {
        for (file, parts) in [
            ("[policy]\ntimeout = 20", &["policy.timeout", "20", "duration"][..]),
            ("[policy]\ntimeout = \"2h\"", &["policy.timeout", "1s to 90s"]),
            ("[shutdown]\nlinger = \"6m\"", &["shutdown.linger", "0s to 5m"]),
            ("[http]\ntrusted-sources = [\"docker\"]", &["http.trusted-sources", "docker"]),
            ("[cache]\nmax-entries = \"many\"", &["cache.max-entries", "many", "whole number"]),
            ("[cache]\nmax-entries = -1", &["cache.max-entries", "-1"]),
            ("[dane]\nenabled = \"yes\"", &["dane.enabled", "yes"]),
            ("[socketmap]\nlisten = \"127.0.0.1:1\"", &["socketmap.listen", "127.0.0.1:1"]),
            ("[socketmap]\nlisten = [\"8642\"]", &["socketmap.listen", "8642", "unix:/path"]),
            ("[socketmap]\nsocket-mode = 660", &["socketmap.socket-mode", "660", "octal"]),
            ("[dns]\nallow = [\"10.0.0.0/99\"]", &["dns.allow", "10.0.0.0/99"]),
            ("[log]\nlevel = \"loud\"", &["log.level", "loud", "debug"]),
            ("[cache]\nmax-bytes = \"1MiB\"", &["cache.max-bytes", "16MiB"]),
            ("[cache]\nmax-bytes = \"much\"", &["cache.max-bytes", "much", "size"]),
            ("[resolver]\ncache-bytes = \"1kB\"", &["resolver.cache-bytes", "1MiB"]),
            ("[resolver]\nupstream-port = 0", &["resolver.upstream-port", "1 to 65535"]),
            ("[mta-sts]\nproxy = \"socks5://x\"", &["mta-sts.proxy", "socks5://x"]),
            ("[mta-sts]\nproxy = \"https://me:secret@x:1\"", &["mta-sts.proxy", "https://me:***@x:1"]),
            ("[store]\nshared = \"http://x\"", &["store.shared", "http://x", "redis+sentinel://"]),
            ("[store]\nshared = \"redis://u:secret@h:x\"", &["store.shared", "redis://u:***@h:x"]),
            ("[maps.x]\nreport-level = \"dane\"", &["maps.x.report-level", "dane", "encrypt"]),
            ("[policy.overrides]\n\"example.com\" = \"must\"", &["policy.overrides", "example.com", "must"]),
            ("dane = 1", &["dane", "a table"]),
            ("dane = ", &["postseal.toml"]),
        ] {
            let message = error(file, &[]);
            for part in parts {
                assert!(message.contains(part), "{file}: {message}");
            }
            assert!(message.contains("postseal.toml"), "{file}: {message}");
        }
        assert!(error("", &[("POSTSEAL_DANE__ENABLED", "on")]).starts_with("POSTSEAL_DANE__ENABLED: `dane.enabled`"));
    }

    #[test]
    fn every_key_of_the_table_is_a_field_of_the_tree() {
        let environment: Environment = Environment::default();
        for key in KEYS.iter().filter(|key| key.default.is_some()) {
            let name = key.path.replace("NAME", "x");
            let text = key.default.expect("filtered").trim_matches('"').to_owned();
            let sources = Sources { file: None, environment: environment.clone(), flags: vec![(name.clone(), text)] };
            assert!(Config::load(&sources).is_ok(), "{name} ({})", variable_of(&name));
        }
    }
}
