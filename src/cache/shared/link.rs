//! Connections to the shared store: one server, the master that sentinels name, or a cluster.

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates, TlsMode,
};

use crate::config::{SharedHost, SharedUrl, Topology};
use crate::limits::SHARED_STEP_WAIT;

/// Tries of the library at one command in a cluster, where a slot has moved or a node is gone.
const CLUSTER_RETRIES: u32 = 3;

/// A connection; clones share it. It is given up after the first failure, so nothing here connects again.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Sends one command and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match self {
            Self::Server(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
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
pub(super) async fn connect(url: &SharedUrl, certificates: Option<&TlsCertificates>) -> Result<Connection, RedisError> {
    match &url.topology {
        Topology::Single => {
            let host = url.hosts.first().ok_or((ErrorKind::InvalidClientConfig, "no server"))?;
            let info = address(url, host).into_connection_info()?.set_redis_settings(login(url));
            client(info, certificates)?.get_multiplexed_async_connection_with_config(&patience()).await
        }
        Topology::Sentinel(master) => match ask_sentinels(url, master, certificates, false).await {
            Err(error) if is_unauthenticated(&error) && url.password().is_some() => {
                ask_sentinels(url, master, certificates, true).await
            }
            asked => asked,
        },
        Topology::Cluster => return connect_cluster(url, certificates).await.map(Connection::Cluster),
    }
    .map(Connection::Server)
}

/// The master of that name. The credentials are the servers'; sentinels get them only where they want some.
async fn ask_sentinels(
    url: &SharedUrl,
    master: &str,
    certificates: Option<&TlsCertificates>,
    authenticated: bool,
) -> Result<MultiplexedConnection, RedisError> {
    let sentinels = url.hosts.iter().map(|host| address(url, host));
    let mut builder =
        SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?.set_client_to_redis_db(url.database);
    if let Some(password) = url.password() {
        builder = builder.set_client_to_redis_password(password);
        if authenticated {
            builder = builder.set_client_to_sentinel_password(password);
        }
    }
    if let Some(user) = &url.user {
        builder = builder.set_client_to_redis_username(user);
        if authenticated {
            builder = builder.set_client_to_sentinel_username(user);
        }
    }
    if url.tls {
        builder =
            builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
    }
    builder.build()?.get_async_connection_with_config(&patience()).await
}

async fn connect_cluster(
    url: &SharedUrl,
    certificates: Option<&TlsCertificates>,
) -> Result<ClusterConnection, RedisError> {
    let mut builder = ClusterClientBuilder::new(url.hosts.iter().map(|host| address(url, host)))
        .connection_timeout(SHARED_STEP_WAIT)
        .response_timeout(SHARED_STEP_WAIT)
        .retries(CLUSTER_RETRIES);
    if let Some(password) = url.password() {
        builder = builder.password(password);
    }
    if let Some(user) = &url.user {
        builder = builder.username(user);
    }
    if url.tls {
        builder = builder.tls(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates.clone());
        }
    }
    builder.build()?.get_async_connection().await
}

fn client(info: ConnectionInfo, certificates: Option<&TlsCertificates>) -> Result<Client, RedisError> {
    match certificates {
        Some(certificates) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
            Client::build_with_tls(info, certificates.clone())
        }
        _ => Client::open(info),
    }
}

fn address(url: &SharedUrl, host: &SharedHost) -> ConnectionAddr {
    let SharedHost { name, port } = host.clone();
    if url.tls {
        ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(name, port)
    }
}

fn login(url: &SharedUrl) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default()
        .set_db(url.database)
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    if let Some(password) = url.password() {
        login = login.set_password(password);
    }
    if let Some(user) = &url.user {
        login = login.set_username(user);
    }
    login
}

/// Commands end with the waits of whoever sends them; this is for those that the library sends.
fn patience() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(SHARED_STEP_WAIT))
        .set_response_timeout(Some(SHARED_STEP_WAIT))
}

fn is_unauthenticated(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("NOAUTH")
}
