//! An internet to resolve in: the test world of `tests/suite/support`, served so cheaply that it is not what is measured.
//!
//! A thread for each server address. The first time a question comes the world makes and signs the answer; from then on
//! it is a look into a table. So a first pass with any resolver makes the table, and is not to be measured.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use clap::Args;
use postseal::clock::Clock;

use super::support::world::{Action, World};
use super::support::zone::{Denial, Zone};

#[derive(Args)]
pub struct Settings {
    /// Where `hints`, `anchors` and a configuration for postseal are written.
    directory: PathBuf,
    /// Domains: `d0.com`, `d1.com`, … with DANE.
    #[arg(long, default_value_t = 2_000)]
    domains: usize,
    /// Every answer comes so many milliseconds late.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Port of all servers; 0 takes any. Other resolvers want 53.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// DNSSEC algorithm of the domains: 8, 10, 13, 14 or 15.
    #[arg(long, default_value_t = 13)]
    algorithm: u8,
}

/// Addresses that share the domains among them.
const HOSTERS: usize = 4;
/// Longest query that is read.
const QUERY: usize = 1232;
/// Stands in the table where each asker's cookie comes in.
const COOKIE: [u8; 8] = [0xc0, 0x0c, 0x1e, 0x5e, 0xa1, 0x0f, 0x0f, 0x5e];

pub fn run(settings: &Settings) -> ExitCode {
    let world = Arc::new(World::build(Clock::system().wall(), zones(settings)));
    let delay = Duration::from_millis(settings.delay);
    let asked: &'static AtomicU64 = Box::leak(Box::default());
    let port = serve(&world, settings.port, delay, asked);
    describe(&settings.directory, &world, port);
    println!("port {port}");
    io::stdout().flush().unwrap();
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        println!("{}", asked.swap(0, Ordering::Relaxed));
        io::stdout().flush().unwrap();
    }
    ExitCode::SUCCESS
}

fn zones(settings: &Settings) -> Vec<Zone> {
    let mut zones =
        vec![Zone::new(".").signed(8).servers(2), Zone::new("com").signed(13).denial(Denial::opt_out()).servers(2)];
    let tlsa = "0".repeat(64);
    let records = format!("@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 {tlsa}");
    zones.extend((0..settings.domains).map(|n| {
        let name = format!("d{n}.com");
        let hoster = IpAddr::from([127, 53, 1, 1 + (n % HOSTERS) as u8]);
        let zone = Zone::new(&name).signed(settings.algorithm).records(&records);
        zone.nameserver(&format!("ns1.{name}"), &[hoster])
    }));
    zones
}

/// Hints and anchors as files, and a configuration that uses them.
fn describe(directory: &Path, world: &World, port: u16) {
    std::fs::create_dir_all(directory).unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    let (mut hints, mut anchors) = (String::new(), String::new());
    for (name, address) in world.hints() {
        writeln!(hints, ". 3600 IN NS {name}\n{name} 3600 IN A {address}").unwrap();
    }
    for ds in world.anchor(".") {
        let tag = u16::from_be_bytes([ds[0], ds[1]]);
        writeln!(anchors, ". IN DS {tag} {} {} {}", ds[2], ds[3], data_encoding::HEXUPPER.encode(&ds[4..])).unwrap();
    }
    write("hints", &hints);
    write("anchors", &anchors);
    let configuration = format!(
        "state-dir = \"state\"\n[socketmap]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = []\n[resolver]\n\
         root-hints = \"hints\"\ntrust-anchors = \"anchors\"\nallow-private-servers = true\nupstream-port = {port}\n\
         ipv6 = false\n[log]\nlevel = \"warn\"\n"
    );
    write("postseal.toml", &configuration);
}

/// Binds all servers to one port and serves from threads; returns the port.
fn serve(world: &Arc<World>, wanted: u16, delay: Duration, asked: &'static AtomicU64) -> u16 {
    for _ in 0..100 {
        let mut port = wanted;
        let mut bind = |address: IpAddr| {
            let tcp = TcpListener::bind((address, port))?;
            port = tcp.local_addr()?.port();
            Ok((address, UdpSocket::bind((address, port))?, tcp))
        };
        let bound: io::Result<Vec<_>> = world.addresses().into_iter().map(&mut bind).collect();
        let Ok(bound) = bound else { continue };
        for (address, udp, tcp) in bound {
            let (for_udp, for_tcp) = (world.clone(), world.clone());
            std::thread::spawn(move || serve_udp(&for_udp, address, &udp, delay, asked));
            std::thread::spawn(move || serve_tcp(&for_tcp, address, &tcp, delay, asked));
        }
        return port;
    }
    panic!("port {wanted} is not free on all addresses of the world");
}

fn serve_udp(world: &World, address: IpAddr, socket: &UdpSocket, delay: Duration, asked: &AtomicU64) {
    let late = (!delay.is_zero()).then(|| Late::start(socket.try_clone().unwrap(), delay));
    let mut table = Table { world, address, known: HashMap::new() };
    let mut query = [0; QUERY];
    let mut answer = Vec::new();
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut query) else { continue };
        asked.fetch_add(1, Ordering::Relaxed);
        if !table.answer(&query[..length], &mut answer) {
            continue;
        }
        match &late {
            None => _ = socket.send_to(&answer, peer),
            Some(late) => late.send(answer.clone(), peer),
        }
    }
}

/// Sends everything after the same delay, on a thread of its own.
struct Late(mpsc::Sender<(Instant, Vec<u8>, SocketAddr)>, Duration);

impl Late {
    fn start(socket: UdpSocket, delay: Duration) -> Self {
        let (sender, queue) = mpsc::channel::<(Instant, Vec<u8>, SocketAddr)>();
        std::thread::spawn(move || {
            for (due, answer, peer) in queue {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let _ = socket.send_to(&answer, peer);
            }
        });
        Self(sender, delay)
    }

    fn send(&self, answer: Vec<u8>, peer: SocketAddr) {
        self.0.send((Instant::now() + self.1, answer, peer)).unwrap();
    }
}

/// Answers that were made before.
struct Table<'w> {
    world: &'w World,
    address: IpAddr,
    known: HashMap<Box<[u8]>, Made>,
}

struct Made {
    octets: Box<[u8]>,
    cookie_at: Option<usize>,
}

impl Table<'_> {
    /// Puts the answer to `query` into `answer`; false where there is none.
    fn answer(&mut self, query: &[u8], answer: &mut Vec<u8>) -> bool {
        let mut neutral = query.to_vec();
        let (name_end, cookie) = neutralise(&mut neutral);
        if !self.known.contains_key(neutral.as_slice()) {
            let Some(made) = make(self.world, self.address, &neutral) else { return false };
            self.known.insert(neutral.clone().into(), made);
        }
        let Some(made) = self.known.get(neutral.as_slice()) else { return false };
        answer.clear();
        answer.extend_from_slice(&made.octets);
        answer[..2].copy_from_slice(&query[..2]);
        // In the asker's case; all other names in the answer point here.
        answer[12..name_end].copy_from_slice(&query[12..name_end]);
        if let (Some(at), Some(cookie)) = (made.cookie_at, cookie) {
            answer[at..at + 8].copy_from_slice(&query[cookie..cookie + 8]);
        }
        true
    }
}

fn make(world: &World, address: IpAddr, neutral: &[u8]) -> Option<Made> {
    let Action::Reply(replies) = world.answer(address, neutral, false) else { return None };
    world.take_asked();
    let octets = replies.into_iter().next()?.1;
    let cookie_at = octets.windows(COOKIE.len()).rposition(|window| window == COOKIE);
    Some(Made { octets: octets.into(), cookie_at })
}

/// Takes out what differs between queries that ask the same: id, case, cookie. Returns where the question's name ends,
/// and where the client cookie stood (RFC 7873 §4, option 10 of the OPT record).
fn neutralise(query: &mut [u8]) -> (usize, Option<usize>) {
    query[..2].fill(0);
    let mut at = 12;
    while query.get(at).is_some_and(|length| *length > 0) {
        at += 1 + usize::from(query[at]);
    }
    let name_end = (at + 1).min(query.len());
    query[12..name_end].make_ascii_lowercase();
    // Type, class; the OPT record's root name, type, class, TTL and length; then its options.
    let mut option = name_end + 4 + 11;
    while option + 4 <= query.len() {
        let length = usize::from(u16::from_be_bytes([query[option + 2], query[option + 3]]));
        if query[option + 1] == 10 && option + 4 + length <= query.len() && length >= 8 {
            query[option + 4..option + 4 + length].fill(0);
            query[option + 4..option + 12].copy_from_slice(&COOKIE);
            return (name_end, Some(option + 4));
        }
        option += 4 + length;
    }
    (name_end, None)
}

fn serve_tcp(world: &Arc<World>, address: IpAddr, listener: &TcpListener, delay: Duration, asked: &'static AtomicU64) {
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let world = world.clone();
        std::thread::spawn(move || {
            // The asker hangs up when it has what it wants.
            let _ = converse(&world, address, stream, delay, asked);
        });
    }
}

fn converse(
    world: &World,
    address: IpAddr,
    mut stream: TcpStream,
    delay: Duration,
    asked: &AtomicU64,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut query)?;
        asked.fetch_add(1, Ordering::Relaxed);
        let Action::Reply(replies) = world.answer(address, &query, true) else { return Ok(()) };
        world.take_asked();
        std::thread::sleep(delay);
        for (_, octets) in replies {
            stream.write_all(&[&(octets.len() as u16).to_be_bytes(), &octets[..]].concat())?;
        }
    }
}
