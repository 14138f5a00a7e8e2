//! A server that is asked with RD, for `resolver.forward`: over UDP and TCP, or over TLS. Its address is known before
//! it serves, so that a configuration can name it; what it answers is the test's to say.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::wire::Question;

/// A query in, an answer out.
pub type Handler = Arc<dyn Fn(Vec<u8>) -> BoxFuture<'static, Vec<u8>> + Send + Sync>;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Udp,
    Tcp,
    Tls,
}

/// Bound, and silent so far.
pub struct Forwarder {
    pub address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// At work until dropped.
pub struct Serving {
    asked: Arc<Mutex<Vec<(Via, Question)>>>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    /// UDP and TCP at one free port of 127.0.0.1.
    pub async fn bind() -> Self {
        for _ in 0..100 {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = udp.local_addr().unwrap();
            if let Ok(tcp) = TcpListener::bind(address).await {
                return Self { address, udp, tcp };
            }
        }
        panic!("no port is free for both UDP and TCP");
    }

    /// Its entry of `resolver.forward`.
    pub fn entry(&self, zone: &str, tls: Option<&str>) -> String {
        let tls = tls.map(|name| format!("tls = \"{name}\"\n")).unwrap_or_default();
        format!("[[resolver.forward]]\nzone = \"{zone}\"\nservers = [\"{}\"]\n{tls}", self.address)
    }

    /// Answers over UDP, and over TCP, or over TLS instead of it.
    pub fn serve(self, tls: Option<ServerConfig>, handler: Handler) -> Serving {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let desk = Desk { asked: asked.clone(), handler };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(self.udp, desk.clone()));
        tasks.spawn(serve_streams(self.tcp, tls.map(|config| TlsAcceptor::from(Arc::new(config))), desk));
        Serving { asked, _tasks: tasks }
    }
}

impl Serving {
    /// Every question so far.
    pub fn asked(&self) -> Vec<(Via, Question)> {
        self.asked.lock().clone()
    }

    /// How often this name was asked for.
    pub fn count(&self, name: &str) -> usize {
        self.asked().iter().filter(|(_, question)| question.name.lowered() == name.into()).count()
    }
}

#[derive(Clone)]
struct Desk {
    asked: Arc<Mutex<Vec<(Via, Question)>>>,
    handler: Handler,
}

impl Desk {
    async fn answer(&self, via: Via, query: Vec<u8>) -> Vec<u8> {
        self.asked.lock().extend(Question::parse(&query).map(|question| (via, question)));
        (self.handler)(query).await
    }
}

async fn serve_udp(socket: UdpSocket, desk: Desk) {
    let socket = Arc::new(socket);
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let (socket, desk, query) = (socket.clone(), desk.clone(), buffer[..length].to_vec());
        answers.spawn(async move {
            let answer = desk.answer(Via::Udp, query).await;
            let _ = socket.send_to(&answer, peer).await;
        });
        while answers.try_join_next().is_some() {}
    }
}

async fn serve_streams(listener: TcpListener, tls: Option<TlsAcceptor>, desk: Desk) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, desk) = (tls.clone(), desk.clone());
        connections.spawn(async move {
            match tls {
                None => converse(stream, Via::Tcp, &desk).await,
                Some(tls) => {
                    // Clients that do not like the certificate leave here.
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, Via::Tls, &desk).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, via: Via, desk: &Desk) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        let answer = desk.answer(via, query).await;
        let framed = [&(answer.len() as u16).to_be_bytes(), &answer[..]].concat();
        if stream.write_all(&framed).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
