//! Denials that nobody needs stay unproven; nothing is ever decided by one, and proving it later costs no exchange.

use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, AAAA, TXT};
use postseal::dns::{Glance, Lookup};

use crate::support::fault::{Fault, On};
use crate::support::lab::{Lab, hickory, verdict};
use crate::support::mail::{STS, USABLE};
use crate::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};
use crate::support::record::rtype;
use crate::support::zone::{Denial, Zone};

fn zones() -> Vec<Zone> {
    let mail = |address: &str| format!("@ MX 10 mx\nmx {address}\n_25._tcp.mx {USABLE}");
    let signed = |name: &str| Zone::new(name).signed(13);
    vec![
        Zone::new(".").signed(8),
        signed("com").denial(Denial::opt_out()),
        signed("dane.com").records(&mail("A 192.0.2.1")),
        signed("hashed.com").denial(Denial::nsec3()).records(&mail("A 192.0.2.1")),
        signed("six.com").records(&mail("AAAA 2001:db8::1")),
        signed("bare.com").records("@ MX 10 mx\nmx A 192.0.2.1"),
        signed("sts.com").records("@ MX 10 mx\nmx A 192.0.2.1").records(STS),
        signed("both.com").records(&mail("A 192.0.2.1")).records(STS),
        Zone::new("plain.com").records("mx A 192.0.2.1\nalias CNAME mx.dane.com."),
        signed("aliased.com").records("@ MX 10 mail\nmail CNAME mx.dane.com."),
    ]
}

fn policy_lab() -> PolicyLab {
    let lab = Lab::in_memory(zones());
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", Host::Policy(Duration::from_millis(20), enforce(&["mx.sts.com"])));
    PolicyLab::new(lab, fetch)
}

async fn glance(lab: &Lab, name: &str, rtype: RecordType) -> String {
    match lab.engine.glance(&hickory(name), rtype).await {
        Ok(Glance::Denied) => "denied".to_owned(),
        Ok(Glance::Answer(answer)) => verdict(&Ok(answer)),
        Err(failure) => verdict(&Err(failure)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_glance_leaves_only_denials_of_signed_zones_unproven() {
    let lab = Lab::in_memory(zones());
    for (name, rtype, expected) in [
        ("mx.dane.com", A, "secure 1"),
        ("mx.dane.com", AAAA, "denied"),
        ("nothing.dane.com", A, "denied"),
        ("mx.hashed.com", AAAA, "denied"),
        ("mx.plain.com", AAAA, "insecure nodata"),
        ("nothing.plain.com", A, "insecure nxdomain"),
    ] {
        assert_eq!(glance(&lab, name, rtype).await, expected, "{name} {rtype}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_seen_at_a_glance_is_proven_without_another_question() {
    for zone in ["dane.com", "hashed.com"] {
        let lab = Lab::in_memory(zones());
        let (mx, sts) = (format!("mx.{zone}"), format!("_mta-sts.{zone}"));
        assert_eq!(glance(&lab, &mx, AAAA).await, "denied");
        assert_eq!(glance(&lab, &sts, TXT).await, "denied");
        lab.world.take_asked();
        assert_eq!(glance(&lab, &mx, AAAA).await, "denied", "still nobody has asked");
        assert_eq!(lab.verdict(&mx, AAAA).await, "secure nodata");
        assert_eq!(lab.verdict(&sts, TXT).await, "secure nxdomain");
        assert_eq!(glance(&lab, &mx, AAAA).await, "secure nodata", "proven by now");
        assert_eq!(lab.world.take_asked().len(), 0, "{zone}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_heard_a_while_ago_is_asked_for_again_and_no_older_for_it() {
    let lab = Lab::in_memory(zones());
    let fresh = lab.lookup("nothing.dane.com", A).await.unwrap().ttl;
    assert_eq!(glance(&lab, "mx.dane.com", AAAA).await, "denied");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let aged = lab.lookup("mx.dane.com", AAAA).await.unwrap().ttl;
    assert_eq!(fresh - aged, 4);
    assert_eq!(glance(&lab, "_mta-sts.dane.com", TXT).await, "denied");
    tokio::time::sleep(Duration::from_secs(11)).await;
    lab.world.take_asked();
    assert_eq!(glance(&lab, "_mta-sts.dane.com", TXT).await, "denied");
    assert_eq!(lab.world.take_asked().len(), 0, "that there was a denial is remembered");
    assert_eq!(lab.verdict("_mta-sts.dane.com", TXT).await, "secure nxdomain");
    assert_eq!(lab.world.take_asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_forged_denial_seen_at_a_glance_is_bogus_for_whoever_asks() {
    for fault in [Fault::ForgedNoData, Fault::ForgedNxDomain, Fault::MissingDenial, Fault::BadSignatures] {
        let lab = Lab::in_memory(zones());
        lab.world.inject(On::name("mx.dane.com").qtype(rtype::AAAA), fault);
        assert_eq!(glance(&lab, "mx.dane.com", AAAA).await, "denied");
        assert_eq!(lab.verdict("mx.dane.com", AAAA).await, "bogus");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_joins_a_glance_that_is_under_way() {
    let lab = Lab::in_memory(zones());
    lab.lookup("dane.com", RecordType::MX).await.unwrap();
    lab.world.take_asked();
    let name = hickory("mx.dane.com");
    let (seen, found) = tokio::join!(lab.engine.glance(&name, AAAA), lab.engine.lookup(&name, AAAA));
    assert_eq!(seen, Ok(Glance::Denied));
    assert_eq!(verdict(&found), "secure nodata");
    assert_eq!(lab.world.take_asked().len(), 1);
}

/// Both address families are asked for at once. By the time that the later answer comes, the earlier one has told where
/// the name leads, and what comes then still is about the name, not about where it leads.
#[tokio::test(start_paused = true)]
async fn an_alias_that_came_with_the_other_address_family_loses_nothing() {
    let late = Fault::Late(Duration::from_millis(50));
    for (alias, qtype) in
        [("mail.aliased.com", rtype::A), ("mail.aliased.com", rtype::AAAA), ("alias.plain.com", rtype::A)]
    {
        let lab = Lab::in_memory(zones());
        lab.world.inject(On::name(alias).qtype(qtype), late.clone());
        let (four, six) = tokio::join!(glance(&lab, alias, A), glance(&lab, alias, AAAA));
        let expected = if alias == "alias.plain.com" { "insecure" } else { "secure" };
        assert_eq!((four, six), (format!("{expected} 1"), format!("{expected} nodata")), "{alias}");
    }
    for qtype in [rtype::A, rtype::AAAA] {
        let lab = policy_lab();
        lab.lab.world.inject(On::name("mail.aliased.com").qtype(qtype), late.clone());
        assert_eq!(lab.ask("aliased.com").await, "OK dane-only");
    }
}

/// An unsigned zone that points at a host of a signed one, and denies the same name a moment later, says nothing about
/// the host.
#[tokio::test(start_paused = true)]
async fn a_denial_beside_an_alias_says_nothing_about_its_target() {
    for denial in [Fault::ForgedNxDomain, Fault::ForgedNoData] {
        let lab = policy_lab();
        let world = &lab.lab.world;
        world.inject(On::name("alias.plain.com").qtype(rtype::A), Fault::Late(Duration::from_millis(50)));
        world.inject(On::name("alias.plain.com").qtype(rtype::A), denial);
        tokio::join!(glance(&lab.lab, "alias.plain.com", A), glance(&lab.lab, "alias.plain.com", AAAA));
        assert_eq!(lab.lab.verdict("mx.dane.com", A).await, "secure 1");
        assert_eq!(lab.ask("dane.com").await, "OK dane-only");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_ipv4_address_is_denied_is_judged_by_the_other_family() {
    assert_eq!(policy_lab().ask("six.com").await, "OK dane-only");
    let lab = policy_lab();
    lab.lab.world.inject(On::name("mx.six.com").qtype(rtype::A), Fault::ForgedNoData);
    assert_eq!(lab.ask("six.com").await, "OK dane-only");
    let lab = policy_lab();
    lab.lab.world.inject(On::name("mx.six.com").qtype(rtype::AAAA), Fault::ForgedNoData);
    let reply = lab.ask("six.com").await;
    assert!(reply.starts_with("TEMP "), "a forged denial is no proof that the host has no address: {reply}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_seems_not_to_be_there_is_proven_absent_only_where_dane_leaves_it_open() {
    let lab = policy_lab();
    assert_eq!(lab.ask("dane.com").await, "OK dane-only");
    lab.lab.world.take_asked();
    assert_eq!(lab.lab.verdict("_mta-sts.dane.com", TXT).await, "secure nxdomain");
    assert_eq!(lab.lab.verdict("mx.dane.com", AAAA).await, "secure nodata");
    assert_eq!(lab.lab.world.take_asked().len(), 0, "what Postfix asks for next is there");

    assert_eq!(lab.ask("bare.com").await, "NOTFOUND ");
    lab.lab.world.take_asked();
    assert_eq!(lab.ask("bare.com").await, "NOTFOUND ");
    assert_eq!(lab.lab.world.take_asked().len(), 0, "the absence is proven, and kept");
    assert!(lab.ask("sts.com").await.starts_with("OK secure "));
}

#[tokio::test(start_paused = true)]
async fn a_policy_beside_dane_is_learnt_while_dane_decides() {
    let lab = Lab::in_memory(zones());
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("both.com", Host::Policy(Duration::from_millis(20), enforce(&["mx.both.com"])));
    let lab = PolicyLab::new(lab, fetch.clone());
    assert_eq!(lab.ask("both.com").await, "OK dane-only");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fetch.fetches.lock().len(), 1);
}
