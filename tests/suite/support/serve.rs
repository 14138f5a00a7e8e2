//! A [`World`] on real UDP and TCP sockets of 127.0.0.0/8: every server has its own address, all have one port.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::world::{Action, World};

/// A world that is being served; ends with its last drop.
pub struct Served {
    pub world: Arc<World>,
    /// The one port of all servers: `resolver.upstream-port`.
    pub port: u16,
    sockets: Vec<Arc<UdpSocket>>,
    _tasks: JoinSet<()>,
}

impl Served {
    /// Binds every server of the world and serves until dropped.
    pub async fn start(world: Arc<World>) -> Self {
        Self::start_on(world, 0).await
    }

    /// Likewise on a given port; 0 takes any.
    pub async fn start_on(world: Arc<World>, port: u16) -> Self {
        let addresses = world.addresses();
        for _ in 0..100 {
            if let Some((port, sockets)) = bind_all(&addresses, port).await {
                let (mut tasks, mut datagrams) = (JoinSet::new(), Vec::new());
                for (udp, tcp) in sockets {
                    let udp = Arc::new(udp);
                    datagrams.push(udp.clone());
                    tasks.spawn(serve_udp(world.clone(), udp));
                    tasks.spawn(serve_tcp(world.clone(), tcp));
                }
                return Self { world, port, sockets: datagrams, _tasks: tasks };
            }
        }
        panic!("no port is free on all of {addresses:?}");
    }
}

impl Served {
    /// The socket of this server, for whoever forges datagrams in its name: what leaves there has its address.
    pub fn socket_of(&self, server: IpAddr) -> std::net::UdpSocket {
        let is_it = |socket: &&Arc<UdpSocket>| socket.local_addr().unwrap().ip() == server;
        let socket = self.sockets.iter().find(is_it).unwrap();
        socket.as_fd().try_clone_to_owned().unwrap().into()
    }
}

/// Takes a port that the system offers on the first address and tries it on all others.
async fn bind_all(addresses: &[IpAddr], mut port: u16) -> Option<(u16, Vec<(UdpSocket, TcpListener)>)> {
    let mut sockets = Vec::new();
    for address in addresses {
        let tcp = TcpListener::bind((*address, port)).await.ok()?;
        port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind((*address, port)).await.ok()?;
        sockets.push((udp, tcp));
    }
    Some((port, sockets))
}

async fn serve_udp(world: Arc<World>, socket: Arc<UdpSocket>) {
    let address = socket.local_addr().unwrap().ip();
    let mut late = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        // An ICMP error for an earlier answer shows here; it says nothing about the next question.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Action::Reply(replies) = world.answer(address, &buffer[..length], false) else { continue };
        for (after, octets) in replies {
            late.spawn(send_late(socket.clone(), peer, after, octets));
        }
        while late.try_join_next().is_some() {}
    }
}

async fn send_late(socket: Arc<UdpSocket>, peer: SocketAddr, after: Duration, octets: Vec<u8>) {
    tokio::time::sleep(after).await;
    // The client may be gone; so would be a datagram on a real network.
    let _ = socket.send_to(&octets, peer).await;
}

async fn serve_tcp(world: Arc<World>, listener: TcpListener) {
    let address = listener.local_addr().unwrap().ip();
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve_connection(world.clone(), address, stream));
        while connections.try_join_next().is_some() {}
    }
}

/// Answers questions of one connection as each becomes ready, in any order (RFC 7766 §6.2.1.1).
async fn serve_connection(world: Arc<World>, address: IpAddr, stream: TcpStream) {
    let (mut reading, mut writing) = stream.into_split();
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(64);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(octets) = ready.recv().await {
            let length = (octets.len() as u16).to_be_bytes();
            if writing.write_all(&[&length, &octets[..]].concat()).await.is_err() {
                return;
            }
        }
    });
    loop {
        let Ok(length) = reading.read_u16().await else { return };
        let mut query = vec![0; usize::from(length)];
        if reading.read_exact(&mut query).await.is_err() {
            return;
        }
        let Action::Reply(replies) = world.answer(address, &query, true) else { return };
        for (after, octets) in replies {
            let answers = answers.clone();
            tasks.spawn(async move {
                tokio::time::sleep(after).await;
                let _ = answers.send(octets).await;
            });
        }
    }
}
