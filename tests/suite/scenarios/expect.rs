//! What a scenario expects of an answer, compared with what a client got.
//!
//! `MATCH all` compares the response code, AD, CD and the answer section exactly. Relaxed, each for a reason:
//! - AA, RA and RD are not compared: the scripts differ among themselves, and nobody believes them.
//! - DO and EDNS are not compared: some scripts leave them out though the question had them.
//! - Where the script shows signatures over an RRset, one of them must be there; which of several is no matter.
//! - TTLs may be lower: caches count down, signatures and our own bounds cap them.
//! - Authority: where the script shows an SOA, the same zone's SOA must be there; the rest is the proof, whose form
//!   a validating stub does not prescribe. Additional: not compared, a stub needs none of it.

use hickory_proto::rr::{Name, RecordType};
use postseal::resolver::message::Message;
use postseal::resolver::rrset::{RrSet, canonical_rdata};

use super::records::TextRecord;
use super::script::Entry;

/// Everything in which `got` differs from what `expected` shows, as sentences; none if it holds.
pub fn differences(expected: &Entry, got: &Message) -> Vec<String> {
    let part = |name: &str| expected.matches.is_empty() || expected.matches("all") || expected.matches(name);
    let mut found = Vec::new();
    if part("rcode") && u16::from(got.rcode) != expected.rcode() {
        found.push(format!("rcode {:?} instead of {}", got.rcode, expected.rcode()));
    }
    if part("flags") {
        for (flag, value) in [("AD", got.authentic), ("CD", got.checking_disabled)] {
            if expected.flag(flag) != value {
                found.push(format!("{flag} is {value}"));
            }
        }
    }
    let asked = got.question.as_ref().map(|question| (question.name.to_lowercase(), question.rtype));
    let should = expected.question.as_ref().map(|(name, rtype)| (name.to_lowercase(), *rtype));
    if (part("question") || part("qname")) && should.is_some() && asked != should {
        found.push(format!("question {asked:?} instead of {should:?}"));
    }
    if part("answer") {
        compare_answer(&expected.sections[0], got, &mut found);
    }
    if part("authority") {
        let zone_of_soa = |records: &[TextRecord]| {
            records.iter().find(|record| record.rtype == RecordType::SOA).map(|soa| soa.name.clone())
        };
        if let Some(zone) = zone_of_soa(&expected.sections[1])
            && !got.authority.iter().any(|set| set.rtype == RecordType::SOA && set.name == zone)
        {
            found.push(format!("no SOA of {zone} in the authority section"));
        }
    }
    found
}

fn compare_answer(expected: &[TextRecord], got: &Message, found: &mut Vec<String>) {
    let data = |records: &[&TextRecord]| {
        let mut all: Vec<Vec<u8>> = records
            .iter()
            .map(|record| canonical_rdata(record.rtype, &record.rdata).expect("RDATA of the script is well formed"))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let mut sets: Vec<(Name, RecordType)> = Vec::new();
    for record in expected.iter().filter(|record| record.rtype != RecordType::RRSIG) {
        let key = (record.name.clone(), record.rtype);
        if !sets.contains(&key) {
            sets.push(key);
        }
    }
    for (name, rtype) in &sets {
        let should: Vec<&TextRecord> =
            expected.iter().filter(|record| record.name == *name && record.rtype == *rtype).collect();
        let Some(set) = got.answer.iter().find(|set| set.name == *name && set.rtype == *rtype) else {
            found.push(format!("no {name} {rtype} in the answer"));
            continue;
        };
        if set.canonical_rdatas() != data(&should) {
            found.push(format!("{name} {rtype} has other records"));
        }
        if let Some(ttl) = should.iter().filter_map(|record| record.ttl).max().filter(|ttl| set.ttl > *ttl) {
            found.push(format!("{name} {rtype} has TTL {} instead of at most {ttl}", set.ttl));
        }
        let sigs: Vec<&TextRecord> =
            expected.iter().filter(|record| record.name == *name && signs(record, *rtype)).collect();
        if !sigs.is_empty() && !sigs.iter().any(|sig| holds_signature(set, sig)) {
            found.push(format!("{name} {rtype} without the signature shown"));
        }
    }
    for set in &got.answer {
        if !sets.contains(&(set.name.clone(), set.rtype)) {
            found.push(format!("{} {} in the answer, which is not expected", set.name, set.rtype));
        }
    }
    // A question for RRSIG itself: signatures stand alone.
    let alone = |record: &&TextRecord| {
        record.rtype == RecordType::RRSIG
            && !sets.iter().any(|(name, rtype)| record.name == *name && signs(record, *rtype))
    };
    let alone: Vec<&TextRecord> = expected.iter().filter(alone).collect();
    let holds = |record: &&TextRecord| {
        got.loose_sigs.iter().any(|(name, sig)| *name == record.name && record.rdata.ends_with(&sig.signature))
    };
    if alone.len() != got.loose_sigs.len() || !alone.iter().all(holds) {
        found.push(format!("{} signatures alone instead of {}", got.loose_sigs.len(), alone.len()));
    }
}

fn signs(record: &TextRecord, rtype: RecordType) -> bool {
    record.rtype == RecordType::RRSIG && record.rdata.starts_with(&u16::from(rtype).to_be_bytes())
}

fn holds_signature(set: &RrSet, sig: &TextRecord) -> bool {
    set.sigs.iter().any(|held| sig.rdata.ends_with(&held.signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::records::{parse_name, parse_record};
    use postseal::resolver::message::{Query, Rcode};

    fn expectation() -> Entry {
        let mut entry = Entry { matches: vec!["all".into()], ..Entry::default() };
        entry.flags = ["QR", "RD", "RA", "AD", "NOERROR"].map(str::to_owned).to_vec();
        entry.question = Some((parse_name("www.example.").expect("a name"), RecordType::A));
        entry.sections[0] = vec![parse_record("www.example. 60 IN A 192.0.2.1").expect("a record")];
        entry.sections[1] = vec![parse_record("example. IN SOA . . 1 2 3 4 5").expect("a record")];
        entry
    }

    fn answer() -> Message {
        let name = parse_name("WWW.example.").expect("a name");
        let query = Query { name: name.clone(), rtype: RecordType::A, recursion_desired: true, edns: None };
        let mut message = Message::parse(&query.encode(1)).expect("a message");
        message.authentic = true;
        let set = |name: &str, rtype, rdata: &[u8]| RrSet {
            name: parse_name(name).expect("a name"),
            rtype,
            ttl: 59,
            rdatas: vec![rdata.into()],
            sigs: Vec::new(),
        };
        message.answer = vec![set("www.example.", RecordType::A, &[192, 0, 2, 1])];
        message.authority = vec![set("example.", RecordType::SOA, &[0; 22])];
        message
    }

    #[test]
    fn each_difference_that_matters_is_found_and_no_other() {
        assert_eq!(differences(&expectation(), &answer()), Vec::<String>::new());
        let found = |change: &dyn Fn(&mut Message)| {
            let mut message = answer();
            change(&mut message);
            differences(&expectation(), &message).join("; ")
        };
        assert_eq!(found(&|m| m.authentic = false), "AD is false");
        assert_eq!(found(&|m| m.rcode = Rcode::ServFail), "rcode ServFail instead of 0");
        assert_eq!(found(&|m| m.answer.clear()), "no www.example. A in the answer");
        assert_eq!(found(&|m| m.answer[0].rdatas[0] = [192, 0, 2, 2].into()), "www.example. A has other records");
        assert_eq!(found(&|m| m.answer[0].ttl = 61), "www.example. A has TTL 61 instead of at most 60");
        assert_eq!(found(&|m| m.authority.clear()), "no SOA of example. in the authority section");
        let extra = |m: &mut Message| {
            let mut set = m.answer[0].clone();
            set.rtype = RecordType::CNAME;
            m.answer.push(set);
        };
        assert_eq!(found(&extra), "www.example. CNAME in the answer, which is not expected");
        assert_eq!(found(&|m| (m.authoritative, m.recursion_available) = (true, false)), "");
    }
}
