//! Sockets and connections towards servers: servers that say nothing hold what they were given, and others are asked
//! beside them (design §6). Over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use postseal::limits;
use postseal::resolver::transport::{NetError, Network, QuestionId, SystemNetwork, mozilla_roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Longer than any test: what ends here does not end by itself.
const PATIENCE: Duration = Duration::from_secs(600);
/// For an exchange that is expected to succeed.
const SOON: Duration = Duration::from_secs(60);

fn network() -> Arc<SystemNetwork> {
    Arc::new(SystemNetwork::new(mozilla_roots()).expect("a TLS configuration"))
}

/// A query, or its answer, of this number.
fn message(number: u16) -> Vec<u8> {
    [&number.to_be_bytes()[..], b" of many"].concat()
}

/// Answers the first connection's first message with itself.
async fn answering() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut octets = [0; 64];
        let length = stream.read(&mut octets).await.expect("a query");
        stream.write_all(&octets[..length]).await.expect("written");
        // Until the client closes it.
        let _ = stream.read_u8().await;
    });
    address
}

#[tokio::test]
async fn three_hundred_servers_that_hang_keep_nobody_from_asking_over_tcp() {
    // The kernel takes their connections, and nobody ever reads from them.
    let hanging = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a socket");
    let port = hanging.local_addr().expect("an address").port();
    let network = network();
    let mut hostile = JoinSet::new();
    for number in 0..300_u16 {
        let [high, low] = number.to_be_bytes();
        let server = SocketAddr::from(([127, 1, high, low], port));
        let network = Arc::clone(&network);
        hostile.spawn(async move {
            network.tcp(server, QuestionId::default(), &message(number), &|_| true, PATIENCE).await
        });
    }
    // All are under way before the innocent one begins.
    for _ in 0..300 {
        tokio::task::yield_now().await;
    }
    let server = answering().await;
    let answer = network.tcp(server, QuestionId::default(), &message(1_000), &|_| true, SOON).await;
    assert_eq!(answer, Ok(message(1_000)));
    hostile.abort_all();
}

#[tokio::test]
async fn one_silent_server_holds_no_more_than_its_share_of_sockets() {
    let more = 40;
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = silent.local_addr().expect("an address");
    let network = network();
    let mut hostile = JoinSet::new();
    for number in 0..limits::UPSTREAM_UDP_SOCKETS_PER_SERVER + more {
        let network = Arc::clone(&network);
        let query = message(u16::try_from(number).expect("a few hundred"));
        hostile.spawn(async move {
            network.udp(server, QuestionId::default(), &query, &|_| true, &Notify::new(), PATIENCE).await
        });
    }
    // Each that came too late got the place of one that had had its time.
    for _ in 0..more {
        let ended = hostile.join_next().await.expect("one of them").expect("no panic");
        assert_eq!(ended, Err(NetError::NoSocket));
    }
    // And whoever asks the same server something that it answers does not wait for the others, either.
    let innocent = {
        let network = Arc::clone(&network);
        tokio::spawn(async move {
            network.udp(server, QuestionId::default(), &message(9_999), &|_| true, &Notify::new(), PATIENCE).await
        })
    };
    let mut octets = [0; 64];
    loop {
        let (length, client) = silent.recv_from(&mut octets).await.expect("a query");
        if octets[..length] == message(9_999) {
            silent.send_to(&octets[..length], client).await.expect("sent");
            break;
        }
    }
    assert_eq!(innocent.await.expect("no panic"), Ok(message(9_999)));
    hostile.abort_all();
}

#[tokio::test]
async fn one_question_holds_no_more_than_its_share_of_sockets_however_many_servers_it_asks() {
    let more = 10;
    let silent = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.expect("a socket");
    let port = silent.local_addr().expect("an address").port();
    let (network, question) = (network(), QuestionId::default());
    let mut hostile = JoinSet::new();
    for number in 0..limits::UPSTREAM_UDP_SOCKETS_PER_QUESTION + more {
        let network = Arc::clone(&network);
        let number = u16::try_from(number).expect("a few dozen");
        let [high, low] = number.to_be_bytes();
        let server = SocketAddr::from(([127, 2, high, low], port));
        hostile.spawn(async move {
            network.udp(server, question, &message(number), &|_| true, &Notify::new(), PATIENCE).await
        });
    }
    for _ in 0..more {
        let ended = hostile.join_next().await.expect("one of them").expect("no panic");
        assert_eq!(ended, Err(NetError::NoSocket));
    }
    // Other questions have shares of their own, towards the same server, too.
    let server = SocketAddr::from(([127, 2, 0, 0], port));
    let other = {
        let network = Arc::clone(&network);
        let ask = message(9_999);
        tokio::spawn(async move {
            network.udp(server, QuestionId::default(), &ask, &|_| true, &Notify::new(), PATIENCE).await
        })
    };
    let mut octets = [0; 64];
    loop {
        let (length, _) = silent.recv_from(&mut octets).await.expect("a query");
        if octets[..length] == message(9_999) {
            break;
        }
    }
    assert!(hostile.try_join_next().is_none(), "nobody lost a place to it");
    other.abort();
    hostile.abort_all();
}
