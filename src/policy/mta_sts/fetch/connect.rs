//! A TCP connection to a host: addresses from our own resolver, both families raced (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::FetchError;
use crate::addresses::is_public;
use crate::dns::{Answer, Failure, Lookup};
use crate::limits::{STS_ADDRESSES, STS_CONNECT_HEAD_START, STS_CONNECT_TIMEOUT, STS_RESOLUTION_DELAY};

/// Connects to `name`, looking up both families at once.
pub(super) async fn connect_by_name(
    lookup: &dyn Lookup,
    name: &Name,
    port: u16,
    allow_private: bool,
) -> Result<TcpStream, FetchError> {
    let six = lookup.lookup(name, RecordType::AAAA);
    let four = lookup.lookup(name, RecordType::A);
    let (first, other) = select(six, four).await.factor_first();
    if addresses(&first).is_empty() {
        let both = [first, other.await];
        return connect_any(&usable(&both, allow_private)?, port).await;
    }
    // A little patience for the slower family (RFC 8305 §3), then off with the one that is there.
    match select(other, Box::pin(sleep(STS_RESOLUTION_DELAY))).await {
        Either::Left((second, _)) => connect_any(&usable(&[first, second], allow_private)?, port).await,
        Either::Right((_, other)) => {
            let early = match usable(&[first], allow_private) {
                Ok(list) => connect_any(&list, port).await,
                Err(error) => Err(error),
            };
            match early {
                Ok(stream) => Ok(stream),
                Err(error) => match usable(&[other.await], allow_private) {
                    Ok(list) => connect_any(&list, port).await,
                    Err(_) => Err(error),
                },
            }
        }
    }
}

fn addresses(result: &Result<Answer, Failure>) -> Vec<IpAddr> {
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

/// Connects to whichever address answers first, each with a head start before the next (RFC 8305 §5).
pub(super) async fn connect_any(addresses: &[IpAddr], port: u16) -> Result<TcpStream, FetchError> {
    let mut waiting: VecDeque<SocketAddr> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::ErrorKind::NotFound;
    loop {
        if let Some(address) = waiting.pop_front() {
            attempts.push(timeout(STS_CONNECT_TIMEOUT, TcpStream::connect(address)));
        }
        loop {
            tokio::select! {
                biased;
                attempt = attempts.next() => match attempt {
                    Some(Ok(Ok(stream))) => {
                        // Small requests: nothing to gain from waiting for more octets.
                        _ = stream.set_nodelay(true);
                        return Ok(stream);
                    }
                    Some(Ok(Err(error))) => last = error.kind(),
                    Some(Err(_)) => last = io::ErrorKind::TimedOut,
                    None => return Err(FetchError::Connect(last)),
                },
                () = sleep(STS_CONNECT_HEAD_START), if !waiting.is_empty() => break,
            }
            if !waiting.is_empty() {
                break;
            }
        }
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

    #[tokio::test]
    async fn a_dead_address_costs_little_where_another_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let list = ["127.9.9.9".parse().expect("an address"), "127.0.0.1".parse().expect("an address")];
        let stream = connect_any(&list, port).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer").ip(), list[1]);
        drop(listener);
        assert!(matches!(
            connect_any(&list[1..], port).await,
            Err(FetchError::Connect(io::ErrorKind::ConnectionRefused))
        ));
    }
}
