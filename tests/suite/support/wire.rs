//! Messages of the test world: queries in, replies out, with name compression where RFC 3597 §4 allows it.

use std::collections::HashMap;

use super::name::DnsName;
use super::record::{Part, Rdata, rtype};

/// A question as a server reads it.
#[derive(Clone, Debug)]
pub struct Question {
    pub id: u16,
    /// Name in the case it came in.
    pub name: DnsName,
    pub rtype: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// UDP payload size and DO bit, where the query has EDNS.
    pub edns: Option<(u16, bool)>,
    /// Client cookie, or client and server cookie.
    pub cookie: Option<Vec<u8>>,
}

impl Question {
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?));
        let flags = word(2)?;
        if flags & 0xf800 != 0 || word(4)? != 1 || word(6)? != 0 || word(8)? != 0 {
            return None;
        }
        let mut position = 12;
        let name = DnsName::read(octets, &mut position)?;
        let (rtype, class) = (word(position)?, word(position + 2)?);
        position += 4;
        if class != 1 {
            return None;
        }
        let mut question = Self {
            id: word(0)?,
            name,
            rtype,
            recursion_desired: flags & 0x0100 != 0,
            checking_disabled: flags & 0x0010 != 0,
            edns: None,
            cookie: None,
        };
        for _ in 0..word(10)? {
            DnsName::read(octets, &mut position)?;
            let (found, payload, flags) = (word(position)?, word(position + 2)?, word(position + 6)?);
            let length = usize::from(word(position + 8)?);
            position += 10;
            if found == rtype::OPT {
                question.edns = Some((payload, flags & 0x8000 != 0));
                question.cookie = find_option(octets.get(position..position + length)?, 10);
            }
            position += length;
        }
        (position == octets.len()).then_some(question)
    }

    pub fn wants_dnssec(&self) -> bool {
        self.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok)
    }
}

fn find_option(mut options: &[u8], wanted: u16) -> Option<Vec<u8>> {
    while options.len() >= 4 {
        let code = u16::from_be_bytes([options[0], options[1]]);
        let length = usize::from(u16::from_be_bytes([options[2], options[3]]));
        let value = options.get(4..4 + length)?;
        if code == wanted {
            return Some(value.to_vec());
        }
        options = &options[4 + length..];
    }
    None
}

/// A record on its way out.
pub struct OutRecord {
    pub name: DnsName,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Rdata,
}

/// A message under construction. Fields are public so that faults can write nonsense.
pub struct OutMessage {
    pub id: u16,
    pub authoritative: bool,
    pub truncated: bool,
    pub recursion_available: bool,
    pub rcode: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    pub question: Option<(DnsName, u16)>,
    pub answer: Vec<OutRecord>,
    pub authority: Vec<OutRecord>,
    pub additional: Vec<OutRecord>,
    /// EDNS with DO copied from the query, and these options.
    pub edns: Option<(bool, Vec<EdnsOption>)>,
}

/// Code and octets.
pub type EdnsOption = (u16, Vec<u8>);

impl OutMessage {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer { out: Vec::new(), places: HashMap::new() };
        writer.word(self.id);
        let flags = 0x8000
            | u16::from(self.authoritative) << 10
            | u16::from(self.truncated) << 9
            | u16::from(self.recursion_desired) << 8
            | u16::from(self.recursion_available) << 7
            | u16::from(self.checking_disabled) << 4
            | (self.rcode & 0x0f);
        writer.word(flags);
        writer.word(u16::from(self.question.is_some()));
        writer.word(self.answer.len() as u16);
        writer.word(self.authority.len() as u16);
        writer.word((self.additional.len() + usize::from(self.edns.is_some())) as u16);
        if let Some((name, qtype)) = &self.question {
            writer.name(name, true);
            writer.word(*qtype);
            writer.word(1);
        }
        for record in self.answer.iter().chain(&self.authority).chain(&self.additional) {
            writer.record(record);
        }
        if let Some((dnssec_ok, options)) = &self.edns {
            writer.out.push(0);
            writer.word(rtype::OPT);
            writer.word(1232);
            writer.word(self.rcode >> 4 << 8);
            writer.word(u16::from(*dnssec_ok) << 15);
            writer.word(options.iter().map(|(_, value)| 4 + value.len() as u16).sum());
            for (code, value) in options {
                writer.word(*code);
                writer.word(value.len() as u16);
                writer.out.extend_from_slice(value);
            }
        }
        writer.out
    }
}

struct Writer {
    out: Vec<u8>,
    /// Where each name, exactly as written, already stands.
    places: HashMap<Vec<u8>, u16>,
}

impl Writer {
    fn word(&mut self, word: u16) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    fn name(&mut self, name: &DnsName, compress: bool) {
        let labels = name.labels();
        for (at, label) in labels.iter().enumerate() {
            let rest: Vec<u8> =
                labels[at..].iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat()).collect();
            if compress && let Some(place) = self.places.get(&rest) {
                let pointer = 0xc000 | *place;
                self.word(pointer);
                return;
            }
            if self.out.len() < 0x4000 {
                self.places.insert(rest, self.out.len() as u16);
            }
            self.out.push(label.len() as u8);
            self.out.extend_from_slice(label);
        }
        self.out.push(0);
    }

    fn record(&mut self, record: &OutRecord) {
        self.name(&record.name, true);
        self.word(record.rtype);
        self.word(1);
        self.out.extend_from_slice(&record.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.word(0);
        let compress = matches!(record.rtype, rtype::NS | rtype::CNAME | rtype::SOA | rtype::PTR | rtype::MX);
        for part in &record.rdata.0 {
            match part {
                Part::Octets(octets) => self.out.extend_from_slice(octets),
                Part::Name(name) => self.name(name, compress),
            }
        }
        let length = (self.out.len() - length_at - 2) as u16;
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
}
