//! What a server cannot do, or does in its own way, costs its zones nothing that other resolvers would give them.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};
use postseal::clock::Instant;

use crate::support::fault::{Fault, On, Patch};
use crate::support::lab::Lab;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1\nother A 192.0.2.2";

fn zones() -> Vec<Zone> {
    vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("odd.com").signed(13).records(MAIL),
        Zone::new("plain.com").records(MAIL),
    ]
}

/// Adds this record at the end of the additional section, after an OPT record.
fn with_record(record: Vec<u8>) -> Fault {
    let patch: Patch = Arc::new(move |_, mut octets| {
        let count = u16::from_be_bytes([octets[10], octets[11]]) + 1;
        octets[10..12].copy_from_slice(&count.to_be_bytes());
        octets.extend_from_slice(&record);
        octets
    });
    Fault::Patch(patch)
}

/// A record of the root's with so many octets of data, of which `there` are there.
fn record(rtype: u8, length: u16, there: usize) -> Vec<u8> {
    let mut record = vec![0, 0, rtype, 0, 1, 0, 0, 0, 60];
    record.extend_from_slice(&length.to_be_bytes());
    record.resize(record.len() + there, 7);
    record
}

async fn expect_all(lab: &Lab, what: &str) {
    assert_eq!(lab.verdict("odd.com", MX).await, "secure 1", "{what}");
    assert_eq!(lab.verdict("mx.odd.com", A).await, "secure 1", "{what}");
    assert_eq!(lab.verdict("none.odd.com", A).await, "secure nxdomain", "{what}");
    assert_eq!(lab.verdict("plain.com", MX).await, "insecure 1", "{what}");
    assert_eq!(lab.verdict("none.plain.com", A).await, "insecure nxdomain", "{what}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_record_in_the_additional_section_does_not_cost_the_answer() {
    for (what, octets) in [
        ("an address of three octets", record(1, 3, 3)),
        ("a name server without a name", record(2, 2, 2)),
        ("a signature of four octets", record(46, 4, 4)),
        ("a record that ends after the message", record(1, 4_000, 4)),
        ("no record at all", vec![0xff]),
    ] {
        let lab = Lab::in_memory(zones());
        lab.world.inject(On::everything(), with_record(octets));
        expect_all(&lab, what).await;
    }
}

#[tokio::test]
async fn datagrams_over_4096_octets_do_not_cost_the_answer() {
    let lab = Lab::on_sockets(zones()).await;
    lab.world.inject(On::everything().udp(), with_record(record(16, 20_000, 20_000)));
    lab.world.inject(On::everything().tcp(), Fault::NoTcp);
    expect_all(&lab, "20,000 octets").await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_whose_servers_answer_over_tcp_alone_is_asked_over_tcp() {
    let lab = Lab::in_memory(zones());
    for zone in ["odd.com", "plain.com"] {
        lab.world.inject(On::zone(zone).udp(), Fault::Silence);
    }
    for (name, rtype, expected) in [
        ("odd.com", MX, "secure 1"),
        ("mx.odd.com", A, "secure 1"),
        ("none.odd.com", A, "secure nxdomain"),
        ("plain.com", MX, "insecure 1"),
        ("none.plain.com", A, "insecure nxdomain"),
    ] {
        let begin = Instant::now();
        assert_eq!(lab.verdict(name, rtype).await, expected, "{name}");
        assert!(begin.elapsed() < Duration::from_secs(12), "{name}: {:?}", begin.elapsed());
    }
    // By now that is known, and mail does not wait for datagrams again.
    let begin = Instant::now();
    assert_eq!(lab.verdict("other.odd.com", A).await, "secure 1");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
