//! Asking a socketmap service, as Postfix does: for `postseal query --server`.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::netstring::{self, Malformed};
use crate::limits;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection, or one that broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no socketmap reply.
    #[error("no socketmap reply: {0}")]
    Malformed(#[from] Malformed),
    /// The connection ended before the reply did.
    #[error("the connection was closed without a reply")]
    Closed,
    /// Nothing came for as long as Postfix would wait.
    #[error("no reply within {:?}", limits::SOCKETMAP_PATIENCE)]
    Late,
}

/// One lookup of `key` in map `name`; the reply as it came, like `OK dane-only` or `NOTFOUND `.
pub async fn ask(server: SocketAddr, name: &str, key: &str) -> Result<String, ClientError> {
    timeout(limits::SOCKETMAP_PATIENCE, exchange(server, name, key)).await.map_err(|_| ClientError::Late)?
}

async fn exchange(server: SocketAddr, name: &str, key: &str) -> Result<String, ClientError> {
    let mut stream = TcpStream::connect(server).await?;
    let mut buffer = BytesMut::new();
    netstring::encode(format!("{name} {key}").as_bytes(), &mut buffer);
    stream.write_all(&buffer).await?;
    buffer.clear();
    loop {
        if let Some(frame) = netstring::decode(&buffer, limits::REPLY_BYTES)? {
            return Ok(String::from_utf8_lossy(frame.payload).into_owned());
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(ClientError::Closed);
        }
    }
}
