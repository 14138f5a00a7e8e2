//! IANA's `root-anchors.xml` (RFC 9718 §2.1): digests of the root's KSKs with the time each is valid.

use hickory_proto::rr::{Name, RecordType};

use super::super::rrset::RrSet;
use super::file::{FileError, Problem, add, dnskey, ds};
use crate::clock::UnixTime;

/// Parses the file; keys whose time has not come or is over at `now` are left out. `file` is named in errors.
pub(super) fn parse(text: &str, file: &str, now: UnixTime) -> Result<Vec<RrSet>, FileError> {
    let line_of = |rest: &str| 1 + text.len().checked_sub(rest.len()).map_or(0, |at| newlines(text, at));
    let fail = |rest: &str, problem| FileError::Line { file: file.to_owned(), line: line_of(rest), problem };
    let zone = element(text, "Zone").ok_or_else(|| fail(text, Problem::Xml("no <Zone>")))?;
    let zone = Name::parse(zone.trim(), Some(&Name::root()))
        .map_err(|_| fail(text, Problem::Owner(zone.trim().chars().take(60).collect())))?;
    let mut sets = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("<KeyDigest") {
        rest = rest.get(start..).unwrap_or_default();
        let digest = Digest::cut(rest).map_err(|problem| fail(rest, problem))?;
        if digest.holds_at(now).map_err(|problem| fail(rest, problem))? {
            let set = digest.ds().map_err(|problem| fail(rest, problem))?;
            add(&mut sets, zone.clone(), RecordType::DS, set);
            if let Some(key) = digest.key().map_err(|problem| fail(rest, problem))? {
                add(&mut sets, zone.clone(), RecordType::DNSKEY, key);
            }
        }
        rest = digest.after;
    }
    if sets.is_empty() {
        return Err(FileError::Empty { file: file.to_owned(), what: "trust anchor (KeyDigest) that is valid now" });
    }
    Ok(sets)
}

fn newlines(text: &str, until: usize) -> usize {
    text.bytes().take(until).filter(|octet| *octet == b'\n').count()
}

/// One `<KeyDigest …>…</KeyDigest>`.
struct Digest<'a> {
    attributes: &'a str,
    body: &'a str,
    after: &'a str,
}

impl<'a> Digest<'a> {
    /// Cuts the element that `text` begins with.
    fn cut(text: &'a str) -> Result<Self, Problem> {
        let broken = || Problem::Xml("<KeyDigest> without end");
        let (attributes, rest) = text.split_once('>').ok_or_else(broken)?;
        let (body, after) = rest.split_once("</KeyDigest>").ok_or_else(broken)?;
        Ok(Self { attributes, body, after })
    }

    fn holds_at(&self, now: UnixTime) -> Result<bool, Problem> {
        let from = self.time("validFrom")?.ok_or(Problem::Xml("<KeyDigest> without validFrom"))?;
        Ok(from <= now && self.time("validUntil")?.is_none_or(|until| now < until))
    }

    fn time(&self, attribute: &str) -> Result<Option<UnixTime>, Problem> {
        let Some((_, value)) = self.attributes.split_once(&format!("{attribute}=\"")) else { return Ok(None) };
        let value = value.split('"').next().unwrap_or_default();
        timestamp(value).map(Some).ok_or(Problem::Xml("a time like 2017-02-02T00:00:00+00:00"))
    }

    fn ds(&self) -> Result<Box<[u8]>, Problem> {
        let mut words = Vec::new();
        for tag in ["KeyTag", "Algorithm", "DigestType", "Digest"] {
            let value = element(self.body, tag).ok_or(Problem::Short("KeyTag, Algorithm, DigestType and Digest"))?;
            words.push(value.split_whitespace().collect::<String>());
        }
        ds(&words)
    }

    /// The key itself, in newer files (RFC 9718 §2.1).
    fn key(&self) -> Result<Option<Box<[u8]>>, Problem> {
        let (Some(key), Some(flags), Some(algorithm)) =
            (element(self.body, "PublicKey"), element(self.body, "Flags"), element(self.body, "Algorithm"))
        else {
            return Ok(None);
        };
        let key: String = key.split_whitespace().collect();
        dnskey(&[flags.trim().to_owned(), "3".to_owned(), algorithm.trim().to_owned(), key]).map(Some)
    }
}

/// The text between `<tag>` and `</tag>`.
fn element<'a>(text: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(value, _)| value)
}

/// Seconds since 1970 of an XML `dateTime` with an offset, as `2017-02-02T00:00:00+00:00` or with `Z`.
fn timestamp(text: &str) -> Option<UnixTime> {
    let (date, time) = text.split_once('T')?;
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => {
            let (time, offset) = time.split_at_checked(time.rfind(['+', '-'])?)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            (time, if offset.starts_with('-') { -seconds } else { seconds })
        }
    };
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        text.split(separator).map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>()?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar; the year begins in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<TrustAnchor id="x" source="http://data.iana.org/root-anchors/root-anchors.xml">
<Zone>.</Zone>
<KeyDigest id="a" validFrom="2010-07-15T00:00:00+00:00" validUntil="2019-01-11T00:00:00+00:00">
<KeyTag>19036</KeyTag><Algorithm>8</Algorithm><DigestType>2</DigestType>
<Digest>49AAC11D7B6F6446702E54A1607371607A1A41855200FD2CE1CDDE32F24E8FB5</Digest>
</KeyDigest>
<KeyDigest id="b" validFrom="2017-02-02T00:00:00+00:00">
<KeyTag>20326</KeyTag>
<Algorithm>8</Algorithm>
<DigestType>2</DigestType>
<Digest>E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D</Digest>
<PublicKey>AwEAAQ==</PublicKey>
<Flags>257</Flags>
</KeyDigest>
</TrustAnchor>
"#;

    #[test]
    fn keys_count_only_within_their_time() {
        let count = |now| parse(FILE, "f", now).map(|sets| sets.iter().map(|set| set.rdatas.len()).sum::<usize>());
        assert_eq!(count(1_500_000_000).expect("2017"), 3, "both digests and a key");
        let sets = parse(FILE, "f", 1_790_000_000).expect("2026");
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0].rdatas[0][..2], 20326_u16.to_be_bytes());
        assert_eq!(*sets[1].rdatas[0], [1, 1, 3, 8, 3, 1, 0, 1]);
        let error = count(0).expect_err("1970");
        assert_eq!(error.to_string(), "f: no trust anchor (KeyDigest) that is valid now in it");
    }

    #[test]
    fn damage_is_an_error_at_its_line() {
        let rows = [
            (
                "2017-02-02T00:00:00+00:00",
                "soon",
                "f, line 8: expected IANA's root-anchors.xml: a time like 2017-02-02T00:00:00+00:00",
            ),
            ("<KeyTag>20326</KeyTag>", "", "f, line 8: ends before KeyTag, Algorithm, DigestType and Digest"),
            ("<Zone>.</Zone>", "", "f, line 1: expected IANA's root-anchors.xml: no <Zone>"),
            (
                "<Flags>257",
                "<Flags>0",
                "f, line 8: not a zone key: flags must have bit 7 (256 or 257) and the protocol must be 3",
            ),
        ];
        for (from, to, expected) in rows {
            let error = parse(&FILE.replace(from, to), "f", 1_790_000_000).expect_err(from);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn times_are_read_with_their_offset() {
        assert_eq!(timestamp("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(timestamp("2017-02-02T00:00:00+00:00"), Some(1_485_993_600));
        assert_eq!(timestamp("2024-02-29T12:00:00-01:30"), Some(1_709_213_400));
        assert_eq!(timestamp("2024-13-01T00:00:00Z"), None);
    }
}
