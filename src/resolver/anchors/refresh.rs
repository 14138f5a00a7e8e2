//! Keeps trust anchors current: loads what was learnt, looks at the zones' keys when it is time, tells the
//! engine, stores what has changed (RFC 5011 §2.3).
//!
//! Never decides about a key: [`super::rfc5011`] does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use parking_lot::Mutex;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::rfc5011::{Anchors, Change, Observed, State};
use crate::clock::{Clock, UnixTime};
use crate::resolver::Engine;
use crate::resolver::rrset::RrSet;
use crate::telemetry::metrics::{TRUST_ANCHOR_INFO, TRUST_ANCHOR_LAST_REFRESH};

/// Where state is kept between runs. A failure to write is for the implementation to report: the state stays
/// right in memory.
pub trait Keep: Send + Sync + 'static {
    /// What was saved under this name.
    fn load(&self, name: &str) -> Option<Vec<u8>>;
    /// Saves under this name, durably.
    fn save(&self, name: &str, octets: &[u8]);
}

/// Format of the stored state.
const VERSION: u8 = 1;

/// What is stored per zone. State that began with other anchors than those configured now is not used: the
/// operator's word is newer.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u8,
    began_with: Vec<u8>,
    anchors: Anchors,
}

/// A zone with its anchors.
struct Followed {
    zone: Name,
    began_with: Vec<u8>,
    anchors: Anchors,
}

/// Follows the anchors of all zones that have any.
pub struct Keeper {
    engine: Engine,
    clock: Clock,
    keep: Arc<dyn Keep>,
    followed: Mutex<Vec<Followed>>,
    /// What the metrics say: tag, algorithm, state.
    shown: Mutex<BTreeSet<(u16, u8, State)>>,
}

/// One key, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyStatus {
    /// The zone, `.` for the root.
    pub zone: String,
    /// Key tag.
    pub tag: u16,
    /// Algorithm number.
    pub algorithm: u8,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: UnixTime,
    /// When the zone's keys were last seen and counted; 0 for never.
    pub refreshed_at: UnixTime,
    /// When they are looked at next.
    pub next_refresh: UnixTime,
}

impl Keeper {
    /// Begins with the configured anchors, or with what has become of them in earlier runs, and tells the engine.
    pub fn new(engine: Engine, configured: &[RrSet], keep: Arc<dyn Keep>, clock: Clock) -> Self {
        let keeper = Self { engine, clock, keep, followed: Mutex::default(), shown: Mutex::default() };
        keeper.configure(configured);
        keeper
    }

    /// Takes newly configured anchors; zones whose anchors are the same keep their state.
    pub fn configure(&self, configured: &[RrSet]) {
        let mut zones: Vec<Name> = configured.iter().map(|set| set.name.to_lowercase()).collect();
        zones.sort();
        zones.dedup();
        let now = self.clock.wall();
        let followed = zones.into_iter().map(|zone| self.begin(zone, configured, now)).collect();
        *self.followed.lock() = followed;
        self.publish();
    }

    fn begin(&self, zone: Name, configured: &[RrSet], now: UnixTime) -> Followed {
        let own: Vec<RrSet> = configured.iter().filter(|set| set.name == zone).cloned().collect();
        let began_with = fingerprint(&own);
        let stored = self.keep.load(&key(&zone)).and_then(|octets| rmp_serde::from_slice::<Stored>(&octets).ok());
        let anchors = match stored.filter(|stored| stored.version == VERSION && stored.began_with == began_with) {
            Some(stored) => stored.anchors,
            None => Anchors::new(&zone, &own, now),
        };
        Followed { zone, began_with, anchors }
    }

    /// Looks at zones whose time has come until dropped. A clock that jumps costs one look too many at most.
    pub async fn run(&self) {
        loop {
            for zone in self.due() {
                self.refresh(&zone).await;
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Zones to look at now.
    fn due(&self) -> Vec<Name> {
        let now = self.clock.wall();
        let followed = self.followed.lock();
        // A time further away than any interval comes from a clock that was wrong.
        let is_due = |anchors: &Anchors| anchors.next_refresh <= now || anchors.next_refresh > now + LONGEST;
        followed.iter().filter(|one| is_due(&one.anchors)).map(|one| one.zone.clone()).collect()
    }

    fn pause(&self) -> Duration {
        let now = self.clock.wall();
        let next = self.followed.lock().iter().map(|one| one.anchors.next_refresh - now).min().unwrap_or(LONGEST);
        Duration::from_secs(u64::try_from(next).unwrap_or(0)).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// Looks at one zone's keys.
    pub async fn refresh(&self, zone: &Name) {
        let before = self.anchors_of(zone);
        let Some(before) = before else { return };
        let counts = |set: &RrSet| matches!(before.clone().observe(zone, set, self.clock.wall()), Observed::Counted(_));
        let fetched = self.engine.fetch_zone_keys(zone, &counts).await;
        let now = self.clock.wall();
        let mut followed = self.followed.lock();
        let Some(one) = followed.iter_mut().find(|one| one.zone == *zone) else { return };
        match fetched {
            Ok(set) => {
                let observed = one.anchors.observe(zone, &set, now);
                report(&one.anchors, &observed);
            }
            Err(failure) => {
                one.anchors.missed(now);
                tracing::warn!(zone = one.anchors.zone(), %failure, "trust anchor: keys could not be fetched, trying again in an hour");
            }
        }
        let changed = one.anchors != before;
        let stored = Stored { version: VERSION, began_with: one.began_with.clone(), anchors: one.anchors.clone() };
        drop(followed);
        if changed {
            match rmp_serde::to_vec(&stored) {
                Ok(octets) => self.keep.save(&key(zone), &octets),
                Err(error) => tracing::error!(%error, "trust anchor: state cannot be encoded"),
            }
            self.publish();
        }
    }

    fn anchors_of(&self, zone: &Name) -> Option<Anchors> {
        self.followed.lock().iter().find(|one| one.zone == *zone).map(|one| one.anchors.clone())
    }

    /// Tells the engine and the metrics what is trusted now.
    fn publish(&self) {
        let followed = self.followed.lock();
        let sets = followed.iter().flat_map(|one| trusted(one, &followed)).collect::<Vec<RrSet>>();
        let keys = followed.iter().flat_map(|one| one.anchors.keys());
        let shown = keys.map(|key| (key.tag, key.algorithm, key.state)).collect();
        if let Some(root) = followed.iter().find(|one| one.zone.is_root()) {
            metrics::gauge!(TRUST_ANCHOR_LAST_REFRESH).set(root.anchors.refreshed_at as f64);
        }
        drop(followed);
        self.show(shown);
        self.engine.set_trust_anchors(&sets);
    }

    /// Sets the metric of what is, and takes back what is no more: states that were left, keys that were forgotten.
    fn show(&self, now: BTreeSet<(u16, u8, State)>) {
        let set = |(tag, algorithm, state): &(u16, u8, State), value: f64| {
            let (tag, algorithm) = (tag.to_string(), algorithm.to_string());
            metrics::gauge!(TRUST_ANCHOR_INFO, "tag" => tag, "algorithm" => algorithm, "state" => word(*state))
                .set(value);
        };
        let mut shown = self.shown.lock();
        shown.difference(&now).for_each(|gone| set(gone, 0.0));
        now.iter().for_each(|key| set(key, 1.0));
        *shown = now;
    }

    /// Every key of every zone.
    pub fn status(&self) -> Vec<KeyStatus> {
        let followed = self.followed.lock();
        let of_zone = |one: &Followed| {
            let line = |key: &super::rfc5011::Tracked| KeyStatus {
                zone: one.anchors.zone().to_owned(),
                tag: key.tag,
                algorithm: key.algorithm,
                state: key.state,
                since: key.since,
                refreshed_at: one.anchors.refreshed_at,
                next_refresh: one.anchors.next_refresh,
            };
            one.anchors.keys().iter().map(line).collect::<Vec<_>>()
        };
        followed.iter().flat_map(of_zone).collect()
    }
}

/// The longest interval of RFC 5011 §2.3, in seconds.
const LONGEST: i64 = 15 * 86_400;
/// Between two looks at the list.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
/// A machine that slept, or a clock that was set, is noticed within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// What is trusted of one zone. Where every key is revoked the closest zone above that has an anchor decides, as if
/// there had been none here (RFC 5011 §5); without one an empty RRset stays: the zone fails, and does not become
/// insecure.
fn trusted(one: &Followed, all: &[Followed]) -> Vec<RrSet> {
    let sets = one.anchors.to_sets(&one.zone);
    let is_superior =
        |other: &Followed| other.zone != one.zone && other.zone.zone_of(&one.zone) && !other.anchors.trust().is_empty();
    if !sets.is_empty() || all.iter().any(is_superior) {
        return sets;
    }
    vec![RrSet { name: one.zone.clone(), rtype: RecordType::DNSKEY, ttl: 0, rdatas: Vec::new(), sigs: Vec::new() }]
}

fn key(zone: &Name) -> String {
    format!("trust-anchor {}", zone.to_ascii())
}

/// A state in one word, for people and metric labels.
pub fn word(state: State) -> &'static str {
    match state {
        State::AddPending => "add-pending",
        State::Valid => "valid",
        State::Missing => "missing",
        State::Revoked => "revoked",
        State::Removed => "removed",
    }
}

/// A digest over configured anchors, whatever their order.
fn fingerprint(sets: &[RrSet]) -> Vec<u8> {
    let mut all: Vec<(u16, &[u8])> =
        sets.iter().flat_map(|set| set.rdatas.iter().map(|rdata| (u16::from(set.rtype), &**rdata))).collect();
    all.sort_unstable();
    let mut context = digest::Context::new(&digest::SHA256);
    for (rtype, rdata) in all {
        context.update(&rtype.to_be_bytes());
        context.update(&(rdata.len() as u64).to_be_bytes());
        context.update(rdata);
    }
    context.finish().as_ref().to_vec()
}

fn report(anchors: &Anchors, observed: &Observed) {
    let zone = anchors.zone();
    for Change { tag, from, to } in observed.changes() {
        let (from, to) = (from.map_or("new", word), to.map_or("forgotten", word));
        match to {
            "revoked" => tracing::warn!(zone, tag, from, to, "trust anchor: key revoked by its owner"),
            _ => tracing::info!(zone, tag, from, to, "trust anchor: key changed"),
        }
    }
    if anchors.is_exhausted() {
        tracing::error!(
            zone,
            "trust anchor: every key is revoked or of no known algorithm, so nothing below this zone validates; \
             set resolver.trust-anchors to a file with the zone's present keys, or install a newer postseal"
        );
    } else if let Observed::NotSigned(_) = observed {
        let tags: Vec<u16> = anchors.keys().iter().map(|key| key.tag).collect();
        tracing::error!(
            zone,
            ?tags,
            "trust anchor: no trusted key signs the zone's present keys; if this stays so, set \
             resolver.trust-anchors to a file with the present keys, or install a newer postseal"
        );
    }
}
