//! Connections: several queries in flight on one (RFC 7766 §6.2.1.1), kept a few seconds for the next.
//!
//! One task owns each connection; it ends when the peer closes it, sends what is no message, or nobody has
//! used it for [`limits::UPSTREAM_TCP_IDLE`].

use std::collections::HashMap;
use std::collections::hash_map;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::places::{Limits, Place, Places, QuestionId};
use super::udp::net_error;
use super::{Accept, NetError};
use crate::limits;

/// Answers with the same id that wait to be looked at; a server sends one.
const ANSWERS_WAITING: usize = 4;

/// Where a connection leads: the server, and the name it has to prove (TLS).
type Peer = (SocketAddr, Option<Arc<str>>);

/// Connections by peer; bounded by [`limits::UPSTREAM_TCP_CONNECTIONS`], [`limits::UPSTREAM_TCP_CONNECTIONS_PER_SERVER`] and
/// [`limits::UPSTREAM_TCP_CONNECTIONS_PER_QUESTION`], where a connection counts for the question that it was opened for.
pub(super) struct Connections {
    open: Mutex<HashMap<Peer, Arc<Slot>>>,
    places: Places,
    tls: TlsConnector,
}

/// The connection to one peer; the lock is held while connecting, so that all who wait share it.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<Connection>>);

/// A handle on the task of one connection.
#[derive(Clone)]
struct Connection {
    queries: mpsc::Sender<Vec<u8>>,
    pending: Arc<Pending>,
}

/// Who waits for which id.
#[derive(Default)]
struct Pending {
    waiting: Mutex<HashMap<u16, mpsc::Sender<Vec<u8>>>>,
    /// Others got the connection's place.
    lost: AtomicBool,
}

/// Takes the id out of [`Pending`] when the wait ends, however it ends.
struct Waiting {
    pending: Arc<Pending>,
    id: u16,
    answers: mpsc::Receiver<Vec<u8>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.waiting.lock().remove(&self.id);
    }
}

impl Connections {
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        let places = Places::within_open_files(Limits {
            most: limits::UPSTREAM_TCP_CONNECTIONS,
            per_address: limits::UPSTREAM_TCP_CONNECTIONS_PER_SERVER,
            per_question: limits::UPSTREAM_TCP_CONNECTIONS_PER_QUESTION,
        });
        Self::with(places, tls)
    }

    fn with(places: Places, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { open: Mutex::default(), places, tls: TlsConnector::from(tls) }
    }

    /// See [`super::Network::tcp`] and [`super::Network::tls`].
    pub async fn exchange(
        &self,
        (server, question): (SocketAddr, QuestionId),
        name: Option<&str>,
        query: &[u8],
        accept: Accept<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, NetError> {
        let exchange = async {
            let peer = (server, name.map(Arc::from));
            let (connection, reused) = self.connection(&peer, question, None).await?;
            match connection.exchange(query, accept).await {
                // The server may have closed it just when the query left (RFC 7766 §6.2.4), or its place was needed.
                Err(NetError::Closed | NetError::NoSocket) if reused => {
                    let (connection, _) = self.connection(&peer, question, Some(&connection)).await?;
                    connection.exchange(query, accept).await
                }
                outcome => outcome,
            }
        };
        timeout(patience, exchange).await.unwrap_or(Err(NetError::Timeout))
    }

    /// The connection to a peer, and whether it was there already; never `broken`.
    async fn connection(
        &self,
        peer: &Peer,
        question: QuestionId,
        broken: Option<&Connection>,
    ) -> Result<(Connection, bool), NetError> {
        let slot = {
            let mut open = self.open.lock();
            // Peers that nobody uses leave with the next newcomer.
            if open.len() >= 2 * limits::UPSTREAM_TCP_CONNECTIONS && !open.contains_key(peer) {
                open.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_alive());
            }
            Arc::clone(open.entry(peer.clone()).or_default())
        };
        let mut slot = slot.0.lock().await;
        let usable = |connection: &&Connection| {
            !connection.queries.is_closed() && broken.is_none_or(|broken| !connection.same(broken))
        };
        if let Some(connection) = slot.as_ref().filter(usable) {
            return Ok((connection.clone(), true));
        }
        let place = self.places.take(peer.0.ip(), question).await.ok_or(NetError::NoSocket)?;
        let connection = tokio::select! {
            biased;
            connecting = self.connect(peer) => connecting?.start(place),
            () = place.lost() => return Err(NetError::NoSocket),
        };
        *slot = Some(connection.clone());
        Ok((connection, false))
    }

    async fn connect(&self, peer: &Peer) -> Result<Connected, NetError> {
        let stream = TcpStream::connect(peer.0).await.map_err(|error| net_error(&error))?;
        // One small write for each query: waiting to fill a segment only costs time.
        let _ = stream.set_nodelay(true);
        Ok(match &peer.1 {
            None => Connected::Plain(stream),
            Some(name) => {
                let name = ServerName::try_from(name.to_string()).map_err(|_| NetError::Closed)?;
                let stream = self.tls.connect(name, stream).await.map_err(|_| NetError::Closed)?;
                Connected::Tls(Box::new(stream))
            }
        })
    }
}

/// A connection that nobody serves yet.
enum Connected {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected {
    fn start(self, place: Place) -> Connection {
        match self {
            Self::Plain(stream) => Connection::start(stream, place),
            Self::Tls(stream) => Connection::start(stream, place),
        }
    }
}

impl Slot {
    fn is_alive(&self) -> bool {
        self.0.try_lock().is_ok_and(|slot| slot.as_ref().is_some_and(|connection| !connection.queries.is_closed()))
    }
}

impl Connection {
    fn start(stream: impl AsyncRead + AsyncWrite + Send + 'static, place: Place) -> Self {
        let (queries, outgoing) = mpsc::channel(limits::QUERIES_PER_TCP_CONNECTION);
        let pending = Arc::new(Pending::default());
        let (reader, writer) = tokio::io::split(stream);
        let to_route = Arc::clone(&pending);
        tokio::spawn(async move {
            tokio::select! {
                () = write_all(writer, outgoing) => {}
                () = read_all(reader, &to_route, &place) => {}
                () = idle(&to_route) => {}
                () = place.lost() => to_route.lost.store(true, Ordering::Relaxed),
            }
            // Whoever still waits learns that nothing more will come.
            to_route.waiting.lock().clear();
        });
        Self { queries, pending }
    }

    fn same(&self, other: &Self) -> bool {
        self.queries.same_channel(&other.queries)
    }

    /// Why it ended.
    fn ended(&self) -> NetError {
        if self.pending.lost.load(Ordering::Relaxed) { NetError::NoSocket } else { NetError::Closed }
    }

    /// One query; [`NetError::Closed`] when the connection ended, [`NetError::NoSocket`] when its place went to others.
    async fn exchange(&self, query: &[u8], accept: Accept<'_>) -> Result<Vec<u8>, NetError> {
        let (sender, answers) = mpsc::channel(ANSWERS_WAITING);
        let id = message_id(query).ok_or(NetError::Closed)?;
        let mut waiting = match self.pending.waiting.lock().entry(id) {
            // Rare; the caller's next try has another id.
            hash_map::Entry::Occupied(_) => return Err(NetError::NoSocket),
            hash_map::Entry::Vacant(entry) => {
                entry.insert(sender);
                Waiting { pending: Arc::clone(&self.pending), id, answers }
            }
        };
        let length = u16::try_from(query.len()).map_err(|_| NetError::Closed)?;
        // Length and message in one write (RFC 7766 §8).
        let framed = [&length.to_be_bytes(), query].concat();
        self.queries.send(framed).await.map_err(|_| self.ended())?;
        loop {
            let answer = waiting.answers.recv().await.ok_or_else(|| self.ended())?;
            if accept(&answer) {
                return Ok(answer);
            }
        }
    }
}

async fn write_all<S: AsyncWrite>(mut writer: WriteHalf<S>, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(query) = outgoing.recv().await {
        if writer.write_all(&query).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

async fn read_all<S: AsyncRead>(mut reader: ReadHalf<S>, pending: &Pending, place: &Place) {
    loop {
        let Ok(length) = reader.read_u16().await else { return };
        let mut message = vec![0; usize::from(length)];
        if reader.read_exact(&mut message).await.is_err() {
            return;
        }
        let Some(id) = message_id(&message) else { return };
        let waiting = pending.waiting.lock().get(&id).cloned();
        if let Some(waiting) = waiting {
            place.used();
            // Full only where a server floods one id; the surplus is dropped.
            let _ = waiting.try_send(message);
        }
    }
}

/// Ends when nobody has waited for anything for a while.
async fn idle(pending: &Pending) {
    let mut unused = 0;
    while unused < 2 {
        tokio::time::sleep(limits::UPSTREAM_TCP_IDLE / 2).await;
        unused = if pending.waiting.lock().is_empty() { unused + 1 } else { 0 };
    }
}

fn message_id(message: &[u8]) -> Option<u16> {
    message.first_chunk::<2>().copied().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::transport::tests::beside;
    use futures_util::stream::FuturesUnordered;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn connections() -> Connections {
        trusting(rustls::RootCertStore::empty())
    }

    fn trusting(roots: rustls::RootCertStore) -> Connections {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Connections::new(Arc::new(tls))
    }

    /// A question of its own to this server.
    fn of(server: SocketAddr) -> (SocketAddr, QuestionId) {
        (server, QuestionId::default())
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut message = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut message).await.expect("a message");
        message
    }

    async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) {
        stream.write_u16(message.len() as u16).await.expect("written");
        stream.write_all(message).await.expect("written");
        stream.flush().await.expect("flushed");
    }

    #[tokio::test]
    async fn answers_in_any_order_find_their_queries_on_one_connection() {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (one, two) = (read(&mut stream).await, read(&mut stream).await);
            write(&mut stream, &two).await;
            write(&mut stream, b"\0\x09 nobody asked").await;
            write(&mut stream, &one).await;
            stream
        });
        let connections = connections();
        let ask = |query: &'static [u8]| {
            let connections = &connections;
            async move { connections.exchange(of(address), None, query, &|octets| octets == query, PATIENCE).await }
        };
        let (one, two) = tokio::join!(ask(b"\0\x01 one"), ask(b"\0\x02 two"));
        assert_eq!(one.as_deref(), Ok(&b"\0\x01 one"[..]));
        assert_eq!(two.as_deref(), Ok(&b"\0\x02 two"[..]));
        server.await.expect("the server ran");
    }

    #[tokio::test]
    async fn a_kept_connection_that_the_server_closed_is_opened_again() {
        let (listener, address) = listener().await;
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let query = read(&mut stream).await;
                write(&mut stream, &query).await;
            }
        });
        let connections = connections();
        for query in [b"\0\x01 one", b"\0\x02 two"] {
            let answer = connections.exchange(of(address), None, query, &|octets| octets == query, PATIENCE).await;
            assert_eq!(answer.as_deref(), Ok(&query[..]));
        }
        server.await.expect("the server ran");
    }

    #[tokio::test]
    async fn a_connection_that_ends_inside_a_message_is_an_error_at_once() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                read(&mut stream).await;
                stream.write_all(&[0, 100, 0]).await.expect("written");
            }
        });
        let answer = connections().exchange(of(address), None, b"\0\x01 one", &|_| true, PATIENCE).await;
        assert_eq!(answer, Err(NetError::Closed));
    }

    #[tokio::test]
    async fn servers_that_hang_keep_nobody_out() {
        let (listener, innocent) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let query = read(&mut stream).await;
            write(&mut stream, &query).await;
        });
        // The kernel accepts, and nobody reads.
        let mut hanging = Vec::new();
        for _ in 0..4 {
            hanging.push(super::tests::listener().await);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.expect("versions").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        let connections =
            &Connections::with(Places::new(Limits { most: 4, per_address: 4, per_question: 4 }), Arc::new(tls));
        let patience = Duration::from_secs(600);
        let hostile = hanging.iter().map(|(_, address)| {
            let address = *address;
            async move { connections.exchange(of(address), None, b"\0\x01 one", &|_| true, patience).await }
        });
        let mut hostile: FuturesUnordered<_> = hostile.collect();
        let asking = async {
            // They hold all places by now.
            for (listener, _) in &hanging {
                listener.accept().await.map(std::mem::forget).expect("a connection");
            }
            connections.exchange(of(innocent), None, b"\0\x02 two", &|_| true, patience).await
        };
        let (answer, lost) = beside(&mut hostile, asking).await;
        assert_eq!((answer.as_deref(), lost), (Ok(&b"\0\x02 two"[..]), 1));
        server.await.expect("the server ran");
    }

    #[tokio::test]
    async fn over_tls_only_a_server_that_proves_its_name_is_asked() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["dns.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a root");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let query = read(&mut stream).await;
                write(&mut stream, &query).await;
            }
        });
        let connections = trusting(roots);
        let query = b"\0\x01 one";
        let accept = |octets: &[u8]| octets == query;
        let answer = connections.exchange(of(address), Some("dns.example"), query, &accept, PATIENCE).await;
        assert_eq!(answer.as_deref(), Ok(&query[..]));
        let answer = connections.exchange(of(address), Some("other.example"), query, &accept, PATIENCE).await;
        assert_eq!(answer, Err(NetError::Closed));
        let stranger = super::tests::connections();
        let answer = stranger.exchange(of(address), Some("dns.example"), query, &accept, PATIENCE).await;
        assert_eq!(answer, Err(NetError::Closed));
    }
}
