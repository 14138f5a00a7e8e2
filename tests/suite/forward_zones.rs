//! `resolver.forward`, through the configuration: zones that go to named servers, how far these are believed, and
//! how far they reach.

use std::sync::Arc;

use hickory_proto::rr::RecordType::{self, A, NS};
use postseal::clock::Clock;
use postseal::listener::{Service, ServiceSettings, Transport};
use postseal::resolver::Engine;
use postseal::resolver::message::{Message, Rcode};
use postseal::resolver::settings::{Forward, Settings};
use postseal::resolver::transport::{SystemNetwork, mozilla_roots};

use crate::dns_service::{in_short, query, udp};
use crate::support::answer::rcode;
use crate::support::daemon::Daemon;
use crate::support::fault::{Fault, On};
use crate::support::forwarder::{Forwarder, Handler, Via};
use crate::support::https::Certificate;
use crate::support::lab::{Lab, ROUND_TRIP, hickory, settings};
use crate::support::memory::MemoryNetwork;
use crate::support::name::DnsName;
use crate::support::record::{Rdata, rtype};
use crate::support::wire::{OutMessage, OutRecord, Question};
use crate::support::world::{Action, World};
use crate::support::zone::{Delegation, Zone};
use crate::world::sample;

const DNS: &str = "[dns]\nlisten = [\"127.0.0.1:0\"]\n";
const NAME: &str = "dns.corp.example";

/// The sample world, a zone that the public tree denies, and a signed one that it delegates.
fn zones() -> Vec<Zone> {
    let mut zones = sample();
    zones.push(Zone::new("cluster.local").delegation(Delegation::Missing).records("db A 10.1.2.3"));
    zones.push(Zone::new("corp.org").signed(13).records("mx A 10.1.2.4\nother A 10.1.2.5"));
    zones
}

/// What the world's own server of a zone says.
pub fn server_of(world: &Arc<World>, zone: &str) -> Handler {
    let (world, server) = (world.clone(), world.servers_of(zone)[0]);
    Arc::new(move |query| {
        let Action::Reply(mut replies) = world.answer(server, &query, true) else { panic!("no answer") };
        Box::pin(std::future::ready(replies.remove(0).1))
    })
}

async fn ask(daemon: &Daemon, name: &str, rtype: RecordType) -> Message {
    udp(daemon.listening["dns"].parse().unwrap(), &query(name, rtype, 0)).await
}

#[tokio::test]
async fn a_zone_that_the_public_tree_denies_is_answered_and_insecure() {
    let forwarder = Forwarder::bind().await;
    let daemon = Daemon::start(zones(), &format!("{DNS}{}", forwarder.entry("cluster.local", None))).await;
    let serving = forwarder.serve(None, server_of(&daemon.world, "cluster.local"));
    assert_eq!(in_short(&ask(&daemon, "db.cluster.local", A).await), "0: A / ");
    assert_eq!(in_short(&ask(&daemon, "none.cluster.local", A).await), "3:  / SOA");
    assert_eq!(in_short(&ask(&daemon, "mx.ec.org", A).await), "0 AD: A+ / ", "the rest is as it was");
    assert_eq!(in_short(&ask(&daemon, "x.local", A).await).get(..4), Some("3 AD"));
    assert!(serving.asked().iter().all(|(_, question)| question.recursion_desired));
    assert!(serving.asked().iter().all(|(_, question)| question.name.is_at_or_below(&"cluster.local".into())));
}

#[tokio::test]
async fn a_zone_that_the_chain_of_trust_reaches_is_validated() {
    let forwarder = Forwarder::bind().await;
    let daemon = Daemon::start(zones(), &format!("{DNS}{}", forwarder.entry("corp.org", None))).await;
    let serving = forwarder.serve(None, server_of(&daemon.world, "corp.org"));
    assert_eq!(in_short(&ask(&daemon, "mx.corp.org", A).await), "0 AD: A+ / ");
    assert!(serving.count("mx.corp.org") > 0 && serving.count("corp.org") > 0, "addresses and keys by the forwarder");
    daemon.world.inject(On::zone("corp.org"), Fault::BadSignatures);
    let forged = ask(&daemon, "other.corp.org", A).await;
    assert_eq!(forged.rcode, Rcode::ServFail);
    assert_eq!(forged.edns.unwrap().option(15).unwrap()[..2], [0, 6], "DNSSEC Bogus");
}

#[tokio::test(start_paused = true)]
async fn while_the_public_tree_is_silent_a_forwarded_zone_counts_neither_as_signed_nor_as_unsigned() {
    for (zone, name) in [("corp.org", "mx.corp.org"), ("cluster.local", "db.cluster.local")] {
        let world = Arc::new(World::build(crate::support::lab::NOW, zones()));
        let server = (world.servers_of(zone)[0], 53).into();
        let forward = Forward { zone: hickory(zone), servers: vec![server], tls: None };
        let network = MemoryNetwork::new(world.clone(), ROUND_TRIP);
        let lab = Lab::on_world(world, network, |settings| settings.forward = vec![forward]);
        for above in [".", "org"] {
            lab.world.inject(On::zone(above), Fault::Silence);
        }
        assert!(lab.verdict(name, A).await.starts_with("failed"), "{}", lab.verdict(name, A).await);
        lab.world.heal();
        tokio::time::advance(std::time::Duration::from_secs(400)).await;
        let expected = if zone == "corp.org" { "secure 1" } else { "insecure 1" };
        assert_eq!(lab.verdict(name, A).await, expected);
    }
}

#[tokio::test]
async fn with_the_root_forwarded_nothing_but_the_forwarder_is_asked_and_all_is_validated() {
    let forwarder = Forwarder::bind().await;
    // No server could be reached at this port.
    let without_recursion = |base: String| {
        let port = base.lines().find(|line| line.starts_with("upstream-port")).unwrap();
        base.replace(port, "upstream-port = 1")
    };
    let configuration = format!("{DNS}{}", forwarder.entry(".", None));
    let daemon = Daemon::start_with(zones(), &configuration, without_recursion).await;
    let serving = forwarder.serve(None, recursive(&daemon));
    for (name, rtype, expected) in [
        (".", NS, "0 AD: NS+ / "),
        ("mx.ec.org", A, "0 AD: A+ / "),
        ("mx.away.ec.org", A, "0 AD: DNAME+ CNAME A+ / "),
        ("into.ec.org", A, "0: CNAME+ A / "),
        ("mx.plain.com", A, "0: A / "),
        ("mx.island.org", A, "0: A+ / "),
        ("mx.wrong.net", A, "2:  / "),
    ] {
        assert_eq!(in_short(&ask(&daemon, name, rtype).await), expected, "{name}");
    }
    assert!(in_short(&ask(&daemon, "none.ec.org", A).await).starts_with("3 AD: "));
    assert!(serving.count("mx.ec.org") > 0);
}

/// A recursive server on the world, as a site has one: our own.
fn recursive(daemon: &Daemon) -> Handler {
    let settings = Settings { upstream_port: daemon.served.port, ..settings(&daemon.world) };
    let network = Arc::new(SystemNetwork::new(mozilla_roots()).unwrap());
    let engine = Engine::new(settings, network, Clock::system());
    let client = "127.0.0.1".parse().unwrap();
    let allow =
        ServiceSettings { allow: vec!["127.0.0.0/8".parse().unwrap()], private_root: true, ..Default::default() };
    let service = Service::new(engine, allow, Clock::system());
    Arc::new(move |query| {
        let service = service.clone();
        Box::pin(async move { service.answer(&query, client, Transport::Tcp).await.unwrap_or_default() })
    })
}

#[tokio::test]
async fn over_tls_the_server_has_to_prove_its_name_and_nothing_is_asked_in_the_clear() {
    let trusting =
        |base: String| format!("{base}\n").replace("[resolver]\n", "[resolver]\nforward-ca-file = \"ca.pem\"\n");
    for (certificate, expected) in [
        (Certificate::Good, "0: A / "),
        (Certificate::WrongName, "2:  / "),
        (Certificate::OtherCa, "2:  / "),
        (Certificate::Expired, "2:  / "),
    ] {
        let forwarder = Forwarder::bind().await;
        let configuration = format!("{DNS}{}", forwarder.entry("cluster.local", Some(NAME)));
        let daemon = Daemon::start_with(zones(), &configuration, trusting).await;
        let tls = daemon.hosts.server_config(NAME, certificate);
        let serving = forwarder.serve(Some(tls), server_of(&daemon.world, "cluster.local"));
        assert_eq!(in_short(&ask(&daemon, "db.cluster.local", A).await), expected, "{certificate:?}");
        assert!(serving.asked().iter().all(|(via, _)| *via == Via::Tls), "{certificate:?}: {:?}", serving.asked());
        assert_eq!(serving.asked().is_empty(), certificate != Certificate::Good);
    }
}

/// MaginotDNS (USENIX Security 2023): servers of one zone that speak of others.
#[tokio::test]
async fn a_forwarder_is_not_believed_outside_its_zone() {
    let forwarder = Forwarder::bind().await;
    let daemon = Daemon::start(zones(), &format!("{DNS}{}", forwarder.entry("corp.internal", None))).await;
    let serving = forwarder.serve(None, Arc::new(|query| Box::pin(std::future::ready(lie(&query)))));
    let truth = [192, 0, 2, 1];
    // The alias is the forwarder's to give; where it leads is not.
    let alias = ask(&daemon, "alias.corp.internal", A).await;
    assert_eq!(in_short(&alias), "0: CNAME A / ");
    assert_eq!(*alias.answer[1].rdatas[0], truth);
    for lie in ["address", "upward", "sideways", "dname", "denial"] {
        let answer = ask(&daemon, &format!("{lie}.corp.internal"), A).await;
        let own = answer.answer.iter().all(|set| set.name.to_ascii().ends_with(".corp.internal."));
        assert!(own && answer.authority.is_empty(), "{lie}: {}", in_short(&answer));
    }
    // Nothing of all that has stuck.
    let victim = ask(&daemon, "mx.plain.com", A).await;
    assert_eq!((in_short(&victim).as_str(), &*victim.answer[0].rdatas[0]), ("0: A / ", &truth[..]));
    assert_eq!(in_short(&ask(&daemon, "nothing.plain.com", A).await), "3:  / SOA");
    assert_eq!(in_short(&ask(&daemon, "plain.com", NS).await), "0: NS / ");
    assert_eq!(in_short(&ask(&daemon, "mx.ec.org", A).await), "0 AD: A+ / ");
    let within = |question: &Question| question.name.lowered().is_at_or_below(&"corp.internal".into());
    assert!(serving.asked().iter().all(|(_, question)| within(question)), "{:?}", serving.asked());
}

/// An answer that says more than it may; what, tells the first label of the question.
fn lie(query: &[u8]) -> Vec<u8> {
    let question = Question::parse(query).expect("a query");
    let record = |name: &str, rtype: u16, rdata: Rdata| OutRecord { name: name.into(), rtype, ttl: 86_400, rdata };
    let address = |name: &str| record(name, rtype::A, Rdata::octets([6, 6, 6, 6]));
    let pointer = |name: &str, rtype: u16, to: &str| record(name, rtype, Rdata::name(to.into()));
    let own: DnsName = question.name.lowered();
    let asked = own.to_string();
    let first = String::from_utf8_lossy(&own.labels()[0]).into_owned();
    let mut message = OutMessage {
        id: question.id,
        authoritative: first != "upward" && first != "sideways",
        truncated: false,
        recursion_available: true,
        rcode: if first == "denial" { rcode::NXDOMAIN } else { rcode::NOERROR },
        recursion_desired: true,
        checking_disabled: question.checking_disabled,
        question: Some((question.name.clone(), question.rtype)),
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        edns: question.edns.map(|(_, dnssec_ok)| (dnssec_ok, Vec::new())),
    };
    match first.as_str() {
        "alias" => message.answer = vec![pointer(&asked, rtype::CNAME, "mx.plain.com"), address("mx.plain.com")],
        "address" => message.answer = vec![address(&asked), address("mx.plain.com"), address("ns1.plain.com")],
        "upward" => message.authority = vec![pointer(".", rtype::NS, "ns.evil.com")],
        "sideways" => message.authority = vec![pointer("plain.com", rtype::NS, "ns.evil.com")],
        "dname" => message.answer = vec![pointer("internal", rtype::DNAME, "plain.com"), address(&asked)],
        _ => {}
    }
    message.authority.extend([".", "com", "plain.com"].map(|zone| pointer(zone, rtype::NS, "ns.evil.com")));
    message.additional = ["ns.evil.com", "mx.plain.com", "ns1.plain.com", "a.root-servers.net"].map(address).into();
    message.encode()
}
