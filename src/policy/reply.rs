//! The reply in Postfix's words (design §3, §4; socketmap_table(5), postconf(5) `smtp_tls_policy_maps`).

use std::fmt::{self, Write};

use super::decision::{Decision, Outcome};
use crate::cache::entry::{FetchFailureKind, StsPolicy};
use crate::config::{MapOptions, ReportLevel};
use crate::limits::{REASON_BYTES, REPLY_BYTES};
use crate::names::{Domain, NextHop};

/// Before a policy.
const OK: &str = "OK ";
/// The space belongs to it.
const NOT_FOUND: &str = "NOTFOUND ";

/// A socketmap reply; its `Display` is the text inside the netstring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A policy; never empty.
    Ok(String),
    /// No policy.
    NotFound,
    /// Ask again later; a reason in ASCII.
    Temp(String),
    /// The request is wrong and stays so; a reason in ASCII.
    Perm(String),
}

impl Reply {
    /// A temporary failure; the reason is cut and cleaned as Postfix needs it.
    pub fn temp(reason: impl fmt::Display) -> Self {
        Self::Temp(reason_text(reason))
    }

    /// A permanent failure, likewise.
    pub fn perm(reason: impl fmt::Display) -> Self {
        Self::Perm(reason_text(reason))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok(policy) => write!(f, "{OK}{policy}"),
            Self::NotFound => f.write_str(NOT_FOUND),
            Self::Temp(reason) => write!(f, "TEMP {reason}"),
            Self::Perm(reason) => write!(f, "PERM {reason}"),
        }
    }
}

/// Puts a decision about `hop` into Postfix's words, as the map wants them.
pub fn render(decision: &Decision, hop: &NextHop, map: &MapOptions) -> Reply {
    match &decision.outcome {
        Outcome::NotFound => Reply::NotFound,
        Outcome::Temporary(reason) => Reply::temp(format_args!("{}: {reason}", hop.policy_domain())),
        outcome => {
            let mut text = OK.to_owned();
            write_policy(&mut text, outcome, hop, map);
            Reply::Ok(text.split_off(OK.len()))
        }
    }
}

/// Appends what [`render`] says to `text`, which is empty: for nearly every answer without a buffer of its own.
pub fn write(text: &mut String, decision: &Decision, hop: &NextHop, map: &MapOptions) {
    match &decision.outcome {
        Outcome::NotFound => text.push_str(NOT_FOUND),
        // Writing to a String cannot fail.
        Outcome::Temporary(_) => _ = write!(text, "{}", render(decision, hop, map)),
        outcome => {
            text.push_str(OK);
            write_policy(text, outcome, hop, map);
        }
    }
}

/// Appends the policy to [`OK`], where the outcome is one.
fn write_policy(text: &mut String, outcome: &Outcome, hop: &NextHop, map: &MapOptions) {
    match outcome {
        Outcome::Override(policy) => text.push_str(policy),
        // Never TLSRPT attributes with DANE: Postfix takes the policy from its own TLSA lookup.
        Outcome::DaneOnly => text.push_str("dane-only"),
        Outcome::Dane => text.push_str("dane"),
        Outcome::Secure(held) => {
            let patterns = held.policy.mx.iter().map(|pattern| (pattern.is_wildcard(), pattern.host()));
            write_secure(text, patterns, map.require_sni);
            if map.tlsrpt {
                add_attributes(text, hop, &held.policy, None);
            }
        }
        Outcome::SecureHosts(held, hosts) => {
            write_secure(text, hosts.iter().map(|host| (false, host)), map.require_sni);
            if map.tlsrpt {
                add_attributes(text, hop, &held.policy, Some(hosts));
            }
        }
        Outcome::ReportTesting(level, held) => {
            text.push_str(level_text(*level));
            add_attributes(text, hop, &held.policy, None);
        }
        // Nothing to report: there is no policy that could have failed.
        Outcome::Fallback(level, _) => text.push_str(level_text(*level)),
        Outcome::ReportFailure(level, kind) => {
            let (level, failure) = (level_text(*level), failure_text(*kind));
            _ = write!(text, "{level} policy_type=sts policy_domain={} policy_failure={failure}", hop.policy_domain());
        }
        Outcome::NotFound | Outcome::Temporary(_) => {}
    }
}

/// What TLSRPT calls a policy that could not be had (RFC 8460 §4.3).
pub fn failure_text(kind: FetchFailureKind) -> &'static str {
    match kind {
        FetchFailureKind::Network | FetchFailureKind::Http => "sts-policy-fetch-error",
        FetchFailureKind::Certificate => "sts-webpki-invalid",
        FetchFailureKind::Invalid => "sts-policy-invalid",
    }
}

fn level_text(level: ReportLevel) -> &'static str {
    match level {
        ReportLevel::May => "may",
        ReportLevel::Encrypt => "encrypt",
    }
}

/// `secure match=mx.example.com:.example.net servername=hostname`: Postfix writes `*.` as a leading dot. What is one of
/// its words there is left out.
fn write_secure<'a>(text: &mut String, hosts: impl Iterator<Item = (bool, &'a Domain)>, require_sni: bool) {
    text.push_str("secure match=");
    for (index, (wildcard, host)) in hosts.filter(|(wildcard, host)| *wildcard || !is_match_word(host)).enumerate() {
        if index > 0 {
            text.push(':');
        }
        if wildcard {
            text.push('.');
        }
        text.push_str(host.as_str());
    }
    if require_sni {
        text.push_str(" servername=hostname");
    }
}

/// Whether `match=` would take a host of this name for one of Postfix's strategies, which match other names (postconf(5),
/// `smtp_tls_secure_cert_match`).
pub(in crate::policy) fn is_match_word(host: &Domain) -> bool {
    matches!(host.as_str(), "hostname" | "nexthop" | "dot-nexthop")
}

/// Whether `match=` can name any of the hosts that a policy allows.
pub(in crate::policy) fn can_match(policy: &StsPolicy) -> bool {
    policy.mx.iter().any(|pattern| pattern.is_wildcard() || !is_match_word(pattern.host()))
}

/// Adds what Postfix 3.10 and newer pass on to TLSRPT, as much as fits: all, or without the less telling
/// lines, or nothing. Never `sts` without a `policy_string` and an `mx_host_pattern`: Postfix up to 3.10
/// crashed on that. `hosts` stand in for the patterns of the policy where the answer is for them alone.
fn add_attributes(text: &mut String, hop: &NextHop, policy: &StsPolicy, hosts: Option<&[Domain]>) {
    let plain = text.len();
    let telling = |key: &str| matches!(key, "version" | "mode" | "max_age");
    let choices: [&dyn Fn(&str) -> bool; 2] = [&|_| true, &telling];
    for choice in choices {
        let (strings, patterns) = write_attributes(text, hop, policy, hosts, choice);
        if strings > 0 && patterns > 0 && text.len() <= REPLY_BYTES {
            return;
        }
        text.truncate(plain);
    }
}

/// Appends the attributes, and returns how many policy strings and patterns are among them.
fn write_attributes(
    text: &mut String,
    hop: &NextHop,
    policy: &StsPolicy,
    hosts: Option<&[Domain]>,
    choice: &dyn Fn(&str) -> bool,
) -> (usize, usize) {
    let (mut strings, mut patterns) = (0, 0);
    // Writing to a String cannot fail.
    _ = write!(text, " policy_type=sts policy_domain={}", hop.policy_domain());
    let mut write_pattern = |pattern: &str| {
        _ = write!(text, " mx_host_pattern={pattern}");
        patterns += 1;
    };
    match hosts {
        Some(hosts) => hosts.iter().for_each(|host| write_pattern(host.as_str())),
        None => policy.lines.iter().filter(|(key, _)| *key == "mx").for_each(|(_, value)| write_pattern(value)),
    }
    for (key, value) in policy.lines.iter().filter(|(key, value)| choice(key) && fits_in_braces(value)) {
        _ = write!(text, " {{ policy_string = {key}: {value} }}");
        strings += 1;
    }
    (strings, patterns)
}

/// Postfix ends the value at a brace that is out of balance; the parser let no NUL through.
fn fits_in_braces(value: &str) -> bool {
    !value.contains(['{', '}', '\0'])
}

/// ASCII without control characters, at most as long as Postfix logs.
fn reason_text(reason: impl fmt::Display) -> String {
    let mut text = reason.to_string();
    if !text.bytes().all(|octet| (0x20..0x7f).contains(&octet)) {
        text = text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    }
    text.truncate(REASON_BYTES); // ASCII by now: every octet is a boundary
    text
}
