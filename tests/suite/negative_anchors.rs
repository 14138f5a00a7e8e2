//! `resolver.insecure` and `insecure = true` of a forward zone: exceptions from validation that the operator sets
//! (RFC 7646). They never make anything secure.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, DNSKEY, DS, MX, TXT};
use postseal::resolver::exceptions::NegativeAnchor;
use postseal::resolver::settings::Forward;

use crate::dns_service::{in_short, query, udp};
use crate::forward_zones::server_of;
use crate::support::daemon::Daemon;
use crate::support::fault::{Fault, On};
use crate::support::forwarder::Forwarder;
use crate::support::lab::{Lab, NOW, ROUND_TRIP, anchor, hickory};
use crate::support::mail::{USABLE, foundation};
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};
use crate::support::record::rtype;
use crate::support::world::World;
use crate::support::zone::{Delegation, Zone};

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

fn exception(zone: &str, until: Option<i64>) -> NegativeAnchor {
    NegativeAnchor { zone: hickory(zone), until, forwarded: false }
}

/// `broken.com` signs badly, and so does everything below it but `good.broken.com`.
fn lab(exceptions: Vec<NegativeAnchor>, anchored: &[&str]) -> Lab {
    let world = Arc::new(World::build(
        NOW,
        vec![
            Zone::new(".").signed(13),
            Zone::new("com").signed(13),
            Zone::new("broken.com").signed(13).records(MAIL).records("into CNAME mx.fine.com."),
            Zone::new("sub.broken.com").signed(13).records(MAIL),
            Zone::new("good.broken.com").signed(13).records(MAIL),
            Zone::new("fine.com").signed(13).records(MAIL).records("into CNAME mx.broken.com.\na.ent A 192.0.2.1"),
        ],
    ));
    for zone in ["broken.com", "sub.broken.com"] {
        world.inject(On::zone(zone), Fault::BadSignatures);
    }
    let anchors: Vec<_> = anchored.iter().map(|zone| anchor(&world, zone)).collect();
    let network = MemoryNetwork::new(world.clone(), ROUND_TRIP);
    Lab::on_world(world, network, |settings| {
        settings.insecure = exceptions;
        settings.trust_anchors.extend(anchors);
    })
}

async fn expect(lab: &Lab, rows: &[(&str, RecordType, &str)]) {
    for (name, rtype, expected) in rows {
        assert_eq!(lab.verdict(name, *rtype).await, *expected, "{name} {rtype}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_and_below_an_exception_nothing_is_validated_and_nothing_is_secure() {
    let without = lab(Vec::new(), &[]);
    expect(&without, &[("broken.com", MX, "bogus"), ("mx.sub.broken.com", A, "bogus")]).await;
    let with = lab(vec![exception("Broken.com", None)], &[]);
    let rows = [
        ("broken.com", MX, "insecure 1"),
        ("mx.broken.com", A, "insecure 1"),
        ("none.broken.com", A, "insecure nxdomain"),
        ("mx.broken.com", TXT, "insecure nodata"),
        ("broken.com", DNSKEY, "insecure 2"),
        ("mx.sub.broken.com", A, "insecure 1"),
        ("mx.good.broken.com", A, "insecure 1"),
        ("none.good.broken.com", A, "insecure nxdomain"),
        // The other way round a chain is only as good as all of it.
        ("into.broken.com", A, "insecure 1"),
        ("into.fine.com", A, "insecure 1"),
        // The DS is the parent's, which is validated; its neighbours are as they were.
        ("broken.com", DS, "secure 1"),
        ("fine.com", MX, "secure 1"),
        ("none.fine.com", A, "secure nxdomain"),
        ("notbroken.com", A, "secure nxdomain"),
    ];
    // Twice: fetched, and from the cache.
    expect(&with, &rows).await;
    with.world.take_asked();
    expect(&with, &rows).await;
    assert_eq!(with.world.take_asked().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_exception_within_a_zone_and_for_what_is_not_there_makes_nothing_secure_either() {
    let lab = lab(vec![exception("ent.fine.com", None), exception("gone.com", None)], &[]);
    expect(
        &lab,
        &[
            ("a.ent.fine.com", A, "insecure 1"),
            ("b.ent.fine.com", A, "insecure nxdomain"),
            ("ent.fine.com", A, "insecure nodata"),
            ("mx.fine.com", A, "secure 1"),
            ("gone.com", DS, "secure nxdomain"),
            ("gone.com", A, "insecure nxdomain"),
            ("mx.gone.com", A, "insecure nxdomain"),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_closest_of_anchors_and_exceptions_decides() {
    let secure_below = [("mx.good.broken.com", A, "secure 1"), ("none.good.broken.com", A, "secure nxdomain")];
    let lab_with = lab(vec![exception("broken.com", None)], &["good.broken.com"]);
    expect(&lab_with, &secure_below).await;
    expect(&lab_with, &[("mx.broken.com", A, "insecure 1")]).await;
    // Above everything, even the root's anchor.
    let all = lab(vec![exception(".", None)], &["good.broken.com"]);
    expect(&all, &secure_below).await;
    expect(&all, &[("broken.com", MX, "insecure 1"), ("fine.com", MX, "insecure 1"), ("com", DS, "insecure 1")]).await;
    // Below an anchor, and at the same name.
    for zone in ["mx.good.broken.com", "good.broken.com"] {
        let lab = lab(vec![exception("broken.com", None), exception(zone, None)], &["good.broken.com"]);
        expect(&lab, &[("mx.good.broken.com", A, "insecure 1")]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_passes_is_an_end_also_for_what_is_cached() {
    let over = lab(vec![exception("broken.com", Some(NOW))], &[]);
    expect(&over, &[("broken.com", MX, "bogus"), ("mx.good.broken.com", A, "bogus")]).await;
    let ending = lab(vec![exception("broken.com", Some(NOW + 100))], &[]);
    expect(&ending, &[("broken.com", MX, "insecure 1"), ("none.broken.com", A, "insecure nxdomain")]).await;
    let ttl = ending.lookup("mx.broken.com", A).await.unwrap().ttl;
    assert!(ttl <= 100, "{ttl}");
    tokio::time::sleep(Duration::from_secs(101)).await;
    expect(&ending, &[("broken.com", MX, "bogus"), ("mx.broken.com", A, "bogus"), ("none.broken.com", A, "bogus")])
        .await;
    ending.world.heal();
    tokio::time::sleep(Duration::from_secs(400)).await;
    expect(&ending, &[("broken.com", MX, "secure 1"), ("mx.sub.broken.com", A, "secure 1")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_under_an_exception_looks_for_no_tlsa_records() {
    for (exceptions, expected, looks) in
        [(vec![exception("dane.com", None)], "NOTFOUND ", false), (Vec::new(), "OK dane-only", true)]
    {
        let mut zones = foundation();
        zones.push(Zone::new("dane.com").signed(13).records(MAIL).records(&format!("_25._tcp.mx {USABLE}")));
        let world = Arc::new(World::build(NOW, zones));
        let network = MemoryNetwork::new(world.clone(), ROUND_TRIP);
        let lab = Lab::on_world(world, network, |settings| settings.insecure = exceptions);
        let fetch = ScriptedFetch::new(&lab);
        let lab = PolicyLab::new(lab, fetch);
        let reply = lab.ask("dane.com").await;
        let asked = lab.lab.world.take_asked();
        let own = |name: &crate::support::name::DnsName| name.lowered().is_at_or_below(&"dane.com".into());
        let tlsa = asked.iter().filter(|asked| asked.rtype == rtype::TLSA && own(&asked.name)).count();
        assert_eq!((reply.as_str(), tlsa > 0), (expected, looks), "{asked:?}");
    }
}

/// From the first question on, with a public tree that never says anything, and without asking it anything.
#[tokio::test(start_paused = true)]
async fn an_insecure_forward_zone_needs_nobody_but_its_servers() {
    let world = Arc::new(World::build(
        NOW,
        vec![
            Zone::new(".").signed(13),
            Zone::new("cluster.local").delegation(Delegation::Missing).records(MAIL),
            Zone::new("signed.cluster.local").signed(13).delegation(Delegation::Missing).records(MAIL),
        ],
    ));
    world.inject(On::zone("."), Fault::Silence);
    let own = [world.servers_of("cluster.local")[0], world.servers_of("signed.cluster.local")[0]];
    world.host(own[0], "signed.cluster.local");
    let island = anchor(&world, "signed.cluster.local");
    let network = MemoryNetwork::new(world.clone(), ROUND_TRIP);
    let lab = Lab::on_world(world, network, |settings| {
        let zone = hickory("cluster.local");
        settings.forward = vec![Forward { zone: zone.clone(), servers: vec![(own[0], 53).into()], tls: None }];
        settings.insecure = vec![NegativeAnchor { zone, until: None, forwarded: true }];
        settings.trust_anchors.push(island);
    });
    let rows = [
        ("mx.cluster.local", A, "insecure 1"),
        ("cluster.local", MX, "insecure 1"),
        ("none.cluster.local", A, "insecure nxdomain"),
        ("mx.signed.cluster.local", A, "secure 1"),
        ("none.signed.cluster.local", A, "secure nxdomain"),
    ];
    expect(&lab, &rows).await;
    expect(&lab, &rows).await;
    let asked = lab.world.take_asked();
    assert!(asked.iter().all(|asked| own.contains(&asked.server)), "{asked:?}");
}

#[tokio::test]
async fn the_daemon_answers_shows_and_warns_of_its_exceptions() {
    let mut zones = foundation();
    for name in ["broken.com", "late.com"] {
        zones.push(Zone::new(name).signed(13).records(MAIL).records(&format!("_25._tcp.mx {USABLE}")));
    }
    zones.push(Zone::new("cluster.local").delegation(Delegation::Missing).records(MAIL));
    let forwarder = Forwarder::bind().await;
    let configuration = format!(
        "[dns]\nlisten = [\"127.0.0.1:0\"]\n{}insecure = true\n[[resolver.insecure]]\nzone = \"broken.com\"\nuntil = \
         \"2099-12-31\"\n[[resolver.insecure]]\nzone = \"late.com\"\nuntil = \"2001-01-01\"\n",
        forwarder.entry("cluster.local", None)
    );
    let daemon = Daemon::start(zones, &configuration).await;
    let _serving = forwarder.serve(None, server_of(&daemon.world, "cluster.local"));
    daemon.world.inject(On::zone("broken.com"), Fault::BadSignatures);
    let listener = daemon.listening["dns"].parse().unwrap();
    for (name, rtype, expected) in
        [("mx.cluster.local", A, "0: A / "), ("broken.com", MX, "0: MX+ / "), ("late.com", MX, "0 AD: MX+ / ")]
    {
        assert_eq!(in_short(&udp(listener, &query(name, rtype, 0)).await), expected, "{name}");
    }
    assert_eq!(daemon.ask("QUERY broken.com").await, "NOTFOUND ");
    assert_eq!(daemon.ask("QUERY late.com").await, "OK dane-only");

    let warnings: Vec<_> = daemon.starting.lines().into_iter().filter(|line| line["level"] == "WARN").collect();
    let warned = |zone: &str, words: &str| {
        let about = |line: &&serde_json::Value| line["zone"] == zone;
        let told: Vec<_> = warnings.iter().filter(about).collect();
        assert!(told.len() == 1 && told[0].to_string().contains(words), "{zone}: {warnings:?}");
    };
    warned("broken.com", "2099-12-31");
    warned("late.com", "has ended");
    warned("cluster.local", "insecure = true");

    let status = String::from_utf8(daemon.run(&["status"]).await.stdout).unwrap();
    for line in [
        "not validated   broken.com (negative trust anchor until 2099-12-31)",
        "not validated   late.com (negative trust anchor until 2001-01-01: ENDED, validated again)",
        "not validated   cluster.local (forward zone with insecure = true)",
    ] {
        assert!(status.contains(line), "{line} in\n{status}");
    }
    let json: serde_json::Value = serde_json::from_slice(&daemon.run(&["status", "--json"]).await.stdout).unwrap();
    assert_eq!(
        (&json["insecure"][0]["zone"], &json["insecure"][0]["until"]),
        (&"broken.com".into(), &"2099-12-31".into())
    );
    let explained = String::from_utf8(daemon.run(&["explain", "broken.com"]).await.stdout).unwrap();
    assert!(explained.contains("negative trust anchor set by the operator until 2099-12-31"), "{explained}");
    assert!(
        explained.contains("broken.com is not validated") && !explained.contains("sign the domain's zone"),
        "{explained}"
    );
    assert!(daemon.stop().await);
}

/// Over sockets, with no root at all: neither the answer nor the explanation waits for it.
#[tokio::test]
async fn the_daemon_resolves_an_insecure_forward_zone_without_a_root() {
    let forwarder = Forwarder::bind().await;
    let without_root = |base: String| {
        let port = base.lines().find(|line| line.starts_with("upstream-port")).unwrap();
        base.replace(port, "upstream-port = 1")
    };
    let configuration =
        format!("[dns]\nlisten = [\"127.0.0.1:0\"]\n{}insecure = true\n", forwarder.entry("cluster.local", None));
    let mut zones = foundation();
    zones.push(Zone::new("cluster.local").delegation(Delegation::Missing).records(MAIL));
    let daemon = Daemon::start_with(zones, &configuration, without_root).await;
    let serving = forwarder.serve(None, server_of(&daemon.world, "cluster.local"));
    let listener = daemon.listening["dns"].parse().unwrap();
    assert_eq!(in_short(&udp(listener, &query("mx.cluster.local", A, 0)).await), "0: A / ");
    assert_eq!(daemon.ask("QUERY cluster.local").await, "NOTFOUND ");
    let explained = String::from_utf8(daemon.run(&["explain", "cluster.local"]).await.stdout).unwrap();
    assert!(explained.contains("negative trust anchor set by the operator"), "{explained}");
    assert!(explained.starts_with("cluster.local: no policy\n"), "{explained}");
    assert!(serving.count("mx.cluster.local") > 0);
}
