//! Fetches of policies: a policy host that hangs, however many domains name it, keeps nobody else from a policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postseal::config::MapOptions;
use postseal::dns::{Lookup, Security};
use postseal::limits::{POLICY_LOOKUPS, STS_CONNECTIONS_PER_ADDRESS};
use postseal::policy::mta_sts::{Fetch, FetchError, HttpsFetch};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::policies::domain;
use crate::policy::script::{Dns, World, hop, pass};
use crate::support::https::{PolicyHosts, Script};

const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n";
const SECURE: &str = "OK secure match=mx.innocent.example servername=hostname";
const HOSTILE: usize = 300;

/// Who came to a policy host that hangs.
#[derive(Default)]
struct Visits {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// Policy hosts on 127.0.0.1, and one on 127.0.0.2, at the same port, that accepts and says nothing.
struct Setting {
    hosts: PolicyHosts,
    hanging: Arc<Visits>,
    dns: Dns,
    client: HttpsFetch,
    _tasks: JoinSet<()>,
    _ca: tempfile::NamedTempFile,
}

impl Setting {
    async fn new() -> Self {
        let (hosts, listener) = loop {
            let hosts = PolicyHosts::start().await;
            // Taken by somebody else: another port, then.
            if let Ok(listener) = TcpListener::bind(("127.0.0.2", hosts.address.port())).await {
                break (hosts, listener);
            }
        };
        hosts.set("example.com", Script::policy(POLICY));
        let hanging = Arc::new(Visits::default());
        let (mut tasks, visits) = (JoinSet::new(), Arc::clone(&hanging));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                visits.all.fetch_add(1, Ordering::SeqCst);
                visits.most.fetch_max(visits.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let visits = Arc::clone(&visits);
                connections.spawn(async move {
                    // Until the client leaves.
                    _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    visits.now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let dns = Dns::default();
        let (client, ca) = hosts.client(Arc::new(dns.clone()));
        Self { hosts, hanging, dns, client, _tasks: tasks, _ca: ca }
    }

    /// As the engine has it: each question with a resolver of its own, over one client.
    fn scoped(&self) -> Arc<dyn Fetch> {
        let lookup: Arc<dyn Lookup> = Arc::new(self.dns.clone());
        Fetch::over(&self.client, &lookup).expect("a client")
    }
}

#[tokio::test]
async fn a_policy_host_that_hangs_for_hundreds_of_domains_holds_its_own_share_of_connections() {
    let setting = Setting::new().await;
    setting.dns.addresses("mta-sts.example.com", Security::Insecure, &["127.0.0.1"]);
    let mut fetches = JoinSet::new();
    for n in 0..HOSTILE {
        let name = domain(&format!("d{n}.hostile.example"));
        setting.dns.addresses(&format!("mta-sts.{name}"), Security::Insecure, &["127.0.0.2"]);
        let client = setting.scoped();
        fetches.spawn(async move { client.fetch(&name).await.map(|_| ()) });
    }
    while setting.hanging.most.load(Ordering::SeqCst) < STS_CONNECTIONS_PER_ADDRESS {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        let fetched = setting.scoped().fetch(&domain("example.com")).await;
        assert_eq!(fetched.map(|fetched| fetched.body), Ok(POLICY.into()));
    }
    assert_eq!(setting.hanging.most.load(Ordering::SeqCst), STS_CONNECTIONS_PER_ADDRESS, "of {HOSTILE} that want one");
    fetches.shutdown().await;
}

#[tokio::test]
async fn which_address_worked_is_remembered_from_one_question_to_the_next() {
    let setting = Setting::new().await;
    setting.dns.addresses("mta-sts.example.com", Security::Insecure, &["127.0.0.2", "127.0.0.1"]);
    for round in 0..3 {
        assert!(setting.scoped().fetch(&domain("example.com")).await.is_ok(), "{round}");
    }
    assert_eq!(setting.hosts.take_requests().len(), 3);
    assert_eq!(setting.hanging.all.load(Ordering::SeqCst), 1, "left after the first time");
}

/// `innocent.example` with a policy, and this many domains whose policy host says nothing for a minute.
fn world(hostile: usize) -> World {
    let world = World::new();
    world.sts_domain("innocent.example", "enforce", 86_400, 600);
    for n in 0..hostile {
        let name = format!("hostile{n}.example");
        world.sts_domain(&name, "enforce", 86_400, 600);
        world.host.fails(&name, FetchError::Timeout).delay(&name, Duration::from_secs(60));
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_domains_whose_policy_host_hangs_leaves_a_place_for_others() {
    let count = POLICY_LOOKUPS + 100;
    let world = world(count);
    let mut asked = JoinSet::new();
    for n in 0..count {
        let engine = world.engine.clone();
        let hop = hop(&format!("hostile{n}.example"));
        asked.spawn(async move { engine.answer(&hop, &MapOptions::default()).await.outcome.label() });
    }
    pass(4).await;
    assert_eq!(world.ask("innocent.example").await, SECURE);
    while let Some(label) = asked.join_next().await {
        assert!(matches!(label, Ok("notfound" | "temp")), "{label:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn policy_hosts_that_hang_do_not_keep_others_from_being_renewed_in_time() {
    let world = world(400);
    world.dns.mx("innocent.example", Security::Secure, &["mx.innocent.example"]);
    world.dns.address("mx.innocent.example", Security::Secure);
    world.dns.tlsa("_25._tcp.mx.innocent.example", Security::Secure, true);
    world.dns.ttl("_25._tcp.mx.innocent.example", hickory_proto::rr::RecordType::TLSA, 300);
    tokio::spawn(world.engine.clone().maintain());
    let map = MapOptions::default();
    let hostile: Vec<_> = (0..400).map(|n| hop(&format!("hostile{n}.example"))).collect();
    futures_util::future::join_all(hostile.iter().map(|hop| world.engine.answer(hop, &map))).await;
    // What was fetched in vain is fetched again in the background, and hangs again.
    for round in 0..5 {
        let decision = world.decide("innocent.example", &map).await;
        assert_eq!(decision.outcome.label(), "dane-only");
        assert!(round == 0 || decision.cached, "round {round}: renewed before it ended");
        pass(298).await;
    }
}
