//! What a bad network may cost: lost packets, silent servers, slow answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::fault::{Fault, On};
use crate::support::lab::{NOW, ROUND_TRIP};
use crate::support::mail::USABLE;
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::PolicyLab;
use crate::support::world::World;
use crate::support::zone::{Denial, Zone};

const COUNT: usize = 100;

/// Two servers each; a hundred signed domains with DANE, each with servers of its own.
fn zones() -> Vec<Zone> {
    let mut zones =
        vec![Zone::new(".").signed(8).servers(2), Zone::new("com").signed(13).denial(Denial::opt_out()).servers(2)];
    for index in 0..COUNT {
        zones.push(dane_domain(&format!("d{index}.com")).servers(2));
    }
    zones
}

fn dane_domain(name: &str) -> Zone {
    Zone::new(name).signed(13).records(&format!("@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx {USABLE}"))
}

fn cold(world: &Arc<World>, network: MemoryNetwork) -> PolicyLab {
    PolicyLab::on_world(world, network, [])
}

#[tokio::test(start_paused = true)]
async fn with_three_packets_in_ten_lost_each_way_ninety_five_of_a_hundred_cold_domains_are_right() {
    let world = Arc::new(World::build(NOW, zones()));
    let mut wrong = Vec::new();
    for index in 0..COUNT {
        let network = MemoryNetwork::new(world.clone(), ROUND_TRIP).losing(0.3, index as u64);
        let lab = cold(&world, network);
        let begun = Instant::now();
        let reply = lab.ask(&format!("d{index}.com")).await;
        assert!(reply == "OK dane-only" || reply.starts_with("TEMP "), "d{index}.com: {reply}");
        assert!(begun.elapsed() <= Duration::from_secs(20), "d{index}.com took {:?}", begun.elapsed());
        if reply != "OK dane-only" {
            wrong.push(format!("d{index}.com: {reply}\n{}", lab.lab.memory.as_ref().unwrap().timeline()));
        }
    }
    println!("{} of {COUNT} without answer", wrong.len());
    assert!(wrong.len() <= COUNT / 20, "{} of {COUNT} without answer; the first:\n{}", wrong.len(), wrong[0]);
}

#[tokio::test(start_paused = true)]
async fn with_one_of_two_servers_of_every_zone_silent_all_are_right_and_the_second_is_not_slowed() {
    let mut zones = zones();
    zones.truncate(2);
    // Many domains at the same two servers, as a hosting company has them.
    let hosting = Zone::new("hosting.com").signed(13).servers(2);
    zones.push(hosting);
    for index in 0..20 {
        let hosted = dane_domain(&format!("h{index}.com"));
        zones.push(hosted.nameserver("ns1.hosting.com", &[]).nameserver("ns2.hosting.com", &[]));
    }
    let healthy = Arc::new(World::build(NOW, zones));
    for silent in 0..2 {
        healthy.heal();
        let network = || MemoryNetwork::new(healthy.clone(), ROUND_TRIP);
        let reference = cold(&healthy, network());
        reference.ask("h0.com").await;
        let (_, normal, _) = reference.measure("h1.com").await;
        for zone in [".", "com", "hosting.com"] {
            healthy.inject(On::server(healthy.servers_of(zone)[silent]), Fault::Silence);
        }
        for index in 0..10 {
            let lab = cold(&healthy, network());
            let begun = Instant::now();
            let reply = lab.ask(&format!("h{index}.com")).await;
            assert_eq!(reply, "OK dane-only", "h{index}.com, cold");
            assert!(begun.elapsed() < Duration::from_secs(10), "h{index}.com, cold, took {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_secs(2)).await;
            let next = format!("h{}.com", index + 10);
            let (reply, took, _) = lab.measure(&next).await;
            assert_eq!(reply, "OK dane-only", "{next}, second");
            let timeline = lab.lab.memory.as_ref().unwrap().timeline();
            assert!(took <= normal + ROUND_TRIP, "{next}, second, took {took:?}, usually {normal:?}\n{timeline}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_answers_that_take_a_second_and_a_half_all_are_right() {
    let world = Arc::new(World::build(NOW, zones()));
    for index in 0..COUNT {
        let lab = cold(&world, MemoryNetwork::new(world.clone(), Duration::from_millis(1500)));
        let begun = Instant::now();
        let reply = lab.ask(&format!("d{index}.com")).await;
        let timeline = || lab.lab.memory.as_ref().unwrap().timeline();
        assert_eq!(reply, "OK dane-only", "d{index}.com after {:?}\n{}", begun.elapsed(), timeline());
        assert!(begun.elapsed() <= Duration::from_secs(20));
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_that_cannot_be_reached_cost_nothing_after_the_first_try() {
    // Every server has an IPv6 address as well, and none of them answers.
    let mut zones = vec![Zone::new(".").signed(13), Zone::new("com").signed(13)];
    zones.extend((0..4).map(|index| dane_domain(&format!("d{index}.com"))));
    for (index, zone) in zones.iter_mut().enumerate() {
        let name = if zone.name.labels().is_empty() {
            "ns1.root-servers.test".to_owned()
        } else {
            format!("ns1.{}", zone.name)
        };
        let v4 = format!("127.54.0.{}", index + 1).parse().unwrap();
        let v6 = format!("2001:db8::{}", index + 1).parse().unwrap();
        zone.nameservers = vec![(name.as_str().into(), vec![v4, v6])];
    }
    let world = Arc::new(World::build(NOW, zones));
    let lab = cold(&world, MemoryNetwork::new(world.clone(), ROUND_TRIP));
    lab.ask("d0.com").await;
    let (_, normal, _) = lab.measure("d1.com").await;
    for address in world.addresses().into_iter().filter(|address| address.is_ipv6()) {
        world.inject(On::server(address), Fault::Silence);
    }
    let lab = cold(&world, MemoryNetwork::new(world.clone(), ROUND_TRIP));
    assert_eq!(lab.ask("d0.com").await, "OK dane-only");
    assert_eq!(lab.ask("d1.com").await, "OK dane-only");
    for domain in ["d2.com", "d3.com"] {
        let (reply, took, _) = lab.measure(domain).await;
        let timeline = lab.lab.memory.as_ref().unwrap().timeline();
        assert_eq!(reply, "OK dane-only");
        assert!(took <= normal, "{domain} took {took:?}, usually {normal:?}\n{timeline}");
    }
}
