//! `purge`: makes the running daemon forget one next hop, or all.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::ask::ask_daemon;
use super::{fail, print};
use crate::config::Sources;
use crate::control::client::encode;

const EXAMPLES: &str = "\
Examples:
  postseal purge example.com
  postseal purge --all";

/// Forget one domain, or everything with --all, in memory and on disk.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
#[command(after_help = EXAMPLES)]
pub(super) struct Purge {
    /// A domain, `domain:port`, `[host]` or `[host]:port`.
    domain: Option<String>,

    /// Everything: every policy that is held is gone until it can be fetched again.
    #[arg(long)]
    all: bool,
}

impl Purge {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        let target = match &self.domain {
            Some(domain) => format!("/purge?key={}", encode(domain)),
            None => format!("/purge?all={}", u8::from(self.all)),
        };
        match ask_daemon(sources, Method::POST, &target) {
            Ok(body) => print(&body),
            Err(error) => fail(error),
        }
    }
}
