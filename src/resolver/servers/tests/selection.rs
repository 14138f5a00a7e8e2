//! Whom to ask, when, and how often: losses, delays, silence.

use std::sync::Arc;
use std::time::Duration;

use super::world::{World, address, after, ask, ask_with, exchanger, question, with};
use crate::clock::Instant;
use crate::dns::Cause;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::transport::NetError;

const A: &str = "198.41.0.4";
const B: &str = "199.9.14.201";
const C: &str = "2001:503:ba3e::2:30";

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

/// As many exchanges as a cold DANE domain takes: four in a row, ten in all, at three zones' servers.
async fn cold_domain(
    world: &std::sync::Arc<World>,
    servers: &[&str],
) -> Result<(), crate::resolver::servers::AskError> {
    let exchanger = exchanger(world);
    let budget = Arc::new(Budget::default());
    for (round, parallel) in [1, 3, 3, 3].into_iter().enumerate() {
        let questions: Vec<_> = (0..parallel).map(|n| question(&format!("q{n}.r{round}.example."))).collect();
        let all = questions.iter().map(|question| ask_with(&exchanger, servers, question, &budget));
        futures_util::future::try_join_all(all).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn with_three_packets_in_ten_lost_each_way_cold_domains_are_answered_in_time() {
    for servers in [&[A][..], &[A, B]] {
        let mut answered = 0;
        for seed in 0..100 {
            let world = World::lossy(0.3, seed);
            world.put_good(A, 30);
            world.put_good(B, 30);
            let (result, took) = timed(cold_domain(&world, servers)).await;
            answered += usize::from(result.is_ok() && took < Duration::from_secs(18));
        }
        assert!(answered >= 97, "{answered} of 100 with {} servers", servers.len());
    }
}

#[tokio::test(start_paused = true)]
async fn with_one_of_two_servers_silent_only_the_first_question_is_slowed() {
    for (silent, good) in [(A, B), (B, A)] {
        let world = World::new();
        world.put_silent(silent);
        world.put_good(good, 20);
        let exchanger = exchanger(&world);
        let (first, took) = timed(ask(&exchanger, &[A, B], &question("one.example."))).await;
        first.expect("an answer");
        assert!(took <= Duration::from_millis(420), "{took:?}");
        for n in 0..50 {
            let (next, took) = timed(ask(&exchanger, &[A, B], &question(&format!("n{n}.example.")))).await;
            next.expect("an answer");
            assert_eq!(took, Duration::from_millis(20));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_probed_beside_a_good_one_and_used_once_it_is_back() {
    let world = World::new();
    world.put_silent(A);
    world.put_good(B, 20);
    let exchanger = exchanger(&world);
    // Whichever comes first, A is asked once: B falls silent for a moment.
    world.put_silent(B);
    let _ = ask(&exchanger, &[A, B], &question("x.example.")).await;
    world.put_good(B, 20);
    ask(&exchanger, &[B], &question("y.example.")).await.expect("an answer");
    world.take_log();
    let probes = |world: &World| world.take_log().iter().filter(|line| line.server == address(A)).count();
    for second in 0..600 {
        let (answer, took) = timed(ask(&exchanger, &[A, B], &question(&format!("n{second}.example.")))).await;
        answer.expect("an answer");
        assert_eq!(took, Duration::from_millis(20));
        tokio::time::sleep(Duration::from_millis(980)).await;
    }
    let seen = probes(&world);
    assert!((2..=8).contains(&seen), "{seen} probes in ten minutes");
    world.put_good(A, 5);
    for second in 0..900 {
        ask(&exchanger, &[A, B], &question(&format!("m{second}.example."))).await.expect("an answer");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(probes(&world) > 1, "the server that is back gets questions again");
}

#[tokio::test(start_paused = true)]
async fn answers_delayed_by_more_than_the_timeout_count_and_teach_the_round_trip() {
    let world = World::new();
    world.put_good(A, 1_500);
    world.put_good(B, 1_500);
    let exchanger = exchanger(&world);
    let (first, took) = timed(ask(&exchanger, &[A, B], &question("one.example."))).await;
    first.expect("an answer");
    assert_eq!(took, Duration::from_millis(1_500));
    assert!(world.take_log().len() <= 5);
    let (second, took) = timed(ask(&exchanger, &[A, B], &question("two.example."))).await;
    second.expect("an answer");
    assert_eq!(took, Duration::from_millis(1_500));
    assert_eq!(world.take_log().len(), 1, "a round trip that is known is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_healthy_server_is_asked_once_per_question() {
    let world = World::new();
    world.put_good(A, 200);
    let exchanger = exchanger(&world);
    for n in 0..20 {
        ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
    }
    assert_eq!(world.take_log().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_lost_packet_at_a_known_server_costs_little() {
    let world = World::new();
    world.put(A, |seen| if seen.before == 20 { Vec::new() } else { after(20, seen.good()) });
    let exchanger = exchanger(&world);
    for n in 0..20 {
        ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
    }
    let (answer, took) = timed(ask(&exchanger, &[A], &question("lost.example."))).await;
    answer.expect("an answer");
    assert!(took <= Duration::from_millis(150), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn dead_ipv6_costs_nothing_after_the_first_try() {
    // Silence, and no route at all.
    for error in [None, Some(NetError::Unreachable)] {
        let world = World::new();
        world.put_silent(C);
        world.change(C, |server| server.error = error);
        world.put_good(A, 20);
        let exchanger = exchanger(&world);
        // A zone that has only IPv6 addresses, so that it must be tried.
        ask(&exchanger, &[C], &question("six.example.")).await.expect_err("no answer");
        world.take_log();
        for n in 0..30 {
            let other = format!("2001:500:200::{n:x}");
            world.put_silent(&other);
            let (answer, took) = timed(ask(&exchanger, &[&other, A], &question(&format!("n{n}.example.")))).await;
            answer.expect("an answer");
            assert_eq!(took, Duration::from_millis(20), "question {n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_without_a_route_says_so_and_an_address_family_that_is_off_is_not_used() {
    let world = World::new();
    world.put_good(A, 20);
    world.put_good(C, 20);
    world.change(C, |server| server.error = Some(NetError::Unreachable));
    let error = ask(&exchanger(&world), &[C], &question("one.example.")).await.expect_err("no route");
    assert_eq!(error.cause, Cause::Network);
    world.take_log();
    let without_v4 = with(&world, |settings| settings.ipv4 = false);
    assert_eq!(ask(&without_v4, &[A], &question("one.example.")).await.expect_err("off").cause, Cause::NoServers);
    let without_v6 = with(&world, |settings| settings.ipv6 = Some(false));
    assert_eq!(ask(&without_v6, &[C], &question("one.example.")).await.expect_err("off").cause, Cause::NoServers);
    assert!(world.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn tries_are_bounded_and_fewer_once_servers_are_known_to_be_silent() {
    let world = World::new();
    world.put_silent(A);
    world.put_silent(B);
    let exchanger = exchanger(&world);
    for n in 0..2 {
        let error = ask(&exchanger, &[A, B], &question(&format!("n{n}.example."))).await.expect_err("silence");
        assert_eq!(error.cause, Cause::Timeout);
        let (streams, datagrams): (Vec<_>, Vec<_>) = world.take_log().into_iter().partition(|line| line.tcp);
        assert!(datagrams.len() <= limits::TRIES_PER_QUESTION as usize);
        assert!(streams.len() <= 1, "over TCP once");
    }
    for n in 2..5 {
        let _ = ask(&exchanger, &[A, B], &question(&format!("n{n}.example."))).await;
    }
    world.take_log();
    let (answer, took) = timed(ask(&exchanger, &[A, B], &question("late.example."))).await;
    answer.expect_err("silence");
    assert_eq!(world.take_log().len(), limits::TRIES_AT_SILENT_SERVERS as usize);
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn every_packet_is_charged_and_an_exceeded_budget_ends_the_question() {
    let world = World::new();
    world.put_silent(A);
    let exchanger = exchanger(&world);
    let budget = Arc::new(Budget::default());
    let mut sent = 0;
    for n in 0..20 {
        let answer = ask_with(&exchanger, &[A], &question(&format!("n{n}.example.")), &budget).await;
        sent += world.take_log().len();
        if answer.expect_err("no answer").cause == Cause::Budget("upstream queries") {
            assert_eq!(sent, limits::UPSTREAM_QUERIES_PER_LOOKUP as usize);
            return;
        }
    }
    // Silent servers get few tries: go on at others.
    for n in 0..20 {
        let server = format!("193.0.14.{n}");
        world.put_silent(&server);
        let answer = ask_with(&exchanger, &[&server], &question("more.example."), &budget).await;
        sent += world.take_log().len();
        if answer.expect_err("no answer").cause == Cause::Budget("upstream queries") {
            assert_eq!(sent, limits::UPSTREAM_QUERIES_PER_LOOKUP as usize);
            return;
        }
    }
    panic!("{sent} packets and the budget still holds");
}

#[tokio::test(start_paused = true)]
async fn special_purpose_addresses_are_asked_only_where_allowed_or_named_as_forwarders() {
    let world = World::new();
    world.put_good("127.0.0.1", 20);
    let careful = exchanger(&world);
    let error = ask(&careful, &["127.0.0.1", "::1", "10.0.0.1"], &question("one.example.")).await;
    assert_eq!(error.expect_err("refused").cause, Cause::NoServers);
    assert!(world.take_log().is_empty());
    let mut forwarded = question("one.example.");
    forwarded.recursion_desired = true;
    let reply = ask(&careful, &["127.0.0.1"], &forwarded).await.expect("an answer");
    assert!(world.take_log()[0].message.recursion_desired);
    assert_eq!(reply.server, address("127.0.0.1"));
    let lab = with(&world, |settings| settings.allow_private_servers = true);
    ask(&lab, &["127.0.0.1"], &question("one.example.")).await.expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn excluded_servers_are_not_asked() {
    let world = World::new();
    world.put_good(A, 20);
    world.put_good(B, 20);
    let exchanger = exchanger(&world);
    let mut elsewhere = question("one.example.");
    elsewhere.excluded = vec![address(A)];
    for _ in 0..10 {
        assert_eq!(ask(&exchanger, &[A, B], &elsewhere).await.expect("an answer").server, address(B));
    }
    elsewhere.excluded.push(address(B));
    assert_eq!(ask(&exchanger, &[A, B], &elsewhere).await.expect_err("nobody").cause, Cause::NoServers);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_late_comes_before_a_second_try_at_silent_ones() {
    let world = World::new();
    let silent = ["192.33.4.12", "192.5.5.241", "192.36.148.17"];
    silent.iter().for_each(|server| world.put_silent(server));
    world.put_good(A, 900);
    let exchanger = exchanger(&world);
    ask(&exchanger, &[A], &question("one.example.")).await.expect("an answer");
    let mut all = vec![A];
    all.extend(silent);
    let (answer, took) = timed(ask(&exchanger, &all, &question("two.example."))).await;
    answer.expect("an answer");
    assert!(took <= Duration::from_millis(3 * 400 + 900), "{took:?}");
    let (answer, took) = timed(ask(&exchanger, &all, &question("three.example."))).await;
    answer.expect("an answer");
    assert_eq!(took, Duration::from_millis(900));
}
