//! Values of the attributes in a policy text, as Postfix parses them.

/// Names of protocols (postconf(5), smtp_tls_mandatory_protocols).
const PROTOCOLS: [&str; 6] = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

pub(super) fn is_anything(_: &str) -> bool {
    true
}

pub(super) fn is_any(value: &str) -> bool {
    !value.is_empty()
}

pub(super) fn is_number(value: &str) -> bool {
    // Postfix takes what fits into an int.
    value.bytes().all(|digit| digit.is_ascii_digit()) && value.parse::<i32>().is_ok()
}

fn is_one_of(value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

pub(super) fn is_yes_or_no(value: &str) -> bool {
    is_one_of(value, &["yes", "no"])
}

pub(super) fn is_cipher_grade(value: &str) -> bool {
    is_one_of(value, &["export", "low", "medium", "high", "null"])
}

pub(super) fn is_policy_type(value: &str) -> bool {
    is_one_of(value, &["sts", "no-policy-found"])
}

pub(super) fn is_policy_failure(value: &str) -> bool {
    is_one_of(value, &["sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid", "validation-failure"])
}

/// What Postfix takes for a host name: labels of letters, digits, `-` and `_`, no dot at the end, not digits alone.
pub(super) fn is_hostname(value: &str) -> bool {
    let is_label = |label: &str| {
        let hyphen = label.starts_with('-') || label.ends_with('-');
        let fits = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        !label.is_empty() && label.len() <= 63 && fits && !hyphen
    };
    let is_numeric = value.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
    value.len() <= 255 && !is_numeric && value.split('.').all(is_label)
}

/// Elements separated by colons, in braces by blanks and commas as well: `!name`, `name`, and since Postfix 3.6 bounds,
/// whose versions may be hexadecimal.
pub(super) fn is_protocols(value: &str) -> bool {
    let is_version = |version: &str| {
        let digits = version.strip_prefix("0x").unwrap_or(version);
        is_one_of(version, &PROTOCOLS)
            || (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    elements(value).all(|element| match bound(element) {
        Some(version) => is_version(version),
        None => is_one_of(element.strip_prefix('!').unwrap_or(element), &PROTOCOLS),
    })
}

/// Since which Postfix these protocols are understood, where not every one does.
pub(super) fn since_protocols(value: &str) -> Option<(u32, u32)> {
    if elements(value).any(|element| bound(element).is_some()) {
        return Some((3, 6));
    }
    let is_new = |element: &str| element.trim_start_matches('!').eq_ignore_ascii_case("TLSv1.3");
    elements(value).any(is_new).then_some((3, 4))
}

fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split([':', ' ', ',']).filter(|element| !element.is_empty())
}

fn bound(element: &str) -> Option<&str> {
    element.strip_prefix(">=").or_else(|| element.strip_prefix("<="))
}

/// Digests in hexadecimal, octets with or without colons between them, separated by `|`.
pub(super) fn is_fingerprints(value: &str) -> bool {
    value.split('|').all(|one| {
        let digits: String = one.chars().filter(|digit| *digit != ':').collect();
        let octets = digits.len() / 2;
        let colons = one.len() - digits.len();
        digits.len().is_multiple_of(2)
            && octets > 0
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            && (colons == 0 || one.split(':').all(|octet| octet.len() == 2))
    })
}
