//! Whole attempts at the addresses of a host, raced (RFC 8305): from the connection to the answer.
//!
//! Addresses come from our own resolver. One that does not connect, or does and then stalls, resets or says nothing of
//! use, ends nothing while another has not been tried.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::known_addresses::KnownAddresses;
use super::places::Places;
use super::{FetchError, FetchedPolicy};
use crate::addresses::is_public;
use crate::cache::entry::FetchFailureKind;
use crate::dns::{Answer, BoxFuture, Failure, Lookup};
use crate::limits::{
    STS_ADDRESSES, STS_ANSWER_HEAD_START, STS_BETTER_WAIT, STS_CONNECT_HEAD_START, STS_CONNECT_TIMEOUT,
    STS_RESOLUTION_DELAY,
};
use crate::policy::mta_sts::policy;

/// Where to connect to: what is known of the addresses, and the slower family's answer, if it is still to come.
pub(super) struct Addresses<'a> {
    known: Vec<IpAddr>,
    pending: Option<BoxFuture<'a, Result<Answer, Failure>>>,
    allow_private: bool,
}

impl<'a> Addresses<'a> {
    /// One address that the operator names.
    pub(super) fn literal(address: IpAddr) -> Self {
        Self { known: vec![address], pending: None, allow_private: true }
    }

    /// Both families of `name`, asked at once; there is at least one address, or an error.
    pub(super) async fn of(lookup: &'a dyn Lookup, name: &'a Name, allow_private: bool) -> Result<Self, FetchError> {
        let six = lookup.lookup(name, RecordType::AAAA);
        let four = lookup.lookup(name, RecordType::A);
        let (first, other) = select(six, four).await.factor_first();
        let Ok(known) = usable(std::slice::from_ref(&first), allow_private) else {
            let known = usable(&[first, other.await], allow_private)?;
            return Ok(Self { known, pending: None, allow_private });
        };
        // A little patience for the slower family (RFC 8305 §3), then off with the one that is there.
        match select(other, Box::pin(sleep(STS_RESOLUTION_DELAY))).await {
            Either::Left((second, _)) => {
                let known = usable(&[first, second], allow_private)?;
                Ok(Self { known, pending: None, allow_private })
            }
            Either::Right((_, other)) => Ok(Self { known, pending: Some(other.into_inner()), allow_private }),
        }
    }
}

pub(super) fn addresses(result: &Result<Answer, Failure>) -> Vec<IpAddr> {
    let records = result.as_ref().map(Answer::records).unwrap_or_default();
    let address = |record: &RData| match record {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    records.iter().filter_map(address).collect()
}

/// The addresses that may be connected to, families taking turns, IPv6 first (RFC 8305 §4).
fn usable(results: &[Result<Answer, Failure>], allow_private: bool) -> Result<Vec<IpAddr>, FetchError> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = results.iter().flat_map(addresses).partition(IpAddr::is_ipv6);
    if six.is_empty() && four.is_empty() {
        let failure = results.iter().find_map(|result| result.as_ref().err());
        return Err(failure.map_or(FetchError::NoAddress, |failure| FetchError::Dns(Box::new(failure.clone()))));
    }
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut list = Vec::new();
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            break;
        }
        // Nobody may use us to reach into the operator's own network.
        list.extend(pair.into_iter().flatten().filter(|address| allow_private || is_public(*address)));
    }
    list.truncate(STS_ADDRESSES);
    if list.is_empty() { Err(FetchError::PrivateAddress) } else { Ok(list) }
}

/// An attempt at each address of a host, until one gives a policy.
pub(super) struct Race<'a> {
    /// Whose addresses they are.
    pub host: &'a str,
    /// Where to connect to.
    pub port: u16,
    /// Says which address comes first.
    pub known: &'a KnownAddresses,
    /// For each connection one.
    pub places: &'a Places,
    /// Whether each address has a share of these.
    pub counted: bool,
}

impl Race<'_> {
    /// The first answer with a policy that parses, from whichever address; where there is none, the best of what was said.
    ///
    /// An address has a head start of [`STS_CONNECT_HEAD_START`] to connect and of [`STS_ANSWER_HEAD_START`] to answer
    /// before the next one is tried as well, and none once it failed.
    pub async fn run<F, A>(self, mut addresses: Addresses<'_>, attempt: F) -> Result<FetchedPolicy, FetchError>
    where
        F: Fn(TcpStream) -> A,
        A: Future<Output = Result<FetchedPolicy, FetchError>>,
    {
        let Self { host, known, .. } = self;
        let mut waiting: VecDeque<IpAddr> = known.order(host, std::mem::take(&mut addresses.known)).into();
        let mut attempts = FuturesUnordered::new();
        let mut best: Option<Result<FetchedPolicy, FetchError>> = None;
        let mut newest = Arc::new(AtomicBool::new(false));
        let mut next = Box::pin(sleep(std::time::Duration::ZERO));
        let mut patience = Box::pin(sleep(STS_BETTER_WAIT));
        loop {
            let is_last = waiting.is_empty() && addresses.pending.is_none();
            if attempts.is_empty() && is_last {
                return best.unwrap_or(Err(FetchError::NoAddress));
            }
            let is_definite = best.as_ref().is_some_and(|best| weight(best) > 0);
            tokio::select! {
                biased;
                Some((address, result)) = attempts.next(), if !attempts.is_empty() => {
                    if is_good(&result) {
                        known.worked(host, address);
                        return result;
                    }
                    if best.as_ref().is_none_or(|best| weight(&result) >= weight(best)) {
                        best = Some(result);
                    }
                    next = Box::pin(sleep(std::time::Duration::ZERO));
                    patience = Box::pin(sleep(STS_BETTER_WAIT));
                }
                answer = or_never(addresses.pending.as_mut()), if addresses.pending.is_some() => {
                    addresses.pending = None;
                    let more = usable(&[answer], addresses.allow_private).unwrap_or_default();
                    waiting.extend(known.order(host, more));
                    waiting.truncate(STS_ADDRESSES);
                }
                () = &mut next, if !waiting.is_empty() => {
                    if newest.swap(false, Ordering::Relaxed) {
                        // It is connected: that deserves more time.
                        next = Box::pin(sleep(STS_ANSWER_HEAD_START.saturating_sub(STS_CONNECT_HEAD_START)));
                        continue;
                    }
                    let Some(address) = waiting.pop_front() else { continue };
                    known.tried(host, address);
                    newest = Arc::default();
                    let connected = Arc::clone(&newest);
                    let (race, attempt) = (&self, &attempt);
                    attempts.push(async move { (address, race.attempt(address, &connected, attempt).await) });
                    next = Box::pin(sleep(STS_CONNECT_HEAD_START));
                    patience = Box::pin(sleep(STS_BETTER_WAIT));
                }
                // Something definite is there, and nobody says anything better.
                () = &mut patience, if is_definite && is_last => return best.unwrap_or(Err(FetchError::Timeout)),
            }
        }
    }

    /// One address, from its place to its answer; `connected` is set while the connection stands.
    async fn attempt<F, A>(
        &self,
        address: IpAddr,
        connected: &AtomicBool,
        attempt: &F,
    ) -> Result<FetchedPolicy, FetchError>
    where
        F: Fn(TcpStream) -> A,
        A: Future<Output = Result<FetchedPolicy, FetchError>>,
    {
        let place = self.places.enter(self.counted.then_some(address)).await?;
        let exchange = async {
            let stream = connect(SocketAddr::new(address, self.port)).await?;
            connected.store(true, Ordering::Relaxed);
            let result = attempt(stream).await;
            connected.store(false, Ordering::Relaxed);
            result
        };
        tokio::select! {
            biased;
            result = exchange => result,
            () = place.lost() => Err(FetchError::Busy),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, FetchError> {
    let stream = timeout(STS_CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| FetchError::Connect(io::ErrorKind::TimedOut))?
        .map_err(|error| FetchError::Connect(error.kind()))?;
    // Small requests: nothing to gain from waiting for more octets.
    _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn or_never<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Whether no other address can do better.
fn is_good(result: &Result<FetchedPolicy, FetchError>) -> bool {
    result.as_ref().is_ok_and(|fetched| policy::parse(&fetched.body).is_ok())
}

/// How much a result says about the host: a file says more than an error, and an error more than a broken network.
fn weight(result: &Result<FetchedPolicy, FetchError>) -> u8 {
    match result {
        Ok(_) => 2,
        Err(error) if error.kind() == FetchFailureKind::Network => 0,
        Err(_) => 1,
    }
}

#[cfg(test)]
#[allow(clippy::result_large_err, reason = "what the port to DNS returns")]
mod tests {
    use super::*;
    use crate::dns::{Cause, Found, Security};

    fn answer(addresses: &[&str]) -> Result<Answer, Failure> {
        let record = |text: &&str| match text.parse().expect("an address") {
            IpAddr::V4(v4) => RData::A(v4.into()),
            IpAddr::V6(v6) => RData::AAAA(v6.into()),
        };
        let found =
            if addresses.is_empty() { Found::NoData } else { Found::Records(addresses.iter().map(record).collect()) };
        Ok(Answer { found, canonical: Name::root(), security: Security::Insecure, ttl: 60 })
    }

    #[test]
    fn families_take_turns_and_private_addresses_are_left_out() {
        let failure = || Err(Failure::new(Name::root(), RecordType::A, Cause::Timeout));
        let (six, four) = (["2606:4700::1", "2606:4700::2"], ["1.1.1.1", "1.0.0.1"]);
        let list =
            |texts: &[&str]| Ok(texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<IpAddr>>());
        let rows = [
            ("both", [answer(&six), answer(&four)], false, list(&[six[0], four[0], six[1], four[1]])),
            ("one failed", [failure(), answer(&four)], false, list(&four)),
            ("some private", [answer(&["::1"]), answer(&["10.0.0.1", "1.1.1.1"])], false, list(&["1.1.1.1"])),
            ("all private", [answer(&["fe80::1"]), answer(&["127.0.0.1"])], false, Err(FetchError::PrivateAddress)),
            ("private allowed", [answer(&["::1"]), answer(&["127.0.0.1"])], true, list(&["::1", "127.0.0.1"])),
            ("none", [answer(&[]), answer(&[])], false, Err(FetchError::NoAddress)),
        ];
        for (name, results, allow, expected) in rows {
            assert_eq!(usable(&results, allow), expected, "{name}");
        }
        assert!(matches!(usable(&[answer(&[]), failure()], false), Err(FetchError::Dns(_))));
    }
}
