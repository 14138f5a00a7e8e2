//! `postseal explain` as a process: beside a daemon, and alone.

use std::process::Output;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::mail::{break_hosts, domain, foundation, host};

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The daemon's configuration with pages over HTTP.
fn with_http(base: String) -> String {
    base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exit_code_follows_from_the_verdict() {
    let mut zones = foundation();
    zones.push(domain("all.com", true, &[host::USABLE]));
    zones.push(domain("part.com", true, &[host::USABLE, host::NONE]));
    zones.push(domain("unusable.com", true, &[host::UNUSABLE]));
    zones.push(domain("none.com", true, &[host::NONE]));
    zones.push(domain("broken.com", true, &[host::TLSA_BOGUS]));
    let configuration = "[policy.overrides]\n\"override.com\" = \"encrypt\"";
    let daemon = Daemon::start_with(zones, configuration, with_http).await;
    break_hosts(&daemon.world);
    for (key, code, words) in [
        ("all.com", 0, "all.com: protected\n"),
        ("part.com", 5, "part.com: partly protected: at some MX hosts mail goes to whoever answers\n"),
        ("broken.com", 1, "broken.com: Postfix keeps the mail queued\n"),
        ("broken.com", 1, "policy.overrides.\"broken.com\" = \"encrypt\""),
        ("broken.com", 1, "resolver.insecure = [\"hosts.net\"]"),
        ("unusable.com", 3, "unusable.com: encrypted at most"),
        ("none.com", 3, "none.com: no policy\n"),
        ("override.com", 3, "answer: OK encrypt (map QUERY, from policy.overrides)"),
        ("nowhere.com", 3, "nowhere.com: this domain does not exist\n"),
        ("[192.0.2.1]", 3, "because an address, not a name"),
        ("a..b", 2, "a..b: not a mail domain\n├─ did you mean a.b?\n"),
        ("user@all.com", 2, "├─ did you mean all.com?\n"),
        ("ALL.com", 0, "├─ \"ALL.com\" is read as all.com\n"),
    ] {
        let output = daemon.run(&["explain", key]).await;
        assert_eq!(output.status.code(), Some(code), "{key}: {output:?}");
        let text = text(&output);
        assert!(text.contains(words), "{key}: {text}");
        assert!(!text.contains('\x1b'), "no colours where there is no terminal");
    }
    let page = daemon.get("/explain?domain=all.com").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("all.com: protected\n"), "{page}");
    let wrong = daemon.run(&["explain", "--map", "nomap", "all.com"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("no map named nomap"), "{wrong:?}");
    assert_eq!(daemon.run(&["explain"]).await.status.code(), Some(2));
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_tells_its_cache_and_a_look_of_ones_own_does_not() {
    let mut zones = foundation();
    zones.push(domain("all.com", true, &[host::USABLE]));
    let daemon = Daemon::start(zones, "").await;
    assert_eq!(daemon.ask("QUERY all.com").await, "OK dane-only");
    let asked = daemon.run(&["explain", "--json", "all.com"]).await;
    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert_eq!((&told["answer"]["source"], &told["verdict"]), (&"cache".into(), &"protected".into()));
    assert!(told["cached"]["dane"]["ttl"].as_u64().is_some_and(|ttl| ttl > 0), "{told}");
    assert_eq!(told["chain"][0]["zone"], ".");
    let direct = daemon.run(&["explain", "--direct", "--json", "all.com"]).await;
    let told: Value = serde_json::from_slice(&direct.stdout).unwrap();
    assert_eq!(told["answer"]["source"], "lookup");
    assert_eq!(told["cached"]["dane"], Value::Null);
    // Where no daemon runs, it looks by itself, and says so.
    let alone = daemon.run(&["explain", "--set", "state-dir=elsewhere", "all.com"]).await;
    assert_eq!(alone.status.code(), Some(0), "{alone:?}");
    assert!(String::from_utf8_lossy(&alone.stderr).contains("Looking here, without its cache."), "{alone:?}");
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_is_not_counted_whatever_it_finds() {
    let mut zones = foundation();
    zones.push(domain("all.com", true, &[host::USABLE]));
    zones.push(domain("broken.com", true, &[host::TLSA_BOGUS]));
    let daemon = Daemon::start_with(zones, "", with_http).await;
    break_hosts(&daemon.world);
    assert_eq!(daemon.ask("QUERY all.com").await, "OK dane-only");
    let counted = async || -> Vec<String> {
        let samples = daemon.samples().await;
        let ours = |sample: &&postseal::telemetry::samples::Sample| {
            sample.name.starts_with("postseal_") && sample.name != "postseal_connections"
        };
        let mut lines: Vec<String> = samples.iter().filter(ours).map(|sample| format!("{sample:?}")).collect();
        lines.sort();
        lines
    };
    let before = counted().await;
    for key in ["all.com", "broken.com", "nowhere.com"] {
        daemon.run(&["explain", key]).await;
    }
    assert_eq!(counted().await, before);
    assert!(before.iter().any(|line| line.contains("postseal_resolver_upstream_queries_total")));
    assert!(daemon.stop().await);
}
