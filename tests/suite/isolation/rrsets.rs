//! The RRset cache: an answer is kept for the name asked and its aliases, and nothing else of it, whoever signed it.

use hickory_proto::rr::RecordType::{A, AAAA, MX};

use crate::support::answer::{Item, Reply};
use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::name::DnsName;
use crate::support::record::{Rdata, RrSet, rtype};
use crate::support::zone::Zone;

fn lab() -> Lab {
    Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("a.com").signed(13).records(
            "www A 192.0.2.1\nother A 192.0.2.2\nalias CNAME www\nchain CNAME alias\nout CNAME mx.sub\nedge CNAME sub\ntwice CNAME edge\nbare CNAME plain\n\
             deep CNAME mx.plain",
        ),
        Zone::new("sub.a.com").signed(13).records("@ A 192.0.2.3\nmx A 192.0.2.4"),
        Zone::new("plain.a.com").records("@ A 192.0.2.6\nmx A 192.0.2.5"),
    ])
}

/// The zone's server adds an address for `name` to every answer, signed with the zone's own key.
fn adds(name: &'static str) -> Fault {
    Fault::edit(move |question, reply: &mut Reply| {
        let owner = DnsName::from(name);
        if question.rtype != rtype::A || reply.answer.is_empty() || question.name.lowered() == owner {
            return;
        }
        reply.authority.clear();
        reply.authoritative = true;
        reply.answer.retain(|item| item.set.name != owner);
        let set =
            RrSet { name: owner.clone(), rtype: rtype::A, ttl: 3_600, rdatas: vec![Rdata::octets([203, 0, 113, 66])] };
        reply.answer.push(Item { set, source: Some(owner), zone: "a.com".into() });
    })
}

async fn address(lab: &Lab, name: &str) -> String {
    let answer = lab.lookup(name, A).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    let security = if answer.security.is_secure() { "secure" } else { "insecure" };
    format!("{security} {}", answer.records()[0])
}

#[tokio::test(start_paused = true)]
async fn records_beside_an_answer_are_not_used_for_other_names() {
    for knows_the_cuts in [false, true] {
        for (asked, added, expected) in [
            ("www.a.com", "other.a.com", "secure 192.0.2.2"),
            ("www.a.com", "mx.sub.a.com", "secure 192.0.2.4"),
            ("www.a.com", "sub.a.com", "secure 192.0.2.3"),
            ("www.a.com", "mx.plain.a.com", "insecure 192.0.2.5"),
            ("alias.a.com", "other.a.com", "secure 192.0.2.2"),
            ("alias.a.com", "mx.sub.a.com", "secure 192.0.2.4"),
            ("out.a.com", "mx.sub.a.com", "secure 192.0.2.4"),
            ("deep.a.com", "mx.plain.a.com", "insecure 192.0.2.5"),
        ] {
            let lab = lab();
            if knows_the_cuts {
                for name in ["x.sub.a.com", "x.plain.a.com"] {
                    let _ = lab.lookup(name, A).await;
                }
            }
            lab.world.inject(On::zone("a.com"), adds(added));
            let _ = lab.lookup(asked, A).await;
            assert_eq!(address(&lab, added).await, expected, "{asked}, {added}, {knows_the_cuts}");
        }
    }
    // At the cut itself, whether it was met before or not.
    for kind in ["edge", "twice"] {
        let lab = self::lab();
        lab.world.inject(On::zone("a.com"), adds("sub.a.com"));
        assert_eq!(address(&lab, &format!("{kind}.a.com")).await, "secure 192.0.2.3", "{kind}");
        assert_eq!(address(&lab, "sub.a.com").await, "secure 192.0.2.3", "{kind}");
    }
    let lab = self::lab();
    lab.world.inject(On::zone("a.com"), adds("plain.a.com"));
    assert_eq!(address(&lab, "bare.a.com").await, "insecure 192.0.2.6");
    let lab = self::lab();
    let _ = lab.lookup("x.sub.a.com", A).await;
    lab.world.inject(On::zone("a.com"), adds("sub.a.com"));
    assert_eq!(address(&lab, "edge.a.com").await, "secure 192.0.2.3");
    assert_eq!(address(&lab, "sub.a.com").await, "secure 192.0.2.3");
}

#[tokio::test(start_paused = true)]
async fn the_zones_own_aliases_need_no_further_question() {
    let lab = lab();
    assert_eq!(address(&lab, "www.a.com").await, "secure 192.0.2.1");
    for name in ["alias.a.com", "chain.a.com"] {
        let lab = self::lab();
        let _ = lab.lookup("x.a.com", A).await;
        lab.world.take_asked();
        assert_eq!(address(&lab, name).await, "secure 192.0.2.1");
        assert_eq!(lab.world.take_asked().len(), 1, "{name}");
    }
    // Nor where the target is known by what was asked of it.
    for (known, rtype) in [("www.a.com", A), ("www.a.com", AAAA), ("www.a.com", MX)] {
        let lab = self::lab();
        let _ = lab.lookup(known, rtype).await;
        let _ = lab.lookup("other.a.com", A).await;
        lab.world.take_asked();
        assert_eq!(address(&lab, "alias.a.com").await, "secure 192.0.2.1");
        assert_eq!(lab.world.take_asked().len(), 1, "{known} {rtype}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_might_be_a_zone_of_its_own_is_asked_for_by_itself() {
    let lab = lab();
    let _ = lab.lookup("out.a.com", MX).await;
    assert_eq!(address(&lab, "other.a.com").await, "secure 192.0.2.2");
    lab.world.take_asked();
    assert_eq!(address(&lab, "alias.a.com").await, "secure 192.0.2.1");
    let asked: Vec<String> = lab.world.take_asked().iter().map(|asked| asked.name.to_string().to_lowercase()).collect();
    assert!(
        asked.len() <= 2 && asked.iter().all(|name| name.starts_with("alias") || name.starts_with("www")),
        "{asked:?}"
    );
}
