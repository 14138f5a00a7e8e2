//! Start and end of the real binary beside others: the state directory that another process still has, readiness and the
//! root, the time that is served on after SIGTERM, sockets of both address families (design §9, §11).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use postseal::clock::Instant;

use super::binary::{CONFIG, Daemon, command, directory_with, get};
use crate::support::daemon::Daemon as InWorld;
use crate::support::zone::Zone;

/// Another process in the directory of one that runs.
struct Beside {
    process: Child,
    log: BufReader<ChildStderr>,
    seen: Vec<serde_json::Value>,
}

impl Beside {
    fn start(first: &Daemon) -> Self {
        let mut process = command(first.directory.path(), &[]).stderr(Stdio::piped()).spawn().expect("started");
        let log = BufReader::new(process.stderr.take().expect("piped"));
        Self { process, log, seen: Vec::new() }
    }

    fn wait_for(&mut self, message: &str) -> serde_json::Value {
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).expect("log"), 0, "ended before \"{message}\": {:?}", self.seen);
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            self.seen.push(event.clone());
            if event["message"].as_str().is_some_and(|text| text.contains(message)) {
                return event;
            }
        }
    }

    fn terminate(&mut self) -> bool {
        let pid = self.process.id().to_string();
        assert!(std::process::Command::new("kill").arg(&pid).status().expect("kill").success());
        self.process.wait().expect("ended").success()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_second_process_waits_for_the_state_directory_and_serves_once_the_first_has_ended() {
    let mut first = Daemon::start();
    first.wait_for("ready");
    let mut second = Beside::start(&first);
    let waiting = second.wait_for("waiting for the state directory");
    assert_eq!(waiting["level"], "WARN");
    assert!(waiting["error"].as_str().is_some_and(|text| text.contains("is using")), "{waiting}");
    let http = second.wait_for("http listening")["address"].as_str().expect("an address").to_owned();
    assert!(get(&http, "/livez").starts_with("HTTP/1.1 200 "));
    let readyz = get(&http, "/readyz");
    assert!(readyz.starts_with("HTTP/1.1 503 ") && readyz.contains("state directory"), "{readyz}");
    assert!(get(&http, "/metrics").contains("\npostseal_ready 0\n"));
    assert!(get(&http, "/").starts_with("HTTP/1.1 200 "));
    assert!(get(&http, "/explain?domain=example.com").starts_with("HTTP/1.1 403 "), "not asked from this host");
    // The first one's sockets are its own all the while.
    assert_eq!(first.ask("QUERY override.example"), "OK encrypt");
    first.signal("TERM");
    assert!(first.process.wait().expect("ended").success());
    second.wait_for("ready");
    assert_eq!(first.ask("QUERY override.example"), "OK encrypt", "asked of the second, at the same path");
    assert!(get(&http, "/livez").starts_with("HTTP/1.1 200 "), "the same port as before");
    let lines = second.seen.iter().filter(|event| event["message"].as_str().is_some_and(|m| m.contains("waiting")));
    assert_eq!(lines.count(), 1, "{:?}", second.seen);
    assert!(second.terminate());
}

#[test]
fn sigterm_ends_the_wait_for_the_state_directory() {
    let mut first = Daemon::start();
    first.wait_for("ready");
    let mut second = Beside::start(&first);
    second.wait_for("http listening");
    assert!(second.terminate());
    second.wait_for("stopped before");
    assert_eq!(first.ask("QUERY override.example"), "OK encrypt");
    assert!(first.stop().0);
}

#[test]
fn after_sigterm_everything_is_served_on_not_ready_for_as_long_as_the_linger_says() {
    let mut daemon = Daemon::start_in(directory_with(&format!("{CONFIG}[shutdown]\nlinger = \"5m\"\n")));
    let http = daemon.wait_for("http listening");
    daemon.wait_for("ready");
    daemon.signal("TERM");
    daemon.wait_for("told to stop");
    let readyz = get(&http, "/readyz");
    assert!(readyz.starts_with("HTTP/1.1 503 ") && readyz.contains("stopping"), "{readyz}");
    assert!(get(&http, "/livez").starts_with("HTTP/1.1 200 "));
    assert_eq!(daemon.ask("QUERY override.example"), "OK encrypt", "over a new connection");
    // Told again, it does not wait any longer.
    let (success, end) = daemon.stop();
    assert!(success && end < Duration::from_secs(60), "{end:?}");
}

#[test]
fn the_linger_ends_by_itself_and_whoever_interrupts_does_not_wait_for_it() {
    let mut daemon = Daemon::start_in(directory_with(&format!("{CONFIG}[shutdown]\nlinger = \"2s\"\n")));
    daemon.wait_for("ready");
    let (success, end) = daemon.stop();
    assert!(success && end >= Duration::from_secs(2), "{end:?}");

    let mut daemon = Daemon::start_in(directory_with(&format!("{CONFIG}[shutdown]\nlinger = \"5m\"\n")));
    daemon.wait_for("ready");
    let began = Instant::now();
    daemon.signal("INT");
    assert!(daemon.process.wait().expect("ended").success());
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn any_address_of_ipv6_serves_ipv4_as_well() {
    let config = CONFIG.replace("\"127.0.0.1:0\"", "\"[::]:0\"");
    let mut daemon = Daemon::start_in(directory_with(&config));
    let port = |address: String| address.rsplit_once(':').expect("a port").1.to_owned();
    let socketmap = loop {
        let address = daemon.wait_for("socketmap listening");
        if !address.starts_with("unix:") {
            break port(address);
        }
    };
    let http = port(daemon.wait_for("http listening"));
    daemon.wait_for("ready");
    assert!(get(&format!("127.0.0.1:{http}"), "/livez").starts_with("HTTP/1.1 200 "));
    let mut stream = TcpStream::connect(format!("127.0.0.1:{socketmap}")).expect("connected");
    stream.write_all(b"22:QUERY override.example,").expect("sent");
    let mut reply = [0; 14];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply, b"10:OK encrypt,");
    assert!(daemon.stop().0);
}

fn with_http(base: String) -> String {
    base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]")
}

async fn wait_until_ready(daemon: &InWorld) {
    while !daemon.get("/readyz").await.contains("200 OK") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_lost_later_shows_in_metric_and_status_and_costs_no_readiness() {
    let daemon = InWorld::start_with(vec![Zone::new(".").signed(13)], "", with_http).await;
    let reachable = async || daemon.samples().await.sum("postseal_root_reachable", None);
    while reachable().await < 1.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wait_until_ready(&daemon).await;
    // From now on the root's keys are others than the anchor says.
    let anchors = format!(". IN DS 1 13 2 {}\n", "0".repeat(64));
    std::fs::write(daemon.directory().join("anchors"), anchors).expect("written");
    daemon.signal("HUP").await;
    daemon.log.wait_for("the root cannot be reached or validated").await;
    assert_eq!(reachable().await.to_bits(), 0.0_f64.to_bits());
    assert!(daemon.get("/readyz").await.contains("200 OK"));
    let status = daemon.run(&["status"]).await;
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains(", ready\n") && status.contains("CANNOT BE REACHED"), "{status}");
    assert!(daemon.run(&["healthcheck"]).await.status.success());
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthcheck_says_what_readyz_says_though_nothing_can_be_stored() {
    // A port that was free a moment ago: the command finds the daemon by its configuration alone.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let change = |base: String| {
        let base = base.replace("[http]\nlisten = []", &format!("[http]\nlisten = [\"{free}\"]"));
        // Below a file: neither store nor control socket can be made.
        base.replace("state-dir = \"state\"", "state-dir = \"ca.pem/state\"")
    };
    let daemon = InWorld::start_with(vec![Zone::new(".").signed(13)], "", change).await;
    wait_until_ready(&daemon).await;
    let output = daemon.run(&["healthcheck"]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(!daemon.run(&["status"]).await.status.success(), "there is no control socket");
    assert!(daemon.stop().await);
}

/// An address of this host that is not loopback, if it has one. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn a_trusted_source_may_ask_for_explanations_and_others_may_not() {
    let Some(own) = own_address() else {
        eprintln!("this host has no address but loopback: see the table in src/http/explain.rs");
        return;
    };
    for (trusted, expected) in [(own.to_string(), "400"), ("127.0.0.0/8".to_owned(), "403")] {
        let http = format!("[http]\nlisten = [\"0.0.0.0:0\"]\ntrusted-sources = [\"{trusted}\"]");
        let config = CONFIG.replace("[http]\nlisten = [\"127.0.0.1:0\"]", &http);
        let mut daemon = Daemon::start_in(directory_with(&config));
        let address = daemon.wait_for("http listening").replace("0.0.0.0", &own.to_string());
        daemon.wait_for("ready");
        let ask = |head: &str| {
            let mut stream = TcpStream::connect(&address).expect("connected");
            write!(stream, "GET /explain HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n").expect("sent");
            let mut response = String::new();
            stream.read_to_string(&mut response).expect("a response");
            response.split(' ').nth(1).expect("a status").to_owned()
        };
        // 400: it may ask, and did not say for what.
        assert_eq!(ask("Host: localhost:9642"), expected, "{trusted}");
        assert_eq!(ask("Host: postseal.example"), "403", "{trusted}");
        assert_eq!(ask("Host: localhost\r\nVia: 1.1 proxy"), "403", "{trusted}");
        assert!(daemon.stop().0);
    }
}
