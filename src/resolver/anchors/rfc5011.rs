//! Trust anchors that follow a zone's key roll-overs (RFC 5011). Pure: keys seen and the time go in, what is
//! trusted comes out.
//!
//! Never fetches, never stores: [`super::refresh`] does. Never trusts a key set that no anchor has signed; a
//! revocation counts at once, and needs nothing but the revoked key's own signature (§2.1).

use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::limits;
use crate::resolver::budget::Budget;
use crate::resolver::rrset::RrSet;
use crate::resolver::validate::{DnsKey, Ds, KeySet, Trust, ZoneKeys, verify, verify_dnskeys};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Add and remove hold-down (§2.4.1, §2.4.2).
const HOLD_DOWN: i64 = 30 * DAY;

/// Where a key stands (§4.2; "Start" is not being listed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Seen, signed by an anchor, waiting for the hold-down to end.
    AddPending,
    /// An anchor.
    Valid,
    /// An anchor that is not in the zone's key set any more.
    Missing,
    /// Revoked by its owner: never an anchor again.
    Revoked,
    /// Revoked, and gone for good.
    Removed,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// Flags without REVOKE.
    pub flags: u16,
    /// Algorithm number.
    pub algorithm: u8,
    /// Key tag without REVOKE, as people know it.
    pub tag: u16,
    /// Public key.
    #[serde(with = "octets")]
    pub public: Box<[u8]>,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: UnixTime,
    /// Last time it was in a key set that counted.
    pub seen: UnixTime,
}

/// An anchor in DS form whose key has not been met yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    tag: u16,
    algorithm: u8,
    digest_type: u8,
    #[serde(with = "octets")]
    digest: Box<[u8]>,
}

/// The anchors of one zone and their history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// The zone, in text form.
    zone: String,
    /// Every key that was met or configured.
    keys: Vec<Tracked>,
    /// Configured DS records whose key has not been met.
    digests: Vec<Digest>,
    /// When the zone's keys were last seen and counted.
    pub refreshed_at: UnixTime,
    /// When to look again.
    pub next_refresh: UnixTime,
}

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key tag.
    pub tag: u16,
    /// Where the key stood; none for one that was not known.
    pub from: Option<State>,
    /// Where it stands now; none when it is forgotten.
    pub to: Option<State>,
}

/// What came of a look at the zone's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// The key set counted.
    Counted(Vec<Change>),
    /// No anchor has signed it (but revocations in it were taken, if any).
    NotSigned(Vec<Change>),
}

impl Observed {
    /// The changes.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::Counted(changes) | Self::NotSigned(changes) => changes,
        }
    }
}

impl Anchors {
    /// Begins with configured anchors, in DS and DNSKEY form; all are valid at once. `sets` are those of one zone.
    pub fn new(zone: &Name, sets: &[RrSet], now: UnixTime) -> Self {
        let trust = Trust::from_sets(sets.iter().filter(|set| set.name == *zone));
        let keys: Vec<Tracked> = trust.keys.iter().map(|key| Tracked::new(key, State::Valid, now)).collect();
        // A DS whose key is configured beside it says nothing more.
        let open = trust.ds.iter().filter(|ds| !trust.keys.iter().any(|key| key.matches_any(zone, &[(*ds).clone()])));
        let digests = open.map(Digest::new).collect();
        Self { zone: zone.to_ascii(), keys, digests, refreshed_at: 0, next_refresh: now }
    }

    /// What validation may start from: valid keys, missing ones, and digests not met yet.
    pub fn trust(&self) -> Trust {
        let counts = |key: &&Tracked| matches!(key.state, State::Valid | State::Missing);
        Trust {
            keys: self.keys.iter().filter(counts).map(Tracked::key).collect(),
            ds: self.digests.iter().map(Digest::ds).collect(),
        }
    }

    /// The same as RRsets, as the engine takes anchors.
    pub fn to_sets(&self, zone: &Name) -> Vec<RrSet> {
        let trust = self.trust();
        let set = |rtype, rdatas: Vec<Box<[u8]>>| RrSet { name: zone.clone(), rtype, ttl: 0, rdatas, sigs: Vec::new() };
        let keys = trust.keys.iter().map(|key| key.rdata().into()).collect();
        let digests = trust.ds.iter().map(|ds| ds_rdata(ds).into()).collect();
        [set(RecordType::DNSKEY, keys), set(RecordType::DS, digests)]
            .into_iter()
            .filter(|set| !set.rdatas.is_empty())
            .collect()
    }

    /// Every key with its state.
    pub fn keys(&self) -> &[Tracked] {
        &self.keys
    }

    /// The zone, in text form.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Whether nothing is left that could be trusted: every answer below the zone is bogus from now on, until
    /// an operator configures new anchors.
    pub fn is_exhausted(&self) -> bool {
        !self.trust().is_usable()
    }

    /// Takes a DNSKEY RRset with its signatures (§2.2) as seen at `now`.
    pub fn observe(&mut self, zone: &Name, set: &RrSet, now: UnixTime) -> Observed {
        let mut changes = Vec::new();
        // One key set of bounded size is all that a budget is spent on here.
        let budget = Budget::default();
        self.revoke(zone, set, now, &budget, &mut changes);
        let trust = self.trust();
        let counted =
            trust.is_usable() && matches!(verify_dnskeys(zone, set, &trust, now, &budget), Ok(ZoneKeys::Secure { .. }));
        self.next_refresh =
            now.saturating_add(if counted { refresh_interval(set, now) } else { retry_interval(set, now) });
        if !counted {
            return Observed::NotSigned(changes);
        }
        self.refreshed_at = now;
        let present = published(set);
        self.meet_digests(zone, &present, now, &mut changes);
        self.follow(&present, add_hold_down(set), now, &mut changes);
        Observed::Counted(changes)
    }

    /// After a look that gave nothing: when to look again (§2.3).
    pub fn missed(&mut self, now: UnixTime) {
        self.next_refresh = now.saturating_add(HOUR);
    }

    /// Keys that revoke themselves: REVOKE set, and signed by themselves (§2.1).
    fn revoke(&mut self, zone: &Name, set: &RrSet, now: UnixTime, budget: &Budget, changes: &mut Vec<Change>) {
        for key in set.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)).filter(DnsKey::is_revoked) {
            let unrevoked = without_revoke(&key);
            let known = self.keys.iter().position(|tracked| tracked.is(&key) && tracked.state != State::Removed);
            let by_digest = self.digests.iter().any(|digest| unrevoked.matches_any(zone, &[digest.ds()]));
            if known.is_none() && !by_digest {
                continue;
            }
            // Validation refuses revoked keys, as it must; here, and only here, such a key may speak: about
            // itself (§2.1). Its tag stays the one with REVOKE, under which it signs.
            let speaking = DnsKey { flags: unrevoked.flags, ..key.clone() };
            let own = KeySet { zone: zone.clone(), keys: vec![speaking] };
            if verify(set, &own, now, budget).is_err() {
                continue;
            }
            if by_digest {
                self.digests.retain(|digest| !unrevoked.matches_any(zone, &[digest.ds()]));
            }
            match known.and_then(|index| self.keys.get_mut(index)) {
                Some(tracked) if tracked.state == State::Revoked => tracked.seen = now,
                Some(tracked) => changes.push(tracked.change(State::Revoked, now)),
                None => {
                    let tracked = Tracked::new(&unrevoked, State::Revoked, now);
                    changes.push(Change { tag: tracked.tag, from: Some(State::Valid), to: Some(State::Revoked) });
                    self.keys.push(tracked);
                }
            }
        }
        // A key that was never an anchor is simply forgotten (§4.2: AddPend, RevBit → Start).
        let never_trusted =
            |change: &Change| change.from == Some(State::AddPending) && change.to == Some(State::Revoked);
        let forgotten: Vec<u16> =
            changes.iter().filter(|change| never_trusted(change)).map(|change| change.tag).collect();
        self.keys.retain(|tracked| tracked.state != State::Revoked || !forgotten.contains(&tracked.tag));
        for change in changes.iter_mut().filter(|change| never_trusted(change)) {
            change.to = None;
        }
    }

    /// Anchors in DS form become keys when their key is met.
    fn meet_digests(&mut self, zone: &Name, present: &[DnsKey], now: UnixTime, changes: &mut Vec<Change>) {
        for key in present {
            let matches = |digest: &Digest| key.matches_any(zone, &[digest.ds()]);
            if self.digests.iter().any(matches) {
                self.digests.retain(|digest| !matches(digest));
                match self.keys.iter_mut().find(|tracked| tracked.is(key)) {
                    Some(tracked) if tracked.state == State::AddPending => {
                        changes.push(tracked.change(State::Valid, now))
                    }
                    Some(_) => {}
                    None => self.keys.push(Tracked::new(key, State::Valid, now)),
                }
            }
        }
    }

    /// The state table of §4.2 for a key set that counts.
    fn follow(&mut self, present: &[DnsKey], hold_down: i64, now: UnixTime, changes: &mut Vec<Change>) {
        self.keys.retain_mut(|tracked| {
            let is_there = present.iter().any(|key| tracked.is(key));
            if is_there {
                tracked.seen = now;
            }
            let waited = now.saturating_sub(tracked.since);
            match (tracked.state, is_there) {
                (State::AddPending, true) if waited >= hold_down => changes.push(tracked.change(State::Valid, now)),
                (State::AddPending, false) => {
                    // Interrupted: the hold-down begins anew should the key come back (§2.2).
                    changes.push(Change { tag: tracked.tag, from: Some(State::AddPending), to: None });
                    return false;
                }
                (State::Valid, false) => changes.push(tracked.change(State::Missing, now)),
                (State::Missing, true) => changes.push(tracked.change(State::Valid, now)),
                (State::Revoked, _) if waited >= HOLD_DOWN => changes.push(tracked.change(State::Removed, now)),
                (State::AddPending | State::Valid, true) | (State::Missing, false) => {}
                // Kept in mind, so that it cannot come back as new.
                (State::Revoked | State::Removed, _) => {}
            }
            true
        });
        for key in present.iter().filter(|key| key.is_sep()) {
            let known = self.keys.iter().any(|tracked| tracked.is(key));
            if !known && self.keys.len() < limits::ANCHOR_KEYS {
                let tracked = Tracked::new(key, State::AddPending, now);
                changes.push(Change { tag: tracked.tag, from: None, to: Some(State::AddPending) });
                self.keys.push(tracked);
            }
        }
    }
}

impl Tracked {
    fn new(key: &DnsKey, state: State, now: UnixTime) -> Self {
        let plain = without_revoke(key);
        Self {
            flags: plain.flags,
            algorithm: key.algorithm,
            tag: plain.tag,
            public: key.public.clone(),
            state,
            since: now,
            seen: now,
        }
    }

    fn key(&self) -> DnsKey {
        DnsKey { flags: self.flags, protocol: 3, algorithm: self.algorithm, tag: self.tag, public: self.public.clone() }
    }

    /// Whether it is this key, revoked or not: the public key says so, the tag changes with REVOKE.
    fn is(&self, key: &DnsKey) -> bool {
        self.algorithm == key.algorithm && self.public == key.public
    }

    fn change(&mut self, to: State, now: UnixTime) -> Change {
        let change = Change { tag: self.tag, from: Some(self.state), to: Some(to) };
        (self.state, self.since) = (to, now);
        change
    }
}

impl Digest {
    fn new(ds: &Ds) -> Self {
        Self { tag: ds.tag, algorithm: ds.algorithm, digest_type: ds.digest_type, digest: ds.digest.clone() }
    }
    fn ds(&self) -> Ds {
        Ds { tag: self.tag, algorithm: self.algorithm, digest_type: self.digest_type, digest: self.digest.clone() }
    }
}

/// The usable keys of a set, none of them revoked.
fn published(set: &RrSet) -> Vec<DnsKey> {
    set.rdatas.iter().filter_map(|rdata| DnsKey::parse(rdata)).filter(DnsKey::is_usable).collect()
}

/// The key as it was before it was revoked: REVOKE changes flags and tag (§2.1).
fn without_revoke(key: &DnsKey) -> DnsKey {
    let mut rdata = key.rdata();
    if let Some(low) = rdata.get_mut(1) {
        *low &= !0x80;
    }
    // The RDATA of a key that was parsed parses again.
    DnsKey::parse(&rdata).unwrap_or_else(|| key.clone())
}

fn ds_rdata(ds: &Ds) -> Vec<u8> {
    let mut out = ds.tag.to_be_bytes().to_vec();
    out.extend_from_slice(&[ds.algorithm, ds.digest_type]);
    out.extend_from_slice(&ds.digest);
    out
}

/// The add hold-down: 30 days or the TTL of the key set, whichever is longer (§2.4.1).
fn add_hold_down(set: &RrSet) -> i64 {
    HOLD_DOWN.max(original_ttl(set))
}

fn original_ttl(set: &RrSet) -> i64 {
    i64::from(set.sigs.iter().map(|sig| sig.original_ttl).min().unwrap_or(set.ttl))
}

/// Seconds until the first signature over the set expires; zero when there is none.
fn signature_life(set: &RrSet, now: UnixTime) -> i64 {
    // RFC 4034 §3.1.5: serial number arithmetic, modulo 2³².
    let left = |expiration: u32| i64::from(expiration.wrapping_sub(now as u32) as i32);
    set.sigs.iter().map(|sig| left(sig.expiration)).min().unwrap_or(0).max(0)
}

/// Active refresh (§2.3): max(1 h, min(15 d, TTL/2, signature life/2)).
fn refresh_interval(set: &RrSet, now: UnixTime) -> i64 {
    HOUR.max((15 * DAY).min(original_ttl(set) / 2).min(signature_life(set, now) / 2))
}

/// Retry (§2.3): max(1 h, min(1 d, TTL/10, signature life/10)).
fn retry_interval(set: &RrSet, now: UnixTime) -> i64 {
    HOUR.max(DAY.min(original_ttl(set) / 10).min(signature_life(set, now) / 10))
}

/// Octets in stored state.
mod octets {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::borrowed_box, reason = "the shape serde's `with` calls it in")]
    pub fn serialize<S: Serializer>(octets: &Box<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        octets.to_vec().serialize(serializer)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
        Vec::deserialize(deserializer).map(Vec::into_boxed_slice)
    }
}
