//! The real binary without an async runtime of its own around it, to be killed at any moment and asked by threads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::daemon::{anchors, hints};
use super::world::World;

/// Writes down what the configuration names: the world's root servers, its trust anchor, the policy hosts' CA.
pub fn describe(directory: &Path, world: &World, ca_pem: &str) {
    std::fs::write(directory.join("hints"), hints(world)).unwrap();
    std::fs::write(directory.join("anchors"), anchors(world)).unwrap();
    std::fs::write(directory.join("ca.pem"), ca_pem).unwrap();
}

/// Runs a command of the binary against the daemon of that directory.
pub fn command(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postseal"))
        .args(["--config", "postseal.toml"])
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap()
}

/// Sends one request and reads until the daemon closes.
pub fn ask_for_all(mut stream: UnixStream, request: &str) -> String {
    write!(stream, "{}:{request},", request.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The world's servers, or none, as a configuration file.
pub fn configure(directory: &Path, dns: u16, https: u16) {
    let config = format!(
        "state-dir = \"state\"\n[socketmap]\nlisten = [\"unix:map.sock\"]\n[http]\nlisten = []\n\
         [resolver]\nroot-hints = \"hints\"\ntrust-anchors = \"anchors\"\nallow-private-servers = true\n\
         upstream-port = {dns}\nipv6 = false\n\
         [mta-sts]\nca-file = \"ca.pem\"\nport = {https}\nallow-private-addresses = true\n\
         [policy]\ntimeout = \"5s\"\n[log]\nlevel = \"warn\"\n"
    );
    std::fs::write(directory.join("postseal.toml"), config).unwrap();
}

pub struct Killable {
    process: Child,
    directory: PathBuf,
}

impl Killable {
    /// Started, and its socket open.
    pub fn start(directory: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_postseal"))
            .args(["--config", "postseal.toml"])
            .current_dir(directory)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { process, directory: directory.to_owned() };
        let started = Instant::now();
        while daemon.connect().is_none() {
            assert!(daemon.process.try_wait().unwrap().is_none(), "ended: {}", daemon.log());
            assert!(started.elapsed() < Duration::from_secs(20), "does not listen: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    pub fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.directory.join("map.sock")).ok()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One lookup; nothing where the daemon is gone.
pub fn ask(stream: &mut UnixStream, domain: &str) -> Option<String> {
    let request = format!("QUERY {domain}");
    write!(stream, "{}:{request},", request.len()).ok()?;
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        reply.extend_from_slice(&buffer[..read]);
        let text = std::str::from_utf8(&reply).ok()?;
        if let Some((length, rest)) = text.split_once(':')
            && rest.len() > length.parse::<usize>().ok()?
        {
            return Some(rest.trim_end_matches(',').to_owned());
        }
    }
}
