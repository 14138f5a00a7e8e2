//! `resolver.insecure`: zones that are not validated (RFC 7646), each with an end where it has one.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer};

use super::fields;
use crate::clock::UnixTime;
use crate::names::Domain;

/// One entry: `"broken.example"`, or `{ zone = "broken.example", until = "2027-01-31" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsecureZone {
    /// The zone; `None` is the root.
    pub zone: Option<Domain>,
    /// Its last day; `None`: no end.
    pub until: Option<LastDay>,
}

/// A calendar day in UTC, which still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastDay {
    /// Days since 1970-01-01.
    days: i64,
}

/// Seconds of a day.
const DAY: i64 = 86_400;

impl LastDay {
    /// Parses `2027-01-31`; `None` for anything else and for days that no calendar has.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = |part: &str, length: usize| {
            let is_number = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| part.parse::<i64>().ok()).flatten()
        };
        let mut parts = text.split('-');
        let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if parts.next().is_some() || !(1..=length).contains(&day) {
            return None;
        }
        // Years begin in March, so that the leap day is the last one; days since 0000-03-01.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        Some(Self { days: days + (153 * month + 2) / 5 + day - 1 - 719_468 })
    }

    /// The first second after it.
    pub fn end(self) -> UnixTime {
        (self.days + 1) * DAY
    }
}

/// `until`: a day as a text, or as TOML has it without quotes.
fn last_day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<LastDay>, D::Error> {
    struct DayVisitor;
    impl<'de> Visitor<'de> for DayVisitor {
        type Value = LastDay;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a day like `\"2027-01-31\"`")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<LastDay, E> {
            LastDay::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LastDay, A::Error> {
            // How a date without quotes comes out of the TOML parser.
            match map.next_entry::<String, String>()? {
                Some((_, text)) => self.visit_str(&text),
                None => Err(de::Error::invalid_type(Unexpected::Map, &self)),
            }
        }
    }
    deserializer.deserialize_any(DayVisitor).map(Some)
}

impl<'de> Deserialize<'de> for InsecureZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        struct Table {
            #[serde(deserialize_with = "fields::zone")]
            zone: Option<Domain>,
            #[serde(default, deserialize_with = "last_day")]
            until: Option<LastDay>,
        }
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = InsecureZone;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a zone like `\"broken.example\"`, or `{ zone = \"broken.example\", until = \"2027-01-31\" }`",
                )
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<InsecureZone, E> {
                let zone = if text == "." { None } else { Some(Domain::parse(text).ok()) };
                match zone {
                    Some(None) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                    zone => Ok(InsecureZone { zone: zone.flatten(), until: None }),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InsecureZone, A::Error> {
                let Table { zone, until } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(InsecureZone { zone, until })
            }
        }
        deserializer.deserialize_any(EntryVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Vec<InsecureZone>, String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("postseal.toml");
        std::fs::write(&path, text).expect("written");
        let environment = environment.iter().copied().collect();
        let sources = Sources { file: Some(path), environment, ..Sources::default() };
        Config::load(&sources).map(|config| config.resolver.insecure).map_err(|error| error.to_string())
    }

    #[test]
    fn a_last_day_counts_to_its_end() {
        for (text, end) in [
            ("1970-01-01", Some(86_400)),
            ("2000-02-29", Some(951_868_800)),
            ("2027-01-31", Some(1_801_440_000)),
            ("2099-12-31", Some(4_102_444_800)),
            ("2027-02-29", None),
            ("2100-02-29", None),
            ("2027-13-01", None),
            ("2027-00-10", None),
            ("2027-01-00", None),
            ("2027-1-31", None),
            ("27-01-31", None),
            ("2027-01-31T00:00:00Z", None),
            ("2027-01-31-1", None),
            ("+027-01-31", None),
            ("", None),
        ] {
            assert_eq!(LastDay::parse(text).map(LastDay::end), end, "{text}");
        }
    }

    #[test]
    fn entries_are_zones_alone_or_with_an_end_wherever_they_come_from() {
        let zone = |name: &str, day: Option<&str>| InsecureZone {
            zone: Some(Domain::parse(name).expect("a domain")),
            until: day.and_then(LastDay::parse),
        };
        let both = [zone("broken.example", None), zone("local", Some("2027-01-31"))];
        let text = r#"["Broken.example", { zone = "local", until = "2027-01-31" }]"#;
        assert_eq!(load(&format!("[resolver]\ninsecure = {text}"), &[]).expect("a list"), both);
        assert_eq!(load("", &[("POSTSEAL_RESOLVER__INSECURE", text)]).expect("a list"), both);
        let plain = load("", &[("POSTSEAL_RESOLVER__INSECURE", "broken.example, local")]).expect("a list");
        assert_eq!(plain, [zone("broken.example", None), zone("local", None)]);
        let tables = "[[resolver.insecure]]\nzone = \"local\"\nuntil = 2027-01-31\n";
        assert_eq!(load(tables, &[]).expect("a date of TOML's"), [zone("local", Some("2027-01-31"))]);
        let root = load("[resolver]\ninsecure = [\".\"]", &[]).expect("the root");
        assert_eq!(root, [InsecureZone { zone: None, until: None }]);
    }

    #[test]
    fn what_is_malformed_names_the_key_and_what_is_there() {
        for (value, part) in [
            ("\"broken.example\"", "broken.example"),
            ("[\"not a zone\"]", "not a zone"),
            ("[7]", "7"),
            ("[{ until = \"2027-01-31\" }]", "zone"),
            ("[{ zone = \"a.example\", until = \"31.1.2027\" }]", "31.1.2027"),
            ("[{ zone = \"a.example\", until = \"2027-02-30\" }]", "2027-02-30"),
            ("[{ zone = \"a.example\", until = 2027 }]", "2027"),
            ("[{ zone = \"a.example\", untill = \"2027-01-31\" }]", "untill"),
            ("[{ zone = \"a..example\" }]", "a..example"),
        ] {
            let message = load(&format!("[resolver]\ninsecure = {value}"), &[]).expect_err(value);
            assert!(message.contains("resolver.insecure") && message.contains(part), "{value}: {message}");
        }
        let message = load("", &[("POSTSEAL_RESOLVER__INSECURE", "a b")]).expect_err("no zone");
        assert!(message.starts_with("POSTSEAL_RESOLVER__INSECURE") && message.contains("a b"), "{message}");
    }
}
