//! Policies, with a scripted DNS and policy host under a paused clock: one row per rule.

mod dane;
mod engine;
mod failover;
mod fetch;
mod first_contact;
mod life;
mod on_failure;
mod partial;
mod replies;
pub mod script;
mod smart_hosts;
