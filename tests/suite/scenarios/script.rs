//! The `.rpl` format: a script in, what each server answers and what is asked and expected out.

use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};
use postseal::clock::UnixTime;

use super::records::{TextRecord, parse_name, parse_record, parse_time, parse_type};

/// One scenario.
#[derive(Debug, Default)]
pub struct Script {
    /// Lines of the `trust-anchor` settings.
    pub anchors: Vec<String>,
    /// Wall clock at the start.
    pub wall: Option<UnixTime>,
    /// Addresses of the root servers.
    pub roots: Vec<IpAddr>,
    /// `query-minimization: off`.
    pub no_minimisation: bool,
    /// `do-ip6: no`.
    pub no_ipv6: bool,
    /// `do-ip4: no`.
    pub no_ipv4: bool,
    /// `follow-anchors: yes`: the trust anchors follow roll-overs (RFC 5011).
    pub follow_anchors: bool,
    /// What servers answer.
    pub ranges: Vec<Range>,
    /// What happens, in order.
    pub steps: Vec<(u32, Step)>,
}

/// Answers of the servers at some addresses while the step number is within the bounds.
#[derive(Debug)]
pub struct Range {
    /// First step.
    pub from: u32,
    /// Last step.
    pub to: u32,
    /// Addresses of the server.
    pub addresses: Vec<IpAddr>,
    /// Answers; the first that fits is given.
    pub entries: Vec<Entry>,
}

/// One `ENTRY`: an answer of a server, a question of a client, or an expectation.
#[derive(Debug, Default)]
pub struct Entry {
    /// Words of `MATCH`.
    pub matches: Vec<String>,
    /// Words of `ADJUST`.
    pub adjust: Vec<String>,
    /// Words of `REPLY`: flags and a response code.
    pub flags: Vec<String>,
    /// The question.
    pub question: Option<(Name, RecordType)>,
    /// Answer, authority, additional.
    pub sections: [Vec<TextRecord>; 3],
    /// The message as octets, instead of all else.
    pub raw: Option<Vec<u8>>,
}

/// What happens at a step.
#[derive(Debug)]
pub enum Step {
    /// A client asks.
    Query(Entry),
    /// The answer to the last question is compared.
    Check(Entry),
    /// Time passes, in seconds.
    TimePasses(u64),
    /// The program ends and begins again, with what it stored.
    Restart,
    /// The states of the trust anchors are compared: `tag=state` for each, and perhaps `next=seconds` until the next
    /// look at the keys.
    CheckAnchors(Vec<String>),
    /// The log so far holds this text.
    CheckLog(String),
}

impl Entry {
    /// True where `REPLY` names this flag.
    pub fn flag(&self, flag: &str) -> bool {
        self.flags.iter().any(|word| word.eq_ignore_ascii_case(flag))
    }

    /// True where `MATCH` names this part.
    pub fn matches(&self, part: &str) -> bool {
        self.matches.iter().any(|word| word.eq_ignore_ascii_case(part))
    }

    /// The response code in `REPLY`; without one it is NOERROR.
    pub fn rcode(&self) -> u16 {
        let known = [
            ("FORMERR", 1),
            ("SERVFAIL", 2),
            ("NXDOMAIN", 3),
            ("NOTIMP", 4),
            ("NOTIMPL", 4),
            ("REFUSED", 5),
            ("YXDOMAIN", 6),
            ("NOTAUTH", 9),
        ];
        known.iter().find(|(word, _)| self.flag(word)).map_or(0, |(_, code)| *code)
    }
}

impl Script {
    /// Parses a whole file; an error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        let mut lines = Lines { lines: text.lines().enumerate().collect::<Vec<_>>().into_iter() };
        script.read(&mut lines).map_err(|error| format!("line {}: {error}", lines.number(text)))?;
        if script.steps.is_empty() {
            return Err("no steps".into());
        }
        Ok(script)
    }

    fn read(&mut self, lines: &mut Lines<'_>) -> Result<(), String> {
        for line in lines.by_ref() {
            if line == "CONFIG_END" {
                break;
            }
            self.read_setting(line)?;
        }
        while let Some(line) = lines.next() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["SCENARIO_BEGIN", ..] | ["ENTRY_END"] => {}
                ["SCENARIO_END", ..] => return Ok(()),
                ["RANGE_BEGIN", from, to] => {
                    let range = read_range(lines, number(from)?, number(to)?)?;
                    self.ranges.push(range);
                }
                ["STEP", step, "TIME_PASSES", "ELAPSE", seconds] => {
                    let seconds = seconds.parse().map_err(|_| format!("not seconds: `{seconds}`"))?;
                    self.steps.push((number(step)?, Step::TimePasses(seconds)));
                }
                ["STEP", step, "RESTART"] => self.steps.push((number(step)?, Step::Restart)),
                ["STEP", step, "CHECK_ANCHORS", expected @ ..] => {
                    let expected = expected.iter().map(|word| (*word).to_owned()).collect();
                    self.steps.push((number(step)?, Step::CheckAnchors(expected)));
                }
                ["STEP", step, "CHECK_LOG", ..] => {
                    let text = line.split_once("CHECK_LOG").map_or("", |(_, text)| text.trim());
                    self.steps.push((number(step)?, Step::CheckLog(text.to_owned())));
                }
                ["STEP", step, kind] => {
                    match lines.next() {
                        Some("ENTRY_BEGIN") => {}
                        other => return Err(format!("STEP without entry: {other:?}")),
                    }
                    let entry = read_entry(lines)?;
                    let what = match *kind {
                        "QUERY" => Step::Query(entry),
                        "CHECK_ANSWER" => Step::Check(entry),
                        other => return Err(format!("unknown step `{other}`")),
                    };
                    self.steps.push((number(step)?, what));
                }
                _ => return Err(format!("unexpected `{line}`")),
            }
        }
        Err("ends before SCENARIO_END".into())
    }

    fn read_setting(&mut self, line: &str) -> Result<(), String> {
        let Some((key, value)) = line.split_once(':') else { return Ok(()) };
        let value = value.trim();
        // A quoted value ends at its quote, others at a blank or comment.
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default(),
            None => value.split(['#', ';', ' ', '\t']).next().unwrap_or_default(),
        };
        match key.trim() {
            "trust-anchor" => self.anchors.push(value.to_owned()),
            "val-override-date" | "val-override-timestamp" => self.wall = Some(parse_time(value)?),
            "stub-addr" => self.roots.push(value.parse().map_err(|_| format!("not an address: `{value}`"))?),
            "query-minimization" => self.no_minimisation = value == "off",
            "do-ip6" => self.no_ipv6 = value == "no",
            "do-ip4" => self.no_ipv4 = value == "no",
            "follow-anchors" => self.follow_anchors = value == "yes",
            _ => {}
        }
        Ok(())
    }
}

/// Lines without blank ones and comments, trimmed.
struct Lines<'a> {
    lines: std::vec::IntoIter<(usize, &'a str)>,
}

impl Lines<'_> {
    /// The number of the line read last.
    fn number(&self, text: &str) -> usize {
        text.lines().count() - self.lines.len()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;
    fn next(&mut self) -> Option<&'a str> {
        self.lines.by_ref().map(|(_, line)| line.trim()).find(|line| !line.is_empty() && !line.starts_with([';', '#']))
    }
}

fn number(word: &str) -> Result<u32, String> {
    word.parse().map_err(|_| format!("not a step number: `{word}`"))
}

fn read_range(lines: &mut Lines<'_>, from: u32, to: u32) -> Result<Range, String> {
    let mut range = Range { from, to, addresses: Vec::new(), entries: Vec::new() };
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["RANGE_END", ..] => return Ok(range),
            ["ADDRESS", address, ..] => {
                range.addresses.push(address.parse().map_err(|_| format!("not an address: `{address}`"))?);
            }
            ["ENTRY_BEGIN", ..] => range.entries.push(read_entry(lines)?),
            _ => return Err(format!("unexpected `{line}` in a range")),
        }
    }
    Err("range without end".into())
}

fn read_entry(lines: &mut Lines<'_>) -> Result<Entry, String> {
    let mut entry = Entry::default();
    let mut section = None;
    let mut raw = None;
    for line in lines.by_ref() {
        let line_without_comment = line.split(';').next().unwrap_or_default();
        let words: Vec<&str> = line_without_comment.split_whitespace().collect();
        let rest = || words.iter().skip(1).map(|word| (*word).to_owned());
        match words.as_slice() {
            ["ENTRY_END", ..] => {
                entry.raw = raw;
                return Ok(entry);
            }
            ["MATCH", ..] => entry.matches.extend(rest()),
            ["ADJUST", ..] => entry.adjust.extend(rest()),
            ["REPLY" | "FLAGS", ..] => entry.flags.extend(rest()),
            ["RAW"] => raw = Some(Vec::new()),
            ["SECTION", "QUESTION"] => section = None,
            ["SECTION", "ANSWER"] => section = Some(0),
            ["SECTION", "AUTHORITY"] => section = Some(1),
            ["SECTION", "ADDITIONAL"] => section = Some(2),
            [hex] if raw.is_some() => {
                let octets =
                    data_encoding::HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|error| error.to_string())?;
                raw.get_or_insert_default().extend(octets);
            }
            words => match section {
                None => {
                    let [name, .., rtype] = words else { return Err(format!("not a question: `{line}`")) };
                    entry.question = Some((parse_name(name)?, parse_type(rtype)?));
                }
                Some(index) => {
                    let records: &mut Vec<TextRecord> = &mut entry.sections[index];
                    records.push(parse_record(line)?);
                }
            },
        }
    }
    Err("entry without end".into())
}

#[test]
fn a_script_reads_into_settings_ranges_and_steps() {
    let text = "
trust-anchor: \"example.com. DS 1 8 2 00\" # comment
val-override-date: \"20170401000000\"
stub-addr: 192.0.2.1 # root
query-minimization: off
CONFIG_END
SCENARIO_BEGIN name
RANGE_BEGIN 0 100
  ADDRESS 192.0.2.1
ENTRY_BEGIN
MATCH opcode subdomain
ADJUST copy_id copy_query
REPLY QR AA NXDOMAIN
SECTION QUESTION
com. IN A
SECTION AUTHORITY
com. 60 IN NS ns.com.
ENTRY_END
RANGE_END
STEP 1 QUERY
ENTRY_BEGIN
REPLY RD DO
SECTION QUESTION
a.com. IN TLSA
ENTRY_END
STEP 2 TIME_PASSES ELAPSE 30
STEP 3 CHECK_ANSWER
ENTRY_BEGIN
MATCH all
REPLY QR RD RA SERVFAIL ; AD not set
ENTRY_END
SCENARIO_END
";
    let script = Script::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(script.anchors, ["example.com. DS 1 8 2 00"]);
    assert_eq!((script.wall, script.no_minimisation, script.no_ipv6), (Some(1_491_004_800), true, false));
    let entry = &script.ranges[0].entries[0];
    assert!(entry.matches("subdomain") && entry.flag("AA") && !entry.flag("RA"));
    assert_eq!((entry.rcode(), entry.sections[1].len()), (3, 1));
    assert!(matches!(&script.steps[..], [(1, Step::Query(query)), (2, Step::TimePasses(30)), (3, Step::Check(check))]
        if query.flag("DO") && check.rcode() == 2 && !check.flag("AD")));
    assert!(Script::parse("CONFIG_END\nSTEP 1 QUERY\nRANGE_END").unwrap_err().starts_with("line 3:"));
}
