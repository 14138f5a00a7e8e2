//! `policy.overrides`: what the operator decides instead of the policy engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::names::{Domain, NextHop};

/// Overrides by next hop. `example.com` means exactly that key; `.example.com` any domain below it, as in
/// Postfix's own tables, nearest first; keys in brackets or with a port stand for themselves alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    exact: HashMap<NextHop, Override>,
    below: HashMap<String, Override>,
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

/// Why Postfix would not take a policy text (it would defer the mail; postconf(5), smtp_tls_policy_maps).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyTextError {
    /// Nothing there.
    #[error("empty; to leave the domain to Postfix's default say \"skip\"")]
    Empty,
    /// Characters that cannot travel.
    #[error("only printable ASCII is allowed, at most {MAX_POLICY} characters")]
    Characters,
    /// The first word is no security level.
    #[error("unknown level `{0}`; expected none, may, encrypt, fingerprint, dane, dane-only, verify, secure or skip")]
    Level(String),
    /// Not `name=value`.
    #[error("`{0}` is not name=value")]
    Attribute(String),
    /// No attribute of that name.
    #[error("unknown attribute `{0}`")]
    UnknownAttribute(String),
    /// An attribute that this level does not take.
    #[error("attribute `{attribute}` is invalid at level {level}")]
    WrongLevel {
        /// The attribute.
        attribute: String,
        /// The level.
        level: String,
    },
    /// A value the attribute does not take.
    #[error("attribute `{0}`: invalid value")]
    Value(String),
    /// `fingerprint` without anything to compare with.
    #[error("level fingerprint needs match=")]
    MissingMatch,
}

/// Longest override; far beyond any sensible one.
const MAX_POLICY: usize = 4_000;

const LEVELS: &[&str] = &["none", "may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"];

impl Overrides {
    /// Checks and takes in the table as written.
    pub fn parse(table: &BTreeMap<String, String>) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        for (key, text) in table {
            let bad_key = || OverrideError::Key { key: key.clone() };
            let value = if text.trim().eq_ignore_ascii_case("skip") {
                Override::Skip
            } else {
                check_policy(text).map_err(|reason| OverrideError::Policy {
                    key: key.clone(),
                    text: text.clone(),
                    reason,
                })?;
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

    /// True where nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// How many keys are overridden.
    pub fn len(&self) -> usize {
        self.exact.len() + self.below.len()
    }
}

/// Checks what Postfix checks in `tls_policy_lookup_one` (levels, attribute names, which level takes which):
/// an error there defers the mail, so it is refused here, when the operator is looking.
fn check_policy(text: &str) -> Result<(), PolicyTextError> {
    if text.len() > MAX_POLICY || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(PolicyTextError::Characters);
    }
    let mut tokens = tokens(text);
    let level = tokens.next().ok_or(PolicyTextError::Empty)?.to_ascii_lowercase();
    if !LEVELS.contains(&level.as_str()) {
        return Err(PolicyTextError::Level(level));
    }
    let mut has_match = false;
    for token in tokens {
        let malformed = || PolicyTextError::Attribute(token.to_owned());
        let inner = match token.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or_else(malformed)?.trim(),
            None => token,
        };
        let (name, value) = inner.split_once('=').ok_or_else(malformed)?;
        let name = name.trim().to_ascii_lowercase();
        check_attribute(&level, &name, value.trim())?;
        has_match |= name == "match";
    }
    if level == "fingerprint" && !has_match {
        return Err(PolicyTextError::MissingMatch);
    }
    Ok(())
}

fn check_attribute(level: &str, name: &str, value: &str) -> Result<(), PolicyTextError> {
    let invalid = || PolicyTextError::Value(name.to_owned());
    if value.is_empty() && !matches!(name, "protocols" | "exclude") {
        return Err(invalid());
    }
    let levels: &[&str] = match name {
        "match" => &["fingerprint", "verify", "secure"],
        "tafile" => &["verify", "secure"],
        "protocols" | "ciphers" | "exclude" | "servername" | "connection_reuse" | "enable_rpk" => LEVELS,
        "policy_type" | "policy_domain" | "policy_string" | "policy_ttl" | "policy_failure" | "mx_host_pattern" => {
            LEVELS
        }
        _ => return Err(PolicyTextError::UnknownAttribute(name.to_owned())),
    };
    if !levels.contains(&level) {
        return Err(PolicyTextError::WrongLevel { attribute: name.to_owned(), level: level.to_owned() });
    }
    let valid = match name {
        "servername" => matches!(value, "hostname" | "nexthop") || Domain::parse(value).is_ok(),
        "connection_reuse" | "enable_rpk" => matches!(value, "yes" | "no"),
        "ciphers" => matches!(value, "export" | "low" | "medium" | "high" | "null"),
        _ => true,
    };
    if valid { Ok(()) } else { Err(invalid()) }
}

/// Words separated by blanks or commas; `{ … }` is one word.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return None;
        }
        let end = if rest.starts_with('{') {
            rest.find('}').map_or(rest.len(), |position| position + 1)
        } else {
            rest.find([' ', ',']).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
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
    fn policies_postfix_would_defer_on_are_refused_at_load() {
        for good in [
            "none",
            "may",
            "MAY",
            "encrypt ciphers=high",
            "dane-only",
            "secure match=a.example:.b.example servername=hostname",
            "verify, match=nexthop, protocols=>=TLSv1.2",
            "fingerprint match=AB:CD",
            "secure match=x.example { policy_string = version: STSv1 }",
        ] {
            assert_eq!(check_policy(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "  ",
            "must",
            "encrypt match=a",
            "dane match=a",
            "secure match",
            "secure match=",
            "secure colour=blue",
            "secure servername=!",
            "secure { policy_string = x",
            "fingerprint",
            "may\n",
            "secure match=bücher.example",
            "encrypt ciphers=best",
        ] {
            assert!(check_policy(bad).is_err(), "{bad:?}");
        }
        assert!(Overrides::parse(&table(&[("192.0.2.1", "may")])).is_err());
        assert!(Overrides::parse(&table(&[("example.com", "may"), ("EXAMPLE.com", "none")])).is_err());
    }
}
