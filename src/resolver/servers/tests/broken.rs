//! Servers that answer with errors, or only in some form.

use std::time::Duration;

use super::world::{Seen, World, address, after, ask, exchanger, question};
use crate::clock::Instant;
use crate::dns::Cause;

const A: &str = "198.41.0.4";
const B: &str = "199.9.14.201";

#[tokio::test(start_paused = true)]
async fn after_an_error_the_next_server_is_asked_at_once_and_the_bad_one_is_left_alone() {
    for (rcode, cause) in [
        (2, Cause::ServFail),
        (5, Cause::ErrorCode("REFUSED")),
        (4, Cause::ErrorCode("NOTIMP")),
        (1, Cause::ErrorCode("FORMERR")),
    ] {
        let world = World::new();
        world.put(A, move |seen: &Seen| after(10, seen.answer(rcode)));
        world.put_good(B, 10);
        let exchanger = exchanger(&world);
        for n in 0..10 {
            let start = Instant::now();
            let reply = ask(&exchanger, &[A, B], &question(&format!("n{n}.example."))).await.expect("an answer");
            assert_eq!(reply.server, address(B), "code {rcode}");
            assert!(start.elapsed() <= Duration::from_millis(30), "code {rcode}");
        }
        assert_eq!(ask(&exchanger, &[A], &question("only.example.")).await.expect_err("an error").cause, cause);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_a_zone_is_asked_last_for_a_while() {
    let world = World::new();
    world.put(A, |seen: &Seen| after(1, seen.with_opt(seen.answer(5), 0, &[])));
    world.put_good(B, 40);
    let exchanger = exchanger(&world);
    for n in 0..20 {
        ask(&exchanger, &[A, B], &question(&format!("n{n}.example."))).await.expect("an answer");
    }
    let at_a = world.take_log().iter().filter(|line| line.server == address(A)).count();
    assert!(at_a <= 1, "{at_a} questions to a server that refuses");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_on_edns_is_asked_without_and_that_is_remembered() {
    // FORMERR, NOTIMP, BADVERS (RFC 6891 §7, §6.1.3), and SERVFAIL without EDNS.
    for rcode in [1, 2, 4, 16] {
        let world = World::new();
        world.put(A, move |seen: &Seen| {
            let error = seen.answer(rcode);
            after(
                10,
                match seen.edns() {
                    true if rcode == 16 => seen.with_opt(seen.answer(0), 1, &[]),
                    true => error,
                    false => seen.good(),
                },
            )
        });
        let exchanger = exchanger(&world);
        ask(&exchanger, &[A], &question("one.example.")).await.expect("an answer");
        world.take_log();
        ask(&exchanger, &[A], &question("two.example.")).await.expect("an answer");
        assert_eq!(world.take_log().len(), 1, "code {rcode}: remembered");
        // A signed zone cannot do without.
        let mut signed = question("three.example.");
        signed.edns_required = true;
        let error = ask(&exchanger, &[A], &signed).await.expect_err("no signatures to be had");
        assert!(matches!(error.cause, Cause::ServFail | Cause::ErrorCode(_)), "code {rcode}: {error}");
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        world.put_good(A, 10);
        world.take_log();
        ask(&exchanger, &[A], &question("four.example.")).await.expect("an answer");
        assert!(world.take_log()[0].message.edns.is_some(), "code {rcode}: forgotten in time");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drops_edns_queries_is_asked_without() {
    let world = World::new();
    world.put(A, |seen: &Seen| if seen.edns() { Vec::new() } else { after(10, seen.good()) });
    let exchanger = exchanger(&world);
    ask(&exchanger, &[A], &question("one.example.")).await.expect("an answer");
    let start = Instant::now();
    ask(&exchanger, &[A], &question("two.example.")).await.expect("an answer");
    assert_eq!(start.elapsed(), Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_edns_is_not_taken_where_lost_packets_were_the_reason() {
    let world = World::new();
    // The first three queries are lost, then all are answered.
    world.put(A, |seen: &Seen| if seen.before < 3 { Vec::new() } else { after(10, seen.good()) });
    let reply = ask(&exchanger(&world), &[A], &question("one.example.")).await.expect("an answer");
    assert!(reply.message.edns.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_edns_but_not_cookies_is_asked_without_cookies() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let code = u8::from(!seen.cookie().is_empty());
        after(10, seen.with_opt(seen.answer(code), 0, &[]))
    });
    let exchanger = exchanger(&world);
    let mut signed = question("one.example.");
    signed.edns_required = true;
    assert!(ask(&exchanger, &[A], &signed).await.expect("an answer").message.edns.is_some());
    world.take_log();
    ask(&exchanger, &[A], &question("two.example.")).await.expect("an answer");
    assert_eq!(world.take_log().len(), 1, "remembered");
}

#[tokio::test(start_paused = true)]
async fn a_truncated_answer_is_fetched_over_tcp_from_the_same_server() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut answer = seen.good();
        answer[2] |= if seen.tcp { 0 } else { 2 };
        after(60, answer)
    });
    world.put_good(B, 500);
    let exchanger = exchanger(&world);
    for n in 0..5 {
        let reply = ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
        assert!(!reply.message.truncated);
        let tcp: Vec<bool> = world.take_log().iter().map(|line| line.tcp).collect();
        assert_eq!(tcp, [false, true]);
    }
    world.change(A, |server| server.no_tcp = true);
    let reply = ask(&exchanger, &[A, B], &question("other.example.")).await.expect("an answer");
    assert_eq!(reply.server, address(B), "where TCP fails, another server is asked");
}

#[tokio::test(start_paused = true)]
async fn garbage_sends_the_question_elsewhere_at_once() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut answer = seen.answer(0);
        answer[7] = 9;
        answer.extend_from_slice(&[0xc0, 0xff, 0xff]);
        after(10, answer)
    });
    world.put_good(B, 10);
    let exchanger = exchanger(&world);
    let start = Instant::now();
    ask(&exchanger, &[A, B], &question("one.example.")).await.expect("an answer");
    assert!(start.elapsed() <= Duration::from_millis(20));
    assert_eq!(ask(&exchanger, &[A], &question("two.example.")).await.expect_err("garbage").cause, Cause::Malformed);
}
