//! Records as text: one zone file line in, owner, type, TTL and RDATA out (RFC 1035 §5.1, RFC 3597 §5).

use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::{BASE32HEX_NOPAD, BASE64, HEXLOWER_PERMISSIVE};
use hickory_proto::rr::{Name, RecordType};

/// One record; RDATA uncompressed, names in the case they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextRecord {
    /// Owner, lower case.
    pub name: Name,
    /// Type.
    pub rtype: RecordType,
    /// TTL where the line gave one.
    pub ttl: Option<u32>,
    /// RDATA.
    pub rdata: Vec<u8>,
}

/// Parses one line; the error is a sentence about it.
pub fn parse_record(line: &str) -> Result<TextRecord, String> {
    let words = words(line)?;
    let (owner, mut rest) = words.split_first().ok_or("empty line")?;
    let mut ttl = None;
    while let Some((word, after)) = rest.split_first() {
        if let Ok(seconds) = word.parse() {
            ttl = Some(seconds);
        } else if !word.eq_ignore_ascii_case("IN") {
            break;
        }
        rest = after;
    }
    let (rtype, fields) = rest.split_first().ok_or_else(|| format!("no type in `{line}`"))?;
    let rtype = parse_type(rtype)?;
    let rdata = rdata(rtype, fields).map_err(|error| format!("{error} in `{line}`"))?;
    Ok(TextRecord { name: parse_name(owner)?.to_lowercase(), rtype, ttl, rdata })
}

/// A type's mnemonic or `TYPE1000`.
pub fn parse_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(code) = upper.strip_prefix("TYPE").and_then(|code| code.parse::<u16>().ok()) {
        return Ok(RecordType::from(code));
    }
    upper
        .parse()
        .or(if upper == "DNAME" { Ok(RecordType::from(39)) } else { Err(()) })
        .map_err(|()| format!("unknown type `{text}`"))
}

/// An absolute name; one without a final dot counts as absolute too.
pub fn parse_name(text: &str) -> Result<Name, String> {
    let mut labels = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, labels.last_mut()) {
            ('.', _) => labels.push(String::new()),
            ('\\', Some(label)) => {
                label.push('\\');
                label.extend(characters.next());
            }
            (other, Some(label)) => label.push(other),
            (_, None) => {}
        }
    }
    labels.pop_if(|last| last.is_empty());
    if text == "." {
        labels.clear();
    }
    // Octet by octet: any octet may be in a label (RFC 2181 §11), hickory's text forms refuse some.
    let labels = labels.iter().map(|label| unescape(label)).collect::<Result<Vec<_>, _>>()?;
    let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).map_err(|error| format!("{error}: `{text}`"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// Words of a line; a quoted string is one word, `;` begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut in_word, mut quoted) = (false, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                in_word = true;
            }
            ';' if !quoted => break,
            '\\' => {
                in_word = true;
                word.push('\\');
                word.extend(characters.next());
            }
            blank if blank.is_whitespace() && !quoted => {
                if in_word {
                    words.push(std::mem::take(&mut word));
                }
                in_word = false;
            }
            other => {
                in_word = true;
                word.push(other);
            }
        }
    }
    if quoted {
        return Err(format!("quote not closed in `{line}`"));
    }
    if in_word {
        words.push(word);
    }
    Ok(words)
}

/// Takes the fields of one RDATA in order and writes them.
struct Fields<'a> {
    words: std::slice::Iter<'a, String>,
    out: Vec<u8>,
}

impl Fields<'_> {
    fn word(&mut self) -> Result<&str, String> {
        self.words.next().map(String::as_str).ok_or_else(|| "too few fields".to_owned())
    }
    fn u8(&mut self) -> Result<(), String> {
        let value: u8 = self.word()?.parse().map_err(|_| "not an 8-bit number")?;
        self.out.push(value);
        Ok(())
    }
    fn u16(&mut self) -> Result<(), String> {
        let value: u16 = self.word()?.parse().map_err(|_| "not a 16-bit number")?;
        self.out.extend(value.to_be_bytes());
        Ok(())
    }
    fn u32(&mut self) -> Result<(), String> {
        let value: u32 = self.word()?.parse().map_err(|_| "not a 32-bit number")?;
        self.out.extend(value.to_be_bytes());
        Ok(())
    }
    fn name(&mut self) -> Result<(), String> {
        let name = parse_name(self.word()?)?;
        for label in name.iter() {
            self.out.push(label.len() as u8);
            self.out.extend(label);
        }
        self.out.push(0);
        Ok(())
    }
    /// Everything that is left, blanks inside taken out.
    fn rest(&mut self) -> String {
        self.words.by_ref().map(String::as_str).collect()
    }
    fn hex_rest(&mut self) -> Result<(), String> {
        let octets = HEXLOWER_PERMISSIVE.decode(self.rest().as_bytes()).map_err(|_| "not hexadecimal")?;
        self.out.extend(octets);
        Ok(())
    }
    fn base64_rest(&mut self) -> Result<(), String> {
        let octets = BASE64.decode(self.rest().as_bytes()).map_err(|_| "not base64")?;
        self.out.extend(octets);
        Ok(())
    }
    /// A length octet and what `octets` holds.
    fn counted(&mut self, octets: &[u8]) -> Result<(), String> {
        self.out.push(u8::try_from(octets.len()).map_err(|_| "longer than 255 octets")?);
        self.out.extend(octets);
        Ok(())
    }
    /// `-` or hexadecimal (RFC 5155 §3.3).
    fn salt(&mut self) -> Result<(), String> {
        let word = self.word()?.to_owned();
        let salt = if word == "-" {
            Vec::new()
        } else {
            HEXLOWER_PERMISSIVE.decode(word.as_bytes()).map_err(|_| "salt not hexadecimal")?
        };
        self.counted(&salt)
    }
    /// Seconds since 1970 or YYYYMMDDhhmmss (RFC 4034 §3.2).
    fn time(&mut self) -> Result<(), String> {
        let seconds = parse_time(self.word()?)?;
        self.out.extend(u32::try_from(seconds).map_err(|_| "time out of range")?.to_be_bytes());
        Ok(())
    }
    /// Type bit maps (RFC 4034 §4.1.2).
    fn type_bitmap(&mut self) -> Result<(), String> {
        let mut codes =
            self.words.by_ref().map(|word| parse_type(word).map(u16::from)).collect::<Result<Vec<_>, _>>()?;
        codes.sort_unstable();
        for window in codes.chunk_by(|a, b| a >> 8 == b >> 8) {
            let mut bits = [0_u8; 32];
            for code in window {
                bits[usize::from(code & 0xff) / 8] |= 0x80 >> (code & 7);
            }
            let used = bits.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
            self.out.extend([(window[0] >> 8) as u8, used as u8]);
            self.out.extend(&bits[..used]);
        }
        Ok(())
    }
}

fn rdata(rtype: RecordType, words: &[String]) -> Result<Vec<u8>, String> {
    let mut f = Fields { words: words.iter(), out: Vec::new() };
    if words.first().is_some_and(|word| word == "\\#") {
        f.words.nth(1);
        f.hex_rest()?;
        return Ok(f.out);
    }
    match u16::from(rtype) {
        1 => f.out = f.word()?.parse::<Ipv4Addr>().map_err(|error| error.to_string())?.octets().to_vec(),
        28 => f.out = f.word()?.parse::<Ipv6Addr>().map_err(|error| error.to_string())?.octets().to_vec(),
        2 | 5 | 12 | 39 => f.name()?,
        6 => {
            f.name()?;
            f.name()?;
            for _ in 0..5 {
                f.u32()?;
            }
        }
        13 | 16 | 99 => {
            for word in words {
                let text = unescape(word)?;
                f.counted(&text)?;
            }
            f.words.by_ref().for_each(drop);
        }
        15 => {
            f.u16()?;
            f.name()?;
        }
        33 => {
            f.u16()?;
            f.u16()?;
            f.u16()?;
            f.name()?;
        }
        43 | 59 => {
            f.u16()?;
            f.u8()?;
            f.u8()?;
            f.hex_rest()?;
        }
        46 => {
            let covered = parse_type(f.word()?)?;
            f.out.extend(u16::from(covered).to_be_bytes());
            f.u8()?;
            f.u8()?;
            f.u32()?;
            f.time()?;
            f.time()?;
            f.u16()?;
            f.name()?;
            f.base64_rest()?;
        }
        47 => {
            f.name()?;
            f.type_bitmap()?;
        }
        48 | 60 => {
            f.u16()?;
            f.u8()?;
            f.u8()?;
            f.base64_rest()?;
        }
        50 => {
            f.u8()?;
            f.u8()?;
            f.u16()?;
            f.salt()?;
            let next = f.word()?.to_ascii_uppercase();
            f.counted(&BASE32HEX_NOPAD.decode(next.as_bytes()).map_err(|_| "next hash not base32hex")?)?;
            f.type_bitmap()?;
        }
        51 => {
            f.u8()?;
            f.u8()?;
            f.u16()?;
            f.salt()?;
        }
        52 => {
            f.u8()?;
            f.u8()?;
            f.u8()?;
            f.hex_rest()?;
        }
        _ => return Err(format!("no text form known for {rtype}")),
    }
    match f.words.next() {
        Some(word) => Err(format!("`{word}` after the last field")),
        None => Ok(f.out),
    }
}

/// `\"` and `\DDD` of a character-string.
fn unescape(word: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((octet, after)) = rest.split_first() {
        rest = after;
        if *octet != b'\\' {
            out.push(*octet);
            continue;
        }
        match rest {
            [a, b, c, after @ ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
                let code = [a, b, c].iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(*digit - b'0'));
                out.push(u8::try_from(code).map_err(|_| "escape above 255")?);
                rest = after;
            }
            [other, after @ ..] => {
                out.push(*other);
                rest = after;
            }
            [] => return Err("backslash at the end".into()),
        }
    }
    Ok(out)
}

/// Seconds since 1970, given as such or as YYYYMMDDhhmmss.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let digits = |from: usize, to: usize| -> Result<i64, String> {
        text.get(from..to).and_then(|part| part.parse().ok()).ok_or_else(|| format!("not a time: `{text}`"))
    };
    if text.len() != 14 {
        return digits(0, text.len());
    }
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Ok(days * 86_400 + digits(8, 10)? * 3600 + digits(10, 12)? * 60 + digits(12, 14)?)
}

#[test]
fn every_type_of_the_scenarios_reads_into_its_wire_form() {
    let rows: &[(&str, u16, &[u8])] = &[
        ("a. 60 IN A 192.0.2.1", 1, &[192, 0, 2, 1]),
        ("a. IN MX 10 Mx.b.", 15, b"\0\x0a\x02Mx\x01b\0"),
        ("a. IN TXT \"v=1; x\" \"\\\"\\065\" y", 16, b"\x06v=1; x\x02\"A\x01y"),
        ("a. IN NSEC \\000.a. A RRSIG NSEC TYPE257", 47, b"\x01\0\x01a\0\0\x06\x40\0\0\0\0\x03\x01\x01\x40"),
        ("a. IN DS 258 13 2 00 ff ; comment", 43, &[1, 2, 13, 2, 0, 255]),
        ("a. IN DNSKEY 257 3 8 AwE AAQ==", 48, &[1, 1, 3, 8, 3, 1, 0, 1]),
        (
            "a. IN NSEC3 1 1 2 ab 00000000000000000000000000000001 A",
            50,
            b"\x01\x01\0\x02\x01\xab\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\x40",
        ),
        ("a. TLSA 3 1 1 0badc0de", 52, &[3, 1, 1, 0x0b, 0xad, 0xc0, 0xde]),
        ("a. IN TYPE65280 \\# 2 0102", 65_280, &[1, 2]),
        (
            "a. IN RRSIG A 13 1 60 19700101000001 2 3 . AQ==",
            46,
            &[0, 1, 13, 1, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 0, 1],
        ),
    ];
    for (line, code, expected) in rows {
        let record = parse_record(line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(u16::from(record.rtype), *code, "{line}");
        assert_eq!(record.rdata, *expected, "{line}");
    }
    assert_eq!(parse_time("20170401000000"), Ok(1_491_004_800));
    assert!(parse_record("a. IN A 192.0.2.1 x").is_err());
}
