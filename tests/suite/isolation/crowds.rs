//! Crowds of questions about domains whose servers say nothing, and one about a healthy domain beside them: over real
//! sockets (design §6). The bounds here are for slow machines; the times are printed.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType::{A, MX};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use postseal::dns::Lookup;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, hickory};
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";
/// Healthy domains: some are looked up alone, the others beside the crowd.
const CALM: usize = 8;
const ALONE: usize = 3;
/// Questions of the crowd that begin at once.
const WAVE: usize = 60;
/// How much longer a healthy domain may take here. On a machine that has nothing else to do it is far less than 200 ms.
const GENEROUS: Duration = Duration::from_secs(3);

/// `silentN.com`, each with so many servers of its own, and `calmN.com`.
async fn lab(silent: usize, servers: usize) -> Arc<Lab> {
    // The world's own sockets are descriptors of this process, too.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(soft.max(8_192)), hard).unwrap();
    let mut zones = vec![Zone::new(".").signed(13), Zone::new("com").signed(13)];
    zones.extend((0..CALM).map(|index| Zone::new(&format!("calm{index}.com")).signed(13).records(MAIL)));
    zones.extend((0..silent).map(|index| Zone::new(&format!("silent{index}.com")).servers(servers).records(MAIL)));
    Arc::new(Lab::on_sockets(zones).await)
}

/// The longest that any of these domains takes, cold.
async fn longest(lab: &Lab, domains: std::ops::Range<usize>) -> Duration {
    let mut longest = Duration::ZERO;
    for index in domains {
        let begun = Instant::now();
        assert_eq!(lab.verdict(&format!("calm{index}.com"), MX).await, "secure 1");
        assert_eq!(lab.verdict(&format!("mx.calm{index}.com"), A).await, "secure 1");
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// Healthy domains alone, then beside as many questions as there are silent domains.
async fn beside(lab: Arc<Lab>, silent: usize, what: &str) {
    assert_eq!(lab.verdict("com", MX).await, "secure nodata");
    let alone = longest(&lab, 0..ALONE).await;
    let servers: HashSet<IpAddr> =
        (0..silent).flat_map(|index| lab.world.servers_of(&format!("silent{index}.com"))).collect();
    let (mut crowd, mut reached, mut answered) = (JoinSet::new(), HashSet::new(), 0);
    // In waves: it is about servers that say nothing, and not about the one of the zone above, which all have to ask.
    for first in (0..silent).step_by(WAVE) {
        let wave = first..silent.min(first + WAVE);
        for index in wave.clone() {
            let lab = lab.clone();
            // A policy question each.
            crowd.spawn(async move {
                let lookup = lab.engine.scoped().unwrap();
                let (domain, host) = (format!("silent{index}.com"), format!("mx.silent{index}.com"));
                let (domain, host) = (hickory(&domain), hickory(&host));
                let both = tokio::join!(lookup.lookup(&domain, MX), lookup.lookup(&host, A));
                [both.0, both.1].into_iter().filter(Result::is_ok).count()
            });
        }
        // Each has reached a server of its own; on a slow machine the first ones have given up by then.
        while reached.len() < wave.end && !crowd.is_empty() {
            while let Some(ended) = crowd.try_join_next() {
                answered += ended.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            let own = lab.world.take_asked().into_iter().filter(|asked| servers.contains(&asked.server));
            reached.extend(own.filter_map(|asked| {
                let name = asked.name.to_string().to_lowercase();
                name.split('.').find(|label| label.starts_with("silent")).map(ToOwned::to_owned)
            }));
        }
    }
    let waiting = crowd.len();
    let crowded = longest(&lab, ALONE..CALM).await;
    eprintln!("{what}: {alone:?} alone, {crowded:?} beside {silent} questions, of which {waiting} waited still");
    assert!(waiting > 0, "nobody was there");
    assert!(crowded <= alone + GENEROUS, "{what}: {crowded:?}, alone {alone:?}");
    // The crowd got nothing.
    while let Some(ended) = crowd.join_next().await {
        answered += ended.unwrap();
    }
    assert_eq!(answered, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_questions_for_domains_with_silent_servers_slow_nobody_down() {
    let lab = lab(60, 6).await;
    for index in 0..60 {
        lab.world.inject(On::zone(&format!("silent{index}.com")), Fault::Silence);
    }
    beside(lab, 60, "silent servers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_hundred_servers_that_hang_over_tcp_slow_no_domain_down_that_is_served_over_tcp_alone() {
    let lab = lab(300, 1).await;
    for index in 0..CALM {
        lab.world.inject(On::zone(&format!("calm{index}.com")).udp(), Fault::Truncate);
    }
    for index in 0..300 {
        let zone = format!("silent{index}.com");
        lab.world.inject(On::zone(&zone).udp(), Fault::Truncate);
        lab.world.inject(On::zone(&zone).tcp(), Fault::Silence);
    }
    beside(lab, 300, "servers that hang over TCP").await;
}
