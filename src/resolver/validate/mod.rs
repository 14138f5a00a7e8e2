//! DNSSEC validation: is this what the zone said, and does it prove what it is shown for?
//!
//! In: RRsets as they came off the wire, the keys or DS records trusted so far, the time, and a [`Budget`](super::budget::Budget).
//! Out: [`Verified`] RRsets, validated [`KeySet`]s, [`Proof`]s of denial, or the reason why not
//! ([`Bogus`](crate::dns::Bogus)). `chain` goes from a DS or trust anchor to a zone's keys, `rrsig` from keys to
//! an RRset, `denial` (with `nsec` and `nsec3`) from signed NSEC and NSEC3 records to "is not there".
//!
//! Never asks, caches or reads a clock; never believes a record whose signature it has not checked.

mod chain;
mod crypto;
mod denial;
mod keys;
mod nsec;
mod nsec3;
mod rrsig;
mod types;

pub use chain::{Trust, ZoneKeys, usable_ds, verify_dnskeys};
pub use denial::{Cut, Denials, Proof};
pub use keys::{DnsKey, Ds, KeySet, algorithm_supported, digest_supported};
pub use rrsig::{Verified, verify};
pub use types::TypeBitmap;

use super::budget::Exceeded;
use crate::dns::Bogus;

impl From<Exceeded> for Bogus {
    fn from(limit: Exceeded) -> Self {
        Self::TooMuchWork(limit.0)
    }
}
