//! The DNS service's places: one client with a thousand questions that nobody answers, and with connections that say
//! nothing, beside another one that asks as usual. Over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};
use postseal::limits;
use postseal::resolver::message::{Message, Rcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

use crate::dns_service::{query, serve};
use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";
/// Far more than an answer takes here, far less than a lookup at silent servers.
const SOON: Duration = Duration::from_secs(5);

async fn connected(client: &str, service: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{client}:0").parse().unwrap()).unwrap();
    socket.connect(service).await.unwrap()
}

/// What a client gets for this over UDP, and over TCP.
async fn both(client: &str, service: SocketAddr, asked: &[u8]) -> [Message; 2] {
    let socket = UdpSocket::bind(format!("{client}:0")).await.unwrap();
    socket.connect(service).await.unwrap();
    socket.send(asked).await.unwrap();
    let mut buffer = vec![0; 4_096];
    let length = socket.recv(&mut buffer).await.unwrap();
    let mut stream = connected(client, service).await;
    stream.write_all(&[&(asked.len() as u16).to_be_bytes(), asked].concat()).await.unwrap();
    let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut message).await.unwrap();
    [Message::parse(&buffer[..length]).unwrap(), Message::parse(&message).unwrap()]
}

/// The innocent client's answers (code, AD, records, TTL), and the longest time that one of its questions took.
async fn innocent(service: SocketAddr) -> (Vec<(Rcode, bool, usize, u32)>, Duration) {
    let (mut answers, mut longest) = (Vec::new(), Duration::ZERO);
    for (name, rtype) in [("calm.com", MX), ("mx.calm.com", A), ("none.calm.com", A)] {
        let begun = Instant::now();
        let found = both("127.0.0.3", service, &query(name, rtype, 0)).await;
        longest = longest.max(begun.elapsed());
        answers.extend(found.map(|message| {
            let ttl = message.answer.first().map_or(0, |set| set.ttl);
            (message.rcode, message.authentic, message.answer.len(), ttl / 60)
        }));
    }
    (answers, longest)
}

async fn lab() -> Lab {
    let lab = Lab::on_sockets(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("calm.com").signed(13).records(MAIL),
        Zone::new("silent.com").servers(2).records(MAIL),
    ])
    .await;
    lab.world.inject(On::zone("silent.com"), Fault::Silence);
    lab
}

#[tokio::test]
async fn a_client_that_takes_all_it_can_leaves_another_one_its_answers() {
    let alone = lab().await;
    let (expected, _) = innocent(serve(&alone).await).await;
    let lab = lab().await;
    let service = serve(&lab).await;
    // One name will do: each question takes a place.
    let hostile = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    hostile.connect(service).await.unwrap();
    for index in 0..limits::DNS_QUERIES_PER_CLIENT + 200 {
        hostile.send(&query("x.silent.com", A, 0)).await.unwrap();
        if index % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut held = Vec::new();
    for index in 0..limits::DNS_CONNECTIONS_PER_CLIENT {
        let mut stream = connected("127.0.0.2", service).await;
        // Some begin a question, some ask one that takes long.
        match index % 3 {
            0 => stream.write_all(&[0]).await.unwrap(),
            1 => {
                let asked = query("x.silent.com", A, 0);
                stream.write_all(&[&(asked.len() as u16).to_be_bytes(), &asked[..]].concat()).await.unwrap();
            }
            _ => {}
        }
        held.push(stream);
    }
    // They are under way.
    while !lab.world.asked().iter().any(|asked| asked.name.to_string().to_lowercase().contains("silent.com")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (found, longest) = innocent(service).await;
    eprintln!("longest answer {longest:?}");
    assert_eq!(found, expected);
    assert!(longest < SOON, "{longest:?}");
}
