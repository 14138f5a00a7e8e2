//! Connection slots of the HTTP port: those who connect and do nothing, half of something, or do not read, and the probes
//! of a kubelet beside them (design §9). Over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use postseal::clock::Instant;
use postseal::limits::HTTP_CONNECTIONS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_pages::{exchange, start};

const PROBE: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What a hostile client sends, and then waits.
const HOSTILE: [(&str, &str); 5] = [
    ("nothing", ""),
    ("half a line", "GET /metr"),
    ("half a header", "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-"),
    ("asks and keeps the connection", "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("announces a body", "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"),
];

async fn hostile(address: SocketAddr, octets: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    // It may have been told to leave already: that is what is tested.
    let _ = stream.write_all(octets.as_bytes()).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_answered_at_once_beside_any_number_of_clients_that_do_not_finish_or_read() {
    for (what, octets) in HOSTILE {
        let (address, _shutdown, _server) = start().await;
        let mut held = Vec::new();
        for _ in 0..HTTP_CONNECTIONS * 3 {
            held.push(hostile(address, octets).await);
        }
        let mut best = Duration::MAX;
        for path in ["/livez", "/readyz", "/livez", "/metrics", "/livez"] {
            let began = Instant::now();
            let response = exchange(address, &PROBE.replace("/livez", path)).await;
            assert!(response.starts_with("HTTP/1.1 "), "{what}: {response}");
            best = best.min(began.elapsed());
            held.push(hostile(address, octets).await);
        }
        assert!(best < Duration::from_millis(100), "{what}: {best:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_hold_no_place() {
    let (address, _shutdown, _server) = start().await;
    let asked_often = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000);
    let mut held = Vec::new();
    for _ in 0..HTTP_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        // As much as it takes; the answers fill the buffers of the kernel on both sides.
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.write_all(asked_often.as_bytes())).await;
        held.push(stream);
    }
    for _ in 0..3 {
        let response = exchange(address, PROBE).await;
        assert!(response.ends_with("ok\n"), "{response}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_that_has_waited_longest_makes_room_and_the_others_stay() {
    let (address, _shutdown, _server) = start().await;
    let mut held = Vec::new();
    for _ in 0..HTTP_CONNECTIONS {
        held.push(hostile(address, "GET /metr").await);
    }
    assert!(exchange(address, PROBE).await.ends_with("ok\n"));
    let first = held.first_mut().expect("many");
    assert_eq!(first.read(&mut [0; 64]).await.unwrap_or(0), 0, "the first is gone");
    for stream in held.iter_mut().skip(1) {
        stream.write_all(b"ics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("still there");
        let mut part = [0; 12];
        stream.read_exact(&mut part).await.expect("an answer");
        assert_eq!(&part, b"HTTP/1.1 200");
    }
}
