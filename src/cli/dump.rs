//! `dump`: everything the running daemon has cached.

use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::ask::ask_daemon;
use super::{fail, print, width};
use crate::config::Sources;
use crate::control::listing::{Filter, Row, table, wanted};

const EXAMPLES: &str = "\
Examples:
  postseal dump
  postseal dump --held
  postseal dump --policy --json";

/// Show everything that is cached: answer, both branches with age and remaining time, hits. The most used come first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Dump {
    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// Only domains for which Postfix keeps mail queued.
    #[arg(long)]
    held: bool,

    /// Only domains that have a policy.
    #[arg(long)]
    policy: bool,
}

impl Dump {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        let body = match ask_daemon(sources, Method::GET, "/dump") {
            Ok(body) => body,
            Err(error) => return fail(error),
        };
        let rows: Vec<Row> = match serde_json::from_str(&body) {
            Ok(rows) => rows,
            Err(error) => return fail(error),
        };
        let rows = wanted(rows, Filter { held: self.held, policy: self.policy });
        if !self.json {
            return print(&table(&rows, width(&sources.environment)));
        }
        match serde_json::to_string_pretty(&rows) {
            Ok(text) => print(&(text + "\n")),
            Err(error) => fail(error),
        }
    }
}
