//! A second opinion: hickory's validator (hickory-dns project), which shares no line with ours beyond the parsing of
//! messages, asks our listener in the test world with the world's anchor. What we call secure it must find secure from
//! the records that we hand out, and what we call insecure or bogus it must not.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use hickory_proto::dnssec::{Algorithm, Proof, PublicKeyBuf, TrustAnchors};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Query, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::dns_service::{query, serve, tcp};
use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, hickory};
use crate::support::record::rtype;
use crate::support::world::World;
use crate::support::zone::{Delegation, Denial, Zone};
use crate::world::sample;

use RecordType::{A, AAAA, CNAME, DNSKEY, DS, MX, NS, TLSA};

/// CD in the fourth octet of a message.
const CD: u8 = 0x10;
/// TC in the third.
const TC: u8 = 0x02;

/// Asks the listener with CD, so that it hands over whatever is there and the validator behind has to judge itself.
#[derive(Clone)]
struct Unchecked(SocketAddr);

impl DnsHandle for Unchecked {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        let service = self.0;
        Box::pin(stream::once(async move {
            let mut query = request.to_vec()?;
            query[3] |= CD;
            let mut answer = exchange_udp(service, &query).await?;
            if answer[2] & TC != 0 {
                answer = exchange_tcp(service, &query).await?;
            }
            let response = DnsResponse::from_buffer(answer)?;
            match response.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => Ok(response),
                code => Err(NetError::from(format!("{code} in spite of CD"))),
            }
        }))
    }
}

async fn exchange_udp(service: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(service).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 65_535];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn exchange_tcp(service: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(service).await?;
    stream.write_u16(query.len() as u16).await?;
    stream.write_all(query).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The key-signing keys of the world's root.
fn anchors(world: &World) -> Arc<TrustAnchors> {
    let mut anchors = TrustAnchors::empty();
    world.change(".", |root| {
        for key in root.keys.iter().filter(|key| key.is_ksk()) {
            // RFC 4034 §2.1: flags, protocol, algorithm, then the key.
            let key = PublicKeyBuf::new(key.dnskey[4..].to_vec(), Algorithm::from_u8(key.algorithm));
            anchors.insert(&key);
        }
    });
    Arc::new(anchors)
}

/// What hickory makes of what we hand out with CD: `secure`, `insecure`, `bogus`, or how it failed.
async fn their_verdict(service: SocketAddr, anchors: &Arc<TrustAnchors>, name: &str, rtype: RecordType) -> String {
    let validator = DnssecDnsHandle::with_trust_anchor(Unchecked(service), Arc::clone(anchors));
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    let outcome = validator.lookup(Query::query(hickory(name), rtype), options).next().await;
    match outcome.expect("an outcome") {
        Ok(response) => in_a_word(&response),
        Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. })) => "insecure".to_owned(),
        Err(NetError::Dns(DnsError::Nsec { .. })) => "bogus".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

/// The weakest proof of all records that count: of the answer, and of the authority section where there is no answer.
fn in_a_word(response: &DnsResponse) -> String {
    let counts = |record: &&Record| record.record_type() != RecordType::RRSIG;
    let records = if response.answers.is_empty() { &response.authorities } else { &response.answers };
    let proofs: Vec<Proof> = records.iter().filter(counts).map(|record| record.proof).collect();
    let word = |proof: &Proof| match proof {
        Proof::Secure => "secure",
        Proof::Insecure => "insecure",
        Proof::Bogus | Proof::Indeterminate => "bogus",
    };
    let weakest =
        ["bogus", "insecure", "secure"].into_iter().find(|one| proofs.iter().any(|proof| word(proof) == *one));
    weakest.unwrap_or("nothing").to_owned()
}

/// What we say of it, as a client without CD sees it.
async fn our_verdict(service: SocketAddr, name: &str, rtype: RecordType) -> &'static str {
    let answer = tcp(service, &query(name, rtype, 0)).await;
    match (u16::from(answer.rcode), answer.authentic) {
        (0 | 3, true) => "secure",
        (0 | 3, false) => "insecure",
        (2, false) => "bogus",
        (code, ad) => panic!("{name} {rtype}: code {code}, AD {ad}"),
    }
}

/// The sample world with what it lacks for these tests.
fn world() -> Vec<Zone> {
    let mut zones = sample();
    zones.push(Zone::new("nsec.com").signed(13).records("@ MX 10 mx\nmx A 192.0.2.1\n*.wild A 192.0.2.7"));
    zones.push(
        Zone::new("digests.org").signed(14).delegation(Delegation::Digests(vec![2, 4])).records("mx A 192.0.2.1"),
    );
    zones.push(Zone::new("digest.org").signed(13).delegation(Delegation::UnknownDigest(99)).records("mx A 192.0.2.1"));
    zones.push(Zone::new("out.com").signed(13).denial(Denial::opt_out()).records("mx A 192.0.2.1"));
    zones.push(Zone::new("lower.out.com").records("mx A 192.0.2.1"));
    zones.push(Zone::new("deep.ec.org").signed(8).denial(Denial::nsec3()).records("mx A 192.0.2.1"));
    zones
}

#[tokio::test]
async fn another_validator_finds_secure_what_we_do_and_insecure_or_bogus_what_we_do() {
    let lab = Lab::on_sockets(world()).await;
    let service = serve(&lab).await;
    let anchors = anchors(&lab.world);
    let mut differ = Vec::new();
    for (name, rtype, expected) in ROWS {
        let ours = our_verdict(service, name, *rtype).await;
        let theirs = their_verdict(service, &anchors, name, *rtype).await;
        if (ours, &*theirs) != (*expected, *expected) {
            differ.push(format!("{name} {rtype}: expected {expected}, ours {ours}, theirs {theirs}"));
        }
    }
    for (name, rtype, reason) in ITS_LIMITS {
        assert_eq!(our_verdict(service, name, *rtype).await, "secure", "{name} {rtype}");
        let theirs = their_verdict(service, &anchors, name, *rtype).await;
        if theirs != "bogus" {
            differ.push(format!("{name} {rtype}: {theirs}, although {reason}: make it one of ROWS"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What is secure and hickory-net 0.26.3 takes for bogus, with the reason in its `verify_nsec` and `verify_nsec3`.
const ITS_LIMITS: &[(&str, RecordType, &str)] = &[
    ("lost.ec.org", A, "it looks for a denial of the name asked for, not of the one at the end of the alias"),
    ("lost.ed.com", A, "it looks for a denial of the name asked for, not of the one at the end of the alias"),
    (
        "x.wild.ec.org",
        A,
        "it wants the wildcard that answered covered by an NSEC, where the NSEC may be the wildcard's own",
    ),
    ("to-wild.ec.org", A, "likewise, at the end of an alias"),
];

const ROWS: &[(&str, RecordType, &str)] = &[
    // Data, for each algorithm and of each kind of zone.
    (".", NS, "secure"),
    (".", DNSKEY, "secure"),
    ("org", DNSKEY, "secure"),
    ("ec.org", DS, "secure"),
    ("ec.org", MX, "secure"),
    ("mx.ec.org", A, "secure"),
    ("_25._tcp.mx.ec.org", TLSA, "secure"),
    ("rsa.com", MX, "secure"),
    ("_25._tcp.mx.rsa.com", TLSA, "secure"),
    ("mx.ed.com", A, "secure"),
    ("_25._tcp.mx.ed.com", TLSA, "secure"),
    ("mx.sha512.net", A, "secure"),
    ("mx.digests.org", A, "secure"),
    ("mx.deep.ec.org", A, "secure"),
    ("mx.out.com", A, "secure"),
    // Aliases.
    ("alias.ec.org", A, "secure"),
    ("alias.ed.com", A, "secure"),
    ("lost.ec.org", CNAME, "secure"),
    // Wildcards.
    ("x.y.wild.ec.org", A, "secure"),
    ("x.wild.ed.com", A, "secure"),
    ("x.wild.sha512.net", A, "secure"),
    ("x.y.wild.nsec.com", A, "secure"),
    // No data, with NSEC and NSEC3.
    ("mx.ec.org", AAAA, "secure"),
    ("mx.ed.com", AAAA, "secure"),
    ("mx.sha512.net", AAAA, "secure"),
    ("ent.ec.org", A, "secure"),
    ("ent.ed.com", A, "secure"),
    ("x.wild.ec.org", AAAA, "secure"),
    ("x.wild.ed.com", AAAA, "secure"),
    ("ec.org", TLSA, "secure"),
    // No name.
    ("nothing.ec.org", A, "secure"),
    ("nothing.ed.com", A, "secure"),
    ("nothing.sha512.net", A, "secure"),
    ("a.b.c.nothing.ec.org", A, "secure"),
    ("a.b.c.nothing.ed.com", A, "secure"),
    ("nothing", A, "secure"),
    // Delegations without DS: NSEC, NSEC3, opt-out.
    ("island.org", DS, "secure"),
    ("mx.island.org", A, "insecure"),
    ("nothing.island.org", A, "insecure"),
    ("mx.plain.com", A, "insecure"),
    ("mx.plain.com", AAAA, "insecure"),
    ("nothing.plain.com", A, "insecure"),
    ("mx.lower.out.com", A, "insecure"),
    ("plain.com", MX, "insecure"),
    // Algorithms and digests that nobody knows.
    ("mx.future.net", A, "insecure"),
    ("mx.digest.org", A, "insecure"),
    // Aliases from a secure zone into an insecure one, and back.
    ("into.ec.org", A, "insecure"),
    ("out.plain.com", A, "insecure"),
    // A chain that is broken.
    ("mx.wrong.net", A, "bogus"),
    ("wrong.net", MX, "bogus"),
    ("_25._tcp.mx.wrong.net", TLSA, "bogus"),
];

#[tokio::test]
async fn another_validator_rejects_what_we_do() {
    let mut differ = Vec::new();
    for (what, on, fault, name, rtype) in broken() {
        let lab = Lab::on_sockets(world()).await;
        let service = serve(&lab).await;
        let anchors = anchors(&lab.world);
        lab.world.inject(on, fault);
        let ours = our_verdict(service, name, rtype).await;
        let theirs = their_verdict(service, &anchors, name, rtype).await;
        if ours != "bogus" || theirs == "secure" || theirs == "insecure" {
            differ.push(format!("{what}: {name} {rtype}: ours {ours}, theirs {theirs}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// What is broken, and a question that suffers from it.
fn broken() -> Vec<(&'static str, On, Fault, &'static str, RecordType)> {
    vec![
        ("expired", On::zone("ec.org"), Fault::ExpiredSignatures, "mx.ec.org", A),
        ("expired, NSEC3", On::zone("ed.com"), Fault::ExpiredSignatures, "nothing.ed.com", A),
        ("of tomorrow", On::zone("ec.org"), Fault::FutureSignatures, "mx.ec.org", A),
        ("bad signature", On::name("mx.ec.org"), Fault::BadSignatures, "mx.ec.org", A),
        ("bad signature, RSA", On::name("mx.rsa.com"), Fault::BadSignatures, "mx.rsa.com", A),
        ("bad signature, Ed25519", On::name("mx.ed.com"), Fault::BadSignatures, "mx.ed.com", A),
        ("bad signatures of keys", On::zone("ec.org").qtype(rtype::DNSKEY), Fault::BadSignatures, "mx.ec.org", A),
        ("bad signature at the end of an alias", On::name("alias.ec.org"), Fault::BadSignatures, "alias.ec.org", A),
        ("missing signature", On::name("mx.ec.org"), Fault::MissingSignatures, "mx.ec.org", A),
        ("missing signatures of a zone", On::zone("ec.org"), Fault::MissingSignatures, "ec.org", MX),
        ("DNSSEC stripped", On::zone("ed.com"), Fault::StripDnssec, "mx.ed.com", A),
        ("no denial, NSEC", On::zone("ec.org"), Fault::MissingDenial, "nothing.ec.org", A),
        ("no denial, NSEC3", On::zone("ed.com"), Fault::MissingDenial, "nothing.ed.com", A),
        ("no denial of data, NSEC3", On::zone("ed.com"), Fault::MissingDenial, "mx.ed.com", AAAA),
        ("wildcard without its proof", On::zone("ec.org"), Fault::MissingDenial, "x.wild.ec.org", A),
        ("wildcard without its proof, NSEC3", On::zone("ed.com"), Fault::MissingDenial, "x.wild.ed.com", A),
        ("forged data", On::name("mx.ec.org"), Fault::ForgedData, "mx.ec.org", A),
        ("forged NXDOMAIN", On::name("mx.ec.org"), Fault::ForgedNxDomain, "mx.ec.org", A),
        ("forged NODATA", On::name("mx.ec.org"), Fault::ForgedNoData, "mx.ec.org", A),
        ("DS of other keys", On::zone("org"), Fault::WrongDs, "mx.ec.org", A),
    ]
}

/// The same as a customer's client does it: hickory's resolver on our listener, over UDP and TCP.
#[tokio::test]
async fn a_validating_client_resolves_through_us() {
    let lab = Lab::on_sockets(world()).await;
    let service = serve(&lab).await;
    let anchors = anchors(&lab.world);
    for mut connection in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
        connection.port = service.port();
        let protocol = connection.protocol.to_protocol();
        let server = NameServerConfig::new(service.ip(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_trust_anchor(Arc::clone(&anchors));
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder.options_mut().edns0 = true;
        let client = builder.build().unwrap();
        for (name, rtype, proof) in [
            ("mx.ec.org", A, Proof::Secure),
            ("ec.org", MX, Proof::Secure),
            ("_25._tcp.mx.ed.com", TLSA, Proof::Secure),
            ("x.wild.ed.com", A, Proof::Secure),
            ("mx.plain.com", A, Proof::Insecure),
        ] {
            let lookup = client.lookup(hickory(name), rtype).await;
            let lookup = lookup.unwrap_or_else(|error| panic!("{name} {rtype} over {protocol}: {error}"));
            let records: Vec<&Record> = lookup.answers().iter().filter(|one| one.record_type() == rtype).collect();
            assert!(!records.is_empty(), "{name} {rtype} over {protocol}");
            assert!(records.iter().all(|record| record.proof == proof), "{name} {rtype} over {protocol}: {records:?}");
        }
        let denied = client.lookup(hickory("nothing.ed.com"), A).await.unwrap_err();
        assert!(denied.is_nx_domain(), "over {protocol}: {denied}");
        client.lookup(hickory("mx.wrong.net"), A).await.expect_err("bogus");
    }
}
