//! Logs and metrics: set-up, and the names of everything that is measured. A leaf. Never decides anything,
//! never puts a domain into a label.

pub mod metrics;
