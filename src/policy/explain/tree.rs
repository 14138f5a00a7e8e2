//! A tree of lines, as wide as it may be, in colour where that is seen. Pure.

use std::fmt::Write;

use crate::telemetry::clean::clean;

/// How text is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Write ANSI colours.
    pub colour: bool,
    /// Columns; unlimited where there is no terminal.
    pub width: Option<usize>,
}

/// How a line feels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
}

/// A line and what belongs to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Shown in the tone's colour.
    head: String,
    /// Shown after it.
    text: String,
    tone: Tone,
    children: Vec<Node>,
}

impl Node {
    /// A line with a coloured beginning.
    pub fn new(head: impl Into<String>, tone: Tone, text: impl Into<String>) -> Self {
        Self { head: head.into(), text: text.into(), tone, children: Vec::new() }
    }

    /// A line in plain words.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new("", Tone::Plain, text)
    }

    /// Adds a line below.
    pub fn push(&mut self, child: Node) {
        self.children.push(child);
    }

    /// Adds these lines below.
    pub fn extend(&mut self, children: impl IntoIterator<Item = Node>) {
        self.children.extend(children);
    }

    /// With these lines below.
    pub fn with(mut self, children: impl IntoIterator<Item = Node>) -> Self {
        self.children.extend(children);
        self
    }

    /// The whole tree, one line feed after each line.
    pub fn render(&self, style: Style) -> String {
        let mut out = String::new();
        self.write(&mut out, style, "", "");
        out
    }

    fn write(&self, out: &mut String, style: Style, first: &str, rest: &str) {
        let below = if self.children.is_empty() { "   " } else { "│  " };
        let hanging = if rest.is_empty() && first.is_empty() { String::new() } else { format!("{rest}{below}") };
        let words = self.head.split(' ').map(|word| (word, true)).chain(self.text.split(' ').map(|word| (word, false)));
        let mut column = first.chars().count();
        let mut begun = false;
        out.push_str(first);
        for (word, in_head) in words.filter(|(word, _)| !word.is_empty()) {
            let word = clean(word); // most of it is what servers said
            let length = word.chars().count();
            if begun && style.width.is_some_and(|width| column + 1 + length > width) {
                out.push('\n');
                out.push_str(&hanging);
                column = hanging.chars().count();
            } else if begun {
                out.push(' ');
                column += 1;
            }
            column += length;
            begun = true;
            match self.tone.code().filter(|_| in_head && style.colour) {
                // Writing into a String cannot fail.
                Some(code) => _ = write!(out, "\x1b[{code}m{word}\x1b[0m"),
                None => out.push_str(&word),
            }
        }
        out.push('\n');
        for (at, child) in self.children.iter().enumerate() {
            let last = at + 1 == self.children.len();
            let (branch, trunk) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.write(out, style, &format!("{rest}{branch}"), &format!("{rest}{trunk}"));
        }
    }
}

impl Tone {
    /// The ANSI code (ECMA-48 SGR) of its colour.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Doubtful => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Node {
        let host = Node::new("mx.example.com", Tone::Good, "only with a certificate that matches");
        Node::new("example.com:", Tone::Bad, "held").with([host.with([Node::plain("A 192.0.2.1")]), Node::plain("end")])
    }

    #[test]
    fn unlimited_width_gives_one_line_for_each_node() {
        let expected =
            "example.com: held\n├─ mx.example.com only with a certificate that matches\n│  └─ A 192.0.2.1\n└─ end\n";
        assert_eq!(sample().render(Style::default()), expected);
    }

    #[test]
    fn lines_end_at_the_width_and_go_on_below_their_beginning() {
        let narrow = sample().render(Style { width: Some(24), colour: false });
        let expected = "example.com: held\n├─ mx.example.com only\n│  │  with a certificate\n│  │  that matches\n│  └─ A 192.0.2.1\n└─ end\n";
        assert_eq!(narrow, expected);
        // A word that does not fit anywhere stands alone, whole.
        assert!(sample().render(Style { width: Some(1), colour: false }).contains("mx.example.com\n"));
    }

    #[test]
    fn what_servers_say_steers_nothing() {
        let banner = Node::new("220 \u{1b}]0;title\u{7}", Tone::Bad, "a\r\nb\u{9b}31m\u{202e}c\u{2066}");
        assert_eq!(banner.render(Style::default()), "220 ?]0;title? a  b?31m?c?\n");
    }

    #[test]
    fn colours_stand_around_the_head_and_count_no_columns() {
        let style = Style { width: Some(24), colour: true };
        let text = sample().render(style);
        assert!(
            text.starts_with("\x1b[31mexample.com:\x1b[0m held\n├─ \x1b[32mmx.example.com\x1b[0m only\n"),
            "{text:?}"
        );
    }
}
