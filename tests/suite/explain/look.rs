//! What an explanation shows of a world where most is well.

use std::time::Duration;

use postseal::limits::EXPLAIN_TIME;
use postseal::policy::explain::{DeliveryKind, Verdict, ZoneState};

use super::Setting;
use crate::support::lab::Lab;
use crate::support::mail::{STS, break_hosts, domain, foundation, host};
use crate::support::policy_lab::{Host, ScriptedFetch, enforce};
use crate::support::zone::Zone;

fn setting() -> Setting {
    let every = [
        host::USABLE,
        host::UNUSABLE,
        host::NONE,
        host::INSECURE,
        host::NO_ADDRESS,
        host::BOGUS,
        host::DEAD,
        host::TLSA_FAILS,
        host::TLSA_BOGUS,
    ];
    let mut zones = foundation();
    zones.push(domain("all.com", true, &[host::USABLE, host::USABLE_TOO]));
    zones.push(domain("mixed.com", true, &every));
    zones.push(Zone::new("silent.com").signed(13).records("@ MX 0 ."));
    zones.push(domain("sts.com", false, &[host::INSECURE, host::NONE]).records(STS));
    let lab = Lab::in_memory(zones);
    break_hosts(&lab.world);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", Host::Policy(Duration::ZERO, enforce(&["mx.plain.net"])));
    Setting::with_fetch(lab, fetch, EXPLAIN_TIME)
}

#[tokio::test(start_paused = true)]
async fn every_host_gets_what_postfix_does_with_it() {
    use DeliveryKind::{Authenticated, ClearPossible, Deferred, Encrypted, NotUsed};
    let setting = setting();
    let rows: &[(&str, Verdict, &str, &[DeliveryKind])] = &[
        ("all.com", Verdict::Protected, "OK dane-only", &[Authenticated, Authenticated]),
        (
            "mixed.com",
            Verdict::PartlyProtected,
            "OK dane",
            &[Authenticated, Encrypted, ClearPossible, ClearPossible, NotUsed, Deferred, Deferred, Deferred, Deferred],
        ),
        ("sts.com", Verdict::Protected, "OK secure match=mx.plain.net servername=hostname", &[Authenticated, NotUsed]),
        ("nowhere.com", Verdict::NoSuchDomain, "NOTFOUND ", &[]),
        ("silent.com", Verdict::NullMx, "NOTFOUND ", &[]),
        ("[usable.hosts.net]:587", Verdict::Protected, "OK dane-only", &[Authenticated]),
        ("[mx.plain.net]", Verdict::NoPolicy, "NOTFOUND ", &[ClearPossible]),
    ];
    for (key, verdict, reply, hosts) in rows {
        let explanation = setting.explain(key).await;
        let found: Vec<DeliveryKind> = explanation.hosts.iter().map(|host| host.delivery.kind).collect();
        assert_eq!((explanation.verdict, explanation.answer.reply.as_str()), (*verdict, *reply), "{key}");
        assert_eq!(found, *hosts, "{key}");
        assert_eq!(setting.policy.ask(key).await, *reply, "{key}: what Postfix is told");
    }
}

#[tokio::test(start_paused = true)]
async fn the_chain_of_trust_is_shown_from_the_root_to_each_name() {
    let setting = setting();
    let explanation = setting.explain("sts.com").await;
    let zones: Vec<(&str, ZoneState)> = explanation.chain.iter().map(|zone| (zone.zone.as_str(), zone.state)).collect();
    let secure = ZoneState::Secure;
    let expected = [
        (".", secure),
        ("com", secure),
        ("sts.com", ZoneState::Insecure),
        ("net", secure),
        ("plain.net", ZoneState::Insecure),
        ("hosts.net", secure),
    ];
    assert_eq!(zones, expected);
    let root = &explanation.chain[0];
    assert!(root.anchored && root.keys.iter().any(|key| key.named && key.sep), "{root:?}");
    assert_eq!(root.ds[0].tag, root.keys.iter().find(|key| key.named).unwrap().tag);
    assert_eq!(root.signed_until.as_deref(), Some("2027-01-28"));
}

#[tokio::test(start_paused = true)]
async fn json_carries_all_that_the_text_is_made_of() {
    let setting = setting();
    let explanation = setting.explain("mixed.com").await;
    let json = serde_json::to_string(&explanation).unwrap();
    assert_eq!(serde_json::from_str::<postseal::policy::explain::Explanation>(&json).unwrap(), explanation);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["hosts"][1]["tlsa"][0]["usage"], 1);
    assert_eq!(value["next_hop"], "mixed.com");
}
