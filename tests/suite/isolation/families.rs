//! Address families: silent servers of strangers do not make a whole family second choice for others.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

/// `calm.com` and all above it have servers in both families, the IPv6 ones far away; `silentN.com` have silent ones.
fn lab(silent: usize) -> Lab {
    let both = |zone: Zone, name: &str, index: usize| {
        let (v4, v6) = (format!("127.54.0.{index}").parse().unwrap(), format!("2001:db8::{index}").parse().unwrap());
        zone.nameserver(name, &[v4, v6])
    };
    let mut zones = vec![
        both(Zone::new(".").signed(13), "ns.root-servers.test", 1),
        both(Zone::new("com").signed(13), "ns.com", 2),
        both(Zone::new("calm.com").signed(13).records(MAIL), "ns.calm.com", 3),
        both(Zone::new("first.com").signed(13).records(MAIL), "ns.first.com", 4),
    ];
    zones.extend((0..silent).map(|index| Zone::new(&format!("silent{index}.com")).servers(3).records(MAIL)));
    let lab = Lab::in_memory(zones);
    for address in lab.world.addresses().into_iter().filter(|address| address.is_ipv6()) {
        lab.world.inject(On::server(address), Fault::Late(Duration::from_millis(300)));
    }
    for index in 0..silent {
        lab.world.inject(On::zone(&format!("silent{index}.com")), Fault::Silence);
    }
    lab
}

/// How long the innocent one's lookups take after those of so many silent zones.
async fn innocent(silent: usize) -> Duration {
    let lab = lab(silent);
    assert_eq!(lab.verdict("first.com", MX).await, "secure 1");
    // IPv6 works here, too.
    lab.world.inject(On::server("127.54.0.4".parse().unwrap()), Fault::Silence);
    assert_eq!(lab.verdict("mx.first.com", A).await, "secure 1");
    for index in 0..silent {
        assert_eq!(lab.verdict(&format!("silent{index}.com"), MX).await, "failed: no answer in time");
    }
    let begun = Instant::now();
    assert_eq!(lab.verdict("calm.com", MX).await, "secure 1");
    assert_eq!(lab.verdict("mx.calm.com", A).await, "secure 1");
    begun.elapsed()
}

/// The shortest of several runs: which family of a server is asked first, of two that are not known, is left to chance.
async fn quickest(silent: usize) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..16 {
        quickest = quickest.min(innocent(silent).await);
    }
    quickest
}

#[tokio::test(start_paused = true)]
async fn silent_servers_do_not_send_others_to_the_other_address_family() {
    let alone = quickest(0).await;
    assert!(alone < Duration::from_millis(300), "{alone:?}: not over IPv4");
    for silent in [1, 5] {
        let beside = quickest(silent).await;
        assert_eq!(beside, alone, "after {silent} silent zones");
    }
}
