//! DANE and MTA-STS together (design §4, the combination table), every row and column.

use std::time::Duration;

use postseal::policy::mta_sts::FetchError;

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, ROUND_TRIP};
use crate::support::mail::{STS, break_hosts, domain, foundation, host};
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::record::rtype;
use crate::support::zone::Delegation;

const SECURE: &str = "OK secure match=mx1.policy.example servername=hostname";

/// Rows: what DANE comes to, and the answers beside a `secure`, absent and unavailable MTA-STS policy.
const ROWS: &[(&str, bool, &[&str], [&str; 3])] = &[
    ("dane-only", true, &[host::USABLE], ["OK dane-only"; 3]),
    ("dane-valid", true, &[host::USABLE, host::NONE], ["OK dane-only", "OK dane", "OK dane"]),
    ("dane-valid-unknown", true, &[host::USABLE, host::NONE, host::DEAD], ["OK dane-only", "OK dane", "OK dane"]),
    ("dane-insecure-mx", false, &[host::USABLE], [SECURE, "OK dane", "OK dane"]),
    ("dane-unusable", true, &[host::UNUSABLE], [SECURE, "OK dane", "OK dane"]),
    ("dane-unusable-insecure", false, &[host::UNUSABLE], [SECURE, "OK dane", "OK dane"]),
    ("partial", true, &[host::NONE, host::BOGUS], ["TEMP", "OK dane", "OK dane"]),
    ("partial-insecure", false, &[host::INSECURE, host::DEAD], ["TEMP", "OK dane", "OK dane"]),
    ("temporary", true, &[host::BOGUS], ["TEMP"; 3]),
    ("temporary-insecure", false, &[host::DEAD], ["TEMP"; 3]),
    ("none", true, &[host::NONE], [SECURE, "NOTFOUND ", "NOTFOUND "]),
    ("none-insecure", false, &[host::INSECURE], [SECURE, "NOTFOUND ", "NOTFOUND "]),
    ("null-mx", true, &["."], [SECURE, "NOTFOUND ", "NOTFOUND "]),
];

#[derive(Clone, Copy)]
enum Sts {
    Secure,
    Absent,
    FetchFails,
    HostSilent,
    RecordFails,
}

const COLUMNS: [(&str, Sts, usize); 5] = [
    ("secure", Sts::Secure, 0),
    ("absent", Sts::Absent, 1),
    ("fetchfails", Sts::FetchFails, 2),
    ("hostsilent", Sts::HostSilent, 2),
    ("recordfails", Sts::RecordFails, 2),
];

#[tokio::test(start_paused = true)]
async fn every_pair_of_branches_gets_the_answer_of_the_table() {
    let mut zones = foundation();
    for (row, signed, hosts, _) in ROWS {
        for (column, sts, _) in COLUMNS {
            let zone = domain(&format!("{row}-{column}.com"), *signed, hosts);
            zones.push(if matches!(sts, Sts::Absent) { zone } else { zone.records(STS) });
        }
    }
    let lab = Lab::in_memory(zones);
    break_hosts(&lab.world);
    let fetch = ScriptedFetch::new(&lab);
    for (row, ..) in ROWS {
        for (column, sts, _) in COLUMNS {
            let key = format!("{row}-{column}.com");
            match sts {
                Sts::Secure => {
                    fetch.set(&key, Host::Policy(Duration::from_millis(50), enforce(&["mx1.policy.example"])))
                }
                Sts::FetchFails => fetch.set(&key, Host::Fails(Box::new(FetchError::Status(500)))),
                Sts::HostSilent => fetch.set(&key, Host::Silent),
                Sts::RecordFails => lab.world.inject(On::name(&format!("_mta-sts.{key}")), Fault::Code(2)),
                Sts::Absent => {}
            }
        }
    }
    let lab = PolicyLab::new(lab, fetch);
    let mut wrong = Vec::new();
    for (row, _, _, answers) in ROWS {
        for (column, sts, index) in COLUMNS {
            let key = format!("{row}-{column}.com");
            let (reply, took, _) = lab.measure(&key).await;
            // A policy host that says nothing within policy.timeout leaves "temporary" undetermined: TEMP is the
            // answer where it matters (design §4: past the timeout TEMP, while the lookup goes on).
            let undetermined = matches!(sts, Sts::HostSilent) && answers[2] == "NOTFOUND ";
            let expected = answers[index];
            let fits = match expected {
                "TEMP" => reply.starts_with("TEMP "),
                _ => reply == expected || (undetermined && reply.starts_with("TEMP ")),
            };
            if !fits {
                wrong.push(format!("{key}: {reply:?}, should be {expected:?}"));
            }
            if took > Duration::from_secs(20) {
                wrong.push(format!("{key}: took {took:?}"));
            }
            let determined_by_dane = answers.iter().all(|answer| *answer == answers[0]) && !row.contains("unknown");
            if matches!(sts, Sts::HostSilent)
                && determined_by_dane
                && !row.starts_with("temporary")
                && took > Duration::from_secs(1)
            {
                wrong.push(format!("{key}: waited {took:?} for a policy host that does not matter"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_bogus_domain_is_held_whatever_mta_sts_says() {
    let mut zones = foundation();
    zones.push(domain("bogus.com", true, &[host::NONE]).records(STS).delegation(Delegation::WrongDigest));
    zones.push(domain("mxfails.com", true, &[host::NONE]).records(STS));
    let lab = Lab::in_memory(zones);
    lab.world.inject(On::name("mxfails.com").qtype(rtype::MX), Fault::Code(2));
    let fetch = ScriptedFetch::new(&lab);
    for domain in ["bogus.com", "mxfails.com"] {
        fetch.set(domain, Host::Policy(Duration::ZERO, enforce(&["mx1.policy.example"])));
    }
    let lab = PolicyLab::new(lab, fetch);
    for domain in ["bogus.com", "mxfails.com"] {
        let reply = lab.ask(domain).await;
        assert!(reply.starts_with(&format!("TEMP {domain}: MX lookup: ")), "{domain}: {reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_with_brackets_or_port_have_the_mta_sts_branch_of_their_name() {
    let mut zones = foundation();
    zones.push(domain("sts.com", false, &[host::INSECURE]).records(STS).records("@ A 192.0.2.1\nmx A 192.0.2.1"));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", Host::Policy(Duration::ZERO, enforce(&["mx1.policy.example"])));
    let lab = PolicyLab::new(lab, fetch.clone());
    for key in ["[sts.com]", "sts.com:2525", "[sts.com]:25", "[sts.com]:587", "sts.com"] {
        assert_eq!(lab.ask(key).await, SECURE, "{key}");
    }
    for key in ["[mx.sts.com]", ".sts.com", "[192.0.2.1]", "[.sts.com]", "192.0.2.1:25"] {
        assert_eq!(lab.ask(key).await, "NOTFOUND ", "{key}");
    }
    assert_eq!(fetch.fetches.lock().len(), 1, "one branch for all forms of the key");
}

#[tokio::test(start_paused = true)]
async fn equal_concurrent_queries_share_one_lookup() {
    let mut zones = foundation();
    zones.push(domain("sts.com", false, &[host::INSECURE]).records(STS));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    let policy = Host::Policy(Duration::from_millis(100), enforce(&["mx1.policy.example"]));
    fetch.set("sts.com", policy.clone());
    let lab = PolicyLab::new(lab, fetch.clone());
    let again = MemoryNetwork::new(lab.lab.world.clone(), ROUND_TRIP);
    let alone = PolicyLab::on_world(&lab.lab.world, again, [("sts.com", policy)]).measure("sts.com").await.2;
    lab.lab.world.take_asked();
    let replies = futures_util::future::join_all((0..50).map(|_| lab.ask("sts.com"))).await;
    assert!(replies.iter().all(|reply| reply == SECURE), "{replies:?}");
    assert_eq!(fetch.fetches.lock().len(), 1);
    assert_eq!(lab.lab.world.take_asked().len(), alone);
}
