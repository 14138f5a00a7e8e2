//! TCP sockets of both address families. `[::]` stands for the host as a whole: both families in one socket, unless
//! `0.0.0.0` is listed beside it; and where the kernel has no IPv6, IPv4 alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::limits;

/// Binds one address of a list: a TCP listener with SO_REUSEADDR, and SO_REUSEPORT where asked for. None where the host
/// has no IPv6 and the list has IPv4 addresses as well: that is a warning in the log, no more. Needs a tokio runtime.
pub fn bind_tcp(address: SocketAddr, all: &[SocketAddr], reuse_port: bool) -> io::Result<Option<TcpListener>> {
    bind_with(address, all, |address, both| bind(address, both, reuse_port))
}

fn bind_with<T>(
    address: SocketAddr,
    all: &[SocketAddr],
    bind: impl Fn(SocketAddr, bool) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let beside = all.contains(&any_ipv4(address.port()));
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    let error = match bind(address, is_any && !beside) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    if !is_without_ipv6(address, &error) {
        return Err(error);
    }
    if is_any && !beside {
        tracing::warn!(%address, %error, "this host has no IPv6: listening on IPv4 alone");
        return bind(any_ipv4(address.port()), false).map(Some);
    }
    if all.iter().any(SocketAddr::is_ipv4) {
        tracing::warn!(%address, %error, "this host has no IPv6: left out");
        return Ok(None);
    }
    Err(error)
}

fn any_ipv4(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Whether that is how a host without IPv6 refuses: the kernel has none, or it is turned off. Every host that has it has
/// `::1` and `::`; another address that is missing is a mistake.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let everywhere = address.ip().is_unspecified() || address.ip().is_loopback();
    let is_unsupported = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    address.is_ipv6() && (is_unsupported || everywhere && error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// `both`: IPv4 as well, at an IPv6 address.
fn bind(address: SocketAddr, both: bool, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Said either way: what is the default depends on the system.
        socket.set_only_v6(!both)?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Binds as a kernel without IPv6 does, and tells what was bound.
    fn without_ipv6(wanted: &str, all: &[&str]) -> io::Result<Option<(SocketAddr, bool)>> {
        let all: Vec<SocketAddr> = all.iter().map(|text| address(text)).collect();
        bind_with(address(wanted), &all, |address, both| match address {
            SocketAddr::V4(_) => Ok((address, both)),
            SocketAddr::V6(_) => Err(rustix::io::Errno::AFNOSUPPORT.into()),
        })
    }

    #[test]
    fn on_a_host_without_ipv6_any_address_is_any_of_ipv4_and_others_are_left_out_beside_ipv4() {
        let bound = |wanted, all: &[&str]| without_ipv6(wanted, all).expect("tolerated");
        assert_eq!(bound("[::]:80", &["[::]:80"]), Some((address("0.0.0.0:80"), false)));
        assert_eq!(bound("[::]:80", &["0.0.0.0:80", "[::]:80"]), None, "it is bound by itself");
        assert_eq!(bound("[::]:80", &["0.0.0.0:81", "[::]:80"]), Some((address("0.0.0.0:80"), false)));
        assert_eq!(bound("[::1]:80", &["127.0.0.1:80", "[::1]:80"]), None);
        assert!(without_ipv6("[::1]:80", &["[::1]:80"]).is_err(), "nothing would be served");
    }

    #[test]
    fn an_address_that_this_host_lacks_is_a_mistake() {
        let bind = |wanted: &str| {
            bind_with(address(wanted), &[address("127.0.0.1:80")], |_, _| -> io::Result<()> {
                Err(io::ErrorKind::AddrNotAvailable.into())
            })
        };
        assert!(bind("[2001:db8::1]:80").is_err());
        assert!(bind("192.0.2.1:80").is_err());
        assert!(bind("[::1]:80").is_ok_and(|bound| bound.is_none()), "IPv6 is turned off");
    }

    #[tokio::test]
    async fn any_address_serves_both_families_and_stands_beside_that_of_ipv4() {
        let Some(both) = bind_tcp(address("[::]:0"), &[address("[::]:0")], false).expect("bound") else {
            panic!("an only address is never left out");
        };
        let port = both.local_addr().expect("bound").port();
        for host in ["127.0.0.1", "::1"] {
            // A machine that runs tests may have no IPv6; IPv4 is served in any case.
            let connected = tokio::net::TcpStream::connect((host, port)).await;
            assert!(connected.is_ok() || host == "::1" && both.local_addr().expect("bound").is_ipv4(), "{host}");
        }
        drop(both);
        let all = [SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0_u16; 8], port))];
        let listeners: Vec<_> = all.iter().filter_map(|one| bind_tcp(*one, &all, false).expect("bound")).collect();
        assert!(!listeners.is_empty());
    }
}
