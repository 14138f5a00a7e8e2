//! Trust anchor files and root hint files.
//!
//! Anchors: DNSKEY and DS records as zone file lines (what `dig`, `unbound-anchor` and `dns-root-data` give),
//! or IANA's `root-anchors.xml` (RFC 9718). Hints: `named.root`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use data_encoding::{BASE64, HEXUPPER_PERMISSIVE};
use hickory_proto::rr::{Name, RecordType};

use super::super::rrset::RrSet;
use super::lines::{self, Line};
use super::xml;
use crate::clock::UnixTime;
use crate::limits;

/// A file that cannot be used, and what would be. Whoever reads it at start refuses to start; at a reload
/// the old content stays in force.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{file}: {error}")]
    Read {
        /// Path as given.
        file: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// One line makes no sense.
    #[error("{file}, line {line}: {problem}")]
    Line {
        /// Path as given.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        problem: Problem,
    },
    /// Nothing in it that could be used.
    #[error("{file}: no {what} in it")]
    Empty {
        /// Path as given.
        file: String,
        /// What was looked for.
        what: &'static str,
    },
}

/// What is wrong with a line, and what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A parenthesis without its other half.
    #[error("parenthesis without its other half")]
    Parenthesis,
    /// A quote that is not closed.
    #[error("quote that is not closed")]
    Quote,
    /// Neither DNSKEY nor DS.
    #[error("expected a DNSKEY or DS record, like `. IN DS 20326 8 2 E06D…`, found `{0}`")]
    NotAnAnchor(String),
    /// Neither NS, A nor AAAA.
    #[error("expected an NS, A or AAAA record, like `a.root-servers.net. 3600000 A 198.41.0.4`, found `{0}`")]
    NotAHint(String),
    /// The owner is not a DNS name, or there is none to continue.
    #[error("expected a domain name, found `{0}`")]
    Owner(String),
    /// A field that should be a number.
    #[error("expected {field} as a number from 0 to {max}, found `{found}`")]
    Number {
        /// Which field.
        field: &'static str,
        /// Its greatest value.
        max: u32,
        /// What is there.
        found: String,
    },
    /// Too few fields.
    #[error("ends before {0}")]
    Short(&'static str),
    /// The key is not base64.
    #[error("the key is not base64")]
    Base64,
    /// The digest is not hexadecimal.
    #[error("the digest is not hexadecimal")]
    Hex,
    /// A digest whose length is not that of its type.
    #[error("a digest of type {kind} has {expected} octets, this one has {found}")]
    DigestLength {
        /// Digest type.
        kind: u8,
        /// Its length.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// A DNSKEY that cannot sign for a zone (RFC 4034 §2.1.1, §2.1.2).
    #[error("not a zone key: flags must have bit 7 (256 or 257) and the protocol must be 3")]
    NotAZoneKey,
    /// A DNSKEY with the REVOKE bit (RFC 5011 §2.1).
    #[error("this key is revoked")]
    Revoked,
    /// Not an address.
    #[error("expected an IP address, found `{0}`")]
    Address(String),
    /// XML that is not `root-anchors.xml`.
    #[error("expected IANA's root-anchors.xml: {0}")]
    Xml(&'static str),
}

/// Reads trust anchors from a file of either form; `now` decides which keys of a `root-anchors.xml` count.
pub fn read_anchors(path: &Path, now: UnixTime) -> Result<Vec<RrSet>, FileError> {
    let (text, file) = read(path)?;
    if text.trim_start().starts_with('<') { xml::parse(&text, &file, now) } else { parse_anchors(&text, &file) }
}

/// Reads root hints from a file.
pub fn read_hints(path: &Path) -> Result<Vec<(Name, IpAddr)>, FileError> {
    let (text, file) = read(path)?;
    parse_hints(&text, &file)
}

fn read(path: &Path) -> Result<(String, String), FileError> {
    let file = path.display().to_string();
    let mut text = String::new();
    let outcome = File::open(path)
        .and_then(|opened| opened.take(limits::ANCHOR_FILE_BYTES + 1).read_to_string(&mut text))
        .and_then(|length| {
            let fits = u64::try_from(length).is_ok_and(|length| length <= limits::ANCHOR_FILE_BYTES);
            if fits { Ok(()) } else { Err(std::io::ErrorKind::FileTooLarge.into()) }
        });
    match outcome {
        Ok(()) => Ok((text, file)),
        Err(error) => Err(FileError::Read { file, error }),
    }
}

/// Parses DNSKEY and DS lines; one RRset per owner and type. `file` is named in errors. Keys that Unbound
/// notes as not (or no longer) trusted are left out.
pub fn parse_anchors(text: &str, file: &str) -> Result<Vec<RrSet>, FileError> {
    let fail = |(line, problem)| FileError::Line { file: file.to_owned(), line, problem };
    let mut sets = Vec::new();
    let mut owner = None;
    for line in lines::split(text).map_err(fail)? {
        let at = line.number;
        let Some(record) = record(&line, &mut owner).map_err(|problem| fail((at, problem)))? else { continue };
        let rdata = match record.rtype.to_ascii_uppercase().as_str() {
            "DNSKEY" => dnskey(record.fields).map(|rdata| (RecordType::DNSKEY, rdata)),
            "DS" => ds(record.fields).map(|rdata| (RecordType::DS, rdata)),
            _ => Err(Problem::NotAnAnchor(line.words.join(" ").chars().take(60).collect())),
        };
        // A revoked key that Unbound still notes is no mistake of the operator's; one without a note is.
        if !trusted_by_note(&line.comment) {
            continue;
        }
        let (rtype, rdata) = rdata.map_err(|problem| fail((at, problem)))?;
        add(&mut sets, record.owner, rtype, rdata);
    }
    if sets.is_empty() {
        return Err(FileError::Empty { file: file.to_owned(), what: "trust anchor (DNSKEY or DS record)" });
    }
    Ok(sets)
}

/// Parses a `named.root` file: addresses of the names that are NS of the root.
pub fn parse_hints(text: &str, file: &str) -> Result<Vec<(Name, IpAddr)>, FileError> {
    let fail = |(line, problem)| FileError::Line { file: file.to_owned(), line, problem };
    let mut servers = Vec::new();
    let mut addresses: Vec<(Name, IpAddr)> = Vec::new();
    let mut owner = None;
    for line in lines::split(text).map_err(fail)? {
        let at = line.number;
        let Some(record) = record(&line, &mut owner).map_err(|problem| fail((at, problem)))? else { continue };
        let value = record.fields.first().ok_or_else(|| fail((at, Problem::Short("its value"))))?;
        let address = || value.parse::<IpAddr>().ok();
        let wrong = || fail((at, Problem::Address(value.clone())));
        match record.rtype.to_ascii_uppercase().as_str() {
            "NS" => servers.push(name(value).map_err(|problem| fail((at, problem)))?),
            "A" => addresses.push((record.owner, address().filter(IpAddr::is_ipv4).ok_or_else(wrong)?)),
            "AAAA" => addresses.push((record.owner, address().filter(IpAddr::is_ipv6).ok_or_else(wrong)?)),
            _ => return Err(fail((at, Problem::NotAHint(line.words.join(" ").chars().take(60).collect())))),
        }
    }
    addresses.retain(|(name, _)| servers.contains(name));
    if addresses.is_empty() {
        return Err(FileError::Empty { file: file.to_owned(), what: "root server (NS of the root with an address)" });
    }
    Ok(addresses)
}

/// A record's parts, RDATA still as words.
struct Record<'a> {
    owner: Name,
    rtype: &'a str,
    fields: &'a [String],
}

/// Takes owner, TTL and class off; `None` for `$TTL` and the like, which change nothing here. `last` is the
/// owner of the record before, for lines that leave theirs out.
fn record<'a>(line: &'a Line, last: &mut Option<Name>) -> Result<Option<Record<'a>>, Problem> {
    let mut words = line.words.as_slice();
    let first = words.first().map(String::as_str).unwrap_or_default();
    if first.eq_ignore_ascii_case("$TTL") || first.eq_ignore_ascii_case("$ORIGIN") {
        return Ok(None);
    }
    let inherits = line.indented && (is_type(first) || is_ttl_or_class(first));
    if !inherits {
        *last = Some(name(first)?);
        words = words.get(1..).unwrap_or_default();
    }
    while words.first().is_some_and(|word| is_ttl_or_class(word)) {
        words = words.get(1..).unwrap_or_default();
    }
    let (rtype, fields) = words.split_first().ok_or(Problem::Short("the record's type"))?;
    let owner = last.clone().ok_or_else(|| Problem::Owner(first.to_owned()))?;
    Ok(Some(Record { owner, rtype, fields }))
}

fn is_type(word: &str) -> bool {
    ["DNSKEY", "DS", "NS", "A", "AAAA"].iter().any(|rtype| word.eq_ignore_ascii_case(rtype))
}

/// `IN`, or a TTL such as `3600` or `1h30m`. Other classes are no anchors and fall through to an error.
fn is_ttl_or_class(word: &str) -> bool {
    word.eq_ignore_ascii_case("IN")
        || word.starts_with(|first: char| first.is_ascii_digit())
            && word.bytes().all(|b| b.is_ascii_digit() || b"smhdwSMHDW".contains(&b))
}

/// An absolute name, lower case; without a final dot it counts as absolute too.
fn name(word: &str) -> Result<Name, Problem> {
    Name::parse(word, Some(&Name::root()))
        .map(|name| name.to_lowercase())
        .map_err(|_| Problem::Owner(word.chars().take(60).collect()))
}

/// Adds a record to the RRset of its owner and type.
pub(super) fn add(sets: &mut Vec<RrSet>, owner: Name, rtype: RecordType, rdata: Box<[u8]>) {
    match sets.iter_mut().find(|set| set.name == owner && set.rtype == rtype) {
        Some(set) if set.rdatas.contains(&rdata) => {}
        Some(set) => set.rdatas.push(rdata),
        // An anchor's TTL means nothing: it holds until the configuration or RFC 5011 says otherwise.
        None => sets.push(RrSet { name: owner, rtype, ttl: 0, rdatas: vec![rdata], sigs: Vec::new() }),
    }
}

/// Unbound's `auto-trust-anchor-file` notes a key's RFC 5011 state: 2 valid and 3 missing are trusted,
/// pending, revoked and removed keys are not.
fn trusted_by_note(comment: &str) -> bool {
    comment.split_once("state=").is_none_or(|(_, state)| state.starts_with(['2', '3']))
}

/// DNSKEY RDATA from its words: flags, protocol, algorithm, key (RFC 4034 §2.2).
pub(super) fn dnskey(words: &[String]) -> Result<Box<[u8]>, Problem> {
    let flags = number(words, 0, "flags", 65_535)? as u16;
    let protocol = number(words, 1, "protocol", 255)? as u8;
    let algorithm = algorithm(words, 2)?;
    let key = BASE64.decode(words.get(3..).unwrap_or_default().concat().as_bytes()).map_err(|_| Problem::Base64)?;
    if key.is_empty() {
        return Err(Problem::Short("the key"));
    }
    if flags & 0x0100 == 0 || protocol != 3 {
        return Err(Problem::NotAZoneKey);
    }
    if flags & 0x0080 != 0 {
        return Err(Problem::Revoked);
    }
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[protocol, algorithm]);
    rdata.extend_from_slice(&key);
    Ok(rdata.into())
}

/// DS RDATA from its words: key tag, algorithm, digest type, digest (RFC 4034 §5.3).
pub(super) fn ds(words: &[String]) -> Result<Box<[u8]>, Problem> {
    let tag = number(words, 0, "key tag", 65_535)? as u16;
    let algorithm = algorithm(words, 1)?;
    let kind = number(words, 2, "digest type", 255)? as u8;
    let digest =
        HEXUPPER_PERMISSIVE.decode(words.get(3..).unwrap_or_default().concat().as_bytes()).map_err(|_| Problem::Hex)?;
    let expected = match kind {
        1 => 20,
        2 => 32,
        4 => 48,
        _ => digest.len().max(1),
    };
    if digest.len() != expected {
        return Err(Problem::DigestLength { kind, expected, found: digest.len() });
    }
    let mut rdata = tag.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[algorithm, kind]);
    rdata.extend_from_slice(&digest);
    Ok(rdata.into())
}

fn number(words: &[String], at: usize, field: &'static str, max: u32) -> Result<u32, Problem> {
    let word = words.get(at).ok_or(Problem::Short(field))?;
    word.parse().ok().filter(|number| *number <= max).ok_or_else(|| Problem::Number {
        field,
        max,
        found: word.chars().take(60).collect(),
    })
}

/// A DNSSEC algorithm as number or as IANA's mnemonic.
fn algorithm(words: &[String], at: usize) -> Result<u8, Problem> {
    let known = [
        ("RSASHA1", 5),
        ("RSASHA1-NSEC3-SHA1", 7),
        ("NSEC3RSASHA1", 7),
        ("RSASHA256", 8),
        ("RSASHA512", 10),
        ("ECDSAP256SHA256", 13),
        ("ECDSAP384SHA384", 14),
        ("ED25519", 15),
        ("ED448", 16),
    ];
    let word = words.get(at).map(String::as_str).unwrap_or_default();
    match known.iter().find(|(mnemonic, _)| word.eq_ignore_ascii_case(mnemonic)) {
        Some((_, code)) => Ok(*code),
        None => number(words, at, "algorithm", 255).map(|code| code as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

    #[test]
    fn anchors_in_every_usual_spelling_are_read() {
        let spellings = [
            format!(". IN DS 20326 8 2 {DIGEST}"),
            format!(".\t172800\tIN\tDS\t20326 8 2 {}", DIGEST.to_lowercase()),
            format!(". IN 2d DS 20326 RSASHA256 2 {} {} ; comment", &DIGEST[..20], &DIGEST[20..]),
            format!(". ds ( 20326 8 2\n  {}\n  {} )", &DIGEST[..20], &DIGEST[20..]),
            format!("$TTL 3600\n\". IN DS 20326 8 2 {DIGEST}\" # as in a configuration"),
        ];
        for text in spellings {
            let sets = parse_anchors(&text, "test").unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(sets.len(), 1, "{text}");
            assert_eq!((&sets[0].name, sets[0].rtype), (&Name::root(), RecordType::DS), "{text}");
            assert_eq!(sets[0].rdatas[0][..4], [0x4f, 0x66, 8, 2], "{text}");
            assert_eq!(sets[0].rdatas[0].len(), 36, "{text}");
        }
    }

    #[test]
    fn keys_and_digests_at_several_owners_become_one_rrset_each() {
        let text = "example.com. 3600 IN DNSKEY 257 3 13 AwEA AQ==\n IN DNSKEY 256 3 13 \"AwEA AQ==\"\n\
                    Sub.Example.com DS 1 8 1 00112233445566778899 aabbccddeeff00112233\n\
                    sub.example.com. DS 1 8 1 00112233445566778899aabbccddeeff00112233\n";
        let sets = parse_anchors(text, "test").expect("anchors");
        let seen: Vec<(String, RecordType, usize)> =
            sets.iter().map(|set| (set.name.to_ascii(), set.rtype, set.rdatas.len())).collect();
        assert_eq!(
            seen,
            [("example.com.".into(), RecordType::DNSKEY, 2), ("sub.example.com.".into(), RecordType::DS, 1)]
        );
        assert_eq!(*sets[0].rdatas[0], [1, 1, 3, 13, 3, 1, 0, 1]);
    }

    #[test]
    fn keys_that_unbound_does_not_trust_yet_are_left_out() {
        let text = ". DNSKEY 257 3 8 AwEAAQ== ;{id = 1 (ksk)} ;;state=2 [  VALID  ] ;;count=0\n\
                    . DNSKEY 257 3 8 AwEAAg== ;{id = 2 (ksk)} ;;state=1 [ ADDPEND ] ;;count=3\n\
                    . DNSKEY 385 3 8 AwEAAw== ;{id = 3 (ksk)} ;;state=4 [ REVOKED ] ;;count=0\n";
        let sets = parse_anchors(text, "test").expect("anchors");
        assert_eq!(sets.iter().map(|set| set.rdatas.len()).sum::<usize>(), 1);
    }

    #[test]
    fn an_error_names_file_line_and_what_would_be_right() {
        let rows = [
            ("", "f: no trust anchor (DNSKEY or DS record) in it"),
            (
                ". IN A 192.0.2.1",
                "f, line 1: expected a DNSKEY or DS record, like `. IN DS 20326 8 2 E06D…`, found `. IN A 192.0.2.1`",
            ),
            ("\n. DS x 8 2 00", "f, line 2: expected key tag as a number from 0 to 65535, found `x`"),
            (". DS 1 8 2 0011", "f, line 1: a digest of type 2 has 32 octets, this one has 2"),
            (". DS 1 8 2 00zz", "f, line 1: the digest is not hexadecimal"),
            (". DNSKEY 257 3 8 !", "f, line 1: the key is not base64"),
            (". DNSKEY 257 3 8", "f, line 1: ends before the key"),
            (
                ". DNSKEY 1 3 8 AwEAAQ==",
                "f, line 1: not a zone key: flags must have bit 7 (256 or 257) and the protocol must be 3",
            ),
            (". DNSKEY 385 3 8 AwEAAQ==", "f, line 1: this key is revoked"),
            (" DS 1 8 2 00", "f, line 1: expected a domain name, found `DS`"),
            ("a..b. DS 1 8 2 00", "f, line 1: expected a domain name, found `a..b.`"),
            (".", "f, line 1: ends before the record's type"),
            (". IN DS ( 1", "f, line 1: parenthesis without its other half"),
        ];
        for (text, expected) in rows {
            let error = parse_anchors(text, "f").expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn hints_are_the_addresses_of_the_roots_name_servers() {
        let text = ". 3600000 NS NS.root.\n; x\nns.root. 3600000 A 198.41.0.4\nns.root. AAAA 2001:db8::4\nother. A 192.0.2.9\n";
        let hints = parse_hints(text, "f").expect("hints");
        let seen: Vec<String> = hints.iter().map(|(name, address)| format!("{name} {address}")).collect();
        assert_eq!(seen, ["ns.root. 198.41.0.4", "ns.root. 2001:db8::4"]);
        for (text, expected) in [
            (". NS a.", "f: no root server (NS of the root with an address) in it"),
            ("a. A 1.2.3", "f, line 1: expected an IP address, found `1.2.3`"),
            ("a. AAAA 192.0.2.1", "f, line 1: expected an IP address, found `192.0.2.1`"),
            (
                "a. MX 1 b.",
                "f, line 1: expected an NS, A or AAAA record, like `a.root-servers.net. 3600000 A 198.41.0.4`, found `a. MX 1 b.`",
            ),
        ] {
            assert_eq!(parse_hints(text, "f").expect_err(text).to_string(), expected);
        }
    }

    #[test]
    fn a_file_is_read_in_either_form_and_a_missing_one_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("root.key");
        std::fs::write(&path, format!(". IN DS 20326 8 2 {DIGEST}\n")).expect("written");
        assert_eq!(read_anchors(&path, 0).expect("anchors").len(), 1);
        let missing = directory.path().join("none");
        let error = read_anchors(&missing, 0).expect_err("no such file").to_string();
        assert!(error.starts_with(&missing.display().to_string()), "{error}");
    }
}
