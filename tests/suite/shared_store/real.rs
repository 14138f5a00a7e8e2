//! Replicas that share a real server: what it does when it hangs, dies, is full, moves, or is told not to listen.
//! They need redis-server and are run by `.ci/stages/57-shared-store`.

use std::time::Duration;

use postseal::cache::shared::LinkState;
use postseal::limits::SHARED_READ_WAIT;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::time::Instant;

use super::fake::key;
use super::server::{Server, Watched, cluster};
use super::setting::{Owners, Replica, eventually, secure};

const DAY_MS: i64 = 86_400_000;

/// One replica learns a policy, another that cannot fetch serves it.
async fn learn_and_serve(url: &str, authorities: Option<String>) -> (Replica, Replica, Owners) {
    let owners = Owners::default();
    let one = Replica::connected(url, authorities.clone(), &owners).await;
    let two = Replica::connected(url, authorities, &owners).await;
    two.block();
    for number in 0..30 {
        let name = format!("d{number}.example");
        owners.publish(&name, "1", "enforce", "mx.example");
        assert_eq!(one.ask(&name).await, secure("mx.example"));
    }
    one.written().await;
    for number in 0..30 {
        assert_eq!(two.ask(&format!("d{number}.example")).await, secure("mx.example"), "d{number}");
    }
    assert_eq!(two.fetches(), 0);
    (one, two, owners)
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn one_server_a_policy_is_shared_and_ends_with_its_life() {
    let server = Server::start(&[]).await;
    let (one, _two, _) = learn_and_serve(&server.url(), None).await;
    let left: i64 = server.command(&["PTTL", &key("d0.example")]).trim().parse().unwrap();
    assert!(left > DAY_MS - 60_000 && left <= DAY_MS, "{left}");
    assert!(one.purge("d0.example"));
    eventually("removal", async || server.command(&["EXISTS", &key("d0.example")]).trim() == "0").await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_user_of_the_page_may_do_all_that_is_needed() {
    let server = Server::start(&[]).await;
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/replicas.md")).unwrap();
    let (_, rest) = page.split_once("`ACL SETUSER ").expect("the command");
    let (rules, _) = rest.split_once('`').unwrap();
    let rules: Vec<&str> = rules.split_whitespace().collect();
    assert!(server.command(&[&["ACL", "SETUSER"], rules.as_slice()].concat()).contains("OK"));
    assert!(server.command(&["ACL", "SETUSER", "default", "off"]).contains("OK"));
    let port = server.port;
    let (one, ..) = learn_and_serve(&format!("redis://postseal:secret@127.0.0.1:{port}/0"), None).await;
    assert!(one.purge("d0.example"));
    one.written().await;
    for wrong in ["redis://postseal:wrong@", "redis://:secret@", "redis://"] {
        let owners = Owners::default();
        owners.publish("a.example", "1", "enforce", "mx.a.example");
        let replica = Replica::new(&format!("{wrong}127.0.0.1:{port}"), None, &owners);
        replica.until(LinkState::Down).await;
        assert_eq!(replica.ask("a.example").await, secure("mx.a.example"), "{wrong}");
        let error = replica.store.status().error.expect("an error");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// What a user may do, as docs/replicas.md says, and more for the kind of store.
fn rules(more: &'static [&'static str]) -> Vec<&'static str> {
    let usual = ["ACL", "SETUSER", "postseal", "on", ">secret", "~postseal:*", "+getrange", "+set", "+del"];
    let page = include_str!("../../../docs/replicas.md");
    for rule in usual[2..].iter().chain(more) {
        assert!(page.contains(rule), "{rule}");
    }
    [&usual, more].concat()
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn few_permissions_are_enough_with_sentinels_another_database_and_in_a_cluster() {
    let with_login = |url: String| url.replace("://", "://postseal:secret@");
    let watched = Watched::start().await;
    for server in [&watched.master, &watched.replica] {
        assert!(server.command(&rules(&[])).contains("OK"));
    }
    learn_and_serve(&with_login(watched.url()), None).await;
    let alone = Server::start(&[]).await;
    assert!(alone.command(&rules(&["+select"])).contains("OK"));
    learn_and_serve(&with_login(format!("{}/1", alone.url().trim_end_matches("/0"))), None).await;
    let nodes = cluster().await;
    for node in &nodes {
        assert!(node.command(&rules(&["+cluster|slots", "+asking"])).contains("OK"));
    }
    learn_and_serve(&with_login(format!("redis+cluster://127.0.0.1:{}", nodes[1].port)), None).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn tls_is_verified_with_the_ca_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let ca = |name: &str| {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Not that of the certificate: it would look signed by itself.
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (parameters.self_signed(&key).unwrap().pem(), Issuer::new(parameters, key))
    };
    let ((ca_pem, issuer), (other_pem, _)) = (ca("ca.example"), ca("other.example"));
    let key = KeyPair::generate().unwrap();
    let parameters = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = parameters.signed_by(&key, &issuer).unwrap().pem();
    for (name, text) in [("ca.pem", &ca_pem), ("certificate.pem", &certificate), ("key.pem", &key.serialize_pem())] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let server = Server::start_tls(directory.path()).await;
    let url = format!("rediss://127.0.0.1:{}", server.port);
    learn_and_serve(&url, Some(ca_pem.clone())).await;
    let owners = Owners::default();
    let plain = url.replace("rediss", "redis");
    for (name, url, authorities) in
        [("another CA", &url, Some(other_pem)), ("Mozilla's CAs", &url, None), ("without TLS", &plain, Some(ca_pem))]
    {
        let replica = Replica::new(url, authorities, &owners);
        replica.until(LinkState::Down).await;
        assert!(replica.store.status().error.is_some(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn killed_under_load_no_mail_waits_no_policy_is_lost_and_all_is_shared_again() {
    let mut server = Server::start(&[]).await;
    let (one, two, owners) = learn_and_serve(&server.url(), None).await;
    two.unblock();
    let (mut slowest, mut asked) = (Duration::ZERO, 0);
    for round in 0..6 {
        match round {
            1 | 4 => server.kill(),
            2 | 5 => server.start_again().await,
            _ => {}
        }
        for number in 0..300 {
            let (fresh, known) = (format!("r{round}n{number}.example"), format!("d{}.example", number % 30));
            owners.publish(&fresh, "1", "enforce", "mx.example");
            let (a, b) = tokio::join!(one.timed(&fresh), two.timed(&known));
            for (reply, took) in [a, b] {
                assert_eq!(reply, secure("mx.example"), "round {round}");
                slowest = slowest.max(took);
                asked += 1;
            }
        }
    }
    println!("{asked} lookups, the slowest took {slowest:?}");
    assert!(slowest < SHARED_READ_WAIT * 2, "{slowest:?}");
    one.until(LinkState::Up).await;
    one.written().await;
    assert_eq!(server.command(&["EXISTS", &key("r4n7.example")]).trim(), "1", "learnt while it was dead");
    assert_eq!(server.command(&["EXISTS", &key("r0n7.example")]).trim(), "0", "it came back empty");
    for number in 0..30 {
        assert_eq!(two.ask(&format!("d{number}.example")).await, secure("mx.example"), "not lost here");
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_hangs_costs_one_short_wait() {
    let server = Server::start(&[]).await;
    let (one, _two, owners) = learn_and_serve(&server.url(), None).await;
    server.stop();
    for (name, longest) in [("h1.example", SHARED_READ_WAIT * 3), ("h2.example", SHARED_READ_WAIT)] {
        owners.publish(name, "1", "enforce", "mx.example");
        let (reply, took) = one.timed(name).await;
        assert_eq!(reply, secure("mx.example"));
        assert!(took < longest, "{name}: {took:?}");
    }
    assert_eq!(one.store.status().link, LinkState::Down);
    server.resume();
    one.until(LinkState::Up).await;
    one.written().await;
    assert_eq!(server.command(&["EXISTS", &key("h1.example"), &key("h2.example")]).trim(), "2");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_idle_server_that_hangs_is_noticed_before_a_mail_does() {
    let server = Server::start(&[]).await;
    let (one, two, _) = learn_and_serve(&server.url(), None).await;
    server.stop();
    let begun = Instant::now();
    one.until(LinkState::Down).await;
    two.until(LinkState::Down).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    server.resume();
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_full_server_is_read_and_gets_the_writes_when_there_is_room() {
    let server = Server::start(&[]).await;
    let (one, two, owners) = learn_and_serve(&server.url(), None).await;
    assert!(server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).contains("OK"));
    assert!(server.command(&["CONFIG", "SET", "maxmemory", "1"]).contains("OK"));
    owners.publish("full.example", "1", "enforce", "mx.example");
    assert_eq!(one.ask("full.example").await, secure("mx.example"));
    assert!(two.purge("d3.example"), "a removal makes room and is taken");
    two.written().await;
    assert_eq!((one.store.status().link, one.store.status().pending), (LinkState::Up, 1));
    assert!(server.command(&["CONFIG", "SET", "maxmemory", "0"]).contains("OK"));
    one.written().await;
    assert_eq!(server.command(&["EXISTS", &key("full.example")]).trim(), "1");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn values_of_other_kinds_are_skipped_and_written_over() {
    let server = Server::start(&[]).await;
    let owners = Owners::default();
    owners.publish("a.example", "1", "enforce", "mx.a.example");
    let name = key("a.example");
    let long = "x".repeat(100_000);
    for garbage in
        [&["SET", &name, "hello"][..], &["RPUSH", &name, "1"], &["HSET", &name, "a", "b"], &["SET", &name, &long]]
    {
        server.command(&["DEL", &name]);
        server.command(garbage);
        let replica = Replica::connected(&server.url(), None, &owners).await;
        assert_eq!(replica.ask("a.example").await, secure("mx.a.example"), "{}", garbage[0]);
        replica.written().await;
        assert_eq!(replica.store.status().link, LinkState::Up, "{}", garbage[0]);
        let other = Replica::connected(&server.url(), None, &owners).await;
        other.block();
        assert_eq!(other.ask("a.example").await, secure("mx.a.example"), "{}", garbage[0]);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn with_sentinels_the_new_master_is_found() {
    let mut watched = Watched::start().await;
    let (one, two, owners) = learn_and_serve(&watched.url(), None).await;
    watched.master.kill();
    owners.publish("meanwhile.example", "1", "enforce", "mx.example");
    assert_eq!(one.ask("meanwhile.example").await, secure("mx.example"), "no mail waits for the failover");
    eventually("failover", async || watched.replica.command(&["ROLE"]).contains("master")).await;
    for replica in [&one, &two] {
        eventually("link", async || {
            replica.ask("probe.example").await;
            replica.store.status().link == LinkState::Up
        })
        .await;
    }
    one.written().await;
    assert_eq!(two.ask("meanwhile.example").await, secure("mx.example"), "learnt during the failover");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn in_a_cluster_every_node_has_its_part_and_the_loss_of_one_holds_no_mail() {
    let mut nodes = cluster().await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", nodes[0].port, nodes[1].port);
    let (one, _two, owners) = learn_and_serve(&format!("redis+cluster://{hosts}"), None).await;
    for node in &nodes {
        let count: usize = node.command(&["DBSIZE"]).trim().parse().unwrap();
        assert!(count > 0, "a node without entries");
    }
    nodes[2].kill();
    for number in 0..60 {
        let name = format!("c{number}.example");
        owners.publish(&name, "1", "enforce", "mx.example");
        let (reply, took) = one.timed(&name).await;
        assert_eq!(reply, secure("mx.example"));
        assert!(took < SHARED_READ_WAIT * 2, "{took:?}");
    }
}
