//! The sockets of the HTTP port, which may be bound before all others: probes are answered while a start waits.

use std::io;
use std::net::{self, SocketAddr};

use tokio::net::TcpListener;

use super::parts::StartError;
use crate::socketmap::bind_tcp;

/// All that can be bound; what is taken may belong to the process that is waited for.
pub(super) fn bind_free(addresses: &[SocketAddr], reuse_port: bool) -> Vec<(SocketAddr, net::TcpListener)> {
    let bind = |address: &SocketAddr| match bind(*address, addresses, reuse_port) {
        Ok(listener) => Some((*address, listener?.into_std().ok()?)),
        Err(error) => {
            tracing::debug!(%error, %address, "no HTTP for now");
            None
        }
    };
    addresses.iter().filter_map(bind).collect()
}

/// All of them, without those that a host without IPv6 cannot have; `early` are those that are bound already.
pub(super) fn bind_all(
    addresses: &[SocketAddr],
    reuse_port: bool,
    mut early: Vec<(SocketAddr, net::TcpListener)>,
) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let failed = |source| StartError::Http { address, source };
        match early.iter().position(|(bound, _)| *bound == address) {
            Some(at) => listeners.push(TcpListener::from_std(early.swap_remove(at).1).map_err(failed)?),
            None => listeners.extend(bind(address, addresses, reuse_port).map_err(failed)?),
        }
    }
    Ok(listeners)
}

/// With `socketmap.reuse-port` as well: a replacement needs all ports beside its predecessor.
fn bind(address: SocketAddr, all: &[SocketAddr], reuse_port: bool) -> io::Result<Option<TcpListener>> {
    let listener = bind_tcp(address, all, reuse_port)?;
    if let Some(listener) = &listener {
        tracing::info!(address = %listener.local_addr()?, "http listening");
    }
    Ok(listener)
}
