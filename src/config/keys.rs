//! Every key, once: its kind, its default, what it means. Unknown-key checks, environment parsing,
//! `check-config` and the table of docs/configuration.md all come from here.

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Full path with dots; `maps.NAME.…` stands for any map name.
    pub path: &'static str,
    /// How a text from the environment or a flag is read.
    pub kind: Kind,
    /// The default as TOML; `None`: unset.
    pub default: Option<&'static str>,
    /// One line for the operator: meaning, unit, range.
    pub help: &'static str,
}

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Taken as it is: paths, durations, sizes, names.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// A number, or a text with a unit.
    NumberOrText,
    /// A TOML array of strings, or the same separated by commas.
    List,
    /// TOML: an array of tables.
    Tables,
    /// TOML: a table with keys of the operator's choice.
    Table,
}

const fn key(path: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// The placeholder for a map's name in [`KEYS`].
pub const MAP_NAME: &str = "NAME";

/// All keys, in the order in which `check-config` prints them.
pub const KEYS: &[Key] = &[
    // Its default depends on the machine; see `state_dir.rs`.
    key("state-dir", Kind::Text, None, "store, trust anchor state, control socket"),
    key(
        "socketmap.listen",
        Kind::List,
        Some(r#"["127.0.0.1:8642"]"#),
        "`host:port` and `unix:/path`; systemd socket activation wins",
    ),
    key("socketmap.socket-mode", Kind::NumberOrText, Some(r#""0666""#), "permissions of Unix sockets, octal"),
    key("socketmap.reuse-port", Kind::Switch, Some("false"), "SO_REUSEPORT, for seamless replacement"),
    key(
        "socketmap.max-connections",
        Kind::Number,
        Some("1024"),
        "beyond it the longest idle connection makes room; 1 to 65535",
    ),
    key("http.listen", Kind::List, Some(r#"["127.0.0.1:9642"]"#), "metrics and health"),
    key(
        "http.tlspol-metric-names",
        Kind::Switch,
        Some("false"),
        "also expose postfix-tlspol's names where the meaning is equal",
    ),
    key(
        "http.trusted-sources",
        Kind::List,
        Some("[]"),
        "addresses and networks that may see and ask what this host may: for a port that Docker publishes on loopback",
    ),
    key(
        "dns.listen",
        Kind::List,
        Some("[]"),
        "validating resolver for Postfix, UDP and TCP; IPv6 addresses are left out where IPv6 is off",
    ),
    key("dns.allow", Kind::List, Some(r#"["127.0.0.0/8", "::1/128"]"#), "clients of the resolver"),
    key("resolver.trust-anchors", Kind::Text, None, "file with DNSKEY or DS records; unset: built in"),
    key("resolver.root-hints", Kind::Text, None, "file with NS and address records of the root; unset: built in"),
    key(
        "resolver.forward",
        Kind::Tables,
        Some("[]"),
        r#"`{ zone = "cluster.local", servers = ["10.96.0.10"], tls = "name", insecure = true }` (`tls` and `insecure` optional); insecure unless under an anchor, and without a look at the public tree with `insecure = true`"#,
    ),
    key(
        "resolver.insecure",
        Kind::List,
        Some("[]"),
        r#"zones that are not validated (RFC 7646): `"broken.example"` or `{ zone = "broken.example", until = "2027-01-31" }`, through that day, UTC"#,
    ),
    key(
        "resolver.forward-ca-file",
        Kind::Text,
        None,
        "PEM file of CA certificates for forwarding over TLS; unset: Mozilla's, built in",
    ),
    key("resolver.ipv4", Kind::Switch, Some("true"), "ask servers over IPv4"),
    key("resolver.ipv6", Kind::Text, Some(r#""auto""#), "ask servers over IPv6: `true`, `false` or `\"auto\"`"),
    key(
        "resolver.allow-private-servers",
        Kind::Switch,
        Some("false"),
        "ask servers at private addresses: labs and private roots",
    ),
    key("resolver.upstream-port", Kind::Number, Some("53"), "port of authoritative servers, for labs"),
    key("resolver.qname-minimisation", Kind::Switch, Some("true"), "RFC 9156"),
    key("resolver.case-randomisation", Kind::Switch, Some("true"), "0x20"),
    key("resolver.cache-bytes", Kind::NumberOrText, Some(r#""32MiB""#), "bound of the DNS cache, at least 1MiB"),
    key("mta-sts.enabled", Kind::Switch, Some("true"), "use MTA-STS (RFC 8461)"),
    key("mta-sts.ca-file", Kind::Text, None, "PEM file of CA certificates; unset: Mozilla's, built in"),
    key("mta-sts.proxy", Kind::Text, None, "HTTP proxy for policy fetches; unset: `HTTPS_PROXY` and `NO_PROXY`"),
    key("mta-sts.port", Kind::Number, Some("443"), "port of policy hosts, for labs"),
    key(
        "mta-sts.allow-private-addresses",
        Kind::Switch,
        Some("false"),
        "fetch policies from private addresses, for labs",
    ),
    key("dane.enabled", Kind::Switch, Some("true"), "use DANE (RFC 7672)"),
    key("policy.timeout", Kind::Text, Some(r#""20s""#), "an answer is ready within this time; 1s to 90s"),
    key(
        "policy.on-failure",
        Kind::Text,
        Some(r#""temp""#),
        "`temp`, `may` or `encrypt`: answered where a policy cannot be determined and none was ever seen",
    ),
    key(
        "policy.overrides",
        Kind::Table,
        Some("{}"),
        r#"`"example.com" = "encrypt"`, `".example.com"` for subdomains; any Postfix policy text, or `"skip"` for NOTFOUND"#,
    ),
    key("maps.NAME.tlsrpt", Kind::Switch, Some("false"), "send TLSRPT attributes (Postfix 3.10 or newer)"),
    key("maps.NAME.require-sni", Kind::Switch, Some("true"), "`servername=hostname` with `secure`"),
    key("maps.NAME.strict-testing", Kind::Switch, Some("false"), "treat `mode: testing` as `enforce`"),
    key("maps.NAME.dane", Kind::Switch, Some("true"), "use DANE"),
    key("maps.NAME.mta-sts", Kind::Switch, Some("true"), "use MTA-STS"),
    key(
        "maps.NAME.report-level",
        Kind::Text,
        None,
        "`may` or `encrypt`: level at which failed fetches and `testing` are reported by TLSRPT",
    ),
    key(
        "postfix.check-resolver",
        Kind::Text,
        Some(r#""auto""#),
        "see at start and every hour whether Postfix's resolvers validate: `true`, `false`, or `\"auto\"`: where Postfix is on this host",
    ),
    key("postfix.resolv-conf", Kind::Text, Some(r#""/etc/resolv.conf""#), "the file that names them"),
    key("cache.max-entries", Kind::Number, Some("100000"), "policies kept; at least 100"),
    key(
        "cache.max-bytes",
        Kind::NumberOrText,
        Some(r#""200MiB""#),
        "bound of the store on disk, all files together, at least 16MiB; the journal of its database has up to 64MiB of it",
    ),
    key("cache.prefetch", Kind::Switch, Some("true"), "renew what is in use shortly before it ends"),
    key(
        "store.shared",
        Kind::Text,
        None,
        "`redis://…`, `rediss://…` (TLS), `redis+sentinel://…` or `redis+cluster://…`: MTA-STS policies shared by many replicas, see below",
    ),
    key(
        "store.shared-ca-file",
        Kind::Text,
        None,
        "PEM file of CA certificates of its servers; unset: Mozilla's, built in",
    ),
    key(
        "shutdown.linger",
        Kind::Text,
        Some(r#""0s""#),
        "after SIGTERM, serve on for so long, not ready, until whoever sends questions here has noticed; 0s to 5m",
    ),
    key("log.level", Kind::Text, Some(r#""info""#), "`error`, `warn`, `info`, `debug` or `trace`"),
    key("log.format", Kind::Text, Some(r#""text""#), "`text` or `json`"),
];

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// A key.
    Leaf(&'static Key),
    /// A table of keys.
    Section,
    /// Nothing.
    Unknown,
}

/// Finds a path, given as its parts; the part after `maps` may be anything.
pub(super) fn find(path: &[String]) -> Place {
    let mut is_section = false;
    for key in KEYS {
        let mut parts = key.path.split('.');
        let matches = path.iter().all(|part| {
            parts.next().is_some_and(|expected| expected == part || (expected == MAP_NAME && !part.is_empty()))
        });
        if matches && parts.next().is_none() {
            return Place::Leaf(key);
        }
        is_section |= matches;
    }
    if is_section { Place::Section } else { Place::Unknown }
}

/// The known key that a misspelt path most likely means.
pub(super) fn nearest(path: &[String]) -> String {
    let asked = path.join(".");
    let last = path.last().map_or("", String::as_str);
    let map_name = if path.first().is_some_and(|first| first == "maps") { path.get(1) } else { None };
    KEYS.iter()
        .map(|key| match map_name {
            Some(name) => key.path.replace(MAP_NAME, name),
            None => key.path.to_owned(),
        })
        .min_by_key(|known| {
            let whole = strsim::damerau_levenshtein(known, &asked);
            // A right name in a wrong section is near, too.
            let known_last = known.rsplit('.').next().unwrap_or(known);
            let end = strsim::damerau_levenshtein(known_last, last);
            (whole.min(end * 2 + 2), whole)
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        path.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_misspelt_key_is_told_the_nearest_known_one() {
        for (wrong, near) in [
            ("socketmap.lisen", "socketmap.listen"),
            ("sockmap.listen", "socketmap.listen"),
            ("state_dir", "state-dir"),
            ("statedir", "state-dir"),
            ("resolver.qname-minimization", "resolver.qname-minimisation"),
            ("policy.ca-file", "mta-sts.ca-file"),
            ("mta_sts.enabled", "mta-sts.enabled"),
            ("maps.QUERYnew.tlsrtp", "maps.QUERYnew.tlsrpt"),
            ("log.levle", "log.level"),
        ] {
            assert!(matches!(find(&parts(wrong)), Place::Unknown), "{wrong}");
            assert_eq!(nearest(&parts(wrong)), near, "{wrong}");
        }
        assert!(matches!(find(&parts("maps.anything.dane")), Place::Leaf(_)));
        assert!(matches!(find(&parts("maps")), Place::Section));
        assert!(matches!(find(&parts("maps.anything")), Place::Section));
    }
}
