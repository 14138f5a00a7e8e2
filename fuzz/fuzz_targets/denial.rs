//! NSEC and NSEC3: whatever records of real signed zones are shown, what they prove of a zone is true of it.
#![no_main]

#[path = "../../tests/suite/dnssec_properties/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod dnssec_properties;

use dnssec_properties::dice::Dice;
use dnssec_properties::properties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut dice = Dice::Octets(octets.iter().rev().copied().collect());
    let world = properties::world(&mut dice);
    if let Err(wrong) = properties::check_soundness(&mut dice, &world) {
        panic!("{wrong}");
    }
    if let Err(wrong) = properties::check_completeness(&mut dice, &world) {
        panic!("{wrong}");
    }
});
