//! `store.shared`: where the shared store is. Parsed strictly; the password is never shown.

use std::fmt;

use percent_encoding::percent_decode_str;

/// What `store.shared` may look like.
pub(super) const EXPECTED: &str = "`redis://[[user]:password@]host[:port][/database]`, \
     `redis+sentinel://…host[:port],…/master[/database]` or `redis+cluster://…host[:port],…`, each with `rediss` in \
     place of `redis` for TLS; `@`, `:`, `/` and `%` in user and password as `%40`, `%3A`, `%2F` and `%25`";

const SERVER_PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// A shared store, as the operator names it. Shown with the password masked, by `Debug` too.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedUrl {
    /// How its servers work together.
    pub topology: Topology,
    /// TLS to servers and sentinels (`rediss`).
    pub tls: bool,
    /// Servers to begin with, or sentinels; exactly one where it stands alone, at least one otherwise.
    pub hosts: Vec<SharedHost>,
    /// The ACL user; none: `default`.
    pub user: Option<String>,
    /// Number of the database; 0 in a cluster.
    pub database: i64,
    password: Option<String>,
}

/// How servers work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels know which server is the master of that name.
    Sentinel(String),
    /// The keys are spread over the servers.
    Cluster,
}

/// A server or sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedHost {
    /// Name or address, an IPv6 address without brackets.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

impl SharedUrl {
    /// Parses the forms of docs/replicas.md and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (user, password) = match credentials {
            Some(credentials) => {
                let (user, password) = credentials.split_once(':')?;
                let user = decoded(user)?;
                ((!user.is_empty()).then_some(user), Some(decoded(password).filter(|text| !text.is_empty())?))
            }
            None => (None, None),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, database, port) = match kind {
            "" => (Topology::Single, path, SERVER_PORT),
            "cluster" if path.is_empty() => (Topology::Cluster, "", SERVER_PORT),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                is_word(master).then_some((Topology::Sentinel(master.to_owned()), database, SENTINEL_PORT))?
            }
            _ => return None,
        };
        let hosts: Vec<SharedHost> = hosts.split(',').map(|host| parse_host(host, port)).collect::<Option<_>>()?;
        if topology == Topology::Single && hosts.len() != 1 {
            return None;
        }
        Some(Self { topology, tls, hosts, user, database: parse_database(database)?, password })
    }

    /// The password, for the server alone.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl fmt::Display for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(match self.topology {
            Topology::Single => "://",
            Topology::Sentinel(_) => "+sentinel://",
            Topology::Cluster => "+cluster://",
        })?;
        if self.password.is_some() {
            write!(f, "{}:***@", self.user.as_deref().unwrap_or_default())?;
        }
        for (index, SharedHost { name, port }) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (open, close) = if name.contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{name}{close}:{port}")?;
        }
        if let Topology::Sentinel(master) = &self.topology {
            write!(f, "/{master}")?;
        }
        if self.database != 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was meant as a URL, right or wrong, with everything that may be a password masked.
pub(super) fn masked(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let (before, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), rest),
            None => ("***@".to_owned(), rest),
        },
        None => (String::new(), rest),
    };
    // Other clients take passwords there, this one does not.
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    format!("{scheme}{separator}{before}{rest}{query}")
}

/// User or password: percent-encoded, and plain only where that cannot be misread.
fn decoded(text: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/' | b'@' | b'?' | b'#');
    let escapes = text.split('%').skip(1);
    let complete = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.bytes().all(plain) || !escapes.into_iter().all(complete) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

fn parse_host(text: &str, default_port: u16) -> Option<SharedHost> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            (is_word(name).then_some(name)?, port)
        }
    };
    let port = match port {
        Some(port) => digits(port)?.parse().ok().filter(|port| *port > 0)?,
        None => default_port,
    };
    Some(SharedHost { name: name.to_owned(), port })
}

/// Names of hosts and masters.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn parse_database(text: &str) -> Option<i64> {
    if text.is_empty() { Some(0) } else { digits(text)?.parse::<u16>().ok().map(i64::from) }
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read_and_shown_without_its_password() {
        for (text, shown) in [
            ("redis://h", "redis://h:6379"),
            ("redis://h/", "redis://h:6379"),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            ("redis://[::1]", "redis://[::1]:6379"),
            ("rediss://u:secret@[2001:db8::1]:7000", "rediss://u:***@[2001:db8::1]:7000"),
            ("redis://:secret@store_1.internal", "redis://:***@store_1.internal:6379"),
            ("redis+sentinel://a,b:7000/mymaster", "redis+sentinel://a:26379,b:7000/mymaster"),
            ("rediss+sentinel://u:secret@a/m/2", "rediss+sentinel://u:***@a:26379/m/2"),
            ("redis+cluster://a,b,c", "redis+cluster://a:6379,b:6379,c:6379"),
            ("rediss+cluster://:secret@a:1/", "rediss+cluster://:***@a:1"),
        ] {
            let url = SharedUrl::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(url.password(), text.contains("secret").then_some("secret"), "{text}");
        }
        let url = SharedUrl::parse("redis://us%65r:p%40ss%3A%2F%25+w@h").expect("a URL");
        assert_eq!((url.user.as_deref(), url.password()), (Some("user"), Some("p@ss:/%+w")));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "redis://",
            "h:6379",
            "http://h",
            "REDIS://h",
            "redis:/h",
            "redis+unix://h",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+sentinel://h/m/x",
            "redis+cluster://h/1",
            "redis://a,b",
            "redis://h:0",
            "redis://h:65536",
            "redis://h:+1",
            "redis://h:",
            "redis://h/x",
            "redis://h/-1",
            "redis://h/0/1",
            "redis://h?db=1",
            "redis://h#insecure",
            "redis://::1",
            "redis://[::1",
            "redis://[h]:1",
            "redis://user@h",
            "redis://user:@h",
            "redis://p@ss:word@h",
            "redis://u:p/w@h",
            "redis://u:p%4@h",
            "redis://u:p%@h",
            "redis://u:p%ff@h",
            "redis://u:p w@h",
            "redis+cluster://a,,b",
            "redis://hö",
        ] {
            assert_eq!(SharedUrl::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_masked_however_wrong_the_url_is() {
        for (text, shown) in [
            ("http://u:secret@h/x", "http://u:***@h/x"),
            ("redis://secret@h", "redis://***@h"),
            ("redis://u:se@cret/1@h", "redis://u:***@h"),
            ("u:secret@h", "u:***@h"),
            ("redis://h?password=secret", "redis://h?***"),
            ("redis://h", "redis://h"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
