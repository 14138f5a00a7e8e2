//! Lookups under way: a stranger's, which nobody answers, and an innocent one's beside them, which take no longer and find
//! the same.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, AAAA, MX, TXT};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, verdict};
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";
/// Lookups of the stranger's names.
const HOSTILE: usize = 2_000;

fn lab() -> Arc<Lab> {
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("calm.com").signed(13).records(MAIL),
        Zone::new("hostile.com").signed(13).records(MAIL),
    ]);
    lab.world.inject(On::zone("hostile.com"), Fault::Silence);
    Arc::new(lab)
}

/// What each name comes to, with its TTL and the time that it took.
async fn innocent(lab: &Lab) -> Vec<(String, u32, Duration)> {
    let mut found = Vec::new();
    for (name, rtype) in [("calm.com", MX), ("mx.calm.com", A), ("mx.calm.com", AAAA), ("_mta-sts.calm.com", TXT)] {
        let begun = Instant::now();
        let outcome = lab.lookup(name, rtype).await;
        found.push((verdict(&outcome), outcome.map_or(0, |answer| answer.ttl), begun.elapsed()));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn thousands_of_lookups_that_nobody_answers_delay_no_other() {
    let alone = lab();
    assert_eq!(alone.verdict("com", MX).await, "secure nodata");
    let expected = innocent(&alone).await;
    let lab = lab();
    assert_eq!(lab.verdict("com", MX).await, "secure nodata");
    let mut hostile = JoinSet::new();
    for index in 0..HOSTILE {
        let lab = lab.clone();
        hostile.spawn(async move { lab.lookup(&format!("x{index}.hostile.com"), A).await.is_ok() });
    }
    // All are under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(innocent(&lab).await, expected);
    assert!(hostile.try_join_next().is_none(), "and none has ended");
}
