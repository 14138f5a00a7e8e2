//! The policy file (RFC 8461 §3.2).

use crate::cache::entry::{PolicyLine, StsMode, StsPolicy};
use crate::limits::STS_POLICY_BYTES;
use crate::names::MxPattern;

use super::record::is_extension_name;

/// Why a body is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// More octets than a policy may have.
    #[error("longer than {STS_POLICY_BYTES} octets")]
    TooLong,
    /// A line that fits no rule of the grammar; lines count from 1.
    #[error("line {0} is malformed")]
    Line(usize),
    /// `version` is missing or is not `STSv1`.
    #[error("version is not STSv1")]
    Version,
    /// `mode` is missing or unknown.
    #[error("mode is missing or unknown")]
    Mode,
    /// `max_age` is missing or no number of 1 to 10 digits.
    #[error("max_age is missing or malformed")]
    MaxAge,
    /// An `mx` line that is no host name or wildcard; lines count from 1.
    #[error("mx in line {0} is no host name")]
    Mx(usize),
    /// No `mx` line, though the mode needs one.
    #[error("no mx")]
    NoMx,
}

/// Parses a policy. Line ends are LF or CRLF, empty lines are skipped, a byte-order mark is not; of repeated
/// fields except `mx` the first counts, whatever the others say.
pub fn parse(body: &[u8]) -> Result<StsPolicy, PolicyError> {
    if body.len() > STS_POLICY_BYTES {
        return Err(PolicyError::TooLong);
    }
    let mut fields = Fields::default();
    for (index, line) in body.split(|octet| *octet == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            fields.add(line, index + 1)?;
        }
    }
    fields.finish()
}

/// What was read so far; the first value of each field.
#[derive(Default)]
struct Fields {
    version: Option<bool>,
    mode: Option<Option<StsMode>>,
    max_age: Option<Option<u32>>,
    mx: Vec<MxPattern>,
    lines: Vec<PolicyLine>,
}

impl Fields {
    fn add(&mut self, line: &[u8], number: usize) -> Result<(), PolicyError> {
        let malformed = PolicyError::Line(number);
        let text = std::str::from_utf8(line).map_err(|_| malformed.clone())?;
        let (key, value) = text.split_once(':').ok_or(malformed.clone())?;
        let value = value.trim_matches([' ', '\t']);
        if !is_extension_name(key.as_bytes()) || !is_value(value) {
            return Err(malformed);
        }
        match key {
            "version" => _ = self.version.get_or_insert(value == "STSv1"),
            "mode" => _ = self.mode.get_or_insert(mode(value)),
            "max_age" => _ = self.max_age.get_or_insert(max_age(value)),
            "mx" => self.mx.push(MxPattern::parse(value).ok().filter(is_host_name).ok_or(PolicyError::Mx(number))?),
            _ => {}
        }
        self.lines.push(PolicyLine { key: key.into(), value: value.into() });
        Ok(())
    }

    fn finish(self) -> Result<StsPolicy, PolicyError> {
        if self.version != Some(true) {
            return Err(PolicyError::Version);
        }
        let mode = self.mode.flatten().ok_or(PolicyError::Mode)?;
        let max_age = self.max_age.flatten().ok_or(PolicyError::MaxAge)?;
        if self.mx.is_empty() && mode != StsMode::None {
            return Err(PolicyError::NoMx);
        }
        Ok(StsPolicy { mode, max_age, mx: self.mx.into(), lines: self.lines.into() })
    }
}

fn mode(value: &str) -> Option<StsMode> {
    match value {
        "enforce" => Some(StsMode::Enforce),
        "testing" => Some(StsMode::Testing),
        "none" => Some(StsMode::None),
        _ => None,
    }
}

/// `1*10(DIGIT)`, capped at about a year.
fn max_age(value: &str) -> Option<u32> {
    if !(1..=10).contains(&value.len()) || !value.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let seconds = value.parse::<u64>().ok()?.min(u64::from(StsPolicy::LONGEST_MAX_AGE));
    u32::try_from(seconds).ok()
}

/// Letters, digits and hyphens, no hyphen at either end of a label (RFC 5321 §4.1.2).
fn is_host_name(pattern: &MxPattern) -> bool {
    pattern
        .host()
        .as_str()
        .split('.')
        .all(|label| !label.starts_with('-') && !label.ends_with('-') && !label.contains('_'))
}

/// `sts-policy-ext-value`: visible characters, UTF-8 included, with spaces between them. White space around it
/// is gone already.
fn is_value(value: &str) -> bool {
    !value.is_empty() && !value.bytes().any(|octet| octet.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    const GOOD: &str = "version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: *.example.net\nmax_age: 604800\n";

    fn with(line: &str) -> String {
        format!("{GOOD}{line}\n")
    }

    #[test]
    fn a_plain_policy_is_read() {
        let policy = parse(GOOD.as_bytes()).expect("a policy");
        assert_eq!((policy.mode, policy.max_age), (StsMode::Enforce, 604_800));
        let mx: Vec<String> = policy.mx.iter().map(ToString::to_string).collect();
        assert_eq!(mx, ["mx1.example.com", "*.example.net"]);
        assert_eq!(policy.lines.iter().count(), 5);
    }

    #[test]
    fn what_the_grammar_allows_is_accepted() {
        let long = format!("{}:x", "a".repeat(32));
        let rows: &[(&str, String)] = &[
            ("CRLF", GOOD.replace('\n', "\r\n")),
            ("mixed line ends", GOOD.replacen('\n', "\r\n", 2)),
            ("no line end at the end", GOOD.trim_end().to_owned()),
            ("empty lines", GOOD.replace('\n', "\n\r\n\n")),
            ("no white space", GOOD.replace(": ", ":")),
            ("more white space", GOOD.replace(": ", ": \t ")),
            ("white space at the end of lines", GOOD.replace('\n', " \t\n")),
            ("version last", "mode: enforce\nmx: a.example\nmax_age: 1\nversion: STSv1".to_owned()),
            ("extension", with("x-a.b_c: some text: with {braces} = ü")),
            ("extension name of 32", with(&long)),
            ("repeated version, wrong later", with("version: STSv2")),
            ("repeated mode, wrong later", with("mode: nonsense")),
            ("repeated max_age, wrong later", with("max_age: x")),
            ("max_age of 10 digits", GOOD.replace("604800", "9999999999")),
            ("mode none without mx", "version: STSv1\nmode: none\nmax_age: 1\n".to_owned()),
            ("upper case in mx", with("mx: MX.Example.COM")),
        ];
        for (name, text) in rows {
            assert!(parse(text.as_bytes()).is_ok(), "{name}: {:?}", parse(text.as_bytes()));
        }
    }

    #[test]
    fn anything_else_is_invalid_for_a_named_reason() {
        let rows: &[(&str, String, PolicyError)] = &[
            ("empty", String::new(), PolicyError::Version),
            ("no version", GOOD.replace("version: STSv1\n", ""), PolicyError::Version),
            ("other version", GOOD.replace("STSv1", "STSv2"), PolicyError::Version),
            ("wrong version first", format!("version: STSv2\n{GOOD}"), PolicyError::Version),
            ("no mode", GOOD.replace("mode: enforce\n", ""), PolicyError::Mode),
            ("unknown mode", GOOD.replace("enforce", "report"), PolicyError::Mode),
            ("mode in upper case", GOOD.replace("enforce", "Enforce"), PolicyError::Mode),
            ("no max_age", GOOD.replace("max_age: 604800\n", ""), PolicyError::MaxAge),
            ("negative max_age", GOOD.replace("604800", "-1"), PolicyError::MaxAge),
            ("signed max_age", GOOD.replace("604800", "+1"), PolicyError::MaxAge),
            ("max_age of 11 digits", GOOD.replace("604800", "10000000000"), PolicyError::MaxAge),
            ("max_age with a fraction", GOOD.replace("604800", "1.5"), PolicyError::MaxAge),
            ("no mx", "version: STSv1\nmode: enforce\nmax_age: 1".to_owned(), PolicyError::NoMx),
            ("testing without mx", "version: STSv1\nmode: testing\nmax_age: 1".to_owned(), PolicyError::NoMx),
            ("mx with trailing dot", with("mx: mx.example.com."), PolicyError::Mx(6)),
            ("mx is an address", with("mx: 192.0.2.1"), PolicyError::Mx(6)),
            ("mx is an IPv6 address", with("mx: 2001:db8::1"), PolicyError::Mx(6)),
            ("mx is a U-label", with("mx: bücher.example"), PolicyError::Mx(6)),
            ("mx is a bare wildcard", with("mx: *"), PolicyError::Mx(6)),
            ("mx wildcard inside", with("mx: mx.*.example"), PolicyError::Mx(6)),
            ("mx with a space", with("mx: a.example b.example"), PolicyError::Mx(6)),
            ("mx with an underscore", with("mx: a_b.example"), PolicyError::Mx(6)),
            ("mx label begins with a hyphen", with("mx: -a.example"), PolicyError::Mx(6)),
            ("mx in braces", with("mx: {a.example}"), PolicyError::Mx(6)),
            ("mx with a colon", with("mx: a.example:b.example"), PolicyError::Mx(6)),
            ("empty mx", with("mx:"), PolicyError::Line(6)),
            ("line without colon", with("hello"), PolicyError::Line(6)),
            ("line of white space", with("  "), PolicyError::Line(6)),
            ("white space in front of a key", with(" a: b"), PolicyError::Line(6)),
            ("white space in front of the colon", with("a : b"), PolicyError::Line(6)),
            ("extension without value", with("a: "), PolicyError::Line(6)),
            ("extension name of 33", with(&format!("{}: x", "a".repeat(33))), PolicyError::Line(6)),
            ("NUL", with("a: b\0c"), PolicyError::Line(6)),
            ("tab inside a value", with("a: b\tc"), PolicyError::Line(6)),
            ("CR inside a line", with("a: b\rc"), PolicyError::Line(6)),
            ("byte-order mark", format!("\u{feff}{GOOD}"), PolicyError::Line(1)),
            ("HTML", "<!DOCTYPE html>\n<p>hello</p>".to_owned(), PolicyError::Line(1)),
            ("too long", format!("{GOOD}{}", "\n".repeat(STS_POLICY_BYTES)), PolicyError::TooLong),
        ];
        for (name, text, expected) in rows {
            assert_eq!(parse(text.as_bytes()).as_ref(), Err(expected), "{name}");
        }
        assert_eq!(parse(b"version: STSv1\nmode: none\nmax_age: 1\nx: \xff\n"), Err(PolicyError::Line(4)), "not UTF-8");
    }

    #[test]
    fn the_first_value_of_a_repeated_field_counts() {
        let policy = parse(with("mode: none\nmax_age: 5").as_bytes()).expect("a policy");
        assert_eq!((policy.mode, policy.max_age), (StsMode::Enforce, 604_800));
    }

    #[test]
    fn max_age_is_capped_at_about_a_year() {
        let policy = parse(GOOD.replace("604800", "4294967296").as_bytes()).expect("a policy");
        assert_eq!(policy.max_age, StsPolicy::LONGEST_MAX_AGE);
    }

    #[test]
    fn any_octets_are_survived_and_what_is_accepted_renders_to_itself() {
        let mut rng = SmallRng::seed_from_u64(8461);
        let pieces: &[&[u8]] = &[
            b"version: STSv1",
            b"mode: enforce",
            b"mode: none",
            b"max_age: 86400",
            b"mx: a.example",
            b"mx: *.b.example",
            b"\n",
            b"\r\n",
            b"\n",
            b"\n",
            b":",
            b" ",
            b"x: y",
            b"\xff",
            b"\0",
            b"{",
            "ü".as_bytes(),
            b"mx:",
        ];
        for round in 0..20_000 {
            let mut body = if round % 2 == 0 { GOOD.as_bytes().to_vec() } else { Vec::new() };
            for _ in 0..rng.random_range(0..12) {
                let piece = pieces[rng.random_range(0..pieces.len())];
                let at = rng.random_range(0..=body.len());
                body.splice(at..at, piece.iter().copied());
            }
            if let Ok(policy) = parse(&body) {
                let text: String = policy.lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
                assert_eq!(parse(text.as_bytes()), Ok(policy));
            }
        }
    }
}
