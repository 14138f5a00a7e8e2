//! The HTTPS client against policy hosts with every fault (design §5, RFC 8461 §3.3), over real sockets.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use postseal::cache::entry::FetchFailureKind;
use postseal::clock::Clock;
use postseal::dns::{Found, Security};
use postseal::names::Domain;
use postseal::policy::mta_sts::{Fetch, FetchError, FetchSettings, HttpsFetch, ProxyRules};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::script::Dns;
use crate::support::https::{Certificate, PolicyHosts, Says, Script};

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n";

/// Policy hosts, a DNS that knows them, and a client that trusts their CA.
struct Setting {
    hosts: PolicyHosts,
    dns: Dns,
    ca: tempfile::NamedTempFile,
}

impl Setting {
    async fn new() -> Self {
        let hosts = PolicyHosts::start().await;
        let ca = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(ca.path(), hosts.ca_pem()).expect("a CA file");
        let dns = Dns::default();
        dns.loopback("mta-sts.example.com", Security::Insecure);
        Self { hosts, dns, ca }
    }

    fn settings(&self) -> FetchSettings {
        FetchSettings {
            ca_file: Some(PathBuf::from(self.ca.path())),
            proxy: ProxyRules::default(),
            port: self.hosts.address.port(),
            allow_private_addresses: true,
        }
    }

    async fn fetch_with(&self, settings: FetchSettings) -> Result<Vec<u8>, FetchError> {
        let client = HttpsFetch::new(Arc::new(self.dns.clone()), settings, Clock::system()).expect("a client");
        let domain = Domain::parse("example.com").expect("a domain");
        client.fetch(&domain).await.map(|fetched| fetched.body)
    }

    async fn fetch(&self, script: Script) -> Result<Vec<u8>, FetchError> {
        self.hosts.set("example.com", script);
        self.fetch_with(self.settings()).await
    }
}

fn text(header: &str, body: &[u8]) -> Script {
    let header = format!("Content-Length: {}\r\n{header}", body.len());
    Script::response("200 OK", &header, body)
}

#[tokio::test]
async fn a_policy_file_is_fetched_from_its_one_place() {
    let setting = Setting::new().await;
    assert_eq!(setting.fetch(Script::policy(POLICY)).await, Ok(POLICY.into()));
    let requests = setting.hosts.take_requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].contains("GET /.well-known/mta-sts.txt HTTP/1.1"), "{requests:?}");
}

#[tokio::test]
async fn answers_that_count() {
    let setting = Setting::new().await;
    let rows = [
        ("parameters", text("Content-Type: text/plain; charset=utf-8", POLICY.as_bytes())),
        ("twice", text("Content-Type: text/plain\r\nContent-Type: text/plain; charset=utf-8", POLICY.as_bytes())),
        ("identity", text("Content-Type: text/plain\r\nContent-Encoding: identity", POLICY.as_bytes())),
        ("no encoding", text("Content-Type: text/plain\r\nContent-Encoding:", POLICY.as_bytes())),
        (
            "interim responses",
            Script::says(Says::Octets(
                format!(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
                     Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{POLICY}",
                    POLICY.len()
                )
                .into(),
            )),
        ),
        ("upper case", text("CONTENT-TYPE: TEXT/PLAIN", POLICY.as_bytes())),
        (
            "chunked",
            Script::response(
                "200 OK",
                "Content-Type: text/plain\r\nTransfer-Encoding: chunked",
                b"5\r\nversi\r\n0\r\n\r\n",
            ),
        ),
        ("to the end of the connection", Script::response("200 OK", "Content-Type: text/plain", POLICY.as_bytes())),
        ("largest", text("Content-Type: text/plain", &vec![b'a'; 65_536])),
        (
            "many header lines",
            text(&format!("Content-Type: text/plain{}", "\r\nX-A: b".repeat(1_000)), POLICY.as_bytes()),
        ),
        (
            "dripped",
            Script::says(Says::Drip(
                Duration::from_millis(1),
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{POLICY}",
                    POLICY.len()
                )
                .into(),
            )),
        ),
    ];
    for (name, script) in rows {
        let result = setting.fetch(script).await;
        assert!(result.as_ref().is_ok_and(|body| !body.is_empty()), "{name}: {result:?}");
    }
}

#[tokio::test]
async fn answers_that_do_not_count() {
    let setting = Setting::new().await;
    let plain = "Content-Type: text/plain";
    let long = text(plain, &vec![b'a'; 65_537]);
    let status = |line: &str| Script::response(line, "Content-Type: text/plain\r\nContent-Length: 0", b"");
    let rows = [
        (
            "redirect",
            Script::response("301 Moved", "Location: https://mta-sts.example.com/x\r\nContent-Length: 0", b""),
            FetchError::Status(301),
        ),
        (
            "temporary redirect",
            Script::response("307 Moved", "Location: /x\r\nContent-Length: 0", b""),
            FetchError::Status(307),
        ),
        ("not found", status("404 Not Found"), FetchError::Status(404)),
        ("server error", status("500 Oops"), FetchError::Status(500)),
        ("other success", status("204 No Content"), FetchError::Status(204)),
        ("partial content", status("206 Partial Content"), FetchError::Status(206)),
        (
            "HTML",
            text("Content-Type: text/html", POLICY.as_bytes()),
            FetchError::MediaType("Content-Type: text/html".into()),
        ),
        (
            "similar type",
            text("Content-Type: text/plainer", POLICY.as_bytes()),
            FetchError::MediaType("Content-Type: text/plainer".into()),
        ),
        ("no type", text("X-A: b", POLICY.as_bytes()), FetchError::MediaType("no Content-Type".into())),
        (
            "two types",
            text("Content-Type: text/plain\r\nContent-Type: text/html", POLICY.as_bytes()),
            FetchError::MediaType("Content-Type: text/html".into()),
        ),
        (
            "encoded",
            text("Content-Type: text/plain\r\nContent-Encoding: gzip", POLICY.as_bytes()),
            FetchError::Encoded("Content-Encoding: gzip".into()),
        ),
        (
            "encoded beside identity",
            text("Content-Type: text/plain\r\nContent-Encoding: identity, br", POLICY.as_bytes()),
            FetchError::Encoded("Content-Encoding: identity, br".into()),
        ),
        (
            "unknown transfer coding",
            Script::response("200 OK", "Content-Type: text/plain\r\nTransfer-Encoding: foo", POLICY.as_bytes()),
            FetchError::TransferCoding("Transfer-Encoding: foo".into()),
        ),
        ("too long", long, FetchError::TooLong),
        (
            "too long, chunked",
            Script::response(
                "200 OK",
                &format!("{plain}\r\nTransfer-Encoding: chunked"),
                &[b"10001\r\n".to_vec(), vec![b'a'; 65_537], b"\r\n0\r\n\r\n".to_vec()].concat(),
            ),
            FetchError::TooLong,
        ),
        (
            "shorter than it says",
            Script::response("200 OK", &format!("{plain}\r\nContent-Length: 500"), POLICY.as_bytes()),
            FetchError::Broken,
        ),
        (
            "header too long",
            text(&format!("{plain}\r\nX-A: {}", "b".repeat(70_000)), POLICY.as_bytes()),
            FetchError::Malformed,
        ),
        ("no HTTP", Script::says(Says::Octets(b"220 mx.example.com ESMTP\r\n".to_vec())), FetchError::Malformed),
        ("nothing", Script::says(Says::Closes), FetchError::Broken),
    ];
    for (name, script, expected) in rows {
        assert_eq!(setting.fetch(script).await, Err(expected), "{name}");
    }
}

#[tokio::test]
async fn certificates_that_do_not_verify() {
    let setting = Setting::new().await;
    for (certificate, word) in [
        (Certificate::WrongName, "another name"),
        (Certificate::ParentName, "another name"),
        (Certificate::Expired, "expired"),
        (Certificate::NotYetValid, "not yet valid"),
        (Certificate::SelfSigned, ""),
        (Certificate::OtherCa, "unknown CA"),
    ] {
        let result = setting.fetch(Script::policy(POLICY).with_certificate(certificate)).await;
        let error = result.expect_err("no policy");
        assert_eq!(error.kind(), FetchFailureKind::Certificate, "{certificate:?}: {error}");
        assert!(error.to_string().contains(word), "{certificate:?}: {error}");
    }
    setting.hosts.set("example.com", Script::policy(POLICY));
    let mozilla = FetchSettings { ca_file: None, ..setting.settings() };
    let error = setting.fetch_with(mozilla).await.expect_err("a private CA");
    assert_eq!(error.kind(), FetchFailureKind::Certificate);
}

#[tokio::test]
async fn old_tls_is_refused() {
    let setting = Setting::new().await;
    let error = setting.fetch(Script::says(Says::OldTls)).await.expect_err("TLS 1.2 is the least");
    assert!(matches!(error, FetchError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    let setting = Setting::new().await;
    setting.hosts.set("example.com", Script::policy(POLICY));
    let strict = FetchSettings { allow_private_addresses: false, ..setting.settings() };
    assert_eq!(setting.fetch_with(strict).await, Err(FetchError::PrivateAddress));
    assert!(setting.hosts.take_requests().is_empty());
}

#[tokio::test]
async fn a_policy_host_without_address_or_listener_is_a_network_failure() {
    let setting = Setting::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let dead = FetchSettings { port: closed, ..setting.settings() };
    let error = setting.fetch_with(dead).await.expect_err("nobody listens");
    assert_eq!(
        (error.kind(), error),
        (FetchFailureKind::Network, FetchError::Connect(std::io::ErrorKind::ConnectionRefused))
    );
    let nowhere = Setting { dns: Dns::default(), ..setting };
    assert_eq!(nowhere.fetch_with(nowhere.settings()).await, Err(FetchError::NoAddress));
}

/// A proxy that tunnels to `target`, whatever it is asked for, and tells what that was; or refuses.
async fn proxy(target: Option<std::net::SocketAddr>) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("a request"));
        }
        let status = if target.is_some() { "200 Connected" } else { "403 Forbidden" };
        client
            .write_all(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 {status}\r\nX: y\r\n\r\n").as_bytes())
            .await
            .expect("an answer");
        if let Some(target) = target {
            let mut server = TcpStream::connect(target).await.expect("a policy host");
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        String::from_utf8(head).expect("text")
    });
    (port, task)
}

#[tokio::test]
async fn a_proxy_is_used_and_its_refusal_told() {
    let setting = Setting::new().await;
    setting.hosts.set("example.com", Script::policy(POLICY));
    let by = |port: u16| FetchSettings {
        proxy: ProxyRules::new(Some(&format!("http://user:secret@127.0.0.1:{port}")), None).expect("a proxy"),
        port: 443,
        ..setting.settings()
    };
    let strict = |port| FetchSettings { allow_private_addresses: false, ..by(port) };
    assert_eq!(setting.fetch_with(strict(1)).await, Err(FetchError::PrivateAddress), "a proxy reaches no further");
    // What our own DNS does not know, the proxy may.
    setting.dns.nothing("mta-sts.example.com", RecordType::A, Found::NxDomain, Security::Insecure);
    let (port, _task) = proxy(Some(setting.hosts.address)).await;
    assert_eq!(setting.fetch_with(strict(port)).await, Ok(POLICY.into()));
    setting.dns.loopback("mta-sts.example.com", Security::Insecure);
    let (port, task) = proxy(Some(setting.hosts.address)).await;
    assert_eq!(setting.fetch_with(by(port)).await, Ok(POLICY.into()));
    let request = task.await.expect("a request");
    assert!(request.starts_with("CONNECT mta-sts.example.com:443 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"), "{request}");
    let (port, _task) = proxy(None).await;
    assert_eq!(setting.fetch_with(by(port)).await, Err(FetchError::Proxy(403)));
}

#[tokio::test]
async fn a_ca_file_without_certificates_is_refused_and_a_reload_keeps_the_old_one() {
    let setting = Setting::new().await;
    setting.hosts.set("example.com", Script::policy(POLICY));
    let client = HttpsFetch::new(Arc::new(setting.dns.clone()), setting.settings(), Clock::system()).expect("a client");
    std::fs::write(setting.ca.path(), "nothing").expect("a file");
    assert!(client.reload_roots().is_err());
    let domain = Domain::parse("example.com").expect("a domain");
    assert!(client.fetch(&domain).await.is_ok());
    assert!(HttpsFetch::new(Arc::new(setting.dns.clone()), setting.settings(), Clock::system()).is_err());
}
