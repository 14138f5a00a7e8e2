//! Fetching policy files: the port, what can go wrong, and the real client.
//!
//! In: a domain. Out: the octets of its policy file, or why there are none. Never follows a redirect, never asks
//! the system's resolver, never connects into private networks unless told so.

mod connect;
mod https;
mod known_addresses;
mod places;
mod proxy;
mod tls;

use std::sync::Arc;

use crate::cache::entry::FetchFailureKind;
use crate::dns::{BoxFuture, Failure, Lookup};
use crate::limits::{STS_HEADER_BYTES, STS_POLICY_BYTES};
use crate::names::Domain;

pub use https::{FetchSettings, HttpsFetch};
pub use proxy::{NotAProxy, Proxy, ProxyRules};
pub(in crate::policy) use tls::certificate_text;
pub use tls::{RootsError, trusted_roots};

/// Whoever can fetch `https://mta-sts.<domain>/.well-known/mta-sts.txt`: the real client, and scripts in tests.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches the policy file of `domain`, once. Ends within [`crate::limits::STS_FETCH_TIMEOUT`].
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<FetchedPolicy, FetchError>>;

    /// The same client, its addresses from this resolver; none where it has no use for one.
    fn over(&self, _lookup: &Arc<dyn Lookup>) -> Option<Arc<dyn Fetch>> {
        None
    }
}

/// A policy file as it came, not yet parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPolicy {
    /// The whole body, at most [`STS_POLICY_BYTES`] octets.
    pub body: Vec<u8>,
}

/// A fetch that gave no body. None of these touches a policy that is held (RFC 8461 §5.1); when it may be
/// tried again follows from [`FetchError::kind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Our own DNS failed to find the policy host.
    #[error("policy host: {0}")]
    Dns(Box<Failure>),
    /// The policy host has no address.
    #[error("policy host has no address")]
    NoAddress,
    /// All addresses are loopback, private or otherwise not on the Internet.
    #[error("policy host has only private or special-purpose addresses")]
    PrivateAddress,
    /// No connection to any address.
    #[error("cannot connect to policy host: {0}")]
    Connect(std::io::ErrorKind),
    /// Too many fetches from the same address are under way, or others needed the connection.
    #[error("too many connections to policy hosts, or to this one's address")]
    Busy,
    /// The proxy did not connect us.
    #[error("proxy refused the connection: status {0}")]
    Proxy(u16),
    /// The certificate does not verify for the policy host's name.
    #[error("certificate of policy host: {0}")]
    Certificate(Box<str>),
    /// The TLS handshake failed otherwise.
    #[error("TLS with policy host: {0}")]
    Tls(Box<str>),
    /// No complete answer in time.
    #[error("policy host did not answer in time")]
    Timeout,
    /// The connection ended or broke before the answer was complete.
    #[error("connection to policy host broke")]
    Broken,
    /// What came is not HTTP, or the header exceeds its bound.
    #[error("policy host's answer is not HTTP or has more than {STS_HEADER_BYTES} octets of header")]
    Malformed,
    /// A status other than 200; redirects are not followed (RFC 8461 §3.3).
    #[error("policy host answered with HTTP status {0}")]
    Status(u16),
    /// A media type other than `text/plain`, or none (RFC 8461 §3.2): the field as it came.
    #[error("policy file is not text/plain: {0}")]
    MediaType(Box<str>),
    /// A Content-Encoding, which nobody asked for: the field as it came.
    #[error("policy file is encoded: {0}")]
    Encoded(Box<str>),
    /// A Transfer-Encoding other than `chunked` (RFC 9112 §6.1): the field as it came.
    #[error("policy file has an unknown transfer coding: {0}")]
    TransferCoding(Box<str>),
    /// A body beyond the bound.
    #[error("policy file is longer than {STS_POLICY_BYTES} octets")]
    TooLong,
}

impl FetchError {
    /// How it is treated and reported.
    pub fn kind(&self) -> FetchFailureKind {
        match self {
            Self::Dns(_)
            | Self::NoAddress
            | Self::Connect(_)
            | Self::Busy
            | Self::Proxy(_)
            | Self::Timeout
            | Self::Broken => FetchFailureKind::Network,
            Self::PrivateAddress
            | Self::Tls(_)
            | Self::Malformed
            | Self::Status(_)
            | Self::MediaType(_)
            | Self::Encoded(_)
            | Self::TransferCoding(_)
            | Self::TooLong => FetchFailureKind::Http,
            Self::Certificate(_) => FetchFailureKind::Certificate,
        }
    }
}
