//! Datagrams: one socket and one random port for each query, so that an answer must guess both.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::places::{Limits, Places, QuestionId};
use super::{Accept, NetError};
use crate::limits;

/// Ports tried before the system chooses one.
const PORT_TRIES: usize = 16;
/// Ports below belong to services (RFC 6335 §6); the rest is drawn from (RFC 5452 §9.2).
const FIRST_PORT: u16 = 1_024;

/// Sends datagrams; bounded by [`limits::UPSTREAM_UDP_SOCKETS`], [`limits::UPSTREAM_UDP_SOCKETS_PER_SERVER`] and
/// [`limits::UPSTREAM_UDP_SOCKETS_PER_QUESTION`].
#[derive(Debug)]
pub(super) struct Datagrams {
    sockets: Places,
}

thread_local! {
    /// Where this thread receives: a datagram may be of any size, and most are small.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; limits::RESPONSE_BYTES].into());
}

impl Datagrams {
    pub fn new() -> Self {
        Self::with(Places::within_open_files(Limits {
            most: limits::UPSTREAM_UDP_SOCKETS,
            per_address: limits::UPSTREAM_UDP_SOCKETS_PER_SERVER,
            per_question: limits::UPSTREAM_UDP_SOCKETS_PER_QUESTION,
        }))
    }

    fn with(sockets: Places) -> Self {
        Self { sockets }
    }

    /// See [`super::Network::udp`].
    pub async fn exchange(
        &self,
        (server, question): (SocketAddr, QuestionId),
        query: &[u8],
        accept: Accept<'_>,
        again: &Notify,
        patience: Duration,
    ) -> Result<Vec<u8>, NetError> {
        let place = timeout(patience, self.sockets.take(server.ip(), question)).await;
        let place = place.ok().flatten().ok_or(NetError::NoSocket)?;
        let socket = bind(server).await?;
        // Connected: the kernel drops what comes from elsewhere and reports refusals by ICMP.
        socket.connect(server).await.map_err(|error| net_error(&error))?;
        socket.send(query).await.map_err(|error| net_error(&error))?;
        let mut answer = pin!(receive(&socket, accept));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = place.lost() => return Err(NetError::NoSocket),
                () = again.notified() => socket.send(query).await.map(drop).map_err(|error| net_error(&error))?,
                () = tokio::time::sleep(patience) => return Err(NetError::Timeout),
            }
        }
    }
}

async fn receive(socket: &UdpSocket, accept: Accept<'_>) -> Result<Vec<u8>, NetError> {
    let take = || {
        BUFFER.with_borrow_mut(|buffer| {
            let length = recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
            let message = buffer.get(..length).unwrap_or_default();
            Ok(accept(message).then(|| message.to_vec()))
        })
    };
    loop {
        // A refusal by ICMP makes a socket no more readable.
        let taken = socket.async_io(Interest::READABLE | Interest::ERROR, take).await;
        if let Some(message) = taken.map_err(|error| net_error(&error))? {
            return Ok(message);
        }
    }
}

/// A socket at a random port.
async fn bind(server: SocketAddr) -> Result<UdpSocket, NetError> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    for _ in 0..PORT_TRIES {
        let port = rand::random_range(FIRST_PORT..=u16::MAX);
        match UdpSocket::bind((any, port)).await {
            Ok(socket) => return Ok(socket),
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
            Err(error) => return Err(net_error(&error)),
        }
    }
    UdpSocket::bind((any, 0)).await.map_err(|error| net_error(&error))
}

/// What an error of the system means for the exchange.
pub(super) fn net_error(error: &io::Error) -> NetError {
    use io::ErrorKind::{
        AddrInUse, AddrNotAvailable, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, OutOfMemory, PermissionDenied, TimedOut, Unsupported,
    };
    /// EMFILE and ENFILE have no kind of their own; they are the same on all platforms we run on.
    const OUT_OF_DESCRIPTORS: [i32; 2] = [24, 23];
    /// EAFNOSUPPORT: a kernel without IPv6.
    const NO_SUCH_FAMILY: i32 = 97;
    match (error.kind(), error.raw_os_error()) {
        (_, Some(code)) if OUT_OF_DESCRIPTORS.contains(&code) => NetError::NoSocket,
        (_, Some(NO_SUCH_FAMILY)) => NetError::Unreachable,
        (ConnectionRefused | ConnectionReset, _) => NetError::Refused,
        // A firewall of this host that forbids sending shows as a permission that is missing.
        (HostUnreachable | NetworkUnreachable | AddrNotAvailable | PermissionDenied | Unsupported, _) => {
            NetError::Unreachable
        }
        (TimedOut, _) => NetError::Timeout,
        (AddrInUse | OutOfMemory, _) => NetError::NoSocket,
        (ConnectionAborted, _) => NetError::Closed,
        _ => NetError::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::transport::tests::beside;
    use futures_util::stream::FuturesUnordered;

    /// A question of its own to this server.
    fn of(server: SocketAddr) -> (SocketAddr, QuestionId) {
        (server, QuestionId::default())
    }

    async fn server() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        (socket, address)
    }

    #[tokio::test]
    async fn datagrams_that_do_not_fit_do_not_end_the_wait() {
        let (socket, address) = server().await;
        let (stranger, _) = server().await;
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let (length, client) = socket.recv_from(&mut buffer).await.expect("a query");
            stranger.send_to(b"right, but from elsewhere", client).await.expect("sent");
            socket.send_to(b"wrong", client).await.expect("sent");
            socket.send_to(b"right", client).await.expect("sent");
            buffer[..length].to_vec()
        });
        let accept = |octets: &[u8]| octets.starts_with(b"right");
        let answer =
            Datagrams::new().exchange(of(address), b"question", &accept, &Notify::new(), Duration::from_secs(30)).await;
        assert_eq!(answer.as_deref(), Ok(&b"right"[..]));
        assert_eq!(answering.await.expect("the server ran"), b"question");
    }

    #[tokio::test]
    async fn a_datagram_that_is_sent_again_leaves_from_the_same_port() {
        let (socket, address) = server().await;
        let again = Notify::new();
        again.notify_one();
        let answering = async {
            let mut buffer = [0; 64];
            let (_, first) = socket.recv_from(&mut buffer).await.expect("the first");
            let (length, second) = socket.recv_from(&mut buffer).await.expect("the second");
            assert_eq!((first, &buffer[..length]), (second, &b"question"[..]));
            socket.send_to(b"answer", second).await.expect("sent");
        };
        let datagrams = Datagrams::new();
        let exchange = datagrams.exchange(of(address), b"question", &|_| true, &again, Duration::from_secs(30));
        let (answer, ()) = tokio::join!(exchange, answering);
        assert_eq!(answer.as_deref(), Ok(&b"answer"[..]));
    }

    #[tokio::test]
    async fn an_answer_of_any_size_arrives_whole() {
        let (socket, address) = server().await;
        let large: Vec<u8> = (0..40_000_u32).map(|place| place as u8).collect();
        let answering = async {
            let (_, client) = socket.recv_from(&mut [0; 64]).await.expect("a query");
            socket.send_to(&large, client).await.expect("sent");
        };
        let (datagrams, again) = (Datagrams::new(), Notify::new());
        let exchange = datagrams.exchange(of(address), b"question", &|_| true, &again, Duration::from_secs(30));
        let (answer, ()) = tokio::join!(exchange, answering);
        assert!(answer == Ok(large), "not the same");
    }

    #[tokio::test]
    async fn silent_servers_keep_nobody_out() {
        let (silent, silent_address) = server().await;
        let (socket, address) = server().await;
        let datagrams = Datagrams::with(Places::new(Limits { most: 4, per_address: 4, per_question: 4 }));
        let patience = Duration::from_secs(600);
        let again = Notify::new();
        let hostile =
            std::iter::repeat_with(|| datagrams.exchange(of(silent_address), b"question", &|_| true, &again, patience));
        let mut hostile = FuturesUnordered::from_iter(hostile.take(4));
        let answering = async {
            // They hold all places by now.
            for _ in 0..4 {
                silent.recv_from(&mut [0; 64]).await.expect("a query");
            }
            let innocent = datagrams.exchange(of(address), b"question", &|_| true, &again, patience);
            let serving = async {
                let (_, client) = socket.recv_from(&mut [0; 64]).await.expect("a query");
                socket.send_to(b"answer", client).await.expect("sent");
            };
            tokio::join!(innocent, serving).0
        };
        let (answer, lost) = beside(&mut hostile, answering).await;
        assert_eq!((answer.as_deref(), lost), (Ok(&b"answer"[..]), 1));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_at_once() {
        let (socket, address) = server().await;
        drop(socket);
        let answer = Datagrams::new()
            .exchange(of(address), b"question", &|_| true, &Notify::new(), Duration::from_secs(30))
            .await;
        assert_eq!(answer, Err(NetError::Refused));
    }

    #[tokio::test]
    async fn ports_differ_from_query_to_query() {
        let mut ports = std::collections::HashSet::new();
        for _ in 0..20 {
            let socket = bind("127.0.0.1:53".parse().expect("an address")).await.expect("a socket");
            ports.insert(socket.local_addr().expect("an address").port());
        }
        assert!(ports.len() > 15, "{ports:?}");
    }
}
