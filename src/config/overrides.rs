//! `policy.overrides`: what the operator decides instead of the policy engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::policy_text::{Needed, PolicyTextError, check_policy};
use crate::names::{Domain, NextHop};

/// Overrides by next hop. `example.com` means exactly that key; `.example.com` any domain below it, as in
/// Postfix's own tables, nearest first; keys in brackets or with a port stand for themselves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    exact: HashMap<NextHop, Override>,
    below: HashMap<String, Override>,
    /// What not every Postfix knows, by key.
    needed: Vec<(String, Needed)>,
}

/// What an override answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Override {
    /// This policy text, as Postfix takes it.
    Policy(Arc<str>),
    /// `"skip"`: NOTFOUND, so that Postfix's own default applies.
    Skip,
}

/// Why an override is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The key is no next hop.
    #[error("`{key}` is not a domain, `.domain`, `[host]` or `[host]:port`")]
    Key {
        /// The key as written.
        key: String,
    },
    /// Two spellings of one key.
    #[error("`{key}` appears twice")]
    Twice {
        /// The second spelling.
        key: String,
    },
    /// The policy text is none that Postfix would take.
    #[error("`{key}` = \"{text}\": {reason}")]
    Policy {
        /// The key as written.
        key: String,
        /// The policy as written.
        text: String,
        /// What is wrong with it.
        reason: PolicyTextError,
    },
}

impl Overrides {
    /// Checks and takes in the table as written.
    pub fn parse(table: &BTreeMap<String, String>) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        for (key, text) in table {
            let bad_key = || OverrideError::Key { key: key.clone() };
            let value = if text.trim().eq_ignore_ascii_case("skip") {
                Override::Skip
            } else {
                let needed = check_policy(text).map_err(|reason| OverrideError::Policy {
                    key: key.clone(),
                    text: text.clone(),
                    reason,
                })?;
                overrides.needed.extend(needed.into_iter().map(|needed| (key.clone(), needed)));
                Override::Policy(text.trim().into())
            };
            let previous = match key.strip_prefix('.') {
                Some(parent) => {
                    let parent = Domain::parse(parent).map_err(|_| bad_key())?;
                    overrides.below.insert(parent.as_str().to_owned(), value)
                }
                None => overrides.exact.insert(NextHop::parse(key.as_bytes()).map_err(|_| bad_key())?, value),
            };
            if previous.is_some() {
                return Err(OverrideError::Twice { key: key.clone() });
            }
        }
        Ok(overrides)
    }

    /// The override for a next hop, if there is one.
    pub fn find(&self, next_hop: &NextHop) -> Option<&Override> {
        if self.is_empty() {
            return None;
        }
        if let Some(found) = self.exact.get(next_hop) {
            return Some(found);
        }
        let NextHop::Domain { domain, port: None } = next_hop else { return None };
        let mut rest = domain.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(found) = self.below.get(parent) {
                return Some(found);
            }
            rest = parent;
        }
        None
    }

    /// What a Postfix of this version, major and minor, rejects: key, what it does not know, and since when it is known.
    /// It defers the mail then.
    pub fn unknown_to(&self, version: (u32, u32)) -> impl Iterator<Item = (&str, &'static str, (u32, u32))> {
        let unknown = self.needed.iter().filter(move |(_, (_, since))| *since > version);
        unknown.map(|(key, (what, since))| (key.as_str(), *what, *since))
    }

    /// True where nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// How many keys are overridden.
    pub fn len(&self) -> usize {
        self.exact.len() + self.below.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn overrides_match_as_postfix_tables_do() {
        let overrides = Overrides::parse(&table(&[
            ("Example.COM", "encrypt"),
            (".example.com", "skip"),
            (".deep.example.com", "secure match=.example.net"),
            ("[mx.example.org]:587", "verify"),
        ]))
        .expect("good overrides");
        let find = |key: &str| overrides.find(&NextHop::parse(key.as_bytes()).expect("a next hop"));
        let policy = |text: &str| Override::Policy(text.into());
        assert_eq!(find("example.com"), Some(&policy("encrypt")));
        assert_eq!(find("a.example.com"), Some(&Override::Skip));
        assert_eq!(find("x.y.deep.example.com"), Some(&policy("secure match=.example.net")));
        assert_eq!(find("deep.example.com"), Some(&Override::Skip));
        assert_eq!(find("[mx.example.org]:587"), Some(&policy("verify")));
        for none in ["[mx.example.org]", "example.com:587", "[a.example.com]", "notexample.com", "com"] {
            assert_eq!(find(none), None, "{none}");
        }
    }

    #[test]
    fn keys_that_are_none_or_stand_twice_and_policies_that_postfix_rejects_are_refused() {
        assert!(Overrides::parse(&table(&[("192.0.2.1", "may")])).is_err());
        assert!(Overrides::parse(&table(&[("example.com", "may"), ("EXAMPLE.com", "none")])).is_err());
        let refused = Overrides::parse(&table(&[("example.com", "secure policy_type=sts")]));
        let text = refused.expect_err("a crash").to_string();
        assert!(text.starts_with("`example.com` = \"secure policy_type=sts\": "), "{text}");
    }

    #[test]
    fn what_older_versions_of_postfix_do_not_know_is_told_by_key() {
        let rows =
            [("a.example", "dane enable_rpk=yes"), (".b.example", "secure servername=hostname"), ("c.example", "may")];
        let overrides = Overrides::parse(&table(&rows)).expect("good overrides");
        let unknown = |version| {
            let unknown = overrides.unknown_to(version);
            unknown.map(|(key, what, _)| format!("{key} {what}")).collect::<Vec<_>>()
        };
        assert_eq!(unknown((3, 10)), Vec::<String>::new());
        assert_eq!(unknown((3, 7)), ["a.example enable_rpk"]);
        assert_eq!(unknown((3, 3)), [".b.example servername", "a.example enable_rpk"]);
    }
}
