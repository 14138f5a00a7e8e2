//! The one test binary: `support` holds the test world, each other module one RFC or behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a test that cannot go on fails; helpers of tests are tests"
)]

mod activation;
mod binary;
mod bounded_work;
mod command_line;
mod crashes;
mod decision;
mod delegations;
mod dns_service;
mod dnssec_properties;
mod dnssec_rules;
mod dnssec_vectors;
mod docs;
mod explain;
mod forward_zones;
mod glances;
mod http_pages;
mod isolation;
mod layering;
mod logs;
mod lossy_networks;
mod memory;
mod metrics_page;
mod monitoring;
mod negative_anchors;
mod no_downgrade;
mod odd_servers;
mod operator_commands;
mod operators_alone;
mod parser_properties;
mod policy;
mod policy_life;
mod postfix_config;
mod resolver_world;
mod rfc5011;
mod round_trips;
mod scenarios;
mod second_opinion;
mod service_manager;
mod shared_store;
mod socketmap_server;
mod start_and_end;
mod state_directory;
mod status_page;
mod store_crashes;
mod support;
mod uneven_networks;
mod whole_stack;
mod world;
