//! Somebody off the path who guesses: a thread that floods the resolver's own sockets with answers in the name of the
//! servers that it asks. It sees no packet, but it knows every question, and even the ports; what it has to guess is the id,
//! the letters' case and the cookie (RFC 5452, RFC 7873).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType::A;
use postseal::resolver::message::Query;
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, hickory};
use crate::support::zone::Zone;

const FORGED: [u8; 4] = [203, 0, 113, 66];
/// How late servers answer: the forger's time.
const LATE: Duration = Duration::from_millis(60);
/// Generous: a lookup takes three exchanges, and repeats some of them over TCP.
const PROMPT: Duration = Duration::from_secs(8);
const NAMES: usize = 30;

fn name(index: usize) -> String {
    format!("host{index}.plain.com")
}

/// A forged answer for this name, but for its id.
fn forged(name: &str) -> Vec<u8> {
    let mut octets = Query { name: hickory(name), rtype: A, recursion_desired: false, edns: None }.encode(0);
    octets[2] |= 0x84;
    octets[7] = 1;
    octets.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
    octets.extend(FORGED);
    octets
}

/// Local ports of sockets of this host that are connected to `server`, as the kernel lists them (proc(5)).
fn ports_towards(server: SocketAddr) -> Vec<u16> {
    let IpAddr::V4(ip) = server.ip() else { return Vec::new() };
    let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(ip.octets()), server.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let lines = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, to) = (fields.next()?, fields.next()?);
        (to == remote).then(|| u16::from_str_radix(local.split_once(':')?.1, 16).ok())?
    });
    lines.collect()
}

/// Guesses until it is told to stop.
fn guess(socket: &UdpSocket, current: &AtomicUsize, stop: &AtomicBool, hits: &AtomicUsize) {
    let server = socket.local_addr().unwrap();
    while !stop.load(Ordering::Relaxed) {
        let mut answer = forged(&name(current.load(Ordering::Relaxed)));
        let mut ports = ports_towards(server);
        hits.fetch_add(ports.len(), Ordering::Relaxed);
        // Most forgers do not know them.
        ports.extend((0..8).map(|_| rand::random_range(1_024..=u16::MAX)));
        for port in ports {
            for _ in 0..50 {
                answer[..2].copy_from_slice(&rand::random::<u16>().to_be_bytes());
                // What the kernel has no room for is lost, as elsewhere.
                let _ = socket.send_to(&answer, (Ipv4Addr::LOCALHOST, port));
            }
        }
    }
}

#[tokio::test]
async fn a_flood_of_guesses_changes_no_answer_and_delays_none_for_long() {
    let records: String = (0..NAMES).map(|index| format!("host{index} A 192.0.2.{}\n", index + 1)).collect();
    let lab = Lab::on_sockets(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        // Unsigned: nothing but the guessing protects it.
        Zone::new("plain.com").records(&records),
    ])
    .await;
    lab.world.inject(On::zone("plain.com").udp(), Fault::Late(LATE));
    let server = lab.world.servers_of("plain.com")[0];
    let socket = lab.served.as_ref().unwrap().socket_of(server);
    let (current, stop, hits) =
        (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let forger = {
        let (current, stop, hits) = (current.clone(), stop.clone(), hits.clone());
        std::thread::spawn(move || guess(&socket, &current, &stop, &hits))
    };
    let mut longest = Duration::ZERO;
    for index in 0..NAMES {
        current.store(index, Ordering::Relaxed);
        let begun = Instant::now();
        let answer = lab.lookup(&name(index), A).await.unwrap_or_else(|failure| panic!("{index}: {failure}"));
        let took = begun.elapsed();
        assert_eq!(answer.records()[0].to_string(), format!("192.0.2.{}", index + 1));
        assert!(took < PROMPT, "{index}: {took:?}");
        longest = longest.max(took);
    }
    stop.store(true, Ordering::Relaxed);
    forger.join().unwrap();
    eprintln!("longest lookup {longest:?}, {} sockets were found", hits.load(Ordering::Relaxed));
    // It did reach them: those that were guessed at so often went over to TCP.
    assert!(hits.load(Ordering::Relaxed) > 0);
    assert!(lab.world.asked().iter().any(|asked| asked.tcp && asked.server == server), "no guess arrived");
    // And what was learnt of the server meanwhile is no worse for it: mixed case and cookies are asked with still.
    lab.world.heal();
    assert_eq!(lab.verdict("none.plain.com", A).await, "insecure nxdomain");
}
