//! `status`: the running daemon as a whole.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::{fail, print};
use crate::clock::{Clock, UnixTime};
use crate::config::{Config, Sources};
use crate::control::client::ask;
use crate::control::status::{Anchor, Status};

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
            Ok(status) => print(&block(&status, Clock::system().wall())),
            Err(error) => fail(error),
        }
    }
}

fn block(status: &Status, now: UnixTime) -> String {
    let ready = if status.missing.is_empty() {
        "ready".to_owned()
    } else {
        format!("not ready: {}", status.missing.join(", "))
    };
    let mut text = format!("postseal {} (pid {}), {ready}\n", status.version, status.pid);
    // Writing into a String cannot fail.
    let _ = writeln!(text, "  up              {}", span(i64::try_from(status.uptime).unwrap_or(i64::MAX)));
    let _ = writeln!(text, "  state           {}", status.state_dir);
    let _ = writeln!(text, "  policy cache    {} next hops", status.cache_entries);
    let _ = writeln!(text, "  DNS cache       {} KiB", status.resolver_cache_bytes / 1024);
    for anchor in &status.trust_anchors {
        let _ = writeln!(text, "  trust anchor    {}", line(anchor, now));
    }
    text
}

fn line(anchor: &Anchor, now: UnixTime) -> String {
    let Anchor { zone, tag, algorithm, state, .. } = anchor;
    let seen = match anchor.refreshed_at {
        0 => "keys not seen yet".to_owned(),
        at => format!("keys seen {} ago", span(now.saturating_sub(at))),
    };
    let next = span(anchor.next_refresh.saturating_sub(now));
    format!(
        "{zone} {tag} (algorithm {algorithm}) {state} for {}, {seen}, next in {next}",
        span(now.saturating_sub(anchor.since))
    )
}

/// A time span in its two largest units.
fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(size, _)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut rest = seconds;
    let parts = units.iter().skip(first).take(2).filter_map(|(size, name)| {
        let count = rest / size;
        rest %= size;
        (count > 0 || *size == 1 && seconds == 0).then(|| format!("{count} {name}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_reads_as_a_block_with_a_line_for_each_key() {
        let status = Status {
            version: "1".into(),
            pid: 7,
            uptime: 3_700,
            missing: vec!["validated root keys".into()],
            cache_entries: 3,
            resolver_cache_bytes: 4_096,
            state_dir: "/var/lib/postseal".into(),
            trust_anchors: vec![Anchor {
                zone: ".".into(),
                tag: 20_326,
                algorithm: 8,
                state: "valid".into(),
                since: 1_000,
                refreshed_at: 0,
                next_refresh: 91_120,
            }],
        };
        let expected = "postseal 1 (pid 7), not ready: validated root keys
  up              1 h 1 min
  state           /var/lib/postseal
  policy cache    3 next hops
  DNS cache       4 KiB
  trust anchor    . 20326 (algorithm 8) valid for 2 min, keys not seen yet, next in 1 d 1 h
";
        assert_eq!(block(&status, 1_120), expected);
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (60, "1 min"), (90_061, "1 d 1 h"), (-5, "0 s")] {
            assert_eq!(span(seconds), text);
        }
    }
}
