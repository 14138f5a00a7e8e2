//! The real binary, killed at random moments under load: whatever it had answered as `secure` it answers again
//! after the restart, with DNS and HTTPS cut off.
//!
//! `POSTSEAL_CRASH_ROUNDS` sets how many kills; a few by default.

use std::collections::BTreeSet;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postseal::clock::Clock;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::support::https::{PolicyHosts, Script};
use super::support::killable::{Killable, ask, configure, describe};
use super::support::mail::{domain, foundation, host};
use super::support::policy_lab::enforce;
use super::support::serve::Served;
use super::support::world::World;

/// Mail domains of the world; the state directory starts anew when all were asked for.
const DOMAINS: usize = 120;
/// Connections of the load.
const CLIENTS: usize = 8;
/// A port nothing listens on.
const NOWHERE: u16 = 9;

fn name(n: usize) -> String {
    format!("crash{n}.com")
}

/// Asks for `wanted` on several connections until it is killed; what was answered as `secure` goes to `secure`.
fn load_until_killed(daemon: Killable, wanted: Vec<usize>, secure: &Arc<Mutex<BTreeSet<usize>>>, after: Duration) {
    let wanted = Arc::new(Mutex::new(wanted));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut stream, wanted, secure) = (daemon.connect().unwrap(), wanted.clone(), secure.clone());
            std::thread::spawn(move || {
                loop {
                    let Some(n) = wanted.lock().unwrap().pop() else { break };
                    match ask(&mut stream, &name(n)) {
                        Some(reply) if reply.starts_with("OK secure ") => drop(secure.lock().unwrap().insert(n)),
                        Some(reply) => panic!("{}: {reply}", name(n)),
                        None => break,
                    }
                }
                let _ = stream.shutdown(Shutdown::Both);
            })
        })
        .collect();
    std::thread::sleep(after);
    daemon.kill();
    for client in clients {
        client.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_secure_is_secure_after_every_kill_without_dns_and_https() {
    let mut zones = foundation();
    zones.extend((0..DOMAINS).map(|n| {
        domain(&name(n), false, &[host::NONE]).records("_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 127.0.0.1")
    }));
    let world = Arc::new(World::build(Clock::system().wall(), zones));
    let served = Served::start(world.clone()).await;
    let hosts = PolicyHosts::start().await;
    (0..DOMAINS).for_each(|n| hosts.set(&name(n), Script::policy(&enforce(&["*.hosts.net"]))));
    let (dns, https, ca) = (served.port, hosts.address.port(), hosts.ca_pem());
    tokio::task::spawn_blocking(move || kill_again_and_again(&world, dns, https, &ca)).await.unwrap();
    drop((served, hosts));
}

fn kill_again_and_again(world: &World, dns: u16, https: u16, ca: &str) {
    let rounds = std::env::var("POSTSEAL_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let fresh = || {
        let directory = tempfile::tempdir().unwrap();
        describe(directory.path(), world, ca);
        (directory, Arc::new(Mutex::new(BTreeSet::new())))
    };
    let (mut directory, mut secure) = fresh();
    let (mut kills_under_load, mut checked) = (0, 0);
    for round in 0..10 * rounds {
        // More than asked for where the machine is too busy to answer anything before the first kills.
        if round >= rounds && checked > 0 {
            break;
        }
        let path = directory.path();
        configure(path, dns, https);
        let mut wanted: Vec<usize> = (0..DOMAINS).filter(|n| !secure.lock().unwrap().contains(n)).collect();
        let before = DOMAINS - wanted.len();
        wanted.shuffle(&mut rand::rng());
        let after = Duration::from_millis(rand::rng().random_range(20..900));
        load_until_killed(Killable::start(path), wanted, &secure, after);
        let known: Vec<usize> = secure.lock().unwrap().iter().copied().collect();
        kills_under_load += usize::from(known.len() > before && known.len() < DOMAINS);

        configure(path, NOWHERE, NOWHERE);
        let daemon = Killable::start(path);
        let mut stream = daemon.connect().unwrap();
        for n in &known {
            let reply = ask(&mut stream, &name(*n)).unwrap_or_default();
            let log = || daemon.log();
            assert!(reply.starts_with("OK secure "), "round {round}, {}: {reply}\n{}", name(*n), log());
        }
        checked += known.len();
        assert!(!daemon.log().contains("lost"), "{}", daemon.log());
        daemon.kill();
        if known.len() == DOMAINS {
            (directory, secure) = fresh();
        }
    }
    println!("{rounds} kills, {kills_under_load} of them while answers were being stored, {checked} policies checked");
    assert!(checked > 0, "nothing was ever answered");
}
