//! Where messages of the Redis protocol begin and end (RESP2), without keeping any of them.
//!
//! So a connection can be given up at the octet that makes a message too long, or at the length that promises so,
//! before anything that decodes has seen it.

/// Longest line that tells a length: a sign, the digits of 64 bits and its end.
const LENGTH_LINE: usize = 22;
/// Octets of the shortest element of an array, `:1` and the end of its line.
const LEAST_ELEMENT: usize = 4;

/// Why octets are no message that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    /// More octets than this, so far or by the lengths it names.
    #[error("a reply of more than {0} octets")]
    TooLong(usize),
    /// No type or length that the protocol has.
    #[error("not the protocol of Redis")]
    Foreign,
    /// More messages than questions.
    #[error("a reply that nobody asked for")]
    Unasked,
}

/// The messages of one direction of a connection.
#[derive(Debug)]
pub(super) struct Framing {
    limit: usize,
    /// Values that the message still needs to be whole; none between two messages.
    open: usize,
    /// Octets of the message so far.
    octets: usize,
    at: At,
}

#[derive(Debug)]
enum At {
    /// A type octet comes next.
    Type,
    /// A line that goes on to its end.
    Line,
    /// A line that tells the length of a string or array.
    Length { is_array: bool, digits: Vec<u8> },
    /// So many octets of a string, its end of line included.
    String(usize),
}

impl Framing {
    /// Messages of at most `limit` octets.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: 0, octets: 0, at: At::Type }
    }

    /// Follows what came next; returns how many messages ended in it.
    pub(super) fn follow(&mut self, mut octets: &[u8]) -> Result<u64, FramingError> {
        let mut ended = 0;
        while !octets.is_empty() {
            let taken = self.step(octets)?;
            self.octets = self.octets.saturating_add(taken);
            if self.octets > self.limit {
                return Err(FramingError::TooLong(self.limit));
            }
            octets = octets.get(taken..).unwrap_or_default();
            if self.open == 0 {
                ended += 1;
                self.octets = 0;
            }
        }
        Ok(ended)
    }

    /// Takes some octets, at least one of those that are there.
    fn step(&mut self, octets: &[u8]) -> Result<usize, FramingError> {
        let to_line_end = octets.iter().position(|octet| *octet == b'\n').map(|at| at + 1);
        match &mut self.at {
            At::Type => {
                self.open = self.open.max(1);
                self.at = match octets.first() {
                    Some(b'+' | b'-' | b':') => At::Line,
                    Some(b'$') => At::Length { is_array: false, digits: Vec::new() },
                    Some(b'*') => At::Length { is_array: true, digits: Vec::new() },
                    _ => return Err(FramingError::Foreign),
                };
                Ok(1)
            }
            At::Line => {
                if to_line_end.is_some() {
                    self.value_ended();
                }
                Ok(to_line_end.unwrap_or(octets.len()))
            }
            At::Length { is_array, digits } => {
                let taken = to_line_end.unwrap_or(octets.len()).min(LENGTH_LINE + 1);
                digits.extend_from_slice(octets.get(..taken).unwrap_or_default());
                if digits.len() > LENGTH_LINE {
                    return Err(FramingError::Foreign);
                }
                if to_line_end.is_some() {
                    let digits = std::str::from_utf8(digits).ok().and_then(|line| line.strip_suffix("\r\n"));
                    let length = digits.and_then(|digits| digits.parse::<i64>().ok());
                    let (is_array, length) = (*is_array, length.ok_or(FramingError::Foreign)?);
                    self.length(is_array, length)?;
                }
                Ok(taken)
            }
            At::String(left) => {
                let taken = octets.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.value_ended();
                }
                Ok(taken)
            }
        }
    }

    /// A string or array of this length begins; -1 is one that is not there.
    fn length(&mut self, is_array: bool, length: i64) -> Result<(), FramingError> {
        let Ok(length) = usize::try_from(length) else {
            if length != -1 {
                return Err(FramingError::Foreign);
            }
            self.value_ended();
            return Ok(());
        };
        let least = if is_array { length.saturating_mul(LEAST_ELEMENT) } else { length };
        if self.octets.saturating_add(least) > self.limit {
            return Err(FramingError::TooLong(self.limit));
        }
        if is_array {
            self.open = self.open.saturating_add(length);
            self.value_ended();
        } else {
            self.at = At::String(length.saturating_add(2));
        }
        Ok(())
    }

    fn value_ended(&mut self) {
        self.open = self.open.saturating_sub(1);
        self.at = At::Type;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    /// Followed in pieces of each size: always the same.
    fn follow(octets: &[u8]) -> Result<u64, FramingError> {
        let in_pieces = |size: usize| {
            let mut framing = Framing::new(LIMIT);
            octets.chunks(size).try_fold(0, |ended, piece| Ok(ended + framing.follow(piece)?))
        };
        let whole = in_pieces(octets.len().max(1));
        for size in 1..octets.len() {
            assert_eq!(in_pieces(size), whole, "pieces of {size}: {}", String::from_utf8_lossy(octets));
        }
        whole
    }

    #[test]
    fn messages_are_counted_where_they_end() {
        let rows: &[(&[u8], u64)] = &[
            (b"", 0),
            (b"+OK\r\n", 1),
            (b"+OK\r\n-ERR no\r\n:12\r\n", 3),
            (b"$5\r\na\r\nb\n\r\n$0\r\n\r\n$-1\r\n", 3),
            (b"*2\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n+x\r\n", 2),
            (b"*0\r\n*-1\r\n", 2),
            (b"*3\r\n:1\r\n:2\r\n", 0),
            (b"$5\r\nabc", 0),
        ];
        for (octets, ended) in rows {
            assert_eq!(follow(octets), Ok(*ended), "{}", String::from_utf8_lossy(octets));
        }
    }

    #[test]
    fn a_message_may_be_so_long_and_the_next_one_as_well() {
        let longest = format!("$93\r\n{}\r\n", "x".repeat(93));
        assert_eq!(longest.len(), LIMIT);
        assert_eq!(follow(longest.repeat(3).as_bytes()), Ok(3));
    }

    #[test]
    fn what_is_too_long_or_says_so_ends_it() {
        let nested = b"*1\r\n".repeat(LIMIT);
        let endless_line = [&b"+"[..], &b"x".repeat(LIMIT)].concat();
        let many = [&b"*20\r\n"[..], &b"$8\r\nxxxxxxxx\r\n".repeat(20)].concat();
        for octets in [&b"$101\r\n"[..], b"$9223372036854775807\r\n", b"*26\r\n", b"*4294967296\r\n"] {
            assert_eq!(follow(octets), Err(FramingError::TooLong(LIMIT)), "{}", String::from_utf8_lossy(octets));
        }
        for octets in [nested, endless_line, many] {
            assert_eq!(follow(&octets), Err(FramingError::TooLong(LIMIT)), "{}", String::from_utf8_lossy(&octets));
        }
    }

    #[test]
    fn other_protocols_and_lengths_without_end_are_refused() {
        for octets in
            [&b"HTTP/1.1 400\r\n"[..], b"%1\r\n", b"$x\r\n", b"$-2\r\n", b"$99999999999999999999999", b"*\r\n", b"$1\n"]
        {
            assert_eq!(follow(octets), Err(FramingError::Foreign), "{}", String::from_utf8_lossy(octets));
        }
    }
}
