//! The HTTPS client: one GET, nothing followed, nothing cached (RFC 8461 §3.3).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use hickory_proto::rr::RecordType;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::{Addresses, Race, addresses};
use super::known_addresses::KnownAddresses;
use super::places::Places;
use super::proxy::{ProxyRules, open_tunnel};
use super::tls::{RootsError, client_config, handshake_error, trusted_roots};
use super::{Fetch, FetchError, FetchedPolicy};
use crate::addresses::is_public;
use crate::clock::Clock;
use crate::dns::{BoxFuture, Lookup};
use crate::limits::{STS_FETCH_TIMEOUT, STS_HEADER_BYTES, STS_HEADER_LINES, STS_POLICY_BYTES, STS_QUOTED_BYTES};
use crate::names::Domain;

const PATH: &str = "/.well-known/mta-sts.txt";
const HTTPS: u16 = 443;

/// How policy files are fetched.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// CAs in PEM; none: Mozilla's, compiled in (`mta-sts.ca-file`).
    pub ca_file: Option<PathBuf>,
    /// Proxy, and what is reached without it (`mta-sts.proxy`, or `HTTPS_PROXY` and `NO_PROXY`).
    pub proxy: ProxyRules,
    /// Port of policy hosts (`mta-sts.port`).
    pub port: u16,
    /// Also connect to loopback, private and other special-purpose addresses (`mta-sts.allow-private-addresses`).
    pub allow_private_addresses: bool,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { ca_file: None, proxy: ProxyRules::default(), port: HTTPS, allow_private_addresses: false }
    }
}

/// Fetches policy files over HTTPS.
pub struct HttpsFetch {
    lookup: Arc<dyn Lookup>,
    settings: FetchSettings,
    clock: Clock,
    trusted: RwLock<Trusted>,
    hosts: Arc<Hosts>,
}

/// What all fetches share.
#[derive(Default)]
struct Hosts {
    known: KnownAddresses,
    places: Places,
}

/// Whom it believes.
#[derive(Clone)]
struct Trusted {
    roots: Arc<RootCertStore>,
    tls: Arc<ClientConfig>,
}

impl Trusted {
    fn read(settings: &FetchSettings, clock: &Clock) -> Result<Self, RootsError> {
        let roots = Arc::new(trusted_roots(settings.ca_file.as_deref())?);
        Ok(Self { tls: client_config(Arc::clone(&roots), clock)?, roots })
    }
}

impl HttpsFetch {
    /// A client; reads the CA file.
    pub fn new(lookup: Arc<dyn Lookup>, settings: FetchSettings, clock: Clock) -> Result<Self, RootsError> {
        let trusted = RwLock::new(Trusted::read(&settings, &clock)?);
        Ok(Self { lookup, settings, clock, trusted, hosts: Arc::default() })
    }

    /// A client with the same settings and its addresses from another resolver, which shares nothing that is learnt.
    pub fn apart(&self, lookup: Arc<dyn Lookup>) -> Self {
        self.sharing(lookup, Arc::default())
    }

    fn sharing(&self, lookup: Arc<dyn Lookup>, hosts: Arc<Hosts>) -> Self {
        let trusted = RwLock::new(self.trusted.read().clone());
        Self { lookup, settings: self.settings.clone(), clock: self.clock.clone(), trusted, hosts }
    }

    /// The CAs that count.
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.trusted.read().roots)
    }

    /// Reads the CA file again; after an error, the old CAs stay.
    pub fn reload_roots(&self) -> Result<(), RootsError> {
        let fresh = Trusted::read(&self.settings, &self.clock)?;
        *self.trusted.write() = fresh;
        Ok(())
    }

    async fn get(&self, domain: &Domain) -> Result<FetchedPolicy, FetchError> {
        // A name too long for the policy host to exist.
        let host = Domain::parse(&format!("mta-sts.{domain}")).map_err(|_| FetchError::NoAddress)?;
        let (port, name) = (self.settings.port, host.to_name());
        let Some(proxy) = self.settings.proxy.of(host.as_str()) else {
            let found = Addresses::of(&*self.lookup, &name, self.settings.allow_private_addresses).await?;
            let attempt = |stream| self.exchange(&host, stream);
            return self.race(host.as_str(), port, true).run(found, attempt).await;
        };
        self.refuse_private(&host).await?;
        let host = &host;
        let through = |mut stream| async move {
            open_tunnel(&mut stream, proxy, host.as_str(), port).await?;
            self.exchange(host, stream).await
        };
        // The operator names the proxy, so it may be anywhere.
        if let Ok(address) = proxy.host.parse::<IpAddr>() {
            return self.race(&proxy.host, proxy.port, false).run(Addresses::literal(address), through).await;
        }
        let name = Domain::parse(&proxy.host).map_err(|_| FetchError::NoAddress)?.to_name();
        let found = Addresses::of(&*self.lookup, &name, true).await?;
        self.race(&proxy.host, proxy.port, false).run(found, through).await
    }

    /// `counted`: each address has its share of the places. That of a proxy is the way to all policy hosts.
    fn race<'a>(&'a self, host: &'a str, port: u16, counted: bool) -> Race<'a> {
        Race { host, port, known: &self.hosts.known, places: &self.hosts.places, counted }
    }

    /// A proxy reaches further into the operator's network than we do: it is not asked for a host of which any address
    /// is private. What our own DNS does not know, it may.
    async fn refuse_private(&self, host: &Domain) -> Result<(), FetchError> {
        if self.settings.allow_private_addresses {
            return Ok(());
        }
        let name = host.to_name();
        let (six, four) =
            tokio::join!(self.lookup.lookup(&name, RecordType::AAAA), self.lookup.lookup(&name, RecordType::A));
        match [six, four].iter().flat_map(addresses).all(is_public) {
            true => Ok(()),
            false => Err(FetchError::PrivateAddress),
        }
    }

    async fn exchange(&self, host: &Domain, stream: TcpStream) -> Result<FetchedPolicy, FetchError> {
        let tls = self.handshake(host, stream).await?;
        request(tls, host, self.settings.port).await
    }

    async fn handshake(&self, host: &Domain, stream: TcpStream) -> Result<TlsStream<TcpStream>, FetchError> {
        let connector = TlsConnector::from(Arc::clone(&self.trusted.read().tls));
        let name = ServerName::try_from(host.as_str().to_owned())
            .map_err(|_| FetchError::Certificate("no host name to verify".into()))?;
        connector.connect(name, stream).await.map_err(|error| handshake_error(&error))
    }
}

impl Fetch for HttpsFetch {
    fn over(&self, lookup: &Arc<dyn Lookup>) -> Option<Arc<dyn Fetch>> {
        Some(Arc::new(self.sharing(Arc::clone(lookup), Arc::clone(&self.hosts))))
    }

    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        Box::pin(async move { timeout(STS_FETCH_TIMEOUT, self.get(domain)).await.unwrap_or(Err(FetchError::Timeout)) })
    }
}

async fn request(stream: TlsStream<TcpStream>, host: &Domain, port: u16) -> Result<FetchedPolicy, FetchError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(STS_HEADER_BYTES)
        .max_headers(STS_HEADER_LINES)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| http_error(&error))?;
    let authority = if port == HTTPS { host.to_string() } else { format!("{host}:{port}") };
    let request = Request::get(PATH)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("postseal/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "text/plain")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| FetchError::Malformed)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| http_error(&error))?;
        check_head(&response)?;
        read_body(response).await
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            result = &mut exchange => return result,
            // Its error, if any, comes out of the exchange as well.
            _ = &mut connection, if open => open = false,
        }
    }
}

fn http_error(error: &hyper::Error) -> FetchError {
    if error.is_parse() { FetchError::Malformed } else { FetchError::Broken }
}

fn check_head<B>(response: &Response<B>) -> Result<(), FetchError> {
    // hyper's own bound holds only where the header comes in small pieces.
    let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > STS_HEADER_BYTES {
        return Err(FetchError::Malformed);
    }
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    check_fields(response.headers())
}

/// What the header says about the body: plain text, as it is (RFC 8461 §3.2; RFC 9110 §8.3, §8.4; RFC 9112 §6.1). A
/// field that stands twice counts if each says so.
fn check_fields(headers: &HeaderMap) -> Result<(), FetchError> {
    let refused = |name: &HeaderName, fits: fn(&str) -> bool| {
        let mut values = headers.get_all(name).iter();
        values.find(|value| !value.to_str().is_ok_and(fits)).map(|value| quoted(name, value))
    };
    // Codings are a list, and its empty elements do not count (RFC 9110 §5.6.1).
    let no_coding = |text: &str| text.split(',').all(|one| matches!(one.trim(), "") || is_word(one, "identity"));
    if let Some(field) = refused(&CONTENT_ENCODING, no_coding) {
        return Err(FetchError::Encoded(field));
    }
    if let Some(field) = refused(&TRANSFER_ENCODING, |text| is_word(text, "chunked")) {
        return Err(FetchError::TransferCoding(field));
    }
    let plain = |text: &str| is_word(text.split(';').next().unwrap_or_default(), "text/plain");
    if let Some(field) = refused(&CONTENT_TYPE, plain) {
        return Err(FetchError::MediaType(field));
    }
    match headers.contains_key(CONTENT_TYPE) {
        true => Ok(()),
        false => Err(FetchError::MediaType("no Content-Type".into())),
    }
}

fn is_word(text: &str, word: &str) -> bool {
    text.trim().eq_ignore_ascii_case(word)
}

/// A field as it came, cut, and what is not printable ASCII escaped: a stranger wrote it.
fn quoted(name: &HeaderName, value: &HeaderValue) -> Box<str> {
    let name = match *name {
        CONTENT_TYPE => "Content-Type",
        CONTENT_ENCODING => "Content-Encoding",
        _ => "Transfer-Encoding",
    };
    let octets = value.as_bytes();
    let shown = octets.get(..STS_QUOTED_BYTES).unwrap_or(octets);
    format!("{name}: {}", shown.escape_ascii()).into()
}

async fn read_body(response: Response<hyper::body::Incoming>) -> Result<FetchedPolicy, FetchError> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| http_error(&error))?;
        if let Some(data) = frame.data_ref() {
            if body.len() + data.len() > STS_POLICY_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(data);
        }
    }
    Ok(FetchedPolicy { body })
}
