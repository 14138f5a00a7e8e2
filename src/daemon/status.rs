//! How things stand: for `/livez`, `/readyz`, the metrics page, `status` and the page `/`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::parts::Parts;
use super::pulse::Pulse;
use super::root_watch::RootHealth;
use crate::cache::shared::{LinkState, SharedStatus};
use crate::clock::{Clock, Instant, UnixTime};
use crate::config::Config;
use crate::dns::{Date, text};
use crate::http::Pages;
use crate::http::status::{self, Anchor, Failing, InsecureZone, Listening, SharedStoreStatus, SlowZone, StoreStatus};
use crate::limits::SLOW_ZONES_SHOWN;
use crate::resolver::anchors::refresh::{KeyStatus, word};
use crate::resolver::exceptions::NegativeAnchor;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::{CACHE_ENTRIES, CACHE_REQUESTS, QUERIES, READY, RESOLVER_CACHE_BYTES, ROOT_REACHABLE};
use crate::telemetry::recent;
use crate::telemetry::samples::Samples;

/// What is up by now, and what tells about it.
pub(super) struct Status {
    exporter: Exporter,
    /// `http.tlspol-metric-names`
    tlspol_names: bool,
    parts: Parts,
    state_dir: String,
    clock: Clock,
    started: Instant,
    pub(super) pulse: Pulse,
    pub(super) root: RootHealth,
    /// Set once, when all is bound.
    listeners: OnceLock<Vec<Listening>>,
    stopping: AtomicBool,
}

impl Status {
    pub(super) fn new(exporter: Exporter, config: &Config, parts: Parts, clock: Clock) -> Self {
        let started = clock.instant();
        Self {
            exporter,
            tlspol_names: config.http.tlspol_metric_names,
            parts,
            state_dir: config.state_dir.display().to_string(),
            clock,
            started,
            pulse: Pulse::new(started),
            root: RootHealth::new(started),
            listeners: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// From now on all of these are served.
    pub(super) fn set_listening(&self, listeners: Vec<Listening>) {
        // Called once.
        let _ = self.listeners.set(listeners);
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Whether the root was primed and validated since the start.
    pub(super) fn is_root_seen(&self) -> bool {
        let resolver = &self.parts.resolver;
        if !self.root.was_seen() && resolver.is_root_primed() && resolver.is_root_validated() {
            self.root.note(true);
        }
        self.root.was_seen()
    }

    /// Whether the root could be reached and validated at the last look.
    fn is_root_reachable(&self) -> bool {
        self.is_root_seen() && self.root.is_well()
    }

    fn store(&self) -> StoreStatus {
        let usage = self.parts.kept.as_ref().map(|kept| kept.store.usage()).unwrap_or_default();
        StoreStatus { path: self.state_dir.clone(), bytes: usage.bytes, waiting: usage.waiting, failing: usage.failing }
    }

    fn shared_store(&self) -> Option<SharedStoreStatus> {
        let SharedStatus { url, link, pending, error } = self.parts.kept.as_ref()?.shared.as_ref()?.status();
        let state = match link {
            LinkState::Starting => "starting",
            LinkState::Up => "up",
            LinkState::Down => "down",
        };
        Some(SharedStoreStatus { url, state: state.to_owned(), waiting: pending, error })
    }

    /// Of DNS lookups and of policy fetches together.
    fn failures(&self) -> Vec<Failing> {
        let now = self.clock.wall();
        let sources = [self.parts.resolver.recent(), self.parts.policy.recent()];
        let mut failures: Vec<Failing> =
            sources.into_iter().flat_map(|recent| recent.failures(now)).map(failing).collect();
        failures.sort_by_key(|failing| std::cmp::Reverse(failing.count));
        failures
    }
}

impl Pages for Status {
    fn metrics(&self) -> String {
        metrics::gauge!(RESOLVER_CACHE_BYTES).set(self.parts.resolver.cache_bytes() as f64);
        metrics::gauge!(CACHE_ENTRIES).set(self.parts.policy.cache().len() as f64);
        metrics::gauge!(READY).set(if self.missing().is_empty() { 1.0 } else { 0.0 });
        metrics::gauge!(ROOT_REACHABLE).set(if self.is_root_reachable() { 1.0 } else { 0.0 });
        self.exporter.render(self.tlspol_names)
    }

    fn stuck(&self) -> Vec<&'static str> {
        self.pulse.stuck(self.clock.instant())
    }

    fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        // The store is read before anything listens.
        if self.listeners.get().is_none() {
            missing.push("listeners");
        }
        if !self.is_root_seen() && self.root.is_waited_for(self.clock.instant()) {
            missing.push("validated root keys");
        }
        if self.stopping.load(Ordering::SeqCst) {
            missing.push("stopping");
        }
        missing
    }

    fn status(&self) -> status::Status {
        let counted = self.exporter.samples();
        let anchors = self.parts.kept.as_ref().map(|kept| kept.keeper.status()).unwrap_or_default();
        let slowest = self.parts.resolver.recent().slowest(SLOW_ZONES_SHOWN, self.clock.instant());
        status::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            now: self.clock.wall(),
            uptime: self.clock.instant().saturating_duration_since(self.started).as_secs(),
            missing: self.missing().into_iter().map(str::to_owned).collect(),
            root_reachable: self.is_root_reachable(),
            listeners: self.listeners.get().cloned().unwrap_or_default(),
            queries: counted.sum(QUERIES, None) as u64,
            hit_rate: hit_rate(&counted),
            cache_entries: self.parts.policy.cache().len(),
            cache_bytes: self.parts.policy.cache().bytes(),
            resolver_cache_bytes: self.parts.resolver.cache_bytes(),
            store: self.store(),
            shared_store: self.shared_store(),
            trust_anchors: anchors.into_iter().map(anchor).collect(),
            insecure: self.parts.resolver.exceptions().iter().map(|at| insecure(at, self.clock.wall())).collect(),
            failures: self.failures(),
            slow_zones: slowest.into_iter().map(slow_zone).collect(),
        }
    }
}

fn hit_rate(counted: &Samples) -> Option<f64> {
    let all = counted.sum(CACHE_REQUESTS, None);
    (all > 0.0).then(|| counted.sum(CACHE_REQUESTS, Some(("result", "hit"))) / all)
}

fn anchor(key: KeyStatus) -> Anchor {
    let KeyStatus { zone, tag, algorithm, state, since, refreshed_at, next_refresh } = key;
    Anchor { zone, tag, algorithm, state: word(state).to_owned(), since, refreshed_at, next_refresh }
}

fn insecure(at: &NegativeAnchor, now: UnixTime) -> InsecureZone {
    InsecureZone {
        zone: text(&at.zone),
        // The end is the first second after the last day.
        until: at.until.map(|end| Date(end - 1).to_string()),
        ended: !at.is_in_force(now),
        forward: at.forwarded,
    }
}

fn failing(failing: recent::Failing) -> Failing {
    let recent::Failing { reason, count, last, example } = failing;
    Failing { reason: reason.to_owned(), count, last, example }
}

fn slow_zone(slow: recent::Slow) -> SlowZone {
    let recent::Slow { zone, smoothed, longest, questions, failed } = slow;
    SlowZone { zone, seconds: smoothed.as_secs_f64(), longest: longest.as_secs_f64(), questions, failed }
}
