//! What runs for each query: of Postfix (framing, keys, a hit from socket to socket) and of the resolver (messages,
//! signatures, proofs). `cargo bench --bench queries`; the names stay, so that runs can be compared.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a measurement that cannot go on fails"
)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::str::FromStr;
use std::sync::Arc;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hickory_proto::rr::{Name, RecordType};
use postseal::cache::{Bounds, DaneEntry, DaneVerdict, Forgetful, PolicyCache};
use postseal::clock::Clock;
use postseal::config::{Listen, MapOptions, Overrides};
use postseal::dns::{Answer as DnsAnswer, BoxFuture, Failure, Lookup};
use postseal::limits::SOCKETMAP_REQUEST_BYTES;
use postseal::names::{Domain, NextHop};
use postseal::policy::mta_sts::{Fetch, FetchError, FetchedPolicy, policy};
use postseal::policy::{Engine, EngineSettings, reply};
use postseal::resolver::budget::Budget;
use postseal::resolver::message::{Message, Query};
use postseal::resolver::validate::{Denials, DnsKey, KeySet, verify};
use postseal::socketmap::{
    Answer, BoxFuture as Later, Listener, Request, Rewound, Server, Service, Threads, netstring, run,
};
use support::world::{Action, World};
use support::zone::{Denial, Zone};

/// The test world, for real signatures; its faults and helpers are not needed here.
#[allow(dead_code, unused_imports, reason = "made for the tests, which use all of it")]
#[path = "../tests/suite/support"]
mod support {
    pub mod answer;
    pub mod fault;
    pub mod key;
    pub mod name;
    pub mod record;
    pub mod wire;
    pub mod world;
    pub mod zone;
}

const NOW: i64 = 1_800_000_000;
const DOMAINS: usize = 1_000;
/// Requests under way at once in the second measurement over a socket.
const PIPELINE: usize = 64;

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("netstring");
    let request = b"25:QUERY mail.example.com:25,".as_slice();
    group.bench_function("decode", |b| b.iter(|| netstring::decode(black_box(request), SOCKETMAP_REQUEST_BYTES)));
    let mut out = BytesMut::with_capacity(1024);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            netstring::encode(black_box(b"OK secure match=mx.example.com servername=hostname"), &mut out);
        });
    });
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    for (name, key) in
        [("domain", "mail-domain.example"), ("u-label", "bücher.example"), ("host", "[mx.example.com]:587")]
    {
        group.bench_function(name, |b| b.iter(|| NextHop::parse(black_box(key.as_bytes()))));
    }
    group.finish();
}

fn policies(criterion: &mut Criterion) {
    let text = b"version: STSv1\r\nmode: enforce\r\nmx: *.mail.example.com\r\nmx: mx1.example.com\r\n\
                 mx: mx2.example.com\r\nmax_age: 604800\r\n";
    criterion.bench_function("mta-sts/parse", |b| b.iter(|| policy::parse(black_box(text))));
}

/// A domain with DANE, decided and answered from memory.
struct FromMemory(Engine);

impl Service for FromMemory {
    fn answer(&self, request: Request<'_>, text: &mut String) -> Answer {
        let (hop, map) = (NextHop::parse(request.key).unwrap(), MapOptions::default());
        let decision = self.0.answer_at_once(&hop, &map, request.received).unwrap();
        reply::write(text, &decision, &hop, &map);
        Answer::Written
    }

    fn http(&self, _: Rewound) -> Later<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

struct Nowhere;

impl Lookup for Nowhere {
    fn lookup<'a>(&'a self, _: &'a Name, _: RecordType) -> BoxFuture<'a, Result<DnsAnswer, Failure>> {
        Box::pin(std::future::pending())
    }

    fn zone_known_signed(&self, _: &Name) -> bool {
        false
    }
}

impl Fetch for Nowhere {
    fn fetch<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>> {
        Box::pin(std::future::pending())
    }
}

fn hop(n: usize) -> NextHop {
    NextHop::Domain { domain: Domain::parse(&format!("mail-domain-{n}.example")).unwrap(), port: None }
}

fn engine(clock: &Clock) -> Engine {
    let bounds = Bounds { entries: DOMAINS, bytes: 4096 * DOMAINS };
    let cache = PolicyCache::new(bounds, Arc::new(Forgetful));
    for n in 0..DOMAINS {
        let (verdict, reason) = (DaneVerdict::DaneOnly, "all hosts");
        let entry = DaneEntry::new(verdict, reason, clock.wall(), 86_400);
        cache.put_dane(&hop(n), entry, clock.stamp());
    }
    let (nowhere, settings) = (Arc::new(Nowhere), EngineSettings::default());
    Engine::new(nowhere.clone(), nowhere, clock.clone(), settings, Overrides::default(), Arc::new(cache))
}

fn hits(criterion: &mut Criterion) {
    let clock = Clock::system();
    let engine = engine(&clock);
    let mut group = criterion.benchmark_group("hit");
    let (map, hops) = (MapOptions::default(), (0..DOMAINS).map(hop).collect::<Vec<_>>());
    let (mut text, mut turn) = (String::new(), 0);
    group.bench_function("decide-and-write", |b| {
        b.iter(|| {
            turn = (turn + 7_919) % DOMAINS;
            text.clear();
            let decision = engine.answer_at_once(&hops[turn], &map, clock.stamp()).unwrap();
            reply::write(&mut text, &decision, &hops[turn], &map);
        });
    });

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, server) = {
        let _inside = runtime.enter();
        let listener = Listener::bind(&Listen::parse("127.0.0.1:0").unwrap(), 0o600, false).unwrap();
        let address = listener.local();
        let threads = Threads::start(1).unwrap();
        let server = Server { service: Arc::new(FromMemory(engine)), clock, max_connections: 8, threads };
        (address, run(vec![listener], server, std::future::pending()))
    };
    std::thread::spawn(move || runtime.block_on(server));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = b"27:QUERY mail-domain-7.example,";
    let reply = b"12:OK dane-only,";
    for (name, count) in [("socket", 1), ("socket-pipelined", PIPELINE)] {
        let (sent, mut got) = (request.repeat(count), vec![0; reply.len() * count]);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                stream.write_all(&sent).unwrap();
                stream.read_exact(&mut got).unwrap();
            });
        });
        assert!(got.ends_with(reply));
    }
    group.finish();
}

/// The octets with which the zone's server answers.
fn ask(world: &World, zone: &str, name: &str, rtype: RecordType) -> Vec<u8> {
    let server: IpAddr = world.servers_of(zone)[0];
    let edns = Some([7; 8].into());
    let query = Query { name: Name::from_str(name).unwrap(), rtype, recursion_desired: false, edns };
    let Action::Reply(mut replies) = world.answer(server, &query.encode(1), true) else { panic!("no answer") };
    replies.remove(0).1
}

fn key_set(world: &World, zone: &str) -> KeySet {
    let message = Message::parse(&ask(world, zone, &format!("{zone}."), RecordType::DNSKEY)).unwrap();
    let keys = message.answer[0].rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)).collect();
    KeySet { zone: Name::from_str(&format!("{zone}.")).unwrap(), keys }
}

fn signatures(criterion: &mut Criterion) {
    let zone = |algorithm| format!("a{algorithm}.test");
    let algorithms = [8, 10, 13, 14, 15];
    let zones = algorithms.map(|algorithm| Zone::new(&zone(algorithm)).signed(algorithm).records("@ MX 10 mx"));
    let world = World::build(NOW, zones.into_iter().chain([Zone::new(".").signed(13)]).collect());
    let octets = ask(&world, "a13.test", "a13.test.", RecordType::MX);
    criterion.bench_function("message/decode", |b| b.iter(|| Message::parse(black_box(&octets))));
    let mut group = criterion.benchmark_group("verify");
    for algorithm in algorithms {
        let keys = key_set(&world, &zone(algorithm));
        let octets = ask(&world, &zone(algorithm), &format!("a{algorithm}.test."), RecordType::MX);
        let message = Message::parse(&octets).unwrap();
        let check = |set| verify(set, &keys, NOW, &Budget::default());
        assert!(check(&message.answer[0]).is_ok());
        group.bench_function(format!("algorithm-{algorithm}"), |b| b.iter(|| check(black_box(&message.answer[0]))));
    }
    group.finish();
}

fn denials(criterion: &mut Criterion) {
    let names: String = (0..50).map(|n| format!("host{n} A 192.0.2.1\n")).collect();
    let zones =
        vec![Zone::new(".").signed(13), Zone::new("n3.test").signed(13).denial(Denial::nsec3()).records(&names)];
    let world = World::build(NOW, zones);
    let keys = key_set(&world, "n3.test");
    let message = Message::parse(&ask(&world, "n3.test", "nothing.n3.test.", RecordType::A)).unwrap();
    let name = Name::from_str("nothing.n3.test.").unwrap();
    let mut group = criterion.benchmark_group("nsec3");
    let verified = || Denials::collect(&keys.zone, &message.authority, &keys, NOW, &Budget::default()).0;
    let proofs = verified();
    assert!(proofs.name_error(&name, &Budget::default()).is_ok());
    group.bench_function("name-error", |b| b.iter(|| proofs.name_error(black_box(&name), &Budget::default())));
    group.bench_function("name-error-with-signatures", |b| {
        b.iter(|| verified().name_error(black_box(&name), &Budget::default()));
    });
    group.finish();
}

criterion_group!(benches, framing, keys, policies, hits, signatures, denials);
criterion_main!(benches);
