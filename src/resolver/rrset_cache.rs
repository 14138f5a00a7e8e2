//! Validated RRsets and denials, bounded in octets.
//!
//! Only what was answered with authority and judged secure or insecure gets in: glue, NS RRsets of referrals
//! and additional data never do (RFC 2181 §5.4.1: none of it has the credibility of an answer), nor does
//! anything bogus. Nothing stale comes out.
//!
//! What is new gets into the smaller of two parts, and into the other once somebody asks for it again: names that are
//! looked up once, as most are for a policy, take the place of each other and not of what is in use.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::name_hash::NameHashing;
use super::packed::Packed;
use super::resolution::End;
use super::rrset::RrSet;
use crate::clock::{Stamp, whole_seconds};
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

/// A cache entry as it comes out: never expired. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry(Arc<Learnt>);

/// What a cache entry holds.
#[derive(Debug)]
pub struct Learnt {
    /// About the name of the key. In this order: the RRset, the DNAME it was made from, the records of the proof.
    sets: Packed,
    /// What the first of them are.
    kind: Kind,
    /// Type in the key.
    rtype: u16,
    /// Its security.
    pub security: Security,
    /// TTL when it was learnt.
    ttl: u32,
    /// When it was learnt.
    learnt: Stamp,
    /// The records as clients get them: without, and with DNSSEC records; none where no message holds them.
    wires: [OnceLock<Option<Box<Wire>>>; 2],
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// See [`Known::Positive`].
    Positive,
    /// Likewise, with a DNAME.
    FromDname,
    /// See [`Known::Negative`].
    Negative,
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

impl Learnt {
    /// What is known.
    pub fn known(&self) -> Known {
        let mut sets = self.sets.sets();
        // A positive entry begins with its RRset; without one it is nothing but proof.
        let set = if self.kind == Kind::Negative { None } else { sets.next().map(Arc::new) };
        let dname = if self.kind == Kind::FromDname { sets.next().map(Arc::new) } else { None };
        let proof = sets.collect();
        match set {
            Some(set) => Known::Positive { set, proof, dname },
            None => Known::Negative { proof },
        }
    }

    /// How a question for exactly this ends.
    pub fn end(&self) -> End {
        if self.kind == Kind::Negative { End::NoData } else { End::Records }
    }

    /// The records as octets, made the first time that somebody wants them.
    pub fn wire(&self, dnssec: bool, make: impl FnOnce() -> Option<Wire>) -> Option<&Wire> {
        let [plain, signed] = &self.wires;
        if dnssec { signed } else { plain }.get_or_init(|| make().map(Box::new)).as_deref()
    }

    /// Seconds left; zero when it has expired.
    pub fn remaining(&self, now: Stamp) -> u32 {
        self.ttl.saturating_sub(whole_seconds(now.since(self.learnt)))
    }
    fn is_fresh(&self, now: Stamp) -> bool {
        now.since(self.learnt) < Duration::from_secs(u64::from(self.ttl))
    }
}

/// The type under which NXDOMAIN is kept, which no record has (RFC 6895 §3.1).
const NXDOMAIN: u16 = 0;

/// Name and type, hashed with a secret, so that nobody can make two of them meet; the entry knows which it is about.
type Key = u64;

#[derive(Clone)]
struct Octets;

impl Weighter<Key, Entry> for Octets {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let sets = limits::allocated(entry.sets.len());
        // With the messages that clients may make of it, each about as long again with its signatures.
        let wires = limits::allocated(size_of::<Wire>()) + sets;
        (PLACE + limits::allocated_shared(size_of::<Learnt>()) + sets + wires) as u64
    }
}

/// The cache.
pub struct RrsetCache {
    hasher: NameHashing,
    once: Cache<Key, Entry, Octets>,
    again: Cache<Key, Entry, Octets>,
}

/// Octets a key takes in the tables of a part, of which some have to be empty.
const PLACE: usize = 64;
/// Octets an ordinary entry takes, to size tables by.
const TYPICAL_ENTRY: usize = 800;
/// For so many entries a table has four shards and no more, so that a large RRset fits into one.
const FEW: usize = 4 * 32;

impl RrsetCache {
    /// Holds at most about `bytes` octets.
    pub fn new(bytes: usize) -> Self {
        let once = bytes / limits::ASKED_ONCE_SHARE;
        let again = bytes - once;
        Self {
            hasher: NameHashing::default(),
            once: Cache::with_weighter(FEW, once as u64, Octets),
            again: Cache::with_weighter((again / TYPICAL_ENTRY).max(FEW), again as u64, Octets),
        }
    }

    /// The RRset or denial for exactly this name and type.
    pub fn get(&self, name: &Name, rtype: RecordType, now: Stamp) -> Option<Entry> {
        self.fetch(name, u16::from(rtype), now)
    }

    /// The proof that `name` does not exist.
    pub fn nxdomain(&self, name: &Name, now: Stamp) -> Option<Entry> {
        self.fetch(name, NXDOMAIN, now)
    }

    /// A secure proof that an ancestor of `name` does not exist: then neither does `name` (RFC 8020 §2). Ancestors of
    /// fewer than `least` labels have no say: those above the apex of a forward zone, say.
    pub fn nxdomain_above(&self, name: &Name, least: usize, now: Stamp) -> Option<Entry> {
        let mut labels = name.iter().count();
        while labels > least.max(1) {
            labels -= 1;
            let entry = self.nxdomain(&name.trim_to(labels), now);
            if let Some(entry) = entry.filter(|entry| entry.security.is_secure()) {
                return Some(entry);
            }
        }
        None
    }

    fn fetch(&self, name: &Name, rtype: u16, now: Stamp) -> Option<Entry> {
        let key = self.hasher.hash_one((name, rtype));
        let is_wanted = |entry: &Entry| entry.rtype == rtype && entry.is_fresh(now) && entry.sets.is_about(name);
        if let Some(entry) = self.again.get(&key) {
            return Some(entry).filter(is_wanted);
        }
        let entry = self.once.get(&key).filter(is_wanted)?;
        self.once.remove(&key);
        self.again.insert(key, entry.clone());
        Some(entry)
    }

    /// Keeps an RRset.
    pub fn insert(&self, known: Known, security: Security, ttl: u32, now: Stamp) {
        if let Known::Positive { set, proof, dname } = &known {
            let kind = if dname.is_some() { Kind::FromDname } else { Kind::Positive };
            let sets = [Some(set), dname.as_ref()].into_iter().flatten().map(|set| &**set).chain(proof.iter());
            let (rtype, ttl) = (u16::from(set.rtype), ttl.min(limits::MAX_TTL));
            let sets = Packed::new(&set.name, sets);
            self.put(&set.name, Learnt { sets, kind, rtype, security, ttl, learnt: now, wires: Default::default() });
        }
    }

    /// Keeps a denial of one type, or of the whole name.
    pub fn insert_denial(
        &self,
        name: &Name,
        rtype: Option<RecordType>,
        proof: &[RrSet],
        security: Security,
        ttl: u32,
        now: Stamp,
    ) {
        let (rtype, ttl) = (rtype.map_or(NXDOMAIN, u16::from), ttl.min(limits::MAX_NEGATIVE_TTL));
        let (sets, kind) = (Packed::new(name, proof), Kind::Negative);
        self.put(name, Learnt { sets, kind, rtype, security, ttl, learnt: now, wires: Default::default() });
    }

    fn put(&self, name: &Name, learnt: Learnt) {
        // RFC 1035 §3.2.1: TTL 0 is for the transaction in progress only.
        if learnt.ttl == 0 {
            return;
        }
        let key = self.hasher.hash_one((name, learnt.rtype));
        let entry = Entry(Arc::new(learnt));
        if let Err((key, entry)) = self.again.replace(key, entry, false) {
            self.once.insert(key, entry);
        }
    }

    /// Forgets everything about these zones and the names below them.
    pub fn forget_within(&self, zones: &[Name]) {
        let is_outside = |entry: &Entry| !zones.iter().any(|zone| entry.sets.is_within(zone));
        self.once.retain(|_, entry| is_outside(entry));
        self.again.retain(|_, entry| is_outside(entry));
    }

    /// Octets held, as weighed.
    pub fn bytes(&self) -> u64 {
        self.once.weight() + self.again.weight()
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
    async fn the_cache_stays_within_its_octets_and_keeps_what_is_in_use() {
        let (cache, clock) = (RrsetCache::new(64 << 10), Clock::manual(0));
        let name = |index| Name::from_str(&format!("n{index}.example.")).expect("a name");
        let known = |index| cache.get(&name(index), RecordType::A, clock.stamp()).is_some();
        let learn = |index| cache.insert(set(&name(index).to_string()), Security::Insecure, 60, clock.stamp());
        (0..10).for_each(learn);
        assert!((0..10).all(known), "asked for again");
        (10..10_000).for_each(learn);
        assert!(cache.bytes() <= 24 << 10, "{}", cache.bytes());
        assert!((0..10).all(known), "names that nobody asks for again take the place of each other");
        for index in 10_000..20_000 {
            learn(index);
            assert!(known(index), "{index}");
        }
        assert!(cache.bytes() <= 64 << 10, "{}", cache.bytes());
        assert!(cache.bytes() > 32 << 10, "{}", cache.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_proven_nxdomain_speaks_for_what_is_below() {
        let (cache, clock) = (RrsetCache::new(1 << 20), Clock::manual(0));
        let name = |text| Name::from_str(text).expect("a name");
        cache.insert_denial(&name("a.example."), None, &[], Security::Insecure, 60, clock.stamp());
        cache.insert_denial(&name("b.example."), None, &[], Security::Secure, 60, clock.stamp());
        let above = |text, least| cache.nxdomain_above(&name(text), least, clock.stamp());
        assert!(above("x.a.example.", 0).is_none());
        assert!(above("y.x.b.example.", 0).is_some());
        assert!(above("b.example.", 0).is_none());
        assert!(above("y.x.b.example.", 2).is_some(), "the apex of an island itself");
        assert!(above("y.x.b.example.", 3).is_none(), "above the apex of an island");
    }
}
