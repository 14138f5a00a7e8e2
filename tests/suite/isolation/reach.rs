//! Reaching a zone's servers: a dead provider does not stand before a living one, names that lead nowhere do not hide the
//! one that leads somewhere, and whoever names many of them gains nothing by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX, NS};
use postseal::limits;
use tokio::time::Instant;

use crate::support::answer::{Reply, rcode};
use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::record::{Rdata, rtype};
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

fn ip(net: u8, last: usize) -> std::net::IpAddr {
    [127, 54, net, last as u8].into()
}

/// `zone.com`, whose name servers are at two providers, and `signed.com`, which is signed. The provider that is named
/// first has `dead` of them, the other one `good`.
fn two_providers(dead: usize, good: usize) -> Lab {
    let addresses = |count: usize, net: u8| {
        (1..=count).map(|index| format!("ns{index} A {}\n", ip(net, index))).collect::<String>()
    };
    let named = |mut zone: Zone| {
        for index in 1..=dead {
            zone = zone.nameserver(&format!("ns{index}.first.net"), &[]);
        }
        for index in 1..=good {
            zone = zone.nameserver(&format!("ns{index}.second.net"), &[]);
        }
        zone.records(MAIL)
    };
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("first.net").signed(13).records(&addresses(dead, 1)),
        Zone::new("second.net").signed(13).records(&addresses(good, 2)),
        named(Zone::new("zone.com")),
        named(Zone::new("signed.com").signed(13)),
    ]);
    for zone in ["zone.com", "signed.com"] {
        (1..=dead).for_each(|index| lab.world.host(ip(1, index), zone));
        (1..=good).for_each(|index| lab.world.host(ip(2, index), zone));
    }
    lab
}

/// One engine's first lookups of both zones.
async fn expect_first_lookups(lab: &Lab, case: &str) {
    for (zone, expected) in [("zone.com", "insecure 1"), ("signed.com", "secure 1")] {
        let begun = Instant::now();
        let found = lab.verdict(zone, MX).await;
        assert_eq!(found, expected, "{case}: {zone}\n{}", lab.memory.as_ref().unwrap().timeline());
        assert!(begun.elapsed() < Duration::from_secs(8), "{case}: {zone} took {:?}", begun.elapsed());
    }
}

const PROVIDERS: [(usize, usize); 4] = [(2, 1), (2, 2), (4, 1), (4, 2)];

#[tokio::test(start_paused = true)]
async fn name_servers_that_are_dead_do_not_stand_before_those_of_another_provider() {
    for (dead, good) in PROVIDERS {
        for (fault, name) in [(Fault::Silence, "silent"), (Fault::Code(rcode::REFUSED), "refusing")] {
            for round in 0..4 {
                let lab = two_providers(dead, good);
                (1..=dead).for_each(|index| lab.world.inject(On::server(ip(1, index)), fault.clone()));
                expect_first_lookups(&lab, &format!("{dead} dead, {good} good, {name}, round {round}")).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_whose_own_zone_is_dead_does_not_stand_before_another() {
    for (dead, good) in PROVIDERS {
        for round in 0..4 {
            let lab = two_providers(dead, good);
            lab.world.inject(On::zone("first.net"), Fault::Silence);
            expect_first_lookups(&lab, &format!("{dead} dead, {good} good, round {round}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn names_without_address_do_not_hide_the_one_that_has_one() {
    for (record, count) in [("TXT nothing", 5), ("TXT nothing", 8), ("TXT nothing", 12), ("", 5), ("", 8), ("", 12)] {
        let mut zone = Zone::new("zone.com").records(MAIL);
        for index in 0..count {
            zone = zone.nameserver(&format!("bare{index}.first.net"), &[]);
        }
        let named = |index| if record.is_empty() { String::new() } else { format!("bare{index} {record}\n") };
        let lab = Lab::in_memory(vec![
            Zone::new(".").signed(13),
            Zone::new("com").signed(13),
            Zone::new("net").signed(13),
            Zone::new("first.net").records(&(0..count).map(named).collect::<String>()),
            Zone::new("second.net").records("@ TXT b").nameserver("ns.second.net", &[ip(2, 1)]),
            zone.nameserver("ns.second.net", &[]),
        ]);
        let first = lab.verdict("zone.com", MX).await;
        if first != "insecure 1" {
            assert!(count >= limits::GLUELESS_NS_PER_DELEGATION, "{count}: {first}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(lab.verdict("zone.com", MX).await, "insecure 1", "{count} names, {record:?}: the second lookup");
        }
    }
}

/// Whoever names many hosts of somebody else's has few of them asked for, however often they are asked (NXNSAttack).
#[tokio::test(start_paused = true)]
async fn many_names_that_are_not_there_cost_their_zone_little() {
    let fan: String = (0..40).map(|index| format!("sub NS n{index}.victim.net.\n")).collect();
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("attack.com").records(&fan),
        Zone::new("victim.net").records(MAIL),
    ]);
    for round in 0..3 {
        lab.world.take_asked();
        assert!(lab.lookup(&format!("r{round}.sub.attack.com"), A).await.is_err());
        let victim = |name: &str| name.ends_with("victim.net.") || name.ends_with("victim.net");
        let asked = lab.world.take_asked().iter().filter(|asked| victim(&asked.name.to_string())).count();
        let most = 2 * 2 * limits::GLUELESS_NS_PER_DELEGATION;
        assert!(asked <= most + 2, "round {round}: {asked} questions");
    }
    assert_eq!(lab.verdict("victim.net", MX).await, "insecure 1");
}

#[tokio::test(start_paused = true)]
async fn name_servers_that_are_aliases_are_a_last_resort() {
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("host.net").records("other TXT a").nameserver("real.host.net", &[ip(2, 1)]),
        Zone::new("alias.net").records(
            "ns CNAME real.host.net.\ntwice CNAME ns\nround CNAME about\nabout CNAME round\nns.d CNAME x\nd2 DNAME host.net.",
        ),
        Zone::new("once.com").records(MAIL).nameserver("ns.alias.net", &[]),
        Zone::new("twice.com").signed(13).records(MAIL).nameserver("twice.alias.net", &[]),
        Zone::new("dname.com").records(MAIL).nameserver("real.d2.alias.net", &[]),
        Zone::new("loop.com").records(MAIL).nameserver("round.alias.net", &[]),
        Zone::new("beside.com").records(MAIL).nameserver("ns.alias.net", &[]).nameserver("ns.straight.net", &[]),
        Zone::new("straight.net").records("@ TXT a").nameserver("ns.straight.net", &[ip(2, 2)]),
    ]);
    for zone in ["once.com", "twice.com", "dname.com"] {
        lab.world.host(ip(2, 1), zone);
    }
    for (zone, expected) in [("once.com", "insecure 1"), ("twice.com", "secure 1"), ("dname.com", "insecure 1")] {
        assert_eq!(lab.verdict(zone, MX).await, expected, "{zone}\n{}", lab.memory.as_ref().unwrap().timeline());
        assert_eq!(lab.verdict(&format!("mx.{zone}"), A).await, expected, "{zone}, the second question");
    }
    assert!(lab.lookup("loop.com", MX).await.is_err());
    // Where another name server leads there by its own name, the alias is left alone.
    lab.world.take_asked();
    assert_eq!(lab.verdict("beside.com", NS).await, "insecure 2");
    let asked = lab.world.take_asked();
    assert!(asked.iter().all(|asked| asked.server != ip(2, 1) || asked.rtype != rtype::NS), "{asked:?}");
}

/// The addresses of name servers are not validated. One that was forged leads to answers that do not validate, and is
/// forgotten for that.
#[tokio::test(start_paused = true)]
async fn a_forged_address_of_a_name_server_does_not_outlive_the_answers_that_do_not_validate() {
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("second.net").records("@ TXT b").nameserver("ns.second.net", &[ip(2, 1)]),
        Zone::new("signed.com").signed(13).records(MAIL).nameserver("ns.far.net", &[]),
        Zone::new("far.net").records(&format!("ns A {}", ip(2, 1))).nameserver("ns.second.net", &[]),
    ]);
    lab.world.host(ip(2, 1), "signed.com");
    lab.world.host(ip(6, 6), "signed.com");
    lab.world.inject(On::server(ip(6, 6)), Fault::BadSignatures);
    let forging = Arc::new(AtomicBool::new(true));
    let forge = {
        let forging = forging.clone();
        Fault::edit(move |_, reply: &mut Reply| {
            if forging.load(Ordering::Relaxed) {
                reply.answer.iter_mut().for_each(|item| item.set.rdatas = vec![Rdata::octets([127, 54, 6, 6])]);
            }
        })
    };
    lab.world.inject(On::name("ns.far.net").qtype(rtype::A), forge);
    assert_eq!(lab.verdict("signed.com", MX).await, "bogus");
    forging.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(lab.verdict("mx.signed.com", A).await, "secure 1");
    assert_eq!(lab.verdict("signed.com", MX).await, "secure 1");
}
