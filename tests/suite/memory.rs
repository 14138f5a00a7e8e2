//! What the process takes of the machine: a burst of lookups leaves no more behind than what was learnt by it. On the real
//! binary, by what the system says of it.

use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::zone::{Denial, Zone};

/// Next hops asked for at once.
const BURST: usize = 1_200;
/// On each connection, for names of a zone of its own: one server has no more than a share of our sockets.
const ON_EACH: usize = 50;
const MIB: u64 = 1 << 20;

/// Octets of memory that a process has now, and had at most.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("told");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_a_burst_of_lookups_took_is_given_back_soon_after() {
    let domains: String = (0..ON_EACH).map(|n| format!("d{n} MX 10 mx.d{n}\nmx.d{n} A 192.0.2.1\n")).collect();
    let mut zones = vec![Zone::new(".").signed(13), Zone::new("com").signed(13).denial(Denial::opt_out())];
    zones.extend((0..BURST / ON_EACH).map(|zone| Zone::new(&format!("z{zone}.com")).signed(13).records(&domains)));
    let daemon = Daemon::start(zones, "[policy]\ntimeout = \"90s\"").await;
    assert_eq!(daemon.ask("QUERY d0.z0.com").await, "NOTFOUND ");
    let (calm, _) = memory(daemon.pid());

    let mut connections = Vec::new();
    for zone in 0..BURST / ON_EACH {
        let mut connection = daemon.connect().await;
        for n in 0..ON_EACH {
            connection.send(format!("QUERY d{n}.z{zone}.com").as_bytes()).await;
        }
        connections.push(connection);
    }
    for mut connection in connections {
        for _ in 0..ON_EACH {
            // On a slow machine not all is found out in time; what counts here is what was tried.
            let reply = connection.receive().await;
            assert!(reply == "NOTFOUND " || reply.starts_with("TEMP "), "{reply}");
        }
    }
    let (_, peak) = memory(daemon.pid());
    let took = peak - calm;
    assert!(took > 16 * MIB, "no burst: {calm} to {peak}");
    // A quarter at least comes back: the rest is what was learnt, and free places between what was learnt. There is no
    // word for "given back", only the size.
    let mut now = peak;
    for _ in 0..900 {
        now = memory(daemon.pid()).0;
        if now < peak - took / 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("calm {} MiB, peak {} MiB, then {} MiB", calm / MIB, peak / MIB, now / MIB);
    assert!(now < peak - took / 4, "calm {calm}, at most {peak}, and after a minute and a half {now}");
    assert!(daemon.stop().await);
}
