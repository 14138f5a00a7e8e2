//! MX hosts whose zones do not answer: what is proven of them from above (design §4 step 2; RFC 7672 §2.2.2).

use std::time::Duration;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::mail::{STS, domain, foundation, host};
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::zone::{Delegation, Zone};

const GONE: &str = "mx.gone.net.";
const DEEP: &str = "mx.very.deep.gone.net.";
/// Below a signed zone that does not answer.
const BELOW_DEAD: &str = "mx.below.dead.net.";

/// `x.com` with these hosts and, where `policy`, an MTA-STS policy that allows all of them, with the servers of
/// `gone.net` (unsigned) and `dead.net` (signed) out of order.
async fn answer(signed: bool, hosts: &[&str], policy: bool, fault: &Fault, more: &[(On, Fault)]) -> (String, Duration) {
    let mut zones = foundation();
    let x = domain("x.com", signed, hosts);
    zones.push(if policy { x.records(STS) } else { x });
    zones.push(Zone::new("gone.net").records("mx A 192.0.2.7\nmx.very.deep A 192.0.2.8"));
    zones.push(Zone::new("below.dead.net").records("mx A 192.0.2.7"));
    zones.push(Zone::new("island.net").signed(13).delegation(Delegation::Insecure).records("mx A 192.0.2.7"));
    let lab = Lab::in_memory(zones);
    for zone in ["gone.net", "dead.net", "below.dead.net", "island.net"] {
        lab.world.inject(On::zone(zone), fault.clone());
    }
    for (on, fault) in more {
        lab.world.inject(on.clone(), fault.clone());
    }
    let fetch = ScriptedFetch::new(&lab);
    let allowed = ["*.plain.net", "*.gone.net", "*.deep.gone.net", "*.below.dead.net", "*.island.net", "*.hosts.net"];
    fetch.set("x.com", Host::Policy(Duration::ZERO, enforce(&allowed)));
    let (reply, took, _) = PolicyLab::new(lab, fetch).measure("x.com").await;
    (reply, took)
}

fn all() -> String {
    "OK secure match=.plain.net:.gone.net:.deep.gone.net:.below.dead.net:.island.net:.hosts.net servername=hostname"
        .to_owned()
}

fn only(host: &str) -> String {
    format!("OK secure match={} servername=hostname", host.trim_end_matches('.'))
}

#[tokio::test(start_paused = true)]
async fn a_dead_backup_in_an_unsigned_zone_holds_no_mail() {
    for (what, fault) in [("silent", Fault::Silence), ("SERVFAIL", Fault::Code(2)), ("REFUSED", Fault::Code(5))] {
        for signed in [true, false] {
            for dead in [GONE, DEEP, "mx.island.net."] {
                let (reply, took) = answer(signed, &[host::INSECURE, dead], true, &fault, &[]).await;
                assert_eq!(reply, all(), "{dead}, {what}, signed: {signed}");
                assert!(took < Duration::from_secs(5), "{dead}, {what}: {took:?}");
                let (reply, _) = answer(signed, &[dead], true, &fault, &[]).await;
                assert_eq!(reply, all(), "{dead} alone, {what}");
                let (reply, _) = answer(signed, &[host::INSECURE, dead], false, &fault, &[]).await;
                assert_eq!(reply, "NOTFOUND ", "{dead}, {what}: without a policy");
                let (reply, _) = answer(true, &[host::USABLE, dead], false, &fault, &[]).await;
                assert_eq!(reply, "OK dane", "{dead}, {what}: beside a host with TLSA records");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_backup_that_may_have_tlsa_records_costs_only_itself() {
    for dead in [host::DEAD, BELOW_DEAD] {
        let (reply, _) = answer(false, &[host::INSECURE, dead], true, &Fault::Silence, &[]).await;
        assert_eq!(reply, only(host::INSECURE), "{dead}");
        let (reply, _) = answer(true, &[host::NONE, dead], true, &Fault::Silence, &[]).await;
        assert_eq!(reply, only(host::NONE), "{dead}");
        let (reply, _) = answer(false, &[dead], true, &Fault::Silence, &[]).await;
        assert!(reply.starts_with("TEMP x.com: "), "{dead}: {reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsigned_delegation_counts_only_where_it_is_proven() {
    let faults = [
        ("denial missing", Fault::MissingDenial),
        ("bad signatures", Fault::BadSignatures),
        ("no signatures", Fault::MissingSignatures),
        ("silent", Fault::Silence),
    ];
    for (what, fault) in faults {
        let more = [(On::zone("net"), fault)];
        let (reply, _) = answer(false, &[GONE], true, &Fault::Silence, &more).await;
        assert!(reply.starts_with("TEMP x.com: "), "{what}: {reply}");
    }
}
