//! The real binary, killed at random moments under load: whatever it had answered as `secure` it answers again
//! after the restart, with DNS and HTTPS cut off.
//!
//! `POSTSEAL_CRASH_ROUNDS` sets how many kills; a few by default.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postseal::clock::Clock;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::support::https::{PolicyHosts, Script};
use super::support::mail::{domain, foundation, host};
use super::support::policy_lab::enforce;
use super::support::serve::Served;
use super::support::world::World;

/// Mail domains of the world; the state directory starts anew when all were asked for.
const DOMAINS: usize = 120;
/// Connections of the load.
const CLIENTS: usize = 8;
/// A port nothing listens on.
const NOWHERE: u16 = 9;

fn name(n: usize) -> String {
    format!("crash{n}.com")
}

/// The world's servers, or none, as a configuration file.
fn configure(directory: &Path, dns: u16, https: u16) {
    let config = format!(
        "state-dir = \"state\"\n[socketmap]\nlisten = [\"unix:map.sock\"]\n[http]\nlisten = []\n\
         [resolver]\nroot-hints = \"hints\"\ntrust-anchors = \"anchors\"\nallow-private-servers = true\n\
         upstream-port = {dns}\nipv6 = false\n\
         [mta-sts]\nca-file = \"ca.pem\"\nport = {https}\nallow-private-addresses = true\n\
         [policy]\ntimeout = \"5s\"\n[log]\nlevel = \"warn\"\n"
    );
    std::fs::write(directory.join("postseal.toml"), config).unwrap();
}

struct Daemon {
    process: Child,
    directory: std::path::PathBuf,
}

impl Daemon {
    /// Started, and its socket open.
    fn start(directory: &Path) -> Self {
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

    fn connect(&self) -> Option<UnixStream> {
        UnixStream::connect(self.directory.join("map.sock")).ok()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap()
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One lookup; nothing where the daemon is gone.
fn ask(stream: &mut UnixStream, domain: &str) -> Option<String> {
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

/// Asks for `wanted` on several connections until it is killed; what was answered as `secure` goes to `secure`.
fn load_until_killed(daemon: Daemon, wanted: Vec<usize>, secure: &Arc<Mutex<BTreeSet<usize>>>, after: Duration) {
    let wanted = Arc::new(Mutex::new(wanted));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut stream, wanted, secure) = (daemon.connect().unwrap(), wanted.clone(), secure.clone());
            std::thread::spawn(move || {
                loop {
                    let Some(n) = wanted.lock().unwrap().pop() else { break };
                    match ask(&mut stream, &name(n)) {
                        Some(reply) if reply.starts_with("OK secure ") => drop(secure.lock().unwrap().insert(n)),
                        Some(reply) => panic!("{}: {reply}", name(n)),
                        None => break,
                    }
                }
                let _ = stream.shutdown(Shutdown::Both);
            })
        })
        .collect();
    std::thread::sleep(after);
    daemon.kill();
    for client in clients {
        client.join().unwrap();
    }
}

fn anchors(world: &World) -> String {
    let mut text = String::new();
    for ds in world.anchor(".") {
        let tag = u16::from_be_bytes([ds[0], ds[1]]);
        let _ = write!(text, ". 3600 IN DS {tag} {} {} ", ds[2], ds[3]);
        ds[4..].iter().for_each(|octet| _ = write!(text, "{octet:02x}"));
        text.push('\n');
    }
    text
}

fn hints(world: &World) -> String {
    let lines = world.hints().into_iter().filter(|(_, address)| address.is_ipv4());
    lines.map(|(name, address)| format!(". 3600 IN NS {name}\n{name} 3600 IN A {address}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_secure_is_secure_after_every_kill_without_dns_and_https() {
    let mut zones = foundation();
    zones.extend((0..DOMAINS).map(|n| {
        domain(&name(n), false, &[host::NONE]).records("_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 127.0.0.1")
    }));
    let world = Arc::new(World::build(Clock::system().wall(), zones));
    let served = Served::start(world.clone()).await;
    let hosts = PolicyHosts::start().await;
    (0..DOMAINS).for_each(|n| hosts.set(&name(n), Script::policy(&enforce(&["*.hosts.net"]))));
    let (dns, https, ca) = (served.port, hosts.address.port(), hosts.ca_pem());
    tokio::task::spawn_blocking(move || kill_again_and_again(&world, dns, https, &ca)).await.unwrap();
    drop((served, hosts));
}

fn kill_again_and_again(world: &World, dns: u16, https: u16, ca: &str) {
    let rounds = std::env::var("POSTSEAL_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let fresh = || {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("hints"), hints(world)).unwrap();
        std::fs::write(directory.path().join("anchors"), anchors(world)).unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca).unwrap();
        (directory, Arc::new(Mutex::new(BTreeSet::new())))
    };
    let (mut directory, mut secure) = fresh();
    let (mut kills_under_load, mut checked) = (0, 0);
    for round in 0..rounds {
        let path = directory.path();
        configure(path, dns, https);
        let mut wanted: Vec<usize> = (0..DOMAINS).filter(|n| !secure.lock().unwrap().contains(n)).collect();
        let before = DOMAINS - wanted.len();
        wanted.shuffle(&mut rand::rng());
        let after = Duration::from_millis(rand::rng().random_range(20..900));
        load_until_killed(Daemon::start(path), wanted, &secure, after);
        let known: Vec<usize> = secure.lock().unwrap().iter().copied().collect();
        kills_under_load += usize::from(known.len() > before && known.len() < DOMAINS);

        configure(path, NOWHERE, NOWHERE);
        let daemon = Daemon::start(path);
        let mut stream = daemon.connect().unwrap();
        for n in &known {
            let reply = ask(&mut stream, &name(*n)).unwrap_or_default();
            let log = || daemon.log();
            assert!(reply.starts_with("OK secure "), "round {round}, {}: {reply}\n{}", name(*n), log());
        }
        checked += known.len();
        assert!(!daemon.log().contains("lost"), "{}", daemon.log());
        daemon.kill();
        if known.len() == DOMAINS {
            (directory, secure) = fresh();
        }
    }
    println!("{rounds} kills, {kills_under_load} of them while answers were being stored, {checked} policies checked");
    assert!(checked > 0, "nothing was ever answered");
}
