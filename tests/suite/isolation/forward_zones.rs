//! A forward zone is an island: whatever was asked and learnt above it, its names are answered as if nobody had.

use std::sync::Arc;

use hickory_proto::rr::RecordType::{self, A, DS, MX, NS, TXT};
use postseal::resolver::settings::Forward;

use crate::support::lab::{Lab, NOW, ROUND_TRIP, anchor, hickory};
use crate::support::mail::USABLE;
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{PolicyLab, ScriptedFetch};
use crate::support::record::parse_records;
use crate::support::world::World;
use crate::support::zone::{Delegation, Zone};

/// A world where the public tree denies `island`, which is forwarded to its server; with an anchor where it is signed.
fn lab(island: &str, is_signed: bool, more: Vec<Zone>) -> Lab {
    let own = Zone::new(island).delegation(Delegation::Missing).records("@ A 10.0.0.1\n@ MX 10 mx\nmx A 10.0.0.2");
    let own = if is_signed { own.signed(13) } else { own };
    let mut zones = vec![Zone::new(".").signed(13), Zone::new("lab").signed(13), Zone::new("com").signed(13), own];
    zones.extend(more);
    let world = Arc::new(World::build(NOW, zones));
    let server = (world.servers_of(island)[0], 53).into();
    let network = MemoryNetwork::new(world.clone(), ROUND_TRIP);
    let forward = Forward { zone: hickory(island), servers: vec![server], tls: None };
    let island_anchor = is_signed.then(|| anchor(&world, island));
    Lab::on_world(world, network, |settings| {
        settings.forward = vec![forward];
        settings.trust_anchors.extend(island_anchor);
    })
}

/// What the island's names come to.
async fn inside(lab: &Lab, island: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, rtype) in [(format!("mx.{island}"), A), (island.to_owned(), MX), (island.to_owned(), A)] {
        found.push(lab.verdict(&name, rtype).await);
    }
    found.push(lab.verdict(&format!("none.{island}"), A).await);
    found
}

#[tokio::test(start_paused = true)]
async fn denials_from_above_are_never_used_on_an_island() {
    for (island, questions) in [
        ("a.b.lab", &[("b.lab", A), ("b.lab", DS), ("b.lab", MX), ("x.b.lab", A), ("a.b.lab", DS)][..]),
        ("cluster.local", &[("local", A), ("local", DS), ("x.local", A), ("cluster.local", DS)]),
        ("local", &[("local", DS), ("loca", A)]),
        ("dovecot", &[("dovecot", DS)]),
    ] {
        for is_signed in [false, true] {
            let expected = inside(&lab(island, is_signed, Vec::new()), island).await;
            let security = if is_signed { "secure" } else { "insecure" };
            assert_eq!(expected[..3], ["1", "1", "1"].map(|count| format!("{security} {count}")), "{island}");
            for (name, rtype) in questions {
                let lab = lab(island, is_signed, Vec::new());
                assert_eq!(lab.verdict(name, *rtype).await, "secure nxdomain", "{name} {rtype}: the public side");
                assert_eq!(inside(&lab, island).await, expected, "{island} after {name} {rtype}");
                assert_eq!(lab.verdict(name, *rtype).await, "secure nxdomain", "{name} {rtype}: as before");
            }
        }
    }
}

/// The public tree may have something else at the island's name: an alias, one made by a DNAME, or data.
#[tokio::test(start_paused = true)]
async fn what_the_public_side_has_at_an_islands_name_is_never_seen_on_it() {
    let public = |records: &str| Zone::new("b.lab").signed(13).records(records);
    for records in [
        "a CNAME other.b.lab.\nother A 203.0.113.66",
        "@ DNAME c.lab.",
        "*.a A 203.0.113.66\na A 203.0.113.66\nmx.a A 203.0.113.66",
    ] {
        let lab = lab("a.b.lab", false, vec![public(records)]);
        for (name, rtype) in [("a.b.lab", DS), ("b.lab", NS), ("x.b.lab", A), ("a.b.lab", DS)] {
            let _ = lab.lookup(name, rtype).await;
        }
        assert_eq!(addresses(&lab, "a.b.lab").await, "[10.0.0.1]", "{records}");
        assert_eq!(addresses(&lab, "mx.a.b.lab").await, "[10.0.0.2]", "{records}");
    }
}

/// An alias from outside leads onto the island, and its zone would like to say what is there.
#[tokio::test(start_paused = true)]
async fn an_alias_onto_an_island_is_answered_by_the_island() {
    let public = Zone::new("b.lab").signed(13).records("into CNAME mx.a.b.lab.\nmx.a A 203.0.113.66");
    let lab = lab("a.b.lab", false, vec![public]);
    assert_eq!(addresses(&lab, "into.b.lab").await, "[10.0.0.2]");
    assert_eq!(addresses(&lab, "mx.a.b.lab").await, "[10.0.0.2]");
    assert_eq!(lab.verdict("into.b.lab", A).await, "insecure 1");
    assert_eq!(lab.verdict("into.b.lab", TXT).await, "insecure nodata");
}

async fn addresses(lab: &Lab, name: &str) -> String {
    let answer = lab.lookup(name, RecordType::A).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let found: Vec<String> = answer.records().iter().map(ToString::to_string).collect();
    format!("[{}]", found.join(", "))
}

/// The whole way: one mail to the name above must not take the policy of the island's domain away.
#[tokio::test(start_paused = true)]
async fn a_mail_to_the_name_above_leaves_the_policy_of_an_islands_domain_as_it_is() {
    for asked_first in [None, Some("b.lab"), Some("x.b.lab")] {
        let lab = lab("a.b.lab", true, Vec::new());
        lab.world.change("a.b.lab", |zone| {
            for record in parse_records(&format!("_25._tcp.mx {USABLE}"), &zone.name, 3_600) {
                zone.add(record);
            }
        });
        let fetch = ScriptedFetch::new(&lab);
        let lab = PolicyLab::new(lab, fetch);
        if let Some(above) = asked_first {
            assert_eq!(lab.ask(above).await, "NOTFOUND ");
        }
        assert_eq!(lab.ask("a.b.lab").await, "OK dane-only", "after {asked_first:?}");
    }
}
