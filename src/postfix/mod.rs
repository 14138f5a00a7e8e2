//! What Postfix must be told, and whether it was: lines for `main.cf`, the usual mistakes in an existing one, and
//! whether the resolvers that Postfix uses validate.
//!
//! In: our own configuration, a Postfix version, files of Postfix, `resolv.conf`. Out: lines and findings with what to
//! do. Never writes a file, never asks a resolver that `resolv.conf` does not name.

pub mod check;
pub mod lines;
pub mod main_cf;
pub mod resolver;
pub mod site;
pub mod version;
