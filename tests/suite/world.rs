//! The test world itself: that it says what the RFCs say it should.

use std::sync::Arc;

use crate::support::answer::{answer, rcode};
use crate::support::record::rtype;
use crate::support::serve::Served;
use crate::support::world::World;
use crate::support::zone::{Delegation, Denial, Zone};

pub fn sample() -> Vec<Zone> {
    let mail = "
        @ MX 10 mx
        mx A 192.0.2.1
        _25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000000
        *.wild A 192.0.2.7
        alias CNAME mx
        lost CNAME nowhere
        to-wild CNAME some.wild
        a.b.ent A 192.0.2.9
        ";
    vec![
        Zone::new(".").signed(8).servers(2),
        Zone::new("com").signed(8).denial(Denial::opt_out()),
        Zone::new("org").signed(13),
        Zone::new("net").signed(14).denial(Denial::nsec3()),
        Zone::new("rsa.com").signed(8).records(mail),
        Zone::new("ed.com").signed(15).denial(Denial::nsec3()).records(mail),
        Zone::new("plain.com").records(mail).records("out CNAME mx.ec.org."),
        Zone::new("ec.org").signed(13).records(mail).records("away DNAME ed.com.\n into CNAME mx.plain.com."),
        Zone::new("island.org").signed(13).delegation(Delegation::Insecure).records(mail),
        Zone::new("sha512.net")
            .signed(10)
            .denial(Denial::Nsec3 { iterations: 5, salt: vec![0xab], opt_out: false })
            .records(mail),
        Zone::new("wrong.net").signed(13).delegation(Delegation::WrongDigest).records(mail),
        Zone::new("future.net").signed(13).delegation(Delegation::Algorithm(200)).records(mail),
    ]
}

#[test]
fn every_kind_of_answer_has_the_sections_the_rfcs_want() {
    let world = World::build(1_800_000_000, sample());
    let _ = world;
    let mut zone = sample().remove(5);
    zone.finish();
    for (name, qtype, code, answers, nsec3s) in [
        ("mx.ed.com", rtype::A, rcode::NOERROR, 1, 0),
        ("mx.ed.com", rtype::AAAA, rcode::NOERROR, 0, 1),
        ("alias.ed.com", rtype::A, rcode::NOERROR, 2, 0),
        ("x.wild.ed.com", rtype::A, rcode::NOERROR, 1, 1),
        ("x.wild.ed.com", rtype::AAAA, rcode::NOERROR, 0, 3),
        ("ent.ed.com", rtype::A, rcode::NOERROR, 0, 1),
        ("nothing.ed.com", rtype::A, rcode::NXDOMAIN, 0, 3),
    ] {
        let reply = answer(&zone, &name.into(), qtype);
        let denials = reply.authority.iter().filter(|item| item.set.rtype == rtype::NSEC3).count();
        assert_eq!((reply.rcode, reply.answer.len()), (code, answers), "{name}");
        assert!(denials <= nsec3s && (denials > 0) == (nsec3s > 0), "{name}: {denials} NSEC3");
    }
}

#[tokio::test]
#[ignore = "for looking at the world with other resolvers: serves until killed"]
async fn serve_for_inspection() {
    let now = postseal::clock::Clock::system().wall();
    let port = std::env::var("WORLD_PORT").map_or(0, |port| port.parse().unwrap());
    let served = Served::start_on(Arc::new(World::build(now, sample())), port).await;
    println!("port {}", served.port);
    for (name, address) in served.world.hints() {
        println!("hint {name} {address}");
    }
    for ds in served.world.anchor(".") {
        let hex: String = ds[4..].iter().map(|octet| format!("{octet:02x}")).collect();
        println!("anchor . IN DS {} {} {} {hex}", u16::from_be_bytes([ds[0], ds[1]]), ds[2], ds[3]);
    }
    std::future::pending::<()>().await;
}
