//! DNS service for Postfix's own resolver: the engine's answers over UDP and TCP (design §8).
//!
//! In: packets from clients in `dns.allow`. Out: validated answers with AD, or SERVFAIL with the reason
//! (RFC 8914). Never caches, never decides what is true: that is the engine's.

mod admission;
mod bind;
mod datagram;
mod error_code;
mod local;
mod query;
mod response;
mod service;
mod tcp;
mod udp;
mod writer;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::bind::{BindError, Sockets};
pub use self::response::Transport;
pub use self::service::{Resolve, Service, ServiceSettings};

/// Serves until `shutdown` ends; then reads no more, answers what was asked, and returns. The caller bounds how
/// long that may take; dropping the future ends everything at once.
pub async fn run<R: Resolve>(sockets: Sockets, service: Arc<Service<R>>, shutdown: impl Future<Output = ()>) {
    let (close, closing) = watch::channel(false);
    let mut servers = JoinSet::new();
    for socket in sockets.udp {
        servers.spawn(udp::serve(socket, Arc::clone(&service), closing.clone()));
    }
    for listener in sockets.tcp {
        servers.spawn(tcp::serve(listener, Arc::clone(&service), closing.clone()));
    }
    drop(closing);
    shutdown.await;
    close.send_replace(true);
    while servers.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests;
