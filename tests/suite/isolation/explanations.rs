//! Places for explanations: anybody at this host who asks for as many as there may be over HTTP, and root at the control
//! socket (design §10). The program itself, over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use postseal::limits::EXPLANATIONS;

use crate::support::daemon::Daemon;
use crate::support::mail::{break_hosts, domain, foundation, host};

async fn ask(daemon: &Daemon, domain: &str) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.listening.get("http").unwrap()).await.unwrap();
    let head = "Host: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("GET /explain?domain={domain} HTTP/1.1\r\n{head}").as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explanations_of_others_leave_root_its_own_places() {
    let mut zones = foundation();
    zones.push(domain("dane.com", true, &[host::USABLE]));
    zones.push(domain("dead.com", true, &[host::DEAD]));
    let http = |base: String| base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]");
    let daemon = Daemon::start_with(zones, "", http).await;
    break_hosts(&daemon.world);
    // As many as there may be; each waits for servers that are silent.
    let mut held = Vec::new();
    for _ in 0..EXPLANATIONS {
        held.push(ask(&daemon, "dead.com").await);
    }
    // They are under way once one more is refused.
    let mut refused = false;
    for _ in 0..100 {
        // One of them may have come too late for a place that this one had.
        held.push(ask(&daemon, "dead.com").await);
        let mut status = [0; 12];
        ask(&daemon, "dane.com").await.read_exact(&mut status).await.unwrap();
        refused = status == *b"HTTP/1.1 429";
        if refused {
            break;
        }
    }
    assert!(refused, "as many as there may be are under way");
    let explained = daemon.run(&["explain", "dane.com"]).await;
    let text = String::from_utf8_lossy(&explained.stdout);
    assert!(explained.status.success() && text.contains("dane-only"), "{explained:?}");
    drop(held);
    assert!(daemon.stop().await);
}
