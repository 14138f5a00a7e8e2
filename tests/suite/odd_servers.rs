//! Servers that break on what a careful resolver puts into a query (0x20, cookies, EDNS), or answer in odd ways: their own
//! domains resolve all the same, and nobody's protection is turned off by one forged packet.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX, TXT};
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::wire::Question;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1\n_mta-sts TXT \"v=STSv1; id=1;\"";

fn world() -> Vec<Zone> {
    vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("plain.com").servers(2).records(MAIL),
        Zone::new("signed.com").signed(13).servers(2).records(MAIL),
    ]
}

pub fn has_capitals(question: &Question) -> bool {
    question.name.to_string().chars().any(|c| c.is_ascii_uppercase())
}

/// The header of an answer with this code and the question, and nothing else.
pub fn code(octets: &[u8], code: u8, with_question: bool) -> Vec<u8> {
    let mut short = octets.to_vec();
    let mut end = 12;
    while short[end] != 0 {
        end += 1 + usize::from(short[end]);
    }
    short.truncate(if with_question { end + 5 } else { 12 });
    short[2] |= 0x84;
    short[3] = code;
    short[4..12].copy_from_slice(&[0, u8::from(with_question), 0, 0, 0, 0, 0, 0]);
    short
}

/// An unsigned denial: code, and the SOA of nobody.
type Breaks = fn(&Question, Vec<u8>) -> Vec<u8>;

/// What servers do to capital letters.
fn on_capitals() -> Vec<(&'static str, Breaks)> {
    vec![
        ("NODATA", |question, octets| if has_capitals(question) { code(&octets, 0, true) } else { octets }),
        ("NXDOMAIN", |question, octets| if has_capitals(question) { code(&octets, 3, true) } else { octets }),
        ("REFUSED", |question, octets| if has_capitals(question) { code(&octets, 5, true) } else { octets }),
        ("SERVFAIL", |question, octets| if has_capitals(question) { code(&octets, 2, true) } else { octets }),
        ("FORMERR", |question, octets| if has_capitals(question) { code(&octets, 1, true) } else { octets }),
        ("silence", |question, octets| if has_capitals(question) { Vec::new() } else { octets }),
    ]
}

/// What servers do to cookies.
fn on_cookies() -> Vec<(&'static str, Breaks)> {
    fn broken(question: &Question) -> bool {
        question.cookie.is_some()
    }
    vec![
        ("silence", |question, octets| if broken(question) { Vec::new() } else { octets }),
        ("FORMERR without OPT", |question, octets| if broken(question) { code(&octets, 1, true) } else { octets }),
        ("SERVFAIL without OPT", |question, octets| if broken(question) { code(&octets, 2, true) } else { octets }),
        ("REFUSED", |question, octets| if broken(question) { code(&octets, 5, true) } else { octets }),
        ("BADVERS", |question, octets| if broken(question) { bad_version(&octets, true) } else { octets }),
        (
            "BADVERS without question",
            |question, octets| {
                if broken(question) { bad_version(&octets, false) } else { octets }
            },
        ),
    ]
}

/// BADVERS (RFC 6891 §6.1.3): the upper bits of the code are in an OPT record.
fn bad_version(octets: &[u8], with_question: bool) -> Vec<u8> {
    let mut octets = code(octets, 0, with_question);
    octets[11] = 1;
    octets.extend_from_slice(&[0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
    octets
}

async fn resolves(lab: &Lab, row: &str) {
    // As the first thing that this process does, and again with what was learnt.
    for round in 0..2 {
        for (name, rtype, expected) in [
            ("plain.com", MX, "insecure 1"),
            ("mx.plain.com", A, "insecure 1"),
            ("_mta-sts.plain.com", TXT, "insecure 1"),
            ("signed.com", MX, "secure 1"),
            ("mx.signed.com", A, "secure 1"),
            ("none.signed.com", A, "secure nxdomain"),
        ] {
            assert_eq!(lab.verdict(name, rtype).await, expected, "{row}, round {round}: {name} {rtype}");
        }
    }
}

/// Both zones resolve, where `bad` of the two servers of each break in this way.
async fn resolve_with(row: &str, breaks: Breaks, bad: usize) {
    let lab = Lab::in_memory(world());
    for zone in ["plain.com", "signed.com"] {
        for server in lab.world.servers_of(zone).into_iter().take(bad) {
            lab.world.inject(On::server(server), Fault::patch(breaks));
        }
    }
    resolves(&lab, &format!("{row} at {bad} of 2")).await;
}

#[tokio::test(start_paused = true)]
async fn zones_whose_servers_cannot_stand_capital_letters_resolve() {
    for (row, breaks) in on_capitals() {
        for bad in 1..=2 {
            // Which server comes first is chance.
            for _ in 0..6 {
                resolve_with(row, breaks, bad).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn zones_whose_servers_cannot_stand_cookies_resolve_and_signed_ones_securely() {
    for (row, breaks) in on_cookies() {
        for bad in 1..=2 {
            resolve_with(row, breaks, bad).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn servers_that_echo_another_clients_cookie_are_believed_over_tcp() {
    let lab = Lab::in_memory(world());
    let foreign = |question: &Question, octets: Vec<u8>| match &question.cookie {
        Some(cookie) => {
            let ours = &cookie[..8];
            let mut octets = octets;
            // The answers of the world have no cookie: one is added to the OPT record, which comes last.
            if let Some(at) = octets.windows(3).rposition(|window| window == [0, 0, 41]) {
                octets.truncate(at + 9);
                octets.extend_from_slice(&[0, 12, 0, 10, 0, 8]);
                octets.extend(ours.iter().map(|octet| octet ^ 0xff));
            }
            octets
        }
        None => octets,
    };
    for zone in ["plain.com", "signed.com"] {
        lab.world.inject(On::zone(zone), Fault::patch(foreign));
    }
    resolves(&lab, "another client's cookie").await;
}

#[tokio::test(start_paused = true)]
async fn ordinary_denials_of_a_server_that_is_known_cost_one_query() {
    let lab = Lab::in_memory(world());
    assert_eq!(lab.verdict("plain.com", MX).await, "insecure 1");
    for n in 0..10 {
        // Whichever of the two servers: each has to have answered well once.
        let _ = lab.lookup(&format!("warm{n}.plain.com"), A).await;
    }
    lab.world.take_asked();
    for n in 0..20 {
        assert_eq!(lab.verdict(&format!("none{n}.plain.com"), A).await, "insecure nxdomain");
    }
    assert_eq!(lab.world.take_asked().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn zones_whose_servers_answer_over_tcp_alone_resolve() {
    for (row, fault) in [
        ("silence over UDP", Fault::Silence),
        ("a record that cannot be read", Fault::patch(|_, octets| octets[..octets.len() - 3].to_vec())),
    ] {
        let lab = Lab::in_memory(world());
        let servers: Vec<IpAddr> = lab.world.servers_of("plain.com");
        for server in servers {
            lab.world.inject(On::server(server).udp(), fault.clone());
        }
        assert_eq!(lab.verdict("plain.com", MX).await, "insecure 1", "{row}");
        // Then it is known.
        let begun = Instant::now();
        assert_eq!(lab.verdict("_mta-sts.plain.com", TXT).await, "insecure 1", "{row}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{row}: {:?}", begun.elapsed());
    }
}
