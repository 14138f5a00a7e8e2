//! One function per parser: octets in, a panic where a promise is broken.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::BytesMut;
use postseal::cache::entry::{HeldPolicy, StsMode, StsPolicy};
use postseal::config::MapOptions;
use postseal::limits::{REPLY_BYTES, STS_POLICY_BYTES};
use postseal::names::{Domain, NextHop};
use postseal::policy::decision::{Decision, Outcome};
use postseal::policy::mta_sts::{policy, record};
use postseal::policy::reply::{Reply, render};
use postseal::resolver::anchors::file::{parse_anchors, parse_hints};
use postseal::socketmap::netstring;

/// Longest request that the netstring checks allow; small, so that mutated lengths pass it.
const LARGEST: usize = 100;

/// Netstrings: what is taken encodes to the same octets; nothing is refused late or taken early.
pub fn netstring(octets: &[u8]) {
    let whole = netstring::decode(octets, LARGEST);
    if let Ok(Some(frame)) = whole {
        assert!(frame.payload.len() <= LARGEST);
        let mut again = BytesMut::new();
        netstring::encode(frame.payload, &mut again);
        assert_eq!(again, octets[..frame.size], "another encoding of the same payload was taken");
    }
    // Octet by octet, as a slow peer sends it: incomplete until it is decided, and then for good.
    let decided = (0..octets.len()).find(|end| netstring::decode(&octets[..*end], LARGEST) != Ok(None));
    match decided {
        Some(end) => assert_eq!(netstring::decode(&octets[..end], LARGEST), whole),
        None => assert!(!matches!(whole, Ok(Some(frame)) if frame.size < octets.len())),
    }
}

/// Keys of Postfix: a next hop is written as a key that means the same, and never longer than DNS names are.
pub fn next_hop(octets: &[u8]) {
    let Ok(hop) = NextHop::parse(octets) else { return };
    let key = hop.to_string();
    assert_eq!(NextHop::parse(key.as_bytes()).as_ref(), Ok(&hop), "{key}");
    let (NextHop::Domain { domain, .. } | NextHop::Host { host: domain, .. }) = &hop;
    assert!(domain.as_str().len() <= 253 && domain.as_str().is_ascii());
    assert!(!domain.as_str().contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace() || c.is_control()));
    assert_eq!(Domain::from_name(&domain.to_name()).as_ref(), Ok(domain));
}

/// MTA-STS records: an `id` is what RFC 8461 §3.1 allows, wherever TXT splits its character-strings.
pub fn sts_record(octets: &[u8]) {
    let id = record::select([[octets]]);
    if let Ok(id) = &id {
        assert!((1..=32).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric()), "{id}");
    }
    let (head, tail) = octets.split_at(octets.len() / 2);
    assert_eq!(record::select([[head, tail]]), id, "split in two");
    assert_eq!(record::select([octets, b"v=spf1 -all"].map(|text| [text])), id, "beside another kind of record");
}

/// MTA-STS policies: what is taken is complete, is read the same when written again, and goes into a reply that
/// Postfix can read.
pub fn sts_policy(octets: &[u8]) {
    let Ok(parsed) = policy::parse(octets) else { return };
    assert!(octets.len() <= STS_POLICY_BYTES);
    assert!(parsed.max_age <= StsPolicy::LONGEST_MAX_AGE);
    assert!(parsed.mode == StsMode::None || !parsed.mx.is_empty());
    let mut written = String::new();
    for (key, value) in parsed.lines.iter() {
        _ = writeln!(written, "{key}: {value}");
    }
    if written.len() <= STS_POLICY_BYTES {
        assert_eq!(policy::parse(written.as_bytes()).as_ref(), Ok(&parsed));
    }
    if parsed.mode != StsMode::None {
        reply_of(parsed);
    }
}

fn reply_of(parsed: StsPolicy) {
    let hop = NextHop::parse(b"example.com").expect("a next hop");
    let held = HeldPolicy { id: "1".into(), fetched_at: 1_800_000_000, policy: parsed.into() };
    let decision = Decision { outcome: Outcome::Secure(Arc::new(held)), dane: None, sts: None, cached: true };
    for tlsrpt in [false, true] {
        let map = MapOptions { tlsrpt, ..MapOptions::default() };
        let Reply::Ok(text) = render(&decision, &hop, &map) else { panic!("a policy is answered with OK") };
        assert!("OK ".len() + text.len() <= REPLY_BYTES, "{} octets", text.len());
        assert!(!text.contains(|c: char| c.is_ascii_control() && c != '\t'), "{text:?}");
        let mut words = text.split(' ');
        assert_eq!(words.next(), Some("secure"));
        let hosts = words.next().and_then(|word| word.strip_prefix("match=")).expect("match=");
        for host in hosts.split(':') {
            Domain::parse(host.strip_prefix('.').unwrap_or(host)).expect("a host name or .name");
        }
        let outside = text.split("{ policy_string = ").skip(1).all(|rest| rest.matches(['{', '}']).count() == 1);
        assert!(outside, "braces out of balance: {text:?}");
        if text.contains("policy_type=") {
            assert!(text.contains(" mx_host_pattern=") && text.contains("{ policy_string = "), "{text:?}");
        }
    }
}

/// Trust anchor files and root hints, as an operator may mangle them: an error or records, never a panic.
pub fn anchors(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if let Ok(sets) = parse_anchors(&text, "fuzz") {
        assert!(!sets.is_empty(), "a file without anchors was taken");
        assert!(sets.iter().all(|set| !set.rdatas.is_empty()));
    }
    if let Ok(hints) = parse_hints(&text, "fuzz") {
        assert!(!hints.is_empty(), "a file without hints was taken");
    }
}
