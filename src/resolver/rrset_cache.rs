//! Validated RRsets and denials, bounded in octets.
//!
//! Only what was answered with authority and judged secure or insecure gets in: glue, NS RRsets of referrals
//! and additional data never do (RFC 2181 §5.4.1: none of it has the credibility of an answer), nor does
//! anything bogus. Nothing stale comes out.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

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

/// A cache entry as it comes out: never expired.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What is known.
    pub known: Known,
    /// Its security.
    pub security: Security,
    /// When it was learnt.
    learnt: Stamp,
    /// TTL then.
    ttl: u32,
}

impl Entry {
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

#[derive(Clone)]
struct Octets;

impl Weighter<Key, Entry> for Octets {
    fn weight(&self, (name, _): &Key, entry: &Entry) -> u64 {
        let (sets, dname) = match &entry.known {
            Known::Positive { set, proof, dname } => {
                (set.bytes() + proof.iter().map(RrSet::bytes).sum::<usize>(), dname.as_ref().map_or(0, |d| d.bytes()))
            }
            Known::Negative { proof } => (proof.iter().map(RrSet::bytes).sum(), 0),
        };
        (size_of::<Key>() + size_of::<Entry>() + name.len() + sets + dname) as u64
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
        self.fetch((name.clone(), u16::from(rtype)), now)
    }

    /// The proof that `name` does not exist.
    pub fn nxdomain(&self, name: &Name, now: Stamp) -> Option<Entry> {
        self.fetch((name.clone(), NXDOMAIN), now)
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

    fn fetch(&self, key: Key, now: Stamp) -> Option<Entry> {
        self.entries.get(&key).filter(|entry| entry.is_fresh(now))
    }

    /// Keeps an RRset.
    pub fn insert(&self, known: Known, security: Security, ttl: u32, now: Stamp) {
        if let Known::Positive { set, .. } = &known {
            let key = (set.name.clone(), u16::from(set.rtype));
            let ttl = ttl.min(limits::MAX_TTL);
            self.put(key, Entry { known, security, learnt: now, ttl });
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
        self.put(key, Entry { known: Known::Negative { proof }, security, learnt: now, ttl });
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
