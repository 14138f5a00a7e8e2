//! The TXT record that announces MTA-STS (RFC 8461 §3.1).

/// Why there is no record to go by. Each is "no policy", none is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRecord {
    /// No TXT record begins with `v=STSv1;`.
    #[error("no MTA-STS record")]
    Missing,
    /// More than one does (RFC 8461 §3.1).
    #[error("several MTA-STS records")]
    Several,
    /// The only one does not follow the grammar.
    #[error("MTA-STS record is malformed")]
    Malformed,
}

/// Finds the one MTA-STS record among the TXT records of `_mta-sts.<domain>` and returns its `id`. Each record
/// is given as its character-strings, which are concatenated.
pub fn select<R, S>(records: impl IntoIterator<Item = R>) -> Result<String, NoRecord>
where
    R: IntoIterator<Item = S>,
    S: AsRef<[u8]>,
{
    let mut candidates = records
        .into_iter()
        .map(|strings| strings.into_iter().flat_map(|s| s.as_ref().to_vec()).collect::<Vec<u8>>())
        .filter(|text| begins_with_version(text));
    let record = candidates.next().ok_or(NoRecord::Missing)?;
    if candidates.next().is_some() {
        return Err(NoRecord::Several);
    }
    parse(&record).ok_or(NoRecord::Malformed)
}

/// `v=STSv1`, optional white space, `;`: what makes a TXT record one of MTA-STS.
fn begins_with_version(text: &[u8]) -> bool {
    text.strip_prefix(b"v=STSv1").is_some_and(|rest| trim_start(rest).first() == Some(&b';'))
}

/// The `id` of a record that follows the grammar; the first where it is repeated.
fn parse(text: &[u8]) -> Option<String> {
    let mut rest = text.strip_prefix(b"v=STSv1")?;
    let mut id = None;
    let mut fields = 0;
    while !rest.is_empty() {
        rest = trim_start(trim_start(rest).strip_prefix(b";")?);
        if rest.is_empty() && fields > 0 {
            break; // one delimiter may end the record
        }
        let end = rest.iter().position(|octet| matches!(octet, b';' | b' ' | b'\t')).unwrap_or(rest.len());
        let (field, after) = rest.split_at_checked(end)?;
        let (name, value) = split_field(field)?;
        if name == b"id" && is_id(value) {
            id = id.or(Some(value));
        } else if !(is_extension_name(name) && is_extension_value(value)) {
            return None;
        }
        fields += 1;
        rest = after;
    }
    // Letters and digits only, so this is ASCII.
    id.map(|id| String::from_utf8_lossy(id).into_owned())
}

fn split_field(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = field.iter().position(|octet| *octet == b'=')?;
    Some((field.get(..at)?, field.get(at + 1..)?))
}

/// `1*32(ALPHA / DIGIT)`
pub(super) fn is_id(value: &[u8]) -> bool {
    (1..=32).contains(&value.len()) && value.iter().all(u8::is_ascii_alphanumeric)
}

/// `(ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")`, of records and of policies.
pub(super) fn is_extension_name(name: &[u8]) -> bool {
    name.len() <= 32
        && name.first().is_some_and(u8::is_ascii_alphanumeric)
        && name.iter().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.'))
}

/// `1*(%x21-3A / %x3C / %x3E-7E)`: visible ASCII without `;` and `=`.
fn is_extension_value(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b';' | b'='))
}

fn trim_start(text: &[u8]) -> &[u8] {
    let skip = text.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    text.get(skip..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    fn one(text: &str) -> Result<String, NoRecord> {
        select([[text]])
    }

    #[test]
    fn records_follow_the_grammar_or_do_not_count() {
        let id = |text: &str| Ok(text.to_owned());
        let long = "a".repeat(33);
        let rows: &[(&str, &str, Result<String, NoRecord>)] = &[
            ("plain", "v=STSv1; id=20160831085700Z;", id("20160831085700Z")),
            ("no trailing delimiter", "v=STSv1; id=1", id("1")),
            ("no white space", "v=STSv1;id=1;", id("1")),
            ("white space around delimiters", "v=STSv1 \t;\t id=1 ; ", id("1")),
            ("32 characters", &format!("v=STSv1; id={}", &long[1..]), id(&long[1..])),
            ("33 characters", &format!("v=STSv1; id={long}"), Err(NoRecord::Malformed)),
            ("empty id", "v=STSv1; id=;", Err(NoRecord::Malformed)),
            ("id with a hyphen", "v=STSv1; id=2016-08;", Err(NoRecord::Malformed)),
            ("no id", "v=STSv1;", Err(NoRecord::Malformed)),
            ("no id but an extension", "v=STSv1; a=b", Err(NoRecord::Malformed)),
            ("extension before", "v=STSv1; a-b.c_d=x!y; id=1", id("1")),
            ("extension after", "v=STSv1; id=1; ext=v<al>ue;", id("1")),
            ("extension with = in its value", "v=STSv1; id=1; a=b=c", Err(NoRecord::Malformed)),
            ("extension without value", "v=STSv1; id=1; a=", Err(NoRecord::Malformed)),
            ("extension without =", "v=STSv1; id=1; a", Err(NoRecord::Malformed)),
            ("extension name begins with a dot", "v=STSv1; id=1; .a=b", Err(NoRecord::Malformed)),
            ("extension name too long", &format!("v=STSv1; id=1; {long}=b"), Err(NoRecord::Malformed)),
            ("two delimiters at the end", "v=STSv1; id=1;;", Err(NoRecord::Malformed)),
            ("white space in front of =", "v=STSv1; id =1", Err(NoRecord::Malformed)),
            ("white space in the id", "v=STSv1; id=1 2", Err(NoRecord::Malformed)),
            ("white space at the end without delimiter", "v=STSv1; id=1 ", Err(NoRecord::Malformed)),
            ("id in upper case", "v=STSv1; ID=1", Err(NoRecord::Malformed)),
            ("repeated id, first wins", "v=STSv1; id=1; id=2", id("1")),
            ("8-bit octets", "v=STSv1; id=1; a=ü", Err(NoRecord::Malformed)),
            ("other version", "v=STSv2; id=1", Err(NoRecord::Missing)),
            ("longer version", "v=STSv12; id=1", Err(NoRecord::Missing)),
            ("version in lower case", "v=stsv1; id=1", Err(NoRecord::Missing)),
            ("version not first", "id=1; v=STSv1", Err(NoRecord::Missing)),
            ("white space first", " v=STSv1; id=1", Err(NoRecord::Missing)),
            ("white space in the version", "v = STSv1; id=1", Err(NoRecord::Missing)),
            ("no delimiter", "v=STSv1", Err(NoRecord::Missing)),
            ("something else", "v=spf1 -all", Err(NoRecord::Missing)),
            ("empty", "", Err(NoRecord::Missing)),
        ];
        for (name, text, expected) in rows {
            assert_eq!(&one(text), expected, "{name}");
        }
    }

    #[test]
    fn exactly_one_record_must_remain() {
        let (sts, spf) = ("v=STSv1; id=1", "v=spf1 -all");
        assert_eq!(select([[spf], [sts]]), Ok("1".into()));
        assert_eq!(select([[sts], ["v=STSv1; id=2"]]), Err(NoRecord::Several));
        assert_eq!(select([[sts], ["v=STSv1; broken"]]), Err(NoRecord::Several));
        assert_eq!(select([[sts], ["v=STSv2; id=2"]]), Ok("1".into()));
        assert_eq!(select(Vec::<[&str; 1]>::new()), Err(NoRecord::Missing));
    }

    #[test]
    fn character_strings_are_concatenated() {
        assert_eq!(select([["v=STS", "v1; i", "", "d=ab", "c;"]]), Ok("abc".into()));
    }

    #[test]
    fn any_octets_are_survived_and_what_is_accepted_is_accepted_again() {
        let mut rng = SmallRng::seed_from_u64(8461);
        let alphabet = b"v=STSv1;; \tid=ab9-._\x00\xff";
        for _ in 0..20_000 {
            let mut text = b"v=STSv1; id=".to_vec();
            text.truncate(rng.random_range(0..=text.len()));
            text.extend((0..rng.random_range(0..24)).map(|_| alphabet[rng.random_range(0..alphabet.len())]));
            if let Ok(id) = select([[&text]]) {
                assert_eq!(one(&format!("v=STSv1; id={id};")), Ok(id));
            }
        }
    }
}
