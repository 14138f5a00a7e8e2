//! From a client's octets to the octets of the answer.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use metrics::{Counter, counter};

use super::admission::{Admission, Kind};
use super::error_code::ExtendedError;
use super::local::Local;
use super::query::{Head, Parsed, Query, parse};
use super::response::{Response, Transport};
use crate::clock::Clock;
use crate::dns::{BoxFuture, Failure, Security};
use crate::resolver::engine::{Engine, Flags};
use crate::resolver::message::Rcode;
use crate::resolver::resolution::{End, Part, Resolution};
use crate::resolver::rrset::RrSet;
use crate::telemetry::metrics as names;

/// TTL of the answer to ANY.
const ANY_TTL: u32 = 3_600;

/// Whoever answers questions with whole RRsets: the engine, and scripted answers in tests.
pub trait Resolve: Send + Sync + 'static {
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

impl<R: Resolve> Service<R> {
    /// Serves clients in `allow` (`dns.allow`). Names in `forwarded` zones always go to the resolver.
    pub fn new(resolver: R, allow: Vec<IpNet>, forwarded: Vec<Name>, clock: Clock) -> Arc<Self> {
        let admission = Admission::new(allow, clock.instant());
        Arc::new(Self { resolver, local: Local::new(forwarded), admission, clock, tally: Tally::new() })
    }

    /// The answer to a client's message; none for what is no query, and for strangers who come too often.
    pub async fn answer(&self, octets: &[u8], client: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        match self.begin(octets, client, transport) {
            Begun::Answered(answer) => answer,
            Begun::Pending(query) => Some(self.look_up(&query, client, transport).await),
        }
    }

    /// The same, as far as it needs no waiting.
    pub(super) fn begin(&self, octets: &[u8], client: IpAddr, transport: Transport) -> Begun {
        let parsed = parse(octets);
        if !self.admission.allows(client) {
            return Begun::Answered(self.refuse(parsed, transport));
        }
        let query = match parsed {
            Parsed::Nothing => return Begun::Answered(None),
            Parsed::Error(head, error) => {
                return Begun::Answered(Some(self.finish(&Response::unserved(error), &head, transport)));
            }
            Parsed::Query(query) => query,
        };
        let Query { head, name, rtype } = &query;
        let answer = if !head.recursion_desired {
            let refused = Response::error(Rcode::Refused, Some(ExtendedError::recursion_only()));
            self.finish(&refused, head, transport)
        } else if let Some(local) = self.local.answer(name, *rtype) {
            self.finish(&Response::found(&local, head), head, transport)
        } else if *rtype == RecordType::ANY {
            self.finish(&Response::found(&minimal_any(name), head), head, transport)
        } else if let Some(resolution) = self.resolver.at_hand(name, *rtype) {
            self.finish_found(&resolution, &query, transport)
        } else {
            return Begun::Pending(query);
        };
        Begun::Answered(Some(answer))
    }

    /// The answer to a query that [`Service::begin`] left pending.
    pub(super) async fn look_up(&self, query: &Query, client: IpAddr, transport: Transport) -> Vec<u8> {
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

    /// REFUSED for strangers, so often and no more.
    fn refuse(&self, parsed: Parsed, transport: Transport) -> Option<Vec<u8>> {
        let (Parsed::Query(Query { head, .. }) | Parsed::Error(head, _)) = parsed else { return None };
        if transport != Transport::Tcp && !self.admission.may_refuse(self.clock.instant()) {
            return None;
        }
        let refused = Response::error(Rcode::Refused, Some(ExtendedError::prohibited()));
        Some(self.finish(&refused, &head, transport))
    }

    fn finish_found(&self, resolution: &Resolution, query: &Query, transport: Transport) -> Vec<u8> {
        if resolution.security.is_secure() && self.sentinel_denies(query) {
            let error = ExtendedError::new(0, "root key sentinel (RFC 8509)");
            return self.finish(&Response::error(Rcode::ServFail, Some(error)), &query.head, transport);
        }
        self.finish(&Response::found(resolution, &query.head), &query.head, transport)
    }

    fn finish(&self, response: &Response<'_>, head: &Head, transport: Transport) -> Vec<u8> {
        self.tally.count(response);
        response.encode(head, transport)
    }

    /// Whether a secure answer turns into SERVFAIL because of its name: `root-key-sentinel-is-ta-NNNNN` asks
    /// whether that key is a trust anchor, `root-key-sentinel-not-ta-NNNNN` whether it is not (RFC 8509 §3).
    fn sentinel_denies(&self, Query { head, name, rtype }: &Query) -> bool {
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
    /// To its end; nothing to send where there is nothing.
    Answered(Option<Vec<u8>>),
    /// The resolver has to work.
    Pending(Query),
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
