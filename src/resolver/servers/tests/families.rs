//! Whole address families: what is silent, or says that it cannot be reached, says little of all others.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::rr::Name;

use super::world::address;
use crate::clock::Instant;
use crate::resolver::servers::table::Table;

const V4: &str = "198.41.0.4";
const V6: &str = "2001:503:ba3e::2:30";

/// The servers of strangers.
fn strangers() -> Vec<SocketAddr> {
    (1..=20).map(|last| address(&format!("192.33.4.{last}"))).collect()
}

/// A table that has heard of one server in each family, and knows those of the strangers.
fn table(now: Instant) -> Table {
    let mut table = Table::default();
    for server in strangers().into_iter().chain([address(V4), address(V6)]) {
        table.form(server, [0; 8], true, now);
    }
    for server in [V4, V6] {
        table.answered(address(server), Some(Duration::from_millis(20)), now);
    }
    table
}

/// What asking the server that has always answered is expected to cost.
fn cost(table: &Table, now: Instant) -> Duration {
    table.outlook(address(V4), &Name::root(), now).cost
}

#[tokio::test(start_paused = true)]
async fn silent_servers_of_strangers_make_no_family_second_choice() {
    let begin = Instant::now();
    let mut table = table(begin);
    let usual = cost(&table, begin);
    // A whole crowd within a moment, and again and again, with an answer of somebody's now and then.
    for second in 0..60 {
        let now = begin + Duration::from_secs(second);
        for server in strangers() {
            table.silent(server, now);
            table.unreachable(server, now);
        }
        assert_eq!(cost(&table, now), usual, "second {second}");
        if second % 9 == 0 {
            table.answered(address(V4), None, now);
            table.answered(address(V6), None, now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_after_a_quiet_time_is_no_reason_either() {
    let begin = Instant::now();
    let mut table = table(begin);
    let usual = cost(&table, begin);
    let now = begin + Duration::from_secs(3_600);
    strangers().into_iter().for_each(|server| table.silent(server, now));
    assert_eq!(cost(&table, now), usual);
}

#[tokio::test(start_paused = true)]
async fn a_family_that_has_died_while_the_other_one_works_is_second_choice_until_it_answers() {
    let begin = Instant::now();
    let mut table = table(begin);
    let usual = cost(&table, begin);
    let at = |second| begin + Duration::from_secs(second);
    for second in 1..=11 {
        strangers().into_iter().for_each(|server| table.silent(server, at(second)));
    }
    assert_eq!(cost(&table, at(11)), usual, "nobody has heard of the other family, either: it may be the network");
    table.answered(address(V6), None, at(11));
    table.silent(address("192.33.4.1"), at(11));
    assert!(cost(&table, at(12)) >= Duration::from_secs(10));
    table.answered(address(V4), None, at(13));
    assert_eq!(cost(&table, at(13)), usual);
}
