//! Replicas that share what they learnt, without a server of others; `real` does it with one.

pub mod fake;
mod real;
mod server;
pub mod setting;
mod whole;

use std::time::Duration;

use postseal::cache::shared::{LinkState, SharedCopy};
use postseal::limits::SHARED_READ_WAIT;
use postseal::names::Domain;

use self::fake::{Fake, Mood};
use self::setting::{Owners, Replica, eventually, secure};

/// More than a lookup may take where nothing outside is slow: the read wait, and what a busy machine adds.
pub const AT_ONCE: Duration = Duration::from_secs(3);

async fn two(fake: &Fake, owners: &Owners) -> (Replica, Replica) {
    (Replica::connected(&fake.url, None, owners).await, Replica::connected(&fake.url, None, owners).await)
}

#[tokio::test]
async fn what_one_replica_learnt_the_other_serves_though_it_cannot_fetch() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    let (one, two) = two(&fake, &owners).await;
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    two.block();
    assert_eq!(two.ask("a.example").await, "NOTFOUND ", "nobody has it yet");
    assert_eq!(one.ask("a.example").await, secure("mx.a.example"));
    one.written().await;
    two.clock.jump(301);
    assert_eq!(two.ask("a.example").await, secure("mx.a.example"));
    assert_eq!(two.fetches(), 1, "the id is the same: no fetch after the first");
    owners.publish("a.example", "2", "enforce", "new.a.example");
    let three = Replica::connected(&fake.url, None, &owners).await;
    three.block();
    assert_eq!(three.ask("a.example").await, secure("mx.a.example"), "a new id that cannot be fetched");
    three.unblock();
    three.clock.jump(301);
    assert_eq!(three.ask("a.example").await, secure("new.a.example"));
}

#[tokio::test]
async fn what_is_held_gives_way_to_a_newer_enforce_under_the_announced_id_and_to_nothing_less() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    let (one, two) = two(&fake, &owners).await;
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    for replica in [&one, &two] {
        assert_eq!(replica.ask("a.example").await, secure("mx.a.example"));
    }
    two.block();
    for (id, mode, mx, expected) in [
        ("2", "none", "mx.a.example", "mx.a.example"),
        ("3", "testing", "mx.a.example", "mx.a.example"),
        ("4", "enforce", "new.a.example", "new.a.example"),
    ] {
        owners.publish("a.example", id, mode, mx);
        for replica in [&one, &two] {
            replica.clock.jump(301);
        }
        let answer = if mode == "enforce" { secure(mx) } else { "NOTFOUND ".to_owned() };
        assert_eq!(one.ask("a.example").await, answer, "{mode}");
        one.written().await;
        assert_eq!(two.ask("a.example").await, secure(expected), "{mode}");
    }
}

#[tokio::test]
async fn a_shared_policy_that_is_no_enforce_saves_no_fetch() {
    for mode in ["none", "testing"] {
        let (fake, owners) = (Fake::start().await, Owners::default());
        let (one, two) = two(&fake, &owners).await;
        owners.publish("a.example", "1", mode, "mx.a.example");
        assert_eq!(one.ask("a.example").await, "NOTFOUND ");
        one.written().await;
        // The owner enforces now, and forgot to change the id.
        owners.publish("a.example", "1", "enforce", "mx.a.example");
        assert_eq!(two.ask("a.example").await, secure("mx.a.example"), "{mode}");
    }
}

#[tokio::test]
async fn garbage_is_skipped_and_written_over() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    let now = postseal::clock::Clock::system().wall();
    let copy = |domain: &str, at: i64, mx: &str| {
        let text = format!("version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: 86400");
        SharedCopy { domain: domain.into(), id: "1".into(), fetched_at: at, text: text.into() }.encode().unwrap()
    };
    let mut damaged = copy("a.example", now, "evil.example");
    damaged[20] ^= 1;
    for (name, value) in [
        ("text", b"hello".to_vec()),
        ("another version", vec![2; 100]),
        ("damaged", damaged),
        ("longer than any entry", vec![1; 200_000]),
        ("of another domain", copy("b.example", now, "evil.example")),
        ("from the future", copy("a.example", now + 3_600, "evil.example")),
        ("over", copy("a.example", now - 86_400, "evil.example")),
        ("an attribute smuggled in", copy("a.example", now, "evil.example servername=x")),
    ] {
        fake.put("a.example", value);
        let replica = Replica::connected(&fake.url, None, &owners).await;
        assert_eq!(replica.ask("a.example").await, secure("mx.a.example"), "{name}");
        assert_eq!(replica.fetches(), 1, "{name}");
        replica.written().await;
        let written = fake.value("a.example").unwrap();
        let copy = SharedCopy::decode(&Domain::parse("a.example").unwrap(), &written).unwrap();
        assert!(copy.text.contains("mx:mx.a.example"), "{name}");
    }
}

#[tokio::test]
async fn an_older_fetch_does_not_replace_a_newer_one() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    let (one, two) = two(&fake, &owners).await;
    owners.publish("a.example", "1", "enforce", "old.a.example");
    // The store is full while the first fetches: its write comes after that of the second.
    fake.set_mood(Mood::Full);
    assert_eq!(one.ask("a.example").await, secure("old.a.example"));
    owners.publish("a.example", "2", "enforce", "new.a.example");
    two.clock.jump(2);
    assert_eq!(two.ask("a.example").await, secure("new.a.example"));
    one.clock.jump(2);
    fake.set_mood(Mood::Well);
    one.written().await;
    two.written().await;
    let copy = SharedCopy::decode(&Domain::parse("a.example").unwrap(), &fake.value("a.example").unwrap()).unwrap();
    assert!(copy.text.contains("new.a.example"), "{}", copy.text);
}

#[tokio::test]
async fn a_silent_or_slow_store_costs_one_short_wait_and_is_then_left_alone() {
    for mood in [Mood::Silent, Mood::Slow(SHARED_READ_WAIT * 2)] {
        let (fake, owners) = (Fake::start().await, Owners::default());
        let replica = Replica::connected(&fake.url, None, &owners).await;
        for name in ["a.example", "b.example"] {
            owners.publish(name, "1", "enforce", "mx.example");
        }
        fake.set_mood(mood);
        let (reply, took) = replica.timed("a.example").await;
        assert_eq!(reply, secure("mx.example"));
        assert!(took >= SHARED_READ_WAIT && took < AT_ONCE, "{took:?}");
        assert_eq!(replica.store.status().link, LinkState::Down);
        let (reply, took) = replica.timed("b.example").await;
        assert_eq!(reply, secure("mx.example"));
        assert!(took < SHARED_READ_WAIT, "{took:?}");
        fake.set_mood(Mood::Well);
        replica.until(LinkState::Up).await;
        replica.written().await;
        assert!(fake.value("a.example").is_some() && fake.value("b.example").is_some(), "written once it is back");
    }
}

#[tokio::test]
async fn a_store_that_takes_no_writes_is_still_read_and_gets_them_later() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    let (one, two) = two(&fake, &owners).await;
    for name in ["a.example", "b.example"] {
        owners.publish(name, "1", "enforce", "mx.example");
    }
    assert_eq!(one.ask("a.example").await, secure("mx.example"));
    one.written().await;
    fake.set_mood(Mood::Full);
    assert_eq!(one.ask("b.example").await, secure("mx.example"));
    two.block();
    assert_eq!(two.ask("a.example").await, secure("mx.example"), "read while it is full");
    assert_eq!(one.store.status().link, LinkState::Up);
    assert_eq!(one.store.status().pending, 1);
    fake.set_mood(Mood::Well);
    one.written().await;
    assert!(fake.value("b.example").is_some());
}

#[tokio::test]
async fn a_purged_policy_is_not_found_again_in_the_shared_store() {
    let (fake, owners) = (Fake::start().await, Owners::default());
    let (one, two) = two(&fake, &owners).await;
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    assert_eq!(one.ask("a.example").await, secure("mx.a.example"));
    one.written().await;
    one.block();
    assert!(one.purge("a.example"));
    assert_eq!(one.ask("a.example").await, "NOTFOUND ");
    eventually("removal", async || fake.value("a.example").is_none()).await;
    // Another replica keeps what it holds, but did not hold this one.
    two.block();
    assert_eq!(two.ask("a.example").await, "NOTFOUND ");
}

#[tokio::test]
async fn a_store_that_is_not_there_delays_nothing() {
    let owners = Owners::default();
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let replica = Replica::new(&format!("redis://:secret@{gone}"), None, &owners);
    replica.until(LinkState::Down).await;
    let (reply, took) = replica.timed("a.example").await;
    assert_eq!(reply, secure("mx.a.example"));
    assert!(took < SHARED_READ_WAIT, "{took:?}");
    let status = replica.store.status();
    assert_eq!((status.url, status.pending), (format!("redis://:***@{gone}"), 1));
    assert!(status.error.is_some_and(|error| !error.contains("secret")));
}
