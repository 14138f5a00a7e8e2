//! RRsets in one piece of memory, as tables keep them.
//!
//! In: RRsets that were learnt. Out: the same. An [`RrSet`] as it is worked with takes a dozen pieces of memory and three
//! to five times its octets, which does for one lookup, not for a hundred thousand kept ones. Never a form that leaves
//! the process.

use hickory_proto::rr::{Name, RecordType};

use super::rrset::{RrSet, Rrsig, read_name, wire_name};

/// RRsets, one after the other, behind the name that they are about.
///
/// Names are written as the number of labels to leave out of that name where they are above it or equal, as owners and
/// signers are nearly always, and in wire form else.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

/// Stands where no number of labels does: the wire form follows.
const IN_FULL: u8 = u8::MAX;

impl Packed {
    /// RRsets that were learnt about `name`.
    pub fn new<'a>(name: &Name, sets: impl IntoIterator<Item = &'a RrSet>) -> Self {
        let mut writer = Writer { about: name, octets: wire_name(name) };
        for set in sets {
            writer.set(set);
        }
        Self(writer.octets.into())
    }

    /// Whether they are about `name`.
    pub fn is_about(&self, name: &Name) -> bool {
        let mut rest = &*self.0;
        for label in name.iter() {
            let found = rest.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
            match found {
                Some((found, after)) if found.eq_ignore_ascii_case(label) => rest = after,
                _ => return false,
            }
        }
        rest.first() == Some(&0)
    }

    /// Whether they are about `zone` or a name below it.
    pub fn is_within(&self, zone: &Name) -> bool {
        read_name(&self.0).is_ok_and(|(about, _)| zone.zone_of(&about))
    }

    /// The RRsets.
    #[allow(clippy::expect_used, reason = "`new` is all that makes one, and `Reader` reads what `Writer` writes")]
    pub fn sets(&self) -> impl Iterator<Item = RrSet> {
        let (about, used) = read_name(&self.0).expect("begins with a name");
        let mut reader = Reader { about, rest: self.0.get(used..).unwrap_or_default() };
        std::iter::from_fn(move || (!reader.rest.is_empty()).then(|| reader.set().expect("ends with a whole RRset")))
    }

    /// Octets.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

struct Writer<'a> {
    about: &'a Name,
    octets: Vec<u8>,
}

impl Writer<'_> {
    fn set(&mut self, set: &RrSet) {
        self.name(&set.name);
        self.short(set.rtype.into());
        self.long(set.ttl);
        // Records of a message, of which there cannot be more.
        self.short(set.rdatas.len() as u16);
        for rdata in &set.rdatas {
            self.text(rdata);
        }
        self.short(set.sigs.len() as u16);
        for sig in &set.sigs {
            self.octets.extend([sig.algorithm, sig.labels]);
            for value in [sig.ttl, sig.original_ttl, sig.expiration, sig.inception] {
                self.long(value);
            }
            self.short(sig.key_tag);
            self.name(&sig.signer);
            self.text(&sig.signature);
        }
    }

    /// A name in lower case, which owners and signers are.
    fn name(&mut self, name: &Name) {
        let above = self.about.iter().count().checked_sub(name.iter().count());
        match above.filter(|_| name.zone_of(self.about)) {
            Some(labels) => self.octets.push(labels as u8),
            None => {
                self.octets.push(IN_FULL);
                self.octets.extend(wire_name(name));
            }
        }
    }

    /// RDATA or a signature: at most 65,535 octets by their own framing.
    fn text(&mut self, text: &[u8]) {
        self.short(text.len() as u16);
        self.octets.extend_from_slice(text);
    }

    fn short(&mut self, value: u16) {
        self.octets.extend(value.to_be_bytes());
    }

    fn long(&mut self, value: u32) {
        self.octets.extend(value.to_be_bytes());
    }
}

struct Reader<'a> {
    about: Name,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn set(&mut self) -> Option<RrSet> {
        let (name, rtype, ttl) = (self.name()?, RecordType::from(self.short()?), self.long()?);
        let rdatas = (0..self.short()?).map(|_| Some(self.text()?.into())).collect::<Option<_>>()?;
        let sigs = (0..self.short()?).map(|_| self.sig(rtype)).collect::<Option<_>>()?;
        Some(RrSet { name, rtype, ttl, rdatas, sigs })
    }

    fn sig(&mut self, covered: RecordType) -> Option<Rrsig> {
        let [algorithm, labels] = self.array()?;
        Some(Rrsig {
            covered,
            algorithm,
            labels,
            ttl: self.long()?,
            original_ttl: self.long()?,
            expiration: self.long()?,
            inception: self.long()?,
            key_tag: self.short()?,
            signer: self.name()?,
            signature: self.text()?.into(),
        })
    }

    fn name(&mut self) -> Option<Name> {
        let [labels] = self.array()?;
        if labels == IN_FULL {
            let (name, used) = read_name(self.rest).ok()?;
            self.rest = self.rest.get(used..)?;
            return Some(name);
        }
        let kept = self.about.iter().count().checked_sub(usize::from(labels))?;
        Some(if labels == 0 { self.about.clone() } else { self.about.trim_to(kept) })
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.short()?);
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }

    fn short(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("a name")
    }

    fn set(owner: &str, rtype: RecordType, rdatas: &[&[u8]], signers: &[&str]) -> RrSet {
        let sig = |signer: &&str| Rrsig {
            covered: rtype,
            algorithm: 13,
            labels: 2,
            original_ttl: 3600,
            expiration: 1_900_000_000,
            inception: 1_800_000_000,
            key_tag: 4711,
            signer: name(signer),
            signature: Box::new([7; 64]),
            ttl: 300,
        };
        let rdatas = rdatas.iter().map(|rdata| (*rdata).into()).collect();
        RrSet { name: name(owner), rtype, ttl: 60, rdatas, sigs: signers.iter().map(sig).collect() }
    }

    #[test]
    fn what_was_packed_comes_out() {
        let sets = [
            set("mx.example.com.", RecordType::A, &[&[192, 0, 2, 1], &[192, 0, 2, 2]], &["example.com.", "com."]),
            set("example.com.", RecordType::SOA, &[&[0; 22]], &["example.com."]),
            set(".", RecordType::NS, &[&[0]], &["."]),
            set("other.example.", RecordType::from(65_280), &[&[]], &["elsewhere.example."]),
            set("x.mx.example.com.", RecordType::TXT, &[&[b'x'; 65_535]], &[]),
        ];
        for about in [".", "com.", "mx.example.com.", "a.mx.example.com.", "other.example."] {
            let about = name(about);
            let packed = Packed::new(&about, &sets);
            assert!(packed.is_about(&about), "{about}");
            assert_eq!(packed.sets().collect::<Vec<_>>(), sets, "{about}");
        }
        assert_eq!(Packed::new(&name("com."), []).sets().count(), 0);
    }

    #[test]
    fn a_name_is_told_from_others_whatever_its_case() {
        let packed = Packed::new(&name("mx.example.com."), []);
        assert!(packed.is_about(&name("MX.Example.com.")));
        for other in
            [".", "com.", "example.com.", "my.example.com.", "mx.example.org.", "a.mx.example.com.", "m.example.com."]
        {
            assert!(!packed.is_about(&name(other)), "{other}");
        }
    }
}
