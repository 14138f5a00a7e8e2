//! One row per rule of validation, by RFC.

mod bounded_work;
mod chain_rfc4035;
mod denial_rfc5155;
mod signatures_rfc4034;

use std::str::FromStr;

use hickory_proto::rr::{Name, RecordType};
use postseal::resolver::rrset::RrSet;

use crate::dnssec_properties::signer::{Signer, TTL, bitmap};

fn name(text: &str) -> Name {
    Name::from_str(text).expect("a name")
}

fn signer() -> Signer {
    Signer::new(&name("example."), 1)
}

fn set(owner: &str, rtype: RecordType, rdata: &[u8]) -> RrSet {
    RrSet { name: name(owner), rtype, ttl: TTL, rdatas: vec![rdata.into()], sigs: Vec::new() }
}

fn address(owner: &str) -> RrSet {
    signer().sign(set(owner, RecordType::A, &[192, 0, 2, 1]))
}

fn types(of: &[u16]) -> Vec<u8> {
    bitmap(&of.iter().copied().collect())
}
