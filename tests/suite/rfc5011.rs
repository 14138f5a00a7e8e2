//! Trust anchors through roll-overs (RFC 5011): every state and timer of §4, on a pretend calendar.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, RecordType};
use postseal::dns::{Bogus, Cause};
use postseal::resolver::anchors::refresh::{Keep, Keeper};
use postseal::resolver::anchors::rfc5011::{Anchors, Observed, State};
use postseal::resolver::message::Rcode;
use postseal::resolver::rrset::{RrSet, Rrsig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::dns_service::{query, serve, udp};
use crate::support::fault::{Fault, On};
use crate::support::key::{KSK, ZSK, ZoneKey, dnskey_set};
use crate::support::lab::{Lab, ROUND_TRIP, anchor, hickory, verdict};
use crate::support::memory::MemoryNetwork;
use crate::support::name::DnsName;
use crate::support::record::rtype;
use crate::support::zone::{Delegation, Zone};

const DAY: i64 = 86_400;
const START: i64 = 1_790_000_000;
/// TTL of the key sets here: half of it is the longest refresh interval.
const TTL: u32 = 2 * 86_400;

fn key() -> ZoneKey {
    ZoneKey::new(15, KSK)
}

/// Sets REVOKE: the key is the same, its tag is not.
fn revoke(key: &mut ZoneKey) {
    key.dnskey[1] |= 0x80;
}

/// The root's key set of these keys, signed by some of them, valid for 20 days around `now`.
fn published(keys: &[&ZoneKey], signers: &[&ZoneKey], now: i64) -> RrSet {
    let root = DnsName::root();
    let mut plain = dnskey_set(&root, TTL, &[]);
    plain.rdatas = keys.iter().map(|key| crate::support::record::Rdata::octets(key.dnskey.clone())).collect();
    let window = (now - 10 * DAY, now + 10 * DAY);
    let sigs = signers.iter().map(|key| key.rrsig(&plain, &root, &root, window));
    RrSet {
        name: Name::root(),
        rtype: RecordType::DNSKEY,
        ttl: TTL,
        rdatas: keys.iter().map(|key| key.dnskey.clone().into()).collect(),
        sigs: sigs.map(|sig| Rrsig::parse(&sig.wire(), TTL).expect("an RRSIG")).collect(),
    }
}

fn anchors(keys: &[&ZoneKey]) -> Anchors {
    Anchors::new(&Name::root(), &[published(keys, &[], START)], START)
}

/// A DS of the key as an anchor.
fn digest_anchor(key: &ZoneKey) -> Anchors {
    let rdatas = vec![key.ds(&DnsName::root(), 2).wire().into()];
    let set = RrSet { name: Name::root(), rtype: RecordType::DS, ttl: TTL, rdatas, sigs: Vec::new() };
    Anchors::new(&Name::root(), &[set], START)
}

fn observe(anchors: &mut Anchors, keys: &[&ZoneKey], signers: &[&ZoneKey], now: i64) -> Observed {
    anchors.observe(&Name::root(), &published(keys, signers, now), now)
}

fn state(anchors: &Anchors, key: &ZoneKey) -> Option<State> {
    anchors.keys().iter().find(|tracked| tracked.public[..] == key.dnskey[4..]).map(|tracked| tracked.state)
}

fn is_trusted(anchors: &Anchors, key: &ZoneKey) -> bool {
    anchors.trust().keys.iter().any(|trusted| trusted.public[..] == key.dnskey[4..])
}

#[test]
fn a_new_key_is_trusted_after_thirty_days_and_not_a_day_earlier() {
    let (old, new) = (key(), key());
    let mut anchors = anchors(&[&old]);
    for day in 0..30 {
        observe(&mut anchors, &[&old, &new], &[&old], START + day * DAY);
        assert_eq!(state(&anchors, &new), Some(State::AddPending), "day {day}");
        assert!(!is_trusted(&anchors, &new), "day {day}");
    }
    // The timer alone is not enough: the key must be seen once more (§2.4.1).
    observe(&mut anchors, &[&old, &new], &[&old], START + 30 * DAY);
    assert_eq!(state(&anchors, &new), Some(State::Valid));
    // From here the new key alone carries the zone.
    assert!(matches!(observe(&mut anchors, &[&new], &[&new], START + 31 * DAY), Observed::Counted(_)));
    assert_eq!(state(&anchors, &old), Some(State::Missing));
}

#[test]
fn a_key_that_disappears_while_it_waits_begins_anew() {
    let (old, new) = (key(), key());
    let mut anchors = anchors(&[&old]);
    observe(&mut anchors, &[&old, &new], &[&old], START);
    observe(&mut anchors, &[&old], &[&old], START + 20 * DAY);
    assert_eq!(state(&anchors, &new), None);
    observe(&mut anchors, &[&old, &new], &[&old], START + 21 * DAY);
    observe(&mut anchors, &[&old, &new], &[&old], START + 50 * DAY);
    assert_eq!(state(&anchors, &new), Some(State::AddPending));
    observe(&mut anchors, &[&old, &new], &[&old], START + 51 * DAY);
    assert_eq!(state(&anchors, &new), Some(State::Valid));
}

#[test]
fn a_key_set_that_no_anchor_signs_changes_nothing() {
    let (old, new) = (key(), key());
    let mut anchors = anchors(&[&old]);
    for signers in [&[][..], &[&new][..]] {
        let observed = observe(&mut anchors, &[&old, &new], signers, START);
        assert_eq!(observed, Observed::NotSigned(Vec::new()));
        assert_eq!(state(&anchors, &new), None);
        assert!(is_trusted(&anchors, &old));
    }
    // A pending key must not vouch for anything, however long it waits.
    observe(&mut anchors, &[&old, &new], &[&old], START);
    let observed = observe(&mut anchors, &[&new], &[&new], START + 40 * DAY);
    assert_eq!(observed, Observed::NotSigned(Vec::new()));
    assert_eq!(state(&anchors, &new), Some(State::AddPending));
}

#[test]
fn keys_without_the_sep_flag_are_never_taken() {
    let (old, zone_key) = (key(), ZoneKey::new(15, ZSK));
    let mut anchors = anchors(&[&old]);
    observe(&mut anchors, &[&old, &zone_key], &[&old], START);
    assert_eq!(state(&anchors, &zone_key), None);
}

#[test]
fn an_anchor_that_is_missing_stays_trusted_and_comes_back() {
    let (one, two) = (key(), key());
    let mut anchors = anchors(&[&one, &two]);
    observe(&mut anchors, &[&one], &[&one], START);
    assert_eq!(state(&anchors, &two), Some(State::Missing));
    assert!(is_trusted(&anchors, &two));
    observe(&mut anchors, &[&one, &two], &[&one], START + DAY);
    assert_eq!(state(&anchors, &two), Some(State::Valid));
}

#[test]
fn a_revocation_counts_at_once_and_for_good() {
    let (mut old, new) = (key(), key());
    let mut anchors = anchors(&[&old, &new]);
    revoke(&mut old);
    observe(&mut anchors, &[&old, &new], &[&old, &new], START);
    assert_eq!(state(&anchors, &old), Some(State::Revoked));
    assert!(!is_trusted(&anchors, &old));
    // Thirty days later it is removed (§2.4.2), and cannot come back without REVOKE.
    observe(&mut anchors, &[&old, &new], &[&new], START + 29 * DAY);
    assert_eq!(state(&anchors, &old), Some(State::Revoked));
    observe(&mut anchors, &[&new], &[&new], START + 30 * DAY);
    assert_eq!(state(&anchors, &old), Some(State::Removed));
    old.dnskey[1] &= !0x80;
    for day in 31..70 {
        observe(&mut anchors, &[&old, &new], &[&old, &new], START + day * DAY);
        assert!(!is_trusted(&anchors, &old), "day {day}");
    }
}

#[test]
fn only_the_key_itself_can_revoke_itself() {
    let (mut old, new) = (key(), key());
    let mut anchors = anchors(&[&old, &new]);
    revoke(&mut old);
    observe(&mut anchors, &[&old, &new], &[&new], START);
    assert_ne!(state(&anchors, &old), Some(State::Revoked));
    // Its own signature is enough, even where nothing else signs the set.
    let observed = observe(&mut anchors, &[&old, &new], &[&old], START);
    assert!(matches!(observed, Observed::NotSigned(ref changes) if changes.len() == 1), "{observed:?}");
    assert_eq!(state(&anchors, &old), Some(State::Revoked));
}

#[test]
fn a_pending_key_that_is_revoked_is_forgotten() {
    let (old, mut new) = (key(), key());
    let mut anchors = anchors(&[&old]);
    observe(&mut anchors, &[&old, &new], &[&old], START);
    revoke(&mut new);
    observe(&mut anchors, &[&old, &new], &[&old, &new], START + DAY);
    assert_eq!(state(&anchors, &new), None);
    assert!(is_trusted(&anchors, &old));
}

#[test]
fn a_standby_key_takes_over_when_the_active_one_is_revoked() {
    let (mut active, standby, next) = (key(), key(), key());
    let mut anchors = anchors(&[&active]);
    for day in [0, 30] {
        observe(&mut anchors, &[&active, &standby], &[&active], START + day * DAY);
    }
    revoke(&mut active);
    let observed = observe(&mut anchors, &[&active, &standby, &next], &[&active, &standby], START + 31 * DAY);
    assert!(matches!(observed, Observed::Counted(_)));
    assert_eq!(state(&anchors, &active), Some(State::Revoked));
    assert_eq!(state(&anchors, &standby), Some(State::Valid));
    assert_eq!(state(&anchors, &next), Some(State::AddPending));
}

#[test]
fn with_every_key_revoked_nothing_is_trusted_any_more() {
    let (mut one, mut two, new) = (key(), key(), key());
    let mut anchors = anchors(&[&one, &two]);
    revoke(&mut one);
    revoke(&mut two);
    observe(&mut anchors, &[&one, &two, &new], &[&one, &two, &new], START);
    assert!(anchors.is_exhausted());
    let observed = observe(&mut anchors, &[&new], &[&new], START + 60 * DAY);
    assert_eq!(observed, Observed::NotSigned(Vec::new()));
    assert!(anchors.is_exhausted());
}

#[test]
fn an_anchor_in_ds_form_becomes_its_key_and_can_be_revoked() {
    let (mut old, new) = (key(), key());
    let mut met = digest_anchor(&old);
    assert!(!met.is_exhausted());
    observe(&mut met, &[&old, &new], &[&old], START);
    assert_eq!(state(&met, &old), Some(State::Valid));
    assert!(met.trust().ds.is_empty());
    // A build that is years old meets its anchor revoked already.
    let mut late = digest_anchor(&old);
    revoke(&mut old);
    observe(&mut late, &[&old, &new], &[&old, &new], START);
    assert_eq!(state(&late, &old), Some(State::Revoked));
    assert!(late.is_exhausted());
}

#[test]
fn the_next_look_follows_ttl_and_signature_life() {
    let old = key();
    let mut anchors = anchors(&[&old]);
    observe(&mut anchors, &[&old], &[&old], START);
    assert_eq!(anchors.next_refresh, START + DAY, "half the TTL of two days, less than half of ten days of signature");
    observe(&mut anchors, &[&old], &[], START);
    assert_eq!(anchors.next_refresh, START + 3_600, "without signature: an hour");
    let mut soon = published(&[&old], &[&old], START);
    let sig =
        old.rrsig(&dnskey_set(&DnsName::root(), TTL, &[]), &DnsName::root(), &DnsName::root(), (START, START + 7_200));
    soon.sigs = vec![Rrsig::parse(&sig.wire(), TTL).expect("an RRSIG")];
    anchors.observe(&Name::root(), &soon, START);
    assert_eq!(anchors.next_refresh, START + 3_600, "never more often than hourly");
}

/// One hundred and twenty days: a second key appears, waits, takes over; the first is revoked and removed. The
/// program restarts at random moments and misses days.
#[test]
fn a_roll_over_of_120_days_survives_restarts_at_random_moments() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut old, new) = (key(), key());
        let mut anchors = anchors(&[&old]);
        let mut now = START;
        while now < START + 120 * DAY {
            let day = (now - START) / DAY;
            if day >= 60 && old.dnskey[1] & 0x80 == 0 {
                revoke(&mut old);
            }
            let (keys, signers): (Vec<&ZoneKey>, Vec<&ZoneKey>) = match day {
                0..10 => (vec![&old], vec![&old]),
                10..50 => (vec![&old, &new], vec![&old]),
                50..60 => (vec![&old, &new], vec![&new]),
                60..80 => (vec![&old, &new], vec![&old, &new]),
                _ => (vec![&new], vec![&new]),
            };
            let observed = observe(&mut anchors, &keys, &signers, now);
            assert!(matches!(observed, Observed::Counted(_)), "seed {seed}, day {day}: {observed:?}");
            if random.random_bool(0.3) {
                let stored = rmp_serde::to_vec(&anchors).expect("encodes");
                anchors = rmp_serde::from_slice(&stored).expect("decodes");
            }
            assert!(is_trusted(&anchors, &old) == (day < 60), "seed {seed}, day {day}");
            now = anchors.next_refresh + random.random_range(0..2 * DAY);
        }
        assert_eq!(state(&anchors, &new), Some(State::Valid), "seed {seed}");
        assert_eq!(state(&anchors, &old), Some(State::Removed), "seed {seed}");
    }
}

/// Nothing is kept between runs.
struct Forgetful;

impl Keep for Forgetful {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn save(&self, _: &str, _: &[u8]) {}
}

/// `island.org`, with an anchor of its own, and perhaps one for the root; what the parent says of it; what comes of it once its
/// own anchor is revoked.
const ISLANDS: [(bool, Delegation, &str); 5] = [
    (true, Delegation::Secure, "secure 1"),
    (true, Delegation::Insecure, "insecure 1"),
    (true, Delegation::WrongDigest, "bogus"),
    (false, Delegation::Secure, "bogus"),
    (false, Delegation::Insecure, "bogus"),
];

fn island_zones(delegation: &Delegation) -> Vec<Zone> {
    let mail = "mx A 192.0.2.1\nmx2 A 192.0.2.2";
    let island =
        Zone::new("island.org").keys([KSK, KSK, ZSK].map(|flags| ZoneKey::new(15, flags)).into()).records(mail);
    vec![Zone::new(".").signed(13), Zone::new("org").signed(13), island.delegation(delegation.clone())]
}

/// Lets the island's owner revoke the key that is its anchor; the other one has a DS, too, and is no anchor.
async fn revoke_island(lab: &Lab, superior: bool, row: &str) {
    let above = superior.then(|| anchor(&lab.world, "."));
    let mut own = anchor(&lab.world, "island.org");
    own.rdatas.truncate(1);
    let anchors: Vec<RrSet> = above.into_iter().chain([own]).collect();
    let keeper = Keeper::new(lab.engine.clone(), &anchors, Arc::new(Forgetful), lab.clock.clone());
    assert_eq!(lab.verdict("mx.island.org", RecordType::A).await, "secure 1", "{row}, before");
    lab.world.change("island.org", |zone| {
        revoke(&mut zone.keys[0]);
        let apex = zone.name.clone();
        zone.remove(&apex, rtype::DNSKEY);
    });
    keeper.refresh(&hickory("island.org")).await;
    if superior {
        keeper.refresh(&hickory(".")).await;
    }
    let stands: Vec<State> = keeper.status().iter().filter(|key| key.zone != ".").map(|key| key.state).collect();
    assert_eq!(stands, [State::Revoked], "{row}");
}

/// RFC 5011 §5: a trust point without anchors counts as never configured, where there is one above it.
#[tokio::test(start_paused = true)]
async fn an_island_whose_anchors_are_all_revoked_is_judged_by_the_anchor_above_and_fails_only_without_one() {
    for (superior, delegation, expected) in ISLANDS {
        let lab = Lab::in_memory_with(
            island_zones(&delegation),
            |world| MemoryNetwork::new(world, ROUND_TRIP),
            |settings| settings.trust_anchors.clear(),
        );
        let row = format!("anchor above: {superior}, {delegation:?}");
        revoke_island(&lab, superior, &row).await;
        // What the revoked key had proven is judged again as well.
        for name in ["mx2.island.org", "mx.island.org"] {
            let outcome = lab.lookup(name, RecordType::A).await;
            assert_eq!(verdict(&outcome), expected, "{row}, {name}");
            if !superior {
                let failure = outcome.unwrap_err();
                assert_eq!(failure.cause, Cause::Bogus(Bogus::AnchorsRevoked), "{row}");
                assert_eq!(failure.zone, Some(hickory("island.org")), "{row}");
            }
        }
    }
}

/// The reason that a client of the DNS service gets (RFC 8914) names the zone, and the keys that its parent wants.
#[tokio::test]
async fn a_client_learns_which_zone_has_no_anchor_left_and_which_key_its_parent_wants() {
    for (superior, delegation, expected) in ISLANDS {
        let lab = Lab::on_sockets(island_zones(&delegation)).await;
        let row = format!("anchor above: {superior}, {delegation:?}");
        revoke_island(&lab, superior, &row).await;
        let wanted: Vec<u16> = lab.lookup("island.org", RecordType::DS).await.map_or_else(
            |_| Vec::new(),
            |answer| answer.records().iter().map(|ds| u16::from_be_bytes(ds_head(ds))).collect(),
        );
        let service = serve(&lab).await;
        for name in ["mx.island.org", "mx2.island.org", "none.island.org"] {
            let answer = udp(service, &query(name, RecordType::A, 0)).await;
            if expected != "bogus" {
                assert_ne!(answer.rcode, Rcode::ServFail, "{row}, {name}");
                assert_eq!(answer.authentic, expected.starts_with("secure"), "{row}, {name}");
                continue;
            }
            assert_eq!(answer.rcode, Rcode::ServFail, "{row}, {name}");
            let reason = answer.edns.as_ref().unwrap().option(15).unwrap();
            let text = String::from_utf8_lossy(&reason[2..]);
            assert_eq!(reason[..2], [0, 9], "DNSKEY missing: {row}, {name}: {text}");
            if superior {
                let mut tags = wanted.clone();
                tags.sort_unstable();
                tags.dedup();
                assert!(text.contains(&format!("no DNSKEY matches DS (key tags {tags:?})")), "{row}, {name}: {text}");
                assert!(text.contains("(zone island.org, server 127."), "{row}, {name}: {text}");
            } else {
                let expected = "A lookup: all trust anchors of the zone are revoked (zone island.org)";
                assert_eq!(text, expected, "{row}, {name}");
            }
        }
    }
}

/// The key tag that a DS record names.
fn ds_head(ds: &RData) -> [u8; 2] {
    match ds {
        RData::DNSSEC(DNSSECRData::DS(ds)) => ds.key_tag().to_be_bytes(),
        RData::Unknown { rdata, .. } => *rdata.anything.first_chunk().expect("a key tag"),
        other => panic!("no DS: {other:?}"),
    }
}

/// A key that is the anchor, and another one at the zone: the reason says that it is the anchor that is not matched.
#[tokio::test(start_paused = true)]
async fn a_zone_that_no_longer_has_the_key_of_its_anchor_fails_with_a_word_of_the_anchor() {
    let lab = Lab::in_memory(island_zones(&Delegation::Secure));
    let mut own = anchor(&lab.world, "island.org");
    own.rdatas.truncate(1);
    let tag = u16::from_be_bytes([own.rdatas[0][0], own.rdatas[0][1]]);
    lab.engine.set_trust_anchors(&[anchor(&lab.world, "."), own]);
    lab.world.change("island.org", |zone| {
        zone.keys.remove(0);
        let apex = zone.name.clone();
        zone.remove(&apex, rtype::DNSKEY);
    });
    let failure = lab.lookup("mx.island.org", RecordType::A).await.unwrap_err().to_string();
    assert!(failure.contains(&format!("no DNSKEY matches the trust anchor (key tags [{tag}])")), "{failure}");
}

/// The zones that an anchor is for are judged again when it goes or comes; nobody else's.
#[tokio::test(start_paused = true)]
async fn what_was_proven_by_an_anchor_that_is_gone_is_judged_again_and_nothing_else() {
    let mut zones = island_zones(&Delegation::Insecure);
    zones.push(Zone::new("other.org").signed(13).records("mx A 192.0.2.3"));
    let lab = Lab::in_memory(zones);
    let (root, island) = (anchor(&lab.world, "."), anchor(&lab.world, "island.org"));
    let mut one = island.clone();
    one.rdatas.truncate(1);
    let all = async |expected: &str| {
        let other = lab.verdict("mx.other.org", RecordType::A).await;
        assert_eq!(
            (other.as_str(), lab.verdict("mx.island.org", RecordType::A).await.as_str()),
            ("secure 1", expected)
        );
        assert_eq!(lab.verdict("none.island.org", RecordType::A).await, expected.replace('1', "nxdomain"));
    };
    lab.engine.set_trust_anchors(&[root.clone(), island.clone()]);
    all("secure 1").await;
    lab.world.take_asked();
    // One anchor more proves nothing less.
    let mut more = root.clone();
    more.rdatas.push(vec![0, 1, 8, 2].into_iter().chain([7; 32]).collect());
    lab.engine.set_trust_anchors(&[more, island.clone()]);
    all("secure 1").await;
    assert_eq!(lab.world.take_asked(), [], "all is known");
    lab.engine.set_trust_anchors(std::slice::from_ref(&root));
    all("insecure 1").await;
    lab.engine.set_trust_anchors(&[root.clone(), one.clone()]);
    all("secure 1").await;
    // While a lookup is under way that began with the anchor.
    lab.engine.set_trust_anchors(&[root.clone(), island]);
    lab.world.inject(On::name("mx2.island.org"), Fault::Late(Duration::from_millis(300)));
    let late = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        lab.engine.set_trust_anchors(&[root]);
    };
    let (_, ()) = tokio::join!(lab.lookup("mx2.island.org", RecordType::A), late);
    lab.world.heal();
    assert_eq!(lab.verdict("mx2.island.org", RecordType::A).await, "insecure 1");
    all("insecure 1").await;
}
