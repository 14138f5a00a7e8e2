//! Logs and metrics: set-up, and the names of everything that is measured. A leaf.
//!
//! In: a level, a format, what the program counts. Out: log lines on standard error, a page for Prometheus.
//! Never decides anything, never puts a domain into a label.

pub mod clean;
pub mod exporter;
mod histograms;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod recent;
pub mod repeats;
pub mod samples;
mod tlspol;
