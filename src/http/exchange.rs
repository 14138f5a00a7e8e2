//! One HTTP connection, bounded; shared by everything here that speaks HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, REFERER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};

use super::page::SECURITY_POLICY;
use crate::limits;

/// What counts of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The host that the client believes it asks, port and all; none where it names none, or several.
    pub host: Option<String>,
    /// Handed on by a proxy: who asked is not who connected.
    pub forwarded: bool,
    /// The pages that it says it comes from: Origin and Referer headers.
    pub pages: Vec<String>,
    /// Its Sec-Fetch-Site header: from what kind of page a browser asks.
    pub fetch_site: Option<String>,
    /// Whether its Accept header asks for JSON.
    pub wants_json: bool,
}

impl Head {
    fn of(request: &Request<Incoming>) -> Self {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let all = |name: HeaderName| request.headers().get_all(name).into_iter();
        let mut hosts = all(HOST);
        let named = match (request.uri().authority(), hosts.next().map(HeaderValue::to_str), hosts.next()) {
            (Some(authority), Some(Ok(host)), None) if host.eq_ignore_ascii_case(authority.as_str()) => Some(host),
            (Some(authority), None, _) => Some(authority.as_str()),
            (None, Some(host), None) => host.ok(),
            _ => None,
        };
        // What is not even text is somebody else's page as well.
        let pages = all(ORIGIN).chain(all(REFERER)).map(|page| page.to_str().unwrap_or_default().to_owned());
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            host: named.map(str::to_owned),
            forwarded: request.headers().keys().any(is_of_a_proxy),
            pages: pages.collect(),
            fetch_site: header("sec-fetch-site").map(str::to_owned),
            wants_json: header("accept").is_some_and(|accept| accept.contains("application/json")),
        }
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    /// Whether somebody at this host asks, and means it: not through a proxy, not led here by a name that a stranger
    /// bent our way ("DNS rebinding"), and not from another site's page that a browser here happens to show, whether that
    /// tells it by Sec-Fetch-Site or is so old that it only sends Origin or Referer.
    /// Connections from `trusted` count as this host's own: a port that is published on its loopback comes from elsewhere.
    pub fn is_from_this_host(&self, peer: IpAddr, trusted: &[IpNet]) -> bool {
        let own_page = self.fetch_site.as_deref().is_none_or(|site| matches!(site, "same-origin" | "none"));
        let host = self.host.as_deref().unwrap_or_default();
        let own_origin = self.pages.iter().all(|page| is_page_of(page, host));
        let peer = peer.to_canonical();
        let is_local = peer.is_loopback() || trusted.iter().any(|network| network.contains(&peer));
        is_local && is_loopback_host(host) && own_page && own_origin && !self.forwarded
    }
}

/// Whether only proxies, balancers and the like send a header of this name. Each has habits of its own, so families count,
/// not single names: a request that is refused for nothing can be repeated without the header.
fn is_of_a_proxy(name: &HeaderName) -> bool {
    const NAMES: [&str; 8] = [
        "forwarded",
        "via",
        "max-forwards",
        "client-ip",
        "true-client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "wl-proxy-client-ip",
    ];
    const FAMILIES: [&str; 14] = [
        "forwarded-",
        "proxy-",
        "x-forward",
        "x-original-",
        "x-originating-",
        "x-real-",
        "x-client-",
        "x-cluster-",
        "x-remote-",
        "x-proxy",
        "x-envoy-",
        "x-amzn-",
        "x-azure-",
        "cf-",
    ];
    let name = name.as_str();
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether the address of a page, or its origin alone (RFC 6454 §7), is one of ours, as the client names us: a page of
/// another port of this host is another origin.
fn is_page_of(page: &str, host: &str) -> bool {
    let authority = page.strip_prefix("http://").and_then(|rest| rest.split(['/', '?', '#']).next());
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether a Host header (RFC 9110 §7.2) names this host without help from DNS.
fn is_loopback_host(host: &str) -> bool {
    let parts = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(name, port)| (name, port.strip_prefix(':').unwrap_or(port))),
        None => Some(host.split_once(':').unwrap_or((host, ""))),
    };
    let Some((name, _)) = parts.filter(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit())) else {
        return false;
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A response of a status, a media type and a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its status.
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub media_type: &'static str,
    /// Its body.
    pub body: String,
}

impl Text {
    /// Plain text.
    pub fn plain(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: body.into() }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
        if let Ok(policy) = HeaderValue::from_str(&SECURITY_POLICY) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

/// Serves one connection: headers of at most 8 KiB, within 10 s; request bodies are not read. Responses to HEAD
/// have their body left out. The caller bounds the connection's whole life.
pub async fn serve_connection<I, H, F>(io: I, keep_alive: bool, handle: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Head) -> F + Send + Sync + 'static,
    F: Future<Output = Text> + Send,
{
    let handle = Arc::new(handle);
    let service = service_fn(move |request: Request<Incoming>| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(handle(Head::of(&request)).await.into_response()) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP_HEADER_BYTES)
        .keep_alive(keep_alive)
        .serve_connection(TokioIo::new(io), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_proxies_are_known_by_their_families() {
        for (name, expected) in [
            ("via", true),
            ("forwarded", true),
            ("x-forwarded-for", true),
            ("x-forwarded-host", true),
            ("x-forwarded-proto", true),
            ("x-real-ip", true),
            ("x-client-ip", true),
            ("x-original-forwarded-for", true),
            ("x-envoy-external-address", true),
            ("true-client-ip", true),
            ("cf-connecting-ip", true),
            ("proxy-authorization", true),
            ("host", false),
            ("accept", false),
            ("user-agent", false),
            ("connection", false),
            ("sec-fetch-site", false),
            ("upgrade-insecure-requests", false),
            ("x-requested-with", false),
            ("priority", false),
        ] {
            assert_eq!(is_of_a_proxy(&HeaderName::from_static(name)), expected, "{name}");
        }
    }
}
