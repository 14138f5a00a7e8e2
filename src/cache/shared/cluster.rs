//! A Redis cluster: each key is at the node that has its slot. Nodes say where a slot is; what was learnt so ends with
//! the connection, which the keeper makes anew after a failure.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::Mutex as AsyncMutex;

use super::dial::{Dialer, Server};
use crate::config::{SharedHost, SharedUrl};
use crate::limits::{SHARED_CLUSTER_NODES, SHARED_REDIRECTS};

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The nodes; clones share them.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Nodes>);

struct Nodes {
    dialer: Dialer,
    /// The node that told the layout.
    first: (SharedHost, Server),
    places: Mutex<Places>,
    /// One connection is made at a time, so that none is made twice.
    dialing: AsyncMutex<()>,
}

#[derive(Default)]
struct Places {
    /// Slots from one to another, and their node.
    ranges: Vec<(u16, u16, SharedHost)>,
    /// What nodes said since.
    moved: HashMap<u16, SharedHost>,
    open: HashMap<(String, u16), Server>,
}

impl Cluster {
    /// By way of the first of the URL's hosts that answers.
    pub(super) async fn connect(url: &SharedUrl, dialer: Dialer) -> Result<Self, RedisError> {
        let mut failed = RedisError::from((ErrorKind::InvalidClientConfig, "no server"));
        for host in &url.hosts {
            match dialer.dial(host).await {
                Ok(mut server) => {
                    // Without the layout, too, nodes say where a key is.
                    let layout = server.ask::<Value>(cmd("CLUSTER").arg("SLOTS")).await?;
                    let places = Places { ranges: ranges(&layout, host), ..Places::default() };
                    let first = (host.clone(), server);
                    let nodes = Nodes { dialer, first, places: Mutex::new(places), dialing: AsyncMutex::default() };
                    return Ok(Self(Arc::new(nodes)));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Sends a command about one key, its first argument, to the node that has it.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let slot = slot_of(key_of(command));
        let mut host = self.0.places.lock().of(slot).unwrap_or_else(|| self.0.first.0.clone());
        let mut importing = false;
        let mut redirects = 0;
        loop {
            let mut server = self.server(&host).await?;
            let answer = if importing { server.ask_importing(command).await } else { server.ask(command).await };
            let Err(error) = answer else { return answer };
            let Some(target) = error.redirect_node().and_then(|(target, _)| address(target, &host)) else {
                return Err(error);
            };
            redirects += 1;
            if redirects > SHARED_REDIRECTS {
                return Err(error);
            }
            importing = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
            if !importing {
                self.0.places.lock().moved.insert(slot, target.clone());
            }
            host = target;
        }
    }

    async fn server(&self, host: &SharedHost) -> Result<Server, RedisError> {
        let (first, server) = &self.0.first;
        if host == first {
            return Ok(server.clone());
        }
        let key = (host.name.clone(), host.port);
        let known = |places: &Mutex<Places>| places.lock().open.get(&key).cloned();
        if let Some(server) = known(&self.0.places) {
            return Ok(server);
        }
        let _dialing = self.0.dialing.lock().await;
        if let Some(server) = known(&self.0.places) {
            return Ok(server);
        }
        if self.0.places.lock().open.len() >= SHARED_CLUSTER_NODES {
            return Err((ErrorKind::Client, "the cluster names too many nodes").into());
        }
        let server = self.0.dialer.dial(host).await?;
        self.0.places.lock().open.insert(key, server.clone());
        Ok(server)
    }
}

impl Places {
    fn of(&self, slot: u16) -> Option<SharedHost> {
        let range = || self.ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
        self.moved.get(&slot).or_else(|| range().map(|(_, _, host)| host)).cloned()
    }
}

/// The answer to CLUSTER SLOTS of the node at `of`: what is not understood is left out.
fn ranges(layout: &Value, of: &SharedHost) -> Vec<(u16, u16, SharedHost)> {
    let range = |range: &Value| {
        let [from, to, master, ..] = range.as_sequence()? else { return None };
        let [name, port, ..] = master.as_sequence()? else { return None };
        let name: Option<String> = FromRedisValue::from_redis_value_ref(name).ok()?;
        let name = name.filter(|name| !name.is_empty() && name != "?").unwrap_or_else(|| of.name.clone());
        // The library cuts a number off where it does not fit.
        let number = |value: &Value| u16::try_from(i64::from_redis_value_ref(value).ok()?).ok();
        Some((number(from)?, number(to)?, SharedHost { name, port: number(port)? }))
    };
    layout.as_sequence().unwrap_or_default().iter().filter_map(range).collect()
}

/// `host:port` as nodes write it, IPv6 addresses without brackets; no host means the one that says so.
fn address(text: &str, of: &SharedHost) -> Option<SharedHost> {
    let (name, port) = text.rsplit_once(':')?;
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let name = if name.is_empty() || name == "?" { of.name.clone() } else { name.to_owned() };
    Some(SharedHost { name, port: port.parse().ok()? })
}

fn key_of(command: &Cmd) -> &[u8] {
    match command.args_iter().nth(1) {
        Some(Arg::Simple(key)) => key,
        _ => &[],
    }
}

/// The slot of a key: CRC-16 (XMODEM) of what is between its first braces, where there is something, else of all.
fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|octet| *octet == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        rest.get(..rest.iter().position(|octet| *octet == b'}')?).filter(|tag| !tag.is_empty())
    });
    let crc = tag.unwrap_or(key).iter().fold(0_u16, |crc, octet| {
        (0..8).fold(crc ^ (u16::from(*octet) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> SharedHost {
        SharedHost { name: name.to_owned(), port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // The check value of the specification, and what `CLUSTER KEYSLOT` of a server says.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!((slot_of(b"foo"), slot_of(b"")), (12_182, 0));
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"user1000"));
        assert_eq!(slot_of(b"foo{}{bar}"), slot_of(b"foo{}{bar}"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
    }

    #[test]
    fn redirects_name_a_node_or_the_same_host() {
        let of = host("10.0.0.1", 6_379);
        for (text, expected) in [
            ("10.0.0.2:6380", Some(host("10.0.0.2", 6_380))),
            ("node.example:1", Some(host("node.example", 1))),
            ("::1:6379", Some(host("::1", 6_379))),
            (":6380", Some(host("10.0.0.1", 6_380))),
            ("?:6380", Some(host("10.0.0.1", 6_380))),
            ("nonsense", None),
            ("a:99999", None),
        ] {
            assert_eq!(address(text, &of), expected, "{text}");
        }
    }

    #[test]
    fn the_layout_is_read_as_far_as_it_is_understood() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let node = |name: Value| Value::Array(vec![name, Value::Int(7_000), text("id")]);
        let range = |from, to, node| Value::Array(vec![Value::Int(from), Value::Int(to), node]);
        let layout = Value::Array(vec![
            range(0, 100, node(text("10.0.0.2"))),
            range(101, 16_383, node(Value::Nil)),
            range(-1, 70_000, node(text("10.0.0.3"))),
            Value::Okay,
        ]);
        let ranges = ranges(&layout, &host("10.0.0.1", 1));
        assert_eq!(ranges, [(0, 100, host("10.0.0.2", 7_000)), (101, 16_383, host("10.0.0.1", 7_000))]);
        let places = Places { ranges, moved: [(7, host("new", 1))].into(), ..Places::default() };
        assert_eq!(places.of(100), Some(host("10.0.0.2", 7_000)));
        assert_eq!(places.of(7), Some(host("new", 1)), "what was said since counts");
    }
}
