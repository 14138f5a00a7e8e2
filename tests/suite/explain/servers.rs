//! What was found out of a domain's name servers is told with their addresses: in the chain of trust, and where a lookup
//! failed there.

use postseal::policy::explain::text::{Style, render};

use super::Setting;
use crate::odd_servers::{code, has_capitals};
use crate::support::answer::rcode;
use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::mail::{domain, foundation, host};
use crate::support::wire::Question;

/// FORMERR without OPT to what this is true of.
fn breaks_on(what: fn(&Question) -> bool) -> Fault {
    Fault::patch(move |question, octets| if what(question) { code(&octets, 1, true) } else { octets })
}

async fn explained(signed: bool, faults: Vec<(On, Fault)>) -> (String, String, serde_json::Value) {
    let mut zones = foundation();
    zones.push(domain("sick.com", signed, &[host::USABLE]));
    let lab = Lab::in_memory(zones);
    let server = lab.world.servers_of("sick.com")[0].to_string();
    faults.into_iter().for_each(|(on, fault)| lab.world.inject(on, fault));
    let explanation = Setting::new(lab).explain("sick.com").await;
    (server, render(&explanation, Style::default()), serde_json::to_value(&explanation).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_a_server_cannot_stand_is_told_with_its_address() {
    let on = || On::zone("sick.com");
    for (words, faults) in [
        ("answers only without cookies", vec![(on(), breaks_on(|question| question.cookie.is_some()))]),
        ("breaks on mixed-case questions", vec![(on(), breaks_on(has_capitals))]),
        ("answers only without EDNS", vec![(on(), Fault::CodeToEdns(rcode::FORMERR))]),
        ("answers over TCP alone", vec![(on().udp(), Fault::Silence)]),
    ] {
        for signed in [false, true] {
            let (server, text, json) = explained(signed, faults.clone()).await;
            let line = format!("{server} {words}");
            assert!(text.contains(&line), "signed: {signed}; no \"{line}\" in\n{text}");
            let steps = json["chain"].as_array().unwrap();
            let step = steps.iter().find(|step| step["zone"] == "sick.com").unwrap();
            assert_eq!(step["habits"], serde_json::json!([line]), "signed: {signed}");
            let others = steps.iter().filter(|step| step["zone"] != "sick.com");
            others.for_each(|other| assert_eq!(other["habits"], serde_json::json!([]), "{other}"));
        }
    }
    let (_, _, json) = explained(true, vec![]).await;
    assert!(json["chain"].as_array().unwrap().iter().all(|step| step["habits"] == serde_json::json!([])), "{json}");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_failed_says_what_the_server_cannot_stand() {
    // Signed, and without EDNS there are no signatures.
    let (server, text, json) = explained(true, vec![(On::zone("sick.com"), Fault::CodeToEdns(rcode::FORMERR))]).await;
    let line = format!("(zone sick.com, server {server}, which answers only without EDNS)");
    assert!(text.contains(&line), "{text}");
    assert!(json["advice"].to_string().contains(&line), "{json}");
}
