//! Accepting connections, bounding them, and ending them well.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Service;
use super::connection::{End, serve};
use super::listener::Listener;
use super::stream::Stream;
use super::threads::Threads;
use crate::clock::Clock;
use crate::limits;
use crate::places::{Place, Places};
use crate::telemetry::metrics as names;
use crate::telemetry::repeats::Occasionally;

/// What a server needs besides its listeners.
pub struct Server<S> {
    /// Answers requests.
    pub service: Arc<S>,
    /// Time.
    pub clock: Clock,
    /// Connections open at once, over all listeners; at least one.
    pub max_connections: usize,
    /// Where connections are served. What takes long should not be done there.
    pub threads: Threads,
}

/// Serves until `shutdown` ends; then accepts no more, answers what was asked, and returns. The caller bounds
/// how long that may take; dropping the future ends every connection at once.
pub async fn run<S: Service>(listeners: Vec<Listener>, server: Server<S>, shutdown: impl Future<Output = ()>) {
    let places = Places::new(server.clock.clone(), server.max_connections);
    let threads = Arc::new(server.threads);
    let (close, closing) = watch::channel(false);
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let acceptor = Acceptor {
            listener,
            places: places.clone(),
            service: server.service.clone(),
            clock: server.clock.clone(),
            threads: threads.clone(),
            closing: closing.clone(),
            unaccepted: Occasionally::default(),
            closed: Arc::default(),
            connections: JoinSet::new(),
        };
        acceptors.spawn(acceptor.run());
    }
    drop(closing);
    shutdown.await;
    close.send_replace(true);
    while acceptors.join_next().await.is_some() {}
}

/// Accepts on one listener.
struct Acceptor<S> {
    listener: Listener,
    places: Arc<Places>,
    service: Arc<S>,
    clock: Clock,
    threads: Arc<Threads>,
    closing: watch::Receiver<bool>,
    /// Lines about connections that could not be accepted, and about such as were closed: a client can cause either as
    /// often as it likes.
    unaccepted: Occasionally,
    closed: Arc<Occasionally>,
    connections: JoinSet<()>,
}

impl<S: Service> Acceptor<S> {
    /// Returns when it is told to close and its connections have ended.
    async fn run(mut self) {
        let mut closing = self.closing.clone();
        self.accept_until(async move { drop(closing.wait_for(|closing| *closing).await) }).await;
        // Who was connected by now may have asked already.
        self.accept_until(sleep(limits::SOCKETMAP_LAST_LOOK)).await;
        let Self { listener, mut connections, .. } = self;
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn accept_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                () = &mut end => return,
                accepted = self.listener.accept() => accepted,
                Some(_) = self.connections.join_next(), if !self.connections.is_empty() => continue,
            };
            match accepted {
                Ok(stream) => {
                    let place = tokio::select! {
                        () = &mut end => return,
                        place = self.places.enter() => place,
                    };
                    self.serve(stream, place);
                }
                Err(error) => {
                    // Out of descriptors, or the peer left between: nothing that ends the service.
                    if let Some(held_back) = self.unaccepted.may_say(self.clock.instant()) {
                        tracing::warn!(%error, held_back, "connection not accepted");
                    }
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&mut self, stream: Stream, place: Place) {
        let open = metrics::gauge!(names::CONNECTIONS, "listener" => "socketmap");
        open.set(self.places.count() as f64);
        let (service, clock, closing) = (self.service.clone(), self.clock.clone(), self.closing.clone());
        let (places, closed) = (self.places.clone(), self.closed.clone());
        let connection = async move {
            let peer = stream.peer();
            let result = match stream.moved_here() {
                Ok(stream) => serve(stream, place, service, clock.clone(), closing).await,
                Err(error) => Err(error.into()),
            };
            open.set(places.count() as f64);
            match result {
                Ok(()) | Err(End::Lost(_) | End::Idle) => {}
                Err(reason) => {
                    if let Some(held_back) = closed.may_say(clock.instant()) {
                        tracing::info!(?peer, %reason, held_back, "socketmap connection closed");
                    }
                }
            }
        };
        self.connections.spawn_on(connection, &self.threads.next());
    }
}
