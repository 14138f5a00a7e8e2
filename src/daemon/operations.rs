//! What the control socket may do with this daemon.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::parts::Parts;
use super::service::Lookups;
use super::status::Status;
use crate::clock::{Clock, Instant};
use crate::config::MapOptions;
use crate::control::explanations::{Explanations, Form};
use crate::control::status::Anchor;
use crate::control::{self, Operations};
use crate::http::{Explains, Pages, Text};
use crate::policy;
use crate::resolver::anchors::refresh::{KeyStatus, word};

pub(super) struct OfDaemon {
    pub(super) lookups: Arc<Lookups>,
    pub(super) status: Arc<Status>,
    pub(super) parts: Parts,
    pub(super) explanations: Arc<Explanations>,
    pub(super) state_dir: PathBuf,
    pub(super) clock: Clock,
    pub(super) started: Instant,
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

    fn status(&self) -> control::status::Status {
        let anchors = self.parts.kept.as_ref().map(|kept| kept.keeper.status()).unwrap_or_default();
        control::status::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.clock.instant().saturating_duration_since(self.started).as_secs(),
            missing: self.missing().into_iter().map(str::to_owned).collect(),
            cache_entries: self.parts.policy.cache().len(),
            resolver_cache_bytes: self.parts.resolver.cache_bytes(),
            state_dir: self.state_dir.display().to_string(),
            trust_anchors: anchors.into_iter().map(anchor).collect(),
        }
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
        Box::pin(async move { explanations.page(&key, USUAL_MAP, &map, form).await })
    }
}

const USUAL_MAP: &str = "QUERY";

fn anchor(key: KeyStatus) -> Anchor {
    let KeyStatus { zone, tag, algorithm, state, since, refreshed_at, next_refresh } = key;
    Anchor { zone, tag, algorithm, state: word(state).to_owned(), since, refreshed_at, next_refresh }
}
