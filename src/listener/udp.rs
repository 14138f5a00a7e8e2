//! Queries over UDP. What the cache knows is answered on the spot; the rest waits in a task of its own.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::datagram::Datagrams;
use super::response::Transport;
use super::service::{Begun, Resolve, Service};
use crate::limits;

/// Datagrams taken in a row before others on this thread get their turn.
const AT_A_TIME: usize = 64;

/// Serves one socket until told to close and all is answered.
pub(super) async fn serve<R: Resolve>(socket: Datagrams, service: Arc<Service<R>>, mut closing: watch::Receiver<bool>) {
    let mut worker = Worker {
        socket: Arc::new(socket),
        service,
        buffer: vec![0; limits::UDP_RECEIVE_BYTES],
        answer: Vec::new(),
        pending: JoinSet::new(),
    };
    loop {
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => break,
            Some(_) = worker.pending.join_next(), if !worker.pending.is_empty() => continue,
            readable = worker.socket.readable() => if readable.is_err() { continue },
        }
        if worker.work().await == AT_A_TIME {
            tokio::task::yield_now().await;
        }
    }
    while worker.pending.join_next().await.is_some() {}
}

struct Worker<R> {
    socket: Arc<Datagrams>,
    service: Arc<Service<R>>,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    pending: JoinSet<()>,
}

impl<R: Resolve> Worker<R> {
    /// Takes what is there, at most [`AT_A_TIME`] datagrams; gives how many.
    async fn work(&mut self) -> usize {
        let now = self.service.now();
        for taken in 0..AT_A_TIME {
            let (length, peer) = match self.socket.try_receive(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return taken,
                // An ICMP error for an earlier answer is no reason to stop.
                Err(_) => continue,
            };
            let client = peer.client.ip();
            let transport = Transport::Udp { loopback: client.to_canonical().is_loopback() };
            let octets = self.buffer.get(..length).unwrap_or_default();
            match self.service.begin(octets, client, transport, now, &mut self.answer) {
                // Gone clients are no concern of ours.
                Begun::Answered => drop(self.socket.send(&self.answer, peer).await),
                Begun::Ignored => {}
                Begun::Pending(query) => {
                    let (socket, service) = (Arc::clone(&self.socket), Arc::clone(&self.service));
                    self.pending.spawn(async move {
                        let answer = service.look_up(&query, client, transport).await;
                        drop(socket.send(&answer, peer).await);
                    });
                }
            }
        }
        AT_A_TIME
    }
}
