//! `status`: the running daemon as a whole.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::{fail, print};
use crate::clock::UnixTime;
use crate::config::{Config, Sources};
use crate::control::client::ask;
use crate::control::status::{Anchor, Failing, InsecureZone, SharedStoreStatus, SlowZone, Status, size, span};
use crate::telemetry::clean::clean_lines;

/// How the running daemon is.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        let config = match Config::load(sources) {
            Ok(config) => config,
            Err(error) => return fail(error),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        let response = match runtime.block_on(ask(&config.state_dir, Method::GET, "/status")) {
            Ok(response) if response.status.is_success() => response,
            Ok(response) => return fail(response.body.trim_end()),
            Err(error) => return fail(error),
        };
        match serde_json::from_str::<Status>(&response.body) {
            Ok(_) if self.json => print(&response.body),
            Ok(status) => print(&clean_lines(&block(&status))),
            Err(error) => fail(error),
        }
    }
}

fn block(status: &Status) -> String {
    let ready = if status.missing.is_empty() {
        "ready".to_owned()
    } else {
        format!("not ready: {}", status.missing.join(", "))
    };
    let mut text = format!("postseal {} (pid {}), {ready}\n", status.version, status.pid);
    let mut line = |name: &str, value: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {name:<15} {value}");
    };
    line("up", span(i64::try_from(status.uptime).unwrap_or(i64::MAX)));
    line("root", root(status).to_owned());
    for listening in &status.listeners {
        line(&listening.service, listening.address.clone());
    }
    line("queries", status.queries.to_string());
    if let Some(rate) = status.hit_rate {
        line("from memory", format!("{:.1} %", rate * 100.0));
    }
    line("policy cache", format!("{} next hops, {}", status.cache_entries, size(status.cache_bytes as u64)));
    line("DNS cache", size(status.resolver_cache_bytes));
    line("state", status.store.path.clone());
    line("store", store(status));
    if let Some(SharedStoreStatus { url, state, waiting, error }) = &status.shared_store {
        let waiting = if *waiting > 0 { format!(", {waiting} changes waiting") } else { String::new() };
        let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        line("shared store", format!("{url}, {state}{waiting}{error}"));
    }
    status.trust_anchors.iter().for_each(|key| line("trust anchor", anchor(key, status.now)));
    status.insecure.iter().for_each(|zone| line("not validated", insecure(zone)));
    status.failures.iter().for_each(|failing| line("failed", failure(failing, status.now)));
    status.slow_zones.iter().for_each(|slow| line("slow", zone(slow)));
    text
}

/// Readiness does not depend on it, so it has a line of its own.
fn root(status: &Status) -> &'static str {
    if status.root_reachable { "reached and validated" } else { "CANNOT BE REACHED OR VALIDATED" }
}

fn store(status: &Status) -> String {
    let store = &status.store;
    let waiting = if store.waiting > 0 { format!(", {} changes waiting", store.waiting) } else { String::new() };
    let failing = if store.failing { ", CANNOT BE WRITTEN" } else { "" };
    format!("{}{waiting}{failing}", size(store.bytes))
}

fn anchor(key: &Anchor, now: UnixTime) -> String {
    let Anchor { zone, tag, algorithm, state, .. } = key;
    let seen = match key.refreshed_at {
        0 => "keys not seen yet".to_owned(),
        at => format!("keys seen {} ago", span(now.saturating_sub(at))),
    };
    let next = span(key.next_refresh.saturating_sub(now));
    format!(
        "{zone} {tag} (algorithm {algorithm}) {state} for {}, {seen}, next in {next}",
        span(now.saturating_sub(key.since))
    )
}

fn insecure(zone: &InsecureZone) -> String {
    let InsecureZone { zone, until, ended, forward } = zone;
    let why = if *forward { "forward zone with insecure = true" } else { "negative trust anchor" };
    let until = until.as_ref().map(|day| format!(" until {day}")).unwrap_or_default();
    let ended = if *ended { ": ENDED, validated again" } else { "" };
    format!("{zone} ({why}{until}{ended})")
}

/// Within the last hour.
fn failure(failing: &Failing, now: UnixTime) -> String {
    let last = span(now.saturating_sub(failing.last));
    format!("{} times: {} (last {last} ago: {})", failing.count, failing.reason, failing.example)
}

fn zone(slow: &SlowZone) -> String {
    format!(
        "{}: {:.0} ms, at most {:.0} ms ({} questions, {} without an answer)",
        slow.zone,
        slow.seconds * 1_000.0,
        slow.longest * 1_000.0,
        slow.questions,
        slow.failed
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Listening, StoreStatus};

    #[test]
    fn status_reads_as_a_block_with_a_line_for_each_thing() {
        let status = Status {
            version: "1".into(),
            pid: 7,
            now: 1_120,
            uptime: 3_700,
            missing: vec!["validated root keys".into()],
            root_reachable: false,
            listeners: vec![Listening { service: "socketmap".into(), address: "127.0.0.1:8642".into() }],
            queries: 12,
            hit_rate: Some(0.75),
            cache_entries: 3,
            cache_bytes: 2_048,
            resolver_cache_bytes: 4_096,
            store: StoreStatus { path: "/var/lib/postseal".into(), bytes: 5 << 20, waiting: 2, failing: true },
            shared_store: Some(SharedStoreStatus {
                url: "redis://:***@store:6379".into(),
                state: "down".into(),
                waiting: 2,
                error: Some("no answer within 2s".into()),
            }),
            trust_anchors: vec![Anchor {
                zone: ".".into(),
                tag: 20_326,
                algorithm: 8,
                state: "valid".into(),
                since: 1_000,
                refreshed_at: 0,
                next_refresh: 91_120,
            }],
            insecure: vec![
                InsecureZone { zone: "broken.example".into(), until: Some("2027-01-31".into()), ..Default::default() },
                InsecureZone {
                    zone: "old.example".into(),
                    until: Some("1969-12-31".into()),
                    ended: true,
                    ..Default::default()
                },
                InsecureZone { zone: "cluster.local".into(), forward: true, ..Default::default() },
            ],
            failures: vec![Failing {
                reason: "signature expired".into(),
                count: 4,
                last: 1_060,
                example: "broken.example".into(),
            }],
            slow_zones: vec![SlowZone {
                zone: "slow.example".into(),
                seconds: 1.25,
                longest: 4.0,
                questions: 9,
                failed: 1,
            }],
        };
        let expected = "postseal 1 (pid 7), not ready: validated root keys
  up              1 h 1 min
  root            CANNOT BE REACHED OR VALIDATED
  socketmap       127.0.0.1:8642
  queries         12
  from memory     75.0 %
  policy cache    3 next hops, 2.0 KiB
  DNS cache       4.0 KiB
  state           /var/lib/postseal
  store           5.0 MiB, 2 changes waiting, CANNOT BE WRITTEN
  shared store    redis://:***@store:6379, down, 2 changes waiting: no answer within 2s
  trust anchor    . 20326 (algorithm 8) valid for 2 min, keys not seen yet, next in 1 d 1 h
  not validated   broken.example (negative trust anchor until 2027-01-31)
  not validated   old.example (negative trust anchor until 1969-12-31: ENDED, validated again)
  not validated   cluster.local (forward zone with insecure = true)
  failed          4 times: signature expired (last 1 min ago: broken.example)
  slow            slow.example: 1250 ms, at most 4000 ms (9 questions, 1 without an answer)
";
        assert_eq!(block(&status), expected);
    }
}
