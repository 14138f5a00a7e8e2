//! The DNS service in front of the engine and the test world: what a validating client and Postfix see of it.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, DNSKEY, MX, NS, TLSA};
use postseal::listener::{Service, ServiceSettings, Sockets, Transport, run};
use postseal::resolver::message::{Message, Query, Rcode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, hickory};
use crate::support::zone::Zone;
use crate::world::sample;

/// Longer than any lookup may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// CD in the second octet of the flags.
const CD: u8 = 0x10;

/// The service on a lab's engine, on loopback.
pub async fn serve(lab: &Lab) -> SocketAddr {
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = sockets.addresses()[0];
    let settings = ServiceSettings { allow: vec!["127.0.0.0/8".parse().unwrap()], ..ServiceSettings::default() };
    let service = Service::new(lab.engine.clone(), settings, lab.clock.clone());
    tokio::spawn(run(sockets, service, std::future::pending()));
    address
}

/// A query with RD, DO and these flags.
pub fn query(name: &str, rtype: RecordType, flags: u8) -> Vec<u8> {
    let query = Query { name: hickory(name), rtype, recursion_desired: true, edns: Some(Box::default()) };
    let mut octets = query.encode(7);
    octets[3] = flags;
    octets
}

pub async fn udp(service: SocketAddr, query: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(service).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").unwrap();
    Message::parse(&buffer[..length]).unwrap()
}

pub async fn tcp(service: SocketAddr, query: &[u8]) -> Message {
    let mut stream = TcpStream::connect(service).await.unwrap();
    stream.write_u16(query.len() as u16).await.unwrap();
    stream.write_all(query).await.unwrap();
    let mut message = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut message).await.unwrap();
    Message::parse(&message).unwrap()
}

/// The answer in short: code, AD, then types of the answer and of the authority section, `+` where signed.
pub fn in_short(message: &Message) -> String {
    let types = |sets: &[postseal::resolver::rrset::RrSet]| {
        let one = |set: &postseal::resolver::rrset::RrSet| {
            format!("{}{}", set.rtype, if set.sigs.is_empty() { "" } else { "+" })
        };
        sets.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    let ad = if message.authentic { " AD" } else { "" };
    format!("{}{ad}: {} / {}", u16::from(message.rcode), types(&message.answer), types(&message.authority))
}

#[tokio::test]
async fn answers_carry_ad_signatures_and_proofs_as_the_zones_are() {
    let lab = Lab::on_sockets(sample()).await;
    let service = serve(&lab).await;
    for (name, rtype, expected) in [
        (".", NS, "0 AD: NS+ / "), // Postfix's dnssec_probe
        ("ec.org", MX, "0 AD: MX+ / "),
        ("_25._tcp.mx.ec.org", TLSA, "0 AD: TLSA+ / "),
        ("alias.ec.org", A, "0 AD: CNAME+ A+ / "),
        ("mx.away.ec.org", A, "0 AD: DNAME+ CNAME A+ / "),
        ("x.wild.ec.org", A, "0 AD: A+ / NSEC+"),
        ("ent.ec.org", A, "0 AD:  / SOA+ NSEC+"),
        ("ent.ed.com", A, "0 AD:  / SOA+ NSEC3+"),
        ("mx.plain.com", A, "0: A / "),
        ("into.ec.org", A, "0: CNAME+ A / "),
        ("nothing.plain.com", A, "3:  / SOA"),
        ("mx.wrong.net", A, "2:  / "),
        // Signed, and insecure for want of a DS: with all that a client with an anchor of its own needs.
        ("ent.island.org", A, "0:  / SOA+ NSEC+"),
        ("x.wild.island.org", A, "0: A+ / NSEC+"),
        ("ent.future.net", A, "0:  / SOA+ NSEC+"),
    ] {
        let asked = query(name, rtype, 0);
        let answer = udp(service, &asked).await;
        assert_eq!(in_short(&answer), expected, "{name} {rtype}");
        assert_eq!(in_short(&tcp(service, &asked).await), expected, "{name} {rtype} over TCP, from the cache");
    }
    let denied = udp(service, &query("nothing.ec.org", A, 0)).await;
    assert!(in_short(&denied).starts_with("3 AD:  / SOA+ NSEC+"), "{}", in_short(&denied));
}

#[tokio::test]
async fn an_rrset_stands_once_in_an_answer() {
    let twice = Zone::new("twice.org").signed(13).records("d DNAME f\n a.f CNAME b.d\n b.f A 192.0.2.1\n c.f CNAME d");
    let mut zones = sample();
    zones.push(twice);
    let lab = Lab::on_sockets(zones).await;
    let service = serve(&lab).await;
    for flags in [0, CD] {
        for (name, rtype, expected) in [
            ("a.d.twice.org", A, "0 AD: DNAME+ CNAME CNAME+ CNAME A+ / "),
            // The RRset asked for is the one that was met on the way.
            ("c.d.twice.org", RecordType::DNAME, "0 AD: DNAME+ CNAME CNAME+ / "),
        ] {
            let asked = query(name, rtype, flags);
            for again in 0..2 {
                assert_eq!(in_short(&tcp(service, &asked).await), expected, "{name} {rtype}, CD {flags}, {again}");
            }
        }
    }
    assert_eq!(lab.verdict("c.d.twice.org", RecordType::DNAME).await, "secure 1");
}

/// RFC 9824 §3.5, §10.3.
#[tokio::test]
async fn nxname_is_no_question() {
    let lab = Lab::on_sockets(sample()).await;
    let service = serve(&lab).await;
    let answer = udp(service, &query("mx.ec.org", RecordType::from(128), 0)).await;
    assert_eq!(in_short(&answer), "1:  / ");
    assert_eq!(answer.edns.as_ref().unwrap().option(15).unwrap(), [0, 30], "invalid query type");
}

/// The zone that is broken, where its parent's servers serve it and no referral leads there.
#[tokio::test]
async fn a_failure_names_the_zone_it_is_about_on_its_parents_servers_too() {
    for fault in [Fault::BadSignatures, Fault::ExpiredSignatures, Fault::MissingSignatures] {
        let shop = Zone::new("shop").signed(13).records("mx A 192.0.2.1");
        let lab = Lab::on_sockets(vec![Zone::new(".").signed(13), shop]).await;
        let service = serve(&lab).await;
        for server in lab.world.servers_of(".") {
            lab.world.host(server, "shop");
        }
        lab.world.inject(On::zone("shop"), fault);
        for name in ["mx.shop", "nothing.shop"] {
            let failed = udp(service, &query(name, A, 0)).await;
            assert_eq!(in_short(&failed), "2:  / ", "{name}");
            let reason = failed.edns.as_ref().unwrap().option(15).unwrap();
            let text = String::from_utf8_lossy(&reason[2..]);
            assert!(text.contains("zone shop"), "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn what_does_not_validate_is_servfail_with_the_reason_and_cd_hands_it_over() {
    let lab = Lab::on_sockets(sample()).await;
    let service = serve(&lab).await;
    lab.world.inject(On::zone("ec.org"), Fault::ExpiredSignatures);
    let failed = udp(service, &query("mx.ec.org", A, 0)).await;
    assert_eq!(in_short(&failed), "2:  / ");
    let reason = failed.edns.as_ref().unwrap().option(15).unwrap().to_vec();
    assert_eq!(reason[..2], [0, 7], "signature expired (RFC 8914 §4.8)");
    assert!(String::from_utf8_lossy(&reason[2..]).contains("zone ec.org"), "{reason:?}");
    let unchecked = udp(service, &query("mx.ec.org", A, CD)).await;
    assert_eq!(in_short(&unchecked), "0: A+ / ");
    // What CD brought is nobody else's answer.
    assert_eq!(udp(service, &query("mx.ec.org", A, 0)).await.rcode, Rcode::ServFail);
    lab.world.inject(On::zone("plain.com"), Fault::Lame);
    let lame = udp(service, &query("mx.plain.com", A, 0)).await;
    assert_eq!(lame.edns.as_ref().unwrap().option(15).unwrap()[..2], [0, 22], "no reachable authority");
}

#[tokio::test]
async fn a_client_that_validates_by_itself_gets_every_link_of_the_chain() {
    let lab = Lab::on_sockets(sample()).await;
    let service = serve(&lab).await;
    for zone in [".", "org", "ec.org"] {
        let keys = udp(service, &query(zone, DNSKEY, CD)).await;
        assert_eq!(in_short(&keys), "0 AD: DNSKEY+ / ", "{zone}");
        if zone != "." {
            let ds = udp(service, &query(zone, RecordType::DS, CD)).await;
            assert_eq!(in_short(&ds), "0 AD: DS+ / ", "{zone}");
        }
    }
    let unsigned = udp(service, &query("plain.com", RecordType::DS, 0)).await;
    assert!(in_short(&unsigned).starts_with("0"), "{}", in_short(&unsigned));
    assert!(in_short(&unsigned).contains("/ SOA+ NSEC3+"), "{}", in_short(&unsigned));
}

/// The first answer is made from what was found, later ones from octets that are kept with the cache entry.
#[tokio::test(start_paused = true)]
async fn an_answer_from_the_cache_is_octet_by_octet_the_first_one() {
    let client = "127.0.0.1".parse().unwrap();
    for (edns, flags) in [true, false].into_iter().flat_map(|edns| [0, CD, 0x20].map(|flags| (edns, flags))) {
        let form = |name: &str, rtype, flags| {
            let mut octets = query(name, rtype, flags);
            if !edns {
                octets.truncate(octets.len() - 11);
                octets[11] = 0;
            }
            octets
        };
        for transport in [Transport::Tcp, Transport::Udp { loopback: true }, Transport::Udp { loopback: false }] {
            let lab = Lab::in_memory(sample());
            let settings = ServiceSettings { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Default::default() };
            let service = Service::new(lab.engine.clone(), settings, lab.clock.clone());
            for (name, rtype) in CACHED {
                let first = service.answer(&form(name, rtype, flags), client, transport).await.unwrap();
                for again in 0..2 {
                    let later = service.answer(&form(name, rtype, flags), client, transport).await.unwrap();
                    let (first, later) = (untimed(&first), untimed(&later));
                    assert_eq!(first, later, "{name} {rtype}, flags {flags:#x}, {transport:?}, again {again}");
                }
                let mixed = name.to_ascii_uppercase();
                let other_case = service.answer(&form(&mixed, rtype, flags), client, transport).await.unwrap();
                let asked = form(&mixed, rtype, flags);
                assert_eq!(other_case[12..12 + name.len()], asked[12..12 + name.len()], "the client's own case");
                assert_eq!(untimed(&other_case), untimed(&first), "{name} in capitals");
            }
        }
    }
}

const CACHED: [(&str, RecordType); 11] = [
    ("mx.ec.org", A),
    ("ec.org", MX),
    ("_25._tcp.mx.ec.org", TLSA),
    ("alias.ec.org", A),
    ("x.wild.ec.org", A),
    ("ent.ed.com", A),
    ("nothing.ed.com", A),
    ("mx.plain.com", A),
    ("nothing.plain.com", A),
    ("org", DNSKEY),
    ("org", NS),
];

/// A message with nothing but its TTLs and the case of its names left out.
fn untimed(octets: &[u8]) -> (usize, Message) {
    let mut message = Message::parse(octets).unwrap();
    let question = message.question.as_mut().unwrap();
    question.name = question.name.to_lowercase();
    for set in message.answer.iter_mut().chain(&mut message.authority) {
        set.ttl = 0;
        set.sigs.iter_mut().for_each(|sig| sig.ttl = 0);
    }
    (octets.len(), message)
}
