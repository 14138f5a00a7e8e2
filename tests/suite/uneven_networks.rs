//! Whatever order answers come in, and whatever else is asked at the same time, what is found is the same.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use hickory_proto::rr::RecordType::{self, A, AAAA, MX, TLSA, TXT};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

use crate::support::fault::{On, catalogue};
use crate::support::lab::{NOW, ROUND_TRIP};
use crate::support::mail::{STS, USABLE};
use crate::support::memory::MemoryNetwork;
use crate::support::policy_lab::{Host, PolicyLab, enforce};
use crate::support::record::rtype;
use crate::support::world::World;
use crate::support::zone::{Denial, Zone};

/// Orders of events that are tried.
const SEEDS: u64 = 60;

fn zones() -> Vec<Zone> {
    let signed = |name: &str, text: &str| Zone::new(name).signed(13).records(&text.replace("TLSA", USABLE));
    let unsigned = |name: &str, text: &str| Zone::new(name).records(&text.replace("TLSA", USABLE));
    let hashed = |name: &str, text: &str| signed(name, text).denial(Denial::nsec3());
    vec![
        Zone::new(".").signed(8),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("net").signed(15),
        // What the others point to.
        signed(
            "hoster.net",
            "mx A 192.0.2.1\n_25._tcp.mx TLSA\nbare A 192.0.2.2\nsix AAAA 2001:db8::1\n_25._tcp.six TLSA",
        )
        .records(STS),
        unsigned("open.net", "mx A 192.0.2.3\n_25._tcp.mx TLSA"),
        // Aliases at every place.
        signed("abroad.com", "@ MX 10 mail\nmail CNAME mx.hoster.net."),
        hashed("within.com", "@ MX 10 mail\nmail CNAME mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA"),
        hashed("twice.com", "@ MX 10 mail\nmail CNAME relay\nrelay CNAME mx.hoster.net."),
        signed("six.com", "@ MX 10 mail\nmail CNAME six.hoster.net."),
        signed("bare.com", "@ MX 10 mail\nmail CNAME bare.hoster.net."),
        signed("own.com", "@ MX 10 mail\nmail CNAME bare.hoster.net.\n_25._tcp.mail TLSA"),
        signed("outwards.com", "@ MX 10 mail\nmail CNAME mx.open.net."),
        unsigned("inwards.com", "@ MX 10 mail\nmail CNAME mx.hoster.net."),
        hashed("tlsa-alias.com", "@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx CNAME _25._tcp.mx.hoster.net."),
        signed("renamed.com", "@ MX 10 mx.old\nold DNAME hoster.net."),
        hashed("wild.com", "@ MX 10 mx.any\n* CNAME mx.hoster.net."),
        signed("several.com", "@ MX 10 mail\n@ MX 20 mx.hoster.net.\nmail CNAME mx.hoster.net."),
        // None.
        signed("dane.com", "@ MX 10 mx\nmx A 192.0.2.1\nmx AAAA 2001:db8::2\n_25._tcp.mx TLSA"),
        hashed("none.com", "@ MX 10 mx\nmx A 192.0.2.1"),
        signed("apex.com", "@ A 192.0.2.1\n_25._tcp TLSA"),
        signed("sts.com", "@ MX 10 mx\nmx A 192.0.2.1\n_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts CNAME mx.hoster.net."),
        unsigned(
            "sts-alias.com",
            "@ MX 10 mx\nmx A 192.0.2.1\n_mta-sts CNAME _mta-sts.hoster.net.\nmta-sts A 192.0.2.9",
        ),
        // Points to signed zones, and says something else for other types: see `HOSTILE_TYPES`.
        unsigned("hostile.com", "@ MX 10 a\n@ MX 20 b\n@ MX 30 mx.c\na CNAME mx.hoster.net.\nb CNAME mx.dane.com.")
            .records("c DNAME hoster.net.\n_mta-sts CNAME _mta-sts.hoster.net.\nmta-sts CNAME mta-sts.hoster.net."),
    ]
}

/// Key, reply.
const REPLIES: &[(&str, &str)] = &[
    ("abroad.com", "OK dane-only"),
    ("within.com", "OK dane-only"),
    ("twice.com", "OK dane-only"),
    ("six.com", "OK dane-only"),
    ("bare.com", "NOTFOUND "),
    ("own.com", "OK dane-only"),
    ("outwards.com", "NOTFOUND "),
    ("inwards.com", "NOTFOUND "),
    ("tlsa-alias.com", "OK dane-only"),
    ("renamed.com", "OK dane-only"),
    ("wild.com", "OK dane-only"),
    ("several.com", "OK dane-only"),
    ("dane.com", "OK dane-only"),
    ("none.com", "NOTFOUND "),
    ("apex.com", "OK dane-only"),
    ("sts.com", "OK secure match=mx.sts.com servername=hostname"),
    ("sts-alias.com", "OK secure match=mx.sts-alias.com servername=hostname"),
    ("nowhere.com", "NOTFOUND "),
    ("[mx.hoster.net]", "OK dane-only"),
    ("[mail.twice.com]:25", "OK dane-only"),
];

/// Name, type, verdict: what Postfix looks up by itself meanwhile.
const VERDICTS: &[(&str, RecordType, &str)] = &[
    ("abroad.com", MX, "secure 1"),
    ("mail.abroad.com", A, "secure 1"),
    ("mail.abroad.com", AAAA, "secure nodata"),
    ("mail.twice.com", A, "secure 1"),
    ("mail.twice.com", AAAA, "secure nodata"),
    ("mail.six.com", A, "secure nodata"),
    ("mail.six.com", AAAA, "secure 1"),
    ("mail.outwards.com", A, "insecure 1"),
    ("mail.inwards.com", A, "insecure 1"),
    ("mail.inwards.com", AAAA, "insecure nodata"),
    ("mx.old.renamed.com", A, "secure 1"),
    ("mx.any.wild.com", A, "secure 1"),
    ("_25._tcp.mx.tlsa-alias.com", TLSA, "secure 1"),
    ("mx.hoster.net", A, "secure 1"),
    ("mx.hoster.net", AAAA, "secure nodata"),
    ("_25._tcp.mx.hoster.net", TLSA, "secure 1"),
    ("mx.dane.com", A, "secure 1"),
    ("_mta-sts.dane.com", TXT, "secure nxdomain"),
    ("mx.none.com", AAAA, "secure nodata"),
    ("_25._tcp.mx.none.com", TLSA, "secure nxdomain"),
];

/// What an attacker answers otherwise than the zone has it.
const HOSTILE_TYPES: [u16; 4] = [rtype::A, rtype::AAAA, rtype::TXT, rtype::MX];

fn world() -> Arc<World> {
    Arc::new(World::build(NOW, zones()))
}

fn cold(world: &Arc<World>, network: MemoryNetwork) -> PolicyLab {
    let policy = |domain| Host::Policy(ROUND_TRIP, enforce(&[&format!("mx.{domain}")]));
    PolicyLab::on_world(world, network, ["sts.com", "sts-alias.com"].map(|domain| (domain, policy(domain))))
}

#[tokio::test(start_paused = true)]
async fn each_question_alone() {
    let world = world();
    let fresh = || cold(&world, MemoryNetwork::new(world.clone(), ROUND_TRIP));
    for (key, reply) in REPLIES {
        assert_eq!(fresh().ask(key).await, *reply, "{key}");
    }
    for (name, rtype, verdict) in VERDICTS {
        assert_eq!(fresh().lab.verdict(name, *rtype).await, *verdict, "{name} {rtype}");
    }
}

/// Every question, each after a moment of its own.
async fn ask_all(lab: &PolicyLab, mut moment: impl FnMut() -> Duration, when: &str) {
    let replies = REPLIES.iter().map(|(key, expected)| (key.to_string(), lab.ask(key).boxed(), expected));
    let verdicts = VERDICTS
        .iter()
        .map(|(name, rtype, expected)| (format!("{name} {rtype}"), lab.lab.verdict(name, *rtype).boxed(), expected));
    let questions = replies.chain(verdicts).map(|(what, question, expected)| {
        let moment = sleep(moment());
        async move {
            moment.await;
            assert_eq!(question.await, *expected, "{what}, {when}");
        }
    });
    join_all(questions).await;
}

#[tokio::test(start_paused = true)]
async fn all_questions_at_once_while_packets_overtake_each_other() {
    let (world, faults) = (world(), catalogue());
    for seed in 0..SEEDS {
        let mut random = StdRng::seed_from_u64(seed);
        let (what, fault) = &faults[seed as usize % faults.len()];
        let qtype = HOSTILE_TYPES[random.random_range(0..HOSTILE_TYPES.len())];
        world.heal();
        world.inject(On::zone("hostile.com").qtype(qtype), fault.clone());
        let when = format!("seed {seed}, hostile.com with {what} for type {qtype}");

        let lab = cold(&world, MemoryNetwork::new(world.clone(), ROUND_TRIP).uneven(seed));
        let moment = || Duration::from_millis(random.random_range(0..200));
        join(ask_all(&lab, moment, &when), lab.ask("hostile.com")).await;
        ask_all(&lab, || Duration::ZERO, &format!("{when}, once more")).await;
    }
}
