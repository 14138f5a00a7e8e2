//! What was made of the name that somebody typed, and what was probably meant where it is no mail domain. Pure.

use crate::names::{Domain, NextHop};

/// Notes on a key, one line each; none where the key is a plain name in its normal form.
pub(super) fn notes(key: &str) -> Vec<String> {
    let Ok(hop) = NextHop::parse(key.as_bytes()) else {
        return meant(key).map(|meant| format!("did you mean {meant}?")).into_iter().collect();
    };
    let mut notes = Vec::new();
    let (normal, domain) = (hop.to_string(), hop.policy_domain().as_str());
    let unicode = idna::domain_to_unicode(domain).0;
    if unicode != domain {
        notes.push(format!("{unicode} is {domain} in DNS"));
    } else if normal != key {
        notes.push(format!("\"{key}\" is read as {normal}"));
    }
    notes
}

/// The mail domain in a mail address, a URL, or a name with dots or spaces too many.
fn meant(key: &str) -> Option<Domain> {
    let key = key.trim().trim_matches(['<', '>', '"', '\'']);
    let key = key.strip_prefix("mailto:").unwrap_or(key);
    let key = key.split_once("://").map_or(key, |(_, rest)| rest);
    let key = key.split(['/', '?']).next().unwrap_or_default();
    let key = key.rsplit_once('@').map_or(key, |(_, domain)| domain);
    let labels: Vec<&str> = key.split('.').map(str::trim).filter(|label| !label.is_empty()).collect();
    let meant = Domain::parse(&labels.join(".")).ok()?;
    // A single word is as likely a slip as a domain.
    (labels.len() > 1).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_told_with_what_was_made_of_it() {
        for (key, expected) in [
            ("example.com", ""),
            ("[mx.example.com]:587", ""),
            ("192.0.2.1", ""),
            ("Example.COM", "\"Example.COM\" is read as example.com"),
            ("example.com.", "\"example.com.\" is read as example.com"),
            ("[MX.example.com]:25", "\"[MX.example.com]:25\" is read as [mx.example.com]"),
            ("Bücher.example", "bücher.example is xn--bcher-kva.example in DNS"),
            ("xn--bcher-kva.example", "bücher.example is xn--bcher-kva.example in DNS"),
            ("[mx.bücher.example]:587", "mx.bücher.example is mx.xn--bcher-kva.example in DNS"),
            ("user@example.com", "did you mean example.com?"),
            ("<user@Example.com>", "did you mean example.com?"),
            ("mailto:user@example.com", "did you mean example.com?"),
            ("https://example.com/path?query", "did you mean example.com?"),
            ("a..b", "did you mean a.b?"),
            (".example.com", "did you mean example.com?"),
            ("example.com..", "did you mean example.com?"),
            ("user@", ""),
            ("!!!", ""),
            ("..", ""),
        ] {
            assert_eq!(notes(key).join("; "), expected, "{key}");
        }
    }
}
