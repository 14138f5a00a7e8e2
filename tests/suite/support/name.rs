//! Domain names of the test world, written without any code of the product: so that a mistake there shows.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A fully qualified name. Keeps the case it was written in; compares without case, in the canonical order of
/// RFC 4034 §6.1.
#[derive(Clone)]
pub struct DnsName(Vec<Vec<u8>>);

impl DnsName {
    pub fn root() -> Self {
        Self(Vec::new())
    }

    /// Parses `text`; a name without trailing dot is below `origin`, `@` is `origin`. `\DDD` is one octet.
    pub fn parse_in(text: &str, origin: &Self) -> Self {
        match text {
            "@" | "" => return origin.clone(),
            "." => return Self::root(),
            _ => {}
        }
        let absolute = text.ends_with('.') && !text.ends_with("\\.");
        let mut labels = vec![Vec::new()];
        let mut octets = text.bytes();
        while let Some(octet) = octets.next() {
            let label = labels.last_mut().unwrap();
            match octet {
                b'.' => labels.push(Vec::new()),
                b'\\' => {
                    let digits: Vec<u8> = octets.by_ref().take(3).collect();
                    label.push(String::from_utf8(digits).unwrap().parse().unwrap());
                }
                other => label.push(other),
            }
        }
        labels.retain(|label| !label.is_empty());
        if !absolute {
            labels.extend(origin.0.iter().cloned());
        }
        Self(labels)
    }

    /// Parses a full name, trailing dot or not.
    pub fn parse(text: &str) -> Self {
        Self::parse_in(text, &Self::root())
    }

    /// Reads a name at `position` of a message, following compression pointers.
    pub fn read(message: &[u8], position: &mut usize) -> Option<Self> {
        let mut labels = Vec::new();
        let (mut at, mut jumped) = (*position, false);
        for _ in 0..128 {
            let length = usize::from(*message.get(at)?);
            at += 1;
            match length {
                0 => {
                    if !jumped {
                        *position = at;
                    }
                    return Some(Self(labels));
                }
                1..=63 => {
                    labels.push(message.get(at..at + length)?.to_vec());
                    at += length;
                }
                192..=255 => {
                    if !jumped {
                        *position = at + 1;
                    }
                    jumped = true;
                    at = (length & 0x3f) << 8 | usize::from(*message.get(at)?);
                }
                _ => return None,
            }
        }
        None
    }

    pub fn labels(&self) -> &[Vec<u8>] {
        &self.0
    }

    pub fn parent(&self) -> Option<Self> {
        (!self.0.is_empty()).then(|| Self(self.0[1..].to_vec()))
    }

    /// The name and all names above it, longest first, the root last.
    pub fn and_ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (0..=self.0.len()).map(|skip| Self(self.0[skip..].to_vec()))
    }

    pub fn child(&self, label: &[u8]) -> Self {
        let mut labels = vec![label.to_vec()];
        labels.extend(self.0.iter().cloned());
        Self(labels)
    }

    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.len() >= other.0.len() && Self(self.0[self.0.len() - other.0.len()..].to_vec()) == *other
    }

    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// This name with its last labels, `old`, replaced by `new`: what a DNAME does.
    pub fn rebased(&self, old: &Self, new: &Self) -> Self {
        let mut labels = self.0[..self.0.len() - old.0.len()].to_vec();
        labels.extend(new.0.iter().cloned());
        Self(labels)
    }

    pub fn is_wildcard(&self) -> bool {
        self.0.first().is_some_and(|label| label == b"*")
    }

    pub fn wire(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for label in &self.0 {
            out.push(label.len() as u8);
            out.extend_from_slice(label);
        }
        out.push(0);
        out
    }

    pub fn lowered(&self) -> Self {
        Self(self.0.iter().map(|label| label.to_ascii_lowercase()).collect())
    }

    fn canonical_key(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.0.iter().rev().map(|label| label.to_ascii_lowercase())
    }
}

impl From<&str> for DnsName {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl PartialEq for DnsName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for DnsName {}

impl PartialOrd for DnsName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DnsName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.canonical_key().cmp(other.canonical_key())
    }
}

impl Hash for DnsName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.lowered().0.hash(state);
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for label in &self.0 {
            for octet in label {
                match octet {
                    b'.' | b'\\' | 0..=32 | 127..=255 => write!(f, "\\{octet:03}")?,
                    other => write!(f, "{}", char::from(*other))?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_rfc_4034_section_6_1_shows() {
        let origin = DnsName::root();
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let names: Vec<_> = sorted.iter().map(|text| DnsName::parse_in(text, &origin)).collect();
        let mut again = names.clone();
        again.reverse();
        again.sort();
        assert_eq!(again, names);
    }
}
