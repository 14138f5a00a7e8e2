//! Whole messages of clients through the DNS listener, in memory, on canned answers: what comes back is an answer to
//! what was asked, in a form that the client can take, or nothing.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use hickory_proto::rr::{Name, RecordType};
use postseal::clock::{Clock, Stamp};
use postseal::dns::{BoxFuture, Cause, Failure, Security};
use postseal::listener::{Resolve, Service, ServiceSettings, Transport};
use postseal::resolver::Flags;
use postseal::resolver::message::Message;
use postseal::resolver::resolution::{End, Part, Ready, Resolution};
use postseal::resolver::rrset::{RrSet, Rrsig};
use postseal::resolver::rrset_cache::{Known, RrsetCache};

/// Octets before the message that say how it comes: from where, and over what.
const PREFIX: usize = 1;

static SERVICE: LazyLock<Arc<Service<Canned>>> = LazyLock::new(|| {
    let settings = ServiceSettings { allow: vec!["10.0.0.0/9".parse().expect("a range")], ..Default::default() };
    Service::new(Canned::new(), settings, Clock::manual(1_800_000_000))
});

/// The message after the first octet is answered soundly, or not at all.
pub fn listener(octets: &[u8]) {
    let Some((how, message)) = octets.split_at_checked(PREFIX) else { return };
    let client: IpAddr = if how[0] & 1 == 0 { [10, 0, 0, how[0]].into() } else { [10, 200, 0, 1].into() };
    let transport = match how[0] >> 1 & 3 {
        0 => Transport::Tcp,
        1 => Transport::Udp { loopback: false },
        _ => Transport::Udp { loopback: true },
    };
    let answered = {
        let answer = pin!(SERVICE.answer(message, client, transport));
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("canned answers need no waiting"),
        }
    };
    if let Some(answer) = answered {
        check(message, &answer, transport);
    }
}

/// Whether `answer` is one to `query`.
fn check(query: &[u8], answer: &[u8], transport: Transport) {
    let read = Message::parse(answer).expect("a well-formed answer");
    assert!(query.len() >= 12 && query[2] & 0x80 == 0, "only queries are answered");
    assert!(read.response && read.recursion_available && !read.authoritative);
    // Id, opcode, RD and CD come back as they were; Z stays clear.
    assert_eq!(answer[..2], query[..2]);
    assert_eq!(answer[2] & 0x79, query[2] & 0x79);
    assert_eq!(answer[3] & 0x50, query[3] & 0x10);
    if read.questions == 1 {
        let end = 12 + question(&query[12..]);
        assert_eq!(answer[12..end], query[12..end], "the question, in the client's case");
    }
    assert!(!read.truncated || (read.answer.is_empty() && read.authority.is_empty() && !read.authentic));
    let largest = match transport {
        Transport::Tcp => 65_535,
        Transport::Udp { loopback: true } => 4_096,
        Transport::Udp { loopback: false } => 1_232,
    };
    assert!(answer.len() <= largest, "{} octets, {largest} fit", answer.len());
    // The listener passes over additional records that it has no use for; the parser may refuse them.
    if let Ok(asked) = Message::parse(query) {
        check_client(query, &asked, answer, &read, transport);
    }
}

/// Whether `answer` is in a form that this client can take.
fn check_client(query: &[u8], asked: &Message, answer: &[u8], read: &Message, transport: Transport) {
    assert!(read.edns.is_none() || asked.edns.is_some(), "OPT only for those who sent one");
    let edns = asked.edns.as_ref().filter(|_| asked.opcode == 0);
    if let Transport::Udp { .. } = transport {
        let largest = edns.map_or(512, |edns| usize::from(edns.payload.max(512)));
        assert!(answer.len() <= largest, "{} octets, {largest} fit", answer.len());
    }
    let dnssec_ok = edns.is_some_and(|edns| edns.dnssec_ok);
    assert!(dnssec_ok || read.answer.iter().chain(&read.authority).all(|set| set.sigs.is_empty()));
    assert!(!read.authentic || dnssec_ok || query[3] & 0x20 != 0, "AD for those who know it");
}

/// Octets of the question, whose name is not compressed.
fn question(body: &[u8]) -> usize {
    let mut at = 0;
    while body[at] != 0 {
        at += 1 + usize::from(body[at]);
    }
    at + 5
}

/// Answers by type and name: from a cache, slowly, or not.
struct Canned(RrsetCache);

impl Canned {
    fn new() -> Self {
        let (cache, now) = (RrsetCache::new(1 << 20), Clock::manual(1_800_000_000).stamp());
        for (name, rtype) in [("ready.example.", RecordType::A), ("mx.ready.example.", RecordType::MX)] {
            let set = Arc::new(set(&Name::from_ascii(name).expect("a name"), rtype, 3));
            let known = Known::Positive { set, proof: Arc::default(), dname: None };
            cache.insert(known, Security::Secure, 86_400, now);
        }
        Self(cache)
    }
}

impl Resolve for Canned {
    fn ready(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Ready> {
        let entry = self.0.get(name, rtype, now)?;
        Some(Ready { end: End::Records, ttl: entry.remaining(now), entry })
    }

    fn at_hand(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        (rtype == RecordType::AAAA).then(|| resolution(name, rtype, 1, Security::Insecure))
    }

    fn resolve<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        flags: Flags,
    ) -> BoxFuture<'a, Result<Arc<Resolution>, Failure>> {
        let records = name.iter().next().map_or(0, <[u8]>::len);
        let failure = || Failure::new(name.clone(), rtype, Cause::Timeout);
        Box::pin(std::future::ready(match rtype {
            RecordType::TXT if !flags.checking_disabled => Err(failure()),
            RecordType::TXT => Ok(Arc::new(Resolution {
                unchecked: Some(failure()),
                ..resolution(name, rtype, 1, Security::Insecure)
            })),
            // A label of 63 octets gets more records than any message holds.
            RecordType::A if records == 63 => Ok(Arc::new(resolution(name, rtype, 60_000, Security::Secure))),
            RecordType::A | RecordType::MX | RecordType::TLSA => {
                Ok(Arc::new(resolution(name, rtype, records, Security::Secure)))
            }
            _ => Ok(Arc::new(Resolution { end: End::NoData, ..resolution(name, rtype, 0, Security::Secure) })),
        }))
    }

    fn trusts_root_key(&self, tag: u16) -> bool {
        tag == 20_326
    }
}

fn resolution(name: &Name, rtype: RecordType, records: usize, security: Security) -> Resolution {
    let part = |set| Part { set: Arc::new(set), ttl: 60 };
    Resolution {
        end: End::Records,
        answer: (records > 0).then(|| part(set(name, rtype, records))).into_iter().collect(),
        authority: vec![part(set(&name.base_name(), RecordType::NSEC, 1))],
        canonical: name.clone(),
        security,
        ttl: 60,
        unchecked: None,
    }
}

fn set(name: &Name, rtype: RecordType, records: usize) -> RrSet {
    let signature = Rrsig {
        covered: rtype,
        algorithm: 13,
        labels: name.num_labels(),
        original_ttl: 60,
        expiration: 2,
        inception: 1,
        key_tag: 7,
        signer: name.base_name(),
        signature: vec![9; 64].into(),
        ttl: 60,
    };
    // An MX record's host shares most of its name with the owner, as far as names may go.
    let host = if name.len() < 200 { [b"\x01a", &*wire(name)].concat() } else { vec![0] };
    let rdata = |number: usize| match rtype {
        RecordType::MX => [&[0, number as u8], &*host].concat().into_boxed_slice(),
        RecordType::A => [10, 0, (number >> 8) as u8, number as u8].into(),
        RecordType::AAAA => [&[0; 8][..], &number.to_be_bytes()].concat().into_boxed_slice(),
        RecordType::NSEC => [0, 0, 1, 0x40].into(),
        _ => [&[8], &number.to_be_bytes()[..]].concat().into_boxed_slice(),
    };
    let rdatas = (0..records).map(rdata).collect();
    RrSet { name: name.clone(), rtype, ttl: 60, rdatas, sigs: vec![signature] }
}

fn wire(name: &Name) -> Vec<u8> {
    let labels = name.iter().flat_map(|label| [&[label.len() as u8], label].concat());
    labels.chain([0]).collect()
}
