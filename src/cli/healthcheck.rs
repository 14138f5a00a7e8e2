//! `healthcheck`: for containers without a shell or curl.

use std::process::ExitCode;

use hyper::StatusCode;

use super::fail;
use crate::config::{Config, Sources};
use crate::control::client::ask_readiness;

pub(super) fn run(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(error) => return fail(error),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match runtime.block_on(ask_readiness(&config.http.listen, &config.state_dir)) {
        Ok(response) if response.status == StatusCode::OK => ExitCode::SUCCESS,
        Ok(response) => fail(response.body.trim_end()),
        Err(error) => fail(error),
    }
}
