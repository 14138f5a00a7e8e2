//! Writes the manual pages, the completions for shells and the commented configuration file:
//! `cargo run --example manual -- DIRECTORY`. The packages have them.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap_complete::Shell;
use postseal::cli::{completions, pages};
use postseal::config::sample;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: manual DIRECTORY")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    for (shell, file) in [(Shell::Bash, "postseal.bash"), (Shell::Zsh, "_postseal"), (Shell::Fish, "postseal.fish")] {
        fs::write(directory.join(file), completions(shell))?;
    }
    for (name, page) in pages() {
        fs::write(directory.join(name), page)?;
    }
    fs::write(directory.join("postseal.toml"), sample())?;
    Ok(())
}
