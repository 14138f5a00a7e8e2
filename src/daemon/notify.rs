//! Telling systemd how things stand (sd_notify(3)): one datagram to the socket in `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::Environment;

/// The way to the service manager; silent where there is none.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the manager wants to hear from us.
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(super) fn new(environment: &Environment) -> Self {
        let address = environment.get("NOTIFY_SOCKET").and_then(|path| match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(path).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let microseconds = environment.get("WATCHDOG_USEC").and_then(|text| text.parse().ok());
        let ours = environment.get("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        // Half the time, so that one late message is no reason to be killed (sd_watchdog_enabled(3)).
        let watchdog = microseconds.filter(|_| ours).map(|usec| Duration::from_micros(usec) / 2);
        Self { socket, watchdog: watchdog.filter(|interval| !interval.is_zero()) }
    }

    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// `monotonic` is when the reload began (systemd wants CLOCK_MONOTONIC in microseconds).
    pub(super) fn reloading(&self, monotonic: Duration) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic.as_micros()));
    }

    pub(super) fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Sends a sign of life as often as asked for; never ends.
    pub(super) async fn keep_alive(&self) {
        let Some(every) = self.watchdog else { return std::future::pending().await };
        let mut tick = tokio::time::interval(every);
        loop {
            tick.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // The manager may be gone; then there is nobody to tell.
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_reach_the_socket_that_systemd_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let environment = Environment::from_iter([
            ("NOTIFY_SOCKET", path.display().to_string()),
            ("WATCHDOG_USEC", "3000000".to_owned()),
        ]);
        let notifier = Notifier::new(&environment);
        assert_eq!(notifier.watchdog, Some(Duration::from_millis(1_500)));
        notifier.ready();
        notifier.reloading(Duration::from_secs(2));
        notifier.stopping();
        let mut buffer = [0; 100];
        for expected in ["READY=1", "RELOADING=1\nMONOTONIC_USEC=2000000", "STOPPING=1"] {
            let length = manager.recv(&mut buffer).expect("a state");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        Notifier::new(&Environment::default()).ready();
    }
}
