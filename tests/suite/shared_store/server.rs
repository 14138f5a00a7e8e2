//! Real servers: redis-server as a process, alone, with sentinels, as a cluster, over TLS.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::setting::eventually;

/// A server of ours; killed at the end.
pub struct Server {
    pub port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    /// Starts with these directives, and waits until it answers.
    pub async fn start(directives: &[&str]) -> Self {
        let port = free_port();
        Self::start_on(port, &["--port", &port.to_string()], directives, &[]).await
    }

    /// Over TLS alone, with the certificate in `directory`.
    pub async fn start_tls(certificates: &Path) -> Self {
        let port = free_port().to_string();
        let file = |name: &str| certificates.join(name).display().to_string();
        let (ca, certificate, key) = (file("ca.pem"), file("certificate.pem"), file("key.pem"));
        let tls = ["--port", "0", "--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        let more = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"];
        Self::start_on(port.parse().unwrap(), &[&tls[..], &more].concat(), &[], &["--tls", "--cacert", &ca]).await
    }

    async fn start_on(port: u16, listen: &[&str], directives: &[&str], client: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = [listen, &["--bind", "127.0.0.1", "--save", ""], directives]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let child = spawn(&directory, &arguments);
        let server = Self { port, directory, arguments, child };
        eventually("redis-server", async || {
            let reply = server.command(&[client, &["PING"]].concat());
            reply.contains("PONG") || reply.contains("NOAUTH")
        })
        .await;
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What redis-cli says.
    pub fn command(&self, arguments: &[&str]) -> String {
        redis_cli(self.port, arguments)
    }

    /// Gone at once, with all that it held.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Empty, on the same port.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.directory, &self.arguments);
        eventually("redis-server", async || self.command(&["PING"]).contains("PONG")).await;
    }

    /// Hangs, its sockets open.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }
}

fn spawn(directory: &TempDir, arguments: &[String]) -> Child {
    let program = std::env::var_os("POSTSEAL_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server")
}

pub fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let port = port.to_string();
    let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().expect("redis-cli");
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

/// A port that is free now, and another 10,000 above, for the bus of a cluster.
pub fn free_port() -> u16 {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    loop {
        let port = bind(0).unwrap().local_addr().unwrap().port();
        if port < 55_000 && bind(port + 10_000).is_ok() {
            return port;
        }
    }
}

/// A master, a replica of it, and three sentinels that follow both.
pub struct Watched {
    pub master: Server,
    pub replica: Server,
    sentinels: Vec<Server>,
}

impl Watched {
    pub async fn start() -> Self {
        let master = Server::start(&[]).await;
        let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", master.port)]).await;
        eventually("replication", async || replica.command(&["ROLE"]).contains("connected")).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Self::sentinel(master.port).await);
        }
        let watched = Self { master, replica, sentinels };
        eventually("sentinels", async || {
            watched.sentinels.iter().all(|sentinel| {
                let text = sentinel.command(&["SENTINEL", "MASTER", "ours"]);
                let number = |field: &str| {
                    let mut lines = text.lines().skip_while(|line| *line != field);
                    lines.nth(1).and_then(|line| line.parse::<u32>().ok())
                };
                (number("num-other-sentinels"), number("num-slaves")) == (Some(2), Some(1))
            })
        })
        .await;
        watched
    }

    async fn sentinel(master: u16) -> Server {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("sentinel monitor ours 127.0.0.1 {master} 2"),
            "sentinel down-after-milliseconds ours 1000".to_owned(),
            "sentinel failover-timeout ours 5000".to_owned(),
        ];
        std::fs::write(directory.path().join("sentinel.conf"), lines.join("\n")).unwrap();
        let arguments = vec!["sentinel.conf".to_owned(), "--sentinel".to_owned()];
        let child = spawn(&directory, &arguments);
        let sentinel = Server { port, directory, arguments, child };
        eventually("sentinel", async || sentinel.command(&["PING"]).contains("PONG")).await;
        sentinel
    }

    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/ours", hosts.join(","))
    }
}

/// Three masters that share the slots.
pub async fn cluster() -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]).await);
    }
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let create = ["--cluster", "create", &addresses[0], &addresses[1], &addresses[2], "--cluster-yes"];
    let said = redis_cli(nodes[0].port, &create);
    eventually(&said, async || {
        nodes.iter().all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    })
    .await;
    nodes
}
