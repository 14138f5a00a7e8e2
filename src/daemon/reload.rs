//! SIGHUP: what can change without a restart. What is bad is refused with an error in the log, and what was
//! there before stays in force.

use std::sync::Arc;
use std::time::Duration;

use super::maps::Maps;
use super::materials::trust_anchors;
use super::parts::{Parts, level_filter};
use super::service::Lookups;
use super::status::Status;
use crate::clock::Clock;
use crate::config::{Config, Fixed, Sources};
use crate::telemetry::logging::LogLevelHandle;

/// All that a reload touches.
pub(super) struct Reload {
    pub(super) sources: Sources,
    pub(super) log: LogLevelHandle,
    pub(super) lookups: Arc<Lookups>,
    pub(super) parts: Parts,
    pub(super) status: Arc<Status>,
    pub(super) clock: Clock,
    /// What this process was started with and cannot change.
    pub(super) fixed: Fixed,
}

impl Reload {
    /// Reads the configuration again: overrides, maps, log level, trust anchor file, CA file.
    pub(super) fn run(&self) {
        let config = match Config::load(&self.sources) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "reload: configuration refused, nothing changed");
                return;
            }
        };
        self.log.set(level_filter(config.log.level));
        self.lookups.set_maps(Maps::new(&config.maps));
        self.parts.policy.set_overrides(config.policy.overrides.clone());
        match trust_anchors(&config.resolver, self.clock.wall()) {
            Ok(anchors) => {
                self.parts.set_trust_anchors(&anchors);
                self.status.root.look_again();
            }
            Err(error) => tracing::error!(%error, "reload: trust anchors kept as they were"),
        }
        if let Err(error) = self.parts.reload_authorities() {
            tracing::error!(%error, "reload: CA certificates kept as they were");
        }
        for key in Fixed::of(&self.sources).map(|now| self.fixed.changed(&now)).unwrap_or_default() {
            tracing::warn!(key, "reload: {key} has changed, which needs a restart; until then it stays as it was");
        }
        tracing::info!("reloaded: overrides, maps, log level, trust anchors, CA certificates");
    }
}

/// CLOCK_MONOTONIC, by which systemd tells this reload from earlier ones.
pub(super) fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}
