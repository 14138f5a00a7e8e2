//! Nobody spoils it for others: a hostile party and an innocent one side by side, at each place that they share.

mod connections;
mod explanations;
mod http;
