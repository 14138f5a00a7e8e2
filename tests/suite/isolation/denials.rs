//! Denials and what is known of zones' keys: whatever a zone's servers deny, and however its signatures break, counts for
//! its own names alone.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, DS, MX, TXT};

use crate::support::answer::{Item, Reply, rcode};
use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, verdict};
use crate::support::name::DnsName;
use crate::support::record::{Part, Rdata, RrSet, rtype};
use crate::support::zone::{Denial, Zone};

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1\nfirst TXT hello";

fn lab() -> Lab {
    let evil = "@ MX 10 mx\nmx A 203.0.113.66\n* CNAME mx.victim.com.\ninto CNAME mx.victim.com.\nup DNAME victim.com.";
    Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("victim.com").signed(13).records(MAIL),
        Zone::new("sub.victim.com").records(MAIL),
        Zone::new("evil.com").records(evil),
        Zone::new("signed-evil.com").signed(13).records(evil),
    ])
}

/// What the innocent zone's names come to, with their TTLs, and how long that takes.
async fn victim(lab: &Lab) -> (Vec<(String, u32)>, Duration) {
    let begun = tokio::time::Instant::now();
    let mut found = Vec::new();
    for (name, rtype) in [
        ("victim.com", MX),
        ("mx.victim.com", A),
        ("mx.victim.com", TXT),
        ("first.victim.com", TXT),
        ("none.victim.com", A),
        ("victim.com", DS),
        ("mx.sub.victim.com", A),
        ("none.sub.victim.com", A),
    ] {
        let outcome = lab.lookup(name, rtype).await;
        found.push((verdict(&outcome), outcome.map_or(0, |answer| answer.ttl)));
    }
    (found, begun.elapsed())
}

/// Denies everything, in the name of all zones above and beside: their SOA, and an NSEC that leaves out `victim.com`.
fn denies_all(code: u16) -> Fault {
    Fault::edit(move |question, reply: &mut Reply| {
        let mut numbers = Vec::new();
        numbers.extend([1_u32, 7_200, 3_600, 1_209_600, 3_600].iter().flat_map(|number| number.to_be_bytes()));
        let soa = |name: DnsName| {
            let rdata = Rdata(vec![Part::Name(name.clone()), Part::Name(name.clone()), Part::Octets(numbers.clone())]);
            unsigned(name, rtype::SOA, rdata)
        };
        *reply = Reply { rcode: code, authoritative: true, ..Reply::default() };
        let asked = question.name.lowered();
        let others = [".", "com", "victim.com", "sub.victim.com"].map(DnsName::from);
        reply.authority = asked.and_ancestors().chain(others).map(soa).collect();
        let next = Rdata(vec![Part::Name("zzz.com".into()), Part::Octets(vec![0, 1, 0x22])]);
        reply.authority.push(unsigned("a.com".into(), rtype::NSEC, next));
    })
}

fn unsigned(name: DnsName, rtype: u16, rdata: Rdata) -> Item {
    Item { set: RrSet { name, rtype, ttl: 86_400, rdatas: vec![rdata] }, source: None, zone: DnsName::root() }
}

/// A fault, made anew for each world.
type MakeFault = fn() -> Fault;

#[tokio::test(start_paused = true)]
async fn what_one_zone_denies_and_breaks_is_about_its_own_names_alone() {
    let faults: [(&str, MakeFault); 6] = [
        ("denies in everybody's name", || denies_all(rcode::NXDOMAIN)),
        ("has nothing, in everybody's name", || denies_all(rcode::NOERROR)),
        ("signs badly", || Fault::BadSignatures),
        ("proves nothing", || Fault::MissingDenial),
        ("refuses", || Fault::Code(rcode::REFUSED)),
        ("fails", || Fault::Code(rcode::SERVFAIL)),
    ];
    let alone = lab();
    // So that both know the zones above.
    let _ = alone.lookup("x.com", A).await;
    let expected = victim(&alone).await;
    for evil in ["evil.com", "signed-evil.com"] {
        for (what, fault) in faults {
            let lab = lab();
            let _ = lab.lookup("x.com", A).await;
            lab.world.inject(On::zone(evil), fault());
            for name in ["@", "mx", "into", "any", "mx.up", "none.up", "victim"] {
                let name = if name == "@" { evil.to_owned() } else { format!("{name}.{evil}") };
                for rtype in [A, MX, DS, TXT] {
                    let _ = lab.lookup(&name, rtype).await;
                }
            }
            let (found, took) = victim(&lab).await;
            let verdicts =
                |found: &[(String, u32)]| found.iter().map(|(verdict, _)| verdict.clone()).collect::<Vec<_>>();
            assert_eq!(verdicts(&found), verdicts(&expected.0), "{evil} {what}");
            let is_as_fresh = |(one, other): (&(String, u32), &(String, u32))| one.1 + 60 >= other.1;
            assert!(found.iter().zip(&expected.0).all(is_as_fresh), "{evil} {what}: {found:?}, {expected:?}");
            assert!(took <= expected.1, "{evil} {what}: {took:?}, alone {:?}", expected.1);
        }
    }
}
