//! The command line: one file per command.
//!
//! In: arguments, the environment. Out: text on standard output, an exit code (0: fine, 1: not, 2: wrong usage).
//! Never does the work itself: commands ask the running daemon, or build their parts as the daemon does.

mod ask;
mod check_config;
mod dump;
mod explain;
mod export;
mod healthcheck;
mod manual;
mod postfix_config;
mod purge;
mod query;
mod serve;
mod status;

pub use manual::{completions, pages};

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Environment, Sources};
use crate::telemetry::clean::clean_lines;

/// Version, commit and day of the commit, as far as the build knew them.
const VERSION: &str = env!("POSTSEAL_VERSION");

const EXAMPLES: &str = "\
Examples:
  postseal query example.com                   the answer that Postfix gets
  postseal explain --check-mx example.com      why, and whether the mail hosts keep to it
  postseal dump --held                         domains for which Postfix keeps mail queued
  postseal postfix-config                      what belongs into main.cf, and what is wrong there
  postseal --set log.level=debug serve         run with one key set differently

Environment:
  POSTSEAL_<SECTION>__<KEY>    any key of the configuration, such as POSTSEAL_DNS__LISTEN
  HTTPS_PROXY, NO_PROXY        the proxy for policy fetches, and hosts that are fetched without it
  NO_COLOR, COLUMNS            no colours; width of what is printed

Exit code: 0 fine, 1 not, 2 wrong usage; `query` and `explain` have more, see their --help.";

/// TLS policies for Postfix from DANE and MTA-STS, with its own validating recursive resolver.
#[derive(Debug, Parser)]
#[command(name = "postseal", version = VERSION, about, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Configuration file; without it /etc/postseal/postseal.toml, if it exists.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Configuration")]
    config: Option<PathBuf>,

    /// Sets one configuration key, above file and environment: --set log.level=debug
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Configuration")]
    set: Vec<(String, String)>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer Postfix until told to stop (what happens without a command).
    Serve,
    Query(query::Query),
    Explain(explain::Explain),
    Dump(dump::Dump),
    /// Print the cached policies as a Postfix texthash map.
    Export,
    Purge(purge::Purge),
    /// Check the configuration and print every effective value with its origin.
    CheckConfig,
    PostfixConfig(postfix_config::PostfixConfig),
    /// Show how the running daemon is: readiness, caches, trust anchors, recent failures, slowest zones.
    Status(status::Show),
    /// Exit with 0 when the running daemon is ready to answer.
    Healthcheck,
    /// Print a manual page: postseal man explain | man -l -
    Man(manual::Manual),
    /// Print completions for a shell: postseal completions bash
    Completions(manual::Completions),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let sources = Sources { file: arguments.config, environment: Environment::of_process(), flags: arguments.set };
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(sources),
        Command::Query(query) => query.run(&sources),
        Command::Explain(explain) => explain.run(&sources),
        Command::Dump(dump) => dump.run(&sources),
        Command::Export => export::run(&sources),
        Command::Purge(purge) => purge.run(&sources),
        Command::CheckConfig => check_config::run(&sources),
        Command::PostfixConfig(wanted) => wanted.run(&sources),
        Command::Status(show) => show.run(&sources),
        Command::Healthcheck => healthcheck::run(&sources),
        Command::Man(manual) => manual.run(),
        Command::Completions(completions) => completions.run(),
    }
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Says on standard error what went wrong.
fn fail(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("postseal: {}", clean_lines(&error.to_string()));
    ExitCode::FAILURE
}

/// Prints a result. A reader that went away early is no failure of ours.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(error),
        _ => ExitCode::SUCCESS,
    }
}

/// Columns of the terminal that standard output is, by `COLUMNS` or by the terminal itself; `None` where it is none.
fn width(environment: &Environment) -> Option<usize> {
    use std::io::IsTerminal;
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = environment.get("COLUMNS").and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    columns.or_else(terminal).filter(|columns| *columns > 0)
}
