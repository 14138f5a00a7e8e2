//! A server's octets, through everything that reads them before a signature has said whether they are true: never
//! a panic, never more than the limits allow.

use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinDecoder;
use postseal::limits;
use postseal::resolver::budget::Budget;
use postseal::resolver::iterate::classify::{Meaning, addresses, classify};
use postseal::resolver::message::Message;
use postseal::resolver::rrset::{RrSet, canonical_rdata, expand_rdata};
use postseal::resolver::validate::{Denials, DnsKey, KeySet, Trust, usable_ds, verify, verify_dnskeys};

use super::signer::{NOW, Signer};
use super::zone::QUESTION_TYPES;

/// Reads, judges and validates `octets` in every way that a server's message is.
pub fn check_octets(octets: &[u8]) {
    let Ok(message) = Message::parse(octets) else { return };
    let sections = [&message.answer, &message.authority, &message.additional];
    for set in sections.into_iter().flatten() {
        read_set(set);
    }
    let asked = message.question.as_ref().map(|question| (question.name.to_lowercase(), question.rtype));
    let (name, rtype) = asked.unwrap_or_else(|| (Name::root(), RecordType::MX));
    for labels in 0..=name.iter().count().min(4) {
        let zone = name.trim_to(labels);
        for rtype in [rtype, RecordType::DS, RecordType::RRSIG] {
            for forwarder in [false, true] {
                read_meaning(classify(&message, &zone, &name, rtype, forwarder).ok(), &name);
            }
        }
        validate(&message, &zone, &name);
    }
}

fn read_set(set: &RrSet) {
    assert!(set.rdatas.len() <= limits::RECORDS_PER_RRSET);
    let _ = set.parsed();
    for name in set.target_names() {
        assert!(name.iter().count() < 128);
    }
    for rdata in &set.rdatas {
        // Expanded RDATA expands to itself, and its canonical form is as long; empty RDATA, which holds no
        // name to lower, is let through.
        let mut decoder = BinDecoder::new(rdata);
        assert_eq!(expand_rdata(set.rtype, &mut decoder, rdata.len()).as_deref(), Ok(&**rdata));
        if !rdata.is_empty() {
            assert_eq!(canonical_rdata(set.rtype, rdata).map(|canonical| canonical.len()), Ok(rdata.len()));
        }
    }
    assert!(set.bytes() > 0);
    let _ = addresses(set).count();
}

fn read_meaning(meaning: Option<Meaning>, name: &Name) {
    match meaning {
        Some(Meaning::Referral(delegation)) => assert!(delegation.child.zone_of(name)),
        Some(Meaning::Answer(set)) => assert_eq!(set.name, *name),
        _ => {}
    }
}

/// Validates with keys from the message itself, and asks what its denials prove when signed as they are.
fn validate(message: &Message, zone: &Name, name: &Name) {
    let signer = Signer::new(zone, 1);
    let mut keys = signer.keys();
    for set in &message.answer {
        let budget = Budget::default();
        match set.rtype {
            RecordType::DNSKEY => {
                let trust = Trust::from_sets([set]);
                let _ = verify_dnskeys(zone, set, &trust, NOW, &budget);
                keys.keys.extend(set.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)));
            }
            RecordType::DS => {
                let trust = Trust::from_sets([set]);
                assert!(usable_ds(&trust.ds).len() <= trust.ds.len());
                let _ = signer.key.matches_any(zone, &trust.ds);
            }
            _ => {}
        }
    }
    let keys = KeySet { zone: zone.clone(), keys: keys.keys };
    let budget = Budget::default();
    for set in message.answer.iter().chain(&message.authority) {
        let _ = verify(set, &keys, NOW, &budget);
    }
    let signed: Vec<RrSet> = message
        .authority
        .iter()
        .filter(|set| matches!(set.rtype, RecordType::NSEC | RecordType::NSEC3) && zone.zone_of(&set.name))
        .take(limits::DENIAL_RRSETS_PER_RESPONSE)
        .map(|set| signer.sign(set.clone()))
        .collect();
    if signed.is_empty() {
        return;
    }
    let (denials, reason) = Denials::collect(zone, &signed, &signer.keys(), NOW, &Budget::default());
    assert_eq!(reason, None);
    let below = |label| zone.prepend_label(label).unwrap_or_else(|_| zone.clone());
    for name in [name.clone(), below("a"), below("*"), zone.clone()] {
        let budget = Budget::default();
        let _ = denials.name_error(&name, &budget);
        let _ = denials.wildcard_answer(&name, zone, &budget);
        let _ = denials.no_ds(&name, &budget);
        for rtype in QUESTION_TYPES {
            let _ = denials.no_data(&name, RecordType::from(rtype), &budget);
        }
    }
}
