//! Sockets from systemd (sd_listen_fds(3)), handed to the real binary as systemd does.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use hickory_proto::rr::RecordType::A;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dns_service::{in_short, query, tcp, udp};

/// Nothing is listened on but what is handed over.
const CONFIG: &str = "state-dir = \"state\"\n[socketmap]\nlisten = [\"unix:map.sock\"]\n[http]\nlisten = []\n";

/// A running daemon; ends when dropped.
struct Daemon {
    process: Child,
    _directory: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the program with two sockets as descriptors 3 and 4.
fn start(names: &str, first: OwnedFd, second: OwnedFd) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("postseal.toml"), CONFIG).unwrap();
    // LISTEN_PID has to be the daemon's own: the shell becomes it.
    let script = "LISTEN_PID=$$ exec \"$0\" --config postseal.toml 3<&0 4<&1 0</dev/null 1>/dev/null";
    let process = Command::new("/bin/sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_postseal")])
        .current_dir(directory.path())
        .env_clear()
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Daemon { process, _directory: directory }
}

/// UDP and TCP at one address; what is sent to them waits until the daemon is up.
fn sockets() -> (SocketAddr, UdpSocket, TcpListener) {
    for _ in 0..100 {
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = datagrams.local_addr().unwrap();
        if let Ok(listener) = TcpListener::bind(address) {
            return (address, datagrams, listener);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

#[tokio::test]
async fn dns_sockets_from_systemd_are_served_over_udp_and_tcp() {
    let (address, datagrams, listener) = sockets();
    let _daemon = start("dns:dns", datagrams.into(), listener.into());
    let asked = query("localhost", A, 0);
    assert_eq!(in_short(&udp(address, &asked).await), "0: A / ");
    assert_eq!(in_short(&tcp(address, &asked).await), "0: A / ");
}

#[tokio::test]
async fn a_stream_socket_of_another_name_is_for_postfix() {
    let (address, datagrams, listener) = sockets();
    let _daemon = start("dns:socketmap", datagrams.into(), listener.into());
    assert_eq!(in_short(&udp(address, &query("localhost", A, 0)).await), "0: A / ");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"15:QUERY [1.2.3.4],").await.unwrap();
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"9:NOTFOUND ,");
}
