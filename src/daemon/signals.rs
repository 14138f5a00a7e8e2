//! The signals that mean something to this process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught from the moment on that this is made.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What the process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// SIGTERM: a manager ends it.
    Terminate,
    /// SIGINT: somebody at a terminal does.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
}

impl Signals {
    /// Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next of all.
    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Terminate,
            _ = self.interrupt.recv() => Told::Interrupt,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// The next that ends the process; others are passed over.
    pub(super) async fn end(&mut self) -> Told {
        loop {
            match self.next().await {
                Told::Reload => {}
                told @ (Told::Terminate | Told::Interrupt) => return told,
            }
        }
    }
}
