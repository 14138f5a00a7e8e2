//! Accepting connections, bounding them, and ending them well.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Service;
use super::connection::{End, serve};
use super::listener::Listener;
use super::registry::Registry;
use super::threads::Threads;
use crate::clock::Clock;
use crate::limits;
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
    let registry = Registry::new(server.clock.clone(), server.max_connections.max(1));
    let threads = Arc::new(server.threads);
    let (close, closing) = watch::channel(false);
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let (registry, service, clock) = (registry.clone(), server.service.clone(), server.clock.clone());
        acceptors.spawn(accept(listener, registry, service, clock, threads.clone(), closing.clone()));
    }
    drop(closing);
    shutdown.await;
    close.send_replace(true);
    while acceptors.join_next().await.is_some() {}
}

/// Accepts on one listener; returns when it is told to close and its connections have ended.
async fn accept<S: Service>(
    listener: Listener,
    registry: Arc<Registry>,
    service: Arc<S>,
    clock: Clock,
    threads: Arc<Threads>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    // A client can cause either as often as it likes.
    let (unaccepted, closed) = (Occasionally::default(), Arc::new(Occasionally::default()));
    loop {
        // The place first, the connection second: until there is a place, the kernel's queue holds newcomers.
        let accepted = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, or the peer left between: nothing that ends the service.
                if let Some(held_back) = unaccepted.may_say(clock.instant()) {
                    tracing::warn!(%error, held_back, "connection not accepted");
                }
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let slot = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => break,
            slot = registry.enter() => slot,
        };
        metrics::gauge!(names::CONNECTIONS, "listener" => "socketmap").set(registry.count() as f64);
        let (service, clock, closing) = (service.clone(), clock.clone(), closing.clone());
        let (registry, closed) = (registry.clone(), closed.clone());
        let connection = async move {
            let peer = stream.peer();
            let result = match stream.moved_here() {
                Ok(stream) => serve(stream, slot, service, clock.clone(), closing).await,
                Err(error) => Err(error.into()),
            };
            metrics::gauge!(names::CONNECTIONS, "listener" => "socketmap").set(registry.count() as f64);
            match result {
                Ok(()) | Err(End::Lost(_) | End::Idle) => {}
                Err(reason) => {
                    if let Some(held_back) = closed.may_say(clock.instant()) {
                        tracing::info!(?peer, %reason, held_back, "socketmap connection closed");
                    }
                }
            }
        };
        connections.spawn_on(connection, &threads.next());
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
