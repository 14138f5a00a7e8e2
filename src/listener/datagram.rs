//! UDP sockets whose answers leave from the address that was asked.
//!
//! A socket bound to one address does so by itself. One bound to all addresses of the host (`0.0.0.0`, `[::]`)
//! must be told with each answer; else the kernel picks an address and the client drops the answer.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::libc::{in_pktinfo, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A socket of the service.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UdpSocket,
    wildcard: bool,
}

/// Whom to answer, and from which address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub client: SocketAddr,
    local: Local,
}

/// The address that was asked.
#[derive(Clone, Copy, Debug)]
enum Local {
    /// The socket's own.
    Bound,
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Datagrams {
    /// Takes over a bound socket.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let wildcard = address.ip().is_unspecified();
        if wildcard && address.is_ipv4() {
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
        } else if wildcard {
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { socket, wildcard })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a datagram. May be dropped at any time.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The datagram that is there: its length in `buffer`, and whom to answer; `WouldBlock` where there is none.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        if !self.wildcard {
            let (length, client) = self.socket.try_recv_from(buffer)?;
            return Ok((length, Peer { client, local: Local::Bound }));
        }
        self.socket.try_io(Interest::READABLE, || self.receive_with_destination(buffer))
    }

    /// Sends an answer.
    pub async fn send(&self, answer: &[u8], peer: Peer) -> io::Result<()> {
        let control = match &peer.local {
            Local::Bound => {
                // There is nearly always room.
                return match self.socket.try_send_to(answer, peer.client) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.socket.send_to(answer, peer.client).await.map(drop)
                    }
                    sent => sent.map(drop),
                };
            }
            Local::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Local::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        };
        let (octets, client) = ([IoSlice::new(answer)], SockaddrStorage::from(peer.client));
        let send = || {
            Ok(sendmsg(self.socket.as_raw_fd(), &octets, &[control], MsgFlags::MSG_DONTWAIT, Some(&client))
                .map(drop)?)
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    fn receive_with_destination(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        let mut control = nix::cmsg_space!(in6_pktinfo);
        let mut octets = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut octets, Some(&mut control), flags)?;
        let client = received.address.as_ref().and_then(socket_address).ok_or(io::ErrorKind::InvalidData)?;
        let mut local = Local::Bound;
        for message in received.cmsgs()? {
            match message {
                // Index 0: the route decides about the interface.
                ControlMessageOwned::Ipv4PacketInfo(info) => local = Local::V4(in_pktinfo { ipi_ifindex: 0, ..info }),
                ControlMessageOwned::Ipv6PacketInfo(info) => local = Local::V6(info),
                _ => {}
            }
        }
        Ok((received.bytes, Peer { client, local }))
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_on_all_addresses_answers_from_the_one_that_was_asked() {
        let socket = Datagrams::new(UdpSocket::bind("0.0.0.0:0").await.expect("a socket")).expect("a socket");
        let port = socket.local_addr().expect("an address").port();
        for asked in ["127.0.0.1", "127.0.0.53", "127.1.2.3"] {
            let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            // Connected: answers from elsewhere never arrive.
            client.connect((asked, port)).await.expect("connected");
            client.send(b"question").await.expect("sent");
            let mut buffer = [0; 16];
            let (length, peer) = loop {
                socket.readable().await.expect("a datagram");
                match socket.try_receive(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => break received.expect("a datagram"),
                }
            };
            assert_eq!((&buffer[..length], peer.client), (&b"question"[..], client.local_addr().expect("an address")));
            socket.send(b"answer", peer).await.expect("sent");
            let length = client.recv(&mut buffer).await.expect("an answer");
            assert_eq!(&buffer[..length], b"answer");
        }
    }
}
