//! The configuration: one tree, its sources, its checks (design §11). A leaf: knows nothing of what uses it.

mod maps;

pub use maps::{MapOptions, ReportLevel};
