//! The socketmap server over real sockets: order, bounds, ends (design §3).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use postseal::caller::own_uid;
use postseal::clock::Clock;
use postseal::config::Listen;
use postseal::socketmap::{Answer, BoxFuture, Listener, Peer, Reply, Request, Rewound, Server, Service, Threads, run};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Answers `now KEY` and `written KEY` at once, and `gate KEY` when the gate opens.
struct Scripted {
    asked: AtomicUsize,
    gate: watch::Receiver<bool>,
}

impl Service for Scripted {
    fn answer(&self, request: Request<'_>, reply: &mut String) -> Answer {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let key = String::from_utf8_lossy(request.key).into_owned();
        match request.name {
            b"now" => Answer::Now(Reply::ok(&key)),
            b"written" => {
                reply.push_str("OK ");
                reply.push_str(&key);
                Answer::Written
            }
            b"gate" => {
                let mut gate = self.gate.clone();
                Answer::Later(Box::pin(async move {
                    let _ = gate.wait_for(|open| *open).await;
                    Reply::ok(&key)
                }))
            }
            b"big" => Answer::Now(Reply::ok(&"x".repeat(90_000))),
            b"DUMP" if matches!(request.peer, Peer::Unix(caller) if caller.may_operate(own_uid())) => {
                Answer::Now(Reply::plain(Bytes::from_static(b"all\n"), true))
            }
            name => Answer::Now(Reply::unknown_map(name)),
        }
    }
    fn http(&self, mut stream: Rewound) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut first = [0; 4];
            let _ = stream.read_exact(&mut first).await;
            if &first == b"HOLD" {
                std::future::pending::<()>().await; // a request that is never finished
            }
            let _ = stream.write_all(&first).await;
        })
    }
}

pub(crate) struct World {
    address: String,
    service: Arc<Scripted>,
    gate: watch::Sender<bool>,
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

pub(crate) fn start(listen: &str, max_connections: usize) -> World {
    start_on(2, listen, max_connections)
}

/// With 0 threads connections are served by the test's own, whose clock it moves.
fn start_on(threads: usize, listen: &str, max_connections: usize) -> World {
    let (gate, closed) = watch::channel(false);
    let service = Arc::new(Scripted { asked: AtomicUsize::new(0), gate: closed });
    let listener = Listener::bind(&Listen::parse(listen).expect("an address"), 0o600, false).expect("bound");
    let address = listener.local();
    let (shutdown, stop) = oneshot::channel();
    let threads = Threads::start(threads).expect("started");
    let server = Server { service: service.clone(), clock: Clock::system(), max_connections, threads };
    let server = tokio::spawn(run(vec![listener], server, async {
        let _ = stop.await;
    }));
    World { address, service, gate, shutdown, server }
}

impl World {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.expect("connected")
    }
}

pub(crate) fn frame(text: &str) -> Vec<u8> {
    format!("{}:{text},", text.len()).into_bytes()
}

pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str, reply: &str) {
    stream.write_all(&frame(request)).await.expect("sent");
    expect(stream, &frame(reply)).await;
}

async fn expect<S: AsyncRead + Unpin>(stream: &mut S, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    stream.read_exact(&mut read).await.expect("a reply");
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(bytes));
}

pub(crate) async fn expect_end<S: AsyncRead + Unpin>(stream: &mut S, what: &str) {
    // A reset is an end as well: octets were left unread.
    let read = stream.read(&mut [0; 64]).await.unwrap_or(0);
    assert_eq!(read, 0, "{what}: the connection is not closed");
}

#[tokio::test]
async fn pipelined_requests_run_at_once_and_are_answered_in_the_order_of_asking() {
    let world = start("127.0.0.1:0", 8);
    let mut stream = world.connect().await;
    let requests = ["gate a", "now b", "gate c", "nomap d", "now e", "written f", "written g"].map(frame).concat();
    // In pieces that respect no boundary.
    for piece in requests.chunks(5) {
        stream.write_all(piece).await.expect("sent");
    }
    while world.service.asked.load(Ordering::SeqCst) < 7 {
        tokio::task::yield_now().await;
    }
    world.gate.send_replace(true);
    let replies = ["OK a", "OK b", "OK c", "PERM unknown map \"nomap\"", "OK e", "OK f", "OK g"].map(frame).concat();
    expect(&mut stream, &replies).await;
    ask(&mut stream, "now again", "OK again").await;
    ask(&mut stream, "written again", "OK again").await;
}

#[tokio::test]
async fn a_malformed_netstring_ends_its_own_connection_and_nothing_else() {
    let world = start("127.0.0.1:0", 64);
    let mut bystander = world.connect().await;
    ask(&mut bystander, "now 1", "OK 1").await;
    for bad in [
        &b"5:now x;"[..],
        b"05:now x,",
        b"00000000000000000000000000000000",
        b"99999999999999999999999999999999999999999",
        b"10001:",
        b"100000:now ",
        b":",
        b"5;",
        b"\x00\x01\x02",
        b"\xff\xfe",
        b"-1:,",
        b"5 :now x,",
    ] {
        let mut stream = world.connect().await;
        stream.write_all(bad).await.expect("sent");
        expect_end(&mut stream, &format!("{:?}", String::from_utf8_lossy(bad))).await;
        ask(&mut bystander, "now 2", "OK 2").await;
    }
    let mut stream = world.connect().await;
    stream.write_all(&[frame("now before"), b"x".to_vec()].concat()).await.expect("sent");
    expect(&mut stream, &frame("OK before")).await;
    expect_end(&mut stream, "after a good request").await;
}

#[tokio::test]
async fn the_longest_allowed_request_and_binary_keys_are_answered() {
    let world = start("127.0.0.1:0", 8);
    let mut stream = world.connect().await;
    let key = "k".repeat(10_000 - "now ".len());
    ask(&mut stream, &format!("now {key}"), &format!("OK {key}")).await;
    stream.write_all(b"7:x \x00\xff\n,\r,").await.expect("sent");
    expect(&mut stream, &frame("PERM unknown map \"x\"")).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_held_back_and_disturbs_nobody() {
    let world = start("127.0.0.1:0", 8);
    let mut greedy = world.connect().await;
    let requests = frame("big x").repeat(1_000);
    let mut sent = 0_usize;
    // Held back: at some point the kernel takes no more, because the server has stopped reading.
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), greedy.write_all(&requests)).await {
        written.expect("still connected");
        sent += 1;
        assert!(sent < 20_000, "the server reads on although its replies are not read");
    }
    // Replies of 90 kB: what was answered is a handful beyond what the kernel's buffers hold.
    let answered = world.service.asked.load(Ordering::SeqCst);
    assert!(answered < 500, "{answered} replies were made for a client that reads none");
    let mut other = world.connect().await;
    ask(&mut other, "now x", "OK x").await;
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_makes_room() {
    let world = start("127.0.0.1:0", 3);
    let mut busy = world.connect().await;
    busy.write_all(&frame("gate busy")).await.expect("sent");
    while world.service.asked.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    let mut oldest = world.connect().await;
    ask(&mut oldest, "now 1", "OK 1").await;
    let mut recent = world.connect().await;
    ask(&mut recent, "now 2", "OK 2").await;
    let mut newcomer = world.connect().await;
    ask(&mut newcomer, "now 3", "OK 3").await;
    expect_end(&mut oldest, "the longest idle").await;
    ask(&mut recent, "now 4", "OK 4").await;
    world.gate.send_replace(true);
    expect(&mut busy, &frame("OK busy")).await;
}

#[tokio::test]
async fn while_all_connections_wait_for_answers_the_one_that_waits_longest_makes_room() {
    let world = start("127.0.0.1:0", 2);
    let mut waiting = Vec::new();
    for count in 1..=2 {
        let mut stream = world.connect().await;
        stream.write_all(&frame("gate busy")).await.expect("sent");
        while world.service.asked.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
        waiting.push(stream);
    }
    let mut newcomer = world.connect().await;
    ask(&mut newcomer, "now x", "OK x").await;
    expect_end(&mut waiting[0], "the longest waiting").await;
    world.gate.send_replace(true);
    expect(&mut waiting[1], &frame("OK busy")).await;
}

#[tokio::test]
async fn a_first_letter_means_http_and_gets_the_whole_stream() {
    let world = start("127.0.0.1:0", 8);
    let mut stream = world.connect().await;
    stream.write_all(b"GET ").await.expect("sent");
    expect(&mut stream, b"GET ").await;
    expect_end(&mut stream, "after HTTP").await;
}

#[tokio::test]
async fn unix_sockets_get_their_mode_replace_stale_files_and_leave_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("map.sock");
    let listen = format!("unix:{}", path.display());
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket left behind"));
    let world = start(&listen, 8);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.expect("connected");
    ask(&mut stream, "now x", "OK x").await;
    stream.write_all(&frame("DUMP")).await.expect("sent");
    expect(&mut stream, b"all\n").await;
    expect_end(&mut stream, "after DUMP").await;
    let second = Listener::bind(&Listen::parse(&listen).expect("an address"), 0o600, false);
    assert!(second.is_err_and(|error| error.to_string().contains("another process listens")));
    let _ = world.shutdown.send(());
    world.server.await.expect("ended");
    assert!(!path.exists());
    std::fs::write(&path, "mine").expect("written");
    let third = Listener::bind(&Listen::parse(&listen).expect("an address"), 0o600, false);
    assert!(third.is_err() && path.exists(), "a file that is no socket stays");
}

#[tokio::test]
async fn shutdown_answers_what_was_asked_and_accepts_no_more() {
    let world = start("127.0.0.1:0", 8);
    let mut stream = world.connect().await;
    let mut idle = world.connect().await;
    ask(&mut idle, "now x", "OK x").await;
    stream.write_all(&[frame("gate a"), frame("now b"), b"9:half".to_vec()].concat()).await.expect("sent");
    while world.service.asked.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    let _ = world.shutdown.send(());
    expect_end(&mut idle, "idle at shutdown").await;
    assert!(!world.server.is_finished());
    world.gate.send_replace(true);
    expect(&mut stream, &[frame("OK a"), frame("OK b")].concat()).await;
    expect_end(&mut stream, "answered at shutdown").await;
    world.server.await.expect("ended");
    assert!(TcpStream::connect(&world.address).await.is_err());
}

#[tokio::test]
async fn shutdown_answers_requests_that_were_sent_but_not_read_yet() {
    let world = start("127.0.0.1:0", 64);
    // More than a connection may have under way: the rest is in the kernel's buffer, or in ours.
    let mut many = world.connect().await;
    many.write_all(&frame("gate x").repeat(500)).await.expect("sent");
    while world.service.asked.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    let mut idle = world.connect().await;
    ask(&mut idle, "now 1", "OK 1").await;
    // Nothing of this was accepted when the end began: no task of the server ran in between.
    let mut new = std::net::TcpStream::connect(&world.address).expect("connected");
    std::io::Write::write_all(&mut new, &frame("now new")).expect("sent");
    idle.try_write(&frame("now 2")).expect("sent");
    let _ = world.shutdown.send(());
    new.set_nonblocking(true).expect("set");
    let mut new = TcpStream::from_std(new).expect("taken over");
    expect(&mut new, &frame("OK new")).await;
    expect(&mut idle, &frame("OK 2")).await;
    expect_end(&mut idle, "answered at shutdown").await;
    world.gate.send_replace(true);
    expect(&mut many, &frame("OK x").repeat(500)).await;
    expect_end(&mut many, "answered at shutdown").await;
    world.server.await.expect("ended");
}

#[tokio::test(start_paused = true)]
async fn idle_and_half_sent_requests_end_after_their_limits() {
    let world = start_on(0, "127.0.0.1:0", 8);
    let mut silent = world.connect().await;
    expect_end(&mut silent, "never asked").await;
    let mut idle = world.connect().await;
    ask(&mut idle, "now x", "OK x").await;
    expect_end(&mut idle, "idle").await;
    let mut half = world.connect().await;
    half.write_all(b"100:now ").await.expect("sent");
    expect_end(&mut half, "half a request").await;
}

#[tokio::test]
async fn end_of_input_does_not_lose_requests_received_whole() {
    let world = start("127.0.0.1:0", 8);
    let mut stream = world.connect().await;
    stream.write_all(&frame("gate x").repeat(300)).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    world.gate.send_replace(true);
    expect(&mut stream, &frame("OK x").repeat(300)).await;
    expect_end(&mut stream, "all answered").await;
}
