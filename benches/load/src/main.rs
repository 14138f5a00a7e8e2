//! `postseal-bench`: what a socketmap server costs and how long it takes, whoever wrote it.
//!
//! `load` drives a server that runs and says what came of it. `world` serves signed zones for a resolver to find its
//! way in, cheaply enough not to be what is measured. `fill` makes a state directory that is full. `floor` is the server
//! that does nothing: what the kernel alone takes. Never counts an answer that is not the expected one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on fails, and it reads the machine's clock"
)]

mod connection;
mod drive;
mod fill;
mod floor;
mod keys;
mod process;
mod report;
mod world;

/// The test world, which knows nothing of sockets. Faults and helpers for tests are not needed here.
#[allow(dead_code, unused_imports, clippy::panic, reason = "made for the tests, which use all of it")]
#[path = "../../../tests/suite/support"]
mod support {
    pub mod answer;
    pub mod fault;
    pub mod key;
    pub mod name;
    pub mod record;
    pub mod wire;
    pub mod world;
    pub mod zone;
}

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "postseal-bench", about = "Drives socketmap servers and says what that cost")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drives a running server; exit code 1 where a reply was not the expected one.
    Load(Box<drive::Settings>),
    /// Serves a signed root, `com`, and domains below it, until killed. Each line on its standard input is answered
    /// with the number of questions since the last.
    World(world::Settings),
    /// Answers every request with the same words, without looking: what is left is the kernel's share. Says where it
    /// listens, and serves until killed.
    Floor {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Fills a state directory with MTA-STS and DANE branches of `m0.example`, `m1.example`, …
    Fill {
        /// The state directory.
        directory: PathBuf,
        /// Next hops.
        #[arg(long, default_value_t = 100_000)]
        domains: usize,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Load(settings) => drive::run(&settings),
        Command::World(settings) => world::run(&settings),
        Command::Floor { listen } => match floor::run(listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{listen}: {error}");
                ExitCode::from(2)
            }
        },
        Command::Fill { directory, domains } => {
            fill::run(&directory, domains);
            ExitCode::SUCCESS
        }
    }
}
