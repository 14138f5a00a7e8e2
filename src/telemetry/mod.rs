//! Logs and metrics: their names and how they leave the process. Never decides anything.

pub mod metrics;
