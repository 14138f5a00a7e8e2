//! What the control socket may do with this daemon.

use std::sync::Arc;

use super::service::Lookups;
use super::status::Status;
use crate::config::MapOptions;
use crate::control::Operations;
use crate::http::Pages;
use crate::policy;

pub(super) struct OfDaemon {
    pub(super) lookups: Arc<Lookups>,
    pub(super) status: Arc<Status>,
}

impl Operations for OfDaemon {
    fn policy(&self) -> &policy::Engine {
        self.lookups.policy()
    }

    fn map(&self, name: &str) -> Option<MapOptions> {
        self.lookups.map(name.as_bytes()).map(|map| map.options)
    }

    fn missing(&self) -> Vec<&'static str> {
        self.status.missing()
    }
}
