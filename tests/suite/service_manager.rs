//! What systemd is told (sd_notify(3)), by the real binary over a real socket.

use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postseal::clock::Instant;
use tempfile::TempDir;

struct Service {
    manager: UnixDatagram,
    process: Child,
    _directory: TempDir,
}

impl Service {
    /// Starts postseal as systemd would, with a watchdog of one second.
    fn start() -> Self {
        Self::start_with(|command| command.stderr(Stdio::null()))
    }

    fn start_with(also: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("hints"), ". 3600 IN NS ns.root.\nns.root. 3600 IN A 127.0.0.1\n").expect("written");
        let config = "state-dir = \"state\"\n[socketmap]\nlisten = [\"unix:map.sock\"]\n[http]\nlisten = []\n[resolver]\n\
                      root-hints = \"hints\"\nallow-private-servers = true\nupstream-port = 9\nipv6 = false\n";
        std::fs::write(at("postseal.toml"), config).expect("written");
        let manager = UnixDatagram::bind(at("notify")).expect("bound");
        manager.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut command = Command::new(env!("CARGO_BIN_EXE_postseal"));
        command
            .args(["--config", "postseal.toml"])
            .current_dir(directory.path())
            .env_clear()
            .env("NOTIFY_SOCKET", at("notify"))
            .env("WATCHDOG_USEC", "1000000");
        let process = also(&mut command).spawn().expect("started");
        Self { manager, process, _directory: directory }
    }

    /// The next state that is no sign of life, and the signs of life before it.
    fn next(&self) -> (String, usize) {
        let mut buffer = [0; 200];
        let mut signs = 0;
        loop {
            let length = self.manager.recv(&mut buffer).expect("a state");
            match &buffer[..length] {
                b"WATCHDOG=1" => signs += 1,
                state => return (String::from_utf8(state.to_vec()).expect("text"), signs),
            }
        }
    }

    /// How long it takes for four signs of life to come.
    fn four_signs(&self) -> Duration {
        let begun = Instant::now();
        let mut buffer = [0; 200];
        for _ in 0..4 {
            let length = self.manager.recv(&mut buffer).expect("a sign of life");
            assert_eq!(&buffer[..length], b"WATCHDOG=1");
        }
        begun.elapsed()
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_manager_hears_of_start_reload_life_and_end() {
    let mut service = Service::start();
    assert_eq!(service.next().0, "READY=1");
    // The slowest of some: on a busy machine signs pile up until this thread, or the one that gives them, runs again.
    let slowest = (0..10).map(|_| service.four_signs()).find(|span| *span >= Duration::from_millis(1_400));
    assert!(slowest.is_some(), "four signs span three half seconds");
    service.signal("HUP");
    let (reloading, _) = service.next();
    let monotonic = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a reload");
    assert!(monotonic.parse::<u64>().expect("microseconds") > 0, "{reloading}");
    assert_eq!(service.next().0, "READY=1");
    service.signal("TERM");
    assert_eq!(service.next().0, "STOPPING=1");
    assert!(service.process.wait().expect("ended").success());
}

/// The first line of the log, where standard error is the journal's socket (systemd.exec(5), `JOURNAL_STREAM`).
fn first_line_in_the_journal(json: bool) -> String {
    let (journal, stderr) = UnixStream::pair().expect("a pair");
    journal.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let stderr = OwnedFd::from(stderr);
    let stat = rustix::fs::fstat(&stderr).expect("a socket has an inode");
    let _service = Service::start_with(|command| {
        command
            .env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino))
            .env("POSTSEAL_LOG__FORMAT", if json { "json" } else { "text" })
            .stderr(stderr)
    });
    let mut line = String::new();
    BufReader::new(journal).read_line(&mut line).expect("a line");
    line
}

#[test]
fn the_journal_gets_priorities_and_neither_a_second_time_nor_colours() {
    let text = first_line_in_the_journal(false);
    let rest = text.strip_prefix("<6>").or_else(|| text.strip_prefix("<4>")).expect(&text);
    let level = rest.trim_start();
    assert!(level.starts_with("INFO") || level.starts_with("WARN"), "no time stands before the level: {text}");
    assert!(!text.contains('\u{1b}'), "{text}");

    let json = first_line_in_the_journal(true);
    let object = json.strip_prefix("<6>").or_else(|| json.strip_prefix("<4>")).expect(&json);
    let object: serde_json::Value = serde_json::from_str(object).expect("an object");
    assert!(object.get("timestamp").is_some(), "{json}");
}
