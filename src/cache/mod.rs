//! What was learnt about next hops, in memory, on disk (through [`Persist`]) and, where replicas share their
//! policies, in a store of theirs (through [`Shared`]).
//!
//! In: the outcome of lookups and fetches, per branch. Out: the state of both branches of a next hop, with
//! its age. Never looks anything up, never decides an answer, never serves by the wall clock alone.

pub mod entry;
mod ledger;
mod memory;
mod packed;
mod persist;
mod pool;
pub mod shared;
mod snapshot;
mod state;
pub mod store;

pub use entry::{DaneEntry, DaneVerdict, HeldPolicy, StsEntry, StsMode, StsPolicy};
pub use memory::{Bounds, PolicyCache, ZoneOf};
pub use persist::{Forgetful, Persist, PersistError};
pub use shared::Shared;
pub use snapshot::{Snapshot, Usage};
pub use state::{DaneState, Protection, StsState, Worth};
