//! Queries over TCP (RFC 7766): several under way on one connection, answered in the order they are ready.

use std::net::IpAddr;
use std::sync::Arc;

use metrics::gauge;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::Kind;
use super::response::Transport;
use super::service::{Begun, Resolve, Service};
use crate::clock::Clock;
use crate::limits;
use crate::telemetry::metrics as names;
use crate::telemetry::repeats::Occasionally;

/// Accepts until told to close; then ends when its connections have.
pub(super) async fn serve<R: Resolve>(
    listener: TcpListener,
    service: Arc<Service<R>>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let (unaccepted, clock) = (Occasionally::default(), Clock::system());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let (stream, client) = match accepted {
            Ok((stream, client)) => (stream, client.ip()),
            Err(error) => {
                if let Some(held_back) = unaccepted.may_say(clock.instant()) {
                    tracing::warn!(%error, held_back, "DNS connection not accepted");
                }
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let kind = if service.admission.allows(client) { Kind::Connection } else { Kind::Stranger };
        // Without a place the connection ends here; the client comes again or asks elsewhere.
        let Some(place) = service.admission.enter(client, kind) else { continue };
        let (service, closing) = (Arc::clone(&service), closing.clone());
        connections.spawn(async move {
            if kind == Kind::Stranger {
                let _ = timeout(limits::DNS_STRANGER_TIME, refuse(stream, client, &service)).await;
                return drop(place);
            }
            let count = |service: &Service<R>| {
                gauge!(names::CONNECTIONS, "listener" => "dns").set(service.admission.connections() as f64);
            };
            count(&service);
            converse(stream, client, Arc::clone(&service), closing).await;
            drop(place);
            count(&service);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, until the client closes it, leaves it idle, or breaks the framing.
async fn converse<R: Resolve>(
    stream: TcpStream,
    client: IpAddr,
    service: Arc<Service<R>>,
    mut closing: watch::Receiver<bool>,
) {
    // Answers are written whole: waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let (answers, outgoing) = mpsc::channel(limits::DNS_QUERIES_PER_CONNECTION);
    let under_way = Arc::new(Semaphore::new(limits::DNS_QUERIES_PER_CONNECTION));
    let mut tasks = JoinSet::new();
    tasks.spawn(write(writer, outgoing));
    loop {
        let next = tokio::select! {
            next = read(&mut reader, &under_way) => next,
            () = answers.closed() => break,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        let Some(query) = next else { break };
        let mut answer = Vec::new();
        let query = match service.begin(&query, client, Transport::Tcp, service.now(), &mut answer) {
            Begun::Answered => {
                if answers.send(answer).await.is_err() {
                    break;
                }
                continue;
            }
            Begun::Ignored => continue,
            Begun::Pending(query) => query,
        };
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { break };
        let (service, answers) = (Arc::clone(&service), answers.clone());
        tasks.spawn(async move {
            let answer = service.look_up(&query, client, Transport::Tcp).await;
            let _ = answers.send(answer).await;
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
    // What was asked is answered, even to a client that has closed its side.
    drop(answers);
    while tasks.join_next().await.is_some() {}
}

/// A stranger's one question, and its answer.
async fn refuse<R: Resolve>(mut stream: TcpStream, client: IpAddr, service: &Service<R>) -> Option<()> {
    let (reader, mut writer) = stream.split();
    let query = read_message(&mut BufReader::new(reader)).await?;
    let answer = service.answer(&query, client, Transport::Tcp).await?;
    let mut octets = Vec::new();
    frame(&answer, &mut octets);
    writer.write_all(&octets).await.ok()
}

/// The next message; `None` at the end of the connection, or when it stood idle.
async fn read(reader: &mut BufReader<OwnedReadHalf>, under_way: &Semaphore) -> Option<Vec<u8>> {
    loop {
        match timeout(limits::DNS_TCP_IDLE, reader.fill_buf()).await {
            Ok(Ok(octets)) if !octets.is_empty() => break,
            Ok(_) => return None,
            // Not idle while answers are due.
            Err(_) if under_way.available_permits() < limits::DNS_QUERIES_PER_CONNECTION => {}
            Err(_) => return None,
        }
    }
    timeout(limits::DNS_TCP_IDLE, read_message(reader)).await.ok()?
}

async fn read_message(reader: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = reader.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(length)];
    reader.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// Sends what is ready, as much as there is in one write.
async fn write(mut writer: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    let (mut ready, mut octets) = (Vec::new(), Vec::new());
    while outgoing.recv_many(&mut ready, limits::DNS_QUERIES_PER_CONNECTION).await > 0 {
        octets.clear();
        ready.drain(..).for_each(|answer| frame(&answer, &mut octets));
        match timeout(limits::DNS_TCP_IDLE, writer.write_all(&octets)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Length and message, to go in one write (RFC 7766 §8).
fn frame(message: &[u8], octets: &mut Vec<u8>) {
    // Answers have at most 65,535 octets.
    let Ok(length) = u16::try_from(message.len()) else { return };
    octets.extend_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(message);
}
