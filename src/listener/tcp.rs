//! Queries over TCP (RFC 7766): several under way on one connection, answered in the order they are ready.

use std::net::IpAddr;
use std::sync::Arc;

use metrics::gauge;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::admission::Kind;
use super::response::Transport;
use super::service::{Resolve, Service};
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
        // Without a place the connection ends here; the client comes again or asks elsewhere.
        let Some(place) = service.admission.enter(client, Kind::Connection) else { continue };
        let (service, closing) = (Arc::clone(&service), closing.clone());
        connections.spawn(async move {
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
        let Ok(permit) = Arc::clone(&under_way).acquire_owned().await else { break };
        let (service, answers) = (Arc::clone(&service), answers.clone());
        tasks.spawn(async move {
            if let Some(answer) = service.answer(&query, client, Transport::Tcp).await {
                let _ = answers.send(answer).await;
            }
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
    // What was asked is answered, even to a client that has closed its side.
    drop(answers);
    while tasks.join_next().await.is_some() {}
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
    let message = async {
        let length = reader.read_u16().await.ok()?;
        let mut message = vec![0; usize::from(length)];
        reader.read_exact(&mut message).await.ok()?;
        Some(message)
    };
    timeout(limits::DNS_TCP_IDLE, message).await.ok()?
}

async fn write(mut writer: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = outgoing.recv().await {
        let Ok(length) = u16::try_from(answer.len()) else { continue };
        // Length and message in one write (RFC 7766 §8).
        let framed = [&length.to_be_bytes(), &*answer].concat();
        match timeout(limits::DNS_TCP_IDLE, writer.write_all(&framed)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}
