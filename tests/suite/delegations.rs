//! Delegations of every kind: keys and digests, servers in other zones, parents and children that disagree.

use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, AAAA, DNSKEY, DS, MX, NS, TXT};

use crate::support::answer::{Item, Reply, rcode};
use crate::support::fault::{Fault, On};
use crate::support::key::{KSK, ZSK, ZoneKey};
use crate::support::lab::{Lab, anchor};
use crate::support::memory::MemoryNetwork;
use crate::support::name::DnsName;
use crate::support::record::{Part, Rdata, RrSet, rtype};
use crate::support::zone::{Delegation, Denial, Zone};

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

fn lab(zones: Vec<Zone>) -> Lab {
    let mut all = vec![Zone::new(".").signed(13), Zone::new("com").signed(13), Zone::new("net").signed(13)];
    all.extend(zones);
    Lab::in_memory(all)
}

async fn expect(lab: &Lab, rows: &[(&str, RecordType, &str)]) {
    for (name, rtype, expected) in rows {
        let found = lab.verdict(name, *rtype).await;
        let timeline = lab.memory.as_ref().unwrap().timeline();
        assert_eq!(found, *expected, "{name} {rtype}\n{timeline}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_and_digests_make_secure_insecure_or_bogus() {
    let both = || vec![ZoneKey::new(13, KSK), ZoneKey::new(13, ZSK), ZoneKey::new(15, KSK), ZoneKey::new(15, ZSK)];
    let zone = |name: &str| Zone::new(name).records(MAIL);
    let lab = lab(vec![
        zone("rsa.com").signed(8),
        zone("rsa512.com").signed(10),
        zone("p256.com").signed(13),
        zone("p384.com").signed(14),
        zone("ed.com").signed(15),
        zone("csk.com").keys(vec![ZoneKey::new(13, KSK)]),
        zone("standby.com").keys(vec![ZoneKey::new(13, KSK), ZoneKey::new(13, KSK), ZoneKey::new(13, ZSK)]),
        zone("rollover.com").keys(both()),
        zone("sha384.com").signed(13).delegation(Delegation::Digests(vec![4])),
        zone("sha1.com").signed(13).delegation(Delegation::Digests(vec![1])),
        zone("sha1and2.com").signed(13).delegation(Delegation::Digests(vec![1, 2])),
        zone("stranger.com").signed(13).delegation(Delegation::WithStranger),
        zone("wrong.com").signed(13).delegation(Delegation::WrongDigest),
        zone("nodigest.com").signed(13).delegation(Delegation::UnknownDigest(99)),
        zone("noalgorithm.com").signed(13).delegation(Delegation::Algorithm(99)),
        zone("private.com").keys(vec![ZoneKey::new(253, KSK)]),
        zone("nods.com").signed(13).delegation(Delegation::Insecure),
        zone("unsigned.com").delegation(Delegation::Secure),
    ]);
    for (zone, expected) in [
        ("rsa", "secure 1"),
        ("rsa512", "secure 1"),
        ("p256", "secure 1"),
        ("p384", "secure 1"),
        ("ed", "secure 1"),
        ("csk", "secure 1"),
        ("standby", "secure 1"),
        ("rollover", "secure 1"),
        ("sha384", "secure 1"),
        ("sha1", "secure 1"), // no stronger digest is there (RFC 8624 §3.3)
        ("sha1and2", "secure 1"),
        ("stranger", "secure 1"),
        ("wrong", "bogus"),
        ("nodigest", "insecure 1"),    // RFC 6840 §5.2
        ("noalgorithm", "insecure 1"), // RFC 4035 §5.2
        ("private", "insecure 1"),
        ("nods", "insecure 1"),
        ("unsigned", "insecure 1"),
    ] {
        expect(&lab, &[(&format!("{zone}.com"), MX, expected), (&format!("mx.{zone}.com"), A, expected)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_weak_digest_does_not_count_beside_a_strong_one() {
    // RFC 4509 §3: the SHA-1 DS matches the key, the SHA-256 DS does not.
    let zone = Zone::new("mixed.com").signed(13).records(MAIL).delegation(Delegation::Digests(vec![1]));
    let lab = lab(vec![zone]);
    lab.world.change("com", |com| {
        let stranger = ZoneKey::new(13, KSK).ds(&"mixed.com".into(), 2);
        com.add_rdata(&"mixed.com".into(), rtype::DS, stranger);
    });
    expect(&lab, &[("mixed.com", MX, "bogus")]).await;
}

#[tokio::test(start_paused = true)]
async fn servers_are_reached_wherever_they_are() {
    let lab = lab(vec![
        Zone::new("hosting.net").signed(13).records("@ TXT hello").nameserver("ns1.hosting.net", &[ip(1)]),
        // Only reachable through another zone, which is itself only reachable through a third.
        Zone::new("glueless.com").signed(13).records(MAIL).nameserver("ns.second.net", &[]),
        Zone::new("second.net").signed(13).records("ns A 127.54.0.2").nameserver("ns1.hosting.net", &[]),
        Zone::new("hosted.com").signed(13).records(MAIL).nameserver("ns1.hosting.net", &[]),
        Zone::new("half.com")
            .signed(13)
            .records(MAIL)
            .nameserver("ns.nowhere.net", &[])
            .nameserver("ns1.hosting.net", &[]),
        // The parent names one server, the child another one (RFC 1034 §4.2.2 wants them equal).
        Zone::new("differs.com")
            .signed(13)
            .records(MAIL)
            .nameserver("ns1.differs.com", &[ip(3)])
            .nameserver("ns2.differs.com", &[ip(4)])
            .parent_ns(&["ns2.differs.com"]),
    ]);
    lab.world.host(ip(2), "glueless.com");
    lab.world.inject(On::server(ip(3)), Fault::Silence);
    let names = ["glueless.com", "hosted.com", "half.com", "differs.com"];
    for name in names {
        expect(&lab, &[(name, MX, "secure 1"), (&format!("mx.{name}"), A, "secure 1"), (name, NS, &ns(name))]).await;
    }
}

fn ns(zone: &str) -> String {
    format!("secure {}", if matches!(zone, "half.com" | "differs.com") { 2 } else { 1 })
}

fn ip(last: u8) -> std::net::IpAddr {
    [127, 54, 0, last].into()
}

#[tokio::test(start_paused = true)]
async fn zones_of_one_server_need_no_referral() {
    let server = ip(1);
    let lab = lab(vec![
        Zone::new("parent.com").signed(13).records(MAIL).nameserver("ns.parent.com", &[server]),
        Zone::new("child.parent.com").signed(15).records(MAIL).nameserver("ns.parent.com", &[]),
        Zone::new("plain.parent.com").records(MAIL).nameserver("ns.parent.com", &[]),
        Zone::new("deep.ent.parent.com")
            .signed(13)
            .denial(Denial::nsec3())
            .records(MAIL)
            .nameserver("ns.parent.com", &[]),
    ]);
    expect(
        &lab,
        &[
            ("child.parent.com", MX, "secure 1"),
            ("mx.child.parent.com", A, "secure 1"),
            ("child.parent.com", DS, "secure 1"),
            ("child.parent.com", DNSKEY, "secure 2"),
            ("nothing.child.parent.com", A, "secure nxdomain"),
            ("plain.parent.com", MX, "insecure 1"),
            ("plain.parent.com", DS, "secure nodata"),
            ("nothing.plain.parent.com", A, "insecure nxdomain"),
            ("deep.ent.parent.com", MX, "secure 1"),
            ("ent.parent.com", A, "secure nodata"),
            ("mx.parent.com", A, "secure 1"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_signed_zone_below_an_unsigned_one_is_insecure_unless_anchored() {
    let zones = || {
        vec![
            Zone::new(".").signed(13),
            Zone::new("com").signed(13),
            Zone::new("plain.com").records(MAIL),
            Zone::new("island.plain.com").signed(13).records(MAIL),
        ]
    };
    let without = Lab::in_memory(zones());
    expect(&without, &[("island.plain.com", MX, "insecure 1")]).await;
    let world = without.world.clone();
    let network = MemoryNetwork::new(world.clone(), crate::support::lab::ROUND_TRIP);
    let with = Lab::on_world(world.clone(), network, |settings| {
        settings.trust_anchors.push(anchor(&world, "island.plain.com"));
    });
    expect(
        &with,
        &[
            ("island.plain.com", MX, "secure 1"),
            ("nothing.island.plain.com", A, "secure nxdomain"),
            ("plain.com", MX, "insecure 1"),
            ("com", NS, "secure 1"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_anchors_everything_is_insecure() {
    let lab = lab(vec![Zone::new("signed.com").signed(13).records(MAIL)]);
    let network = MemoryNetwork::new(lab.world.clone(), crate::support::lab::ROUND_TRIP);
    let lab = Lab::on_world(lab.world.clone(), network, |settings| settings.trust_anchors.clear());
    lab.world.inject(On::zone("signed.com"), Fault::ExpiredSignatures);
    expect(&lab, &[("signed.com", MX, "insecure 1"), ("nothing.signed.com", A, "insecure nxdomain")]).await;
}

/// Adds unsigned records to an answer.
fn stuff(section: fn(&mut Reply) -> &mut Vec<Item>, records: Vec<(&'static str, u16, Rdata)>) -> Fault {
    Fault::edit(move |_, reply| {
        for (name, rtype, rdata) in &records {
            let set = RrSet { name: DnsName::from(*name), rtype: *rtype, ttl: 86_400, rdatas: vec![rdata.clone()] };
            section(reply).push(Item { set, source: None, zone: DnsName::root() });
        }
    })
}

#[tokio::test(start_paused = true)]
async fn records_that_are_not_the_servers_to_give_are_not_believed() {
    let evil = || Rdata::octets([203, 0, 113, 66]);
    let lab = lab(vec![
        Zone::new("attacker.com").records(MAIL),
        Zone::new("victim.com").records(MAIL).records("www A 192.0.2.7"),
    ]);
    let evil_server = || Rdata(vec![Part::Name("ns.attacker.com".into())]);
    lab.world.inject(
        On::zone("attacker.com"),
        stuff(
            |reply| &mut reply.additional,
            vec![
                ("www.victim.com", rtype::A, evil()),
                ("mx.victim.com", rtype::A, evil()),
                ("ns1.victim.com", rtype::A, evil()),
            ],
        ),
    );
    lab.world.inject(
        On::zone("attacker.com"),
        stuff(
            |reply| &mut reply.authority,
            vec![
                ("victim.com", rtype::NS, evil_server()),
                ("com", rtype::NS, evil_server()),
                (".", rtype::NS, evil_server()),
            ],
        ),
    );
    lab.world.inject(
        On::zone("attacker.com"),
        stuff(
            |reply| &mut reply.answer,
            vec![
                (
                    "victim.com",
                    rtype::MX,
                    Rdata(vec![Part::Octets(vec![0, 1]), Part::Name("evil.attacker.com".into())]),
                ),
                ("www.victim.com", rtype::A, evil()),
            ],
        ),
    );
    expect(&lab, &[("attacker.com", MX, "insecure 1"), ("mx.attacker.com", A, "insecure 1")]).await;
    for name in ["www.victim.com", "mx.victim.com"] {
        let answer = lab.lookup(name, A).await.unwrap();
        assert!(!format!("{answer:?}").contains("203.0.113.66"), "{answer:?}");
    }
    let answer = lab.lookup("victim.com", MX).await.unwrap();
    assert!(!format!("{answer:?}").contains("attacker"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delegation_that_the_parent_took_back_ends_with_its_ttl() {
    // Ghost domains (NDSS 2012): the child's own NS RRset must not prolong what the parent gave.
    let lab = lab(vec![Zone::new("ghost.com").ttl(300).records(MAIL).records("@ 86400 NS ns1.ghost.com.")]);
    expect(&lab, &[("ghost.com", MX, "insecure 1"), ("ghost.com", NS, "insecure 1")]).await;
    lab.world.change("com", |com| {
        com.remove(&"ghost.com".into(), rtype::NS);
        com.remove(&"ns1.ghost.com".into(), rtype::A);
    });
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(100)).await;
        let name = format!("x{}.ghost.com", rand::random::<u32>());
        let _ = lab.lookup(&name, A).await;
        let _ = lab.lookup("ghost.com", NS).await;
    }
    expect(&lab, &[("ghost.com", MX, "secure nxdomain")]).await;
}

#[tokio::test(start_paused = true)]
async fn servers_without_edns_or_dnssec_serve_unsigned_zones() {
    for fault in [
        Fault::NoEdns,
        Fault::CodeToEdns(rcode::FORMERR),
        Fault::CodeToEdns(rcode::NOTIMP),
        Fault::CodeToEdns(rcode::SERVFAIL),
        Fault::SilenceToEdns,
        Fault::LowercaseQuestion,
        Fault::NxDomainAtEmptyNonTerminal,
    ] {
        let lab = lab(vec![Zone::new("old.com").records(MAIL).records("a.b.ent A 192.0.2.1")]);
        lab.world.inject(On::zone("old.com"), fault);
        expect(
            &lab,
            &[("old.com", MX, "insecure 1"), ("mx.old.com", A, "insecure 1"), ("a.b.ent.old.com", A, "insecure 1")],
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_some_types_still_answers_the_others() {
    let lab = lab(vec![Zone::new("picky.com").signed(13).records(MAIL).records("@ TXT x")]);
    for refused in [rtype::NS, rtype::AAAA, rtype::DS] {
        lab.world.inject(On::zone("picky.com").qtype(refused), Fault::Code(rcode::REFUSED));
    }
    expect(&lab, &[("picky.com", MX, "secure 1"), ("mx.picky.com", A, "secure 1"), ("picky.com", TXT, "secure 1")])
        .await;
    assert!(lab.lookup("mx.picky.com", AAAA).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_a_zone_changes_is_seen_when_the_ttl_ends() {
    let lab = lab(vec![Zone::new("moving.com").signed(13).ttl(600).records(MAIL)]);
    expect(&lab, &[("mx.moving.com", A, "secure 1"), ("new.moving.com", A, "secure nxdomain")]).await;
    lab.world.change("moving.com", |zone| {
        zone.add_rdata(&"mx.moving.com".into(), rtype::A, Rdata::octets([192, 0, 2, 2]));
        zone.add_rdata(&"new.moving.com".into(), rtype::A, Rdata::octets([192, 0, 2, 3]));
    });
    expect(&lab, &[("mx.moving.com", A, "secure 1"), ("new.moving.com", A, "secure nxdomain")]).await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    expect(&lab, &[("mx.moving.com", A, "secure 2"), ("new.moving.com", A, "secure 1")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_ends_ends_the_answer() {
    let lab = lab(vec![Zone::new("ending.com").signed(13).ttl(86_400 * 7).records(MAIL)]);
    // Good signatures end after 13 days; shortly before, an answer lives no longer than they do.
    let fresh = Lab::on_world(
        lab.world.clone(),
        MemoryNetwork::new(lab.world.clone(), crate::support::lab::ROUND_TRIP),
        |_| {},
    );
    fresh.clock.jump(13 * 86_400 - 100);
    let answer = fresh.lookup("ending.com", MX).await.unwrap();
    assert!(answer.ttl <= 100 && answer.security.is_secure(), "{answer:?}");
    fresh.clock.jump(200);
    expect(&fresh, &[("mx.ending.com", A, "bogus")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_signed_zone_that_proves_no_denial_is_bogus_for_what_is_not_there() {
    let zone = Zone::new("silent.com").signed(13).denial(Denial::None).records(MAIL).records("*.wild A 192.0.2.1");
    let lab = lab(vec![zone]);
    expect(
        &lab,
        &[
            ("silent.com", MX, "secure 1"),
            ("mx.silent.com", AAAA, "bogus"),
            ("nothing.silent.com", A, "bogus"),
            ("x.wild.silent.com", A, "bogus"), // nothing says that the name itself is not there
        ],
    )
    .await;
}
