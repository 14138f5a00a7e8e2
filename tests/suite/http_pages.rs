//! Metrics and health over real sockets: bounds and ends (design §9).

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::StatusCode;
use postseal::http::status::{SlowZone, Status};
use postseal::http::{Explains, Pages, Text, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

struct Still;

impl Pages for Still {
    fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n".to_owned()
    }
    fn stuck(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn missing(&self) -> Vec<&'static str> {
        vec!["root keys"]
    }
    fn status(&self) -> Status {
        let slow_zones = vec![SlowZone { zone: "slow.example".to_owned(), ..SlowZone::default() }];
        Status { version: "1.2.3".to_owned(), slow_zones, ..Status::default() }
    }
}

impl Explains for Still {
    fn explain(&self, key: String, json: bool) -> BoxFuture<'static, Text> {
        Box::pin(async move { Text::plain(StatusCode::OK, format!("{key}, JSON {json}\n")) })
    }
}

pub(crate) async fn start() -> (std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (shutdown, stop) = oneshot::channel();
    let server = tokio::spawn(run(vec![listener], Arc::new(Still), Arc::new(Still), Vec::new(), async {
        let _ = stop.await;
    }));
    (address, shutdown, server)
}

pub(crate) async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        response.extend_from_slice(&part[..count]);
    }
    String::from_utf8(response).expect("text")
}

#[tokio::test]
async fn pages_answer_get_and_head_and_nothing_else() {
    let (address, shutdown, server) = start().await;
    for (request, status, body) in [
        ("GET /metrics", "200 OK", "\r\n\r\n# TYPE up gauge\nup 1\n"),
        ("HEAD /metrics", "200 OK", "\r\n\r\n"),
        ("GET /livez", "200 OK", "\r\n\r\nok\n"),
        ("GET /readyz", "503 Service Unavailable", "not ready: root keys\n"),
        ("GET /", "200 OK", "</html>\n"),
        ("GET /secret", "404 Not Found", "not found\n"),
        ("DELETE /metrics", "405 Method Not Allowed", "only\n"),
    ] {
        let response = exchange(address, &format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
        assert!(response.ends_with(body), "{request}: {response}");
    }
    let _ = shutdown.send(());
    server.await.expect("ended");
}

#[tokio::test]
async fn the_page_may_load_nothing_and_names_domains_only_where_this_host_is_asked() {
    let (address, _shutdown, _server) = start().await;
    for (host, more, named) in [
        ("localhost", "", true),
        ("127.0.0.1:9642", "", true),
        ("attacker.example", "", false),
        ("localhost", "X-Forwarded-For: 192.0.2.1\r\n", false),
        ("localhost", "Host: attacker.example\r\n", false),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        let response = exchange(address, &request).await;
        assert!(response.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{response}");
        assert!(response.contains("x-content-type-options: nosniff\r\n"), "{response}");
        assert!(response.contains("not ready") || response.contains("1.2.3"), "{response}");
        assert_eq!(response.contains("slow.example"), named, "{host} {more}");
        assert_eq!(response.contains("<form"), named, "{host} {more}");
    }
}

#[tokio::test]
async fn a_header_over_8_kib_is_refused() {
    let (address, _shutdown, _server) = start().await;
    let long = "x".repeat(9_000);
    let response = exchange(address, &format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n")).await;
    assert!(response.is_empty() || response.starts_with("HTTP/1.1 431"), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_arrive_ends_the_connection_after_10_s() {
    let (address, _shutdown, _server) = start().await;
    let start = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(b"GET /livez HT").await.expect("sent");
    let mut rest = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut rest).await {}
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    assert!((9..=11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn explanations_need_a_host_header_that_names_this_host() {
    let (address, shutdown, server) = start().await;
    for (host, header, status, body) in [
        ("localhost", "X: y", "200", "example.com, JSON false"),
        ("127.0.0.1", "Accept: application/json", "200", "example.com, JSON true"),
        ("postseal.example", "X: y", "403", "loopback"),
        ("localhost", "Sec-Fetch-Site: cross-site", "403", "loopback"),
        ("localhost", "Origin: http://localhost", "200", "example.com, JSON false"),
        ("localhost", "Origin: http://evil.example", "403", "loopback"),
        ("localhost", "Origin: null", "403", "loopback"),
        ("localhost", "Referer: https://evil.example/page", "403", "loopback"),
        ("localhost", "Via: 1.1 proxy", "403", "loopback"),
        ("localhost", "X-Real-IP: 192.0.2.1", "403", "loopback"),
        ("localhost", "X-Forwarded-Host: postseal.example", "403", "loopback"),
        ("localhost", "Host: postseal.example", "403", "loopback"),
    ] {
        let head = format!("Host: {host}\r\n{header}\r\nConnection: close\r\n\r\n");
        let response = exchange(address, &format!("GET /explain?domain=example.com HTTP/1.1\r\n{head}")).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{host} {header}: {response}");
        assert!(response.contains(body), "{host} {header}: {response}");
    }
    shutdown.send(()).expect("running");
    server.await.expect("ended");
}
