//! Questions to servers: however many lookups need the same, it is open once, so that a forger off the path has one guess
//! at a time (RFC 5452 §5).

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::rr::RecordType::{A, MX};

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::world::Asked;
use crate::support::zone::Zone;

/// Many delegations to one name server without glue, whose own zone answers late.
fn delegations(count: usize) -> Lab {
    let mut zones = vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("host.net").servers(2).records("ns A 192.0.2.77\nns AAAA 2001:db8::77"),
    ];
    zones.extend(
        (0..count).map(|at| Zone::new(&format!("d{at}.com")).parent_ns(&["ns.host.net"]).records("@ MX 10 mx")),
    );
    Lab::in_memory(zones)
}

fn most_of_one_question(asked: &[Asked]) -> (usize, String) {
    let mut counts: HashMap<_, usize> = HashMap::new();
    for question in asked.iter().filter(|question| !question.tcp) {
        let key = (question.server, question.name.to_string().to_lowercase(), question.rtype);
        *counts.entry(key).or_default() += 1;
    }
    counts.into_iter().map(|(key, count)| (count, format!("{key:?}"))).max().expect("something was asked")
}

#[tokio::test(start_paused = true)]
async fn three_hundred_delegations_to_one_name_server_ask_for_its_address_once_at_a_time() {
    let lab = delegations(300);
    lab.world.inject(On::zone("host.net"), Fault::Late(Duration::from_millis(350)));
    let names: Vec<String> = (0..300).map(|at| format!("d{at}.com")).collect();
    let lookups = join_all(names.iter().map(|name| lab.lookup(name, MX)));
    // Before anything could have to be sent again.
    let _ = tokio::time::timeout(Duration::from_millis(390), lookups).await;
    let (most, which) = most_of_one_question(&lab.world.asked());
    assert_eq!(most, 1, "{which}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_asked_for_and_needed_to_reach_a_server_is_one_question() {
    let lab = delegations(20);
    lab.world.inject(On::zone("host.net"), Fault::Late(Duration::from_millis(350)));
    let names: Vec<String> = (0..20).map(|at| format!("d{at}.com")).collect();
    let reaching = join_all(names.iter().map(|name| lab.lookup(name, MX)));
    let direct = lab.lookup("ns.host.net", A);
    let both = async { tokio::join!(direct, reaching).0 };
    let _ = tokio::time::timeout(Duration::from_millis(390), both).await;
    let (most, which) = most_of_one_question(&lab.world.asked());
    assert_eq!(most, 1, "{which}");
}
