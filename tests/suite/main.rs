//! The one test binary: `support` holds the test world, each other module one RFC or behaviour.

mod dnssec_properties;
mod scenarios;

mod socketmap_server;
