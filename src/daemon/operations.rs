//! What the control socket may do with this daemon.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::service::Lookups;
use super::status::Status;
use crate::config::MapOptions;
use crate::control::Operations;
use crate::control::explanations::{Explanations, Form, Whose};
use crate::http::{Explains, Pages, Text, status};
use crate::policy;

pub(super) struct OfDaemon {
    pub(super) lookups: Arc<Lookups>,
    pub(super) status: Arc<Status>,
    pub(super) explanations: Arc<Explanations>,
}

impl Operations for OfDaemon {
    fn policy(&self) -> &policy::Engine {
        self.lookups.policy()
    }

    fn explanations(&self) -> &Explanations {
        &self.explanations
    }

    fn map(&self, name: &str) -> Option<MapOptions> {
        self.lookups.map(name.as_bytes()).map(|map| map.options)
    }

    fn missing(&self) -> Vec<&'static str> {
        self.status.missing()
    }

    fn status(&self) -> status::Status {
        self.status.status()
    }
}

/// Explanations over HTTP: what Postfix is told to use first.
pub(super) struct OverHttp {
    pub(super) lookups: Arc<Lookups>,
    pub(super) explanations: Arc<Explanations>,
}

impl Explains for OverHttp {
    fn explain(&self, key: String, json: bool) -> BoxFuture<'static, Text> {
        let map = self.lookups.map(USUAL_MAP.as_bytes()).map(|map| map.options).unwrap_or_default();
        let explanations = Arc::clone(&self.explanations);
        let form = if json { Form::Json } else { Form::Text };
        Box::pin(async move { explanations.page(Whose::Loopback, &key, USUAL_MAP, &map, (form, false)).await })
    }
}

const USUAL_MAP: &str = "QUERY";
