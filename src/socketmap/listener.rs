//! Listening sockets: bound from addresses, or handed over by systemd.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::families::bind_tcp;
use super::stream::Stream;
use crate::config::Listen;

/// A bound socket that accepts connections.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    /// A socket file that is ours to remove at the end.
    file: Option<PathBuf>,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refuses.
    #[error("cannot listen on {listen}: {source}")]
    Io {
        /// Where.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
    /// Another process answers on that Unix socket.
    #[error("cannot listen on unix:{}: another process listens there", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket lies there; it is not ours to remove.
    #[error("cannot listen on unix:{}: a file that is no socket is there", .0.display())]
    NotASocket(PathBuf),
}

impl Listener {
    /// Binds all addresses of a list; of IPv6 what the host has (see [`bind_tcp`]). Needs a tokio runtime.
    pub fn bind_all(all: &[Listen], socket_mode: u32, reuse_port: bool) -> Result<Vec<Self>, BindError> {
        let addresses: Vec<_> = all
            .iter()
            .filter_map(|listen| match listen {
                Listen::Tcp(address) => Some(*address),
                Listen::Unix(_) => None,
            })
            .collect();
        let mut listeners = Vec::new();
        for listen in all {
            match listen {
                Listen::Tcp(address) => {
                    let failed = |source| BindError::Io { listen: listen.clone(), source };
                    let listener = bind_tcp(*address, &addresses, reuse_port).map_err(failed)?;
                    listeners.extend(listener.map(|tcp| Self { kind: Kind::Tcp(tcp), file: None }));
                }
                Listen::Unix(_) => listeners.push(Self::bind(listen, socket_mode, reuse_port)?),
            }
        }
        Ok(listeners)
    }

    /// Binds one address. Needs a tokio runtime.
    pub fn bind(listen: &Listen, socket_mode: u32, reuse_port: bool) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { listen: listen.clone(), source };
        match listen {
            Listen::Tcp(address) => {
                let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
                let listener = bind_tcp(*address, &[*address], reuse_port).and_then(|tcp| tcp.ok_or_else(none));
                Ok(Self { kind: Kind::Tcp(listener.map_err(failed)?), file: None })
            }
            Listen::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let this = Self { kind: Kind::Unix(listener), file: Some(path.clone()) };
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(socket_mode)).map_err(failed)?;
                Ok(this)
            }
        }
    }

    /// A TCP socket that somebody else bound. Needs a tokio runtime.
    pub fn from_tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { kind: Kind::Tcp(TcpListener::from_std(listener)?), file: None })
    }

    /// A Unix socket that somebody else bound; its file stays. Needs a tokio runtime.
    pub fn from_unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { kind: Kind::Unix(UnixListener::from_std(listener)?), file: None })
    }

    /// Where it listens, with the port the system chose.
    pub fn local(&self) -> String {
        match &self.kind {
            Kind::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp".to_owned(), |address| address.to_string())
            }
            Kind::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("")).display())
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are written whole: waiting for more to send would only delay them.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Kind::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // Gone already, or not ours to remove any more: nothing to do about either.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket file that a dead process left behind. One that answers, or a file of another kind, stays.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| BindError::Io { listen: Listen::Unix(path.to_owned()), source })
        }
        _ => Err(BindError::InUse(path.to_owned())),
    }
}
