//! Connections to the shared store: one server, the master that sentinels name, or a cluster.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, cmd};

use super::cluster::Cluster;
use super::dial::{Dialer, Server};
use crate::config::{SharedHost, SharedUrl, Topology};

/// A connection; clones share it. It is given up after the first failure, so nothing here connects again.
#[derive(Clone)]
pub(super) enum Connection {
    Server(Server),
    Cluster(Cluster),
}

impl Connection {
    /// Sends one command, about the key in its first argument, and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Server(server) => server.ask(command).await,
            Self::Cluster(cluster) => cluster.ask(command).await,
        }
    }
}

/// What a failed command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// What is stored under this key is nothing of ours.
    OtherType,
    /// The server answers, and takes no writes from us now: memory full, disk full, not permitted.
    Refused,
    /// The connection is of no more use.
    Lost,
}

impl Trouble {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some("WRONGTYPE") => Self::OtherType,
            Some("OOM" | "MISCONF" | "NOPERM" | "NOREPLICAS") => Self::Refused,
            _ => Self::Lost,
        }
    }
}

/// Opens a connection. Not bounded as a whole: the caller is.
pub(super) async fn connect(url: &SharedUrl, authorities: Option<&[u8]>) -> Result<Connection, RedisError> {
    let dialer = Dialer::new(url, authorities)?;
    match &url.topology {
        Topology::Single => {
            let host = url.hosts.first().ok_or((ErrorKind::InvalidClientConfig, "no server"))?;
            dialer.dial(host).await.map(Connection::Server)
        }
        Topology::Sentinel(name) => dialer.dial(&master(url, name, &dialer).await?).await.map(Connection::Server),
        Topology::Cluster => Cluster::connect(url, dialer.without_database()).await.map(Connection::Cluster),
    }
}

/// The master of that name, as the first sentinel says that knows it. The credentials are the servers'; sentinels get
/// them only where they want some.
async fn master(url: &SharedUrl, name: &str, dialer: &Dialer) -> Result<SharedHost, RedisError> {
    let (plain, with_login) = (dialer.without_login(), dialer.without_database());
    let mut failed = RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no sentinel knows that master"));
    for sentinel in &url.hosts {
        let asked = match ask_sentinel(&plain, sentinel, name).await {
            Err(error) if is_unauthenticated(&error) && url.password().is_some() => {
                ask_sentinel(&with_login, sentinel, name).await
            }
            asked => asked,
        };
        match asked {
            Ok(Some((name, port))) => {
                let port = u16::try_from(port).map_err(|_| (ErrorKind::UnexpectedReturnType, "no port"))?;
                return Ok(SharedHost { name, port });
            }
            Ok(None) => {}
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn ask_sentinel(dialer: &Dialer, sentinel: &SharedHost, name: &str) -> Result<Option<(String, i64)>, RedisError> {
    dialer.dial(sentinel).await?.ask(cmd("SENTINEL").arg("get-master-addr-by-name").arg(name)).await
}

fn is_unauthenticated(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("NOAUTH")
}
