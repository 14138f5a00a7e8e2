//! `serve`: the daemon.

use std::process::ExitCode;

use super::fail;
use crate::config::{Config, LogFormat, Sources};
use crate::daemon;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::logging;

pub(super) fn run(sources: Sources) -> ExitCode {
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(error) => return fail(error),
    };
    let json = config.log.format == LogFormat::Json;
    let log = match logging::set_up(daemon::level_filter(config.log.level), json) {
        Ok(log) => log,
        Err(error) => return fail(error),
    };
    let exporter = match Exporter::install() {
        Ok(exporter) => exporter,
        Err(error) => return fail(error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    let result = runtime.block_on(daemon::run(sources, config, log, exporter));
    // Lookups without a waiting mail are not worth waiting for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}
