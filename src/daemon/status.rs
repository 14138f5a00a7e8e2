//! How things stand: for `/readyz` and the metrics page.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::http::Pages;
use crate::policy;
use crate::resolver;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::{CACHE_ENTRIES, READY, RESOLVER_CACHE_BYTES};

/// What is up by now.
pub(super) struct Status {
    exporter: Exporter,
    /// `http.tlspol-metric-names`
    tlspol_names: bool,
    resolver: resolver::Engine,
    policy: policy::Engine,
    listening: AtomicBool,
    /// Once the root was validated it counts as reachable: later failures show in the answers, and taking a
    /// serving instance out of service would not help them.
    root_seen: AtomicBool,
    stopping: AtomicBool,
}

impl Status {
    pub(super) fn new(
        exporter: Exporter,
        tlspol_names: bool,
        resolver: resolver::Engine,
        policy: policy::Engine,
    ) -> Self {
        let (listening, root_seen, stopping) = Default::default();
        Self { exporter, tlspol_names, resolver, policy, listening, root_seen, stopping }
    }

    pub(super) fn set_listening(&self) {
        self.listening.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_root_seen(&self) -> bool {
        if self.resolver.is_root_validated() {
            self.root_seen.store(true, Ordering::SeqCst);
        }
        self.root_seen.load(Ordering::SeqCst)
    }

    pub(super) fn upkeep(&self) {
        self.exporter.upkeep();
    }
}

impl Pages for Status {
    fn metrics(&self) -> String {
        metrics::gauge!(RESOLVER_CACHE_BYTES).set(self.resolver.cache_bytes() as f64);
        metrics::gauge!(CACHE_ENTRIES).set(self.policy.cache().len() as f64);
        metrics::gauge!(READY).set(if self.missing().is_empty() { 1.0 } else { 0.0 });
        self.exporter.render(self.tlspol_names)
    }

    fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if !self.listening.load(Ordering::SeqCst) {
            missing.push("listeners");
        }
        if !self.is_root_seen() {
            missing.push("validated root keys");
        }
        if self.stopping.load(Ordering::SeqCst) {
            missing.push("stopping");
        }
        missing
    }
}
