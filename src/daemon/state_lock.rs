//! The state directory at a start: another process may still have it, as when a pod is replaced and the old one drains.
//!
//! Then it is waited for. Probes are answered meanwhile, alive and not ready; no other socket is touched, since whoever
//! has the directory still serves.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::StatusCode;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::http_sockets;
use super::parts::{StartError, make_state_dir};
use super::signals::Signals;
use crate::cache::store::{LockError, StateLock, Store};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, Explains, Pages, Text, status};
use crate::limits::{STATE_LOCK_RETRY, STATE_LOCK_WAIT};
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::{READY, ROOT_REACHABLE};

/// What came of it.
pub(super) enum Taken {
    /// The directory is ours, or nobody's where the disk does not let anybody lock it. With HTTP sockets that were bound
    /// meanwhile, and the addresses that they were bound for.
    Ours(Option<StateLock>, Vec<(SocketAddr, TcpListener)>),
    /// The process is to end.
    Ended,
}

/// Takes the state directory; waits for it for [`STATE_LOCK_WAIT`] at most.
pub(super) async fn take(
    config: &Config,
    exporter: &Exporter,
    clock: &Clock,
    signals: &mut Signals,
) -> Result<Taken, StartError> {
    make_state_dir(config);
    let held = match Store::lock(&config.state_dir, clock) {
        Ok(lock) => return Ok(Taken::Ours(lock, Vec::new())),
        Err(held) => held,
    };
    tracing::warn!(error = %held, at_most = ?STATE_LOCK_WAIT, "waiting for the state directory");
    let bound = http_sockets::bind_free(&config.http.listen, config.socketmap.reuse_port);
    let pages = Waiting { exporter: exporter.clone(), tlspol_names: config.http.tlspol_metric_names };
    let listeners = bound.iter().filter_map(|(_, listener)| {
        let listener = listener.try_clone().ok()?;
        tokio::net::TcpListener::from_std(listener).ok()
    });
    let (stop, mut stopping) = watch::channel(false);
    let stopped = async move {
        // An error means that the sender is gone, which is the same.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let server = tokio::spawn(http::run(listeners.collect(), Arc::new(pages), Arc::new(Nothing), Vec::new(), stopped));
    let taken = tokio::select! {
        lock = again(|| Store::lock(&config.state_dir, clock)) => match lock {
            Some(lock) => Ok(Taken::Ours(lock, bound)),
            None => Err(StartError::StateDir(held)),
        },
        _ = signals.end() => Ok(Taken::Ended),
    };
    stop.send_replace(true);
    // It answers what was asked and cannot fail.
    let _ = server.await;
    taken
}

/// Tries until the directory is free; none where it is not within [`STATE_LOCK_WAIT`].
async fn again<T>(take: impl Fn() -> Result<T, LockError>) -> Option<T> {
    let tries = async {
        loop {
            sleep(STATE_LOCK_RETRY).await;
            if let Ok(taken) = take() {
                return taken;
            }
        }
    };
    timeout(STATE_LOCK_WAIT, tries).await.ok()
}

/// What is told while the directory is waited for.
struct Waiting {
    exporter: Exporter,
    tlspol_names: bool,
}

impl Pages for Waiting {
    fn metrics(&self) -> String {
        metrics::gauge!(READY).set(0.0);
        metrics::gauge!(ROOT_REACHABLE).set(0.0);
        self.exporter.render(self.tlspol_names)
    }

    fn stuck(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn missing(&self) -> Vec<&'static str> {
        vec!["state directory (another postseal is using it)"]
    }

    fn status(&self) -> status::Status {
        let missing = self.missing().into_iter().map(str::to_owned).collect();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        status::Status { version, pid: std::process::id(), missing, ..status::Status::default() }
    }
}

/// Explains nothing yet.
struct Nothing;

impl Explains for Nothing {
    fn explain(&self, _: String, _: bool) -> BoxFuture<'static, Text> {
        let text = "not ready: the state directory is waited for\n";
        Box::pin(std::future::ready(Text::plain(StatusCode::SERVICE_UNAVAILABLE, text)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn held() -> LockError {
        LockError::Held { directory: "state".into(), pid: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_does_not_become_free_is_given_up_after_a_minute() {
        let began = Instant::now();
        assert_eq!(again(|| Err::<(), _>(held())).await, None);
        assert!((60..=61).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_becomes_free_is_taken_at_once() {
        let (began, tries) = (Instant::now(), Cell::new(0));
        let take = || {
            tries.set(tries.get() + 1);
            if began.elapsed() < Duration::from_secs(22) { Err(held()) } else { Ok(tries.get()) }
        };
        assert!(again(take).await.is_some_and(|tries| tries <= 221));
        assert!(began.elapsed() <= Duration::from_secs(22) + STATE_LOCK_RETRY, "{:?}", began.elapsed());
    }
}
