//! Validated RRsets and denials, bounded in octets.
//!
//! Only what was answered with authority and judged secure or insecure gets in: glue, NS RRsets of referrals
//! and additional data never do (RFC 2181 §5.4.1: none of it has the credibility of an answer), nor does
//! anything bogus. Nothing stale comes out.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::resolution::End;
use super::rrset::RrSet;
use crate::clock::Stamp;
use crate::dns::Security;
use crate::limits;

/// What is known of a name and type.
#[derive(Clone, Debug)]
pub enum Known {
    /// The RRset, with the records that prove a wildcard expansion right, or, for a CNAME that a DNAME made,
    /// that DNAME.
    Positive {
        /// The RRset.
        set: Arc<RrSet>,
        /// NSEC or NSEC3 records (wildcard).
        proof: Arc<[RrSet]>,
        /// The DNAME that this CNAME was made from.
        dname: Option<Arc<RrSet>>,
    },
    /// Nothing of this type, or, under [`RrsetCache::nxdomain`], no such name.
    Negative {
        /// SOA and the records of the proof.
        proof: Arc<[RrSet]>,
    },
}

impl Known {
    /// How a question for exactly this ends.
    pub fn end(&self) -> End {
        match self {
            Self::Positive { .. } => End::Records,
            Self::Negative { .. } => End::NoData,
        }
    }
}

/// A cache entry as it comes out: never expired. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry(Arc<Learnt>);

/// What a cache entry holds.
#[derive(Debug)]
pub struct Learnt {
    /// What is known.
    pub known: Known,
    /// Its security.
    pub security: Security,
    /// When it was learnt.
    learnt: Stamp,
    /// TTL then.
    ttl: u32,
    /// The records as clients get them: without, and with DNSSEC records; none where no message holds them.
    wires: [OnceLock<Option<Wire>>; 2],
}

/// The records of an answer as they stand in a message, behind header and question. Names are compressed towards the
/// question, so this is good for the one name that the entry is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// All records.
    pub octets: Box<[u8]>,
    /// How many are in the answer section, and in the authority section.
    pub counts: [u16; 2],
    /// Where in `octets` the TTLs stand, four octets each.
    pub ttls: Box<[u16]>,
}

impl Deref for Entry {
    type Target = Learnt;
    fn deref(&self) -> &Learnt {
        &self.0
    }
}

impl Entry {
    fn new(known: Known, security: Security, learnt: Stamp, ttl: u32) -> Self {
        Self(Arc::new(Learnt { known, security, learnt, ttl, wires: Default::default() }))
    }
}

impl Learnt {
    /// The records as octets, made the first time that somebody wants them.
    pub fn wire(&self, dnssec: bool, make: impl FnOnce() -> Option<Wire>) -> Option<&Wire> {
        let [plain, signed] = &self.wires;
        if dnssec { signed } else { plain }.get_or_init(make).as_ref()
    }

    /// Seconds left; zero when it has expired.
    pub fn remaining(&self, now: Stamp) -> u32 {
        let age = u32::try_from(now.since(self.learnt).as_secs()).unwrap_or(u32::MAX);
        self.ttl.saturating_sub(age)
    }
    fn is_fresh(&self, now: Stamp) -> bool {
        now.since(self.learnt) < Duration::from_secs(u64::from(self.ttl))
    }
}

/// Owner and type; NXDOMAIN is kept under type 0, which no record has (RFC 6895 §3.1).
type Key = (Name, u16);
const NXDOMAIN: u16 = 0;

/// A key to look for, without a copy of the name.
#[derive(Hash)]
struct Asked<'a>(&'a Name, u16);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, (name, rtype): &Key) -> bool {
        self.1 == *rtype && self.0 == name
    }
}

#[derive(Clone)]
struct Octets;

impl Weighter<Key, Entry> for Octets {
    fn weight(&self, (name, _): &Key, entry: &Entry) -> u64 {
        let (set, proof, dname) = match &entry.known {
            Known::Positive { set, proof, dname } => (Some(set), proof, dname.as_ref()),
            Known::Negative { proof } => (None, proof, None),
        };
        let sets = || set.into_iter().map(|set| &**set).chain(proof.iter()).chain(dname.map(|set| &**set));
        let octets = sets().map(|set| set.bytes() + set.wire_bytes()).sum::<usize>();
        (size_of::<Key>() + size_of::<Entry>() + size_of::<Learnt>() + name.len() + octets) as u64
    }
}

/// The cache.
pub struct RrsetCache {
    entries: Cache<Key, Entry, Octets>,
}

/// Octets an ordinary entry takes, to size tables by.
const TYPICAL_ENTRY: usize = 800;

impl RrsetCache {
    /// Holds at most about `bytes` octets.
    pub fn new(bytes: usize) -> Self {
        Self { entries: Cache::with_weighter((bytes / TYPICAL_ENTRY).max(16), bytes as u64, Octets) }
    }

    /// The RRset or denial for exactly this name and type.
    pub fn get(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Entry> {
        self.fetch(Asked(name, u16::from(rtype)), now)
    }

    /// The proof that `name` does not exist.
    pub fn nxdomain(&self, name: &Name, now: Stamp) -> Option<Entry> {
        self.fetch(Asked(name, NXDOMAIN), now)
    }

    /// A secure proof that an ancestor of `name` does not exist: then neither does `name` (RFC 8020 §2).
    pub fn nxdomain_above(&self, name: &Name, now: Stamp) -> Option<Entry> {
        let mut labels = name.iter().count();
        while labels > 1 {
            labels -= 1;
            let entry = self.nxdomain(&name.trim_to(labels), now);
            if let Some(entry) = entry.filter(|entry| entry.security.is_secure()) {
                return Some(entry);
            }
        }
        None
    }

    fn fetch(&self, asked: Asked<'_>, now: Stamp) -> Option<Entry> {
        self.entries.get(&asked).filter(|entry| entry.is_fresh(now))
    }

    /// Keeps an RRset.
    pub fn insert(&self, known: Known, security: Security, ttl: u32, now: Stamp) {
        if let Known::Positive { set, .. } = &known {
            let key = (set.name.clone(), u16::from(set.rtype));
            let ttl = ttl.min(limits::MAX_TTL);
            self.put(key, Entry::new(known, security, now, ttl));
        }
    }

    /// Keeps a denial of one type, or of the whole name.
    pub fn insert_denial(
        &self,
        name: Name,
        rtype: Option<RecordType>,
        proof: Arc<[RrSet]>,
        security: Security,
        ttl: u32,
        now: Stamp,
    ) {
        let key = (name, rtype.map_or(NXDOMAIN, u16::from));
        let ttl = ttl.min(limits::MAX_NEGATIVE_TTL);
        self.put(key, Entry::new(Known::Negative { proof }, security, now, ttl));
    }

    fn put(&self, key: Key, entry: Entry) {
        // RFC 1035 §3.2.1: TTL 0 is for the transaction in progress only.
        if entry.ttl > 0 {
            self.entries.insert(key, entry);
        }
    }

    /// Octets held, as weighed.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::str::FromStr;

    fn set(name: &str) -> Known {
        let set = RrSet {
            name: Name::from_str(name).expect("a name"),
            rtype: RecordType::A,
            ttl: 60,
            rdatas: vec![Box::new([192, 0, 2, 1])],
            sigs: Vec::new(),
        };
        Known::Positive { set: Arc::new(set), proof: Arc::default(), dname: None }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_stale_comes_out() {
        let (cache, clock) = (RrsetCache::new(1 << 20), Clock::manual(0));
        let name = Name::from_str("mx.example.").expect("a name");
        cache.insert(set("mx.example."), Security::Secure, 60, clock.stamp());
        tokio::time::advance(Duration::from_secs(59)).await;
        let entry = cache.get(&name, RecordType::A, clock.stamp()).expect("still fresh");
        assert_eq!(entry.remaining(clock.stamp()), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(cache.get(&name, RecordType::A, clock.stamp()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_stays_within_its_octets() {
        let (cache, clock) = (RrsetCache::new(64 << 10), Clock::manual(0));
        for index in 0..10_000 {
            cache.insert(set(&format!("n{index}.example.")), Security::Insecure, 60, clock.stamp());
        }
        assert!(cache.bytes() <= 64 << 10, "{}", cache.bytes());
        assert!(cache.bytes() > 16 << 10, "{}", cache.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_proven_nxdomain_speaks_for_what_is_below() {
        let (cache, clock) = (RrsetCache::new(1 << 20), Clock::manual(0));
        let name = |text| Name::from_str(text).expect("a name");
        cache.insert_denial(name("a.example."), None, Arc::default(), Security::Insecure, 60, clock.stamp());
        cache.insert_denial(name("b.example."), None, Arc::default(), Security::Secure, 60, clock.stamp());
        assert!(cache.nxdomain_above(&name("x.a.example."), clock.stamp()).is_none());
        assert!(cache.nxdomain_above(&name("y.x.b.example."), clock.stamp()).is_some());
        assert!(cache.nxdomain_above(&name("b.example."), clock.stamp()).is_none());
    }
}
