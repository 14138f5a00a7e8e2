//! The failure cache (RFC 9520): what ran out in one lookup is not held against a name or zone on its way, and silence is
//! forgotten when it ends.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, DNSKEY, MX};
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";
/// A name fails no longer than this after its servers' return.
const AFTER_RETURN: Duration = Duration::from_secs(5);

/// A chain of aliases through zones of a stranger, three deep each time, which ends at `mx.victim.com`.
fn chain(zones: usize, servers: usize) -> Vec<Zone> {
    let mut world =
        vec![Zone::new(".").signed(13), Zone::new("com").signed(13), Zone::new("victim.com").signed(13).records(MAIL)];
    for at in 0..zones {
        let next = if at + 1 < zones { format!("a.x.y.h{}.com", at + 1) } else { "mx.victim.com".to_owned() };
        for zone in [format!("h{at}.com"), format!("y.h{at}.com")] {
            world.push(Zone::new(&zone).servers(servers));
        }
        world.push(Zone::new(&format!("x.y.h{at}.com")).servers(servers).records(&format!("a CNAME {next}.")));
    }
    world
}

/// What the victim's address, keys and MX come to when nobody disturbs.
const GOOD: [&str; 3] = ["secure 1", "secure 2", "secure 1"];

/// What the victim's names come to when they are asked for now, and how long that takes.
async fn victim(lab: &Lab) -> (Vec<String>, Duration) {
    let begun = Instant::now();
    let mut found = Vec::new();
    for (name, rtype) in [("mx.victim.com", A), ("victim.com", DNSKEY), ("victim.com", MX)] {
        found.push(lab.verdict(name, rtype).await);
    }
    (found, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_strangers_chain_that_spends_all_queries_costs_its_last_name_nothing() {
    let mut spent = 0;
    // Wherever the budget ends: on the way, at the last name, while its keys are fetched.
    for zones in 2..=10 {
        let lab = Lab::in_memory(chain(zones, 12));
        for at in 0..zones {
            // All but one server of each zone answer with an error.
            for zone in [format!("h{at}.com"), format!("y.h{at}.com"), format!("x.y.h{at}.com")] {
                for server in lab.world.servers_of(&zone).into_iter().skip(1) {
                    lab.world.inject(On::server(server), Fault::Code(2));
                }
            }
        }
        let alone = Lab::in_memory(chain(1, 1));
        spent += usize::from(lab.verdict("a.x.y.h0.com", A).await.contains("too much work"));
        let ((found, took), (alone, alone_took)) = (victim(&lab).await, victim(&alone).await);
        assert_eq!((&found[..], &alone[..]), (&GOOD.map(String::from)[..], &GOOD.map(String::from)[..]));
        assert!(took <= alone_took, "{zones} zones: {took:?}, alone {alone_took:?}");
    }
    assert!(spent > 0, "no chain spent its queries");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_whose_time_ends_on_the_way_holds_no_zone() {
    for hurry in 0..12 {
        let lab = Lab::in_memory(chain(10, 1));
        for at in 0..10 {
            // Some 25 s in all, so that the end comes at another place each time.
            let late = Duration::from_millis(820 - 10 * hurry);
            for zone in [format!("h{at}.com"), format!("y.h{at}.com"), format!("x.y.h{at}.com")] {
                lab.world.inject(On::zone(&zone), Fault::Late(late));
            }
        }
        lab.world.inject(On::zone("com"), Fault::Late(Duration::from_millis(1_000)));
        lab.world.inject(On::zone("victim.com"), Fault::Late(Duration::from_millis(600)));
        let _ = lab.lookup("a.x.y.h0.com", A).await;
        lab.world.heal();
        assert_eq!(victim(&lab).await.0, GOOD, "{hurry}");
        assert_eq!(lab.verdict("none.com", A).await, "secure nxdomain", "{hurry}");
    }
}

fn plain() -> Vec<Zone> {
    vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("mail.com").signed(13).records(MAIL),
        Zone::new("calm.com").signed(13).records(MAIL),
    ]
}

/// Asks for a name every two seconds, for as long.
async fn ask_for(lab: &Lab, name: &str, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let _ = lab.lookup(name, A).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_name_is_asked_for_again_soon_and_at_once_when_its_zone_was_heard() {
    for (row, silent, heard, within) in [
        ("the zone, nobody heard", On::zone("mail.com"), None, AFTER_RETURN),
        ("the zone, heard", On::zone("mail.com"), Some("new.mail.com"), Duration::from_millis(200)),
        ("its parent, heard", On::zone("com"), Some("new.com"), Duration::from_millis(1_200)),
        ("everything, nobody heard", On::everything(), None, AFTER_RETURN),
        ("everything, another zone heard", On::everything(), Some("mx.calm.com"), Duration::from_millis(1_200)),
    ] {
        let lab = Lab::in_memory(plain());
        lab.world.inject(silent, Fault::Silence);
        ask_for(&lab, "mx.mail.com", Duration::from_secs(40)).await;
        lab.world.heal();
        if let Some(heard) = heard {
            let _ = lab.lookup(heard, A).await;
        }
        let back = Instant::now();
        while lab.verdict("mx.mail.com", A).await != "secure 1" {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(back.elapsed() <= within, "{row}: fails {:?} after the return", back.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_start_without_network_the_first_lookup_succeeds_within_a_second() {
    for gone in [1, 5, 9, 14, 31, 62] {
        let lab = Lab::in_memory(plain());
        lab.world.inject(On::everything(), Fault::Silence);
        lab.engine.warm_up();
        ask_for(&lab, "mx.calm.com", Duration::from_secs(gone)).await;
        for name in ["mx.mail.com", "mx.calm.com"] {
            // However far whatever is under way has come.
            tokio::time::sleep(Duration::from_millis(777)).await;
            lab.world.heal();
            let back = Instant::now();
            assert_eq!(lab.verdict(name, A).await, "secure 1", "{name}, {gone} s without network");
            assert!(back.elapsed() <= Duration::from_secs(1), "{name}, {gone} s: {:?}", back.elapsed());
            lab.world.inject(On::everything(), Fault::Silence);
        }
    }
}
