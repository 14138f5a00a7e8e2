//! What is believed of a packet: id, question, case, cookies.

use std::time::Duration;

use super::world::{Seen, World, after, ask, exchanger, question, with};
use crate::clock::Instant;

const A: &str = "198.41.0.4";
const SERVER_COOKIE: [u8; 16] = [7; 16];

/// A good answer with the query's client cookie and this server cookie.
fn with_cookie(seen: &Seen, code: u8, extended: u8, server: &[u8]) -> Vec<u8> {
    let client = seen.cookie().first_chunk::<8>().copied().expect("a client cookie");
    let answer = if code == 0 { seen.records() } else { seen.answer(code) };
    seen.with_opt(answer, extended, &[&client, server].concat())
}

#[tokio::test(start_paused = true)]
async fn forged_answers_are_ignored_and_the_wait_goes_on() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let forged = |change: fn(&mut Vec<u8>)| {
            let mut octets = seen.answer(3);
            change(&mut octets);
            octets
        };
        vec![
            (Duration::from_millis(1), forged(|m| m[0] ^= 0x55)),
            (Duration::from_millis(2), forged(|m| m[13] ^= 1)),
            (Duration::from_millis(3), forged(|m| m[2] &= 0x7f)),
            (Duration::from_millis(4), forged(|m| m[2] |= 0x28)),
            (Duration::from_millis(5), vec![0; 5]),
            (Duration::from_millis(30), seen.good()),
        ]
    });
    let start = Instant::now();
    let reply = ask(&exchanger(&world), &[A], &question("one.example.")).await.expect("the real answer");
    assert_eq!(u16::from(reply.message.rcode), 0);
    assert_eq!(start.elapsed(), Duration::from_millis(30));
    assert_eq!(world.take_log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_loses_the_case_is_believed_over_tcp_and_then_asked_in_lower_case() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut answer = seen.good();
        let name = 12..seen.question_end() - 4;
        answer[name].make_ascii_lowercase();
        after(10, answer)
    });
    let exchanger = exchanger(&world);
    ask(&exchanger, &[A], &question("mail.example.")).await.expect("an answer");
    let tcp: Vec<bool> = world.take_log().iter().map(|line| line.tcp).collect();
    assert_eq!(tcp, [false, true]);
    ask(&exchanger, &[A], &question("other.example.")).await.expect("an answer");
    let log = world.take_log();
    assert_eq!(log.len(), 1, "remembered");
    let name = log[0].message.question.as_ref().expect("a question").name.clone();
    assert!(name.eq_case(&"other.example.".parse().expect("a name")));
}

#[tokio::test(start_paused = true)]
async fn a_forgery_in_the_wrong_case_does_not_turn_the_random_case_off() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut forged = seen.answer(3);
        let name = 12..seen.question_end() - 4;
        forged[name].make_ascii_lowercase();
        let forged = if seen.tcp { seen.good() } else { forged };
        vec![(Duration::from_millis(1), forged), (Duration::from_millis(20), seen.good())]
    });
    let exchanger = exchanger(&world);
    for n in 0..5 {
        let reply = ask(&exchanger, &[A], &question(&format!("random-case-{n}.example."))).await.expect("an answer");
        assert_eq!(u16::from(reply.message.rcode), 0, "the forged NXDOMAIN is not believed");
        let log = world.take_log();
        let sent = log[0].message.question.as_ref().expect("a question").name.to_ascii();
        assert!(sent.contains(|c: char| c.is_ascii_uppercase()), "{sent}");
    }
    let plain = with(&world, |settings| settings.case_randomisation = false);
    ask(&plain, &[A], &question("random-case.example.")).await.expect("an answer");
    let log = world.take_log();
    assert_eq!(log[0].message.question.as_ref().expect("a question").name.to_ascii(), "random-case.example.");
}

#[tokio::test(start_paused = true)]
async fn cookies_are_sent_kept_and_checked() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut forged_cookie = seen.cookie();
        forged_cookie[0] ^= 1;
        vec![
            (Duration::from_millis(1), seen.with_opt(seen.answer(3), 0, &forged_cookie)),
            (Duration::from_millis(20), with_cookie(seen, 0, 0, &SERVER_COOKIE)),
        ]
    });
    let exchanger = exchanger(&world);
    for n in 0..2 {
        let reply = ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
        assert_eq!(u16::from(reply.message.rcode), 0, "an answer with a foreign cookie is a forgery");
    }
    let log = world.take_log();
    let cookies: Vec<_> = log.iter().map(|line| line.message.edns.as_ref().and_then(|e| e.option(10))).collect();
    assert_eq!(cookies[0].map(<[u8]>::len), Some(8));
    assert_eq!(cookies[1].map(|cookie| cookie[8..].to_vec()), Some(SERVER_COOKIE.to_vec()));
    assert_eq!(cookies[0].map(|c| c[..8].to_vec()), cookies[1].map(|c| c[..8].to_vec()));
    // Another server gets another client cookie (RFC 9018 §3).
    world.put_good("199.9.14.201", 20);
    ask(&exchanger, &["199.9.14.201"], &question("n.example.")).await.expect("an answer");
    let other = world.take_log()[0].message.edns.as_ref().and_then(|e| e.option(10).map(<[u8]>::to_vec));
    assert_ne!(other, cookies[0].map(<[u8]>::to_vec));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_cookie_that_was_due_is_checked_over_tcp() {
    let world = World::new();
    world.put(A, |seen: &Seen| after(10, with_cookie(seen, 0, 0, &SERVER_COOKIE)));
    let exchanger = exchanger(&world);
    ask(&exchanger, &[A], &question("one.example.")).await.expect("an answer");
    // A forgery without cookie: TCP brings the truth, and cookies stay due.
    world.put(A, |seen: &Seen| {
        let code = if seen.tcp { 0 } else { 3 };
        after(10, if seen.tcp { with_cookie(seen, code, 0, &SERVER_COOKIE) } else { seen.answer(code) })
    });
    for n in 0..2 {
        world.take_log();
        let reply = ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
        assert_eq!(u16::from(reply.message.rcode), 0);
        assert_eq!(world.take_log().iter().map(|line| line.tcp).collect::<Vec<_>>(), [false, true]);
    }
    // The server really stopped: TCP says so too, once.
    world.put_good(A, 10);
    ask(&exchanger, &[A], &question("stopped.example.")).await.expect("an answer");
    world.take_log();
    ask(&exchanger, &[A], &question("later.example.")).await.expect("an answer");
    assert_eq!(world.take_log().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn badcookie_is_answered_with_the_new_cookie_and_then_over_tcp() {
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let right = seen.cookie().get(8..) == Some(&SERVER_COOKIE[..]);
        after(10, with_cookie(seen, if right { 0 } else { 7 }, u8::from(!right), &SERVER_COOKIE))
    });
    let exchanger = exchanger(&world);
    let reply = ask(&exchanger, &[A], &question("one.example.")).await.expect("an answer");
    assert_eq!(u16::from(reply.message.rcode), 0);
    assert_eq!(world.take_log().len(), 2);
    // A server that is never content with a cookie over UDP (RFC 7873 §5.3).
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let bad = !seen.tcp;
        after(10, with_cookie(seen, if bad { 7 } else { 0 }, u8::from(bad), &[seen.before as u8; 8]))
    });
    let reply = ask(&super::world::exchanger(&world), &[A], &question("one.example.")).await.expect("an answer");
    assert_eq!(u16::from(reply.message.rcode), 0);
    assert_eq!(world.take_log().iter().map(|line| line.tcp).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_that_tcp_cannot_settle_costs_the_server_its_protection_and_not_its_service() {
    // It loses the case, and has no TCP.
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let mut answer = seen.good();
        let name = 12..seen.question_end() - 4;
        answer[name].make_ascii_lowercase();
        after(10, answer)
    });
    world.change(A, |server| server.no_tcp = true);
    let exchanger = exchanger(&world);
    let start = Instant::now();
    ask(&exchanger, &[A], &question("mail.example.")).await.expect("an answer");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // It stops sending cookies, and has no TCP.
    let world = World::new();
    world.put(A, |seen: &Seen| {
        let answers = seen.before == 0;
        after(10, if answers { with_cookie(seen, 0, 0, &SERVER_COOKIE) } else { seen.good() })
    });
    world.change(A, |server| server.no_tcp = true);
    let exchanger = super::world::exchanger(&world);
    for n in 0..3 {
        let start = Instant::now();
        ask(&exchanger, &[A], &question(&format!("n{n}.example."))).await.expect("an answer");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
