//! Messages to clients, octet by octet, with compressed names (RFC 1035 §4.1.4).

use hickory_proto::rr::RecordType;

use crate::resolver::message::CLASS_IN;
use crate::resolver::rrset::{RrSet, read_name, wire_name};

/// Places a later name may point to; beyond, names are written in full.
const PLACES: usize = 64;
/// A pointer has 14 bits.
const FARTHEST: usize = 0x3fff;

/// A message that grows.
#[derive(Debug)]
pub(super) struct Writer {
    octets: Vec<u8>,
    places: Vec<usize>,
    /// Where TTLs stand.
    ttls: Vec<usize>,
}

impl Writer {
    /// A message that begins with this header and question; counts are set by [`Writer::set_count`].
    pub fn new(header: [u8; 12], question: &[u8]) -> Self {
        let mut writer = Self { octets: Vec::with_capacity(512), places: Vec::with_capacity(16), ttls: Vec::new() };
        writer.octets.extend_from_slice(&header);
        if let Some(name) = question.get(..question.len().saturating_sub(4)) {
            writer.name(name);
            writer.octets.extend_from_slice(question.get(name.len()..).unwrap_or_default());
        }
        writer
    }

    /// Octets so far.
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// Sets the count of section `index` (0 is the question).
    pub fn set_count(&mut self, index: usize, count: u16) {
        let at = 4 + 2 * index;
        if let Some(place) = self.octets.get_mut(at..at + 2) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }

    /// The count of section `index`.
    pub fn count(&self, index: usize) -> u16 {
        let place = self.octets.get(4 + 2 * index..).and_then(|rest| rest.first_chunk());
        place.map_or(0, |octets| u16::from_be_bytes(*octets))
    }

    /// Adds octets as they are.
    pub fn raw(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Adds a set, with its signatures where wanted; gives the number of records.
    pub fn set(&mut self, set: &RrSet, ttl: u32, signatures: bool) -> u16 {
        let owner = wire_name(&set.name);
        let mut count = 0_u16;
        for rdata in &set.rdatas {
            self.record(&owner, set.rtype, ttl, |writer| writer.rdata(set.rtype, rdata));
            count = count.saturating_add(1);
        }
        for sig in set.sigs.iter().filter(|_| signatures) {
            self.record(&owner, RecordType::RRSIG, ttl, |writer| {
                writer.raw(&sig.head());
                writer.raw(&sig.signature);
            });
            count = count.saturating_add(1);
        }
        count
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.octets
    }

    /// The octets from `start` on, and where TTLs stand in them.
    pub fn finish_from(self, start: usize) -> (Box<[u8]>, Box<[u16]>) {
        // A message has at most 65,535 octets.
        let ttls = self.ttls.iter().map(|at| at.saturating_sub(start) as u16).collect();
        (self.octets.get(start..).unwrap_or_default().into(), ttls)
    }

    fn record(&mut self, owner: &[u8], rtype: RecordType, ttl: u32, rdata: impl FnOnce(&mut Self)) {
        self.name(owner);
        self.raw(&u16::from(rtype).to_be_bytes());
        self.raw(&CLASS_IN.to_be_bytes());
        self.ttls.push(self.octets.len());
        self.raw(&ttl.to_be_bytes());
        let length_at = self.octets.len();
        self.raw(&[0, 0]);
        rdata(self);
        // RDATA came off the wire with at most 65,535 octets, and compression only shortens it.
        let length = self.octets.len().saturating_sub(length_at + 2) as u16;
        if let Some(place) = self.octets.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Names in RDATA are compressed only for the types of RFC 1035 (RFC 3597 §4).
    fn rdata(&mut self, rtype: RecordType, rdata: &[u8]) {
        let (before, names) = match rtype {
            RecordType::NS | RecordType::CNAME | RecordType::PTR => (0, 1),
            RecordType::MX => (2, 1),
            RecordType::SOA => (0, 2),
            _ => (0, 0),
        };
        let (fixed, mut rest) = rdata.split_at_checked(before).unwrap_or((&[], rdata));
        self.raw(fixed);
        for _ in 0..names {
            let Ok((_, used)) = read_name(rest) else { break };
            let (name, after) = rest.split_at_checked(used).unwrap_or((rest, &[]));
            self.name(name);
            rest = after;
        }
        self.raw(rest);
    }

    /// Adds an uncompressed name, as far as it is not there yet.
    fn name(&mut self, name: &[u8]) {
        let mut rest = name;
        while let Some((&length @ 1.., after)) = rest.split_first() {
            if let Some(place) = self.places.iter().find(|place| self.holds(**place, rest)) {
                // Places are at most FARTHEST.
                let pointer = 0xc000 | *place as u16;
                return self.raw(&pointer.to_be_bytes());
            }
            if self.octets.len() <= FARTHEST && self.places.len() < PLACES {
                self.places.push(self.octets.len());
            }
            let (label, after) = after.split_at_checked(usize::from(length)).unwrap_or((after, &[]));
            self.octets.push(length);
            self.octets.extend_from_slice(label);
            rest = after;
        }
        self.octets.push(0);
    }

    /// Whether the name at `place` is `name`, letters of either case alike.
    fn holds(&self, mut place: usize, mut name: &[u8]) -> bool {
        loop {
            match self.octets.get(place..) {
                // Pointers only lead backwards: this ends.
                Some([high @ 0xc0..=0xff, low, ..]) => place = usize::from(high & 0x3f) << 8 | usize::from(*low),
                Some([0, ..]) => return name == [0],
                Some([length, rest @ ..]) => {
                    let length = usize::from(*length);
                    let (Some(here), Some(there)) = (rest.get(..length), name.get(1..=length)) else { return false };
                    if name.first().copied().map(usize::from) != Some(length) || !here.eq_ignore_ascii_case(there) {
                        return false;
                    }
                    place += 1 + length;
                    name = name.get(1 + length..).unwrap_or_default();
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::message::Message;
    use hickory_proto::rr::Name;
    use std::str::FromStr;

    #[test]
    fn what_is_written_reads_back_and_repeated_names_are_pointers() {
        let name = Name::from_str("example.com.").expect("a name");
        let target = |text: &str| wire_name(&Name::from_str(text).expect("a name"));
        let mx = |text: &str| [&[0, 10], &*target(text)].concat().into_boxed_slice();
        let set = RrSet {
            name: name.clone(),
            rtype: RecordType::MX,
            ttl: 300,
            rdatas: vec![mx("mx1.example.com."), mx("mx2.example.com."), mx("other.test.")],
            sigs: Vec::new(),
        };
        let question = [&*target("eXample.com."), &[0, 15, 0, 1]].concat();
        let mut writer = Writer::new([0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0], &question);
        let count = writer.set(&set, 120, true);
        writer.set_count(1, count);
        let octets = writer.finish();
        assert_eq!(octets.len(), 12 + 17 + (12 + 2 + 6) * 2 + (12 + 2 + 12));
        let message = Message::parse(&octets).expect("a message");
        assert_eq!(message.answer, vec![RrSet { ttl: 120, ..set }]);
    }
}
