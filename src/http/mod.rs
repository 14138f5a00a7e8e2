//! Metrics, health and the status page over HTTP/1.1 (design §9).
//!
//! In: bound listeners, [`Pages`], which say what is to be told, and [`Explains`]. Out: `/metrics`, `/livez`, `/readyz`,
//! `/` and `/explain` for GET and HEAD. Connections are bounded in number, header and time. Never changes anything,
//! never tells anything about a single domain, except to those on this host.

mod exchange;
mod explain;
mod page;
mod query;
mod server;
pub mod status;

pub use exchange::{Head, Text, serve_connection};
pub use explain::Explains;
pub use query::parameter;
pub use server::{Scope, respond, run};
use status::Status;

/// What the pages say. Asked for each time; must answer at once.
pub trait Pages: Send + Sync + 'static {
    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// What no longer turns in this process; empty while it is alive.
    fn stuck(&self) -> Vec<&'static str>;

    /// What is still missing before questions can be answered; empty when ready.
    fn missing(&self) -> Vec<&'static str>;

    /// How things stand.
    fn status(&self) -> Status;
}
