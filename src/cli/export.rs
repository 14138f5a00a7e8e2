//! `export`: the cached policies as a Postfix map.

use std::process::ExitCode;

use hyper::Method;

use super::ask::ask_daemon;
use super::{fail, print};
use crate::config::Sources;

pub(super) fn run(sources: &Sources) -> ExitCode {
    match ask_daemon(sources, Method::GET, "/export") {
        Ok(body) => print(&body),
        Err(error) => fail(error),
    }
}
