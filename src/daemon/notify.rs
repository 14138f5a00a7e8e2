//! Telling systemd how things stand (sd_notify(3)): one datagram to the socket in `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

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

    /// Sends a sign of life as often as asked for, while there is life; never ends.
    pub(super) async fn keep_alive(&self, is_alive: impl Fn() -> bool) {
        let Some(every) = self.watchdog else { return std::future::pending().await };
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if is_alive() {
                self.send("WATCHDOG=1");
            }
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

    #[test]
    fn the_watchdog_is_for_the_process_that_systemd_names() {
        let watchdog = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| (*key, (*value).to_owned()));
            Notifier::new(&Environment::from_iter(pairs)).watchdog
        };
        let own = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &own)]), second);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "2000000")]), second);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(watchdog(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(watchdog(&[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_are_sent_twice_as_often_as_asked_for_and_only_while_there_is_life() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        manager.set_nonblocking(true).expect("set");
        let environment = Environment::from_iter([
            ("NOTIFY_SOCKET", path.display().to_string()),
            ("WATCHDOG_USEC", "10000000".to_owned()),
        ]);
        let notifier = Notifier::new(&environment);
        let born = tokio::time::Instant::now();
        let lives = || born.elapsed() < Duration::from_secs(12);
        let _ = tokio::time::timeout(Duration::from_secs(60), notifier.keep_alive(lives)).await;
        let mut buffer = [0; 100];
        let mut signs = 0;
        while let Ok(length) = manager.recv(&mut buffer) {
            assert_eq!(&buffer[..length], b"WATCHDOG=1");
            signs += 1;
        }
        assert_eq!(signs, 3, "at 0, 5 and 10 s");
    }
}
