//! The control socket: how the command line asks the running daemon (design §10).
//!
//! In: HTTP over a Unix socket that only its owner may open. Out: JSON and text about single domains and the
//! whole. Never listens on a network; never decides: it asks the policy engine as Postfix does.

pub mod client;
pub mod explanations;
pub mod listing;
pub mod purge;
pub mod report;
mod routes;
mod server;

use crate::config::MapOptions;
pub use crate::http::status;
use crate::policy;
use status::Status;

pub use server::{ControlError, ControlSocket, run};

/// File name of the socket in the state directory.
pub const SOCKET_NAME: &str = "control.socket";

/// What the control socket may look at and do.
pub trait Operations: Send + Sync + 'static {
    /// The engine that answers Postfix.
    fn policy(&self) -> &policy::Engine;

    /// Explains, within bounds.
    fn explanations(&self) -> &explanations::Explanations;

    /// The options of the map of that name, as Postfix would get it.
    fn map(&self, name: &str) -> Option<MapOptions>;

    /// What is missing before questions can be answered; empty when ready.
    fn missing(&self) -> Vec<&'static str>;

    /// How things stand.
    fn status(&self) -> Status;
}
