//! The trust table: zones whose keys are many, broken or late, and one beside them whose keys are in use.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::key::{KSK, ZSK, ZoneKey};
use crate::support::lab::{Lab, ROUND_TRIP, verdict};
use crate::support::memory::MemoryNetwork;
use crate::support::record::rtype;
use crate::support::zone::{Delegation, Zone};

const MAIL: &str = "@ MX 10 mx\n* A 192.0.2.1";
/// Hostile zones: in all more keys than the table of this engine holds.
const ZONES: usize = 120;
/// The innocent one asks once for so many of them.
const EACH: usize = 6;

/// `calm.com`, and hostile zones with twelve keys each, some of them broken. The engine has a small cache.
fn lab() -> Lab {
    let mut zones =
        vec![Zone::new(".").signed(13), Zone::new("com").signed(13), Zone::new("calm.com").signed(13).records(MAIL)];
    for index in 0..ZONES {
        let flags = [KSK, ZSK].into_iter().chain(std::iter::repeat_n(KSK, 10));
        let keys = flags.map(|flags| ZoneKey::new(13, flags)).collect();
        let delegation = if index % 4 == 0 { Delegation::WrongDigest } else { Delegation::Secure };
        zones.push(Zone::new(&format!("hostile{index}.com")).keys(keys).delegation(delegation).records(MAIL));
    }
    let network = |world| MemoryNetwork::new(world, ROUND_TRIP);
    let lab = Lab::in_memory_with(zones, network, |settings| settings.cache_bytes = 1 << 20);
    for index in (0..ZONES).filter(|index| index % 4 == 1) {
        lab.world.inject(On::zone(&format!("hostile{index}.com")).qtype(rtype::DNSKEY), Fault::BadSignatures);
    }
    for index in (0..ZONES).filter(|index| index % 4 == 2) {
        let late = Fault::Late(Duration::from_millis(300));
        lab.world.inject(On::zone(&format!("hostile{index}.com")).qtype(rtype::DNSKEY), late);
    }
    lab
}

/// What the innocent one's names come to, with TTL, time and questions at its servers, one for each round.
async fn innocent(with: bool) -> Vec<(String, u32, Duration, usize)> {
    let lab = lab();
    assert_eq!(lab.verdict("calm.com", MX).await, "secure 1");
    let server = lab.world.servers_of("calm.com")[0];
    let mut found = Vec::new();
    for round in 0..ZONES / EACH {
        if with {
            let hostile = (0..EACH).map(|index| format!("hostile{}.com", round * EACH + index));
            let names: Vec<String> = hostile.collect();
            let lookups = names.iter().map(|name| lab.lookup(name, MX));
            let outcomes = futures_util::future::join_all(lookups).await;
            assert!(outcomes.iter().any(Result::is_ok) && outcomes.iter().any(Result::is_err), "{outcomes:?}");
            // And some that are still under way.
            let name = format!("x{round}.hostile{}.com", (round * 4 + 2) % ZONES);
            let _ = tokio::time::timeout(Duration::from_millis(30), lab.lookup(&name, A)).await;
        }
        lab.world.take_asked();
        let begun = Instant::now();
        let outcome = lab.lookup(&format!("x{round}.calm.com"), A).await;
        let took = begun.elapsed();
        let asked = lab.world.take_asked().iter().filter(|asked| asked.server == server).count();
        let text = verdict(&outcome);
        found.push((text, outcome.map_or(0, |answer| answer.ttl), took, asked));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_in_use_stay_beside_zones_with_many_broken_or_late_ones() {
    let (alone, beside) = (innocent(false).await, innocent(true).await);
    assert_eq!(beside, alone);
    assert!(alone.iter().all(|(text, _, took, asked)| text == "secure 1" && *took == ROUND_TRIP && *asked == 1));
}
