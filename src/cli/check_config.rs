//! `check-config`: what the configuration comes to, and where each value is from.

use std::process::ExitCode;

use super::{fail, print};
use crate::clock::Clock;
use crate::config::{Config, Sources, effective};
use crate::daemon::Parts;
use crate::postfix::check::overrides;
use crate::postfix::site::local_version;

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
        Ok(_) => {
            // Postfix may be elsewhere, so the one on this host decides nothing.
            let unknown = local_version().map(|version| overrides(&config, version)).unwrap_or_default();
            unknown.iter().for_each(|text| eprintln!("postseal: {text}"));
            print(&text)
        }
        Err(error) => fail(error),
    }
}
