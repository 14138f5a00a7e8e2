//! The socket and its connections.

use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::StatusCode;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Operations, SOCKET_NAME, routes};
use crate::caller::{Caller, own_uid};
use crate::clock::Clock;
use crate::http::{Text, serve_connection};
use crate::limits;
use crate::telemetry::metrics::CONNECTIONS;
use crate::telemetry::repeats::Occasionally;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("control socket {}: {source}", path.display())]
pub struct ControlError {
    path: PathBuf,
    source: io::Error,
}

/// The bound socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds in the state directory, for its owner alone. Whoever holds the lock on that directory may replace
    /// a socket that is left there.
    pub fn bind(state_dir: &Path) -> Result<Self, ControlError> {
        let path = state_dir.join(SOCKET_NAME);
        // Bound under a name of its own, closed to others, and then moved: no moment with wider permissions.
        let fresh = state_dir.join(format!("{SOCKET_NAME}.{}", std::process::id()));
        let bind = || {
            let _ = std::fs::remove_file(&fresh);
            let listener = UnixListener::bind(&fresh)?;
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
            std::fs::rename(&fresh, &path)?;
            Ok(listener)
        };
        match bind() {
            Ok(listener) => Ok(Self { listener, path }),
            Err(source) => Err(ControlError { path, source }),
        }
    }
}

impl ControlSocket {
    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Gone already: nothing to do about it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves until `shutdown` ends; exchanges that have begun get a moment.
pub async fn run<O: Operations>(
    socket: ControlSocket,
    operations: Arc<O>,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits::CONTROL_CONNECTIONS));
    let mut connections = JoinSet::new();
    let (unaccepted, refused) = (Occasionally::default(), Occasionally::default());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&socket.listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(held_back) = unaccepted.may_say(clock.instant()) {
                    tracing::warn!(%error, held_back, "control connection not accepted");
                }
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let caller = Caller::of(&stream);
        let may = caller.may_operate(own_uid());
        if !may && let Some(held_back) = refused.may_say(clock.instant()) {
            let (uid, pid) = (caller.uid, caller.pid);
            tracing::warn!(
                uid,
                pid,
                held_back,
                "refused at the control socket: {caller} is neither root nor this user"
            );
        }
        let (operations, clock) = (operations.clone(), clock.clone());
        let open = metrics::gauge!(CONNECTIONS, "listener" => "control");
        open.increment(1.0);
        connections.spawn(async move {
            let serve = serve_connection(stream, false, move |head| {
                let (operations, clock) = (operations.clone(), clock.clone());
                async move {
                    if !may {
                        return Text::plain(StatusCode::FORBIDDEN, "for root and postseal's own user alone\n");
                    }
                    routes::respond(&*operations, &clock, &head, caller).await
                }
            });
            let _ = timeout(limits::CONTROL_CONNECTION_TIME, serve).await;
            open.decrement(1.0);
            drop(place);
        });
    }
    drop(socket);
    let _ = timeout(limits::HTTP_DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

/// The place first: until there is one, the kernel's queue holds newcomers.
async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::net::UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
