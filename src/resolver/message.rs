//! DNS messages: octets in, [`Message`] out; questions out.
//!
//! Never believes anything: what a message says is judged by `iterate` and `validate`.

use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::rrset::{MalformedRdata, RrSet, Rrsig, expand_rdata};
use super::sections::{Head, LooseSigs, Records, read_u16};
use crate::limits;

/// Class IN; nothing else is asked or believed.
pub const CLASS_IN: u16 = 1;

/// Response codes the engine tells apart (IANA DNS RCODEs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rcode {
    /// 0.
    NoError,
    /// 1: the server did not understand the query; with EDNS often "no EDNS here".
    FormErr,
    /// 2.
    ServFail,
    /// 3.
    NxDomain,
    /// 4.
    NotImp,
    /// 5.
    Refused,
    /// 16.
    BadVers,
    /// 23: the server wants another cookie (RFC 7873 §5.3).
    BadCookie,
    /// Any other.
    Other(u16),
}

impl From<u16> for Rcode {
    fn from(code: u16) -> Self {
        match code {
            0 => Self::NoError,
            1 => Self::FormErr,
            2 => Self::ServFail,
            3 => Self::NxDomain,
            4 => Self::NotImp,
            5 => Self::Refused,
            16 => Self::BadVers,
            23 => Self::BadCookie,
            other => Self::Other(other),
        }
    }
}

impl From<Rcode> for u16 {
    fn from(code: Rcode) -> Self {
        match code {
            Rcode::NoError => 0,
            Rcode::FormErr => 1,
            Rcode::ServFail => 2,
            Rcode::NxDomain => 3,
            Rcode::NotImp => 4,
            Rcode::Refused => 5,
            Rcode::BadVers => 16,
            Rcode::BadCookie => 23,
            Rcode::Other(other) => other,
        }
    }
}

/// The question section of a message with exactly one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Name as written, case preserved.
    pub name: Name,
    /// Type asked for.
    pub rtype: RecordType,
    /// Class asked for.
    pub class: u16,
}

/// EDNS(0) as found in an OPT record (RFC 6891).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edns {
    /// UDP payload size of the sender.
    pub payload: u16,
    /// Version, 0 is all there is.
    pub version: u8,
    /// DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// Options, code and octets, at most [`limits::EDNS_OPTIONS`].
    pub options: Vec<(u16, Box<[u8]>)>,
}

/// EDNS option code of DNS cookies (RFC 7873 §4).
pub const OPTION_COOKIE: u16 = 10;

impl Edns {
    /// The octets of the first option with this code.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        self.options.iter().find(|(found, _)| *found == code).map(|(_, octets)| &**octets)
    }
}

/// A parsed message. Records of other classes than IN are dropped; records of one owner and type within a
/// section are one [`RrSet`], its RRSIGs beside it; RRSIGs over a type that is not there stay in `*_loose_sigs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Transaction id.
    pub id: u16,
    /// A response (QR).
    pub response: bool,
    /// Opcode, 0 is QUERY.
    pub opcode: u8,
    /// Authoritative answer.
    pub authoritative: bool,
    /// Truncated.
    pub truncated: bool,
    /// Recursion desired.
    pub recursion_desired: bool,
    /// Recursion available.
    pub recursion_available: bool,
    /// Authentic data.
    pub authentic: bool,
    /// Checking disabled.
    pub checking_disabled: bool,
    /// Response code, EDNS extension included.
    pub rcode: Rcode,
    /// The question, where there is exactly one.
    pub question: Option<Question>,
    /// Number of questions as the header says.
    pub questions: u16,
    /// Answer section.
    pub answer: Vec<RrSet>,
    /// Authority section.
    pub authority: Vec<RrSet>,
    /// Additional section without OPT.
    pub additional: Vec<RrSet>,
    /// EDNS, where there is an OPT record.
    pub edns: Option<Edns>,
    /// RRSIGs of the answer section without the RRset they cover: what a question for RRSIG gets.
    pub loose_sigs: Vec<(Name, Rrsig)>,
}

/// Why octets are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Shorter than it says, or with a name or length that makes no sense.
    #[error("malformed message")]
    Malformed,
    /// More records or options than [`limits`] allow.
    #[error("message with too many records or options")]
    TooMany,
}

impl From<MalformedRdata> for MessageError {
    fn from(_: MalformedRdata) -> Self {
        Self::Malformed
    }
}

impl Message {
    /// Parses a whole message. A truncated one (TC) may end anywhere: what came before counts, and will
    /// not be used.
    pub fn parse(octets: &[u8]) -> Result<Self, MessageError> {
        let (header, _) = octets.split_first_chunk::<12>().ok_or(MessageError::Malformed)?;
        let [i0, i1, f0, f1, q0, q1, a0, a1, n0, n1, r0, r1] = *header;
        let questions = u16::from_be_bytes([q0, q1]);
        let mut decoder = BinDecoder::new(octets);
        decoder.read_slice(12).map_err(|_| MessageError::Malformed)?;
        let mut message = Self {
            id: u16::from_be_bytes([i0, i1]),
            response: f0 & 0x80 != 0,
            opcode: (f0 >> 3) & 0x0f,
            authoritative: f0 & 0x04 != 0,
            truncated: f0 & 0x02 != 0,
            recursion_desired: f0 & 0x01 != 0,
            recursion_available: f1 & 0x80 != 0,
            authentic: f1 & 0x20 != 0,
            checking_disabled: f1 & 0x10 != 0,
            rcode: Rcode::from(u16::from(f1 & 0x0f)),
            question: None,
            questions,
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            edns: None,
            loose_sigs: Vec::new(),
        };
        for index in 0..questions {
            let question = read_question(&mut decoder)?;
            message.question = (index == 0 && questions == 1).then_some(question);
        }
        let counts = [u16::from_be_bytes([a0, a1]), u16::from_be_bytes([n0, n1]), u16::from_be_bytes([r0, r1])];
        match message.read_sections(&mut decoder, counts) {
            Err(MessageError::Malformed) if message.truncated => {}
            other => other?,
        }
        Ok(message)
    }

    fn read_sections(&mut self, decoder: &mut BinDecoder<'_>, counts: [u16; 3]) -> Result<(), MessageError> {
        let [answers, authorities, additionals] = counts;
        let (sets, loose) = self.read_section(decoder, answers)?;
        (self.answer, self.loose_sigs) = (sets, loose);
        (self.authority, _) = self.read_section(decoder, authorities)?;
        self.additional = self.read_additional(decoder, additionals)?;
        Ok(())
    }

    /// The additional section. In a response it only helps, so a record there that cannot be read is passed over, and one
    /// that does not end within the message ends the section: neither costs the answer.
    fn read_additional(&mut self, decoder: &mut BinDecoder<'_>, count: u16) -> Result<Vec<RrSet>, MessageError> {
        let mut records = Records::default();
        for _ in 0..count {
            let head = match Head::read(decoder) {
                Err(MessageError::Malformed) if self.response => break,
                head => head?,
            };
            match self.read_record(&head, decoder, &mut records) {
                Err(MessageError::Malformed) if self.response => {}
                read => read?,
            }
        }
        Ok(records.put_together().0)
    }

    fn read_section(
        &mut self,
        decoder: &mut BinDecoder<'_>,
        count: u16,
    ) -> Result<(Vec<RrSet>, LooseSigs), MessageError> {
        let mut records = Records::default();
        for _ in 0..count {
            let head = Head::read(decoder)?;
            self.read_record(&head, decoder, &mut records)?;
        }
        Ok(records.put_together())
    }

    /// Takes the record that `head` begins; `decoder` reads the same message.
    fn read_record(
        &mut self,
        head: &Head<'_>,
        decoder: &BinDecoder<'_>,
        records: &mut Records,
    ) -> Result<(), MessageError> {
        if head.rtype == RecordType::OPT {
            return self.read_opt(head.class, head.ttl, head.rdata);
        }
        // From where the RDATA begins, in the whole message: names in it may be compressed.
        let rdata = expand_rdata(head.rtype, &mut decoder.clone(head.begins), head.rdata.len())?;
        if head.class != CLASS_IN { Ok(()) } else { records.add(head, rdata) }
    }

    fn read_opt(&mut self, class: u16, ttl: u32, octets: &[u8]) -> Result<(), MessageError> {
        // RFC 6891 §6.1.1: more than one is an error.
        if self.edns.is_some() {
            return Err(MessageError::Malformed);
        }
        let [extended, version, flags, _] = ttl.to_be_bytes();
        self.rcode = Rcode::from(u16::from(self.rcode) & 0x0f | u16::from(extended) << 4);
        let edns = Edns { payload: class, version, dnssec_ok: flags & 0x80 != 0, options: Vec::new() };
        let edns = self.edns.insert(edns);
        let mut rest = octets;
        while !rest.is_empty() {
            let ([c0, c1, l0, l1], after) = rest.split_first_chunk::<4>().ok_or(MessageError::Malformed)?;
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let (value, after) = after.split_at_checked(length).ok_or(MessageError::Malformed)?;
            if edns.options.len() >= limits::EDNS_OPTIONS {
                return Err(MessageError::TooMany);
            }
            edns.options.push((u16::from_be_bytes([*c0, *c1]), value.into()));
            rest = after;
        }
        Ok(())
    }
}

fn read_question(decoder: &mut BinDecoder<'_>) -> Result<Question, MessageError> {
    let name = Name::read(decoder).map_err(|_| MessageError::Malformed)?;
    let rtype = RecordType::from(read_u16(decoder)?);
    Ok(Question { name, rtype, class: read_u16(decoder)? })
}

/// A question to an authoritative server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Name, in the case it is to be sent (0x20).
    pub name: Name,
    /// Type.
    pub rtype: RecordType,
    /// Recursion desired: only towards forwarders.
    pub recursion_desired: bool,
    /// Send EDNS(0) with DO and this cookie option (empty: none); `None` sends no EDNS at all.
    pub edns: Option<Box<[u8]>>,
}

impl Query {
    /// The query as octets; CD is set where EDNS is, so that a forwarder hands over what it has
    /// (RFC 4035 §3.2.2).
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.name.len() + 5 + 11 + 44);
        out.extend_from_slice(&id.to_be_bytes());
        let cd = if self.recursion_desired && self.edns.is_some() { 0x10 } else { 0 };
        out.extend_from_slice(&[u8::from(self.recursion_desired), cd]);
        out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        for label in self.name.iter() {
            // At most 63 octets: hickory's Name enforces RFC 1035 §2.3.4.
            out.push(label.len() as u8);
            out.extend_from_slice(label);
        }
        out.push(0);
        out.extend_from_slice(&u16::from(self.rtype).to_be_bytes());
        out.extend_from_slice(&CLASS_IN.to_be_bytes());
        if let Some(cookie) = &self.edns {
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&limits::EDNS_UDP_PAYLOAD.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0x80, 0]);
            let option = if cookie.is_empty() { 0 } else { 4 + cookie.len() as u16 };
            out.extend_from_slice(&option.to_be_bytes());
            if option > 0 {
                out.extend_from_slice(&OPTION_COOKIE.to_be_bytes());
                out.extend_from_slice(&(cookie.len() as u16).to_be_bytes());
                out.extend_from_slice(cookie);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::sections::FEW_SETS;
    use std::str::FromStr;

    #[test]
    fn a_query_reads_back_as_it_was_written() {
        let name = Name::from_str("_25._tcp.Mx.example.com.").expect("a name");
        let query = Query {
            name: name.clone(),
            rtype: RecordType::TLSA,
            recursion_desired: false,
            edns: Some(vec![1; 8].into()),
        };
        let message = Message::parse(&query.encode(77)).expect("a message");
        assert_eq!((message.id, message.response, message.opcode), (77, false, 0));
        let question = message.question.expect("a question");
        assert!(question.name.eq_case(&name));
        assert_eq!(question.rtype, RecordType::TLSA);
        let edns = message.edns.expect("EDNS");
        assert!(edns.dnssec_ok);
        assert_eq!(edns.payload, 1232);
        assert_eq!(edns.option(OPTION_COOKIE), Some(&[1_u8; 8][..]));
    }

    #[test]
    fn records_of_one_set_are_put_together_however_many_sets_lie_between() {
        for sets in [1, FEW_SETS as u8, 3 * FEW_SETS as u8] {
            // Two records for each name, and the first of them twice.
            let records: Vec<(u8, u8)> = (0..3).flat_map(|round| (0..sets).map(move |set| (set, round % 2))).collect();
            let mut octets = vec![0; 12];
            octets[7] = records.len() as u8;
            for (set, last) in &records {
                octets.extend([
                    1,
                    b'a' + set % 26,
                    1,
                    b'a' + set / 26,
                    0,
                    0,
                    1,
                    0,
                    1,
                    0,
                    0,
                    0,
                    60,
                    0,
                    4,
                    192,
                    0,
                    2,
                    *last,
                ]);
            }
            let message = Message::parse(&octets).expect("a message");
            assert_eq!(message.answer.len(), usize::from(sets));
            for (place, set) in message.answer.iter().enumerate() {
                assert_eq!(set.name.iter().next(), Some(&[b'a' + place as u8 % 26][..]), "in the order they came");
                assert_eq!(set.rdatas, [Box::from([192, 0, 2, 0]), Box::from([192, 0, 2, 1])]);
            }
        }
    }

    /// A response: one address as its answer, and these octets as its additional section of so many records.
    fn with_additional(count: u8, octets: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, count];
        message.extend([1, b'a', 0, 0, 1, 0, 1]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        message.extend(octets);
        message
    }

    #[test]
    fn what_cannot_be_read_in_the_additional_section_does_not_cost_the_answer() {
        const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
        let short_address = [1, b'b', 0, 0, 1, 0, 1, 0, 0, 0, 60, 0, 3, 192, 0, 2];
        let bad_name = [1, b'b', 0, 0, 2, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 0xff];
        let short_signature = [1, b'b', 0, 0, 46, 0, 1, 0, 0, 0, 60, 0, 2, 0, 1];
        for malformed in [&short_address[..], &bad_name, &short_signature] {
            for octets in [[malformed, &OPT].concat(), [&OPT, malformed].concat()] {
                let message = Message::parse(&with_additional(2, &octets)).expect("a message");
                assert_eq!(message.answer[0].rdatas, [Box::from([192, 0, 2, 1])]);
                assert!(message.additional.is_empty(), "{message:?}");
                assert!(message.edns.is_some_and(|edns| edns.dnssec_ok), "what is there is used");
            }
        }
        let endless = [&OPT[..], &[1, b'b', 0, 0, 1, 0, 1, 0, 0, 0, 60, 255, 255, 192]].concat();
        let message = Message::parse(&with_additional(3, &endless)).expect("a message");
        assert_eq!((message.answer.len(), message.edns.is_some()), (1, true));
        // BADVERS, and an option that is longer than the record.
        let odd = [0, 0, 41, 4, 208, 1, 0, 0x80, 0, 0, 4, 0, 10, 0, 99];
        let message = Message::parse(&with_additional(1, &odd)).expect("a message");
        assert_eq!((message.rcode, message.edns.map(|edns| edns.options)), (Rcode::BadVers, Some(Vec::new())));
    }

    #[test]
    fn what_cannot_be_read_elsewhere_does() {
        let answer = with_additional(0, &[]);
        for end in 12..answer.len() {
            assert!(Message::parse(&answer[..end]).is_err(), "prefix of {end}");
        }
    }

    #[test]
    fn any_prefix_of_a_message_is_an_error_and_never_a_panic() {
        let name = Name::from_str("example.com.").expect("a name");
        let octets =
            Query { name, rtype: RecordType::MX, recursion_desired: true, edns: Some(Box::default()) }.encode(1);
        for end in 0..octets.len() {
            assert!(Message::parse(&octets[..end]).is_err(), "prefix of {end}");
        }
    }
}
