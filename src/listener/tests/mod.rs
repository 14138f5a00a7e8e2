//! The service over real sockets on loopback, on scripted answers.

mod bounds;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::dns::{Bogus, BoxFuture, Cause, Failure, Security};
use crate::listener::response::Transport;
use crate::listener::service::{Resolve, Service, ServiceSettings};
use crate::listener::{Sockets, run};
use crate::resolver::engine::Flags;
use crate::resolver::message::{Message, Query, Rcode};
use crate::resolver::resolution::{End, Part, Resolution};
use crate::resolver::rrset::{RrSet, Rrsig};

/// Answers by the first label of the name.
#[derive(Default)]
struct Script {
    /// `slow.` waits for this.
    slow: Arc<Notify>,
}

impl Resolve for Script {
    fn at_hand(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        (name.iter().next() == Some(b"insecure")).then(|| records(name, rtype, 1, Security::Insecure))
    }

    fn resolve<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        flags: Flags,
    ) -> BoxFuture<'a, Result<Arc<Resolution>, Failure>> {
        Box::pin(async move {
            let first = name.iter().next().unwrap_or_default();
            let resolution = match first {
                _ if rtype != RecordType::A => denial(name, End::NoData),
                _ if first.starts_with(b"root-key-sentinel-") => records(name, rtype, 1, Security::Secure),
                b"secure" => records(name, rtype, 1, Security::Secure),
                b"large" => records(name, rtype, 200, Security::Secure),
                b"insecure" => records(name, rtype, 1, Security::Insecure),
                b"absent" => denial(name, End::NxDomain),
                b"empty" => denial(name, End::NoData),
                b"slow" => {
                    self.slow.notified().await;
                    records(name, rtype, 1, Security::Insecure)
                }
                _ => {
                    let cause = Cause::Bogus(Bogus::Expired { at: 1_790_812_800, tag: 7 });
                    let failure = Failure::new(name.clone(), rtype, cause);
                    if !flags.checking_disabled {
                        return Err(failure);
                    }
                    Resolution { unchecked: Some(failure), ..records(name, rtype, 1, Security::Insecure) }
                }
            };
            Ok(Arc::new(resolution))
        })
    }

    fn trusts_root_key(&self, tag: u16) -> bool {
        tag == 20_326
    }
}

fn part(name: &Name, rtype: RecordType, rdatas: Vec<Box<[u8]>>) -> Part {
    let signature = Rrsig {
        covered: rtype,
        algorithm: 13,
        labels: name.num_labels(),
        original_ttl: 300,
        expiration: 2,
        inception: 1,
        key_tag: 7,
        signer: name.base_name(),
        signature: vec![9; 64].into(),
        ttl: 300,
    };
    let set = RrSet { name: name.clone(), rtype, ttl: 300, rdatas, sigs: vec![signature] };
    Part { set: Arc::new(set), ttl: 120 }
}

fn records(name: &Name, rtype: RecordType, count: u32, security: Security) -> Resolution {
    let rdatas = (0..count).map(|n| n.to_be_bytes().into()).collect();
    Resolution {
        end: End::Records,
        answer: vec![part(name, rtype, rdatas)],
        authority: Vec::new(),
        canonical: name.clone(),
        security,
        ttl: 120,
        unchecked: None,
    }
}

fn denial(name: &Name, end: End) -> Resolution {
    let zone = name.base_name();
    let soa = [&[0, 0][..], &[0; 20]].concat().into_boxed_slice();
    let nsec = [&[0][..], &[0, 1, 0x40]].concat().into_boxed_slice();
    let authority = vec![part(&zone, RecordType::SOA, vec![soa]), part(name, RecordType::NSEC, vec![nsec])];
    Resolution { end, answer: Vec::new(), authority, ..records(name, RecordType::A, 0, Security::Secure) }
}

/// A running service; ends when dropped or told to.
struct Running {
    address: SocketAddr,
    slow: Arc<Notify>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn allowing(range: &str) -> ServiceSettings {
    ServiceSettings { allow: vec![range.parse().expect("a range")], ..ServiceSettings::default() }
}

async fn start(allow: &str) -> Running {
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().expect("an address")]).expect("bound");
    let address = sockets.addresses()[0];
    let script = Script::default();
    let slow = Arc::clone(&script.slow);
    let service = Service::new(script, allowing(allow), Clock::system());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(run(sockets, service, async move {
        let _ = stopped.await;
    }));
    Running { address, slow, stop, task }
}

/// A query for A with RD; header flags and OPT as given.
fn query(name: &str, id: u16, edns: bool) -> Vec<u8> {
    let name = Name::from_ascii(name).expect("a name");
    let mut octets = Query { name, rtype: RecordType::A, recursion_desired: true, edns: edns.then(Box::default) };
    octets.recursion_desired = true;
    let mut octets = octets.encode(id);
    octets[3] = 0; // no CD
    octets
}

async fn udp(address: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(address).await.expect("connected");
    socket.send(query).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
    buffer.truncate(length.expect("an answer in time").expect("an answer"));
    buffer
}

async fn ask(address: SocketAddr, query: &[u8]) -> Message {
    Message::parse(&udp(address, query).await).expect("a message")
}

async fn write(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(message.len() as u16).await.expect("written");
    stream.write_all(message).await.expect("written");
}

async fn read(stream: &mut TcpStream) -> Message {
    let mut message = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
    stream.read_exact(&mut message).await.expect("a message");
    Message::parse(&message).expect("a message")
}

/// INFO-CODE of the extended error.
fn info_code(message: &Message) -> Option<u16> {
    let option = message.edns.as_ref()?.option(15)?;
    option.first_chunk().copied().map(u16::from_be_bytes)
}

#[tokio::test]
async fn ad_goes_to_those_who_understand_it_and_only_for_secure_answers() {
    let service = start("127.0.0.0/8").await;
    for (name, edns, ad_bit, expected) in [
        ("secure.example.", true, false, true),
        ("secure.example.", false, true, true),
        ("secure.example.", false, false, false),
        ("insecure.example.", true, true, false),
        ("absent.example.", true, false, true),
        ("localhost.", true, true, false),
    ] {
        let mut query = query(name, 1, edns);
        query[3] |= if ad_bit { 0x20 } else { 0 };
        let answer = ask(service.address, &query).await;
        assert_eq!(answer.authentic, expected, "{name} DO {edns} AD {ad_bit}");
        assert!(answer.recursion_available && answer.recursion_desired && answer.response && !answer.authoritative);
        assert_eq!(answer.edns.is_some(), edns, "OPT exactly where the client sent one");
    }
}

#[tokio::test]
async fn signatures_and_proofs_are_for_those_who_ask_for_them() {
    let service = start("127.0.0.0/8").await;
    let plain = ask(service.address, &query("secure.example.", 1, false)).await;
    assert!(plain.answer[0].sigs.is_empty());
    assert_eq!(plain.answer[0].ttl, 120, "the TTL that is left");
    let signed = ask(service.address, &query("secure.example.", 2, true)).await;
    assert_eq!(signed.answer[0].sigs.len(), 1);
    for (name, rcode) in [("absent.example.", Rcode::NxDomain), ("empty.example.", Rcode::NoError)] {
        let plain = ask(service.address, &query(name, 3, false)).await;
        assert_eq!(plain.rcode, rcode);
        let types = |message: &Message| message.authority.iter().map(|set| set.rtype).collect::<Vec<_>>();
        assert_eq!(types(&plain), [RecordType::SOA]);
        let signed = ask(service.address, &query(name, 4, true)).await;
        assert_eq!(types(&signed), [RecordType::SOA, RecordType::NSEC]);
    }
}

#[tokio::test]
async fn a_failure_is_servfail_with_its_reason_and_cd_gets_the_data() {
    let service = start("127.0.0.0/8").await;
    let failed = ask(service.address, &query("bogus.example.", 1, true)).await;
    assert_eq!((failed.rcode, info_code(&failed)), (Rcode::ServFail, Some(7)));
    assert!(failed.answer.is_empty() && !failed.authentic);
    let mut unchecked = query("bogus.example.", 2, true);
    unchecked[3] |= 0x10;
    let answer = ask(service.address, &unchecked).await;
    assert_eq!((answer.rcode, info_code(&answer)), (Rcode::NoError, Some(7)));
    assert!(answer.checking_disabled && !answer.authentic && !answer.answer.is_empty());
}

#[tokio::test]
async fn what_does_not_fit_the_clients_datagram_is_truncated_and_whole_over_tcp() {
    let service = start("127.0.0.0/8").await;
    let mut asked = query("large.example.", 9, true);
    let payload_at = asked.len() - 8;
    for (payload, limit) in [(100_u16, 512), (1_232, 1_232), (60_000, 4_096)] {
        asked[payload_at..payload_at + 2].copy_from_slice(&payload.to_be_bytes());
        let octets = udp(service.address, &asked).await;
        assert!(octets.len() <= limit, "{} octets", octets.len());
        let answer = Message::parse(&octets).expect("a message");
        assert_eq!(answer.truncated, limit < 4_096);
        assert_eq!(answer.answer.is_empty(), answer.truncated);
        assert!(answer.edns.is_some());
    }
    assert!(ask(service.address, &query("large.example.", 9, false)).await.truncated);
    let mut stream = TcpStream::connect(service.address).await.expect("connected");
    write(&mut stream, &query("large.example.", 9, false)).await;
    let answer = read(&mut stream).await;
    assert_eq!((answer.truncated, answer.answer[0].rdatas.len()), (false, 200));
}

#[tokio::test]
async fn queries_on_one_connection_are_answered_as_they_are_ready() {
    let service = start("127.0.0.0/8").await;
    let mut stream = TcpStream::connect(service.address).await.expect("connected");
    write(&mut stream, &query("slow.example.", 1, true)).await;
    write(&mut stream, &query("secure.example.", 2, true)).await;
    assert_eq!(read(&mut stream).await.id, 2);
    service.slow.notify_one();
    assert_eq!(read(&mut stream).await.id, 1);
    // Half of a message, then the end: the connection ends, the service does not.
    stream.write_all(&[0, 50, 1]).await.expect("written");
    stream.shutdown().await.expect("shut down");
    assert_eq!(stream.read(&mut [0; 10]).await.expect("the end"), 0);
    assert_eq!(ask(service.address, &query("secure.example.", 3, true)).await.id, 3);
}

#[tokio::test]
async fn strangers_and_what_is_not_served_are_refused() {
    let service = start("127.0.0.0/8").await;
    let with = |change: fn(&mut Vec<u8>)| {
        let mut octets = query("secure.example.", 5, true);
        change(&mut octets);
        octets
    };
    for (row, octets, rcode) in [
        ("RD not set", with(|m| m[2] &= 0xfe), Rcode::Refused),
        ("AXFR", with(|m| m[12 + 16 + 1] = 252), Rcode::Refused),
        ("class CH", with(|m| m[12 + 16 + 3] = 3), Rcode::Refused),
        ("NOTIFY", with(|m| m[2] |= 4 << 3), Rcode::NotImp),
        ("two questions", with(|m| m[5] = 2), Rcode::FormErr),
        (
            "EDNS version 1",
            with(|m| {
                let at = m.len() - 5;
                m[at] = 1;
            }),
            Rcode::BadVers,
        ),
        ("invalid.", query("host.invalid.", 5, true), Rcode::NxDomain),
    ] {
        let answer = ask(service.address, &octets).await;
        assert_eq!((answer.rcode, answer.id), (rcode, 5), "{row}");
        assert!(answer.answer.is_empty(), "{row}");
    }
    let stranger = start("10.0.0.0/8").await;
    let answer = ask(stranger.address, &query("secure.example.", 6, true)).await;
    assert_eq!((answer.rcode, info_code(&answer)), (Rcode::Refused, Some(18)));
    assert!(answer.answer.is_empty());
}

#[tokio::test]
async fn sentinel_names_tell_which_root_keys_are_trusted() {
    let service = start("127.0.0.0/8").await;
    for (label, rcode) in [
        ("root-key-sentinel-is-ta-20326", Rcode::NoError),
        ("root-key-sentinel-is-ta-00001", Rcode::ServFail),
        ("root-key-sentinel-not-ta-20326", Rcode::ServFail),
        ("root-key-sentinel-not-ta-00001", Rcode::NoError),
        ("root-key-sentinel-is-ta-1", Rcode::NoError), // not five digits: no sentinel
    ] {
        let asked = query(&format!("{label}.example."), 1, true);
        assert_eq!(ask(service.address, &asked).await.rcode, rcode, "{label}");
        let mut unchecked = asked.clone();
        unchecked[3] |= 0x10;
        assert_eq!(ask(service.address, &unchecked).await.rcode, Rcode::NoError, "{label} with CD");
    }
}

#[tokio::test]
async fn any_gets_one_small_record() {
    let service = start("127.0.0.0/8").await;
    let mut any = query("secure.example.", 7, true);
    any[12 + 16 + 1] = 255;
    let answer = ask(service.address, &any).await;
    assert_eq!((answer.rcode, answer.answer.len(), answer.answer[0].rtype), (Rcode::NoError, 1, RecordType::HINFO));
}

#[tokio::test]
async fn noise_is_not_answered_and_harms_nobody() {
    let service = start("127.0.0.0/8").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(service.address).await.expect("connected");
    for noise in [&b""[..], b"x", &[0xff; 11], &[0xff; 600]] {
        socket.send(noise).await.expect("sent");
    }
    socket.send(&query("secure.example.", 8, true)).await.expect("sent");
    let mut buffer = [0; 2_000];
    let length = socket.recv(&mut buffer).await.expect("an answer");
    assert_eq!(Message::parse(&buffer[..length]).expect("a message").id, 8, "the only answer is to the query");
}

#[tokio::test]
async fn changed_and_random_packets_get_a_sound_answer_or_none() {
    let service = Service::new(Script::default(), allowing("::/0"), Clock::system());
    let client = "::1".parse().expect("an address");
    let mut random = StdRng::seed_from_u64(8);
    let names = ["secure.example.", "large.example.", "absent.example.", "bogus.example.", "x.localhost.", "."];
    let mut answered = 0;
    for round in 0..20_000 {
        let mut octets = if round % 10 == 0 {
            (0..random.random_range(0..100)).map(|_| random.random()).collect()
        } else {
            query(names[round % names.len()], random.random(), random.random())
        };
        for _ in 0..random.random_range(0..4) {
            if !octets.is_empty() {
                let at = random.random_range(0..octets.len());
                octets[at] = random.random();
            }
        }
        octets.truncate(random.random_range(octets.len() / 2..=octets.len().max(1)));
        let transport = if random.random() { Transport::Tcp } else { Transport::Udp { loopback: true } };
        if let Some(answer) = service.answer(&octets, client, transport).await {
            let message = Message::parse(&answer).unwrap_or_else(|error| panic!("{octets:?}: {error}"));
            assert!(message.response, "{octets:?}");
            assert_eq!(answer[..2], octets[..2], "{octets:?}");
            answered += 1;
        }
    }
    assert!(answered > 10_000, "{answered} of the packets were queries");
}

#[tokio::test]
async fn at_the_end_what_was_asked_is_answered() {
    let service = start("127.0.0.0/8").await;
    let mut stream = TcpStream::connect(service.address).await.expect("connected");
    write(&mut stream, &query("slow.example.", 1, true)).await;
    write(&mut stream, &query("secure.example.", 2, true)).await;
    assert_eq!(read(&mut stream).await.id, 2);
    service.stop.send(()).expect("running");
    service.slow.notify_one();
    assert_eq!(read(&mut stream).await.id, 1);
    service.task.await.expect("ended by itself");
    assert!(TcpStream::connect(service.address).await.is_err());
}
