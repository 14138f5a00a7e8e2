//! Zone file text cut into records: comments off, parentheses joined (RFC 1035 §5.1).

use super::file::Problem;

/// One record's words, and what stood around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Line number of the first word, from 1.
    pub number: usize,
    /// The line began with white space: the owner may be left out.
    pub indented: bool,
    /// The words. Quotes only group nothing here: they are taken off, blanks inside separate words.
    pub words: Vec<String>,
    /// Comments, joined; Unbound keeps the state of a key there.
    pub comment: String,
}

/// Cuts `text` into records; lines without words are left out. An error gives the line it is on.
pub(super) fn split(text: &str) -> Result<Vec<Line>, (usize, Problem)> {
    let mut records = Vec::new();
    let mut current = Line::default();
    let (mut depth, mut quoted_since) = (0_usize, None);
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        if depth == 0 && quoted_since.is_none() {
            current.indented = raw.starts_with([' ', '\t']);
        }
        let mut word = String::new();
        let end_word = |word: &mut String, current: &mut Line| {
            if !word.is_empty() {
                if current.words.is_empty() {
                    current.number = number;
                }
                current.words.push(std::mem::take(word));
            }
        };
        for (at, character) in raw.char_indices() {
            match character {
                '"' => {
                    end_word(&mut word, &mut current);
                    quoted_since = if quoted_since.is_some() { None } else { Some(number) };
                }
                ';' if quoted_since.is_none() => {
                    current.comment.push_str(raw.get(at..).unwrap_or_default());
                    break;
                }
                '#' if quoted_since.is_none() && word.is_empty() => break,
                '(' => {
                    end_word(&mut word, &mut current);
                    depth += 1;
                }
                ')' => {
                    end_word(&mut word, &mut current);
                    depth = depth.checked_sub(1).ok_or((number, Problem::Parenthesis))?;
                }
                blank if blank.is_whitespace() => end_word(&mut word, &mut current),
                other => word.push(other),
            }
        }
        end_word(&mut word, &mut current);
        if depth == 0 && quoted_since.is_none() {
            let record = std::mem::take(&mut current);
            if !record.words.is_empty() {
                records.push(record);
            }
        }
    }
    match quoted_since {
        Some(number) => Err((number, Problem::Quote)),
        None if depth > 0 => Err((current.number.max(1), Problem::Parenthesis)),
        None => Ok(records),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_parentheses_and_quotes_leave_the_words_of_each_record() {
        let text = "; head\n. IN DS ( 1 8\n 2 ; why\n AB ) ;;state=2\n\n  \"c d\" # note\ne f#g\n";
        let lines = split(text).expect("well formed");
        let seen: Vec<(usize, bool, String)> =
            lines.iter().map(|line| (line.number, line.indented, line.words.join("|"))).collect();
        assert_eq!(seen, [(2, false, ".|IN|DS|1|8|2|AB".into()), (6, true, "c|d".into()), (7, false, "e|f#g".into())]);
        assert_eq!(lines[0].comment, "; why;;state=2");
    }

    #[test]
    fn what_is_opened_and_not_closed_is_an_error_at_its_line() {
        assert_eq!(split(". IN DS (1\n"), Err((1, Problem::Parenthesis)));
        assert_eq!(split("\n. )"), Err((2, Problem::Parenthesis)));
        assert_eq!(split(". \"a\n\n"), Err((1, Problem::Quote)));
    }
}
