//! Asking the running daemon.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::SOCKET_NAME;
use crate::limits;

/// An answer of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its text.
    pub body: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or we may not ask.
    #[error("{}: {source}; is postseal running, with this state directory and for this user?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The exchange failed.
    #[error("control socket: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written down.
    #[error("control socket: {0}")]
    Request(#[from] hyper::http::Error),
    /// The answer is too long or breaks off.
    #[error("control socket: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// One exchange with the daemon whose state directory this is.
pub async fn ask(state_dir: &Path, method: Method, target: &str) -> Result<Response, ClientError> {
    let path = state_dir.join(SOCKET_NAME);
    let stream =
        UnixStream::connect(&path).await.map_err(|source| ClientError::Connect { path: path.clone(), source })?;
    exchange(stream, method, target).await
}

/// What `/readyz` says: over HTTP, where one of these addresses of the daemon takes a connection, else over the control
/// socket, which is not there where the state directory cannot be written.
pub async fn ask_readiness(http: &[SocketAddr], state_dir: &Path) -> Result<Response, ClientError> {
    for address in http.iter().flat_map(|address| reachable_at(*address)) {
        if let Ok(stream) = TcpStream::connect(address).await {
            return exchange(stream, Method::GET, "/readyz").await;
        }
    }
    ask(state_dir, Method::GET, "/ready").await
}

/// Where whoever listens at an address is reached from the same host.
fn reachable_at(address: SocketAddr) -> Vec<SocketAddr> {
    let hosts: Vec<IpAddr> = match address.ip() {
        ip if !ip.is_unspecified() => vec![ip],
        IpAddr::V4(_) => vec![Ipv4Addr::LOCALHOST.into()],
        // Both families, or IPv4 alone where there is no other.
        IpAddr::V6(_) => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
    };
    hosts.into_iter().map(|host| SocketAddr::new(host, address.port())).collect()
}

async fn exchange<S>(stream: S, method: Method, target: &str) -> Result<Response, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder().method(method).uri(target).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limits::CONTROL_RESPONSE_BYTES);
        let body = body.collect().await.map_err(ClientError::Body)?.to_bytes();
        Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned() })
    };
    // The connection is driven here as well; it ends with the exchange.
    tokio::select! {
        response = exchange => response,
        Err(error) = connection => Err(error.into()),
    }
}

/// Percent-encodes a parameter (RFC 3986 §2.1).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(octet));
        } else {
            out.push('%');
            out.extend([octet >> 4, octet & 15].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parameter;

    #[test]
    fn parameters_come_back_as_they_were_sent() {
        for text in ["example.com", "[mx.example.com]:587", "bücher.example", "a b&c=d%e", ""] {
            let query = format!("map=QUERY&key={}", encode(text));
            assert_eq!(parameter(&query, "key").as_deref(), Some(text));
            assert_eq!(parameter(&query, "other"), None);
        }
        assert_eq!(parameter("key=%4", "key"), None);
        assert_eq!(parameter("key=%ff", "key"), None);
    }
}
