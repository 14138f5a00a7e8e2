//! The program itself, as a process, on a test world: its socketmap asked over real sockets.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use postseal::clock::Clock;
use postseal::telemetry::samples::Samples;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::https::PolicyHosts;
use super::serve::Served;
use super::world::World;
use super::zone::Zone;

/// A running postseal, its world and its policy hosts; ends with its last drop.
pub struct Daemon {
    pub world: Arc<World>,
    pub hosts: PolicyHosts,
    /// Address of the socketmap over TCP.
    pub socketmap: String,
    /// First address of each service that listens: `http`, `dns` …
    pub listening: HashMap<String, String>,
    /// Every line that it wrote since it was ready.
    pub log: Log,
    /// Every line before that.
    pub starting: Log,
    directory: TempDir,
    process: Child,
    pub served: Served,
}

/// Lines of JSON, as they come.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<serde_json::Value>>>);

impl Log {
    /// All so far.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.0.lock().clone()
    }

    /// Those of a level whose message contains this.
    pub fn of(&self, level: &str, message: &str) -> Vec<serde_json::Value> {
        let mut lines = self.lines();
        lines.retain(|line| {
            line["level"] == level && line["message"].as_str().is_some_and(|text| text.contains(message))
        });
        lines
    }

    /// Waits until there is one with this message.
    pub async fn wait_for(&self, message: &str) -> serde_json::Value {
        let has = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains(message));
        for _ in 0..2_000 {
            if let Some(line) = self.lines().into_iter().find(has) {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no \"{message}\" in {:?}", self.lines());
    }
}

impl Daemon {
    /// Starts on these zones with more lines of configuration, and waits until it is ready.
    pub async fn start(zones: Vec<Zone>, configuration: &str) -> Self {
        Self::start_with(zones, configuration, |base| base).await
    }

    /// Likewise, with the first part of the configuration changed.
    pub async fn start_with(zones: Vec<Zone>, configuration: &str, change: impl FnOnce(String) -> String) -> Self {
        let world = Arc::new(World::build(Clock::system().wall(), zones));
        let served = Served::start(world.clone()).await;
        let hosts = PolicyHosts::start().await;
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("hints", &hints(&world));
        write("anchors", &anchors(&world));
        write("ca.pem", &hosts.ca_pem());
        let base = change(base(served.port, hosts.address.port()));
        write("postseal.toml", &format!("{base}\n{configuration}"));
        let (process, listening, [starting, log]) = spawn(&directory).await;
        let socketmap = listening.get("socketmap").expect("it listens").clone();
        Self { world, hosts, socketmap, listening, log, starting, directory, process, served }
    }

    /// Ends it as an operator would and starts it again on the same state.
    pub async fn restart(&mut self) {
        assert!(terminate(&mut self.process).await);
        (self.process, self.listening, [self.starting, self.log]) = spawn(&self.directory).await;
        self.socketmap = self.listening.get("socketmap").expect("it listens").clone();
    }

    /// Runs a command of the program beside it, with the same configuration.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postseal"));
        command.args(["--config", "postseal.toml"]).args(arguments);
        command.current_dir(self.directory.path()).env_clear().output().await.unwrap()
    }

    pub async fn connect(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(&self.socketmap).await.unwrap()))
    }

    /// One request on a connection of its own: `QUERY example.com`.
    pub async fn ask(&self, request: &str) -> String {
        self.connect().await.ask(request.as_bytes()).await
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Its working directory: `postseal.toml`, `state`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sends a signal, by its name without SIG.
    pub async fn signal(&self, name: &str) {
        signal(&self.process, name).await;
    }

    /// One page over HTTP, header and all.
    pub async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.listening.get("http").expect("it listens")).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        while stream.read_buf(&mut response).await.unwrap() > 0 {}
        String::from_utf8(response).unwrap()
    }

    /// What the metrics page says.
    pub async fn samples(&self) -> Samples {
        Samples::parse(&self.get("/metrics").await)
    }

    /// Ends it as an operator would; true for exit status zero.
    pub async fn stop(mut self) -> bool {
        terminate(&mut self.process).await
    }
}

/// Starts the program and waits until it is ready; gives where it listens, over the network, and its log until and from
/// then on.
async fn spawn(directory: &TempDir) -> (Child, HashMap<String, String>, [Log; 2]) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_postseal"))
        .args(["--config", "postseal.toml"])
        .current_dir(directory.path())
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut listening = HashMap::new();
    let starting = Log::default();
    while let Some(line) = log.next_line().await.unwrap() {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let message = event["message"].as_str().unwrap_or_default();
        let address = event["address"].as_str().filter(|address| address.starts_with("127."));
        if let (Some(service), Some(address)) = (message.strip_suffix(" listening"), address) {
            listening.entry(service.to_owned()).or_insert(address.to_owned());
        }
        let is_ready = message.contains("ready");
        starting.0.lock().push(event);
        if is_ready {
            break;
        }
    }
    let kept = Log::default();
    let keeping = kept.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = log.next_line().await {
            keeping.0.lock().push(serde_json::from_str(&line).unwrap());
        }
    });
    (process, listening, [starting, kept])
}

async fn terminate(process: &mut Child) -> bool {
    signal(process, "TERM").await;
    process.wait().await.unwrap().success()
}

async fn signal(process: &Child, name: &str) {
    let pid = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
}

/// One connection of Postfix.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub async fn send(&mut self, request: &[u8]) {
        let head = format!("{}:", request.len());
        self.0.write_all(&[head.as_bytes(), request, b","].concat()).await.unwrap();
    }

    pub async fn receive(&mut self) -> String {
        let mut head = Vec::new();
        self.0.read_until(b':', &mut head).await.unwrap();
        let text = String::from_utf8_lossy(&head).into_owned();
        let length: usize = text.trim_end_matches(':').parse().unwrap_or_else(|_| panic!("{text:?}"));
        let mut reply = vec![0; length + 1];
        self.0.read_exact(&mut reply).await.unwrap();
        assert_eq!(reply.pop(), Some(b','));
        String::from_utf8(reply).unwrap()
    }

    pub async fn ask(&mut self, request: &[u8]) -> String {
        self.send(request).await;
        self.receive().await
    }
}

fn base(upstream_port: u16, https_port: u16) -> String {
    format!(
        r#"state-dir = "state"
[socketmap]
listen = ["127.0.0.1:0", "unix:map.sock"]
[http]
listen = []
[postfix]
check-resolver = false
[resolver]
root-hints = "hints"
trust-anchors = "anchors"
allow-private-servers = true
upstream-port = {upstream_port}
[mta-sts]
ca-file = "ca.pem"
port = {https_port}
allow-private-addresses = true
[log]
format = "json"
level = "info""#
    )
}

/// Root hints as a zone file.
pub fn hints(world: &World) -> String {
    let lines = world.hints().into_iter().map(|(name, address)| {
        let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
        format!(". 3600 IN NS {name}\n{name} 3600 IN {rtype} {address}\n")
    });
    lines.collect()
}

/// The root's anchor in DS form, as a zone file.
pub fn anchors(world: &World) -> String {
    let lines = world.anchor(".").into_iter().map(|ds| {
        let hex: String = ds[4..].iter().map(|octet| format!("{octet:02X}")).collect();
        format!(". IN DS {} {} {} {hex}\n", u16::from_be_bytes([ds[0], ds[1]]), ds[2], ds[3])
    });
    lines.collect()
}
