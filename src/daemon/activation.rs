//! Sockets that systemd hands over (sd_listen_fds(3)).

use std::io;
use std::net;

use crate::config::Environment;
use crate::socketmap::Listener;

/// What was handed over, by service. Datagram sockets are for DNS; stream sockets are for DNS where their
/// `FileDescriptorName=` is `dns` or their port is 53, else for socketmap.
#[derive(Default)]
pub(super) struct Activated {
    pub(super) socketmap: Vec<Listener>,
    pub(super) dns_udp: Vec<net::UdpSocket>,
    pub(super) dns_tcp: Vec<net::TcpListener>,
}

/// A socket of a kind that nothing here serves.
#[derive(Debug, thiserror::Error)]
#[error("socket {index} from systemd: {source}")]
pub struct ActivationError {
    /// Its number, from 0.
    index: usize,
    source: io::Error,
}

const DNS_NAME: &str = "dns";
const DNS_PORT: u16 = 53;

impl Activated {
    /// Takes over all that is there; nothing where systemd did not start us.
    pub(super) fn take(environment: &Environment) -> Result<Self, ActivationError> {
        let names: Vec<&str> = environment.get("LISTEN_FDNAMES").unwrap_or_default().split(':').collect();
        let mut handed_over = listenfd::ListenFd::from_env();
        let mut activated = Self::default();
        for index in 0..handed_over.len() {
            let failed = |source| ActivationError { index, source };
            if let Ok(Some(listener)) = handed_over.take_tcp_listener(index) {
                let port = listener.local_addr().map_err(failed)?.port();
                if port == DNS_PORT || names.get(index).is_some_and(|name| *name == DNS_NAME) {
                    activated.dns_tcp.push(listener);
                } else {
                    activated.socketmap.push(Listener::from_tcp(listener).map_err(failed)?);
                }
            } else if let Ok(Some(socket)) = handed_over.take_udp_socket(index) {
                activated.dns_udp.push(socket);
            } else if let Some(listener) = handed_over.take_unix_listener(index).map_err(failed)? {
                activated.socketmap.push(Listener::from_unix(listener).map_err(failed)?);
            }
        }
        Ok(activated)
    }
}
