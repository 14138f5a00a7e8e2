//! One HTTP connection, bounded; shared by everything here that speaks HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
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
    /// The host that the client believes it asks, port and all; none where it names none or several.
    pub host: Option<String>,
    /// Handed on by a proxy: who asked is not who connected.
    pub forwarded: bool,
    /// Its Sec-Fetch-Site header: from what kind of page a browser asks.
    pub fetch_site: Option<String>,
    /// Whether its Accept header asks for JSON.
    pub wants_json: bool,
}

impl Head {
    fn of(request: &Request<Incoming>) -> Self {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let mut hosts = request.headers().get_all(HOST).iter();
        let named = match (request.uri().authority(), hosts.next(), hosts.next()) {
            (Some(authority), _, _) => Some(authority.as_str()),
            (None, Some(host), None) => host.to_str().ok(),
            (None, ..) => None,
        };
        Self {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            host: named.map(str::to_owned),
            forwarded: request.headers().contains_key(FORWARDED) || request.headers().contains_key("x-forwarded-for"),
            fetch_site: header("sec-fetch-site").map(str::to_owned),
            wants_json: header("accept").is_some_and(|accept| accept.contains("application/json")),
        }
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or(&self.target)
    }

    /// Whether somebody at this host asks, and means it: not through a proxy, not led here by a name that a stranger
    /// bent our way ("DNS rebinding"), and not from another site's page that a browser here happens to show.
    pub fn is_from_this_host(&self, peer: IpAddr) -> bool {
        let own_page = self.fetch_site.as_deref().is_none_or(|site| matches!(site, "same-origin" | "none"));
        let host = self.host.as_deref().unwrap_or_default();
        peer.to_canonical().is_loopback() && is_loopback_host(host) && own_page && !self.forwarded
    }
}

/// Whether a Host header (RFC 9110 §7.2) names this host without help from DNS.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
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
