//! Nobody spoils it for others: a hostile party and an innocent one side by side, at each place that they share.

mod budgets;
mod connections;
mod cuts;
mod denials;
mod exchanges;
mod explanations;
mod failures;
mod forward_zones;
mod glances;
mod http;
mod odd_servers;
mod reach;
mod rrsets;
mod sockets;
