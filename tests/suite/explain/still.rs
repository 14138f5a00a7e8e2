//! Explaining changes nothing, and goes on while the service is busy.

use std::sync::Arc;
use std::time::Duration;

use postseal::policy::explain::{Source, Verdict};
use tokio::task::JoinSet;

use super::Setting;
use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::mail::{STS, domain, foundation, host};
use crate::support::policy_lab::{Host, ScriptedFetch, enforce};

/// Everything that is known, as text.
fn known(setting: &Setting) -> String {
    let mut rows: Vec<String> =
        setting.policy.engine.cache().rows().into_iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    format!("{}\n{} octets of DNS", rows.join("\n"), setting.policy.lab.engine.cache_bytes())
}

fn setting() -> (Setting, Arc<ScriptedFetch>) {
    let mut zones = foundation();
    zones.push(domain("all.com", true, &[host::USABLE, host::USABLE_TOO]));
    zones.push(domain("sts.com", false, &[host::INSECURE]).records(STS));
    for at in 0..200 {
        zones.push(domain(&format!("slow{at}.net"), true, &[host::USABLE]));
    }
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", Host::Policy(Duration::ZERO, enforce(&["mx.plain.net"])));
    (Setting::with_fetch(lab, fetch.clone(), Duration::from_secs(30)), fetch)
}

#[tokio::test(start_paused = true)]
async fn explaining_changes_nothing_that_is_known() {
    let (setting, fetch) = setting();
    for key in ["all.com", "sts.com"] {
        setting.policy.ask(key).await;
    }
    let before = known(&setting);
    for key in ["all.com", "sts.com", "nowhere.com", "[usable.hosts.net]"] {
        setting.explain(key).await;
    }
    // Nor when everything fails: no failure is remembered, no policy lost, no retry put off.
    setting.policy.lab.world.inject(On::everything(), Fault::Silence);
    fetch.set("sts.com", Host::Silent);
    for key in ["all.com", "sts.com", "nowhere.com"] {
        setting.explain(key).await;
    }
    assert_eq!(known(&setting), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_cached_is_told_apart_from_what_is_there_now() {
    let (setting, _) = setting();
    setting.policy.ask("all.com").await;
    setting.policy.ask("sts.com").await;
    setting.policy.lab.world.inject(On::everything(), Fault::Silence);
    let dane = setting.explain("all.com").await;
    assert_eq!((dane.verdict, dane.answer.source), (Verdict::Protected, Source::Cache));
    assert_eq!(dane.answer.reply, "OK dane-only");
    let fresh = dane.fresh.unwrap();
    assert!(fresh.reply.starts_with("TEMP all.com: MX lookup: no answer in time"), "{fresh:?}");
    assert!(dane.advice.iter().any(|item| item.problem.contains("the answer comes from the cache")));
    let cached = dane.cached.dane.unwrap();
    assert!(cached.ttl > 0 && cached.reason.contains("2 of 2 hosts"), "{cached:?}");
    // A policy that is held stays in force, whatever the fresh look finds.
    let sts = setting.explain("sts.com").await;
    let section = sts.mta_sts.unwrap();
    assert_eq!(section.status, "enforce");
    assert!(section.policy.is_some_and(|policy| policy.valid_for > 600_000));
    let problem = "the policy that is held stays in force until its max_age ends";
    assert!(sts.advice.iter().any(|item| item.problem.contains(problem)), "{:?}", sts.advice);
}

#[tokio::test(start_paused = true)]
async fn explanations_go_on_while_slow_lookups_are_under_way() {
    let (setting, _) = setting();
    for at in 0..200 {
        setting.policy.lab.world.inject(On::zone(&format!("slow{at}.net")), Fault::Silence);
    }
    let setting = Arc::new(setting);
    let mut busy = JoinSet::new();
    for at in 0..200 {
        let setting = setting.clone();
        busy.spawn(async move { setting.policy.ask(&format!("slow{at}.net")).await });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = tokio::time::Instant::now();
    let explanation = setting.explain("all.com").await;
    assert_eq!(explanation.verdict, Verdict::Protected);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(busy.len(), 200);
    assert!(busy.join_all().await.iter().all(|reply| reply.starts_with("TEMP")));
}
