//! Foreign text, made harmless wherever people see it: in the log, in `status`, `explain` and `query`, on the page.
//!
//! What a policy host, a name server, an SMTP server or Redis says may hold characters that steer a terminal, begin a line
//! of their own in a log, or turn the reading direction around. All that leaves for people goes through here, at the place
//! where it leaves, whatever it was made from.

use std::borrow::Cow;
use std::io::{self, Write};

/// What such a character looks like.
const SHOWN: char = '?';

/// Text of one line: control characters (C0, DEL, C1), and marks, embeddings, overrides and isolates of the reading
/// direction (UAX #9) become `?`; line ends, tabs, line and paragraph separators become a blank.
pub fn clean(text: &str) -> Cow<'_, str> {
    replace(text, harmless)
}

/// The same for text that we laid out in lines: our line ends stay.
pub fn clean_lines(text: &str) -> Cow<'_, str> {
    replace(text, |character| if character == '\n' { None } else { harmless(character) })
}

/// The same for JSON, as written: also where such a character stands as an escape.
pub fn clean_json(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return clean_lines(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        out.push_str(&clean_lines(before));
        let (length, shown) = read_escape(escape);
        let (escape, after) = escape.split_at(length);
        match shown.and_then(harmless) {
            Some(shown) => out.push(shown),
            None => {
                out.push('\\');
                out.push_str(escape);
            }
        }
        rest = after;
    }
    out.push_str(&clean_lines(rest));
    Cow::Owned(out)
}

/// Octets of an escape after its backslash (RFC 8259 §7), and the character that it stands for, if it is one of ours.
fn read_escape(escape: &str) -> (usize, Option<char>) {
    let first = escape.chars().next();
    match first {
        Some('n' | 'r' | 't' | 'f') => (1, Some('\n')),
        Some('b') => (1, Some('\u{8}')),
        Some('u') => match escape.get(1..5).map(|digits| u32::from_str_radix(digits, 16)) {
            Some(Ok(code)) => (5, char::from_u32(code)),
            Some(Err(_)) | None => (1, None),
        },
        Some(other) => (other.len_utf8(), None),
        None => (0, None),
    }
}

/// What stands for a character that must not be shown.
fn harmless(character: char) -> Option<char> {
    match character {
        '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some(SHOWN),
        other if other.is_control() => Some(SHOWN),
        _ => None,
    }
}

fn replace(text: &str, with: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    // Nearly always there is nothing to do.
    if text.chars().all(|character| with(character).is_none()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| with(character).unwrap_or(character)).collect())
}

/// A writer of JSON, an object for each line, whose texts are cleaned. Each write is one whole line.
#[derive(Debug)]
pub(super) struct CleanJson<W>(pub W);

impl<W: Write> Write for CleanJson<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.write_all(clean_json(&String::from_utf8_lossy(octets)).as_bytes())?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every character that must not get through.
    fn hostile() -> Vec<char> {
        let ranges = [0..=0x1f_u32, 0x7f..=0x9f, 0x200e..=0x200f, 0x2028..=0x202e, 0x2066..=0x2069, 0x61c..=0x61c];
        ranges.into_iter().flatten().filter_map(char::from_u32).collect()
    }

    #[test]
    fn nothing_gets_through_that_steers_a_terminal_a_log_or_the_reading_direction() {
        for character in hostile() {
            let text = format!("a{character}b");
            let cleaned = clean(&text);
            assert!(matches!(&*cleaned, "a?b" | "a b"), "{character:?}: {cleaned:?}");
            if character != '\n' {
                assert_eq!(clean_lines(&text), cleaned, "{character:?}");
            }
            let json = serde_json::to_string(&[&text]).expect("JSON");
            let read: Vec<String> = serde_json::from_str(&clean_json(&json)).expect("JSON still");
            assert_eq!(read, [&*cleaned], "{character:?}");
            let escaped = format!("[\"a\\u{:04X}b\"]", u32::from(character));
            let read: Vec<String> = serde_json::from_str(&clean_json(&escaped)).expect("JSON still");
            assert_eq!(read, [&*cleaned], "{character:?}");
        }
        assert_eq!(clean_lines("one\ntwo\r\n"), "one\ntwo \n");
    }

    #[test]
    fn all_other_text_stays_as_it_is() {
        for text in ["", "mx.example.com", "bücher.example", "日本", "שלום", "a \"b\" \\ c / d", "e\u{301} 😀"]
        {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text));
            let json = serde_json::to_string_pretty(&serde_json::json!({ text: [text, "x"] })).expect("JSON");
            assert_eq!(clean_json(&json), json);
        }
        for json in [r#""\\n\/\"\\u001b""#, r#""\ud83d\ude00""#, r#""\u00e9""#, "\"\\", "\"\\u12", "\"\\ü"] {
            assert_eq!(clean_json(json), json);
        }
    }

    #[test]
    fn a_log_line_stays_one_line() {
        let mut out = Vec::new();
        CleanJson(&mut out).write_all(b"{\"m\":\"a\\nb\\u001b[31m\xc2\x9b\"}\n").expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "{\"m\":\"a b?[31m?\"}\n");
    }
}
