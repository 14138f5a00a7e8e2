//! `purge`: makes the running daemon forget one next hop, or all.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::ask::ask_daemon;
use super::{fail, print};
use crate::config::Sources;
use crate::control::client::encode;

/// Forget one domain, or everything, in memory and on disk.
#[derive(Debug, Args)]
pub(super) struct Purge {
    /// A domain, `domain:port`, `[host]` or `[host]:port`; without it everything goes.
    domain: Option<String>,
}

impl Purge {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        let target = match &self.domain {
            Some(domain) => format!("/purge?key={}", encode(domain)),
            None => "/purge".to_owned(),
        };
        match ask_daemon(sources, Method::POST, &target) {
            Ok(body) => print(&body),
            Err(error) => fail(error),
        }
    }
}
