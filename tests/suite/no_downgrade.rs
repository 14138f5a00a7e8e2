//! No fault of the test world makes a protected domain look unprotected.

mod walk;

use std::sync::Arc;
use std::time::Duration;

use postseal::config::OnFailure;
use postseal::policy::EngineSettings;

use crate::support::fault::{Fault, On, catalogue};
use crate::support::lab::{Lab, NOW, ROUND_TRIP};
use crate::support::mail::{STS, USABLE};
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::record::rtype;
use crate::support::world::World;
use crate::support::zone::{Denial, Zone};

const SECURE: &str = "OK secure match=mx.policy.example servername=hostname";

fn world(servers: usize) -> Arc<World> {
    let dane = format!("@ MX 10 mx\nmx A 192.0.2.1\nmx AAAA 2001:db8::1\n_25._tcp.mx {USABLE}");
    let plain = "@ MX 10 mx\nmx A 192.0.2.1";
    let zones = vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("dane.com").signed(13).records(&dane),
        Zone::new("sts.com").signed(13).denial(Denial::nsec3()).records(plain).records(STS),
        Zone::new("both.com").signed(15).records(&dane).records(STS),
    ];
    let zones = zones.into_iter().map(|zone| zone.servers(servers)).collect();
    Arc::new(World::build(NOW, zones))
}

fn cold(world: &Arc<World>) -> PolicyLab {
    cold_with(world, OnFailure::Temp)
}

fn cold_with(world: &Arc<World>, on_failure: OnFailure) -> PolicyLab {
    let policy = Host::Policy(ROUND_TRIP, enforce(&["mx.policy.example"]));
    let hosts = ["sts.com", "both.com"].map(|domain| (domain, policy.clone()));
    let lab = Lab::on_world(world.clone(), MemoryNetwork::new(world.clone(), ROUND_TRIP), |_| {});
    let fetch = ScriptedFetch::new(&lab);
    hosts.into_iter().for_each(|(domain, host)| fetch.set(domain, host));
    PolicyLab::with_settings(lab, fetch, EngineSettings { on_failure, ..EngineSettings::default() })
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_for_temp_is_never_given_where_a_policy_was_seen() {
    let world = world(1);
    let mut wrong = Vec::new();
    for domain in ["dane.com", "sts.com"] {
        for (place, on) in [("everywhere", On::everything()), ("its zone", On::zone(domain))] {
            for (what, fault) in catalogue() {
                world.heal();
                let lab = cold_with(&world, OnFailure::May);
                let before = lab.ask(domain).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
                world.inject(on.clone(), fault.clone());
                tokio::time::sleep(Duration::from_secs(20 * 3_600)).await;
                let reply = lab.ask(domain).await;
                if reply == "OK may" {
                    wrong.push(format!("{domain}, {what}, {place}: {reply:?}, before {before:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where faults are tried for one domain.
fn places(domain: &str) -> Vec<(String, On)> {
    let mut places = vec![("everywhere".to_owned(), On::everything())];
    for zone in [".", "com", domain] {
        places.push((format!("zone {zone}"), On::zone(zone)));
    }
    places.push(("DS".to_owned(), On::zone("com").qtype(rtype::DS)));
    for qtype in [rtype::DNSKEY, rtype::MX, rtype::A, rtype::AAAA, rtype::TLSA, rtype::TXT] {
        places.push((format!("type {qtype} of {domain}"), On::zone(domain).qtype(qtype)));
    }
    places
}

#[tokio::test(start_paused = true)]
async fn no_fault_makes_a_protected_domain_look_unprotected() {
    let world = world(1);
    let mut wrong = Vec::new();
    for domain in ["dane.com", "sts.com", "both.com"] {
        for (place, on) in places(domain) {
            for (what, fault) in catalogue() {
                world.heal();
                world.inject(on.clone(), fault.clone());
                let reply = cold(&world).ask(domain).await;
                let right = match domain {
                    "sts.com" => SECURE,
                    _ => "OK dane-only",
                };
                // Design §4, "none" beside "temporary with no cached policy": a fault that shows in nothing but the
                // way to the policy leaves a domain that has no DANE as it was before anybody knew of a policy.
                let only_policy_missing = domain == "sts.com"
                    && (place == format!("type {} of sts.com", rtype::TXT)
                        || place == format!("type {} of sts.com", rtype::A));
                let allowed =
                    reply == right || reply.starts_with("TEMP ") || (only_policy_missing && reply == "NOTFOUND ");
                if !allowed {
                    wrong.push(format!("{domain}, {what}, {place}: {reply:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn no_fault_takes_away_a_policy_that_is_held() {
    let world = world(1);
    let mut wrong = Vec::new();
    for domain in ["sts.com"] {
        for (place, on) in places(domain) {
            for (what, fault) in catalogue() {
                world.heal();
                let lab = cold(&world);
                let before = lab.ask(domain).await;
                // With DANE the answer does not wait for the policy; let it come in.
                tokio::time::sleep(Duration::from_secs(5)).await;
                world.inject(on.clone(), fault.clone());
                tokio::time::sleep(Duration::from_secs(3601)).await;
                let reply = lab.ask(domain).await;
                if !(reply == before || reply == SECURE || reply.starts_with("TEMP ")) {
                    wrong.push(format!("{domain}, {what}, {place}: {reply:?}, before {before:?}"));
                }
                if domain == "sts.com" && place.starts_with("type 16") && reply != SECURE {
                    wrong.push(format!("{domain}, {what}, {place}: {reply:?} although the policy is held"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn one_faulty_server_of_two_takes_nothing_away() {
    let world = world(2);
    let mut wrong = Vec::new();
    for zone in [".", "com", "dane.com"] {
        for (what, fault) in catalogue() {
            for server in world.servers_of(zone) {
                world.heal();
                world.inject(On::server(server), fault.clone());
                let lab = cold(&world);
                let reply = lab.ask("dane.com").await;
                if reply != "OK dane-only" {
                    let timeline = lab.lab.memory.as_ref().unwrap().timeline();
                    wrong.push(format!("{what} at one server of {zone}: {reply:?}\n{timeline}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn faults_that_have_a_way_around_them_hold_no_mail() {
    let world = world(1);
    let mut wrong = Vec::new();
    for (what, fault) in [
        ("truncated", Fault::Truncate),
        ("no TCP", Fault::NoTcp),
        ("question in lower case", Fault::LowercaseQuestion),
        ("spoofed first", Fault::SpoofedFirst),
        ("late", Fault::Late(Duration::from_millis(1500))),
        ("AA clear in referrals only", Fault::edit(|_, reply| reply.authoritative &= !reply.answer.is_empty())),
        ("AA set in referrals", Fault::edit(|_, reply| reply.authoritative = true)),
    ] {
        world.heal();
        world.inject(On::everything(), fault);
        let lab = cold(&world);
        let reply = lab.ask("dane.com").await;
        if reply != "OK dane-only" {
            wrong.push(format!("{what}: {reply:?}\n{}", lab.lab.memory.as_ref().unwrap().timeline()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_one_mx_host_of_several_never_holds_mail() {
    let records = format!(
        "@ MX 10 mx1\n@ MX 20 mx.second.com.\n@ MX 30 mx3
         mx1 A 192.0.2.1\n_25._tcp.mx1 {USABLE}\nmx3 A 192.0.2.3\n_25._tcp.mx3 {USABLE}"
    );
    let world = Arc::new(World::build(
        NOW,
        vec![
            Zone::new(".").signed(13),
            Zone::new("com").signed(13).denial(Denial::opt_out()),
            Zone::new("first.com").signed(13).records(&records),
            Zone::new("second.com").signed(13).records(&format!("mx A 192.0.2.2\n_25._tcp.mx {USABLE}")),
        ],
    ));
    let mut wrong = Vec::new();
    for (what, fault) in catalogue() {
        for on in [
            On::zone("second.com"),
            On::zone("second.com").qtype(rtype::TLSA),
            On::zone("second.com").qtype(rtype::A),
            On::zone("second.com").qtype(rtype::DNSKEY),
            On::name("mx1.first.com"),
            On::name("_25._tcp.mx1.first.com"),
        ] {
            world.heal();
            world.inject(on.clone(), fault.clone());
            let reply = cold(&world).ask("first.com").await;
            if !matches!(reply.as_str(), "OK dane-only" | "OK dane") {
                wrong.push(format!("{what} at {on:?}: {reply:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
