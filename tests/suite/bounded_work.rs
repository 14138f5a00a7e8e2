//! Zones that want to cost us work: each limit of design §6 holds, and nobody else waits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::rr::RecordType::{A, MX, NS, TXT};
use postseal::dns::{Bogus, Cause, Failure};
use postseal::limits;
use tokio::time::Instant;

use crate::support::answer::{Item, Reply};
use crate::support::fault::{Fault, On};
use crate::support::key::{KSK, ZSK, ZoneKey};
use crate::support::lab::{Lab, verdict};
use crate::support::name::DnsName;
use crate::support::record::{Rdata, RrSet, key_tag, rtype};
use crate::support::zone::{Delegation, Denial, Zone};

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

fn lab(mut zones: Vec<Zone>) -> Lab {
    zones.push(Zone::new(".").signed(13));
    zones.push(Zone::new("com").signed(13));
    for index in 0..10 {
        zones.push(Zone::new(&format!("normal{index}.com")).signed(13).records(MAIL));
    }
    Lab::in_memory(zones)
}

/// A lookup that must stay within its upstream queries.
async fn bounded(lab: &Lab, name: &str, rtype: hickory_proto::rr::RecordType) -> Result<String, Failure> {
    // Priming is nobody's lookup.
    lab.lookup(".", NS).await.unwrap();
    lab.world.take_asked();
    let outcome = lab.lookup(name, rtype).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let queries = lab.world.asked().len();
    let limit = limits::UPSTREAM_QUERIES_PER_LOOKUP as usize;
    assert!(queries <= limit, "{name} {rtype}: {queries} queries, at most {limit}");
    let word = verdict(&outcome);
    outcome.map(|_| word)
}

/// A key of algorithm 13 that is noise, with this tag.
fn colliding(tag: u16, seed: u8) -> ZoneKey {
    let mut public: Vec<u8> = (0..62_u8).map(|at| at.wrapping_mul(31).wrapping_add(seed)).collect();
    public.extend([0, 0]);
    let without = key_tag(&ZoneKey::foreign(13, ZSK, &public).dnskey);
    // The tag is a sum with carries (RFC 4034 appendix B): the last two octets make up for the rest, give or take one.
    for carry in [0, 1, u16::MAX] {
        public[62..].copy_from_slice(&tag.wrapping_sub(without).wrapping_add(carry).to_be_bytes());
        let key = ZoneKey::foreign(13, ZSK, &public);
        if key.tag() == tag {
            return key;
        }
    }
    panic!("no key with tag {tag}");
}

#[tokio::test(start_paused = true)]
async fn keys_and_signatures_that_all_have_one_tag_end_in_failure_before_they_are_all_tried() {
    let mut keys = vec![ZoneKey::new(13, KSK)];
    keys.extend((0..100).map(|seed| colliding(4711, seed)));
    let lab = lab(vec![Zone::new("trap.com").keys(keys).records(MAIL)]);
    let failure = bounded(&lab, "trap.com", MX).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Bogus(Bogus::TooMuchWork(_))), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn key_signing_keys_that_all_have_one_tag_end_in_failure() {
    // The DS names a tag that a hundred keys have, none of which is the one.
    let real = ZoneKey::new(13, KSK);
    let tag = real.tag();
    let mut keys: Vec<ZoneKey> = (0..100).map(|seed| colliding(tag, seed)).collect();
    keys.push(ZoneKey::new(13, ZSK));
    let zone = Zone::new("trap.com").keys(keys).records(MAIL).delegation(Delegation::Insecure);
    let lab = lab(vec![zone]);
    let ds = real.ds(&"trap.com".into(), 2);
    lab.world.change("com", |com| com.add_rdata(&"trap.com".into(), rtype::DS, ds));
    let failure = bounded(&lab, "trap.com", MX).await.unwrap_err();
    assert!(failure.is_bogus(), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_few_keys_with_one_tag_are_all_tried() {
    let real = ZoneKey::new(13, ZSK);
    let tag = real.tag();
    let mut keys = vec![ZoneKey::new(13, KSK)];
    keys.extend((1..limits::KEYS_PER_TAG as u8).map(|seed| colliding(tag, seed)));
    keys.push(real);
    // The other keys' signatures are noise, come first, and have the same tag.
    let lab = lab(vec![Zone::new("collision.com").keys(keys).records(MAIL)]);
    assert_eq!(bounded(&lab, "collision.com", MX).await.unwrap(), "secure 1");
}

#[tokio::test(start_paused = true)]
async fn nsec3_iterations_count_up_to_the_limit_and_make_insecure_beyond() {
    let zone = |iterations: u16| {
        let denial = Denial::Nsec3 { iterations, salt: vec![1, 2, 3, 4], opt_out: false };
        Zone::new(&format!("i{iterations}.com")).signed(13).denial(denial).records(MAIL)
    };
    let lab = lab([0, 1, 100, 150, 151, 500, 2500].into_iter().map(zone).collect());
    for (iterations, expected) in [
        (0, "secure nxdomain"),
        (1, "secure nxdomain"),
        (100, "secure nxdomain"),
        (150, "secure nxdomain"),
        (151, "insecure nxdomain"),
        (500, "insecure nxdomain"),
        (2500, "insecure nxdomain"),
    ] {
        assert_eq!(bounded(&lab, &format!("nothing.i{iterations}.com"), A).await.unwrap(), expected, "{iterations}");
        assert_eq!(bounded(&lab, &format!("i{iterations}.com"), MX).await.unwrap(), "secure 1", "{iterations}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_nsec3_hashes_ends_in_failure() {
    let denial = Denial::Nsec3 { iterations: 150, salt: vec![7; 32], opt_out: false };
    let lab = lab(vec![Zone::new("flood.com").signed(13).denial(denial).records(MAIL)]);
    // Many records that cover nothing: each label of a deep name has to be hashed to find that out.
    let flood = Fault::edit(|_, reply| {
        let soa: Vec<Item> = reply.authority.iter().filter(|item| item.set.rtype == rtype::SOA).cloned().collect();
        let nsec3: Vec<Item> = reply.authority.iter().filter(|item| item.set.rtype == rtype::NSEC3).cloned().collect();
        reply.authority = soa;
        reply.authority.extend(nsec3.into_iter().take(1));
    });
    lab.world.inject(On::zone("flood.com"), flood);
    let deep = format!("{}.flood.com", ["a"; 110].join("."));
    let failure = bounded(&lab, &deep, A).await.unwrap_err();
    assert!(failure.is_bogus(), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_deep_name_is_denied_within_the_hashes_of_one_lookup() {
    let denial = Denial::Nsec3 { iterations: 10, salt: vec![], opt_out: false };
    let lab = lab(vec![Zone::new("deep.com").signed(13).denial(denial).records(MAIL)]);
    let name = format!("{}.deep.com", ["a"; 25].join("."));
    assert_eq!(bounded(&lab, &name, A).await.unwrap(), "secure nxdomain");
}

#[tokio::test(start_paused = true)]
async fn names_of_as_many_labels_as_there_can_be_are_answered_under_nsec3() {
    for labels in [62, 63, 64, 65, 100, 120, 126] {
        for iterations in [0, 10] {
            let there = format!("{}.d", ["a"; 125].join(".").get(..(labels - 1) * 2 - 1).unwrap());
            let denial = Denial::Nsec3 { iterations, salt: vec![], opt_out: false };
            let records = format!("{there}. A 192.0.2.1\nalias CNAME {}.x.d.", ["b"; 124].join("."));
            let zone = Zone::new("d").signed(13).denial(denial).records(&records);
            let lab = Lab::in_memory(vec![Zone::new(".").signed(13), zone]);
            let row = format!("{labels} labels, {iterations} iterations");
            assert_eq!(bounded(&lab, &there, A).await.unwrap(), "secure 1", "{row}");
            assert_eq!(bounded(&lab, &there, TXT).await.unwrap(), "secure nodata", "{row}");
            let other = there.replacen('a', "x", 1);
            assert_eq!(bounded(&lab, &other, A).await.unwrap(), "secure nxdomain", "{row}, a brother");
            let stranger = format!("{}.x.d", ["b"; 125].join(".").get(..(labels - 2) * 2 - 1).unwrap());
            assert_eq!(bounded(&lab, &stranger, A).await.unwrap(), "secure nxdomain", "{row}, far from anything");
            assert_eq!(bounded(&lab, "alias.d", A).await.unwrap(), "secure nxdomain", "{row}, by an alias");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegation_to_many_name_servers_without_glue_has_few_of_them_looked_up() {
    let fan = |zone: &str, count: usize| {
        (0..count).map(|index| format!("{zone} NS n{index}.victim.com.\n")).collect::<String>()
    };
    let lab = lab(vec![
        Zone::new("attack.com").records(&fan("sub", 60)),
        Zone::new("victim.com").signed(13).denial(Denial::nsec3()),
    ]);
    let failure = bounded(&lab, "www.sub.attack.com", A).await.unwrap_err();
    assert!(!failure.is_bogus(), "{failure}");
    let mut names: Vec<DnsName> = lab
        .world
        .asked()
        .into_iter()
        .filter(|asked| asked.name.is_below(&"victim.com".into()))
        .map(|asked| asked.name)
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() <= limits::GLUELESS_NS_PER_DELEGATION, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn delegations_that_need_further_delegations_end_with_the_budget() {
    // Every name server's name lies below another delegation without glue, and so on.
    let mut zones = Vec::new();
    for level in 0..8 {
        let records: String = (0..10)
            .flat_map(|zone| (0..10).map(move |ns| format!("z{zone} NS n{ns}.z{ns}.level{}.com.\n", level + 1)))
            .collect();
        zones.push(Zone::new(&format!("level{level}.com")).records(&records));
    }
    let lab = lab(zones);
    assert!(bounded(&lab, "www.z0.level0.com", A).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn name_servers_that_need_each_other_end_in_failure() {
    let lab = lab(vec![
        Zone::new("host.com").records("one NS ns.two.host.com.\ntwo NS ns.one.host.com.\nself NS ns.self.host.com."),
    ]);
    for name in ["www.one.host.com", "www.two.host.com", "www.self.host.com"] {
        assert!(bounded(&lab, name, A).await.is_err(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn alias_chains_are_followed_to_the_limit() {
    let chain: String = (0..40).map(|at| format!("c{at} CNAME c{}\n", at + 1)).collect();
    let spread: String = (0..20).map(|at| format!("s{at} CNAME s{at}.there.com.\n")).collect();
    let back: String = (0..20).map(|at| format!("s{at} CNAME s{}.chain.com.\n", at + 1)).collect();
    let lab = lab(vec![
        Zone::new("chain.com").signed(13).records(&chain).records(&spread).records(
            "c40 A 192.0.2.1\ns20 A 192.0.2.2\nloop CNAME loop\nping CNAME pong\npong CNAME ping
             d DNAME d2\nround DNAME round.round",
        ),
        Zone::new("there.com").signed(13).records(&back),
    ]);
    let hops = limits::ALIAS_HOPS;
    assert_eq!(bounded(&lab, &format!("c{}.chain.com", 40 - hops), A).await.unwrap(), "secure 1");
    assert_eq!(bounded(&lab, &format!("s{}.chain.com", 20 - hops / 2), A).await.unwrap(), "secure 1");
    for name in ["c0.chain.com", "s0.chain.com", "loop.chain.com", "ping.chain.com"] {
        let failure = bounded(&lab, name, A).await.unwrap_err();
        assert_eq!(failure.cause, Cause::AliasChain, "{name}");
    }
    // A DNAME that grows the name ends where names end.
    assert!(bounded(&lab, "x.round.chain.com", A).await.is_err());
}

/// Zones one below the other, each with a server of its own.
fn nested(depth: usize, signed: bool) -> (Vec<Zone>, String) {
    let mut name = "nest.com".to_owned();
    let mut zones = Vec::new();
    for level in 0..depth {
        let zone = Zone::new(&name).records(MAIL);
        zones.push(if signed { zone.signed(13) } else { zone });
        name = format!("n{level}.{name}");
    }
    (zones, format!("mx.{}", name.split_once('.').unwrap().1))
}

#[tokio::test(start_paused = true)]
async fn referral_chains_are_followed_to_the_limit() {
    let (zones, name) = nested(20, false);
    assert_eq!(bounded(&lab(zones), &name, A).await.unwrap(), "insecure 1");
    let (zones, name) = nested(12, true);
    assert_eq!(bounded(&lab(zones), &name, A).await.unwrap(), "secure 1");
    let (zones, name) = nested(60, false);
    let failure = bounded(&lab(zones), &name, A).await.unwrap_err();
    assert!(matches!(failure.cause, Cause::Budget(_)), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn rrsets_count_up_to_the_limit() {
    let addresses = |name: &str, count: usize| {
        (0..count).map(|at| format!("{name} A 192.0.{}.{}\n", at / 250, at % 250)).collect::<String>()
    };
    let lab = lab(vec![
        Zone::new("big.com")
            .signed(13)
            .records(&addresses("full", limits::RECORDS_PER_RRSET))
            .records(&addresses("over", limits::RECORDS_PER_RRSET + 1))
            .records(&addresses("huge", 4000)),
    ]);
    assert_eq!(bounded(&lab, "full.big.com", A).await.unwrap(), format!("secure {}", limits::RECORDS_PER_RRSET));
    for name in ["over.big.com", "huge.big.com"] {
        assert!(bounded(&lab, name, A).await.is_err(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn edns_options_count_up_to_the_limit() {
    let lab = lab(vec![Zone::new("options.com").signed(13).records(MAIL).records("full TXT a\nover TXT b")]);
    let with_options = |count: usize| Fault::patch(move |_, octets| add_options(octets, count));
    // The cookie is one option already.
    lab.world.inject(On::name("full.options.com"), with_options(limits::EDNS_OPTIONS - 1));
    lab.world.inject(On::name("over.options.com"), with_options(limits::EDNS_OPTIONS + 200));
    assert_eq!(bounded(&lab, "full.options.com", TXT).await.unwrap(), "secure 1");
    assert!(bounded(&lab, "over.options.com", TXT).await.is_err());
}

/// Adds empty options to the OPT record, which stands last in what the world sends.
fn add_options(mut octets: Vec<u8>, count: usize) -> Vec<u8> {
    let opt = octets.windows(3).rposition(|window| window == [0, 0, 41]).unwrap();
    let length = u16::from_be_bytes([octets[opt + 9], octets[opt + 10]]) + 4 * count as u16;
    octets[opt + 9..opt + 11].copy_from_slice(&length.to_be_bytes());
    octets.extend((0..count).flat_map(|_| [0xfd, 0xe9, 0, 0]));
    octets
}

#[tokio::test(start_paused = true)]
async fn compression_bombs_are_no_messages() {
    let lab = lab(vec![Zone::new("bomb.com").records("loop TXT a\nchain TXT b\nforward TXT c\nmany TXT d")]);
    lab.world.inject(On::name("loop.bomb.com"), with_records(|start| vec![pointer(start).to_vec()]));
    lab.world.inject(On::name("forward.bomb.com"), with_records(|start| vec![pointer(start + 200).to_vec()]));
    // In the first record's data, pointers to pointers, each one label longer than the last; the second record's
    // owner is the longest: far more than 255 octets.
    let chain = with_records(|start| {
        let data = start + 12;
        let links = (0..200).flat_map(|at| {
            let [high, low] = pointer(if at == 0 { 12 } else { data + 4 * (at - 1) });
            [1, b'x', high, low]
        });
        let first = [&pointer(12)[..], &[0, 16, 0, 1, 0, 0, 0, 60], &(4 * 200_u16).to_be_bytes()].concat();
        vec![first.into_iter().chain(links).collect(), pointer(data + 4 * 199).to_vec()]
    });
    lab.world.inject(On::name("chain.bomb.com"), chain);
    for name in ["loop.bomb.com", "forward.bomb.com", "chain.bomb.com"] {
        let failure = bounded(&lab, name, TXT).await.unwrap_err();
        assert!(!failure.is_bogus(), "{failure}");
    }
}

fn pointer(to: usize) -> [u8; 2] {
    (0xc000 | to as u16).to_be_bytes()
}

/// Replaces all records by what `make` gives for the place where records begin. A record of two octets is an owner
/// and gets a TXT record's remaining fields.
fn with_records(make: fn(usize) -> Vec<Vec<u8>>) -> Fault {
    Fault::patch(move |question, mut octets| {
        let start = 12 + question.name.wire().len() + 4;
        octets.truncate(start);
        let records = make(start);
        octets[6..12].copy_from_slice(&[0, records.len() as u8, 0, 0, 0, 0]);
        for record in records {
            octets.extend_from_slice(&record);
            if record.len() == 2 {
                octets.extend_from_slice(&[0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b'a']);
            }
        }
        octets
    })
}

#[tokio::test(start_paused = true)]
async fn a_message_full_of_unasked_records_answers_only_what_was_asked() {
    let lab = lab(vec![Zone::new("stuffed.com").signed(13).records(MAIL)]);
    let stuff = Fault::edit(|question, reply: &mut Reply| {
        if question.rtype != rtype::MX {
            return;
        }
        for index in 0..1500_u32 {
            let name = DnsName::from(format!("s{index}.normal0.com").as_str());
            let set = RrSet { name, rtype: rtype::A, ttl: 3600, rdatas: vec![Rdata::octets(index.to_be_bytes())] };
            reply.additional.push(Item { set, source: None, zone: DnsName::root() });
        }
    });
    lab.world.inject(On::zone("stuffed.com"), stuff);
    assert_eq!(bounded(&lab, "stuffed.com", MX).await.unwrap(), "secure 1");
    assert_eq!(bounded(&lab, "s7.normal0.com", A).await.unwrap(), "secure nxdomain");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_forged_datagrams_does_not_hide_the_answer() {
    let lab = lab(vec![Zone::new("flooded.com").signed(13).records(MAIL)]);
    for _ in 0..40 {
        lab.world.inject(On::zone("flooded.com"), Fault::SpoofedFirst);
    }
    assert_eq!(bounded(&lab, "flooded.com", MX).await.unwrap(), "secure 1");
}

/// All that this module has, at once.
fn hostile() -> Vec<Zone> {
    let mut keys = vec![ZoneKey::new(13, KSK)];
    keys.extend((0..60).map(|seed| colliding(4711, seed)));
    let fan: String = (0..60).map(|index| format!("sub NS n{index}.victim.com.\n")).collect();
    let (mut zones, _) = nested(40, false);
    zones.extend([
        Zone::new("trap.com").keys(keys).records(MAIL),
        Zone::new("attack.com").records(&fan),
        Zone::new("victim.com").records(MAIL),
        Zone::new("dead.com").signed(13).records(MAIL),
    ]);
    zones
}

/// How long each normal lookup takes, in virtual time, and how many queries all of them cost.
async fn normal_load(lab: &Lab) -> (Vec<Duration>, usize) {
    let lookups = (0..10).map(async |index: usize| {
        let begun = Instant::now();
        let name = format!("normal{index}.com");
        assert_eq!(lab.verdict(&name, MX).await, "secure 1");
        begun.elapsed()
    });
    let took = join_all(lookups).await;
    let normal = |name: &DnsName| name.to_string().to_lowercase().contains("normal");
    (took, lab.world.asked().iter().filter(|asked| normal(&asked.name)).count())
}

#[tokio::test(start_paused = true)]
async fn a_hostile_lookup_does_not_slow_others() {
    let alone = lab(hostile());
    assert_eq!(alone.verdict("com", NS).await, "secure 1");
    let (usual, usual_queries) = normal_load(&alone).await;

    let beside = Arc::new(lab(hostile()));
    beside.world.inject(On::zone("dead.com"), Fault::Silence);
    assert_eq!(beside.verdict("com", NS).await, "secure 1");
    let hostile_names = [("trap.com", MX), ("www.sub.attack.com", A), ("x.dead.com", A), ("mx.nest.com", A)];
    let attacks: Vec<_> = (0..25)
        .flat_map(|round| hostile_names.map(|(name, rtype)| (format!("r{round}.{name}"), rtype)))
        .map(|(name, rtype)| {
            let lab = beside.clone();
            tokio::spawn(async move { lab.lookup(&name, rtype).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let (took, queries) = normal_load(&beside).await;
    let worst = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
    assert!(worst(&took) <= 2 * worst(&usual), "{took:?}, usually {usual:?}");
    assert!(queries <= usual_queries + 2, "{queries} queries, usually {usual_queries}");
    for attack in attacks {
        let _ = attack.await.unwrap();
    }
}
