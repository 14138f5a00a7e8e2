//! Policies over days, on both engines and the test world: what owners change, what breaks, and when it shows.

use std::sync::Arc;
use std::time::Duration;

use postseal::limits;
use postseal::policy::mta_sts::FetchError;

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::mail::{USABLE, domain, foundation, host};
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::record::rtype;
use crate::support::zone::Zone;

const SECURE: &str = "OK secure match=old.example servername=hostname";
const RENEWED: &str = "OK secure match=new.example servername=hostname";
/// The TXT record lives five minutes.
const RECORDS: &str = "_mta-sts 300 TXT \"v=STSv1; id=1;\"\nmta-sts A 192.0.2.80";
const TXT_TTL: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

struct Life {
    lab: PolicyLab,
    fetch: Arc<ScriptedFetch>,
}

fn policy(text: String) -> Host {
    Host::Policy(Duration::from_millis(30), text)
}

/// Makes something fail.
type Break = fn(&Life);

/// `sts.com` with a policy that lives a week, asked for once.
async fn life() -> Life {
    let mut zones = foundation();
    zones.push(domain("sts.com", true, &[host::NONE]).records(RECORDS));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", policy(enforce(&["old.example"])));
    let life = Life { lab: PolicyLab::new(lab, fetch.clone()), fetch };
    assert_eq!(life.ask().await, SECURE);
    life
}

impl Life {
    async fn ask(&self) -> String {
        self.lab.ask("sts.com").await
    }

    async fn after(&self, time: Duration) -> String {
        tokio::time::sleep(time).await;
        self.ask().await
    }

    fn change(&self, change: impl FnOnce(&mut Zone)) {
        self.lab.lab.world.change("sts.com", change);
    }

    /// Replaces the TXT record; `None` takes it away.
    fn announce(&self, id: Option<&str>) {
        self.change(|zone| zone.remove(&"_mta-sts.sts.com".into(), rtype::TXT));
        if let Some(id) = id {
            let record = format!("_mta-sts 300 TXT \"v=STSv1; id={id};\"");
            self.change(|zone| {
                for record in crate::support::record::parse_records(&record, &"sts.com".into(), 300) {
                    zone.add(record);
                }
            });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_policy_with_a_new_id_is_served_within_the_ttl_of_the_record() {
    let life = life().await;
    life.fetch.set("sts.com", policy(enforce(&["new.example"])));
    life.announce(Some("2"));
    assert_eq!(life.ask().await, SECURE);
    assert_eq!(life.after(TXT_TTL + Duration::from_secs(1)).await, RENEWED);
}

#[tokio::test(start_paused = true)]
async fn with_the_same_id_the_record_is_checked_and_the_policy_is_not_fetched_again() {
    let life = life().await;
    for _ in 0..10 {
        assert_eq!(life.after(TXT_TTL + Duration::from_secs(1)).await, SECURE);
    }
    assert_eq!(life.fetch.fetches.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn mode_none_with_a_new_id_replaces_enforce() {
    let life = life().await;
    life.fetch.set("sts.com", policy("version: STSv1\nmode: none\nmax_age: 86400\n".to_owned()));
    life.announce(Some("2"));
    assert_eq!(life.after(TXT_TTL + Duration::from_secs(1)).await, "NOTFOUND ");
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_record_and_host_the_policy_stays_until_max_age_ends() {
    let faults: &[(&str, Break)] = &[
        ("record gone", |life| life.announce(None)),
        ("record invalid", |life| life.announce(Some("not-an-id"))),
        ("record fails", |life| life.lab.lab.world.inject(On::name("_mta-sts.sts.com"), Fault::Code(2))),
        ("record silent", |life| life.lab.lab.world.inject(On::name("_mta-sts.sts.com"), Fault::Silence)),
        ("record bogus", |life| life.lab.lab.world.inject(On::name("_mta-sts.sts.com"), Fault::BadSignatures)),
        ("host fails", |life| life.fetch.set("sts.com", Host::Fails(Box::new(FetchError::Status(500))))),
        ("host silent", |life| life.fetch.set("sts.com", Host::Silent)),
        ("host's address fails", |life| life.lab.lab.world.inject(On::name("mta-sts.sts.com"), Fault::Code(2))),
    ];
    for (what, break_it) in faults.iter().copied() {
        let life = life().await;
        break_it(&life);
        // A new id where there is a record still, so that a fetch is wanted, too.
        if what.starts_with("host") {
            life.announce(Some("2"));
        }
        for hours in [1, 24, 72, 160] {
            let at = Duration::from_secs(hours * 3600);
            let now = life.lab.lab.clock.wall() - life.lab.lab.world.now;
            let rest = at.saturating_sub(Duration::from_secs(now as u64));
            assert_eq!(life.after(rest).await, SECURE, "{what}, {hours} h");
        }
        // max_age is seven days.
        let reply = life.after(Duration::from_secs(9 * 3600)).await;
        assert_ne!(reply, SECURE, "{what}, after max_age");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_is_tried_again_after_five_minutes_and_a_failing_network_sooner() {
    for (error, soon, late) in [
        (FetchError::Status(500), 299, limits::STS_BACKOFF.0 + 2),
        (FetchError::Timeout, 10, limits::STS_NETWORK_BACKOFF.0 + 2),
    ] {
        let mut zones = foundation();
        zones.push(domain("sts.com", true, &[host::NONE]).records(RECORDS));
        let lab = Lab::in_memory(zones);
        let fetch = ScriptedFetch::new(&lab);
        fetch.set("sts.com", Host::Fails(Box::new(error.clone())));
        let life = Life { lab: PolicyLab::new(lab, fetch.clone()), fetch };
        assert_eq!(life.ask().await, "NOTFOUND ", "{error}");
        let first = life.fetch.fetches.lock().len();
        let tries = if matches!(error, FetchError::Timeout) { limits::STS_NETWORK_TRIES as usize } else { 1 };
        assert_eq!(first, tries, "{error}");
        life.fetch.set("sts.com", policy(enforce(&["old.example"])));
        assert_eq!(life.after(Duration::from_secs(soon)).await, "NOTFOUND ", "{error}");
        assert_eq!(life.fetch.fetches.lock().len(), first, "{error}");
        life.after(Duration::from_secs(u64::from(late) - soon)).await;
        assert_eq!(life.after(Duration::from_secs(5)).await, SECURE, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn dane_that_appears_overrides_a_policy_that_is_still_fresh() {
    let mut zones = foundation();
    zones.push(domain("sts.com", true, &["mx.sts.com."]).records(RECORDS).ttl(600).records("mx 600 A 192.0.2.1"));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", policy(enforce(&["old.example"])));
    let life = Life { lab: PolicyLab::new(lab, fetch.clone()), fetch };
    assert_eq!(life.ask().await, SECURE);
    let tlsa = format!("_25._tcp.mx 600 {USABLE}");
    life.change(|zone| {
        for record in crate::support::record::parse_records(&tlsa, &"sts.com".into(), 600) {
            zone.add(record);
        }
    });
    assert_eq!(life.after(Duration::from_secs(3601)).await, "OK dane-only");
    life.change(|zone| zone.remove(&"_25._tcp.mx.sts.com".into(), rtype::TLSA));
    assert_eq!(life.after(Duration::from_secs(3601)).await, SECURE);
}

#[tokio::test(start_paused = true)]
async fn max_age_zero_protects_this_delivery_and_nothing_else() {
    let mut zones = foundation();
    zones.push(domain("sts.com", true, &[host::NONE]).records(RECORDS));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", policy(enforce(&["old.example"]).replace("604800", "0")));
    let life = Life { lab: PolicyLab::new(lab, fetch.clone()), fetch };
    assert_eq!(life.ask().await, SECURE);
    life.fetch.set("sts.com", Host::Fails(Box::new(FetchError::Status(500))));
    assert_eq!(life.after(TXT_TTL + DAY).await, "NOTFOUND ");
}
