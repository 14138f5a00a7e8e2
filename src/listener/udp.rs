//! Queries over UDP. What the cache knows is answered on the spot; the rest waits in a task of its own.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::datagram::Datagrams;
use super::response::Transport;
use super::service::{Begun, Resolve, Service};
use crate::limits;

/// Serves one socket with a worker for each processor, until told to close and all is answered.
pub(super) async fn serve<R: Resolve>(socket: Datagrams, service: Arc<Service<R>>, closing: watch::Receiver<bool>) {
    let socket = Arc::new(socket);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = JoinSet::new();
    for _ in 0..workers {
        all.spawn(work(Arc::clone(&socket), Arc::clone(&service), closing.clone()));
    }
    while all.join_next().await.is_some() {}
}

async fn work<R: Resolve>(socket: Arc<Datagrams>, service: Arc<Service<R>>, mut closing: watch::Receiver<bool>) {
    let mut buffer = vec![0; limits::UDP_RECEIVE_BYTES];
    let mut pending = JoinSet::new();
    loop {
        let received = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = pending.join_next(), if !pending.is_empty() => continue,
            received = socket.receive(&mut buffer) => received,
        };
        // An ICMP error for an earlier answer is no reason to stop.
        let Ok((length, peer)) = received else { continue };
        let client = peer.client.ip();
        let transport = Transport::Udp { loopback: client.to_canonical().is_loopback() };
        match service.begin(buffer.get(..length).unwrap_or_default(), client, transport) {
            // Gone clients are no concern of ours.
            Begun::Answered(Some(answer)) => drop(socket.send(&answer, peer).await),
            Begun::Answered(None) => {}
            Begun::Pending(query) => {
                let (socket, service) = (Arc::clone(&socket), Arc::clone(&service));
                pending.spawn(async move {
                    let answer = service.look_up(&query, client, transport).await;
                    drop(socket.send(&answer, peer).await);
                });
            }
        }
    }
    while pending.join_next().await.is_some() {}
}
