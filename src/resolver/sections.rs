//! The sections of a message: records one by one, and the RRsets that they are put together to.

use std::collections::{HashMap, HashSet};

use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::message::MessageError;
use super::rrset::{RrSet, Rrsig};
use crate::limits;

/// Signatures with their owners, without the RRsets they cover.
pub(super) type LooseSigs = Vec<(Name, Rrsig)>;

/// A record up to its RDATA.
pub(super) struct Head<'a> {
    pub name: Name,
    pub rtype: RecordType,
    pub class: u16,
    pub ttl: u32,
    /// Where the RDATA begins; messages have at most 65,535 octets.
    pub begins: u16,
    pub rdata: &'a [u8],
}

impl<'a> Head<'a> {
    /// Reads it, and moves on to the next record.
    pub fn read(decoder: &mut BinDecoder<'a>) -> Result<Self, MessageError> {
        let name = Name::read(decoder).map_err(|_| MessageError::Malformed)?.to_lowercase();
        let rtype = RecordType::from(read_u16(decoder)?);
        let class = read_u16(decoder)?;
        let ttl = decoder.read_u32().map_err(|_| MessageError::Malformed)?.unverified();
        let length = usize::from(read_u16(decoder)?);
        let begins = u16::try_from(decoder.index()).map_err(|_| MessageError::Malformed)?;
        let rdata = decoder.read_slice(length).map_err(|_| MessageError::Malformed)?.unverified();
        Ok(Self { name, rtype, class, ttl, begins, rdata })
    }
}

/// What a section holds.
#[derive(Default)]
pub(super) struct Records {
    sets: Sets,
    sigs: LooseSigs,
}

impl Records {
    pub fn add(&mut self, head: &Head<'_>, rdata: Box<[u8]>) -> Result<(), MessageError> {
        let &Head { ref name, rtype, ttl, .. } = head;
        // RFC 2181 §8: a TTL with the top bit set counts as zero.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        if rtype == RecordType::RRSIG {
            if self.sigs.len() >= limits::RECORDS_PER_RRSET {
                return Err(MessageError::TooMany);
            }
            self.sigs.push((name.clone(), Rrsig::parse(&rdata, ttl)?));
            return Ok(());
        }
        match self.sets.find(name, rtype) {
            Some(set) if set.rdatas.len() >= limits::RECORDS_PER_RRSET => return Err(MessageError::TooMany),
            Some(set) => {
                set.ttl = set.ttl.min(ttl);
                set.rdatas.push(rdata);
            }
            None => {
                self.sets.push(RrSet { name: name.clone(), rtype, ttl, rdatas: vec![rdata], sigs: Vec::new() });
            }
        }
        Ok(())
    }

    /// The RRsets, each with its signatures, and signatures of RRsets that are not there.
    pub fn put_together(self) -> (Vec<RrSet>, LooseSigs) {
        let Self { mut sets, sigs } = self;
        for set in sets.list.iter_mut().filter(|set| set.rdatas.len() > 1) {
            let mut seen = HashSet::new();
            set.rdatas.retain(|rdata| seen.insert(rdata.clone()));
        }
        let mut loose = Vec::new();
        for (name, sig) in sigs {
            match sets.find(&name, sig.covered) {
                Some(set) => set.sigs.push(sig),
                None => loose.push((name, sig)),
            }
        }
        (sets.list, loose)
    }
}

/// The RRsets of a section, in the order they came. The first few are looked through; a table of all is made only for
/// messages that hold more, so that none can make this slow.
#[derive(Default)]
struct Sets {
    list: Vec<RrSet>,
    places: HashMap<(Name, RecordType), usize>,
}

/// RRsets that are looked through: more than an ordinary section holds.
pub(super) const FEW_SETS: usize = 16;

impl Sets {
    fn find(&mut self, name: &Name, rtype: RecordType) -> Option<&mut RrSet> {
        let place = if self.places.is_empty() {
            self.list.iter().position(|set| set.rtype == rtype && set.name == *name)?
        } else {
            *self.places.get(&(name.clone(), rtype))?
        };
        self.list.get_mut(place)
    }

    /// Adds a set that is not there yet.
    fn push(&mut self, set: RrSet) {
        self.list.push(set);
        if self.list.len() > FEW_SETS {
            let new = self.list.iter().enumerate().skip(self.places.len());
            self.places.extend(new.map(|(place, set)| ((set.name.clone(), set.rtype), place)));
        }
    }
}

pub(super) fn read_u16(decoder: &mut BinDecoder<'_>) -> Result<u16, MessageError> {
    Ok(decoder.read_u16().map_err(|_| MessageError::Malformed)?.unverified())
}
