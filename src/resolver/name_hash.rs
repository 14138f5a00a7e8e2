//! How tables by name hash their keys: with a secret, as std does, but many octets at a time.
//!
//! A [`Name`] gives itself to a hasher octet by octet, to be the same in any case (RFC 4343). SipHash does as much work
//! for one octet as for eight, and for every question it is most of what a lookup in a table costs.
//!
//! [`Name`]: hickory_proto::rr::Name

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{UnitWeighter, Weighter};

/// A bounded table whose keys hold a name.
pub(super) type NameCache<K, V, W = UnitWeighter> = Cache<K, V, W, NameHashing>;
/// Likewise, bounded by its owner.
pub(super) type NameMap<K, V> = HashMap<K, V, NameHashing>;

/// For at most so many entries.
pub(super) fn cache<K: Eq + Hash, V: Clone>(entries: usize) -> NameCache<K, V> {
    cache_weighed(entries, entries as u64, UnitWeighter)
}

/// For entries that together weigh at most so much, sized for about so many.
pub(super) fn cache_weighed<K, V, W>(entries: usize, weight: u64, weighter: W) -> NameCache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    Cache::with(entries, weight, weighter, NameHashing::default(), DefaultLifecycle::default())
}

/// A secret of its own for each table, so that nobody can make names meet in it.
#[derive(Clone, Debug, Default)]
pub(super) struct NameHashing(RandomState);

impl BuildHasher for NameHashing {
    type Hasher = NameHasher;

    fn build_hasher(&self) -> NameHasher {
        NameHasher { hasher: self.0.build_hasher(), gathered: [0; ROOM], used: 0 }
    }
}

/// Octets gathered before they are hashed: an ordinary name with its labels' ends and a type.
const ROOM: usize = 64;

/// Gathers octets for SipHash.
pub(super) struct NameHasher {
    hasher: DefaultHasher,
    gathered: [u8; ROOM],
    used: usize,
}

impl Hasher for NameHasher {
    fn write(&mut self, octets: &[u8]) {
        if let Some(place) = self.gathered.get_mut(self.used..self.used + octets.len()) {
            place.copy_from_slice(octets);
            self.used += octets.len();
            return;
        }
        self.hasher.write(self.gathered.get(..self.used).unwrap_or_default());
        self.hasher.write(octets);
        self.used = 0;
    }

    fn write_u8(&mut self, octet: u8) {
        match self.gathered.get_mut(self.used) {
            Some(place) => {
                *place = octet;
                self.used += 1;
            }
            None => self.write(&[octet]),
        }
    }

    fn finish(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(self.gathered.get(..self.used).unwrap_or_default());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::str::FromStr;

    use hickory_proto::rr::Name;

    use super::*;

    #[test]
    fn names_hash_alike_in_any_case_and_others_apart() {
        let hashing = NameHashing::default();
        let hash = |name: &str, rtype: u16| hashing.hash_one((Name::from_str(name).expect("a name"), rtype));
        assert_eq!(hash("MX.Example.COM.", 1), hash("mx.example.com.", 1));
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join(".");
        let names = ["mx.example.com.", "mxe.xample.com.", "mx.example.com", ".", &long, &long.replace('c', "d")];
        let hashes: HashSet<_> = names.iter().flat_map(|name| [hash(name, 1), hash(name, 15)]).collect();
        assert_eq!(hashes.len(), 2 * names.len());
        assert_ne!(NameHashing::default().hash_one(1), hashing.hash_one(1), "each table has a secret of its own");
    }

    /// However the octets come, and however many: the hash is SipHash's of all of them.
    #[test]
    fn nothing_that_is_written_is_left_out() {
        let hashing = NameHashing::default();
        let octets: Vec<u8> = (0..=255).collect();
        for length in 0..=octets.len() {
            let mut plain = hashing.0.build_hasher();
            plain.write(&octets[..length]);
            for piece in [1, 7, 63, 64, 65, 256] {
                let mut gathering = hashing.build_hasher();
                octets[..length].chunks(piece).for_each(|piece| match piece {
                    [octet] => gathering.write_u8(*octet),
                    more => gathering.write(more),
                });
                assert_eq!(gathering.finish(), plain.finish(), "{length} in pieces of {piece}");
            }
        }
    }
}
