//! What the log says: one line for each fresh decision that matters, next to nothing for all else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postseal::limits::LOG_LINES_PER_PERIOD;

use super::support::captured::Captured;
use super::support::daemon::Daemon;
use super::support::https::Script;
use super::support::lab::Lab;
use super::support::mail::{domain, foundation, host};
use super::support::policy_lab::{PolicyLab, ScriptedFetch, enforce};

async fn start() -> Daemon {
    let mut zones = foundation();
    zones.push(domain("dane.com", true, &[host::USABLE]));
    zones.push(domain("plain.com", true, &[host::NONE]));
    zones.push(domain("held.com", true, &[host::BOGUS]));
    for name in ["sts.com", "nopolicy.com"] {
        let records = "_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 127.0.0.1";
        zones.push(domain(name, false, &[host::NONE]).records(records));
    }
    let daemon = Daemon::start(zones, "").await;
    daemon.hosts.set("sts.com", Script::policy(&enforce(&["*.hosts.net"])));
    daemon.hosts.set("nopolicy.com", Script::response("404 Not Found", "", b""));
    daemon
}

/// The lines about decisions, and whatever else is worth the operator's time.
fn decisions(daemon: &Daemon) -> Vec<serde_json::Value> {
    daemon.log.lines().into_iter().filter(|line| !line["domain"].is_null()).collect()
}

/// Asks, and waits until a line written after the answer has come through the pipe.
async fn settle(daemon: &Daemon) {
    let before = daemon.log.of("INFO", "reloaded").len();
    daemon.signal("HUP").await;
    while daemon.log.of("INFO", "reloaded").len() == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fresh_decision_that_matters_has_one_line_with_its_fields() {
    let daemon = start().await;
    let mut client = daemon.connect().await;
    for _ in 0..3 {
        for name in ["dane.com", "sts.com", "plain.com", "held.com", "nopolicy.com", "absent.com"] {
            client.ask(format!("QUERY {name}").as_bytes()).await;
        }
    }
    settle(&daemon).await;
    let lines = decisions(&daemon);
    let seen: Vec<_> =
        lines.iter().map(|line| (line["domain"].as_str().unwrap(), line["answer"].as_str().unwrap())).collect();
    assert_eq!(
        seen,
        [("dane.com", "dane-only"), ("sts.com", "secure"), ("held.com", "temp"), ("nopolicy.com", "notfound")]
    );
    for line in &lines {
        assert_eq!(line["level"], "INFO", "{line}");
        assert!(
            line["dane"].is_string() && line["mta_sts"].is_string() && line["took"].as_f64().unwrap() >= 0.0,
            "{line}"
        );
    }
    assert!(lines[2]["reason"].as_str().unwrap().contains("bogus.net"), "{}", lines[2]);
    assert!(lines[3]["reason"].as_str().unwrap().contains("404"), "{}", lines[3]);
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_at_the_same_time_share_one_line() {
    let daemon = start().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        let mut client = daemon.connect().await;
        client.send(b"QUERY dane.com").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.receive().await, "OK dane-only");
    }
    settle(&daemon).await;
    assert_eq!(decisions(&daemon).len(), 1, "{:?}", decisions(&daemon));
    assert!(daemon.stop().await);
}

#[tokio::test(start_paused = true)]
async fn whenever_they_ask_while_it_is_looked_up() {
    for (name, lines) in [("dane.com", 1), ("bare.com", 0), ("held.com", 1)] {
        let log = Captured::start();
        let mut zones = foundation();
        zones.push(domain("dane.com", true, &[host::USABLE]));
        zones.push(domain("bare.com", true, &[host::NONE]));
        zones.push(domain("held.com", true, &[host::BOGUS]));
        let lab = Lab::in_memory(zones);
        let fetch = ScriptedFetch::new(&lab);
        let lab = Arc::new(PolicyLab::new(lab, fetch));
        // One of the two lookups ends before the other: some ask before, some in between, some after.
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let lab = Arc::clone(&lab);
            asked.spawn(async move { lab.ask(name).await });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let replies: BTreeSet<_> = asked.join_all().await.into_iter().collect();
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert_eq!(log.of("INFO").len(), lines, "{name}: {:?}", log.of("INFO"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_random_names_writes_next_to_nothing() {
    let daemon = start().await;
    let mut client = daemon.connect().await;
    for number in 0..400 {
        assert_eq!(client.ask(format!("QUERY flood-{number}.com").as_bytes()).await, "NOTFOUND ");
    }
    settle(&daemon).await;
    assert_eq!(decisions(&daemon), Vec::<serde_json::Value>::new(), "names that do not exist");
    for number in 0..400 {
        let reply = client.ask(format!("QUERY flood-{number}.bogus.net").as_bytes()).await;
        assert!(reply.starts_with("TEMP "), "{reply}");
    }
    settle(&daemon).await;
    let lines = decisions(&daemon);
    assert!((1..=LOG_LINES_PER_PERIOD as usize).contains(&lines.len()), "{}", lines.len());
    let reasons: BTreeSet<_> = lines.iter().map(|line| line["reason"].to_string()).collect();
    assert!(lines.len() <= 5 * reasons.len(), "{lines:?}");
    let warnings = daemon.log.lines().into_iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(warnings, 0, "a stranger's broken zone is nothing to act on");
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_changes_the_level_of_the_running_process() {
    let daemon = start().await;
    daemon.ask("QUERY plain.com").await;
    settle(&daemon).await;
    assert_eq!(decisions(&daemon), Vec::<serde_json::Value>::new());
    let file = daemon.directory().join("postseal.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("level = \"info\"", "level = \"debug\"")).unwrap();
    settle(&daemon).await;
    daemon.ask("QUERY plain.com").await;
    let line = daemon.log.wait_for("answered").await;
    assert_eq!(
        (&line["level"], &line["domain"], &line["cached"]),
        (&"DEBUG".into(), &"plain.com".into(), &true.into())
    );
    std::fs::write(&file, config.replace("level = \"info\"", "level = \"error\"")).unwrap();
    daemon.signal("HUP").await;
    for _ in 0..1_000 {
        let before = daemon.log.lines().len();
        daemon.ask("QUERY dane.com").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        if daemon.log.lines().len() == before {
            assert!(daemon.stop().await);
            return;
        }
    }
    panic!("still writes: {:?}", daemon.log.lines().last());
}
