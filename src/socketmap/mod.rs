//! The socketmap protocol (design §3): what Postfix asks, framed, answered in the order of asking.
//!
//! In: bound listeners and a [`Service`]. Out: each reply at its place; connections bounded in number, in
//! octets, in requests under way and in time. Never decides a policy, never looks a map up: names and keys are
//! octets here. A malformed netstring ends its own connection and touches nothing else.

pub mod client;
mod connection;
mod families;
mod listener;
pub mod netstring;
mod request;
mod server;
mod stream;
mod threads;

pub use families::bind_tcp;
pub use listener::{BindError, Listener};
pub use request::{Peer, Reply, Request};
pub use server::{Server, run};
pub use stream::{Rewound, Stream};
pub use threads::Threads;

use std::future::Future;
use std::pin::Pin;

/// A future that any trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever answers: the policy engine behind its maps, and scripted answers in tests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request: at once from memory, or later. `reply` is empty, and room for [`Answer::Written`] that
    /// costs nothing. The future must end by itself in bounded time; it is dropped when the connection is lost.
    fn answer(&self, request: Request<'_>, reply: &mut String) -> Answer;

    /// Takes over a connection whose first octet says that it speaks HTTP. Must end in bounded time.
    fn http(&self, stream: Rewound) -> BoxFuture<'static, ()>;
}

/// An answer, now or later.
pub enum Answer {
    /// Known already.
    Now(Reply),
    /// Known already, and written to the buffer: not empty, and no longer than [`crate::limits::REPLY_BYTES`].
    Written,
    /// Being looked up.
    Later(BoxFuture<'static, Reply>),
}
