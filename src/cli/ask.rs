//! Asking the running daemon, and why there is no answer.

use hyper::{Method, StatusCode};

use crate::config::{Config, ConfigError, Sources};
use crate::control::client::{ClientError, ask};
use crate::control::explanations::Busy;
use crate::daemon::StartError;

/// Why there is no answer, from the daemon or from a look of our own.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("no map named {0}")]
    NoMap(String),
    #[error("{0}")]
    Refused(String),
    #[error("answer of the daemon: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Asks the daemon of this configuration; its text where it agrees.
pub(super) fn ask_daemon(sources: &Sources, method: Method, target: &str) -> Result<String, AskError> {
    let config = Config::load(sources)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask_daemon_of(&config, method, target))
}

/// The same, for commands that have a runtime already.
pub(super) async fn ask_daemon_of(config: &Config, method: Method, target: &str) -> Result<String, AskError> {
    let response = ask(&config.state_dir, method, target).await?;
    match response.status {
        StatusCode::OK => Ok(response.body),
        _ => Err(AskError::Refused(response.body.trim_end().to_owned())),
    }
}
