//! Records of the test world: text in, RDATA in parts out, with the canonical form of RFC 4034 §6 written
//! independently of the product.

use ring::digest;

use super::name::DnsName;

/// Type numbers (IANA).
pub mod rtype {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    pub const NSEC3PARAM: u16 = 51;
    pub const TLSA: u16 = 52;
    pub const ANY: u16 = 255;
}

/// A piece of RDATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Octets(Vec<u8>),
    Name(DnsName),
}

/// RDATA whose names are known as such: they may be compressed, and are lower-cased for signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdata(pub Vec<Part>);

impl Rdata {
    pub fn octets(octets: impl Into<Vec<u8>>) -> Self {
        Self(vec![Part::Octets(octets.into())])
    }

    pub fn name(name: DnsName) -> Self {
        Self(vec![Part::Name(name)])
    }

    /// Uncompressed, case as written.
    pub fn wire(&self) -> Vec<u8> {
        self.render(|name| name.wire())
    }

    /// RFC 4034 §6.2: uncompressed, names in lower case; those of NSEC as written (RFC 6840 §5.1).
    pub fn canonical(&self, rtype: u16) -> Vec<u8> {
        self.render(|name| if rtype == rtype::NSEC { name.wire() } else { name.lowered().wire() })
    }

    /// The first name in it: target of NS, CNAME, DNAME, MX.
    pub fn target(&self) -> Option<&DnsName> {
        self.0.iter().find_map(|part| if let Part::Name(name) = part { Some(name) } else { None })
    }

    fn render(&self, write: impl Fn(&DnsName) -> Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Octets(octets) => out.extend_from_slice(octets),
                Part::Name(name) => out.extend(write(name)),
            }
        }
        out
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: DnsName,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Rdata,
}

/// All records of one owner and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    pub name: DnsName,
    pub rtype: u16,
    pub ttl: u32,
    pub rdatas: Vec<Rdata>,
}

/// Parses lines of `name [ttl] TYPE rdata`; empty lines and `;` comments are skipped. Relative names are below
/// `origin`.
pub fn parse_records(text: &str, origin: &DnsName, ttl: u32) -> Vec<Record> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(';'))
        .map(|line| parse_record(line, origin, ttl))
        .collect()
}

fn parse_record(line: &str, origin: &DnsName, default_ttl: u32) -> Record {
    let words = split_words(line);
    let mut words = words.iter().map(String::as_str).peekable();
    let name = DnsName::parse_in(words.next().unwrap(), origin);
    let ttl = words.peek().and_then(|word| word.parse().ok());
    if ttl.is_some() {
        words.next();
    }
    let type_name = words.next().unwrap_or_else(|| panic!("no type in {line:?}"));
    let rest: Vec<&str> = words.collect();
    let (rtype, rdata) = parse_rdata(type_name, &rest, origin).unwrap_or_else(|| panic!("cannot read {line:?}"));
    Record { name, rtype, ttl: ttl.unwrap_or(default_ttl), rdata }
}

/// Splits at white space; what stands in double quotes stays one word and keeps its opening quote.
fn split_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' if quoted => {
                words.push(std::mem::take(&mut word));
                quoted = false;
            }
            '"' => {
                word.push('"');
                quoted = true;
            }
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn parse_rdata(type_name: &str, words: &[&str], origin: &DnsName) -> Option<(u16, Rdata)> {
    let name = |at: usize| Some(Part::Name(DnsName::parse_in(words.get(at)?, origin)));
    let number = |at: usize| words.get(at)?.parse::<u16>().ok();
    let octets = |octets: Vec<u8>| Rdata(vec![Part::Octets(octets)]);
    Some(match type_name {
        "A" => (rtype::A, octets(words.first()?.parse::<std::net::Ipv4Addr>().ok()?.octets().to_vec())),
        "AAAA" => (rtype::AAAA, octets(words.first()?.parse::<std::net::Ipv6Addr>().ok()?.octets().to_vec())),
        "NS" => (rtype::NS, Rdata(vec![name(0)?])),
        "CNAME" => (rtype::CNAME, Rdata(vec![name(0)?])),
        "DNAME" => (rtype::DNAME, Rdata(vec![name(0)?])),
        "PTR" => (rtype::PTR, Rdata(vec![name(0)?])),
        "MX" => (rtype::MX, Rdata(vec![Part::Octets(number(0)?.to_be_bytes().to_vec()), name(1)?])),
        "SRV" => {
            let fixed = [number(0)?, number(1)?, number(2)?].iter().flat_map(|n| n.to_be_bytes()).collect();
            (rtype::SRV, Rdata(vec![Part::Octets(fixed), name(3)?]))
        }
        "SOA" => {
            let numbers: Option<Vec<u32>> = words.get(2..7)?.iter().map(|word| word.parse().ok()).collect();
            let fixed = numbers?.iter().flat_map(|n| n.to_be_bytes()).collect();
            (rtype::SOA, Rdata(vec![name(0)?, name(1)?, Part::Octets(fixed)]))
        }
        "TXT" => {
            let mut out = Vec::new();
            for word in words {
                let text = word.strip_prefix('"').unwrap_or(word);
                out.push(u8::try_from(text.len()).ok()?);
                out.extend_from_slice(text.as_bytes());
            }
            (rtype::TXT, octets(out))
        }
        "TLSA" => {
            let mut out = vec![];
            for at in 0..3 {
                out.push(words.get(at)?.parse().ok()?);
            }
            out.extend(hex(words.get(3)?));
            (rtype::TLSA, octets(out))
        }
        other => {
            let rtype = other.strip_prefix("TYPE")?.parse().ok()?;
            (rtype, octets(words.first().map(|word| hex(word)).unwrap_or_default()))
        }
    })
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// RDATA of a DS for this DNSKEY (RFC 4034 §5.1.4).
pub fn ds_rdata(owner: &DnsName, dnskey: &[u8], digest_type: u8) -> Vec<u8> {
    let algorithm = match digest_type {
        1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        4 => &digest::SHA384,
        _ => &digest::SHA256,
    };
    let mut context = digest::Context::new(algorithm);
    context.update(&owner.lowered().wire());
    context.update(dnskey);
    let mut out = key_tag(dnskey).to_be_bytes().to_vec();
    out.extend_from_slice(&[dnskey[3], digest_type]);
    out.extend_from_slice(context.finish().as_ref());
    out
}

/// RFC 4034 appendix B.
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey
        .iter()
        .enumerate()
        .map(|(at, octet)| if at % 2 == 0 { u32::from(*octet) << 8 } else { u32::from(*octet) })
        .sum();
    ((sum + (sum >> 16 & 0xffff)) & 0xffff) as u16
}

/// The type bit maps of NSEC and NSEC3 (RFC 4034 §4.1.2).
pub fn type_bitmap(types: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let mut windows: std::collections::BTreeMap<u8, [u8; 32]> = std::collections::BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.to_be_bytes();
        windows.entry(window).or_default()[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    let mut out = Vec::new();
    for (window, bits) in windows {
        let length = 32 - bits.iter().rev().take_while(|octet| **octet == 0).count();
        out.extend_from_slice(&[window, length as u8]);
        out.extend_from_slice(&bits[..length]);
    }
    out
}

/// RFC 5155 §5.
pub fn nsec3_hash(name: &DnsName, iterations: u16, salt: &[u8]) -> Vec<u8> {
    let mut octets = name.lowered().wire();
    for _ in 0..=iterations {
        octets.extend_from_slice(salt);
        octets = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &octets).as_ref().to_vec();
    }
    octets
}

/// RFC 4648 §7, lower case, no padding: the first label of an NSEC3 record.
pub fn base32hex(octets: &[u8]) -> Vec<u8> {
    let alphabet = b"0123456789abcdefghijklmnopqrstuv";
    let bits = octets.len() * 8;
    (0..bits.div_ceil(5))
        .map(|group| {
            let value = (0..5).fold(0, |value, offset| {
                let bit = group * 5 + offset;
                let set = bit < bits && octets[bit / 8] & (0x80 >> (bit % 8)) != 0;
                value << 1 | usize::from(set)
            });
            alphabet[value]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_tags_are_those_of_the_rfcs() {
        // RFC 5155 appendix A.
        let hash = nsec3_hash(&DnsName::from("ns1.example"), 12, &hex("aabbccdd"));
        assert_eq!(base32hex(&hash), b"2t7b4g4vsa5smi47k61mv5bv1a22bojr");
        // RFC 4034 §4.3: A MX RRSIG NSEC TYPE1234.
        let bitmap = type_bitmap([1, 15, 46, 47, 1234]);
        assert_eq!(bitmap[..8], hex("0006400100000003")[..]);
        assert_eq!(bitmap.len(), 8 + 2 + 27);
    }
}
