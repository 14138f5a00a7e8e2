//! Nobody spoils it for others: a hostile party and an innocent one side by side, at each place that they share.

mod budgets;
mod cache_places;
mod connections;
mod crowds;
mod cuts;
mod denials;
mod disk;
mod exchanges;
mod explanations;
mod failures;
mod families;
mod fetches;
mod flights;
mod forger;
mod forward_zones;
mod glances;
mod http;
mod listener;
mod odd_servers;
mod policies;
mod reach;
mod replicas;
mod rrsets;
mod sockets;
mod trust;
