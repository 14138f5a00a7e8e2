//! Single settings that no parser of [`values`] fits: each reads one field of the tree, and says what it expected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::maps::MapOptions;
use super::shared_url::{self, SharedUrl};
use super::tree::ForwardServer;
use super::values;
use crate::names::Domain;

pub(super) fn maps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, MapOptions>, D::Error> {
    let maps = BTreeMap::<String, MapOptions>::deserialize(deserializer)?;
    // A request is `NAME SP KEY`: no other name can ever be asked for.
    match maps.keys().find(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic())) {
        Some(name) => Err(de::Error::invalid_value(de::Unexpected::Str(name), &"a map name without blanks, in ASCII")),
        None => Ok(maps),
    }
}

pub(super) fn cache_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_least(1 << 20, &"at least 1MiB", deserializer)
}

pub(super) fn store_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    at_least(16 << 20, &"at least 16MiB", deserializer)
}

fn at_least<'de, D: Deserializer<'de>>(least: usize, expected: &&str, deserializer: D) -> Result<usize, D::Error> {
    let octets = values::size(deserializer)?;
    if octets < least {
        return Err(de::Error::invalid_value(de::Unexpected::Unsigned(octets as u64), expected));
    }
    Ok(octets)
}

pub(super) fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let timeout = values::duration(deserializer)?;
    if timeout < Duration::from_secs(1) || timeout > Duration::from_secs(90) {
        let found = format!("{timeout:?}");
        return Err(de::Error::invalid_value(de::Unexpected::Other(&found), &"a duration from 1s to 90s"));
    }
    Ok(timeout)
}

pub(super) fn linger<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let linger = values::duration(deserializer)?;
    if linger > Duration::from_secs(300) {
        let found = format!("{linger:?}");
        return Err(de::Error::invalid_value(de::Unexpected::Other(&found), &"a duration from 0s to 5m"));
    }
    Ok(linger)
}

pub(super) fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Domain>, D::Error> {
    values::parsed(deserializer, "a zone like `cluster.local`, or `.`", |text| match text {
        "." => Some(None),
        _ => Domain::parse(text).ok().map(Some),
    })
}

pub(super) fn optional_domain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Domain>, D::Error> {
    values::parsed(deserializer, "the name in the servers' certificate", |text| Domain::parse(text).ok()).map(Some)
}

pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ForwardServer>, D::Error> {
    struct Item(ForwardServer);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            values::parsed(deserializer, "an address, or an address with port", |text| {
                let alone = text.parse().ok().map(|address| ForwardServer { address, port: None });
                alone.or_else(|| {
                    let full: SocketAddr = text.parse().ok()?;
                    Some(ForwardServer { address: full.ip(), port: Some(full.port()) })
                })
            })
            .map(Self)
        }
    }
    let servers = Vec::<Item>::deserialize(deserializer)?;
    if servers.is_empty() {
        return Err(de::Error::invalid_length(0, &"at least one server"));
    }
    Ok(servers.into_iter().map(|item| item.0).collect())
}

pub(super) fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    secret_url(deserializer, "a proxy like `http://proxy.example.com:3128`", |text| {
        let authority = text.strip_prefix("http://")?.trim_end_matches('/');
        let (_, port) = authority.rsplit_once(':')?;
        let valid = port.parse::<u16>().is_ok() && authority.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        valid.then(|| text.to_owned())
    })
}

pub(super) fn shared_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SharedUrl>, D::Error> {
    secret_url(deserializer, shared_url::EXPECTED, SharedUrl::parse)
}

/// Unlike [`values::parsed`], errors do not quote the password.
fn secret_url<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, D::Error> {
    let text = values::parsed(deserializer, expected, |text| Some(text.to_owned()))?;
    let wrong = || de::Error::invalid_value(de::Unexpected::Str(&shared_url::masked(&text)), &expected);
    parse(&text).ok_or_else(wrong).map(Some)
}
