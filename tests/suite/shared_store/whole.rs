//! The program itself with a shared store: what it writes there, what it tells, and what it keeps to itself.

use postseal::telemetry::metrics::{SHARED_STORE_FAILING, SHARED_STORE_REQUESTS};

use super::fake::{Fake, Mood};
use super::setting::eventually;
use crate::support::daemon::Daemon;
use crate::support::https::Script;
use crate::support::killable::command;
use crate::support::mail::{domain, foundation, host};
use crate::support::policy_lab::enforce;

const SECURE: &str = "OK secure match=.hosts.net servername=hostname";

/// Standard output and error of a command.
fn said(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = command(daemon.directory(), arguments);
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_shares_what_it_learns_and_shows_no_password() {
    let fake = Fake::start().await;
    let mut zones = foundation();
    let records = "_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts A 127.0.0.1";
    zones.push(domain("sts.com", false, &[host::NONE]).records(records));
    let store = format!("[store]\nshared = \"{}\"\n", fake.url);
    let with_http = |base: String| base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]");
    let daemon = Daemon::start_with(zones, &store, with_http).await;
    daemon.hosts.set("sts.com", Script::policy(&enforce(&["*.hosts.net"])));
    let status = || tokio::task::block_in_place(|| said(&daemon, &["status"]));

    eventually("link", async || status().contains(&format!("{}, up", fake.url))).await;
    assert_eq!(daemon.ask("QUERY sts.com").await, SECURE);
    eventually("entry", async || fake.value("sts.com").is_some()).await;
    let samples = daemon.samples().await;
    assert_eq!(samples.sum(SHARED_STORE_REQUESTS, Some(("operation", "read"))), 1.0);
    assert_eq!(samples.sum(SHARED_STORE_FAILING, None), 0.0);
    let purged = tokio::task::block_in_place(|| said(&daemon, &["purge", "sts.com"]));
    assert_eq!(purged, "1 purged\n");
    eventually("removal", async || fake.value("sts.com").is_none()).await;

    fake.set_mood(Mood::Silent);
    assert_eq!(daemon.ask("QUERY sts.com").await, SECURE, "learnt again without it");
    let text = status();
    assert!(text.contains(&format!("{}, down, 1 changes waiting: no answer within", fake.url)), "{text}");
    assert_eq!(daemon.samples().await.sum(SHARED_STORE_FAILING, None), 1.0);
    assert!(daemon.get("/readyz").await.contains("200 OK"), "readiness does not ask for it");

    for (url, shown) in [
        ("redis://u:secret@h", "shared = \"redis://u:***@h\""),
        ("redis://u:secret@h:x", "`store.shared`: found string \"redis://u:***@h:x\", expected `redis://"),
    ] {
        let set = format!("store.shared={url}");
        let text = tokio::task::block_in_place(|| said(&daemon, &["check-config", "--set", &set]));
        assert!(text.contains(shown) && !text.contains("secret"), "{text}");
    }
}
