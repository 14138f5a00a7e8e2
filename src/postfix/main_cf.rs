//! `main.cf` and `master.cf` as Postfix reads them (postconf(5), master(5)): comments, continued lines, the last
//! definition wins, `$name` expanded.

use std::collections::HashMap;

/// Parameters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainCf(HashMap<String, String>);

/// How deep `$name` may lead to `$name`: enough for any real file, and an end for circles.
const DEPTH: u32 = 10;

impl MainCf {
    /// Reads a file's text; lines that define nothing are passed over, as Postfix does with a warning.
    pub fn parse(text: &str) -> Self {
        let define = |line: String| {
            let (name, value) = line.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        Self(logical_lines(text).into_iter().filter_map(define).collect())
    }

    /// The value of a parameter with what it refers to, where the file defines it.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| self.expand(value, DEPTH))
    }

    /// The words of a list: separated by commas and white space.
    pub fn list(&self, name: &str) -> Vec<String> {
        let value = self.get(name).unwrap_or_default();
        let words = value.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    }

    /// True for `yes`, as Postfix takes it.
    pub fn is_yes(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("yes"))
    }

    /// Replaces `$name`, `${name}` and `$(name)`; unknown names become nothing, `$$` a dollar sign. Conditional
    /// expressions (`${name?value}`) stay as they are: their value is not ours to guess.
    fn expand(&self, value: &str, depth: u32) -> String {
        let mut out = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, next) = match after.chars().next() {
                Some('$') => {
                    out.push('$');
                    rest = after.strip_prefix('$').unwrap_or_default();
                    continue;
                }
                Some('{') => after.strip_prefix('{').and_then(|inner| inner.split_once('}')).unwrap_or(("", after)),
                Some('(') => after.strip_prefix('(').and_then(|inner| inner.split_once(')')).unwrap_or(("", after)),
                _ => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
            };
            if name.is_empty() || !name.chars().all(is_name) {
                // Not a plain reference: kept, sign and all.
                out.push('$');
                rest = after;
                continue;
            }
            if let Some(found) = self.0.get(name).filter(|_| depth > 0) {
                out.push_str(&self.expand(found, depth - 1));
            }
            rest = next;
        }
        out.push_str(rest);
        out
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Lines without comments, continued ones joined.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            // Neither ends a line that is continued below it.
            continue;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(content);
            }
            _ => lines.push(content.to_owned()),
        }
    }
    lines
}

/// Whether `smtp(8)` runs in a chroot, by the fifth column of its line in `master.cf`; none where there is no such
/// line. `default` is what `-` stands for.
pub fn smtp_is_chrooted(master_cf: &str, default: bool) -> Option<bool> {
    let lines = logical_lines(master_cf);
    let fields = lines.iter().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let smtp = fields.into_iter().find(|fields| fields.starts_with(&["smtp", "unix"]))?;
    Some(match smtp.get(4).copied() {
        Some("y") => true,
        Some("n") => false,
        _ => default,
    })
}

/// A transport that `smtp(8)` serves, with what `master.cf` sets differently for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpClient {
    /// Its name: `smtp`, `relay`, or whatever `transport_maps` sends mail to.
    pub name: String,
    /// Parameters set with `-o`, and their values.
    pub options: Vec<(String, String)>,
}

/// The transports of `master.cf` that `smtp(8)` serves.
pub fn smtp_clients(master_cf: &str) -> Vec<SmtpClient> {
    let client = |line: &String| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (name, arguments) = match fields.as_slice() {
            [name, "unix", _, _, _, _, _, "smtp", arguments @ ..] => (*name, arguments),
            _ => return None,
        };
        let mut options = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let option = match argument.strip_prefix("-o") {
                Some("") => arguments.next().copied(),
                other => other,
            };
            let Some((name, value)) = option.and_then(|option| option.split_once('=')) else { continue };
            options.push((name.to_owned(), value.to_owned()));
        }
        Some(SmtpClient { name: name.to_owned(), options })
    };
    logical_lines(master_cf).iter().filter_map(client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_comments_left_out_and_the_last_definition_wins() {
        let file = MainCf::parse(
            "# a comment\nmyhostname = mail.example\n\nsmtp_tls_policy_maps =\n    hash:/etc/postfix/tls,\n# between\n\
             \tsocketmap:inet:127.0.0.1:8642:QUERY\n  # indented comment\nsmtp_tls_security_level=none\n\
             smtp_tls_security_level  =  may \nnonsense\n",
        );
        assert_eq!(file.get("myhostname").as_deref(), Some("mail.example"));
        assert_eq!(file.list("smtp_tls_policy_maps"), ["hash:/etc/postfix/tls", "socketmap:inet:127.0.0.1:8642:QUERY"]);
        assert_eq!(file.get("smtp_tls_security_level").as_deref(), Some("may"));
        assert_eq!(file.get("nonsense"), None);
    }

    #[test]
    fn references_are_expanded_in_the_simple_cases() {
        let file = MainCf::parse(
            "base = 127.0.0.1\nport = 8642\nmap = socketmap:inet:$base:${port}:$(name)\nname = QUERY\nmissing = a${none}b\n\
             dollar = a$$b\nif = ${base?yes}\ncircle = x$circle\nend = $\n",
        );
        for (name, value) in [
            ("map", "socketmap:inet:127.0.0.1:8642:QUERY"),
            ("missing", "ab"),
            ("dollar", "a$b"),
            ("if", "${base?yes}"),
            ("circle", "xxxxxxxxxxx"),
            ("end", "$"),
        ] {
            assert_eq!(file.get(name).as_deref(), Some(value), "{name}");
        }
        assert!(!file.is_yes("base"));
        assert!(MainCf::parse("a = YES").is_yes("a"));
    }

    #[test]
    fn the_chroot_column_of_smtp_counts() {
        let master = |column: &str| {
            format!(
                "# service\nsmtp      inet  n       -       y       -       -       smtpd\nrelay unix - - n - - smtp\n\
                     smtp      unix  -       -       {column}       -       -       smtp\n  -o smtp_x=y\n"
            )
        };
        for (column, default, expected) in
            [("y", false, true), ("n", true, false), ("-", true, true), ("-", false, false)]
        {
            assert_eq!(smtp_is_chrooted(&master(column), default), Some(expected));
        }
        assert_eq!(smtp_is_chrooted("smtp inet n - y - - smtpd\n", false), None);
    }

    #[test]
    fn transports_of_smtp_are_found_with_their_options() {
        let master = "smtp inet n - y - - smtpd\nsmtp unix - - y - - smtp\nrelay unix - - y - - smtp\n\
                      \t-o syslog_name=postfix/relay -osmtp_tls_policy_maps=hash:/x\nlmtp unix - - y - - lmtp\nshort unix\n";
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            SmtpClient { name: "smtp".to_owned(), options: Vec::new() },
            SmtpClient {
                name: "relay".to_owned(),
                options: vec![option("syslog_name", "postfix/relay"), option("smtp_tls_policy_maps", "hash:/x")],
            },
        ];
        assert_eq!(smtp_clients(master), expected);
    }
}
