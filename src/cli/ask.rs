//! One exchange with the running daemon, for commands that do nothing else.

use hyper::{Method, StatusCode};

use crate::config::{Config, ConfigError, Sources};
use crate::control::client::{ClientError, ask};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Asks the daemon of this configuration; its text where it agrees.
pub(super) fn ask_daemon(sources: &Sources, method: Method, target: &str) -> Result<String, AskError> {
    let config = Config::load(sources)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let response = runtime.block_on(ask(&config.state_dir, method, target))?;
    match response.status {
        StatusCode::OK => Ok(response.body),
        _ => Err(AskError::Refused(response.body.trim_end().to_owned())),
    }
}
