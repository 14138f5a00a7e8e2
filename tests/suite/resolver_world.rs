//! The engine on the test world: what is there, what is not, and how sure that is.

use std::time::Duration;

use hickory_proto::rr::RecordType::{self, A, AAAA, CNAME, DNSKEY, DS, MX, NS, SOA, TLSA, TXT};

use crate::support::fault::{Fault, On};
use crate::support::lab::Lab;
use crate::support::zone::Zone;
use crate::world::sample;

/// Name, type, and what the engine must say.
const ROWS: &[(&str, RecordType, &str)] = &[
    (".", NS, "secure 2"),
    (".", DNSKEY, "secure 2"),
    (".", SOA, "secure 1"),
    ("com", DS, "secure 1"),
    ("com", NS, "secure 1"),
    ("nope", A, "secure nxdomain"),
    ("a.b.nope", A, "secure nxdomain"),
    ("nothing.com", A, "insecure nxdomain"), // opt-out: an unsigned delegation could be there (RFC 5155 §9.2)
    ("nothing.org", A, "secure nxdomain"),
    ("nothing.net", MX, "secure nxdomain"),
    ("plain.com", DS, "insecure nodata"),
    ("island.org", DS, "secure nodata"),
    ("future.net", DS, "secure 1"),
    ("wrong.net", DS, "secure 1"),
    ("wrong.net", MX, "bogus"),
    ("nothing.wrong.net", A, "bogus"),
    ("away.ec.org", A, "secure nodata"),
    ("alias.away.ec.org", A, "secure 1"),
    ("mx.away.ec.org", A, "secure 1"),
    ("mx.away.ec.org", CNAME, "secure 1"),
    ("nothing.away.ec.org", A, "secure nxdomain"),
    ("x.wild.away.ec.org", A, "secure 1"),
    ("out.plain.com", A, "insecure 1"),
    ("into.ec.org", A, "insecure 1"),
];

/// The same in each of the zones with the same records.
const SHARED_ROWS: &[(&str, RecordType, &str)] = &[
    ("@", MX, "1"),
    ("@", NS, "1"),
    ("@", SOA, "1"),
    ("@", TXT, "nodata"),
    ("mx", A, "1"),
    ("mx", AAAA, "nodata"),
    ("_25._tcp.mx", TLSA, "1"),
    ("_tcp.mx", TLSA, "nodata"),
    ("_25._tcp.alias", TLSA, "nxdomain"),
    ("x.wild", A, "1"),
    ("x.wild", AAAA, "nodata"),
    ("a.b.wild", A, "1"),
    ("wild", A, "nodata"),
    ("*.wild", A, "1"),
    ("alias", A, "1"),
    ("alias", AAAA, "nodata"),
    ("alias", CNAME, "1"),
    ("lost", A, "nxdomain"),
    ("to-wild", A, "1"),
    ("ent", A, "nodata"),
    ("b.ent", TXT, "nodata"),
    ("a.b.ent", A, "1"),
    ("c.b.ent", A, "nxdomain"),
    ("nothing", A, "nxdomain"),
    ("a.b.nothing", A, "nxdomain"),
    ("_mta-sts", TXT, "nxdomain"),
];

async fn check(lab: &Lab) {
    let mut wrong = Vec::new();
    let mut expect = async |name: String, rtype: RecordType, expected: String| {
        let found = lab.verdict(&name, rtype).await;
        if found != expected {
            wrong.push(format!("{name} {rtype}: {found}, should be {expected}"));
        }
    };
    for (name, rtype, expected) in ROWS {
        expect((*name).to_owned(), *rtype, (*expected).to_owned()).await;
    }
    for (zone, security) in [
        ("rsa.com", "secure"),
        ("ed.com", "secure"),
        ("plain.com", "insecure"),
        ("ec.org", "secure"),
        ("island.org", "insecure"),
        ("sha512.net", "secure"),
        ("future.net", "insecure"),
    ] {
        for (name, rtype, expected) in SHARED_ROWS {
            let name = if *name == "@" { zone.to_owned() } else { format!("{name}.{zone}") };
            expect(name, *rtype, format!("{security} {expected}")).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_name_of_the_world_is_what_it_is_over_sockets() {
    check(&Lab::on_sockets(sample()).await).await;
}

#[tokio::test(start_paused = true)]
async fn every_name_of_the_world_is_what_it_is_in_memory() {
    check(&Lab::in_memory(sample())).await;
}

#[tokio::test(start_paused = true)]
async fn every_name_of_the_world_is_what_it_is_without_minimisation() {
    let network = |world| crate::support::memory::MemoryNetwork::new(world, crate::support::lab::ROUND_TRIP);
    check(&Lab::in_memory_with(sample(), network, |settings| settings.qname_minimisation = false)).await;
}

#[tokio::test(start_paused = true)]
async fn an_alias_at_a_childs_apex_says_nothing_of_the_parents_ds() {
    let lab = Lab::in_memory(vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("odd.com").records("@ CNAME www.even.com."),
        Zone::new("even.com").records("www A 192.0.2.1"),
    ]);
    assert_eq!(lab.verdict("odd.com", A).await, "insecure 1");
    assert_eq!(lab.verdict("odd.com", DS).await, "secure nodata");
}

#[tokio::test]
async fn faults_that_have_a_way_around_them_are_got_around_over_sockets() {
    let many: String = (0..120).map(|at| format!("many A 192.0.2.{at}\n")).collect();
    let zones = || {
        let records = "@ MX 10 mx\nmx A 192.0.2.1";
        vec![
            Zone::new(".").signed(8),
            Zone::new("com").signed(13),
            Zone::new("signed.com").signed(13).records(records).records(&many),
            Zone::new("plain.com").records(records).records(&many),
        ]
    };
    for (what, on, fault) in [
        ("nothing wrong", On::name("nowhere"), Fault::Silence),
        ("truncated", On::everything(), Fault::Truncate),
        ("late over TCP", On::everything().tcp(), Fault::Late(Duration::from_millis(50))),
        ("late over UDP", On::everything().udp(), Fault::Late(Duration::from_millis(50))),
        ("spoofed first", On::everything(), Fault::SpoofedFirst),
        ("lower case", On::everything(), Fault::LowercaseQuestion),
        ("no EDNS", On::zone("plain.com"), Fault::NoEdns),
        ("FORMERR to EDNS", On::zone("plain.com"), Fault::CodeToEdns(1)),
    ] {
        let lab = Lab::on_sockets(zones()).await;
        lab.world.inject(on, fault);
        for (name, rtype, expected) in [
            ("signed.com", MX, "secure 1"),
            ("plain.com", MX, "insecure 1"),
            ("many.signed.com", A, "secure 120"), // over TCP in any case
            ("many.plain.com", A, "insecure 120"),
            ("nothing.signed.com", A, "secure nxdomain"),
        ] {
            assert_eq!(lab.verdict(name, rtype).await, expected, "{what}: {name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_root_goes_past_every_cache_and_sees_nothing_but_the_root() {
    let lab = Lab::in_memory(sample());
    assert!(lab.engine.look_at_root().await.is_ok());
    assert_eq!(lab.verdict("com", DS).await, "secure 1");
    // Everything below may fail.
    lab.world.inject(On::zone("com"), Fault::Silence);
    lab.world.inject(On::zone("org"), Fault::BadSignatures);
    assert!(lab.engine.look_at_root().await.is_ok());
    for (name, fault) in [
        ("silence", Fault::Silence),
        ("bad signatures", Fault::BadSignatures),
        ("missing signatures", Fault::MissingSignatures),
        ("errors", Fault::Code(2)),
    ] {
        lab.world.heal();
        lab.world.inject(On::zone("."), fault);
        assert!(lab.engine.is_root_validated(), "what was proven is still known");
        let failure = lab.engine.look_at_root().await.expect_err("the root fails");
        assert!(lab.engine.look_at_root().await.is_err(), "{name}: {failure}");
        lab.world.heal();
        assert!(lab.engine.look_at_root().await.is_ok(), "{name}: and is back at once");
    }
}
