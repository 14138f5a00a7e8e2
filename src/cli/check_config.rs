//! `check-config`: what the configuration comes to, and where each value is from.

use std::process::ExitCode;

use super::{fail, print};
use crate::clock::Clock;
use crate::config::{Config, Sources, effective};
use crate::daemon::Parts;

pub(super) fn run(sources: &Sources) -> ExitCode {
    let (config, text) = match Config::load(sources).and_then(|config| Ok((config, effective(sources)?))) {
        Ok(checked) => checked,
        Err(error) => return fail(error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    // The values are right; now the files that they name. Nothing is bound, nothing in the state directory touched.
    let parts = runtime.block_on(async { Parts::for_one_query(&config, &sources.environment, Clock::system()) });
    match parts {
        Ok(_) => print(&text),
        Err(error) => fail(error),
    }
}
