//! Policies, with a scripted DNS and policy host under a paused clock: one row per rule.

mod dane;
mod engine;
mod fetch;
mod life;
mod replies;
mod script;
