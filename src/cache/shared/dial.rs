//! One connection to one Redis server, TCP or TLS, of which no reply can take more memory than it may.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::guarded::Guarded;
use crate::config::{SharedHost, SharedUrl};
use crate::limits::SHARED_STEP_WAIT;

/// How servers are reached: as the URL says, with whose certificates.
#[derive(Clone)]
pub(super) struct Dialer {
    tls: Option<TlsConnector>,
    login: RedisConnectionInfo,
}

/// A connection; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub(super) struct Server {
    connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that reads and writes.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Sends one command and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection).await
    }

    /// Likewise, of a node that gets this key from another one just now.
    pub(super) async fn ask_importing<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").ignore().add_command(command.clone());
        let (answer,): (T,) = both.query_async(&mut self.connection).await?;
        Ok(answer)
    }
}

impl Dialer {
    /// Of servers at `url`, logged in to as it says; PEM `authorities` count in place of Mozilla's CAs.
    pub(super) fn new(url: &SharedUrl, authorities: Option<&[u8]>) -> Result<Self, RedisError> {
        let tls = if url.tls { Some(TlsConnector::from(Arc::new(client_config(authorities)?))) } else { None };
        Ok(Self { tls, login: login(url) })
    }

    /// The same, without user, password and database: as sentinels that want none are spoken to.
    pub(super) fn without_login(&self) -> Self {
        Self { tls: self.tls.clone(), login: plain() }
    }

    /// The same in the first database, where sentinels and clusters have everything.
    pub(super) fn without_database(&self) -> Self {
        Self { tls: self.tls.clone(), login: self.login.clone().set_db(0) }
    }

    /// Connects and logs in, in [`SHARED_STEP_WAIT`].
    pub(super) async fn dial(&self, host: &SharedHost) -> Result<Server, RedisError> {
        let connecting = async {
            let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
            stream.set_nodelay(true)?;
            match &self.tls {
                None => self.log_in(stream).await,
                Some(tls) => {
                    let name = ServerName::try_from(host.name.clone())
                        .map_err(|_| (ErrorKind::InvalidClientConfig, "no name for TLS"))?;
                    self.log_in(tls.connect(name, stream).await?).await
                }
            }
        };
        timeout(SHARED_STEP_WAIT, connecting).await.map_err(|_| (ErrorKind::Io, "no connection in time"))?
    }

    async fn log_in<S>(&self, stream: S) -> Result<Server, RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Commands end with the waits of whoever sends them; this is for those that the library sends.
        let patience = AsyncConnectionConfig::new().set_response_timeout(Some(SHARED_STEP_WAIT));
        let opened = MultiplexedConnection::new_with_config(&self.login, Guarded::new(stream), patience).await;
        let (connection, driver) = opened?;
        Ok(Server { connection, _driver: Arc::new(Driver(tokio::spawn(driver))) })
    }
}

fn client_config(authorities: Option<&[u8]>) -> Result<ClientConfig, RedisError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| (ErrorKind::InvalidClientConfig, "TLS", error.to_string()))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

fn plain() -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name()
}

fn login(url: &SharedUrl) -> RedisConnectionInfo {
    let mut login = plain().set_db(url.database);
    if let Some(password) = url.password() {
        login = login.set_password(password);
    }
    if let Some(user) = &url.user {
        login = login.set_username(user);
    }
    login
}
