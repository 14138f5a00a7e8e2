//! From a client's octets to the octets of the answer.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use metrics::{Counter, counter};

use super::admission::{Admission, Kind, Pace};
use super::error_code::ExtendedError;
use super::local::Local;
use super::query::{Head, Parsed, Query, parse};
use super::response::{Response, Transport};
use crate::clock::{Clock, Stamp};
use crate::dns::{BoxFuture, Failure, Security};
use crate::resolver::engine::{Engine, Flags};
use crate::resolver::message::Rcode;
use crate::resolver::resolution::{End, Part, Ready, Resolution};
use crate::resolver::rrset::RrSet;
use crate::telemetry::metrics as names;

/// TTL of the answer to ANY.
const ANY_TTL: u32 = 3_600;

/// Whoever answers questions with whole RRsets: the engine, and scripted answers in tests.
pub trait Resolve: Send + Sync + 'static {
    /// The answer, if it is one cache entry; what has none answers by [`Resolve::at_hand`]. `name` is in lower case.
    fn ready(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Ready> {
        let _ = (name, rtype, now);
        None
    }

    /// The answer, if it needs no work. `name` is in lower case.
    fn at_hand(&self, name: &Name, rtype: RecordType) -> Option<Resolution>;

    /// Answers; ends within the resolver's own deadline.
    fn resolve<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        flags: Flags,
    ) -> BoxFuture<'a, Result<Arc<Resolution>, Failure>>;

    /// Whether a key of the root with this tag is a trust anchor.
    fn trusts_root_key(&self, tag: u16) -> bool;
}

impl Resolve for Engine {
    fn ready(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Ready> {
        Engine::ready(self, name, rtype, now)
    }

    fn at_hand(&self, name: &Name, rtype: RecordType) -> Option<Resolution> {
        Engine::at_hand(self, name, rtype)
    }

    fn resolve<'a>(
        &'a self,
        name: &'a Name,
        rtype: RecordType,
        flags: Flags,
    ) -> BoxFuture<'a, Result<Arc<Resolution>, Failure>> {
        Box::pin(Engine::resolve(self, name, rtype, flags))
    }

    fn trusts_root_key(&self, tag: u16) -> bool {
        Engine::trusts_root_key(self, tag)
    }
}

/// The service, shared by all sockets.
pub struct Service<R> {
    resolver: R,
    local: Local,
    pub(super) admission: Arc<Admission>,
    clock: Clock,
    tally: Tally,
}

/// What the operator says of the service.
#[derive(Clone, Debug, Default)]
pub struct ServiceSettings {
    /// Clients that are served (`dns.allow`).
    pub allow: Vec<IpNet>,
    /// Zones that always go to the resolver, since the operator names servers for them.
    pub forwarded: Vec<Name>,
    /// The root is not the public one: names that the public DNS never has may exist (RFC 6761 §6.2).
    pub private_root: bool,
}

impl<R: Resolve> Service<R> {
    /// Answers with what `resolver` finds.
    pub fn new(resolver: R, settings: ServiceSettings, clock: Clock) -> Arc<Self> {
        let admission = Admission::new(settings.allow, clock.instant());
        let local = Local::new(settings.forwarded, settings.private_root);
        Arc::new(Self { resolver, local, admission, clock, tally: Tally::new() })
    }

    /// The answer to a client's message; none for what is no query, and for strangers who come too often.
    pub async fn answer(&self, octets: &[u8], client: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        let mut answer = Vec::new();
        match self.begin(octets, client, transport, self.now(), &mut answer) {
            Begun::Answered => Some(answer),
            Begun::Ignored => None,
            Begun::Pending(query) => Some(self.look_up(&query, client, transport).await),
        }
    }

    /// Now, for [`Service::begin`]: the same moment does for all messages that are there at once.
    pub(super) fn now(&self) -> Stamp {
        self.clock.stamp()
    }

    /// The same as far as it needs no waiting; an answer takes the place of what is in `out`.
    pub(super) fn begin(
        &self,
        octets: &[u8],
        client: IpAddr,
        transport: Transport,
        now: Stamp,
        out: &mut Vec<u8>,
    ) -> Begun {
        let done = |answer: Option<Vec<u8>>, out: &mut Vec<u8>| match answer {
            Some(answer) => {
                *out = answer;
                Begun::Answered
            }
            None => Begun::Ignored,
        };
        if !self.admission.allows(client) {
            return done(self.refuse(octets, transport), out);
        }
        if transport == (Transport::Udp { loopback: false }) {
            match self.admission.pace(client, now.instant) {
                Pace::Full => {}
                Pace::Truncated => return done(self.put_off(octets, transport), out),
                Pace::Silence => return Begun::Ignored,
            }
        }
        let query = match parse(octets) {
            Parsed::Nothing => return Begun::Ignored,
            Parsed::Error(head, error) => {
                return done(Some(self.finish(&Response::unserved(error), &head, transport)), out);
            }
            Parsed::Query(query) => query,
        };
        if self.send_ready(&query, transport, now, out) {
            return Begun::Answered;
        }
        match self.answer_at_hand(&query, transport) {
            None => Begun::Pending(query.into_owned()),
            answer => done(answer, out),
        }
    }

    /// An answer that is one cache entry, as octets that are kept with it.
    fn send_ready(&self, query: &Query<'_>, transport: Transport, now: Stamp, out: &mut Vec<u8>) -> bool {
        let Query { head, name, rtype } = query;
        if !head.recursion_desired || self.local.owns(name, *rtype) {
            return false;
        }
        let Some(ready) = self.resolver.ready(name, *rtype, now) else { return false };
        if ready.entry.security.is_secure() && self.sentinel_denies(query) {
            return false;
        }
        let dnssec = head.edns.is_some_and(|edns| edns.dnssec_ok);
        let make = || Response::found(&ready.resolution(name), head).wire(head);
        // What is too large for any message takes the other way, which truncates.
        let Some(wire) = ready.entry.wire(dnssec, make) else { return false };
        let response = Response::ready(&ready, head);
        let fits = response.encode_ready(wire, ready.ttl, head, transport, out);
        if fits {
            self.tally.count(&response);
        }
        fits
    }

    /// The answer, where nobody has to be asked for it.
    fn answer_at_hand(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        let Query { head, name, rtype } = query;
        if !head.recursion_desired {
            let refused = Response::error(Rcode::Refused, Some(ExtendedError::recursion_only()));
            return Some(self.finish(&refused, head, transport));
        }
        if let Some(local) = self.local.answer(name, *rtype) {
            return Some(self.finish(&Response::found(&local, head), head, transport));
        }
        if *rtype == RecordType::ANY {
            return Some(self.finish(&Response::found(&minimal_any(name), head), head, transport));
        }
        let resolution = self.resolver.at_hand(name, *rtype)?;
        Some(self.finish_found(&resolution, query, transport))
    }

    /// The answer to a query that [`Service::begin`] left pending.
    pub(super) async fn look_up(&self, query: &Query<'_>, client: IpAddr, transport: Transport) -> Vec<u8> {
        let Query { head, name, rtype } = query;
        let Some(_place) = self.admission.enter(client, Kind::Query) else {
            let error = ExtendedError::new(0, "too many queries under way");
            return self.finish(&Response::error(Rcode::ServFail, Some(error)), head, transport);
        };
        let flags = Flags { checking_disabled: head.checking_disabled };
        match self.resolver.resolve(name, *rtype, flags).await {
            Ok(resolution) => self.finish_found(&resolution, query, transport),
            Err(failure) => {
                self.finish(&Response::error(Rcode::ServFail, Some(ExtendedError::from(&failure))), head, transport)
            }
        }
    }

    /// REFUSED for strangers, so often and no more; beyond that their octets are not even looked at.
    fn refuse(&self, octets: &[u8], transport: Transport) -> Option<Vec<u8>> {
        if !self.admission.may_refuse(self.clock.instant()) {
            return None;
        }
        let (Parsed::Query(Query { head, .. }) | Parsed::Error(head, _)) = parse(octets) else { return None };
        let refused = Response::error(Rcode::Refused, Some(ExtendedError::prohibited()));
        Some(self.finish(&refused, &head, transport))
    }

    /// TC for those who ask too fast.
    fn put_off(&self, octets: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Parsed::Query(Query { head, .. }) = parse(octets) else { return None };
        let put_off = Response { truncated: true, ..Response::error(Rcode::NoError, None) };
        Some(self.finish(&put_off, &head, transport))
    }

    fn finish_found(&self, resolution: &Resolution, query: &Query<'_>, transport: Transport) -> Vec<u8> {
        if resolution.security.is_secure() && self.sentinel_denies(query) {
            let error = ExtendedError::new(0, "root key sentinel (RFC 8509)");
            return self.finish(&Response::error(Rcode::ServFail, Some(error)), &query.head, transport);
        }
        self.finish(&Response::found(resolution, &query.head), &query.head, transport)
    }

    fn finish(&self, response: &Response<'_>, head: &Head<'_>, transport: Transport) -> Vec<u8> {
        self.tally.count(response);
        response.encode(head, transport)
    }

    /// Whether a secure answer turns into SERVFAIL because of its name: `root-key-sentinel-is-ta-NNNNN` asks
    /// whether that key is a trust anchor, `root-key-sentinel-not-ta-NNNNN` whether it is not (RFC 8509 §3).
    fn sentinel_denies(&self, Query { head, name, rtype }: &Query<'_>) -> bool {
        if head.checking_disabled || !matches!(rtype, RecordType::A | RecordType::AAAA) {
            return false;
        }
        let Some(asked) = name.iter().next().and_then(|label| label.strip_prefix(b"root-key-sentinel-")) else {
            return false;
        };
        let (tag, denies_if) = match (asked.strip_prefix(b"is-ta-"), asked.strip_prefix(b"not-ta-")) {
            (Some(tag), _) => (tag, false),
            (_, Some(tag)) => (tag, true),
            _ => return false,
        };
        let digits = tag.len() == 5 && tag.iter().all(u8::is_ascii_digit);
        let tag = std::str::from_utf8(tag).ok().filter(|_| digits).and_then(|tag| tag.parse().ok());
        tag.is_some_and(|tag| self.resolver.trusts_root_key(tag) == denies_if)
    }
}

/// How far a query came without waiting.
pub(super) enum Begun {
    /// To its end.
    Answered,
    /// To its end: there is nothing to say.
    Ignored,
    /// The resolver has to work.
    Pending(Query<'static>),
}

/// Counters of answers, by code and AD; looked up once, since this is the hot path.
struct Tally(Vec<[Counter; 2]>);

/// The codes that are told apart; all others count as the last.
const COUNTED: [(Rcode, &str); 7] = [
    (Rcode::NoError, "noerror"),
    (Rcode::NxDomain, "nxdomain"),
    (Rcode::ServFail, "servfail"),
    (Rcode::Refused, "refused"),
    (Rcode::FormErr, "formerr"),
    (Rcode::NotImp, "notimp"),
    (Rcode::BadVers, "other"),
];

impl Tally {
    fn new() -> Self {
        let of =
            |rcode: &'static str, ad: &'static str| counter!(names::DNS_LISTENER_QUERIES, "rcode" => rcode, "ad" => ad);
        Self(COUNTED.iter().map(|(_, rcode)| [of(rcode, "false"), of(rcode, "true")]).collect())
    }

    fn count(&self, response: &Response<'_>) {
        let index = COUNTED.iter().position(|(rcode, _)| *rcode == response.rcode).unwrap_or(COUNTED.len() - 1);
        if let Some([without, with]) = self.0.get(index) {
            if response.authentic { with.increment(1) } else { without.increment(1) }
        }
    }
}

/// ANY: one small made-up record (RFC 8482 §4.2).
fn minimal_any(name: &Name) -> Resolution {
    let rdata = b"\x07RFC8482\0".to_vec().into_boxed_slice();
    let set =
        RrSet { name: name.clone(), rtype: RecordType::HINFO, ttl: ANY_TTL, rdatas: vec![rdata], sigs: Vec::new() };
    Resolution {
        end: End::Records,
        answer: vec![Part { set: Arc::new(set), ttl: ANY_TTL }],
        authority: Vec::new(),
        canonical: name.clone(),
        security: Security::Insecure,
        ttl: ANY_TTL,
        unchecked: None,
    }
}
