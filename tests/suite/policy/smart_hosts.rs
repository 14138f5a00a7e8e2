//! Next hops that are not a recipient domain alone: smart hosts and other ports (RFC 8461 §3.4, design §3).

use std::sync::Arc;

use hickory_proto::rr::RecordType::TXT;
use postseal::cache::Forgetful;
use postseal::clock::Clock;
use postseal::config::{MapOptions, Overrides};
use postseal::dns::Security::{Insecure, Secure};
use postseal::dns::{Cause, Found};
use postseal::policy::mta_sts::FetchError;
use postseal::policy::{EngineSettings, Freshness};

use super::script::{START, World, hop, pass};

const SECURE: &str = "OK secure match=mx.relay.example servername=hostname";
const FORMS: [&str; 4] = ["[relay.example]", "[relay.example]:587", "relay.example:2525", "relay.example"];

/// `relay.example`, an unsigned host and domain with a policy.
fn relay() -> World {
    let world = World::new();
    world.sts_domain("relay.example", "enforce", 86_400, 600);
    world.dns.address("relay.example", Insecure);
    world
}

#[tokio::test(start_paused = true)]
async fn every_form_of_a_key_has_the_policy_of_its_name_in_one_branch() {
    for first in FORMS {
        let world = relay();
        for key in std::iter::once(first).chain(FORMS) {
            assert_eq!(world.ask(key).await, SECURE, "{key} after {first}");
        }
        assert_eq!(world.host.fetched("relay.example"), 1);
        assert_eq!(world.dns.asked("_mta-sts.relay.example", TXT), 1);
    }
    let world = relay();
    let (hops, map) = (FORMS.map(hop), MapOptions::default());
    futures_util::future::join_all(hops.iter().map(|hop| world.engine.answer(hop, &map))).await;
    assert_eq!(world.host.fetched("relay.example"), 1, "asked at once");
}

#[tokio::test(start_paused = true)]
async fn dane_of_the_very_next_hop_comes_first() {
    let world = relay();
    world.dns.address("relay.example", Secure).tlsa("_587._tcp.relay.example", Secure, true);
    assert_eq!(world.ask("[relay.example]:587").await, "OK dane-only");
    assert_eq!(world.ask("[relay.example]").await, SECURE, "no TLSA records for port 25");
    world.dns.tlsa("_2525._tcp.mx.relay.example", Secure, true).address("mx.relay.example", Secure);
    world.dns.mx("relay.example", Secure, &["mx.relay.example"]);
    assert_eq!(world.ask("relay.example:2525").await, "OK dane-only");
}

#[tokio::test(start_paused = true)]
async fn the_policy_domain_of_reports_is_the_name() {
    let map = MapOptions { tlsrpt: true, ..MapOptions::default() };
    for key in FORMS {
        let reply = relay().reply(key, &map).await;
        assert!(reply.contains(" policy_type=sts policy_domain=relay.example mx_host_pattern="), "{key}: {reply}");
    }
    let reporting = MapOptions { report_level: Some(postseal::config::ReportLevel::May), ..map };
    let world = relay();
    world.host.fails("relay.example", FetchError::Status(500));
    for key in FORMS {
        let expected = "OK may policy_type=sts policy_domain=relay.example policy_failure=sts-policy-fetch-error";
        assert_eq!(world.reply(key, &reporting).await, expected, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_branch_lives_for_the_name_and_is_renewed_once() {
    let world = relay();
    tokio::spawn(world.engine.clone().maintain());
    assert_eq!(world.ask("[relay.example]").await, SECURE);
    world.dns.fails("_mta-sts.relay.example", TXT, Cause::Timeout);
    for _ in 0..20 {
        pass(4_000).await;
        for key in FORMS {
            assert_eq!(world.ask(key).await, SECURE, "{key}");
        }
    }
    world.dns.sts("relay.example", 600, "2");
    world.host.policy("relay.example", "none", 86_400, "mx.relay.example");
    pass(1_000).await;
    for key in FORMS {
        assert_eq!(world.ask(key).await, "NOTFOUND ", "{key}: by its owner's word");
    }
}

#[tokio::test(start_paused = true)]
async fn listings_and_purges_know_that_the_forms_share_a_branch() {
    let world = relay();
    for key in ["[relay.example]:587", "relay.example:2525"] {
        assert_eq!(world.ask(key).await, SECURE);
    }
    let now = world.clock.stamp();
    let map = MapOptions::default();
    let rows = world.engine.cache().rows();
    for key in ["[relay.example]:587", "relay.example:2525"] {
        let (_, known) = rows.iter().find(|(listed, _)| *listed == hop(key)).expect("a row");
        let standing = world.engine.standing(&hop(key), known, &map, Freshness::WithinTtl, now).expect("an answer");
        assert_eq!(standing.outcome.label(), "secure", "{key}");
    }
    assert!(world.engine.cache().remove(&hop("[relay.example]:587")));
    world.host.policy("relay.example", "enforce", 86_400, "mx2.relay.example");
    let renewed = "OK secure match=mx2.relay.example servername=hostname";
    for key in FORMS {
        assert_eq!(world.ask(key).await, renewed, "{key}: no form holds what was purged");
    }
    assert!(world.engine.cache().remove(&hop("relay.example")));
    world.host.policy("relay.example", "enforce", 86_400, "mx.relay.example");
    for key in FORMS {
        assert_eq!(world.ask(key).await, SECURE, "{key}");
    }
    assert_eq!(world.engine.cache().clear(), world.engine.cache().rows().len() + FORMS.len());
    assert!(world.engine.cache().is_empty());
}

/// What a user of postfix-mta-sts-resolver gets for each kind of domain and form of key, said in our own words: the
/// promise that its map may be exchanged for ours. It sends no `servername`; ours is added.
#[tokio::test(start_paused = true)]
async fn a_map_of_postfix_mta_sts_resolver_can_be_exchanged_for_ours() {
    let world = World::with(EngineSettings::default(), Overrides::default(), Arc::new(Forgetful));
    assert_eq!(world.clock.wall(), Clock::manual(START).wall());
    let good = "version: STSv1\nmode: enforce\nmx: mail.example\nmax_age: 86400\n";
    for domain in ["good.example", "off.example", "trial.example", "unannounced.example", "two.example", "odd.example"]
    {
        world.plain_domain(domain);
        world.dns.address(domain, Insecure);
        world.dns.sts(domain, 600, "20180907");
        world.host.serves(domain, good);
    }
    world.host.serves("off.example", "version: STSv1\nmode: none\nmx: mail.example\nmax_age: 86400\n");
    world.host.serves("trial.example", "version: STSv1\nmode: testing\nmx: mail.example\nmax_age: 86400\n");
    world.dns.nothing("_mta-sts.unannounced.example", TXT, Found::NxDomain, Insecure);
    world.dns.txt("_mta-sts.two.example", 600, &["v=STSv1; id=1;", "v=STSv1; id=2;"]);
    world.dns.txt("_mta-sts.odd.example", 600, &["v=STSv1; i=1"]);
    for (domain, body) in [
        ("version2.example", "version: STSv2\nmode: enforce\nmx: mail.example\nmax_age: 86400\n"),
        ("ageless.example", "version: STSv1\nmode: enforce\nmx: mail.example\nmax_age: long\n"),
        ("modeless.example", "version: STSv1\nmx: mail.example\nmax_age: 86400\n"),
    ] {
        world.plain_domain(domain);
        world.dns.sts(domain, 600, "1");
        world.host.serves(domain, body);
    }
    for domain in ["expired.example", "othername.example"] {
        world.plain_domain(domain);
        world.dns.sts(domain, 600, "1");
        world.host.fails(domain, FetchError::Certificate("not valid".into()));
    }
    let secure = "OK secure match=mail.example servername=hostname";
    for key in
        ["good.example", "good.example.", "GOOD.Example", "good.example:123", "[good.example]", "[good.example]:123"]
    {
        assert_eq!(world.ask(key).await, secure, "{key}");
    }
    for domain in [
        "off.example",
        "trial.example",
        "unannounced.example",
        "two.example",
        "odd.example",
        "version2.example",
        "ageless.example",
        "modeless.example",
        "expired.example",
        "othername.example",
    ] {
        assert_eq!(world.ask(domain).await, "NOTFOUND ", "{domain}");
    }
    for key in
        [".good.example", ".unannounced.example", "[.good.example]", "192.0.2.1", "[192.0.2.1]", "[2001:db8::1]:25"]
    {
        assert!(postseal::names::NextHop::parse(key.as_bytes()).is_err(), "{key}: NOTFOUND at once");
    }
    let strict = MapOptions { strict_testing: true, ..MapOptions::default() };
    assert_eq!(world.reply("trial.example", &strict).await, secure);
}
