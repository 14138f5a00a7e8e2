//! A policy host with several addresses, of which one is bad (design §5), over real sockets and real TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postseal::dns::Security;
use postseal::names::Domain;
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy, HttpsFetch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::script::Dns;
use crate::support::https::{Certificate, PolicyHosts, Script};

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n";
const HOST: &str = "mta-sts.example.com";

/// What is wrong with an address that accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Closes,
    Resets,
    Silent,
    Garbage,
    WrongCertificate,
    ErrorStatus,
    NoPolicy,
    Drips,
    /// The whole head, then nothing.
    StopsInBody,
}

const FAULTS: [Fault; 9] = [
    Fault::Closes,
    Fault::Resets,
    Fault::Silent,
    Fault::Garbage,
    Fault::WrongCertificate,
    Fault::ErrorStatus,
    Fault::NoPolicy,
    Fault::Drips,
    Fault::StopsInBody,
];

/// A bad address before a good one, of the same port.
struct Setting {
    hosts: PolicyHosts,
    client: HttpsFetch,
    visits: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
    _ca: tempfile::NamedTempFile,
}

impl Setting {
    async fn new(fault: Fault) -> Self {
        let (hosts, bad) = loop {
            let hosts = PolicyHosts::start().await;
            // Taken by somebody else: another port, then.
            if let Ok(bad) = TcpListener::bind(("127.0.0.2", hosts.address.port())).await {
                break (hosts, bad);
            }
        };
        hosts.set("example.com", Script::policy(POLICY));
        let certificate = if fault == Fault::WrongCertificate { Certificate::WrongName } else { Certificate::Good };
        let tls = TlsAcceptor::from(Arc::new(hosts.server_config(HOST, certificate)));
        let visits = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&visits);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = bad.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::Relaxed);
                let tls = tls.clone();
                connections.spawn(async move {
                    // The client leaves when it likes.
                    let _ = misbehave(fault, stream, tls).await;
                });
            }
        });
        let dns = Dns::default();
        dns.addresses(HOST, Security::Insecure, &["127.0.0.2", "127.0.0.1"]);
        let (client, ca) = hosts.client(Arc::new(dns));
        Self { hosts, client, visits, _tasks: tasks, _ca: ca }
    }

    async fn fetch(&self) -> Result<FetchedPolicy, FetchError> {
        self.client.fetch(&Domain::parse("example.com").expect("a domain")).await
    }
}

async fn misbehave(fault: Fault, mut stream: TcpStream, tls: TlsAcceptor) -> std::io::Result<()> {
    match fault {
        Fault::Closes => return Ok(()),
        Fault::Resets => {
            // Closing with unread octets resets.
            stream.readable().await?;
            return Ok(());
        }
        Fault::Silent => std::future::pending().await,
        Fault::Garbage => return stream.write_all(b"220 mx.example.com ESMTP\r\n").await,
        _ => {}
    }
    let mut stream = tls.accept(stream).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let fine = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n";
    match fault {
        Fault::ErrorStatus => stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await?,
        Fault::NoPolicy => stream.write_all(&[fine.as_slice(), b"It works!\n"].concat()).await?,
        Fault::StopsInBody => {
            stream.write_all(fine).await?;
            std::future::pending::<()>().await;
        }
        _ => loop {
            stream.write_all(b"H").await?;
            tokio::time::sleep(Duration::from_secs(20)).await;
        },
    }
    stream.shutdown().await
}

#[tokio::test]
async fn one_bad_address_costs_no_policy_and_is_left() {
    let mut rows = JoinSet::new();
    for fault in FAULTS {
        rows.spawn(async move {
            let setting = Setting::new(fault).await;
            for round in ["first", "second", "third"] {
                let fetched = setting.fetch().await.map(|fetched| fetched.body);
                assert_eq!(fetched, Ok(POLICY.into()), "{fault:?}, {round}");
            }
            assert_eq!(setting.visits.load(Ordering::Relaxed), 1, "{fault:?}: what worked is remembered");
            assert_eq!(setting.hosts.take_requests().len(), 3, "{fault:?}");
        });
    }
    while let Some(row) = rows.join_next().await {
        row.expect("a row");
    }
}

#[tokio::test]
async fn a_good_address_that_went_bad_is_left_for_the_other() {
    let setting = Setting::new(Fault::ErrorStatus).await;
    assert!(setting.fetch().await.is_ok());
    // What worked is broken now, and the other is no better: the definite answer is told, not the broken network.
    setting.hosts.set("example.com", Script::says(crate::support::https::Says::Closes));
    assert_eq!(setting.fetch().await.map(|fetched| fetched.body), Err(FetchError::Status(503)));
    assert_eq!(setting.visits.load(Ordering::Relaxed), 2);
    setting.hosts.set("example.com", Script::policy(POLICY));
    assert!(setting.fetch().await.is_ok(), "and found again");
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let hosts = PolicyHosts::start().await;
    hosts.set("example.com", Script::policy(POLICY));
    let dns = Dns::default();
    let dead: SocketAddr = ([127, 9, 9, 9], 0).into();
    dns.addresses(HOST, Security::Insecure, &[&dead.ip().to_string(), &IpAddr::from([127, 0, 0, 1]).to_string()]);
    let (client, _ca) = hosts.client(Arc::new(dns));
    let domain = Domain::parse("example.com").expect("a domain");
    assert_eq!(client.fetch(&domain).await.map(|fetched| fetched.body), Ok(POLICY.into()));
}
