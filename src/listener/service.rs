//! From a client's octets to the octets of the answer.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};
use ipnet::IpNet;
use metrics::counter;

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
}

impl<R: Resolve> Service<R> {
    /// Serves clients in `allow` (`dns.allow`). Names in `forwarded` zones always go to the resolver.
    pub fn new(resolver: R, allow: Vec<IpNet>, forwarded: Vec<Name>, clock: Clock) -> Arc<Self> {
        let admission = Admission::new(allow, clock.instant());
        Arc::new(Self { resolver, local: Local::new(forwarded), admission, clock })
    }

    /// The answer to a client's message; none for what is no query, and for strangers who come too often.
    pub async fn answer(&self, octets: &[u8], client: IpAddr, transport: Transport) -> Option<Vec<u8>> {
        let parsed = parse(octets);
        if !self.admission.allows(client) {
            let (Parsed::Query(Query { head, .. }) | Parsed::Error(head, _)) = parsed else { return None };
            if transport != Transport::Tcp && !self.admission.may_refuse(self.clock.instant()) {
                return None;
            }
            let refused = Response::error(Rcode::Refused, Some(ExtendedError::prohibited()));
            return Some(finish(&refused, &head, transport));
        }
        match parsed {
            Parsed::Nothing => None,
            Parsed::Error(head, error) => Some(finish(&Response::unserved(error), &head, transport)),
            Parsed::Query(query) => Some(self.answer_query(&query, client, transport).await),
        }
    }

    async fn answer_query(&self, query: &Query, client: IpAddr, transport: Transport) -> Vec<u8> {
        let Query { head, name, rtype } = query;
        if !head.recursion_desired {
            let refused = Response::error(Rcode::Refused, Some(ExtendedError::recursion_only()));
            return finish(&refused, head, transport);
        }
        if let Some(local) = self.local.answer(name, *rtype) {
            return finish(&Response::found(&local, head), head, transport);
        }
        if *rtype == RecordType::ANY {
            let minimal = minimal_any(name);
            return finish(&Response::found(&minimal, head), head, transport);
        }
        let Some(_place) = self.admission.enter(client, Kind::Query) else {
            let error = ExtendedError::new(0, "too many queries under way");
            return finish(&Response::error(Rcode::ServFail, Some(error)), head, transport);
        };
        let flags = Flags { checking_disabled: head.checking_disabled };
        match self.resolver.resolve(name, *rtype, flags).await {
            Ok(resolution) if resolution.security.is_secure() && self.sentinel_denies(query) => {
                let error = ExtendedError::new(0, "root key sentinel (RFC 8509)");
                finish(&Response::error(Rcode::ServFail, Some(error)), head, transport)
            }
            Ok(resolution) => finish(&Response::found(&resolution, head), head, transport),
            Err(failure) => {
                finish(&Response::error(Rcode::ServFail, Some(ExtendedError::from(&failure))), head, transport)
            }
        }
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

fn finish(response: &Response<'_>, head: &Head, transport: Transport) -> Vec<u8> {
    let rcode = match response.rcode {
        Rcode::NoError => "noerror",
        Rcode::FormErr => "formerr",
        Rcode::ServFail => "servfail",
        Rcode::NxDomain => "nxdomain",
        Rcode::NotImp => "notimp",
        Rcode::Refused => "refused",
        Rcode::BadVers | Rcode::BadCookie | Rcode::Other(_) => "other",
    };
    let authentic = if response.authentic { "true" } else { "false" };
    counter!(names::DNS_LISTENER_QUERIES, "rcode" => rcode, "ad" => authentic).increment(1);
    response.encode(head, transport)
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
