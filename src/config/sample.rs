//! The commented configuration file that packages install: every key, from [`KEYS`](super::KEYS).

use std::fmt::Write;

use super::keys::{KEYS, Key, MAP_NAME};

/// What the file begins with.
const HEAD: &str = "\
# postseal's configuration; see postseal.toml(5). Every key is here, with its default or, where it says so, an example:
# take the # before it away to change it. `postseal check-config` checks this file, `systemctl reload postseal` has
# overrides, maps, log level, trust anchor file and CA file read again; the rest needs a restart.
";

/// Examples for keys that are unset or empty by default.
const EXAMPLES: &[(&str, &str)] = &[
    ("state-dir", r#""/var/lib/postseal""#),
    ("http.trusted-sources", r#"["172.17.0.1"]"#),
    ("dns.listen", r#"["127.0.0.1:53", "[::1]:53"]"#),
    ("resolver.trust-anchors", r#""/etc/postseal/root.key""#),
    ("resolver.root-hints", r#""/etc/postseal/root.hints""#),
    ("resolver.forward", r#"[{ zone = "corp.example", servers = ["10.0.0.53"] }]"#),
    ("resolver.insecure", r#"[{ zone = "broken.example", until = "2037-01-31" }]"#),
    ("resolver.forward-ca-file", r#""/etc/postseal/forward-ca.pem""#),
    ("mta-sts.ca-file", r#""/etc/ssl/certs/ca-certificates.crt""#),
    ("mta-sts.proxy", r#""http://proxy.example.com:3128""#),
    ("maps.NAME.report-level", r#""may""#),
    ("store.shared", r#""rediss://postseal:secret@store.example.com:6380""#),
    ("store.shared-ca-file", r#""/etc/postseal/store-ca.pem""#),
];

/// The lines below the heading of `policy.overrides`, a table with keys of the operator's choice.
const OVERRIDES: &[&str] = &[r#""partner.example" = "verify""#, r#"".internal.example" = "encrypt""#];

/// What an operator of a packaged service must know besides the meaning of a key.
const NOTES: &[(&str, &str)] = &[
    ("socketmap.listen", "While postseal-socketmap.socket is enabled, that unit says where instead."),
    (
        "dns.listen",
        "Better not here, since the service has no privilege to use port 53, but by `systemctl enable --now \
         postseal-dns.socket`. Then 127.0.0.1 has to be the only nameserver in /etc/resolv.conf.",
    ),
    ("shutdown.linger", "TimeoutStopSec= of postseal.service has to be as much longer."),
];

/// The name of the map in the file.
const MAP: &str = "strict";

/// A complete configuration file, all keys commented out: each with its meaning and its default, or an example.
#[must_use]
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        let (table, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if table != section {
            section = table;
            text.push_str(&heading(table));
        }
        if key.path == "policy.overrides" {
            overrides(&mut text, key);
            continue;
        }
        text.push('\n');
        comment(&mut text, &meaning(key));
        let example = find(EXAMPLES, key.path);
        if let (Some(default), Some(_)) = (key.default, example) {
            comment(&mut text, &format!("Default: {default}. An example:"));
        } else if example.is_some() {
            comment(&mut text, "Unset by default. An example:");
        }
        line(&mut text, format_args!("#{name} = {}", example.or(key.default).unwrap_or_default()));
    }
    text
}

/// A table of keys needs no `#`, empty as it is; a map would be made by its heading.
fn heading(table: &str) -> String {
    match table.split_once('.') {
        Some((maps, MAP_NAME)) => format!(
            "\n# Maps of your own, for `smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8642:{MAP}`. Any name will do.\n\
             #[{maps}.{MAP}]\n"
        ),
        _ => format!("\n[{table}]\n"),
    }
}

fn overrides(text: &mut String, key: &Key) {
    text.push('\n');
    comment(text, &meaning(key));
    comment(text, "None by default. An example:");
    line(text, format_args!("#[{}]", key.path));
    for example in OVERRIDES {
        line(text, format_args!("#{example}"));
    }
}

/// A key's help as sentences, without marks of the page.
fn meaning(key: &Key) -> String {
    let help = key.help.replace('`', "").replace(", see below", " (docs/replicas.md)");
    let mut letters = help.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    // A value that begins a sentence keeps its letters.
    let sentence = if key.help.starts_with('`') { help.clone() } else { first + letters.as_str() };
    match find(NOTES, key.path) {
        Some(note) => format!("{sentence}. {note}"),
        None => format!("{sentence}."),
    }
}

fn find(table: &'static [(&str, &str)], path: &str) -> Option<&'static str> {
    table.iter().find(|(key, _)| *key == path).map(|(_, value)| *value)
}

/// Comment lines of at most 120 columns.
fn comment(text: &mut String, words: &str) {
    let mut columns = 0;
    for word in words.split(' ') {
        let length = word.chars().count();
        if columns > 0 && columns + 1 + length > 120 {
            text.push('\n');
            columns = 0;
        }
        text.push_str(if columns == 0 { "# " } else { " " });
        text.push_str(word);
        columns += if columns == 0 { 2 } else { 1 } + length;
    }
    text.push('\n');
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_value_and_no_example_is_of_a_key_that_is_gone() {
        for key in KEYS.iter().filter(|key| key.path != "policy.overrides") {
            assert!(key.default.is_some() || find(EXAMPLES, key.path).is_some(), "an example for {}", key.path);
        }
        for (path, _) in EXAMPLES.iter().chain(NOTES) {
            assert!(KEYS.iter().any(|key| key.path == *path), "{path}");
        }
    }
}
