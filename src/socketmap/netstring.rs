//! Netstrings: `LENGTH:BYTES,`, length in decimal without leading zeros.
//!
//! Pure and bounded: [`decode`] looks at a buffer and never asks for more than one netstring of the largest
//! size; a length that can only be wrong is refused at its first wrong digit.

use bytes::{BufMut, BytesMut};

/// Anything that is no netstring, or one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No digits, a leading zero, or something else before the colon.
    #[error("no valid length")]
    Length,
    /// More octets than allowed are announced.
    #[error("too long")]
    TooLong,
    /// The octet after the last is no comma.
    #[error("no comma at the end")]
    End,
}

/// A complete netstring at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What is inside.
    pub payload: &'a [u8],
    /// Octets it takes in the buffer, length and comma included.
    pub size: usize,
}

/// Takes the netstring at the beginning of `buffer`; `None` while it is not complete.
pub fn decode(buffer: &[u8], largest: usize) -> Result<Option<Frame<'_>>, Malformed> {
    let mut length = 0_usize;
    let mut digits = 0;
    let mut rest = buffer;
    loop {
        let Some((&octet, after)) = rest.split_first() else { return Ok(None) };
        rest = after;
        match octet {
            b'0'..=b'9' if digits > 0 && length == 0 => return Err(Malformed::Length),
            b'0'..=b'9' => {
                // Cannot overflow: it was at most `largest` before.
                length = length.saturating_mul(10).saturating_add(usize::from(octet - b'0'));
                digits += 1;
                if length > largest {
                    return Err(Malformed::TooLong);
                }
            }
            b':' if digits > 0 => break,
            _ => return Err(Malformed::Length),
        }
    }
    match (rest.get(..length), rest.get(length)) {
        (Some(payload), Some(b',')) => Ok(Some(Frame { payload, size: digits + length + 2 })),
        (_, Some(_)) => Err(Malformed::End),
        (_, None) => Ok(None),
    }
}

/// Appends a netstring.
pub fn encode(payload: &[u8], out: &mut BytesMut) {
    // Five digits at most: replies are bounded by `limits::REPLY_BYTES`; room for any length anyway.
    let mut digits = [0_u8; 20];
    let mut number = payload.len();
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(number % 10).unwrap_or(0);
        used += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.reserve(payload.len() + used + 2);
    out.put_slice(digits.get(digits.len() - used..).unwrap_or_default());
    out.put_u8(b':');
    out.put_slice(payload);
    out.put_u8(b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn decoding_takes_whole_netstrings_and_refuses_what_cannot_become_one() {
        let whole = |payload: &'static [u8], size| Ok(Some(Frame { payload, size }));
        for (bytes, expected) in [
            (&b""[..], Ok(None)),
            (b"1", Ok(None)),
            (b"12:", Ok(None)),
            (b"5:hello", Ok(None)),
            (b"5:hello,", whole(b"hello", 8)),
            (b"5:hello,3:abc,", whole(b"hello", 8)),
            (b"0:,", whole(b"", 3)),
            (b"3:a:,,", whole(b"a:,", 6)),
            (b"100:", Ok(None)),
            (b"101:", Err(Malformed::TooLong)),
            (b"101", Err(Malformed::TooLong)),
            (b"99999999999999999999999999999999", Err(Malformed::TooLong)),
            (b"00", Err(Malformed::Length)),
            (b"05:hello,", Err(Malformed::Length)),
            (b"0000000000000000000000", Err(Malformed::Length)),
            (b":", Err(Malformed::Length)),
            (b"-1:", Err(Malformed::Length)),
            (b"+1:a,", Err(Malformed::Length)),
            (b" 1:a,", Err(Malformed::Length)),
            (b"1 :a,", Err(Malformed::Length)),
            (b"5:hello;", Err(Malformed::End)),
            (b"\xff", Err(Malformed::Length)),
        ] {
            assert_eq!(decode(bytes, 100), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_was_encoded_decodes_to_the_same_and_every_prefix_waits() {
        for length in [0, 1, 9, 10, 99, 100, 9_999, 10_000, 100_000] {
            let payload = vec![b'x'; length];
            let mut bytes = BytesMut::new();
            encode(&payload, &mut bytes);
            let frame = decode(&bytes, 100_000).expect("valid").expect("complete");
            assert_eq!((frame.payload, frame.size), (payload.as_slice(), bytes.len()));
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                assert_eq!(decode(&bytes[..cut], 100_000), Ok(None), "{length}, {cut}");
            }
        }
    }

    #[test]
    fn random_bytes_never_give_a_frame_that_lies() {
        let mut random = rand::rng();
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..random.random_range(0..24))
                .map(|_| *b"0123459:,ab\xff".get(random.random_range(0..12)).expect("in range"))
                .collect();
            if let Ok(Some(frame)) = decode(&bytes, 50) {
                let mut again = BytesMut::new();
                encode(frame.payload, &mut again);
                assert_eq!(&bytes[..frame.size], &again[..]);
            }
        }
    }
}
