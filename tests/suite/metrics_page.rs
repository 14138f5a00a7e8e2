//! Every metric moves when it should (design §12), and none ever names a domain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use postseal::telemetry::metrics::{self as names, METRICS, Values};
use postseal::telemetry::samples::Samples;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use super::support::captured::Captured;
use super::support::daemon::Daemon;
use super::support::fault::{Fault, On};
use super::support::https::{Certificate, Script};
use super::support::lab::Lab;
use super::support::mail::{STS, break_hosts, domain, foundation, host};
use super::support::policy_lab::{Host, PolicyLab, ScriptedFetch, enforce};

const CONFIGURATION: &str = "[dns]\nlisten = [\"127.0.0.1:0\"]\n[cache]\nmax-entries = 100\n[policy]\ntimeout = \"8s\"\n\
                             [maps.\"strict.example\"]\nstrict-testing = true\n";

async fn start() -> Daemon {
    let mut zones = foundation();
    let sts = "_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 127.0.0.1";
    for (name, signed, hosts) in [
        ("only.com", true, &[host::USABLE][..]),
        ("weak.com", false, &[host::USABLE]),
        ("partial.com", true, &[host::NONE, host::TLSA_FAILS]),
        ("plain.com", true, &[host::NONE]),
        ("broken.com", true, &[host::BOGUS]),
    ] {
        zones.push(domain(name, signed, hosts));
    }
    for name in ["enforce.com", "testing.com", "modenone.com", "expired.com", "gone.com", "nonsense.com"] {
        zones.push(domain(name, false, &[host::NONE]).records(sts));
    }
    let http = |base: String| {
        base.replace("[http]\nlisten = []", "[http]\nlisten = [\"127.0.0.1:0\"]\ntlspol-metric-names = true")
    };
    let daemon = Daemon::start_with(zones, CONFIGURATION, http).await;
    break_hosts(&daemon.world);
    let policy = |mode: &str| enforce(&["*.hosts.net"]).replace("enforce", mode);
    daemon.hosts.set("enforce.com", Script::policy(&policy("enforce")));
    daemon.hosts.set("testing.com", Script::policy(&policy("testing")));
    daemon.hosts.set("modenone.com", Script::policy(&policy("none")));
    daemon.hosts.set("expired.com", Script::policy(&policy("enforce")).with_certificate(Certificate::Expired));
    daemon.hosts.set("gone.com", Script::response("404 Not Found", "", b""));
    daemon.hosts.set("nonsense.com", Script::policy("no policy"));
    daemon
}

/// Waits until a sum is above zero.
async fn moves(daemon: &Daemon, name: &str, label: Option<(&str, &str)>) {
    for _ in 0..500 {
        if daemon.samples().await.sum(name, label) > 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} {label:?} stays at zero");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_moves_when_it_should_and_none_names_a_domain() {
    let daemon = start().await;
    daemon.world.inject(On::name("plain.com"), Fault::Truncate);
    let asked = ask_everything(&daemon).await;
    for (name, label, values) in [
        (
            names::QUERIES,
            "answer",
            &["dane-only", "dane", "secure", "notfound", "temp", "not-a-destination", "perm"][..],
        ),
        (names::QUERIES, "map", &["QUERY", "QUERYwithTLSRPT", "other"]),
        (names::CACHE_REQUESTS, "result", &["hit", "miss"]),
        ("postseal_query_duration_seconds_count", "cache", &["hit", "miss"]),
        (names::DANE_RESULTS, "result", &["dane-only", "dane", "partial", "none", "temporary"]),
        (names::MTA_STS_RESULTS, "result", &["enforce", "testing", "none", "absent", "unavailable"]),
        (names::MTA_STS_FETCH, "result", &["ok", "http", "certificate", "invalid"]),
        (names::UPSTREAM_QUERIES, "transport", &["udp", "tcp"]),
        (names::UPSTREAM_ERRORS, "reason", &["servfail", "timeout"]),
        (names::VALIDATIONS, "result", &["secure", "insecure", "bogus", "failed"]),
        (names::DNS_LISTENER_QUERIES, "ad", &["true", "false"]),
        (names::DNS_LISTENER_QUERIES, "rcode", &["noerror", "nxdomain"]),
        (names::TRUST_ANCHOR_INFO, "state", &["valid"]),
    ] {
        for value in values {
            moves(&daemon, name, Some((label, value))).await;
        }
    }
    for name in [
        "postseal_mta_sts_fetch_duration_seconds_count",
        "postseal_resolver_lookup_duration_seconds_count",
        names::RESOLVER_CACHE_BYTES,
        names::CACHE_ENTRIES,
        names::CACHE_EVICTIONS,
        names::TRUST_ANCHOR_LAST_REFRESH,
        names::READY,
        names::ROOT_REACHABLE,
        names::BUILD_INFO,
    ] {
        moves(&daemon, name, None).await;
    }
    connections(&daemon).await;
    let page = daemon.get("/metrics").await;
    names_no_domain(&page, &asked);
    assert!(page.contains("postfix_tlspol_policy_total{policy=\"secure\"} "), "{page}");
    assert!(daemon.stop().await);
}

/// Asks for every kind of domain, over the socketmap and the DNS listener; gives the names.
async fn ask_everything(daemon: &Daemon) -> BTreeSet<String> {
    let mut client = daemon.connect().await;
    let mut asked = BTreeSet::new();
    let known = ["only.com", "weak.com", "partial.com", "plain.com", "broken.com", "enforce.com", "testing.com"];
    let more = ["modenone.com", "expired.com", "gone.com", "nonsense.com", "tlsafails.dead.net"];
    let floods = (0..150).map(|number| format!("flood-{number}-name.com"));
    for name in known.into_iter().chain(more).map(str::to_owned).chain(floods) {
        client.ask(format!("QUERY {name}").as_bytes()).await;
        asked.insert(name);
    }
    for request in [
        "QUERY only.com",
        "QUERYwithTLSRPT enforce.com",
        "QUERY [192.0.2.1]",
        "strict.example testing.com",
        "no-map.example a.com",
    ] {
        client.ask(request.as_bytes()).await;
    }
    asked.extend(["no-map.example".to_owned(), "strict.example".to_owned()]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(daemon.listening.get("dns").expect("it listens")).await.unwrap();
    // MX with AD of a signed domain, an unsigned one, and one that does not exist.
    for name in ["only", "weak", "absent-name"] {
        let label = [&[name.len() as u8], name.as_bytes()].concat();
        let question = [&b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\0"[..], &label, b"\x03com\0\0\x0f\0\x01"].concat();
        socket.send(&question).await.unwrap();
        socket.recv(&mut [0; 4_096]).await.unwrap();
    }
    asked
}

async fn connections(daemon: &Daemon) {
    let _socketmap = daemon.connect().await;
    let _control = UnixStream::connect(daemon.directory().join("state/control.socket")).await.unwrap();
    let mut dns = TcpStream::connect(daemon.listening.get("dns").expect("it listens")).await.unwrap();
    dns.write_all(&[0]).await.unwrap();
    for listener in ["socketmap", "http", "dns", "control"] {
        moves(daemon, names::CONNECTIONS, Some(("listener", listener))).await;
    }
}

/// Label values are of the closed sets of the table, and nothing that was asked for is on the page.
fn names_no_domain(page: &str, asked: &BTreeSet<String>) {
    for name in asked {
        assert!(!page.contains(name.as_str()), "{name} in {page}");
    }
    let samples = Samples::parse(page.split_once("\r\n\r\n").expect("a header").1);
    let mut seen = BTreeSet::new();
    for sample in samples.iter().filter(|sample| sample.name.starts_with("postseal_")) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| sample.name.strip_suffix(part));
        let is_it = |metric: &&names::Metric| metric.name == sample.name || base == Some(metric.name);
        let metric = METRICS.iter().find(is_it).unwrap_or_else(|| panic!("{} is in no table", sample.name));
        seen.insert(metric.name);
        for (name, value) in sample.labels.iter().filter(|(name, _)| name != "le") {
            let label = metric
                .labels
                .iter()
                .find(|label| label.name == name)
                .unwrap_or_else(|| panic!("{name} of {}", metric.name));
            let allowed = match label.values {
                Values::Of(values) => values.contains(&value.as_str()),
                Values::Map => ["QUERY", "QUERYwithTLSRPT", "postfix", "other"].contains(&value.as_str()),
                Values::Number => value.parse::<u16>().is_ok(),
                Values::Version => value == env!("CARGO_PKG_VERSION"),
            };
            assert!(allowed, "{name}=\"{value}\" of {}", metric.name);
        }
    }
    assert_eq!(seen.len(), METRICS.len(), "every metric is there from the start: {seen:?}");
}

/// What a test counts on its own thread.
fn samples_of(recorder: &metrics_exporter_prometheus::PrometheusRecorder) -> Samples {
    Samples::parse(&recorder.handle().render())
}

#[tokio::test(start_paused = true)]
async fn renewals_and_lost_policies_are_counted_and_a_lost_policy_is_a_warning() {
    let log = Captured::start();
    let recorder = PrometheusBuilder::new().build_recorder();
    let _guard = ::metrics::set_default_local_recorder(&recorder);
    let mut zones = foundation();
    zones.push(domain("only.com", true, &[host::USABLE]));
    zones.push(domain("sts.com", false, &[host::NONE]).records(STS));
    let lab = Lab::in_memory(zones);
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("sts.com", Host::Policy(Duration::ZERO, enforce(&["*.hosts.net"]).replace("604800", "86400")));
    let lab = Arc::new(PolicyLab::new(lab, fetch.clone()));
    tokio::spawn(lab.engine.clone().maintain());
    let sum = |name: &str, result: &str| {
        let label = (!result.is_empty()).then_some(("result", result));
        samples_of(&recorder).sum(name, label)
    };
    for _ in 0..60 {
        assert_eq!(lab.ask("only.com").await, "OK dane-only");
        assert!(lab.ask("sts.com").await.starts_with("OK secure"));
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    assert!(sum(names::PREFETCH, "ok") > 0.0);
    assert_eq!(sum(names::POLICY_DOWNGRADES, ""), 0.0);
    // The domain gives DANE up, the other one its policy, and a third begins to fail.
    lab.lab.world.change("hosts.net", |zone| {
        zone.remove(&"_25._tcp.usable.hosts.net".into(), super::support::record::rtype::TLSA)
    });
    lab.lab.world.inject(On::zone("sts.com"), Fault::Code(2));
    for _ in 0..60 {
        lab.ask("only.com").await;
        lab.ask("sts.com").await;
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    assert_eq!(lab.ask("only.com").await, "NOTFOUND ");
    assert_eq!(sum(names::POLICY_DOWNGRADES, ""), 1.0);
    let warnings = log.of("WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let line = &warnings[0];
    assert_eq!(
        (&line["domain"], &line["old"], &line["new"]),
        (&"only.com".into(), &"dane-only".into(), &"none".into())
    );
    assert!(sum(names::PREFETCH, "failed") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_nothing_is_counted_and_shown() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("hints"), ". 3600 IN NS ns.root.\nns.root. 3600 IN A 127.0.0.1\n").unwrap();
    let config = "state-dir = \"state\"\n[socketmap]\nlisten = [\"unix:map.sock\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
                  [resolver]\nroot-hints = \"hints\"\nallow-private-servers = true\nupstream-port = 9\nipv6 = false\n\
                  [log]\nformat = \"json\"\n";
    std::fs::write(at("postseal.toml"), config).unwrap();
    // No file may grow beyond a block; what is written beyond is an error, not a signal.
    let mut process = tokio::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" --config postseal.toml", env!("CARGO_BIN_EXE_postseal")])
        .current_dir(directory.path())
        .env_clear()
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = loop {
        let line: serde_json::Value = serde_json::from_str(&log.next_line().await.unwrap().expect("it runs")).unwrap();
        if line["message"] == "http listening" {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    let scrape = async || {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut response = Vec::new();
        while stream.read_buf(&mut response).await.unwrap() > 0 {}
        Samples::parse(&String::from_utf8(response).unwrap())
    };
    for _ in 0..1_000 {
        let samples = scrape().await;
        if samples.sum(names::STORE_FAILING, None) == 1.0 && samples.sum(names::STORE_WRITE_ERRORS, None) >= 1.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the disk fails, and nothing says so");
}
