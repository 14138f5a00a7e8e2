//! HTTPS policy hosts with a private CA: one listener serves any number of domains, each with its own faults.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postseal::clock::Clock;
use postseal::dns::Lookup;
use postseal::policy::mta_sts::{FetchSettings, HttpsFetch, ProxyRules};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The certificate a host shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Good,
    WrongName,
    /// For the domain, but not for `mta-sts.` below it.
    ParentName,
    Expired,
    NotYetValid,
    SelfSigned,
    OtherCa,
}

impl Certificate {
    pub const ALL: [Self; 7] = [
        Self::Good,
        Self::WrongName,
        Self::ParentName,
        Self::Expired,
        Self::NotYetValid,
        Self::SelfSigned,
        Self::OtherCa,
    ];
}

/// What a host says once TLS stands, or instead of it.
#[derive(Clone, Debug)]
pub enum Says {
    /// These octets, then it closes in order.
    Octets(Vec<u8>),
    /// These octets, one at a time with this pause.
    Drip(Duration, Vec<u8>),
    /// Nothing, ever.
    Nothing,
    /// Closes without a word.
    Closes,
    /// No TLS handshake: silence.
    NoTls,
    /// Speaks only TLS 1.1: an alert, `protocol_version`.
    OldTls,
}

/// One policy host.
#[derive(Clone, Debug)]
pub struct Script {
    pub certificate: Certificate,
    pub says: Says,
}

impl Script {
    /// A healthy host with this policy.
    pub fn policy(policy: &str) -> Self {
        Self::response(
            "200 OK",
            &format!("Content-Type: text/plain\r\nContent-Length: {}", policy.len()),
            policy.as_bytes(),
        )
    }

    /// A response with this status line and these header lines; `Connection: close` is added.
    pub fn response(status: &str, header: &str, body: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status}\r\n{header}\r\nConnection: close\r\n\r\n");
        Self::says(Says::Octets([head.as_bytes(), body].concat()))
    }

    pub fn says(says: Says) -> Self {
        Self { certificate: Certificate::Good, says }
    }

    pub fn with_certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }
}

struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    requests: Mutex<Vec<String>>,
    authorities: Authorities,
}

/// Serves policy files until dropped.
pub struct PolicyHosts {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl PolicyHosts {
    /// On a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let authorities = Authorities::new();
        let shared = Arc::new(Shared { scripts: Mutex::default(), requests: Mutex::default(), authorities });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, shared.clone()));
        Self { address, shared, _tasks: tasks }
    }

    /// Sets what `mta-sts.<domain>` does.
    pub fn set(&self, domain: &str, script: Script) {
        self.shared.scripts.lock().insert(format!("mta-sts.{domain}"), script);
    }

    /// The CA's certificate, PEM: `mta-sts.ca-file`.
    pub fn ca_pem(&self) -> String {
        self.shared.authorities.good_pem.clone()
    }

    /// A client that trusts these policy hosts and asks this DNS; the file of their CA has to outlive it.
    pub fn client(&self, lookup: Arc<dyn Lookup>) -> (HttpsFetch, tempfile::NamedTempFile) {
        let ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca.path(), self.ca_pem()).expect("a CA file");
        let settings = FetchSettings {
            ca_file: Some(ca.path().to_owned()),
            proxy: ProxyRules::default(),
            port: self.address.port(),
            allow_private_addresses: true,
        };
        (HttpsFetch::new(lookup, settings, Clock::system()).expect("a client"), ca)
    }

    /// A TLS server for another name, with a certificate of the same CA.
    pub fn server_config(&self, host: &str, certificate: Certificate) -> ServerConfig {
        self.shared.authorities.server_config(host, certificate)
    }

    /// Host name and first line of every request so far, and forgets them.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests.lock())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            // Clients that give up halfway are what some tests are about.
            let _ = serve(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    tokio::pin!(hello);
    let start = hello.as_mut().await?;
    let name = start.client_hello().server_name().unwrap_or_default().to_owned();
    let Some(script) = shared.scripts.lock().get(&name).cloned() else { return Ok(()) };
    match script.says {
        Says::NoTls => return std::future::pending().await,
        Says::OldTls => {
            // RFC 5246 §7.2: fatal, protocol_version, in a TLS 1.1 record.
            let mut stream = start.io;
            stream.write_all(&[21, 3, 2, 0, 2, 2, 70]).await?;
            return stream.shutdown().await;
        }
        _ => {}
    }
    let config = shared.authorities.server_config(&name, script.certificate);
    let mut stream = start.into_stream(Arc::new(config)).await?;
    let request = read_request(&mut stream).await?;
    shared.requests.lock().push(format!("{name} {request}"));
    match script.says {
        Says::Octets(octets) => stream.write_all(&octets).await?,
        Says::Drip(pause, octets) => {
            for octet in octets {
                stream.write_all(&[octet]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
        }
        Says::Nothing => return std::future::pending().await,
        Says::Closes | Says::NoTls | Says::OldTls => {}
    }
    stream.shutdown().await
}

/// The request line; the header is read to its end.
async fn read_request(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16_384 {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The CA the client trusts, and one it does not.
struct Authorities {
    good: Issuer<'static, KeyPair>,
    good_pem: String,
    other: Issuer<'static, KeyPair>,
}

impl Authorities {
    fn new() -> Self {
        let make = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            (Issuer::new(params, key), certificate)
        };
        let (good, certificate) = make("postseal test CA");
        let (other, _) = make("somebody else's CA");
        Self { good, good_pem: certificate.pem(), other }
    }

    fn server_config(&self, host: &str, kind: Certificate) -> ServerConfig {
        let name = match kind {
            Certificate::WrongName => "mta-sts.wrong.example",
            Certificate::ParentName => host.strip_prefix("mta-sts.").unwrap_or(host),
            _ => host,
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        match kind {
            Certificate::Expired => params.not_after = date_time_ymd(2020, 1, 1),
            Certificate::NotYetValid => params.not_before = date_time_ymd(2090, 1, 1),
            _ => {}
        }
        let key = KeyPair::generate().unwrap();
        let certificate = match kind {
            Certificate::SelfSigned => params.self_signed(&key),
            Certificate::OtherCa => params.signed_by(&key, &self.other),
            _ => params.signed_by(&key, &self.good),
        };
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.unwrap().der().clone()], private)
            .unwrap()
    }
}
