//! The operator's own policies (`policy.overrides`, design §11).

use std::collections::HashMap;
use std::sync::Arc;

use crate::limits::REPLY_BYTES;
use crate::names::{Domain, NameError, NextHop, NotADestination};

/// Policies by next hop, exact or for everything below a domain.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    exact: HashMap<NextHop, Override>,
    below: HashMap<String, Override>,
}

/// What an override says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// This Postfix policy text.
    Policy(Arc<str>),
    /// NOTFOUND, without any lookup.
    Skip,
}

/// Why an override cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The key is not a next hop.
    #[error("policy.overrides: \"{0}\": {1}")]
    Key(String, NotADestination),
    /// The key begins with a dot, and what follows is not a domain.
    #[error("policy.overrides: \"{0}\": {1}")]
    Below(String, NameError),
    /// Two keys mean the same next hop.
    #[error("policy.overrides: \"{0}\" is there twice")]
    Twice(String),
    /// The policy text is empty, too long, or has characters other than printable ASCII.
    #[error("policy.overrides: \"{0}\": not a policy text")]
    Text(String),
}

impl Overrides {
    /// Checks keys (`example.com`, `.example.com`, `[mx.example.com]:587`) and texts.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        for (key, text) in pairs {
            let value = parse_text(text).ok_or_else(|| OverrideError::Text(key.to_owned()))?;
            let earlier = match key.strip_prefix('.') {
                Some(parent) => {
                    let parent = Domain::parse(parent).map_err(|error| OverrideError::Below(key.to_owned(), error))?;
                    overrides.below.insert(parent.into(), value)
                }
                None => {
                    let hop =
                        NextHop::parse(key.as_bytes()).map_err(|error| OverrideError::Key(key.to_owned(), error))?;
                    overrides.exact.insert(hop, value)
                }
            };
            if earlier.is_some() {
                return Err(OverrideError::Twice(key.to_owned()));
            }
        }
        Ok(overrides)
    }

    /// The override for a next hop: its own first, then, for a plain domain, that of the nearest parent.
    pub fn find(&self, hop: &NextHop) -> Option<&Override> {
        if self.exact.is_empty() && self.below.is_empty() {
            return None;
        }
        if let Some(found) = self.exact.get(hop) {
            return Some(found);
        }
        let NextHop::Domain { domain, port: None } = hop else { return None };
        let mut name = domain.as_str();
        while let Some((_, parent)) = name.split_once('.') {
            if let Some(found) = self.below.get(parent) {
                return Some(found);
            }
            name = parent;
        }
        None
    }
}

fn parse_text(text: &str) -> Option<Override> {
    let text = text.trim();
    if text == "skip" {
        return Some(Override::Skip);
    }
    let printable = text.bytes().all(|octet| (0x20..0x7f).contains(&octet));
    (!text.is_empty() && printable && text.len() + "OK ".len() <= REPLY_BYTES).then(|| Override::Policy(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(overrides: &Overrides, key: &str) -> Option<String> {
        let hop = NextHop::parse(key.as_bytes()).expect("a next hop");
        overrides.find(&hop).map(|found| match found {
            Override::Policy(text) => text.to_string(),
            Override::Skip => "skip".to_owned(),
        })
    }

    #[test]
    fn the_own_key_comes_first_then_the_nearest_parent() {
        let overrides = Overrides::new([
            ("example.com", "encrypt"),
            (".example.com", "may"),
            (".deep.example.com", "skip"),
            ("bücher.example", "none"),
            ("[mx.example.com]:587", "verify"),
        ])
        .expect("overrides");
        let rows = [
            ("example.com", Some("encrypt")),
            ("EXAMPLE.com.", Some("encrypt")),
            ("a.example.com", Some("may")),
            ("deep.example.com", Some("may")),
            ("a.b.deep.example.com", Some("skip")),
            ("xn--bcher-kva.example", Some("none")),
            ("[mx.example.com]:587", Some("verify")),
            ("[mx.example.com]", None),
            ("example.com:587", None),
            ("notexample.com", None),
            ("com", None),
        ];
        for (key, expected) in rows {
            assert_eq!(find(&overrides, key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for pair in
            [("", "may"), (".", "may"), ("192.0.2.1", "may"), ("a.example", ""), ("a.example", "may\n"), ("a b", "may")]
        {
            let refused = Overrides::new([pair]).is_err();
            assert_eq!(refused, pair.1 != "may\n", "{pair:?}");
        }
        assert!(Overrides::new([("a.example", "m\u{e4}y")]).is_err());
        assert!(matches!(Overrides::new([("a.example", "may"), ("A.example.", "none")]), Err(OverrideError::Twice(_))));
    }
}
