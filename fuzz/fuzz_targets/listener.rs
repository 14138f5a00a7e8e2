//! Messages from whoever reaches the DNS listener.
#![no_main]

#[path = "../../tests/suite/parser_properties/mod.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod parser_properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| parser_properties::datagrams::listener(octets));
