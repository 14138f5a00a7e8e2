//! One exchange with one server: octets out, octets in. Never knows anything of zones or answers.

mod places;
mod stream;
mod udp;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Notify;

pub use self::places::QuestionId;
use self::stream::Connections;
use self::udp::Datagrams;
use crate::dns::BoxFuture;

/// Decides whether a datagram answers the query that was sent; others are ignored and the wait goes on.
pub type Accept<'a> = &'a (dyn Fn(&[u8]) -> bool + Send + Sync);

/// How an exchange ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Nothing that fits came in time.
    #[error("no answer in time")]
    Timeout,
    /// The server's host refused (ICMP port unreachable, TCP reset).
    #[error("connection refused")]
    Refused,
    /// No route or no such address family here.
    #[error("network unreachable")]
    Unreachable,
    /// The connection ended before the answer was whole, or sent what is no DNS message.
    #[error("connection closed")]
    Closed,
    /// No socket could be had on this host, or others needed its place.
    #[error("no socket: out of descriptors, ports or places")]
    NoSocket,
}

/// The network as the engine sees it: real sockets, or a scripted world in tests.
pub trait Network: Send + Sync + 'static {
    /// Sends one datagram from a fresh random source port and waits for the first answer from that very
    /// address that `accept` takes. At each sign from `again` the same datagram leaves from the same port once more: a
    /// second question from another port would double what a forger may guess (RFC 5452 §5). `timeout` counts from when
    /// the datagram was last sent. `question` is whose share the socket takes.
    fn udp<'a>(
        &'a self,
        server: SocketAddr,
        question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        again: &'a Notify,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>>;

    /// Sends one message over TCP (RFC 7766), perhaps on a connection that is open already, and waits for the
    /// answer that `accept` takes.
    fn tcp<'a>(
        &'a self,
        server: SocketAddr,
        question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>>;

    /// The same over TLS (RFC 7858), to a server that proves to be `name`.
    fn tls<'a>(
        &'a self,
        (server, question): (SocketAddr, QuestionId),
        name: &'a str,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        let _ = (server, question, name, query, accept, timeout);
        Box::pin(std::future::ready(Err(NetError::Unreachable)))
    }
}

/// What [`Network::udp`] is made of where there are no sockets: `send` is one datagram and the wait for its answer; all
/// that were sent are waited for, and the first answer counts.
pub async fn sent_again_at<F>(again: &Notify, send: impl Fn() -> F) -> Result<Vec<u8>, NetError>
where
    F: Future<Output = Result<Vec<u8>, NetError>> + Send,
{
    let mut sent = FuturesUnordered::from_iter([send()]);
    loop {
        tokio::select! {
            biased;
            Some(outcome) = sent.next() => match outcome {
                Err(NetError::Timeout) if !sent.is_empty() => {}
                outcome => return outcome,
            },
            () = again.notified() => sent.push(send()),
        }
    }
}

/// Real sockets. Needs a tokio runtime with I/O and time.
pub struct SystemNetwork {
    datagrams: Datagrams,
    connections: Connections,
}

impl SystemNetwork {
    /// Sockets of this host. `roots` say whom to believe as a DNS-over-TLS server ([`mozilla_roots`]).
    pub fn new(roots: RootCertStore) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // TLS 1.2 and 1.3 (RFC 9325 §3.1.1).
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { datagrams: Datagrams::new(), connections: Connections::new(Arc::new(tls)) })
    }
}

/// The certificate authorities that Mozilla trusts, compiled in.
pub fn mozilla_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

impl Network for SystemNetwork {
    fn udp<'a>(
        &'a self,
        server: SocketAddr,
        question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        again: &'a Notify,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(self.datagrams.exchange((server, question), query, accept, again, timeout))
    }

    fn tcp<'a>(
        &'a self,
        server: SocketAddr,
        question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(self.connections.exchange((server, question), None, query, accept, timeout))
    }

    fn tls<'a>(
        &'a self,
        (server, question): (SocketAddr, QuestionId),
        name: &'a str,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(self.connections.exchange((server, question), Some(name), query, accept, timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How an innocent exchange ends beside hostile ones, and how many of these lost their place to it.
    pub(super) async fn beside(
        hostile: &mut FuturesUnordered<impl Future<Output = Result<Vec<u8>, NetError>>>,
        innocent: impl Future<Output = Result<Vec<u8>, NetError>>,
    ) -> (Result<Vec<u8>, NetError>, usize) {
        let mut innocent = std::pin::pin!(innocent);
        let mut lost = 0;
        loop {
            tokio::select! {
                Some(ended) = hostile.next() => {
                    assert_eq!(ended, Err(NetError::NoSocket));
                    lost += 1;
                }
                answer = &mut innocent => return (answer, lost),
            }
        }
    }
}
