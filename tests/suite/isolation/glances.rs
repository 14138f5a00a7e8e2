//! Denials that were only glanced at: a forged one is nobody's truth, and gone once somebody has looked.

use std::time::Duration;

use hickory_proto::rr::RecordType::{A, TXT};
use postseal::dns::{Glance, Lookup};

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, ROUND_TRIP, hickory, verdict};
use crate::support::mail::{STS, USABLE};
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{Host, PolicyLab, enforce};
use crate::support::record::rtype;
use crate::support::zone::Zone;

fn zones() -> Vec<Zone> {
    let mail = format!("@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx {USABLE}");
    vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("both.com").signed(13).ttl(60).records(&mail).records(STS),
    ]
}

async fn glance(lab: &Lab, name: &str) -> String {
    match lab.engine.glance(&hickory(name), A).await {
        Ok(Glance::Denied) => "denied".to_owned(),
        Ok(Glance::Answer(answer)) => verdict(&Ok(answer)),
        Err(failure) => verdict(&Err(failure)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_denial_is_forgotten_once_a_lookup_has_found_the_records() {
    for fault in [Fault::ForgedNoData, Fault::ForgedNxDomain] {
        let lab = Lab::in_memory(zones());
        lab.world.inject(On::name("mx.both.com").qtype(rtype::A), fault);
        assert_eq!(glance(&lab, "mx.both.com").await, "denied");
        lab.world.heal();
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(lab.verdict("mx.both.com", A).await, "secure 1", "nobody is told what is not proven");
        // The records' own time is over, that of the denial is not.
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(glance(&lab, "mx.both.com").await, "secure 1");
    }
}

/// Whatever is denied at a glance beside it: the policy is the same, before and after, and with DANE gone MTA-STS is
/// looked for in earnest.
#[tokio::test(start_paused = true)]
async fn forged_denials_change_no_policy() {
    for (name, qtype) in [("mx.both.com", rtype::A), ("mx.both.com", rtype::AAAA), ("_mta-sts.both.com", rtype::TXT)] {
        let world = Lab::in_memory(zones()).world;
        let host = Host::Policy(Duration::from_millis(20), enforce(&["mx.both.com"]));
        let lab = PolicyLab::on_world(&world, MemoryNetwork::new(world.clone(), ROUND_TRIP), [("both.com", host)]);
        world.inject(On::name(name).qtype(qtype), Fault::ForgedNxDomain);
        let reply = lab.ask("both.com").await;
        let expected = if qtype == rtype::A { "TEMP" } else { "OK dane-only" };
        assert!(reply.starts_with(expected), "{name}: {reply}");
        world.heal();
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(lab.ask("both.com").await, "OK dane-only", "{name}");
        world.change("both.com", |zone| zone.remove(&"_25._tcp.mx.both.com".into(), rtype::TLSA));
        tokio::time::sleep(Duration::from_secs(301)).await;
        assert_eq!(lab.lab.verdict("_mta-sts.both.com", TXT).await, "secure 1");
        let mut reply = lab.ask("both.com").await;
        if !reply.starts_with("OK secure") {
            tokio::time::sleep(Duration::from_secs(5)).await;
            reply = lab.ask("both.com").await;
        }
        assert!(reply.starts_with("OK secure"), "{name}: {reply}");
    }
}
