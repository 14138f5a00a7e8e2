//! What can be wrong with a configuration. Every message names the place, the key and what would be right.

use std::path::PathBuf;

use super::overrides::OverrideError;

/// Nothing was started; a reload keeps what was there.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// The file.
        origin: String,
        /// Line, column and reason.
        message: String,
    },
    /// No such key.
    #[error("{origin}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// File, variable or flag.
        origin: String,
        /// The key as written.
        key: String,
        /// The known key it is nearest to.
        nearest: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: `{key}`: found {found}, expected {expected}")]
    Value {
        /// File, variable or flag.
        origin: String,
        /// The key.
        key: String,
        /// What is there.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// An override that Postfix would not take.
    #[error("{origin}: policy.overrides: {source}")]
    Override {
        /// File, variable or flag.
        origin: String,
        /// Which and why.
        source: OverrideError,
    },
    /// A default that does not parse; a test keeps this from happening.
    #[error("default of `{0}` is malformed")]
    Default(&'static str),
}
