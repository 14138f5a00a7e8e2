//! A server's octets: never a panic, never more than the limits allow.
#![no_main]

#[path = "../../tests/suite/dnssec_properties/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod dnssec_properties;

use dnssec_properties::octets::check_octets;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| check_octets(octets));
