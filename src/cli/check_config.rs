//! `check-config`: what the configuration comes to, and where each value is from.

use std::process::ExitCode;

use super::{fail, print};
use crate::clock::Clock;
use crate::config::{Config, Sources, effective};
use crate::daemon::check_materials;

pub(super) fn run(sources: &Sources) -> ExitCode {
    let text = match effective(sources) {
        Ok(text) => text,
        Err(error) => return fail(error),
    };
    // The values are right; now the files that they name.
    let checked = Config::load(sources)
        .map_err(|error| error.to_string())
        .and_then(|config| check_materials(&config, &Clock::system()).map_err(|error| error.to_string()));
    match checked {
        Ok(()) => print(&text),
        Err(error) => fail(error),
    }
}
