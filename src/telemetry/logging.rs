//! Log output: text for people or one JSON object a line, on standard error, at a level that can be changed.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

/// A second set-up in one process.
#[derive(Debug, thiserror::Error)]
#[error("logging is set up already")]
pub struct AlreadySetUp;

impl LogLevelHandle {
    /// From now on logs `level` and what is more severe.
    pub fn set(&self, level: LevelFilter) {
        // Fails only when the subscriber is gone, and then there is nobody to tell.
        let _ = self.0.reload(level);
    }
}

/// Sets logging up for the whole process.
pub fn set_up(level: LevelFilter, json: bool) -> Result<LogLevelHandle, AlreadySetUp> {
    let (filter, handle) = reload::Layer::new(level);
    let writer = std::io::stderr;
    let output = if json {
        fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
    } else {
        fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(writer).boxed()
    };
    // The filter sits next to the registry, so that what it refuses costs nothing further up.
    let subscriber = tracing_subscriber::registry().with(filter).with(output);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySetUp)?;
    Ok(LogLevelHandle(handle))
}
