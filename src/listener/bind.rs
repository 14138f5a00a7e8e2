//! The sockets of the service: UDP and TCP on each address.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::datagram::Datagrams;
use crate::limits;

/// Kernel buffer for queries that wait while all workers are busy.
const RECEIVE_BUFFER: usize = 1 << 20;
/// UDP sockets at one address, each with a task that reads it.
const MOST_WORKERS: usize = 16;
/// Ports that need a privilege, unless the system says otherwise (ip(7), ip_unprivileged_port_start).
const PRIVILEGED: u16 = 1024;
/// Where Linux tells from which port on no privilege is needed.
const UNPRIVILEGED_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
/// Where it tells which capabilities this process has, and the bit of the one that counts (capabilities(7)).
const PROCESS_STATUS: &str = "/proc/self/status";
const NET_BIND_SERVICE: u64 = 1 << 10;

/// Bound sockets, ready for [`super::run`].
#[derive(Debug, Default)]
pub struct Sockets {
    pub(super) udp: Vec<Datagrams>,
    pub(super) tcp: Vec<TcpListener>,
    /// IPv6 addresses that were left out because there is no IPv6 here, as in most containers.
    pub left_out: Vec<BindError>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port needs a privilege, and this process has none of those that would do.
    #[error("cannot listen for DNS on {address}: {missing}")]
    Privilege {
        /// The address.
        address: SocketAddr,
        /// What would do.
        missing: Missing,
    },
    /// Something else listens there.
    #[error(
        "cannot listen for DNS on {address} ({transport}): another program listens there (systemd-resolved, \
         dnsmasq, unbound, named?); stop it or use another loopback address, like 127.0.0.53 or 127.0.0.2"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
    },
    /// An IPv6 address, and IPv6 is off. Not fatal as long as there is another address.
    #[error("cannot listen for DNS on {address}: IPv6 is off here")]
    NoIpv6 {
        /// The address.
        address: SocketAddr,
    },
    /// The address is not one of this host.
    #[error("cannot listen for DNS on {address}: this host has no such address")]
    NoSuchAddress {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen for DNS on {address} ({transport}): {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Sockets {
    /// Binds UDP and TCP on each address. With port 0, both get the same port, which the system chooses. Needs a
    /// tokio runtime.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        Self::bind_each(addresses, bind_both)
    }

    fn bind_each(
        addresses: &[SocketAddr],
        bind: impl Fn(SocketAddr) -> Result<(Vec<Datagrams>, TcpListener), BindError>,
    ) -> Result<Self, BindError> {
        let mut sockets = Self::default();
        for &address in addresses {
            match bind(address) {
                Ok((udp, tcp)) => {
                    sockets.udp.extend(udp);
                    sockets.tcp.push(tcp);
                }
                Err(error @ BindError::NoIpv6 { .. }) => sockets.left_out.push(error),
                Err(error) => return Err(error),
            }
        }
        // Nowhere to listen at all is a mistake, whatever the reason.
        if sockets.is_empty()
            && let Some(error) = sockets.left_out.pop()
        {
            return Err(error);
        }
        Ok(sockets)
    }

    /// Adds sockets that somebody else bound, such as systemd.
    pub fn adopt(&mut self, udp: Vec<std::net::UdpSocket>, tcp: Vec<std::net::TcpListener>) -> io::Result<()> {
        for socket in udp {
            socket.set_nonblocking(true)?;
            self.udp.push(Datagrams::new(UdpSocket::from_std(socket)?)?);
        }
        for listener in tcp {
            listener.set_nonblocking(true)?;
            self.tcp.push(TcpListener::from_std(listener)?);
        }
        Ok(())
    }

    /// Each address once, with the port that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let udp = self.udp.iter().filter_map(|socket| socket.local_addr().ok());
        let mut addresses: Vec<_> = udp.chain(self.tcp.iter().filter_map(|tcp| tcp.local_addr().ok())).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Nothing is bound.
    pub fn is_empty(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty()
    }
}

/// UDP and TCP at one address, UDP once for each worker. A port that the system chooses for one may be taken for the
/// other: try again.
fn bind_both(address: SocketAddr) -> Result<(Vec<Datagrams>, TcpListener), BindError> {
    const TRIES: usize = 20;
    let mut tries = 0;
    let (first, tcp, chosen) = loop {
        tries += 1;
        let udp = bind_udp(address).map_err(|source| error(address, "UDP", source))?;
        let chosen = udp.local_addr().map_err(|source| error(address, "UDP", source))?;
        match bind_tcp(chosen) {
            Ok(tcp) => break (udp, tcp, chosen),
            Err(source) if address.port() == 0 && source.kind() == io::ErrorKind::AddrInUse && tries < TRIES => {}
            Err(source) => return Err(error(chosen, "TCP", source)),
        }
    };
    let mut all = vec![first];
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    for _ in 1..workers {
        all.push(bind_udp(chosen).map_err(|source| error(chosen, "UDP", source))?);
    }
    Ok((all, tcp))
}

fn bind_udp(address: SocketAddr) -> io::Result<Datagrams> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    // As much as the system grants.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    // One socket for each worker: the kernel spreads clients over them. TCP does without, so that a second program
    // at this address is still noticed.
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Datagrams::new(UdpSocket::from_std(socket.into())?)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for connections that ended a minute ago.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Its own family only: 0.0.0.0 and [::] can both be listed.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn error(address: SocketAddr, transport: &'static str, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => match Missing::find(address.port()) {
            Some(missing) => BindError::Privilege { address, missing },
            None => BindError::Io { address, transport, source },
        },
        io::ErrorKind::AddrInUse => BindError::InUse { address, transport },
        // Every host with IPv6 has ::1.
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() && address.ip().is_loopback() => {
            BindError::NoIpv6 { address }
        }
        io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address },
        _ if address.is_ipv6() && source.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            BindError::NoIpv6 { address }
        }
        _ => BindError::Io { address, transport, source },
    }
}

/// Which of the three ways to a port below `start` are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    port: u16,
    /// From here on no privilege is needed.
    start: u16,
    capability: Capability,
}

/// How CAP_NET_BIND_SERVICE stands with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capability {
    /// It has it: then it is the network namespace of somebody else.
    Held,
    /// It might have it, and does not.
    Lacking,
    /// It cannot have it: taken out of the bounding set.
    Barred,
}

impl Missing {
    /// `None` where the port needs no privilege.
    fn find(port: u16) -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let start = read(UNPRIVILEGED_START).trim().parse().unwrap_or(PRIVILEGED);
        (port < start).then(|| Self { port, start, capability: Capability::read(&read(PROCESS_STATUS)) })
    }
}

impl Capability {
    /// From the text of `/proc/self/status`.
    fn read(status: &str) -> Self {
        let has = |set: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
            line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).map(|bits| bits & NET_BIND_SERVICE != 0)
        };
        match (has("CapEff"), has("CapBnd")) {
            (Some(true), _) => Self::Held,
            (_, Some(false)) => Self::Barred,
            _ => Self::Lacking,
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, start, capability } = self;
        write!(f, "ports below {start} need a privilege here, and each way to it is missing: ")?;
        f.write_str(match capability {
            Capability::Held => "CAP_NET_BIND_SERVICE is there, but not for this network namespace",
            Capability::Lacking => {
                "this process does not have CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
            }
            Capability::Barred => {
                "this process cannot have CAP_NET_BIND_SERVICE, which is not in its bounding set (systemd: \
                 CapabilityBoundingSet= and AmbientCapabilities=; Docker: cap_drop)"
            }
        })?;
        write!(
            f,
            "; the sysctl net.ipv4.ip_unprivileged_port_start is {start} and not {port} or less (Docker: --sysctl); \
             and systemd handed over no DNS socket. One of them is enough; a port from {start} on needs none"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_address() {
        let first = Sockets::bind(&["127.0.0.1:0".parse().expect("an address")]).expect("bound");
        let address = first.addresses()[0];
        assert_eq!(first.tcp[0].local_addr().expect("an address"), address);
        let error = Sockets::bind(&[address]).expect_err("in use");
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let elsewhere = Sockets::bind(&["192.0.2.1:5353".parse().expect("an address")]).expect_err("not ours");
        assert!(matches!(elsewhere, BindError::NoSuchAddress { .. }), "{elsewhere}");
    }

    #[test]
    fn only_a_lack_of_ipv6_is_taken_for_one() {
        for (address, code, lack) in [
            ("[::1]:53", nix::libc::EADDRNOTAVAIL, true),
            ("[::1]:53", nix::libc::EAFNOSUPPORT, true),
            ("[::]:53", nix::libc::EAFNOSUPPORT, true),
            ("[2001:db8::1]:53", nix::libc::EADDRNOTAVAIL, false),
            ("[::1]:53", nix::libc::EADDRINUSE, false),
            ("127.0.0.1:53", nix::libc::EADDRNOTAVAIL, false),
        ] {
            let error = error(address.parse().expect("an address"), "UDP", io::Error::from_raw_os_error(code));
            assert_eq!(matches!(error, BindError::NoIpv6 { .. }), lack, "{error}");
        }
    }

    #[tokio::test]
    async fn without_ipv6_the_other_addresses_serve_and_there_must_be_one() {
        let without_ipv6 = |address: SocketAddr| match address {
            SocketAddr::V4(_) => bind_both(address),
            SocketAddr::V6(_) => Err(BindError::NoIpv6 { address }),
        };
        let (four, six) = ("127.0.0.1:0".parse().expect("an address"), "[::1]:0".parse().expect("an address"));
        let both = Sockets::bind_each(&[six, four], without_ipv6).expect("IPv4 serves");
        assert_eq!((both.addresses().len(), both.tcp.len(), both.left_out.len()), (1, 1, 1));
        let error = Sockets::bind_each(&[six], without_ipv6).expect_err("nowhere to listen");
        assert!(matches!(error, BindError::NoIpv6 { .. }), "{error}");
    }

    #[test]
    fn the_error_tells_which_ways_to_a_low_port_are_missing() {
        let status = |effective: u64, bounding: u64| {
            Capability::read(&format!("Name:\tx\nCapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\nSeccomp:\t0\n"))
        };
        let all = u64::MAX;
        for (capability, start, expected) in [
            (status(0, all), 1024, "does not have CAP_NET_BIND_SERVICE"),
            (status(!NET_BIND_SERVICE, all), 1024, "does not have CAP_NET_BIND_SERVICE"),
            (status(0, !NET_BIND_SERVICE), 80, "not in its bounding set"),
            (status(all, all), 1024, "not for this network namespace"),
            (Capability::read(""), 1024, "does not have CAP_NET_BIND_SERVICE"),
        ] {
            let address = "127.0.0.1:53".parse().expect("an address");
            let text = BindError::Privilege { address, missing: Missing { port: 53, start, capability } }.to_string();
            for part in [
                "127.0.0.1:53",
                expected,
                &format!("net.ipv4.ip_unprivileged_port_start is {start} and not 53 or less"),
                "systemd handed over no DNS socket",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert_eq!(Missing::find(u16::MAX), None);
    }
}
