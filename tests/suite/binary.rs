//! The real binary: start, first answer, commands, reload, end (design §9 to §11).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use postseal::clock::Instant;

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_postseal");

/// A daemon in a directory of its own that can reach no server: its only root server is a closed port.
pub(super) struct Daemon {
    pub(super) directory: TempDir,
    pub(super) process: Child,
    log: BufReader<std::process::ChildStderr>,
}

pub(super) const CONFIG: &str = r#"
state-dir = "state"
[socketmap]
listen = ["unix:map.sock", "127.0.0.1:0"]
[http]
listen = ["127.0.0.1:0"]
tlspol-metric-names = true
[resolver]
root-hints = "hints"
allow-private-servers = true
upstream-port = 9
ipv6 = false
[log]
format = "json"
[policy]
timeout = "2s"
[policy.overrides]
"override.example" = "encrypt"
[maps.strict]
strict-testing = true
"#;

const HINTS: &str = ". 3600 IN NS ns.root.\nns.root. 3600 IN A 127.0.0.1\n";

pub(super) fn directory_with(config: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("postseal.toml"), config).expect("written");
    std::fs::write(directory.path().join("hints"), HINTS).expect("written");
    directory
}

pub(super) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["--config", "postseal.toml"]).args(arguments).current_dir(directory).env_clear();
    command
}

pub(super) fn run(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().expect("ran")
}

/// Runs a command that is expected to fail; one that does not is ended after 10 s.
fn run_for_10_s(directory: &Path, argument: &str) -> (bool, String) {
    run_in_for_10_s(&mut command(directory, &[argument]))
}

/// Likewise, with what the test added to it.
fn run_in_for_10_s(command: &mut Command) -> (bool, String) {
    let mut process = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("started");
    let started = Instant::now();
    while process.try_wait().expect("a child").is_none() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = process.kill();
    let output = process.wait_with_output().expect("ended");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Daemon {
    pub(super) fn start() -> Self {
        Self::start_in(directory_with(CONFIG))
    }

    pub(super) fn start_in(directory: TempDir) -> Self {
        let mut process = command(directory.path(), &[]).stderr(Stdio::piped()).spawn().expect("started");
        let log = BufReader::new(process.stderr.take().expect("piped"));
        Self { directory, process, log }
    }

    /// Waits for a log line with this message and gives its `address`, if it has one.
    pub(super) fn wait_for(&mut self, message: &str) -> String {
        self.wait_for_line(message)["address"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a log line, of whatever format, with this in it.
    pub(super) fn wait_for_text(&mut self, part: &str) -> String {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).expect("log"), 0, "ended before \"{part}\"");
        }
        line
    }

    /// Waits for a log line with this message.
    pub(super) fn wait_for_line(&mut self, message: &str) -> serde_json::Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).expect("log"), 0, "ended before \"{message}\"");
            let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if event["message"].as_str().is_some_and(|text| text.contains(message)) {
                return event;
            }
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn ask(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.path("map.sock")).expect("connected");
        write!(stream, "{}:{request},", request.len()).expect("sent");
        let mut reply = vec![0; 4096];
        let length = stream.read(&mut reply).expect("a reply");
        let text = String::from_utf8_lossy(&reply[..length]).into_owned();
        let (_, text) = text.split_once(':').expect("a netstring");
        text.trim_end_matches(',').to_owned()
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }

    pub(super) fn stop(mut self) -> (bool, Duration) {
        let asked = Instant::now();
        self.signal("TERM");
        let status = self.process.wait().expect("ended");
        (status.success(), asked.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed assertion; otherwise it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut response = String::new();
    stream.take(1 << 20).read_to_string(&mut response).expect("a response");
    response
}

#[test]
fn each_kind_of_key_and_map_gets_its_answer_without_a_network() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let long = format!("QUERY {}", "a".repeat(300));
    for (request, reply) in [
        ("QUERY .example.com", "NOTFOUND "),
        ("QUERY [192.0.2.1]", "NOTFOUND "),
        ("QUERY [2001:db8::1]:25", "NOTFOUND "),
        ("QUERY 192.0.2.1", "NOTFOUND "),
        ("QUERY ", "NOTFOUND "),
        ("QUERY", "NOTFOUND "),
        ("QUERY a b", "NOTFOUND "),
        (long.as_str(), "NOTFOUND "),
        ("QUERYwithTLSRPT .x", "NOTFOUND "),
        ("postfix .x", "NOTFOUND "),
        ("query .x", "NOTFOUND "),
        ("strict .x", "NOTFOUND "),
        ("Strict .x", "PERM unknown map \"Strict\""),
        ("OTHER example.com", "PERM unknown map \"OTHER\""),
        ("QUERY override.example", "OK encrypt"),
        ("QUERY OVERRIDE.example.", "OK encrypt"),
    ] {
        assert_eq!(daemon.ask(request), reply, "{request}");
    }
    let unreachable = daemon.ask("QUERY example.com");
    assert!(unreachable.starts_with("TEMP example.com: "), "{unreachable}");
    assert!(daemon.stop().0);
}

#[test]
fn pages_are_served_on_their_port_and_metrics_also_on_the_socketmap_port() {
    let mut daemon = Daemon::start();
    let socketmap = loop {
        let address = daemon.wait_for("socketmap listening");
        if !address.starts_with("unix:") {
            break address;
        }
    };
    let http = daemon.wait_for("http listening");
    daemon.wait_for("ready");
    assert_eq!(daemon.ask("QUERY override.example"), "OK encrypt");
    for address in [&http, &socketmap] {
        let metrics = get(address, "/metrics");
        assert!(metrics.contains("postseal_queries_total{map=\"QUERY\",answer=\"override\"} 1\n"), "{metrics}");
        assert!(metrics.contains("postseal_build_info{version="), "{metrics}");
        assert!(metrics.contains("postfix_tlspol_queries_total 1\n"), "{metrics}");
        assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
    }
    assert!(get(&http, "/livez").starts_with("HTTP/1.1 200 "));
    assert!(get(&http, "/readyz").starts_with("HTTP/1.1 503 "), "the root cannot be reached");
    assert!(get(&socketmap, "/livez").starts_with("HTTP/1.1 404 "));
    assert!(!run(daemon.directory.path(), &["healthcheck"]).status.success());
    assert!(daemon.stop().0);
}

#[test]
fn the_first_answer_without_network_comes_within_100_ms_and_the_end_within_10_s() {
    // Without optimisation the store takes longer to make; the gate measures the optimised binary.
    const GOAL: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 100 });
    // The best of some: other tests share this machine.
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        let mut daemon = Daemon::start();
        daemon.wait_for("ready");
        assert_eq!(daemon.ask("QUERY [192.0.2.1]"), "NOTFOUND ");
        best = best.min(started.elapsed());
        let mut waiting = UnixStream::connect(daemon.path("map.sock")).expect("connected");
        waiting.write_all(b"17:QUERY example.com,").expect("sent");
        let (success, end) = daemon.stop();
        assert!(success && end < Duration::from_secs(10), "{end:?}");
        if best < GOAL {
            return;
        }
    }
    panic!("{best:?}");
}

#[test]
fn sighup_reloads_overrides_and_maps_and_a_bad_file_changes_nothing() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let file = daemon.path("postseal.toml");
    let changed = CONFIG.replace("\"encrypt\"", "\"may\"").replace("[maps.strict]", "[maps.other]");
    std::fs::write(&file, changed).expect("written");
    daemon.signal("HUP");
    daemon.wait_for("reloaded");
    assert_eq!(daemon.ask("QUERY override.example"), "OK may");
    assert_eq!(daemon.ask("other .x"), "NOTFOUND ");
    assert_eq!(daemon.ask("strict .x"), "PERM unknown map \"strict\"");
    std::fs::write(&file, "[policy.overrides]\n\"override.example\" = \"nonsense\"").expect("written");
    daemon.signal("HUP");
    daemon.wait_for("nothing changed");
    assert_eq!(daemon.ask("QUERY override.example"), "OK may");
    assert!(daemon.stop().0);
}

#[test]
fn sighup_names_each_changed_key_that_needs_a_restart() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let file = daemon.path("postseal.toml");
    let changed = CONFIG.replace("timeout = \"2s\"", "timeout = \"3s\"").replace("ipv6 = false", "ipv6 = true");
    std::fs::write(&file, changed.replace("\"encrypt\"", "\"may\"")).expect("written");
    daemon.signal("HUP");
    for key in ["policy.timeout", "resolver.ipv6"] {
        let line = daemon.wait_for_line("needs a restart");
        assert_eq!((&line["level"], &line["key"]), (&"WARN".into(), &key.into()), "{line}");
        assert!(line["message"].as_str().is_some_and(|text| text.contains(key)), "{line}");
    }
    daemon.wait_for("reloaded");
    assert_eq!(daemon.ask("QUERY override.example"), "OK may", "the rest is taken over");
    // As it was: nothing to say.
    std::fs::write(&file, CONFIG).expect("written");
    daemon.signal("HUP");
    let line = daemon.wait_for_line("re");
    assert!(line["message"].as_str().is_some_and(|text| text.starts_with("reloaded")), "{line}");
    assert!(daemon.stop().0);
}

#[test]
fn sigterm_gives_every_complete_request_a_reply_and_temp_where_the_lookup_is_not_done() {
    // Servers that never answer: this lookup would take all of `policy.timeout`.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = silent.local_addr().expect("an address").port();
    let config = CONFIG.replace("upstream-port = 9", &format!("upstream-port = {port}"));
    let mut daemon = Daemon::start_in(directory_with(&config.replace("timeout = \"2s\"", "timeout = \"20s\"")));
    daemon.wait_for("ready");
    let mut waiting = UnixStream::connect(daemon.path("map.sock")).expect("connected");
    let frame = |text: &str| format!("{}:{text},", text.len());
    let requests = ["QUERY hangs.example", "QUERY override.example", "QUERY .x"].map(frame).concat();
    waiting.write_all((requests + "30:QUERY half").as_bytes()).expect("sent");
    assert_eq!(daemon.ask("QUERY override.example"), "OK encrypt");
    let (success, end) = daemon.stop();
    let mut replies = String::new();
    waiting.read_to_string(&mut replies).expect("replies");
    let late = "TEMP hangs.example: postseal is stopping, the lookup was not done in time";
    assert_eq!(replies, [late, "OK encrypt", "NOTFOUND "].map(frame).concat());
    assert!(success && end < Duration::from_secs(12), "{end:?}");
}

#[test]
fn query_asks_the_daemon_or_looks_up_by_itself() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let directory = daemon.directory.path();
    let output = run(directory, &["query", "override.example"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("answer   OK encrypt") && text.contains("by policy.overrides"), "{text}");
    let output = run(directory, &["query", "--direct", "--json", "override.example"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["answer"], "OK encrypt");
    let output = run(directory, &["query", "--map", "nomap", "example.com"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no map named nomap"));
    // No next hop: what Postfix is told, and why beside it.
    for direct in [&["query", "[192.0.2.1]"][..], &["query", "--direct", "[192.0.2.1]"]] {
        let output = run(directory, direct);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("answer   NOTFOUND\n"), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("an address, not a name"), "{output:?}");
    }
    let output = run(directory, &["status"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["not ready: validated root keys", ". 20326 (algorithm 8) valid", ". 38696 (algorithm 8) valid"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(daemon.path("state/control.socket")).expect("there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let directory = directory_with(CONFIG);
    let output = run(directory.path(), &["query", "example.com"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is postseal running"));
    assert!(daemon.stop().0);
}

#[test]
fn query_asks_a_server_over_tcp_as_postfix_does() {
    let mut daemon = Daemon::start();
    let address = loop {
        let address = daemon.wait_for("socketmap listening");
        if !address.starts_with("unix:") {
            break address;
        }
    };
    daemon.wait_for("ready");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let ask = |arguments: &[&str]| {
        let mut query = Command::new(BINARY);
        query.args(["query", "--server", &address]).args(arguments).current_dir(elsewhere.path()).env_clear();
        let output = query.output().expect("ran");
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    assert_eq!(ask(&["override.example"]), (Some(0), "OK encrypt\n".into()));
    assert_eq!(ask(&["[192.0.2.1]"]), (Some(3), "NOTFOUND\n".into()));
    assert_eq!(ask(&["[192.0.2.1]", "--answered"]), (Some(0), "NOTFOUND\n".into()));
    assert_eq!(ask(&["x.example", "--map", "no"]), (Some(1), "postseal: PERM unknown map \"no\"\n".into()));
    let (code, text) = ask(&["override.example", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &json["answer"], &json["map"]), (Some(0), &"OK encrypt".into(), &"QUERY".into()));
    let (code, text) = ask(&["example.com"]);
    assert!(code == Some(1) && text.starts_with("postseal: TEMP example.com: "), "{text}");
    let (code, text) = ask(&["example.com", "--answered", "--json"]);
    assert!(code == Some(1) && text.contains("\"TEMP example.com: "), "{text}");
    assert!(daemon.stop().0);
    let (code, text) = ask(&["override.example"]);
    assert!(code == Some(1) && text.starts_with(&format!("postseal: {address}: ")), "{text}");
}

#[test]
fn sockets_from_systemd_go_to_the_service_that_they_are_named_for() {
    let directory = directory_with("state-dir = \"state\"\n[http]\nlisten = []\n[log]\nformat = \"json\"\n");
    let sockets = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("bound"));
    let [socketmap, dns] = sockets.each_ref().map(|socket| socket.local_addr().expect("an address").to_string());
    let [first, second] = sockets.map(|socket| Stdio::from(std::os::fd::OwnedFd::from(socket)));
    // The shell puts them where systemd does: from descriptor 3 on, in a process that knows its own number.
    let script = r#"exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec "$0" --config postseal.toml"#;
    let process = Command::new("sh")
        .args(["-c", script, BINARY])
        .current_dir(directory.path())
        .env_clear()
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "socketmap:dns")
        .stdin(first)
        .stdout(second)
        .stderr(Stdio::piped())
        .spawn();
    let mut process = process.expect("started");
    let log = BufReader::new(process.stderr.take().expect("piped"));
    let mut daemon = Daemon { directory, process, log };
    assert_eq!(daemon.wait_for("socketmap listening"), socketmap);
    assert_eq!(daemon.wait_for("dns listening"), dns);
    daemon.wait_for("ready");
    let reply = run(daemon.directory.path(), &["query", "--server", &socketmap, "[192.0.2.1]"]);
    assert_eq!(reply.stdout, b"NOTFOUND\n");
    assert!(daemon.stop().0);
}

#[test]
fn check_config_prints_values_and_origins_and_refuses_what_serve_would() {
    let directory = directory_with(CONFIG);
    let mut check = command(directory.path(), &["--set", "cache.prefetch=false", "check-config"]);
    let output = check.env("POSTSEAL_LOG__LEVEL", "debug").output().expect("ran");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "level = \"debug\" # POSTSEAL_LOG__LEVEL",
        "timeout = \"2s\" # postseal.toml",
        "prefetch = false # flag --set cache.prefetch",
        "reuse-port = false # default",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    for (config, part) in [
        ("[socketmap]\nlissten = []", "did you mean `socketmap.listen`?"),
        ("[resolver]\ntrust-anchors = \"missing.key\"", "missing.key"),
        ("[resolver]\nroot-hints = \"postseal.toml\"", "postseal.toml"),
        ("[mta-sts]\nca-file = \"hints\"", "no usable CA certificate"),
        ("[policy.overrides]\n\"a.example\" = \"secure policy_type=sts\"", "needs `policy_domain`"),
        ("[policy.overrides]\n\"a.example\" = \"encrypt protocols=foo\"", "`protocols`: invalid value"),
    ] {
        let directory = directory_with(&format!("state-dir = \"state\"\n{config}"));
        for command in ["check-config", "serve"] {
            let (success, text) = run_for_10_s(directory.path(), command);
            assert!(!success && text.contains(part), "{command}: {text}");
        }
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_unless_everything_is_reached_without_it() {
    let directory = directory_with(CONFIG);
    for proxy in ["socks5://proxy.example:1080", "https://proxy.example:3128", "http://proxy.example:port", "http://"] {
        for variable in ["HTTPS_PROXY", "https_proxy"] {
            for argument in ["check-config", "serve"] {
                for no_proxy in ["", "mta-sts.example.com, .example.net"] {
                    let mut command = command(directory.path(), &[argument]);
                    let (success, text) = run_in_for_10_s(command.env(variable, proxy).env("NO_PROXY", no_proxy));
                    assert!(!success && text.contains("HTTPS_PROXY"), "{argument}, {proxy}, {no_proxy:?}: {text}");
                }
            }
            let mut command = command(directory.path(), &["check-config"]);
            let (success, text) = run_in_for_10_s(command.env(variable, proxy).env("NO_PROXY", "*"));
            assert!(success, "{proxy}: {text}");
        }
    }
    let mut command = command(directory.path(), &["check-config"]);
    assert!(run_in_for_10_s(command.env("HTTPS_PROXY", "http://proxy.example:3128")).0);
}

#[test]
fn nothing_but_dns_may_be_listened_on() {
    let directory = directory_with(
        "state-dir = \"state\"\n[socketmap]\nlisten = []\n[http]\nlisten = []\n[dns]\nlisten = [\"127.0.0.1:0\"]\n\
         allow = [\"0.0.0.0/0\", \"::/0\"]\n[resolver]\nroot-hints = \"hints\"\nallow-private-servers = true\n\
         [log]\nformat = \"json\"\n",
    );
    let mut process = command(directory.path(), &["serve"]).stderr(Stdio::piped()).spawn().expect("started");
    let log = BufReader::new(process.stderr.take().expect("piped"));
    let mut daemon = Daemon { directory, process, log };
    assert!(daemon.wait_for("dns listening").starts_with("127.0.0.1:"));
    daemon.wait_for("ready");
    assert!(daemon.stop().0);
}

#[test]
fn names_of_this_host_are_answered_over_udp_and_tcp_without_a_network() {
    let directory = directory_with(
        "state-dir = \"state\"\n[socketmap]\nlisten = []\n[http]\nlisten = []\n[dns]\nlisten = [\"127.0.0.1:0\"]\n\
         [resolver]\nroot-hints = \"hints\"\nallow-private-servers = true\n[log]\nformat = \"json\"\n",
    );
    let mut process = command(directory.path(), &["serve"]).stderr(Stdio::piped()).spawn().expect("started");
    let log = BufReader::new(process.stderr.take().expect("piped"));
    let mut daemon = Daemon { directory, process, log };
    let address = daemon.wait_for("dns listening");
    daemon.wait_for("ready");
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01";
    let (header, end) = (b"\x12\x34\x81\x80\0\x01\0\x01", [127, 0, 0, 1]);
    let mut answer = [0; 512];
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(&address).expect("connected");
    socket.send(query).expect("sent");
    let length = socket.recv(&mut answer).expect("an answer");
    assert!(answer[..length].starts_with(header) && answer[..length].ends_with(&end));
    let mut stream = TcpStream::connect(&address).expect("connected");
    stream.write_all(&[&[0, query.len() as u8], &query[..]].concat()).expect("sent");
    let mut prefix = [0; 2];
    stream.read_exact(&mut prefix).expect("a length");
    assert_eq!(usize::from(u16::from_be_bytes(prefix)), length);
    stream.read_exact(&mut answer[..length]).expect("an answer");
    assert!(answer[..length].starts_with(header) && answer[..length].ends_with(&end));
    assert!(daemon.stop().0);
}
