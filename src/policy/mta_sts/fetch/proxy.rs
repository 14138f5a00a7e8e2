//! HTTP proxies: which, for which hosts, and CONNECT (RFC 9110 §9.3.6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::FetchError;
use crate::limits::PROXY_RESPONSE_BYTES;

/// Which proxy is used, and for what it is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    proxy: Option<Proxy>,
    /// Lower-case domains that are reached directly, with everything below them; `*` is all.
    direct: Vec<String>,
}

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// Not a URL of an HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a proxy like http://proxy.example.com:3128")]
pub struct NotAProxy;

impl ProxyRules {
    /// The rules out of a proxy URL (`mta-sts.proxy` or `HTTPS_PROXY`) and a list of exceptions (`NO_PROXY`).
    /// An empty URL means none, and one that is no proxy's is an error, unless the exceptions cover everything.
    pub fn new(proxy: Option<&str>, no_proxy: Option<&str>) -> Result<Self, NotAProxy> {
        let direct = no_proxy.unwrap_or_default().split(',').map(|entry| {
            let entry = entry.trim().to_ascii_lowercase();
            entry.strip_prefix("*.").or(entry.strip_prefix('.')).map(str::to_owned).unwrap_or(entry)
        });
        let direct: Vec<String> = direct.filter(|entry| !entry.is_empty()).collect();
        let proxy = proxy.map(str::trim).filter(|text| !text.is_empty() && !direct.iter().any(|entry| entry == "*"));
        Ok(Self { proxy: proxy.map(Proxy::parse).transpose()?, direct })
    }

    /// The proxy to reach `host` by, if any.
    pub fn of(&self, host: &str) -> Option<&Proxy> {
        let excepted = |entry: &String| {
            entry == "*"
                || host.strip_suffix(entry.as_str()).is_some_and(|front| front.is_empty() || front.ends_with('.'))
        };
        self.proxy.as_ref().filter(|_| !self.direct.iter().any(excepted))
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, NotAProxy> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(NotAProxy),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or(NotAProxy)?)),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = port.map_or(Ok(80), str::parse).map_err(|_| NotAProxy)?;
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b':');
        if host.is_empty() || port == 0 || !host.bytes().all(plain) {
            return Err(NotAProxy);
        }
        let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(percent_decoded(user))));
        Ok(Self { host: host.to_owned(), port, authorization })
    }
}

/// Never shows credentials.
impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let escaped = match (first, after) {
            (b'%', [high, low, tail @ ..]) => digit(*high).zip(digit(*low)).map(|(h, l)| (h * 16 + l, tail)),
            _ => None,
        };
        let (octet, tail) = escaped.unwrap_or((*first, after));
        out.push(octet);
        rest = tail;
    }
    out
}

/// Asks the proxy on `stream` for a tunnel to `host` and `port`.
pub(super) async fn open_tunnel(
    stream: &mut TcpStream,
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<(), FetchError> {
    let authorization = match &proxy.authorization {
        Some(value) => format!("Proxy-Authorization: {value}\r\n"),
        None => String::new(),
    };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|_| FetchError::Broken)?;
    let mut left = PROXY_RESPONSE_BYTES;
    loop {
        let status = read_status(stream, &mut left).await?;
        match status {
            200..300 => return Ok(()),
            // Interim responses come before the one that counts (RFC 9110 §15.2); 101 nobody asked for.
            100 | 102..200 => {}
            _ => return Err(FetchError::Proxy(status)),
        }
    }
}

/// The status of one response without content; of all of them no more than `left` octets are read.
async fn read_status(stream: &mut TcpStream, left: &mut usize) -> Result<u16, FetchError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        *left = left.checked_sub(1).ok_or(FetchError::Malformed)?;
        // An octet at a time: what follows the header belongs to TLS.
        head.push(stream.read_u8().await.map_err(|_| FetchError::Broken)?);
    }
    head.strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u16>().ok())
        .ok_or(FetchError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_from_urls() {
        let proxy = |text: &str| ProxyRules::new(Some(text), None).map(|rules| rules.proxy);
        let plain = |host: &str, port| Ok(Some(Proxy { host: host.to_owned(), port, authorization: None }));
        let rows = [
            ("http://proxy.example.com:3128", plain("proxy.example.com", 3128)),
            ("http://proxy.example.com/", plain("proxy.example.com", 80)),
            ("HTTP://10.0.0.1:8080", plain("10.0.0.1", 8080)),
            ("proxy:3128", plain("proxy", 3128)),
            ("http://[2001:db8::1]:3128", plain("2001:db8::1", 3128)),
            ("", Ok(None)),
            ("https://proxy:3128", Err(NotAProxy)),
            ("socks5://proxy:3128", Err(NotAProxy)),
            ("http://proxy:port", Err(NotAProxy)),
            ("http://:3128", Err(NotAProxy)),
            ("http://a b:3128", Err(NotAProxy)),
        ];
        for (text, expected) in rows {
            assert_eq!(proxy(text), expected, "{text}");
        }
        let with_user = proxy("http://user:p%40ss@proxy:1").expect("a proxy").expect("one");
        assert_eq!(with_user.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert!(!format!("{with_user:?}").contains("Basic"));
    }

    #[test]
    fn exceptions_are_reached_directly() {
        let rules = ProxyRules::new(Some("proxy:1"), Some("example.com, .example.net,*.example.org")).expect("rules");
        for (host, direct) in [
            ("example.com", true),
            ("mta-sts.example.com", true),
            ("notexample.com", false),
            ("mta-sts.example.net", true),
            ("mta-sts.example.org", true),
            ("mta-sts.example", false),
        ] {
            assert_eq!(rules.of(host).is_none(), direct, "{host}");
        }
        assert!(ProxyRules::new(Some("proxy:1"), Some("*")).expect("rules").of("example.com").is_none());
        assert!(
            ProxyRules::new(Some("socks5://proxy:1"), Some("a.example, *")).expect("rules").of("b.example").is_none()
        );
        assert_eq!(ProxyRules::new(Some("socks5://proxy:1"), Some("a.example")), Err(NotAProxy));
        assert!(ProxyRules::default().of("example.com").is_none());
    }
}
