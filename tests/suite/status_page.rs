//! The page `/` in a real browser: what it shows with scripts and without, on a desk and on a phone.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use postseal::telemetry::metrics::{CACHE_ENTRIES, CACHE_REQUESTS, DANE_RESULTS, MTA_STS_RESULTS, QUERIES};

use super::support::daemon::Daemon;
use super::support::https::Script;
use super::support::mail::{break_hosts, domain, foundation, host};
use super::support::policy_lab::enforce;

/// A daemon with something to show.
async fn start() -> Daemon {
    let mut zones = foundation();
    zones.push(domain("dane.com", true, &[host::USABLE]));
    zones.push(domain("held.com", true, &[host::BOGUS]));
    zones.push(domain("dead.com", true, &[host::DEAD]));
    zones.push(domain("sts.com", false, &[host::NONE]).records("_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts A 127.0.0.1"));
    zones
        .push(domain("gone.com", false, &[host::NONE]).records("_mta-sts TXT \"v=STSv1; id=1;\"\nmta-sts A 127.0.0.1"));
    let http = |base: String| base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]");
    let daemon = Daemon::start_with(zones, "[policy]\ntimeout = \"4s\"\n", http).await;
    break_hosts(&daemon.world);
    daemon.hosts.set("sts.com", Script::policy(&enforce(&["*.hosts.net"])));
    daemon.hosts.set("gone.com", Script::response("404 Not Found", "", b""));
    let mut client = daemon.connect().await;
    for name in ["dane.com", "sts.com", "gone.com", "held.com", "dead.com", "dane.com", "sts.com", "dane.com"] {
        client.ask(format!("QUERY {name}").as_bytes()).await;
    }
    daemon
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_the_daemon_as_it_is() {
    let daemon = start().await;
    // The root's keys are looked at in the background.
    while daemon.get("/readyz").await.contains("503") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Silence takes its time until it is known as such.
    let known = ["<td class=\"name\">dead.net</td>", "<dt>next hops known</dt><dd>5</dd>"];
    let mut page = daemon.get("/").await;
    while !known.iter().all(|part| page.contains(part)) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        page = daemon.get("/").await;
    }
    for part in [
        "<span class=\"state ready\">ready</span>",
        "<dt>queries answered</dt><dd>8</dd>",
        "<dt>from memory</dt><dd>37.5 %</dd>",
        "<dt>next hops known</dt><dd>5</dd>",
        "no DNSKEY matches DS",
        "MTA-STS policy host answers without a policy",
        "<td class=\"name\">gone.com</td>",
        "<td class=\"name\">dead.net</td>",
        "valid for ",
        "<td class=\"\">socketmap</td>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(command(&daemon, &["healthcheck"]).await.0);
    let (_, text) = command(&daemon, &["status"]).await;
    for part in [
        ", ready\n",
        "  queries         8\n",
        "MTA-STS policy host answers without a policy",
        "  slow            dead.net: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (_, json) = command(&daemon, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&status["queries"], &status["missing"]), (&8.into(), &serde_json::json!([])));
    let keys: Vec<_> = status["trust_anchors"].as_array().unwrap().iter().map(|key| key["state"].as_str()).collect();
    assert_eq!(keys, [Some("valid")], "{status}");
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_changes_nothing_and_answers_while_lookups_hang() {
    let daemon = start().await;
    let counts = async || {
        let samples = daemon.samples().await;
        [QUERIES, CACHE_REQUESTS, CACHE_ENTRIES, DANE_RESULTS, MTA_STS_RESULTS].map(|name| samples.sum(name, None))
    };
    let (_, dump) = command(&daemon, &["dump"]).await;
    let before = counts().await;
    for _ in 0..5 {
        assert!(command(&daemon, &["status"]).await.0);
        daemon.get("/").await;
    }
    assert_eq!(counts().await, before);
    let domains =
        |text: &str| text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(domains(&command(&daemon, &["dump"]).await.1), domains(&dump));
    // Each of these waits for servers that are silent.
    let mut waiting = Vec::new();
    for number in 0..300 {
        let mut client = daemon.connect().await;
        client.send(format!("QUERY wait-{number}.dead.net").as_bytes()).await;
        waiting.push(client);
    }
    let (asked, timely) = (postseal::clock::Instant::now(), std::time::Duration::from_secs(3));
    assert!(command(&daemon, &["status"]).await.0);
    assert!(daemon.get("/").await.starts_with("HTTP/1.1 200 "));
    assert!(asked.elapsed() < timely, "{:?}", asked.elapsed());
    assert!(daemon.stop().await);
}

/// Runs a command of the binary against that daemon; whether it succeeds, and what it prints.
async fn command(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_postseal"));
    command.args(["--config", "postseal.toml"]).args(arguments).current_dir(daemon.directory()).env_clear();
    let output = command.output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// Where Chromium is, and where its pictures go.
fn chromium() -> (String, PathBuf) {
    let output = std::env::var_os("CI_OUTPUT").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let directory = output.join("page");
    std::fs::create_dir_all(&directory).unwrap();
    (std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned()), directory)
}

/// One run of the browser, in a profile of its own; its standard output.
fn browse(arguments: &[&str]) -> String {
    let (program, _) = chromium();
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--hide-scrollbars", "--virtual-time-budget=8000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .expect("Chromium runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium: .ci/stages/46-page"]
async fn the_page_is_readable_in_a_browser_on_a_desk_and_on_a_phone() {
    let daemon = start().await;
    while daemon.get("/readyz").await.contains("503") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let address = daemon.listening.get("http").unwrap().clone();
    tokio::task::spawn_blocking(move || {
        let url = format!("http://{address}/");
        let (_, directory) = chromium();
        for (name, size, more) in [
            ("desktop", "1200,1500", &[][..]),
            ("desktop-dark", "1200,1500", &["--blink-settings=preferredColorScheme=0"]),
            ("phone", "390,1900", &["--force-device-scale-factor=2"]),
        ] {
            let picture = directory.join(format!("{name}.png"));
            let (shot, size) = (format!("--screenshot={}", picture.display()), format!("--window-size={size}"));
            browse(&[&[shot.as_str(), size.as_str()], more, &[url.as_str()]].concat());
            let octets = std::fs::read(&picture).unwrap();
            assert!(octets.starts_with(b"\x89PNG") && octets.len() > 20_000, "{name}: {} octets", octets.len());
        }
        // The style took effect under the security policy, and nothing is wider than a phone.
        let dom = browse(&["--window-size=390,1900", "--dump-dom", &url]);
        assert!(dom.contains("<h1>postseal</h1>") && dom.contains("<form action=\"/explain\">"), "{dom}");
        // The query box asks by itself where the address says for what, and shows the answer as text.
        let dom = browse(&["--dump-dom", &format!("{url}?domain=dane.com")]);
        let (_, answer) = dom.split_once("<pre>").expect("an answer");
        let (answer, _) = answer.split_once("</pre>").expect("its end");
        assert!(answer.contains("dane.com") || answer.contains("not found"), "{answer}");
        assert!(!answer.contains('<'), "{answer}");
    })
    .await
    .unwrap();
    assert!(daemon.stop().await);
}
