//! The pretend internet of a scenario: a [`Network`] whose servers answer as the script says.
//!
//! A query that the script does not foresee is answered from the scenario's own records, as its zones imply:
//! a referral, an RRset found elsewhere in the script, or NODATA. Such queries are counted.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use postseal::dns::BoxFuture;
use postseal::resolver::message::{Message, Question};
use postseal::resolver::rrset::read_name;
use postseal::resolver::transport::{Accept, NetError, Network, QuestionId, sent_again_at};
use tokio::sync::Notify;

use super::records::TextRecord;
use super::script::{Entry, Range, Script};

/// One question of the engine, as it came to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The server.
    pub server: IpAddr,
    /// The name, lower case.
    pub name: Name,
    /// The type.
    pub rtype: RecordType,
    /// How the answer came about.
    pub answered: Answered,
}

/// How a server comes to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The script has it.
    Scripted,
    /// The script's zones imply it.
    Implied,
    /// Nobody is there at this step.
    Silence,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({:?})", self.server, self.name, self.rtype, self.answered)
    }
}

/// The servers of one scenario.
pub struct ScriptedServers {
    script: Arc<Script>,
    step: AtomicU32,
    /// Zones by name, with the addresses of their name servers wherever the script gives them.
    zones: HashMap<Name, Vec<IpAddr>>,
    asked: Mutex<Vec<Asked>>,
}

/// Flags, code and sections of a reply.
struct Reply {
    /// `None`: a reply without a question section.
    question: Option<(Name, RecordType)>,
    authoritative: bool,
    flags: Vec<String>,
    rcode: u16,
    sections: [Vec<TextRecord>; 3],
}

impl ScriptedServers {
    /// The servers of `script`, before its first step.
    pub fn new(script: Arc<Script>) -> Self {
        let mut addresses: HashMap<Name, Vec<IpAddr>> = HashMap::new();
        let mut zones: HashMap<Name, Vec<IpAddr>> = HashMap::new();
        let records =
            || script.ranges.iter().flat_map(|range| &range.entries).flat_map(|entry| entry.sections.iter().flatten());
        for record in records() {
            let address: IpAddr = match (record.rtype, &record.rdata[..]) {
                (RecordType::A, [a, b, c, d]) => [*a, *b, *c, *d].into(),
                (RecordType::AAAA, octets) => {
                    <[u8; 16]>::try_from(octets).expect("an AAAA record has 16 octets").into()
                }
                _ => continue,
            };
            addresses.entry(record.name.clone()).or_default().push(address);
        }
        for record in records().filter(|record| record.rtype == RecordType::NS) {
            let (server, _) = read_name(&record.rdata).expect("an NS record holds a name");
            let of_server = addresses.get(&server.to_lowercase()).map(Vec::as_slice).unwrap_or_default();
            zones.entry(record.name.clone()).or_default().extend(of_server);
        }
        zones.entry(Name::root()).or_default().extend(&script.roots);
        Self { script, step: AtomicU32::new(0), zones, asked: Mutex::default() }
    }

    /// Ranges are chosen by this step number from now on.
    pub fn set_step(&self, step: u32) {
        self.step.store(step, Ordering::SeqCst);
    }

    /// All that the engine asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The answer of the server at `address`, or silence.
    fn answer(&self, address: IpAddr, octets: &[u8]) -> Option<Vec<u8>> {
        let query = Message::parse(octets).expect("the engine sends well-formed queries");
        let question = query.question.clone().expect("the engine asks one question");
        let note = |answered| {
            let name = question.name.to_lowercase();
            self.asked.lock().push(Asked { server: address, name, rtype: question.rtype, answered });
        };
        let ranges: Vec<&Range> = self.active().filter(|range| range.addresses.contains(&address)).collect();
        if ranges.is_empty() {
            note(Answered::Silence);
            return None;
        }
        let scripted = ranges.iter().flat_map(|range| &range.entries).find(|entry| fits(entry, &question));
        if let Some(entry) = scripted {
            note(Answered::Scripted);
            if let Some(raw) = &entry.raw {
                let mut raw = raw.clone();
                if entry.adjust.iter().any(|word| word == "copy_id") {
                    raw.iter_mut().zip(query.id.to_be_bytes()).for_each(|(octet, id)| *octet = id);
                }
                return Some(raw);
            }
            return Some(encode(&query, &question, &Reply::scripted(entry, &question)));
        }
        note(Answered::Implied);
        Some(encode(&query, &question, &self.implied(address, &question)))
    }

    fn active(&self) -> impl Iterator<Item = &Range> {
        let step = self.step.load(Ordering::SeqCst);
        self.script.ranges.iter().filter(move |range| (range.from..=range.to).contains(&step))
    }

    /// What the zones at `address` imply for a question that is not in the script.
    fn implied(&self, address: IpAddr, question: &Question) -> Reply {
        let name = question.name.to_lowercase();
        let mut reply = Reply {
            question: Some((question.name.clone(), question.rtype)),
            authoritative: true,
            flags: Vec::new(),
            rcode: 0,
            sections: Default::default(),
        };
        // A DS belongs to the parent (RFC 4035 §3.1.4.1).
        let is_inside =
            |zone: &Name| zone.zone_of(&name) && (question.rtype != RecordType::DS || *zone != name || zone.is_root());
        let deepest = |zones: Vec<&Name>| zones.into_iter().max_by_key(|zone| zone.num_labels()).cloned();
        let served = self.zones.iter().filter(|(zone, servers)| is_inside(zone) && servers.contains(&address));
        let Some(zone) = deepest(served.map(|(zone, _)| zone).collect()) else {
            reply.rcode = 5;
            reply.authoritative = false;
            return reply;
        };
        let below = self.zones.keys().filter(|cut| is_inside(cut) && zone.zone_of(cut) && **cut != zone);
        if let Some(cut) = below.min_by_key(|cut| cut.num_labels()) {
            reply.authoritative = false;
            self.refer(&mut reply, cut);
            return reply;
        }
        let records = self.find(&name, question.rtype);
        if records.is_empty() {
            self.deny(&mut reply, &zone, &name);
        } else {
            reply.sections[0] = records;
        }
        reply
    }

    /// A referral: the NS of the cut, its DS or the proof that there is none, and glue.
    fn refer(&self, reply: &mut Reply, cut: &Name) {
        let entries = || self.active().flat_map(|range| &range.entries);
        let refers = |entry: &&Entry| {
            entry.sections[0].is_empty()
                && entry.sections[1].iter().any(|record| record.rtype == RecordType::NS && record.name == *cut)
        };
        match entries().find(refers) {
            Some(entry) => {
                reply.sections[1] = entry.sections[1].clone();
                reply.sections[2] = entry.sections[2].clone();
            }
            None => {
                let servers = self.find(cut, RecordType::NS);
                for server in servers.iter().filter(|record| record.rtype == RecordType::NS) {
                    let (server, _) = read_name(&server.rdata).expect("an NS record holds a name");
                    for rtype in [RecordType::A, RecordType::AAAA] {
                        reply.sections[2].extend(self.find(&server.to_lowercase(), rtype));
                    }
                }
                reply.sections[1] = servers;
            }
        }
        let speaks_of_ds =
            |record: &TextRecord| matches!(record.rtype, RecordType::DS | RecordType::NSEC | RecordType::NSEC3);
        if !reply.sections[1].iter().any(speaks_of_ds) {
            let ds = self.find(cut, RecordType::DS);
            if ds.is_empty() {
                let asked = entries().find(|entry| entry.question == Some((cut.clone(), RecordType::DS)));
                let proof = asked.map(|entry| entry.sections[1].clone()).unwrap_or_default();
                reply.sections[1]
                    .extend(proof.into_iter().filter(|record| speaks_of_ds(record) || covers_denial(record)));
            } else {
                reply.sections[1].extend(ds);
            }
        }
    }

    /// NODATA: the SOA of the zone and what the script has of its denial at `name`.
    fn deny(&self, reply: &mut Reply, zone: &Name, name: &Name) {
        reply.sections[1] = self.find(zone, RecordType::SOA);
        reply.sections[1].extend(self.find(name, RecordType::NSEC));
        let hashed = self.script.ranges.iter().flat_map(|range| &range.entries).flat_map(|entry| &entry.sections[1]);
        for record in hashed.filter(|record| record.rtype == RecordType::NSEC3 && record.name.base_name() == *zone) {
            if !reply.sections[1].contains(record) {
                reply.sections[1].extend(self.find(&record.name, RecordType::NSEC3));
            }
        }
    }

    /// An RRset with its signatures: from answers before authority before additional, signed before unsigned,
    /// what is active now before the rest of the script.
    fn find(&self, name: &Name, rtype: RecordType) -> Vec<TextRecord> {
        let of_set = |record: &&TextRecord| record.name == *name && (record.rtype == rtype || covers(record, rtype));
        let in_section = |range: &Range, section: usize| -> Option<Vec<TextRecord>> {
            let sets = range.entries.iter().map(|entry| {
                let mut set: Vec<TextRecord> = entry.sections[section].iter().filter(of_set).cloned().collect();
                set.dedup();
                set
            });
            let sets: Vec<_> = sets.filter(|set| set.iter().any(|record| record.rtype == rtype)).collect();
            let signed = sets.iter().position(|set| set.iter().any(|record| record.rtype == RecordType::RRSIG));
            sets.into_iter().nth(signed.unwrap_or(0))
        };
        let find_in = |ranges: &[&Range]| {
            (0..3).find_map(|section| {
                let found: Vec<_> = ranges.iter().filter_map(|range| in_section(range, section)).collect();
                let signed = found.iter().position(|set| set.iter().any(|record| record.rtype == RecordType::RRSIG));
                found.into_iter().nth(signed.unwrap_or(0))
            })
        };
        let active: Vec<&Range> = self.active().collect();
        let all: Vec<&Range> = self.script.ranges.iter().collect();
        find_in(&active).or_else(|| find_in(&all)).unwrap_or_default()
    }
}

impl Reply {
    fn scripted(entry: &Entry, question: &Question) -> Self {
        let copied = entry.adjust.iter().any(|word| word == "copy_query");
        let asked = (question.name.clone(), question.rtype);
        Self {
            question: match &entry.question {
                _ if copied => Some(asked),
                // A server gives the name back in the case it came (0x20).
                Some((name, rtype)) if *name == question.name => Some((asked.0, *rtype)),
                scripted => scripted.clone(),
            },
            authoritative: entry.flag("AA"),
            flags: entry.flags.clone(),
            rcode: entry.rcode(),
            sections: entry.sections.clone(),
        }
    }
}

/// An RRSIG over this type.
fn covers(record: &TextRecord, rtype: RecordType) -> bool {
    record.rtype == RecordType::RRSIG && record.rdata.starts_with(&u16::from(rtype).to_be_bytes())
}

fn covers_denial(record: &TextRecord) -> bool {
    [RecordType::DS, RecordType::NSEC, RecordType::NSEC3].iter().any(|rtype| covers(record, *rtype))
}

/// Whether an entry is the answer to this question.
fn fits(entry: &Entry, asked: &Question) -> bool {
    let Some((name, rtype)) = &entry.question else { return true };
    let name_fits = name.to_lowercase() == asked.name.to_lowercase();
    entry.matches.iter().all(|part| match part.to_ascii_lowercase().as_str() {
        "qname" => name_fits,
        "qtype" => *rtype == asked.rtype,
        "question" => name_fits && *rtype == asked.rtype,
        "subdomain" => name.zone_of(&asked.name),
        _ => true,
    })
}

fn push_name(out: &mut Vec<u8>, name: &Name) {
    for label in name.iter() {
        out.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        out.extend(label);
    }
    out.push(0);
}

/// The reply as octets, nothing compressed, EDNS where the query had it.
fn encode(query: &Message, asked: &Question, reply: &Reply) -> Vec<u8> {
    let flag = |word: &str| reply.flags.iter().any(|flag| flag.eq_ignore_ascii_case(word));
    let mut out = query.id.to_be_bytes().to_vec();
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(0x80 | bit(reply.authoritative, 4) | bit(flag("TC"), 2) | bit(query.recursion_desired, 1));
    out.push(
        bit(flag("RA"), 0x80) | bit(flag("AD"), 0x20) | bit(query.checking_disabled, 0x10) | (reply.rcode & 15) as u8,
    );
    let edns = query.edns.is_some();
    let count = |section: usize| u16::try_from(reply.sections[section].len()).expect("a short section");
    for count in [u16::from(reply.question.is_some()), count(0), count(1), count(2) + u16::from(edns)] {
        out.extend(count.to_be_bytes());
    }
    if let Some((name, rtype)) = &reply.question {
        push_name(&mut out, name);
        out.extend(u16::from(*rtype).to_be_bytes());
        out.extend(asked.class.to_be_bytes());
    }
    for record in reply.sections.iter().flatten() {
        push_name(&mut out, &record.name);
        out.extend(u16::from(record.rtype).to_be_bytes());
        out.extend(1_u16.to_be_bytes());
        out.extend(record.ttl.unwrap_or(3600).to_be_bytes());
        out.extend(u16::try_from(record.rdata.len()).expect("a short record").to_be_bytes());
        out.extend(&record.rdata);
    }
    if edns {
        out.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    }
    out
}

/// One way through the pretend internet, and how long silence lasts.
const ROUND_TRIP: Duration = Duration::from_millis(10);

impl ScriptedServers {
    async fn exchange(
        &self,
        server: SocketAddr,
        query: &[u8],
        accept: Accept<'_>,
        timeout: Duration,
    ) -> Result<Vec<u8>, NetError> {
        match self.answer(server.ip(), query).filter(|answer| accept(answer)) {
            Some(answer) => {
                tokio::time::sleep(ROUND_TRIP.min(timeout)).await;
                Ok(answer)
            }
            None => {
                tokio::time::sleep(timeout).await;
                Err(NetError::Timeout)
            }
        }
    }
}

impl Network for ScriptedServers {
    fn udp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        again: &'a Notify,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(sent_again_at(again, move || self.exchange(server, query, accept, timeout)))
    }

    fn tcp<'a>(
        &'a self,
        server: SocketAddr,
        _question: QuestionId,
        query: &'a [u8],
        accept: Accept<'a>,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, NetError>> {
        Box::pin(self.exchange(server, query, accept, timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postseal::resolver::message::{Query, Rcode};
    use std::str::FromStr;

    const SCRIPT: &str = "
stub-addr: 192.0.2.1
CONFIG_END
SCENARIO_BEGIN x
RANGE_BEGIN 0 100
ADDRESS 192.0.2.1
ENTRY_BEGIN
MATCH opcode qtype qname
ADJUST copy_id
REPLY QR NOERROR
SECTION QUESTION
www.example. IN A
SECTION AUTHORITY
example. IN NS ns.example.
SECTION ADDITIONAL
ns.example. IN A 192.0.2.2
ENTRY_END
RANGE_END
RANGE_BEGIN 0 10
ADDRESS 192.0.2.2
ENTRY_BEGIN
MATCH opcode qtype qname
ADJUST copy_id
REPLY QR AA NOERROR
SECTION QUESTION
example. IN DNSKEY
SECTION ANSWER
example. IN DNSKEY 257 3 13 AwEAAQ==
example. IN RRSIG DNSKEY 13 1 60 2 1 3 example. AQ==
SECTION AUTHORITY
example. IN SOA . . 1 2 3 4 5
ENTRY_END
RANGE_END
STEP 1 TIME_PASSES ELAPSE 1
SCENARIO_END
";

    async fn ask(servers: &ScriptedServers, address: &str, name: &str, rtype: RecordType) -> Result<Message, NetError> {
        let name = Name::from_str(name).expect("a name");
        let query = Query { name, rtype, recursion_desired: false, edns: Some(Box::default()) }.encode(7);
        let server = SocketAddr::new(address.parse().expect("an address"), 53);
        let octets = servers
            .udp(server, QuestionId::default(), &query, &|_| true, &Notify::new(), Duration::from_secs(1))
            .await?;
        Ok(Message::parse(&octets).expect("a message"))
    }

    #[tokio::test(start_paused = true)]
    async fn servers_answer_as_scripted_and_otherwise_as_their_zones_imply() {
        let script = Arc::new(Script::parse(SCRIPT).expect("a script"));
        let servers = ScriptedServers::new(script);
        let scripted = ask(&servers, "192.0.2.1", "wWw.example.", RecordType::A).await.expect("an answer");
        assert_eq!((scripted.id, scripted.authority[0].rtype), (7, RecordType::NS));
        assert!(scripted.question.expect("a question").name.eq_case(&Name::from_str("wWw.example.").expect("a name")));
        let referral = ask(&servers, "192.0.2.1", "other.example.", RecordType::TLSA).await.expect("an answer");
        assert!(!referral.authoritative && referral.answer.is_empty());
        assert_eq!((referral.authority[0].rtype, referral.additional.len()), (RecordType::NS, 1));
        let address = ask(&servers, "192.0.2.2", "ns.example.", RecordType::A).await.expect("an answer");
        assert_eq!((address.authoritative, address.answer.len()), (true, 1));
        let key = ask(&servers, "192.0.2.2", "example.", RecordType::DNSKEY).await.expect("an answer");
        assert_eq!(key.answer[0].sigs.len(), 1);
        let nodata = ask(&servers, "192.0.2.2", "x.example.", RecordType::TXT).await.expect("an answer");
        assert_eq!((nodata.rcode, nodata.authority[0].rtype), (Rcode::NoError, RecordType::SOA));
        let refused = ask(&servers, "192.0.2.2", "elsewhere.", RecordType::A).await.expect("an answer");
        assert_eq!(refused.rcode, Rcode::Refused);
        servers.set_step(11);
        assert_eq!(ask(&servers, "192.0.2.2", "example.", RecordType::DNSKEY).await, Err(NetError::Timeout));
        use Answered::{Implied, Scripted, Silence};
        let answered: Vec<Answered> = servers.asked().iter().map(|asked| asked.answered).collect();
        assert_eq!(answered, [Scripted, Implied, Implied, Scripted, Implied, Implied, Silence]);
    }
}
