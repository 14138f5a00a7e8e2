//! Names that were parsed once and can be trusted from then on.
//!
//! In: text from Postfix, from policies, from the command line. Out: [`Domain`], [`NextHop`], [`MxPattern`],
//! which cannot be built otherwise. Never asks DNS, never decides a policy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

/// The port mail is delivered to when the next hop names none (RFC 5321 §4.5.4.2).
pub const SMTP_PORT: u16 = 25;

/// Longest name in text form, without the trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS name in its one normal form: lower case, A-labels (UTS 46), no trailing dot, at most 253 octets,
/// labels of letters, digits, hyphens and underscores, last label not all digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Domain(Box<str>);

/// Why a text is not a [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only a dot.
    #[error("empty name")]
    Empty,
    /// More than 253 octets after conversion to A-labels.
    #[error("name longer than 253 octets")]
    TooLong,
    /// An empty or overlong label, or a character no host name has.
    #[error("not a DNS host name")]
    Syntax,
    /// An IPv4 or IPv6 address.
    #[error("an address, not a name")]
    Address,
}

impl Domain {
    /// Normalises `text`: U-labels to A-labels (UTS 46, non-transitional), lower case, one trailing dot removed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // 253 octets of A-labels never come from more than this many of UTF-8.
        if text.len() > 4 * MAX_NAME {
            return Err(NameError::TooLong);
        }
        if is_address(text) {
            return Err(NameError::Address);
        }
        if text.is_ascii() {
            return Self::from_ascii(text);
        }
        let ascii =
            idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY).map_err(|_| NameError::Syntax)?;
        let ascii = ascii.strip_suffix('.').unwrap_or(&ascii);
        if is_address(ascii) { Err(NameError::Address) } else { Self::from_ascii(ascii) }
    }

    /// A name that is no address, in ASCII.
    fn from_ascii(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut last = "";
        for label in text.split('.') {
            if !is_label(label) {
                return Err(NameError::Syntax);
            }
            last = label;
        }
        // An all-numeric last label is an address somebody mistyped, never a domain (RFC 3696 §2).
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::Syntax);
        }
        let mut name: Box<str> = text.into();
        name.make_ascii_lowercase();
        Ok(Self(name))
    }

    /// The name, lower case, A-labels, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name for a DNS question, fully qualified.
    #[allow(clippy::expect_used, reason = "parse() bounds labels and length, so the conversion cannot fail")]
    pub fn to_name(&self) -> Name {
        Name::from_labels(self.0.split('.').map(str::as_bytes)).expect("a Domain is a valid DNS name")
    }

    /// A host name out of a DNS record, or an error where the record's name is not a host name.
    pub fn from_name(name: &Name) -> Result<Self, NameError> {
        let mut text = String::with_capacity(name.len());
        for label in name.iter() {
            text.push_str(std::str::from_utf8(label).map_err(|_| NameError::Syntax)?);
            text.push('.');
        }
        if !text.is_ascii() {
            return Err(NameError::Syntax);
        }
        Self::parse(&text)
    }

    /// True for `other` itself and for anything below it.
    pub fn is_at_or_below(&self, other: &Domain) -> bool {
        self.0.strip_suffix(other.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0.into()
    }
}

impl TryFrom<String> for Domain {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= MAX_LABEL
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// True for an IPv4 or IPv6 address; the parser is only asked where the text can be one.
fn is_address(text: &str) -> bool {
    let last = text.as_bytes().last();
    (text.contains(':') || last.is_some_and(u8::is_ascii_digit)) && text.parse::<IpAddr>().is_ok()
}

/// What Postfix asks about: a key of `smtp_tls_policy_maps` (postconf(5)), parsed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// A recipient domain: MX lookup, DANE and MTA-STS. `port` where the key names one; TLSA records are those for
    /// that port, the MTA-STS policy is that of the domain.
    Domain {
        /// The recipient domain.
        domain: Domain,
        /// The port in the key, if it had one.
        port: Option<u16>,
    },
    /// A host in brackets: no MX lookup; the host itself is the TLSA base domain (RFC 7672 §2.2.3), and the policy
    /// domain of MTA-STS (RFC 8461 §3.4: for a smart host it is the smart host's own name).
    Host {
        /// The host in the brackets.
        host: Domain,
        /// Its port, 25 unless the key names another.
        port: u16,
    },
}

/// Keys that get NOTFOUND without any lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADestination {
    /// `.example.com`: Postfix's retry for the parent domain.
    #[error("a parent-domain key")]
    Parent,
    /// An address, alone or in brackets.
    #[error("an address, not a name")]
    Address,
    /// Not a DNS name.
    #[error("not a mail domain: {0}")]
    Name(NameError),
    /// Not UTF-8, or a port that is no number from 1 to 65535.
    #[error("malformed key")]
    Malformed,
}

impl NextHop {
    /// Parses the key of a policy lookup, as octets from the wire.
    pub fn parse(key: &[u8]) -> Result<Self, NotADestination> {
        let key = std::str::from_utf8(key).map_err(|_| NotADestination::Malformed)?;
        if key.starts_with('.') {
            return Err(NotADestination::Parent);
        }
        if let Some(rest) = key.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(NotADestination::Malformed)?;
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if after.is_empty() => SMTP_PORT,
                None => return Err(NotADestination::Malformed),
            };
            let host = host.strip_prefix("ipv6:").or_else(|| host.strip_prefix("IPv6:")).unwrap_or(host);
            return Ok(Self::Host { host: parse_domain(host)?, port });
        }
        if is_address(key) {
            return Err(NotADestination::Address);
        }
        match key.rsplit_once(':') {
            Some((domain, port)) => {
                let domain = parse_domain(domain)?;
                Ok(Self::Domain { domain, port: Some(parse_port(port)?) })
            }
            None => Ok(Self::Domain { domain: parse_domain(key)?, port: None }),
        }
    }

    /// The name whose MTA-STS policy counts (RFC 8461 §3.4): the one in the key, whatever the form of the key.
    pub fn policy_domain(&self) -> &Domain {
        match self {
            Self::Domain { domain, .. } => domain,
            Self::Host { host, .. } => host,
        }
    }

    /// The key that is the name alone, where this is another: the two have their MTA-STS branch in common.
    pub fn plain(&self) -> Option<Self> {
        match self {
            Self::Domain { port: None, .. } => None,
            Self::Domain { .. } | Self::Host { .. } => {
                Some(Self::Domain { domain: self.policy_domain().clone(), port: None })
            }
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { domain, port: None } => write!(f, "{domain}"),
            Self::Domain { domain, port: Some(port) } => write!(f, "{domain}:{port}"),
            Self::Host { host, port: SMTP_PORT } => write!(f, "[{host}]"),
            Self::Host { host, port } => write!(f, "[{host}]:{port}"),
        }
    }
}

fn parse_domain(text: &str) -> Result<Domain, NotADestination> {
    Domain::parse(text).map_err(|error| match error {
        NameError::Address => NotADestination::Address,
        other => NotADestination::Name(other),
    })
}

fn parse_port(text: &str) -> Result<u16, NotADestination> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotADestination::Malformed);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(NotADestination::Malformed)
}

/// An `mx` line of an MTA-STS policy: a host name, or `*.` and a host name, which stands for exactly one more
/// label (RFC 8461 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MxPattern {
    wildcard: bool,
    host: Domain,
}

impl MxPattern {
    /// Parses the value of an `mx` line: A-labels, no trailing dot, no address (RFC 8461 §3.2).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (wildcard, host) = match text.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, text),
        };
        if !host.is_ascii() || host.ends_with('.') {
            return Err(NameError::Syntax);
        }
        Ok(Self { wildcard, host: Domain::parse(host)? })
    }

    /// True where the pattern began with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The host name, or what follows the `*.`.
    pub fn host(&self) -> &Domain {
        &self.host
    }

    /// Whether an MX host is covered; a wildcard stands for exactly one label (RFC 8461 §4.1).
    pub fn matches(&self, host: &Domain) -> bool {
        if !self.wildcard {
            return host == &self.host;
        }
        host.as_str().split_once('.').is_some_and(|(_, parent)| parent == self.host.as_str())
    }
}

impl fmt::Display for MxPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        self.host.fmt(f)
    }
}

impl From<MxPattern> for String {
    fn from(pattern: MxPattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for MxPattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).expect("a domain")
    }

    #[test]
    fn keys_become_what_postfix_means() {
        let plain = |text| Ok(NextHop::Domain { domain: domain(text), port: None });
        let host = |text, port| Ok(NextHop::Host { host: domain(text), port });
        let rows: &[(&[u8], Result<NextHop, NotADestination>)] = &[
            (b"example.com", plain("example.com")),
            (b"EXAMPLE.com.", plain("example.com")),
            ("bücher.example".as_bytes(), plain("xn--bcher-kva.example")),
            ("BÜCHER.example".as_bytes(), plain("xn--bcher-kva.example")),
            (b"example.com:2525", Ok(NextHop::Domain { domain: domain("example.com"), port: Some(2525) })),
            (b"[mx.example.com]", host("mx.example.com", 25)),
            (b"[mx.example.com]:587", host("mx.example.com", 587)),
            (b".example.com", Err(NotADestination::Parent)),
            (b"[192.0.2.1]", Err(NotADestination::Address)),
            (b"[192.0.2.1]:25", Err(NotADestination::Address)),
            (b"[2001:db8::1]", Err(NotADestination::Address)),
            (b"[IPv6:2001:db8::1]", Err(NotADestination::Address)),
            (b"192.0.2.1", Err(NotADestination::Address)),
            (b"2001:db8::1", Err(NotADestination::Address)),
            (b"", Err(NotADestination::Name(NameError::Empty))),
            (b".", Err(NotADestination::Parent)),
            (b"a b", Err(NotADestination::Name(NameError::Syntax))),
            (b"a..b", Err(NotADestination::Name(NameError::Syntax))),
            (b"\xff\xfe", Err(NotADestination::Malformed)),
            (b"[mx.example.com", Err(NotADestination::Malformed)),
            (b"[mx.example.com]x", Err(NotADestination::Malformed)),
            (b"example.com:0", Err(NotADestination::Malformed)),
            (b"example.com:65536", Err(NotADestination::Malformed)),
            (b"example.com:", Err(NotADestination::Malformed)),
        ];
        for (key, expected) in rows {
            assert_eq!(&NextHop::parse(key), expected, "key {:?}", String::from_utf8_lossy(key));
        }
        let long = [b"a".repeat(63), b"b".repeat(63), b"c".repeat(63), b"d".repeat(63)].join(&b'.');
        assert_eq!(NextHop::parse(&long), Err(NotADestination::Name(NameError::TooLong)));
    }

    #[test]
    fn a_wildcard_pattern_stands_for_exactly_one_label() {
        let pattern = MxPattern::parse("*.example.net").expect("a pattern");
        assert!(pattern.matches(&domain("mx.example.net")));
        assert!(!pattern.matches(&domain("example.net")));
        assert!(!pattern.matches(&domain("a.mx.example.net")));
        for wrong in ["*", "*.", "mx.example.net.", "bücher.example", "192.0.2.1", "*.*.example.net", "mx.*.net", ""] {
            assert!(MxPattern::parse(wrong).is_err(), "{wrong}");
        }
    }
}
