//! Zone cuts: a cut lives no longer than every delegation on the way to it (phoenix domains, NDSS 2023;
//! CVE-2022-30698), and what a parent says of a child's DS counts only with its whole proof.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};

use crate::support::answer::{Item, Reply};
use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, verdict};
use crate::support::name::DnsName;
use crate::support::record::{Rdata, RrSet, rtype};
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1\n* A 192.0.2.2";
/// A day.
const LONG: u32 = 86_400;

/// A delegation that lives for five minutes, and below it others that would live for a day.
fn phoenix() -> Lab {
    Lab::in_memory(vec![
        Zone::new(".").signed(13).ttl(LONG),
        Zone::new("com").signed(13).ttl(300),
        Zone::new("phoenix.com").ttl(LONG).records(MAIL),
        Zone::new("sub.phoenix.com").ttl(LONG).records(MAIL),
        Zone::new("one.sub.phoenix.com").ttl(LONG).records(MAIL),
        Zone::new("two.one.sub.phoenix.com").ttl(LONG).records(MAIL),
        Zone::new("calm.com").signed(13).ttl(LONG).records(MAIL),
        Zone::new("sub.calm.com").signed(13).ttl(LONG).records(MAIL),
    ])
}

fn take_back(lab: &Lab) {
    lab.world.change("com", |com| {
        com.remove(&"phoenix.com".into(), rtype::NS);
        com.remove(&"ns1.phoenix.com".into(), rtype::A);
    });
}

/// What a neighbour's names come to, with their TTLs, how long that takes, and how often its servers are asked.
async fn calm(lab: &Lab, round: u32) -> (Vec<String>, Vec<u32>, Duration, usize) {
    lab.world.take_asked();
    let begun = tokio::time::Instant::now();
    let (mut found, mut ttls) = (Vec::new(), Vec::new());
    let new = format!("x{round}.sub.calm.com");
    for (name, rtype) in [("mx.sub.calm.com", A), ("sub.calm.com", MX), ("none.mx.calm.com", A), (&new, A)] {
        let outcome = lab.lookup(name, rtype).await;
        found.push(verdict(&outcome));
        ttls.push(outcome.map_or(0, |answer| answer.ttl));
    }
    (found, ttls, begun.elapsed(), lab.world.take_asked().len())
}

#[tokio::test(start_paused = true)]
async fn what_lies_below_a_delegation_that_has_ended_ends_with_it() {
    let (lab, alone) = (phoenix(), phoenix());
    for name in ["mx.sub.phoenix.com", "mx.one.sub.phoenix.com", "mx.phoenix.com"] {
        assert_eq!(lab.verdict(name, A).await, "insecure 1");
    }
    take_back(&lab);
    // Its owner keeps everything below in use, and goes on delegating deeper.
    for round in 0..30 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        for zone in ["sub.phoenix.com", "one.sub.phoenix.com", "two.one.sub.phoenix.com"] {
            let _ = lab.lookup(&format!("x{round}.{zone}"), A).await;
        }
        let (found, ttls, took, asked) = calm(&lab, round).await;
        let (expected, fresh, alone_took, alone_asked) = calm(&alone, round).await;
        assert_eq!(found, expected, "the neighbour in round {round}");
        // What is known of the zone above both may be newer beside the other one, never older.
        assert!(took <= alone_took && asked <= alone_asked, "round {round}: {took:?}, {asked}");
        // They were learnt one after the other.
        assert!(ttls.iter().zip(&fresh).all(|(one, other)| one.abs_diff(*other) <= 2), "{ttls:?}, {fresh:?}");
    }
    // The deepest first: a denial further up would speak for all below (RFC 8020).
    for zone in ["two.one.sub.phoenix.com", "one.sub.phoenix.com", "sub.phoenix.com", "phoenix.com"] {
        assert_eq!(lab.verdict(&format!("new.{zone}"), A).await, "secure nxdomain", "{zone}");
        assert_eq!(lab.verdict(zone, MX).await, "secure nxdomain", "{zone}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_lies_below_a_delegation_that_goes_on_goes_on_with_it() {
    let lab = phoenix();
    assert_eq!(lab.verdict("mx.sub.calm.com", A).await, "secure 1");
    tokio::time::sleep(Duration::from_secs(200)).await;
    lab.world.take_asked();
    assert_eq!(lab.verdict("x.sub.calm.com", A).await, "secure 1");
    assert_eq!(lab.world.take_asked().len(), 1, "everything is known");
    tokio::time::sleep(Duration::from_secs(200)).await;
    // Somebody asks for another name of the zone above, and so its delegation is learnt again.
    assert_eq!(lab.verdict("y.calm.com", A).await, "secure 1");
    lab.world.take_asked();
    assert_eq!(lab.verdict("z.sub.calm.com", A).await, "secure 1");
    let below: Vec<_> = lab.world.take_asked().into_iter().filter(|asked| asked.rtype == rtype::A).collect();
    assert_eq!(below.len(), 1, "no new descent for the child: {below:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delegation_that_moved_takes_what_was_below_the_old_one_with_it() {
    let lab = phoenix();
    assert_eq!(lab.verdict("mx.sub.phoenix.com", A).await, "insecure 1");
    // To another owner's servers, who has no such child.
    lab.world.change("com", |com| {
        com.remove(&"phoenix.com".into(), rtype::NS);
        com.add_rdata(&"phoenix.com".into(), rtype::NS, Rdata::name("ns1.calm.com".into()));
    });
    let server = lab.world.servers_of("calm.com")[0];
    lab.world.change("phoenix.com", |zone| zone.remove(&"sub.phoenix.com".into(), rtype::NS));
    lab.world.host(server, "phoenix.com");
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(lab.verdict("y.phoenix.com", A).await, "insecure 1");
    assert_eq!(lab.verdict("x.sub.phoenix.com", A).await, "insecure nxdomain", "as the new owner has it");
    let asked = lab.world.take_asked();
    let old = lab.world.servers_of("sub.phoenix.com")[0];
    assert!(asked.iter().rev().take(2).all(|asked| asked.server != old), "{asked:?}");
}

/// A child on its parent's servers, so that its DS is asked for; a wildcard's alias in place of that answer, without
/// the proof that the name itself is not there, says nothing, and nothing of it is left when the answer is right.
#[tokio::test(start_paused = true)]
async fn a_wildcards_alias_without_its_proof_does_not_hide_a_cut() {
    let server = [127, 54, 0, 1].into();
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("parent.com").signed(13).records(MAIL).records("*.w CNAME mx").nameserver("ns.parent.com", &[server]),
        Zone::new("child.parent.com").signed(15).records(MAIL).nameserver("ns.parent.com", &[]),
    ]);
    let replay = |_: &_, reply: &mut Reply| {
        let target = Rdata::name("mx.parent.com".into());
        let name = DnsName::from("child.parent.com");
        let set = RrSet { name, rtype: rtype::CNAME, ttl: 3_600, rdatas: vec![target] };
        let alias = Item { set, source: Some("*.parent.com".into()), zone: "parent.com".into() };
        *reply = Reply { authoritative: true, answer: vec![alias], ..Reply::default() };
    };
    lab.world.inject(On::name("child.parent.com").qtype(rtype::DS), Fault::edit(replay));
    assert_eq!(lab.verdict("mx.child.parent.com", A).await, "bogus");
    assert_eq!(lab.verdict("mx.parent.com", A).await, "secure 1");
    lab.world.heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(lab.verdict("mx.child.parent.com", A).await, "secure 1");
}
