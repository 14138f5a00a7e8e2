//! Policy texts as Postfix takes them: a level and attributes (postconf(5), smtp_tls_policy_maps; TLS_README).
//!
//! One table says which attribute is legal where, how often, with which values, and since which Postfix. What Postfix does
//! not take it answers by deferring the mail, and some of it by a crash, so it is refused while the operator is looking.

use super::policy_values::{
    is_any, is_anything, is_cipher_grade, is_fingerprints, is_hostname, is_number, is_policy_failure, is_policy_type,
    is_protocols, is_yes_or_no, since_protocols,
};

/// Why Postfix would not take a policy text.
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
    /// Not `name=value`, nor `{ name = value }`.
    #[error("`{0}` is neither name=value nor {{ name = value }}")]
    Attribute(String),
    /// No attribute of that name.
    #[error("unknown attribute `{0}`")]
    UnknownAttribute(String),
    /// An attribute that this level does not take.
    #[error("attribute `{attribute}` is invalid at level {level}")]
    WrongLevel {
        /// The attribute.
        attribute: &'static str,
        /// The level.
        level: &'static str,
    },
    /// An attribute that may stand once only.
    #[error("attribute `{0}` appears twice")]
    Repeated(&'static str),
    /// A value the attribute does not take.
    #[error("attribute `{attribute}`: invalid value; expected {expected}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// `fingerprint` without anything to compare with.
    #[error("level fingerprint needs match=")]
    MissingMatch,
    /// An attribute that means nothing without another; Postfix rejects the policy, or crashes on it.
    #[error("attribute `{attribute}` needs `{needed}` beside it")]
    Missing {
        /// The attribute.
        attribute: &'static str,
        /// What is not there.
        needed: &'static str,
    },
}

/// Something in a policy text that not every Postfix knows: what, and since which version.
pub type Needed = (&'static str, (u32, u32));

/// Longest policy text; far beyond any sensible one.
const MAX_POLICY: usize = 4_000;

const LEVELS: [&str; 8] = ["none", "may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"];
/// `none` takes no attributes.
const WITH_TLS: &[&str] = &["may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"];
const PKIX: &[&str] = &["verify", "secure"];

/// How often an attribute may stand in one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Often {
    Once,
    /// Again and again: all count, or the last one does.
    Many,
}

/// One attribute.
struct Attribute {
    name: &'static str,
    levels: &'static [&'static str],
    often: Often,
    is_valid: fn(&str) -> bool,
    expected: &'static str,
    since: (u32, u32),
}

const fn attribute(
    name: &'static str,
    levels: &'static [&'static str],
    often: Often,
    (is_valid, expected): (fn(&str) -> bool, &'static str),
    since: (u32, u32),
) -> Attribute {
    Attribute { name, levels, often, is_valid, expected, since }
}

/// Before the oldest Postfix that anybody runs: no need to say it.
const ALWAYS: (u32, u32) = (2, 11);

/// All attributes there are.
const ATTRIBUTES: [Attribute; 14] = {
    use Often::{Many, Once};
    [
        attribute("ciphers", WITH_TLS, Once, (is_cipher_grade, "export, low, medium, high or null"), ALWAYS),
        attribute("protocols", WITH_TLS, Once, (is_protocols, "protocols like `>=TLSv1.2` or `!SSLv3:!TLSv1`"), ALWAYS),
        attribute("exclude", WITH_TLS, Once, (is_anything, "ciphers separated by colons"), ALWAYS),
        attribute("servername", WITH_TLS, Once, (is_hostname, "hostname, nexthop or a host name"), (3, 4)),
        attribute("match", &["fingerprint", "verify", "secure"], Many, (is_any, "something"), ALWAYS),
        attribute("tafile", PKIX, Many, (is_any, "a file"), ALWAYS),
        attribute("connection_reuse", WITH_TLS, Many, (is_yes_or_no, "yes or no"), (3, 4)),
        attribute("enable_rpk", WITH_TLS, Many, (is_yes_or_no, "yes or no"), (3, 9)),
        attribute("policy_type", WITH_TLS, Once, (is_policy_type, "sts or no-policy-found"), (3, 10)),
        attribute("policy_domain", WITH_TLS, Once, (is_hostname, "a domain without trailing dot"), (3, 10)),
        attribute("policy_string", WITH_TLS, Many, (is_any, "a line of the policy"), (3, 10)),
        attribute("policy_ttl", WITH_TLS, Once, (is_number, "seconds"), (3, 10)),
        attribute("mx_host_pattern", WITH_TLS, Many, (is_any, "a pattern of the policy"), (3, 10)),
        attribute(
            "policy_failure",
            WITH_TLS,
            Once,
            (is_policy_failure, "sts-policy-fetch-error, sts-policy-invalid, sts-webpki-invalid or validation-failure"),
            (3, 10),
        ),
    ]
};

/// Attributes that describe a policy for TLSRPT, and mean nothing without `policy_type`.
const OF_A_POLICY: [&str; 5] = ["policy_domain", "policy_string", "policy_ttl", "mx_host_pattern", "policy_failure"];

/// Checks a policy text; gives what in it only newer versions of Postfix know.
pub(super) fn check_policy(text: &str) -> Result<Vec<Needed>, PolicyTextError> {
    if text.len() > MAX_POLICY || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(PolicyTextError::Characters);
    }
    let mut tokens = tokens(text);
    let word = tokens.next().ok_or(PolicyTextError::Empty)?;
    let level = LEVELS.into_iter().find(|level| level.eq_ignore_ascii_case(word));
    let level = level.ok_or_else(|| PolicyTextError::Level(word.to_owned()))?;
    let (mut seen, mut needed) = (Vec::new(), Vec::new());
    for token in tokens {
        let (name, value) = name_and_value(token)?;
        let known = ATTRIBUTES.iter().find(|known| known.name.eq_ignore_ascii_case(name));
        let known = known.ok_or_else(|| PolicyTextError::UnknownAttribute(name.to_owned()))?;
        known.check(level, value, seen.iter().any(|(seen, _)| *seen == known.name))?;
        seen.push((known.name, value));
        if token.starts_with('{') {
            needed.push(("{ name = value }", (3, 10)));
        }
        if known.since > ALWAYS {
            needed.push((known.name, known.since));
        } else if known.name == "protocols" {
            needed.extend(since_protocols(value).map(|since| ("protocols", since)));
        }
    }
    check_together(level, &seen)?;
    needed.sort();
    needed.dedup();
    Ok(needed)
}

impl Attribute {
    fn check(&self, level: &'static str, value: &str, is_repeated: bool) -> Result<(), PolicyTextError> {
        if !self.levels.contains(&level) {
            return Err(PolicyTextError::WrongLevel { attribute: self.name, level });
        }
        if is_repeated && self.often == Often::Once {
            return Err(PolicyTextError::Repeated(self.name));
        }
        let invalid = |expected| PolicyTextError::Value { attribute: self.name, expected };
        if !(self.is_valid)(value) {
            return Err(invalid(self.expected));
        }
        if level == "fingerprint" && self.name == "match" && !is_fingerprints(value) {
            return Err(invalid("fingerprints in hexadecimal, separated by `|`"));
        }
        Ok(())
    }
}

/// What only all attributes together tell.
fn check_together(level: &str, seen: &[(&'static str, &str)]) -> Result<(), PolicyTextError> {
    let has = |name: &str| seen.iter().any(|(seen, _)| *seen == name);
    if level == "fingerprint" && !has("match") {
        return Err(PolicyTextError::MissingMatch);
    }
    let Some((policy_type, value)) = seen.iter().find(|(name, _)| *name == "policy_type") else {
        return match OF_A_POLICY.into_iter().find(|name| has(name)) {
            Some(attribute) => Err(PolicyTextError::Missing { attribute, needed: "policy_type" }),
            None => Ok(()),
        };
    };
    // Up to 3.10, Postfix reads the lists without looking whether they are there.
    let needed: &[&'static str] = match value.eq_ignore_ascii_case("sts") && !has("policy_failure") {
        true => &["policy_domain", "policy_string", "mx_host_pattern"],
        false => &["policy_domain"],
    };
    match needed.iter().find(|name| !has(name)) {
        Some(needed) => Err(PolicyTextError::Missing { attribute: policy_type, needed }),
        None => Ok(()),
    }
}

/// `name=value`, or `{ name = value }` with blanks.
fn name_and_value(token: &str) -> Result<(&str, &str), PolicyTextError> {
    let malformed = || PolicyTextError::Attribute(token.to_owned());
    let inner = match token.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(malformed)?.trim(),
        None => token,
    };
    let (name, value) = inner.split_once('=').ok_or_else(malformed)?;
    let name = name.trim();
    if name.is_empty() || name.contains(' ') { Err(malformed()) } else { Ok((name, value.trim())) }
}

/// Words separated by blanks or commas; `{ … }`, which may hold further pairs of braces, is one word.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.is_empty() {
            return None;
        }
        let mut depth = 0_usize;
        let end = rest.bytes().position(|octet| {
            match octet {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(octet, b' ' | b',')
        });
        let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STS: &str = "policy_type=sts policy_domain=example.com mx_host_pattern=*.example.net \
                       { policy_string = version: STSv1 } { policy_string = mode: enforce }";

    #[test]
    fn what_postfix_takes_is_accepted() {
        for good in [
            "none",
            "may",
            "MAY",
            "may ciphers=high",
            "encrypt ciphers=HIGH",
            "encrypt exclude=",
            "encrypt exclude=aNULL:MD5",
            "encrypt protocols=",
            "encrypt protocols=!SSLv2:!SSLv3:!TLSv1",
            "encrypt protocols=TLSv1.2:TLSv1.3",
            "encrypt { protocols = >=TLSv1.2, <=0304 }",
            "encrypt protocols=>=0x0303",
            "dane",
            "dane ciphers=high connection_reuse=yes",
            "dane-only enable_rpk=yes",
            "dane-only servername=hostname", // ignored, and legal
            "secure",
            "secure match=a.example:.b.example servername=hostname",
            "secure match=a.example match=b.example",
            "secure tafile=/etc/ssl/one.pem tafile=/etc/ssl/two.pem",
            "secure servername=mx.example.com",
            "verify, match=nexthop, protocols=>=TLSv1.2",
            "verify Match=hostname:nexthop:dot-nexthop",
            "fingerprint match=AB:CD|ef01",
            "fingerprint match=AB:CD match=12",
            "encrypt connection_reuse=no connection_reuse=YES",
            "may policy_type=no-policy-found policy_domain=example.com",
            "may policy_type=sts policy_domain=example.com policy_failure=sts-policy-fetch-error",
            "encrypt policy_type=sts policy_domain=example.com policy_failure=validation-failure",
        ] {
            assert!(check_policy(good).is_ok(), "{good}: {:?}", check_policy(good));
        }
        let full = format!("secure match=.example.net {STS} policy_ttl=86400");
        assert!(check_policy(&full).is_ok(), "{:?}", check_policy(&full));
    }

    #[test]
    fn what_postfix_rejects_or_crashes_on_is_refused_with_a_reason() {
        for (bad, reason) in [
            ("", "empty"),
            ("  ", "empty"),
            ("must", "unknown level `must`"),
            ("half-dane", "unknown level"),
            ("secure{", "unknown level"),
            ("may\n", "printable ASCII"),
            ("secure match=bücher.example", "printable ASCII"),
            ("none ciphers=high", "invalid at level none"),
            ("may match=a.example", "invalid at level may"),
            ("encrypt match=a", "invalid at level encrypt"),
            ("dane match=a", "invalid at level dane"),
            ("dane-only tafile=/x", "invalid at level dane-only"),
            ("fingerprint tafile=/x match=AB", "invalid at level fingerprint"),
            ("fingerprint", "needs match="),
            ("fingerprint match=sha256", "hexadecimal"),
            ("fingerprint match=A", "hexadecimal"),
            ("secure match", "neither name=value"),
            ("secure match=", "`match`: invalid value"),
            ("secure =x", "neither name=value"),
            ("secure tafile=", "`tafile`: invalid value"),
            ("secure colour=blue", "unknown attribute `colour`"),
            ("secure servername=!", "`servername`: invalid value"),
            ("secure servername=", "`servername`: invalid value"),
            ("secure servername=mx.example.com.", "`servername`: invalid value"),
            ("secure servername=192.0.2.1", "`servername`: invalid value"),
            ("secure servername=a.example servername=b.example", "`servername` appears twice"),
            ("encrypt ciphers=high ciphers=high", "`ciphers` appears twice"),
            ("encrypt exclude= exclude=", "`exclude` appears twice"),
            ("encrypt protocols=TLSv1.2 protocols=TLSv1.3", "`protocols` appears twice"),
            ("encrypt protocols=foo", "`protocols`: invalid value"),
            ("encrypt protocols=!foo", "`protocols`: invalid value"),
            ("encrypt protocols=>=TLSv9", "`protocols`: invalid value"),
            ("encrypt protocols=>=", "`protocols`: invalid value"),
            ("encrypt protocols=TLSv1.2,TLSv1.3", "neither name=value"),
            ("encrypt ciphers=best", "`ciphers`: invalid value"),
            ("encrypt ciphers=", "`ciphers`: invalid value"),
            ("encrypt connection_reuse=maybe", "`connection_reuse`: invalid value"),
            ("encrypt enable_rpk=1", "`enable_rpk`: invalid value"),
            ("secure { policy_string = x", "neither name=value"),
            ("secure { match = a } }", "neither name=value"),
            ("secure {match}", "neither name=value"),
            ("secure policy_type=sts", "needs `policy_domain`"),
            ("secure policy_type=sts policy_domain=example.com", "needs `policy_string`"),
            ("secure policy_type=sts policy_domain=example.com policy_string=x", "needs `mx_host_pattern`"),
            ("secure policy_type=tlsa policy_domain=example.com", "`policy_type`: invalid value"),
            ("may policy_type=no-policy-found", "needs `policy_domain`"),
            ("secure policy_domain=example.com", "needs `policy_type`"),
            ("secure policy_string=x", "needs `policy_type`"),
            ("secure mx_host_pattern=x", "needs `policy_type`"),
            ("may policy_failure=sts-policy-invalid", "needs `policy_type`"),
            ("may policy_type=sts policy_domain=example.com policy_failure=other", "`policy_failure`: invalid value"),
            ("secure policy_type=sts policy_domain=example.com. policy_failure=sts-policy-invalid", "`policy_domain`"),
            ("secure policy_ttl=soon policy_type=sts", "`policy_ttl`: invalid value"),
        ] {
            let error = check_policy(bad).expect_err(bad).to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        let twice = format!("secure {STS} policy_domain=example.com");
        assert_eq!(check_policy(&twice), Err(PolicyTextError::Repeated("policy_domain")));
    }

    #[test]
    fn what_only_newer_versions_know_is_told() {
        for (text, needed) in [
            ("secure match=a.example ciphers=high protocols=!SSLv3", &[][..]),
            (
                "secure servername=hostname connection_reuse=yes",
                &[("connection_reuse", (3, 4)), ("servername", (3, 4))],
            ),
            ("encrypt protocols=>=TLSv1.2", &[("protocols", (3, 6))]),
            ("dane enable_rpk=yes", &[("enable_rpk", (3, 9))]),
            ("encrypt { ciphers = high }", &[("{ name = value }", (3, 10))]),
        ] {
            assert_eq!(check_policy(text).as_deref(), Ok(needed), "{text}");
        }
    }
}
