//! What one policy question may cost: a stranger's MX RRset does not make us a flood for somebody else, and when it has
//! spent its packets, others do not suffer for that.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::RecordType::{A, MX};
use postseal::limits;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::world::Asked;
use crate::support::zone::Zone;

const MAIL: &str = "@ MX 10 mx\nmx A 192.0.2.1";

fn ip(net: u8, last: usize) -> IpAddr {
    [127, 54, net, last as u8].into()
}

/// `attack.com` has 50 MX hosts, each below a delegation of its own to name servers that `name_server` makes up.
fn attack(name_server: impl Fn(usize, usize) -> String, extra: Vec<Zone>) -> Vec<Zone> {
    let hosts: String = (0..50)
        .map(|host| {
            let servers: String = (0..5).map(|at| format!("h{host} NS {}\n", name_server(host, at))).collect();
            format!("@ MX 10 mx.h{host}\n{servers}")
        })
        .collect();
    let mut zones = vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("net").signed(13),
        Zone::new("attack.com").records(&hosts).records("_mta-sts TXT \"v=STSv1; id=1;\""),
        Zone::new("victim.net").records(MAIL).records("*.deep A 192.0.2.9"),
        Zone::new("calm.com").signed(13).records(MAIL),
    ];
    zones.extend(extra);
    zones
}

fn policy_lab(zones: Vec<Zone>) -> PolicyLab {
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("attack.com", Host::Silent);
    PolicyLab::new(lab, fetch)
}

/// Questions, those about the root itself left out: they are nobody's.
async fn cost(policies: &PolicyLab, key: &str) -> (String, Vec<Asked>) {
    // Priming and the root's keys are nobody's.
    assert_eq!(policies.lab.verdict("com", hickory_proto::rr::RecordType::NS).await, "secure 1");
    policies.lab.world.take_asked();
    let reply = policies.ask(key).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    (reply, policies.lab.world.take_asked())
}

fn by_server(asked: &[Asked]) -> HashMap<IpAddr, usize> {
    let mut count = HashMap::new();
    for asked in asked {
        *count.entry(asked.server).or_default() += 1;
    }
    count
}

#[tokio::test(start_paused = true)]
async fn one_policy_question_sends_a_third_party_no_flood() {
    // Names of the third party's, none of which is there; and others that are.
    for part in ["", "deep."] {
        let name = |host: usize, at: usize| format!("n{host}x{at}.{part}victim.net.");
        let policies = policy_lab(attack(name, vec![]));
        let (reply, asked) = cost(&policies, "attack.com").await;
        assert!(!reply.starts_with("OK"), "{reply}");
        let limit = limits::SCOPE_PACKETS as usize;
        assert!(asked.len() <= limit, "{} packets, at most {limit}", asked.len());
        assert!(asked.len() > limit / 2, "only {} packets: this costs nothing", asked.len());
        assert_eq!(policies.lab.verdict("victim.net", MX).await, "insecure 1");
        assert_eq!(policies.lab.verdict("mx.victim.net", A).await, "insecure 1");
    }
}

#[tokio::test(start_paused = true)]
async fn one_policy_question_sends_few_packets_to_an_address_that_does_not_answer() {
    let name = |_, _| "ns.silent.net.".to_owned();
    let silent = Zone::new("silent.net").records(&format!("ns A {}", ip(9, 9)));
    let policies = policy_lab(attack(name, vec![silent]));
    policies.lab.world.inject(On::server(ip(9, 9)), Fault::Silence);
    policies.lab.world.host(ip(9, 9), "victim.net");
    let (reply, asked) = cost(&policies, "attack.com").await;
    assert!(!reply.starts_with("OK"), "{reply}");
    let count = by_server(&asked).get(&ip(9, 9)).copied().unwrap_or_default();
    assert_eq!(count, limits::SCOPE_PACKETS_TO_SILENT as usize, "packets: what it costs without a limit is more");
}

#[tokio::test(start_paused = true)]
async fn whoever_shares_a_lookup_with_a_question_that_has_spent_its_packets_gets_an_answer() {
    let name = |host: usize, at: usize| format!("n{host}x{at}.victim.net.");
    let mut zones = attack(name, vec![]);
    // Among the stranger's hosts are the innocent one's.
    let hosts: String = (0..50).map(|host| format!("@ MX 5 mx{host}.calm.com.\n")).collect();
    let hostile = zones.remove(3).records(&hosts);
    zones.insert(3, hostile);
    let calm: String = (0..50).map(|host| format!("mx{host} A 192.0.2.1\n")).collect();
    let innocent = zones.remove(5).records(&calm);
    zones.insert(5, innocent);
    let policies = std::sync::Arc::new(policy_lab(zones));
    let attacks: Vec<_> = (0..4)
        .map(|_| {
            let policies = policies.clone();
            tokio::spawn(async move { policies.ask("attack.com").await })
        })
        .collect();
    for host in 0..50 {
        assert_eq!(policies.lab.verdict(&format!("mx{host}.calm.com"), A).await, "secure 1", "{host}");
    }
    for attack in attacks {
        attack.await.unwrap();
    }
    assert_eq!(policies.lab.verdict("calm.com", MX).await, "secure 1");
}

#[tokio::test(start_paused = true)]
async fn ordinary_domains_with_many_hosts_are_within_it() {
    let hosts: String = (0..50)
        .map(|host| {
            format!("@ MX 10 mx{host}\nmx{host} A 192.0.2.1\n_25._tcp.mx{host} TLSA 3 1 1 {}\n", "ab".repeat(32))
        })
        .collect();
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("many.com").signed(13).records(&hosts),
    ]);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("many.com", Host::Policy(std::time::Duration::ZERO, enforce(&["mx.many.com"])));
    let policies = PolicyLab::new(lab, fetch);
    let reply = policies.ask("many.com").await;
    assert!(reply.starts_with("OK dane-only"), "{reply}");
}
