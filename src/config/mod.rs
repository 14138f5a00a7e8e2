//! The configuration: one tree, its sources, its checks (design §11). A leaf: knows nothing of what uses it.
//!
//! In: a TOML file, the environment, flags. Out: a [`Config`] whose every value was parsed and is in range, or
//! a [`ConfigError`] that names file, key and what would be right. Never binds, never opens what a path names.

mod changes;
mod error;
mod fields;
mod insecure;
mod keys;
mod maps;
mod overrides;
mod policy_text;
mod policy_values;
mod print;
mod sample;
mod shared_url;
mod sources;
mod state_dir;
mod tree;
mod values;

pub use changes::Fixed;
pub use error::ConfigError;
pub use insecure::{InsecureZone, LastDay};
pub use keys::{KEYS, Key, Kind};
pub use maps::{MapOptions, OnFailure, ReportLevel};
pub use overrides::{Override, OverrideError, Overrides};
pub use policy_text::PolicyTextError;
pub use print::effective;
pub use sample::sample;
pub use shared_url::{SharedHost, SharedUrl, Topology};
pub use sources::{DEFAULT_FILE, Environment, Sources, variable_of};
pub use tree::{
    Cache, Config, Dane, Dns, ForwardZone, Http, Log, LogFormat, LogLevel, MtaSts, Policy, Postfix, Resolver, Shutdown,
    Socketmap, Store,
};
pub use values::Listen;
