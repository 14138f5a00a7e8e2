//! Replies that nobody sane sends: a server, or whoever sits before it, gets no memory and no time of ours.

use postseal::cache::shared::LinkState;

use crate::shared_store::AT_ONCE;
use crate::shared_store::fake::{Fake, Mood};
use crate::shared_store::setting::{Owners, Replica, eventually, secure};

/// What the kernel's buffers of one loopback connection hold, generously; a reader that does not stop takes a gigabyte
/// within the time that a mail waits.
const BUFFERS_BYTES: usize = 32 << 20;

/// Each kind of reply without end: its beginning, and what follows again and again.
const ENDLESS: [(&str, &[u8], &[u8]); 9] = [
    ("string of the greatest length", b"$9223372036854775807\r\n", b"xxxxxxxxxxxxxxxx"),
    ("string of a gigabyte", b"$1073741824\r\n", b"xxxxxxxxxxxxxxxx"),
    ("simple string", b"+", b"xxxxxxxxxxxxxxxx"),
    ("error", b"-ERR ", b"xxxxxxxxxxxxxxxx"),
    ("number", b":", b"1"),
    ("array", b"*2147483647\r\n", b"$1\r\nx\r\n"),
    ("nested arrays", b"", b"*1\r\n"),
    ("replies nobody asked for", b"", b"+OK\r\n"),
    ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>"),
];

/// Every way to be connected to it.
fn urls(fake: &Fake) -> [String; 3] {
    let host = fake.url.trim_start_matches("redis://");
    [fake.url.clone(), format!("redis+sentinel://{host}/main"), format!("redis+cluster://{host}")]
}

#[tokio::test]
async fn an_endless_reply_takes_no_memory_holds_no_mail_and_ends_the_connection() {
    for way in 0..3 {
        for (kind, first, again) in ENDLESS {
            let (fake, owners) = (Fake::start().await, Owners::default());
            let replica = Replica::connected(&urls(&fake)[way], None, &owners).await;
            owners.publish("a.example", "1", "enforce", "mx.a.example");
            fake.set_mood(Mood::Endless(first, again));
            let (answer, took) = replica.timed("a.example").await;
            assert_eq!(answer, secure("mx.a.example"), "{kind}");
            assert!(took < AT_ONCE, "{kind}: {took:?}");
            eventually("the connection is given up", async || !fake.floods.lock().is_empty()).await;
            let poured = fake.floods.lock()[0];
            assert!(poured < BUFFERS_BYTES, "{kind}, {}: {poured} octets", urls(&fake)[way]);
            replica.until(LinkState::Down).await;
            fake.set_mood(Mood::Well);
            replica.until(LinkState::Up).await;
            replica.written().await;
            assert!(fake.value("a.example").is_some(), "{kind}: shared once the server is well again");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_hostile_from_the_start_gets_no_memory_either() {
    for way in 0..3 {
        for (kind, first, again) in ENDLESS {
            let (fake, owners) = (Fake::start().await, Owners::default());
            fake.set_mood(Mood::Endless(first, again));
            let replica = Replica::new(&urls(&fake)[way], None, &owners);
            eventually("the connection is given up", async || !fake.floods.lock().is_empty()).await;
            let poured = fake.floods.lock()[0];
            assert!(poured < BUFFERS_BYTES, "{kind}, {}: {poured} octets", urls(&fake)[way]);
            owners.publish("a.example", "1", "enforce", "mx.a.example");
            assert_eq!(replica.ask("a.example").await, secure("mx.a.example"), "{kind}");
        }
    }
}
