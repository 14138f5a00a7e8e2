//! `query`: the policy of one next hop, as Postfix would get it, and why.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use hyper::Method;
use serde::Serialize;

use super::ask::{AskError, ask_daemon_of};
use super::{fail, print};
use crate::clock::{Clock, span};
use crate::config::{Config, Environment, Sources};
use crate::control::client::encode;
use crate::control::report::{Branch, Report, examine};
use crate::daemon::{self, Parts};
use crate::names::NextHop;
use crate::socketmap::client;
use crate::telemetry::clean::{clean, clean_json, clean_lines};

const EXAMPLES: &str = "\
Examples:
  postseal query example.com
  postseal query --json '[relay.example]:587'
  postseal query --server 192.0.2.1:8642 example.com";

/// The port of `socketmap.listen` unless configured.
const PORT: u16 = 8642;

/// Ask for the policy of one domain, or `[host]:port`.
///
/// Exit code: 0 a policy, 1 TEMP (Postfix keeps the mail queued) or nothing could be found out, 2 wrong usage, 3 no policy.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Query {
    /// A domain, `domain:port`, `[host]` or `[host]:port`.
    domain: String,

    /// Look it up here, without the running daemon and its cache.
    #[arg(long)]
    direct: bool,

    /// Ask a socketmap server over TCP, as Postfix does: an IP address, with a port if it is not 8642.
    #[arg(long, value_name = "ADDRESS", value_parser = server_address, conflicts_with = "direct")]
    server: Option<SocketAddr>,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// The map to ask.
    #[arg(long, value_name = "NAME", default_value = "QUERY")]
    map: String,

    /// Exit with 0 for "no policy", too: any answer will do, as long as it is one.
    #[arg(long)]
    answered: bool,
}

/// A bare reply as JSON.
#[derive(Debug, Serialize)]
struct Reply<'a> {
    domain: &'a str,
    map: &'a str,
    answer: &'a str,
}

impl Query {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        if let Some(server) = self.server {
            return self.ask_server(server);
        }
        if let Err(why) = NextHop::parse(self.domain.as_bytes()) {
            eprintln!("postseal: {}: {why}; Postfix is told that there is no policy", self.domain);
        }
        let report = match self.report(sources) {
            Ok(report) => report,
            Err(message) => return fail(message),
        };
        let text = if self.json { as_json(&report) } else { Ok(clean_lines(&block(&report)).into_owned()) };
        self.printed(text, &report.answer)
    }

    /// Prints the reply as it comes. TEMP and PERM, with which Postfix would hold mail, are failures.
    fn ask_server(&self, server: SocketAddr) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        let reply = match runtime.block_on(client::ask(server, &self.map, &self.domain)) {
            Ok(reply) => reply,
            Err(error) => return fail(format!("{server}: {error}")),
        };
        let answer = reply.trim_end();
        if self.json {
            let text = as_json(&Reply { domain: &self.domain, map: &self.map, answer });
            return self.printed(text, answer);
        }
        match self.code(answer) {
            ExitCode::FAILURE => fail(answer),
            _ => self.printed(Ok(format!("{}\n", clean(answer))), answer),
        }
    }

    fn printed(&self, text: Result<String, serde_json::Error>, answer: &str) -> ExitCode {
        match text.map(|text| print(&text)) {
            Ok(ExitCode::SUCCESS) => self.code(answer),
            Ok(failed) => failed,
            Err(error) => fail(error),
        }
    }

    /// The exit code for a reply: its status word tells.
    fn code(&self, answer: &str) -> ExitCode {
        match answer.split(' ').next() {
            Some("OK") => ExitCode::SUCCESS,
            Some("NOTFOUND") if self.answered => ExitCode::SUCCESS,
            Some("NOTFOUND") => ExitCode::from(3),
            Some(_) | None => ExitCode::FAILURE,
        }
    }

    fn report(&self, sources: &Sources) -> Result<Report, AskError> {
        let config = Config::load(sources)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = runtime.block_on(async {
            if self.direct { self.look_up(&config, &sources.environment).await } else { self.ask_daemon(&config).await }
        });
        runtime.shutdown_background();
        report
    }

    async fn look_up(&self, config: &Config, environment: &Environment) -> Result<Report, AskError> {
        let map = daemon::map_options(config, &self.map).ok_or_else(|| AskError::NoMap(self.map.clone()))?;
        let hop = match NextHop::parse(self.domain.as_bytes()) {
            Ok(hop) => hop,
            Err(why) => return Ok(Report::of_no_destination(&self.domain, &self.map, why)),
        };
        let clock = Clock::system();
        let parts = Parts::for_one_query(config, environment, clock.clone())?;
        Ok(examine(&parts.policy, &clock, &hop, &self.map, &map).await)
    }

    async fn ask_daemon(&self, config: &Config) -> Result<Report, AskError> {
        let target = format!("/query?key={}&map={}", encode(&self.domain), encode(&self.map));
        Ok(serde_json::from_str(&ask_daemon_of(config, Method::GET, &target).await?)?)
    }
}

/// An address, with a port or without: pods know addresses of services, and an image without a shell joins nothing.
fn server_address(text: &str) -> Result<SocketAddr, &'static str> {
    let alone = text.trim_matches(['[', ']']).parse().map(|address: IpAddr| SocketAddr::new(address, PORT));
    alone.or_else(|_| text.parse()).map_err(|_| "expected an IP address, or address:port")
}

fn as_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(value).map(|text| clean_json(&text).into_owned() + "\n")
}

/// One block for people.
fn block(report: &Report) -> String {
    let mut text = String::new();
    let origin = match (report.overridden, report.cached) {
        (true, _) => "by policy.overrides",
        (false, true) => "from the cache",
        (false, false) => "looked up",
    };
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{} (map {}, {origin})", report.domain, report.map);
    let _ = writeln!(text, "  answer   {}", report.answer.trim_end());
    line(&mut text, "dane", &report.dane);
    line(&mut text, "mta-sts", &report.mta_sts);
    text
}

fn line(text: &mut String, name: &str, branch: &Branch) {
    let _ = write!(text, "  {name:<8} {}", branch.status);
    if !branch.policy.is_empty() && branch.policy != branch.status {
        let _ = write!(text, " -> {}", branch.policy);
    }
    let _ = writeln!(text, ": {}", branch.reason);
    if branch.status != "off" {
        let _ = write!(text, "           next check in {}", span(branch.ttl));
        if let Some(valid) = branch.valid_for {
            let _ = write!(text, ", valid for {}", span(valid));
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_an_address_with_or_without_a_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:8642"),
            ("192.0.2.1:25", "192.0.2.1:25"),
            ("2001:db8::1", "[2001:db8::1]:8642"),
            ("[2001:db8::1]", "[2001:db8::1]:8642"),
            ("[2001:db8::1]:25", "[2001:db8::1]:25"),
        ] {
            assert_eq!(server_address(text).map(|parsed| parsed.to_string()).as_deref(), Ok(address), "{text}");
        }
        for text in ["", "localhost", "192.0.2.1:", "192.0.2.256"] {
            assert!(server_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_block_shows_the_answer_and_both_branches() {
        let report = Report {
            version: "1".into(),
            domain: "example.com".into(),
            map: "QUERY".into(),
            answer: "OK secure match=mx.example.com servername=hostname".into(),
            cached: true,
            overridden: false,
            dane: Branch { status: "none".into(), reason: "no TLSA records".into(), ttl: 60, ..Branch::default() },
            mta_sts: Branch {
                policy: "secure match=mx.example.com servername=hostname".into(),
                status: "enforce".into(),
                reason: "policy fetched".into(),
                ttl: 300,
                valid_for: Some(86_400),
                ..Branch::default()
            },
        };
        let expected = "example.com (map QUERY, from the cache)
  answer   OK secure match=mx.example.com servername=hostname
  dane     none: no TLSA records
           next check in 1 min
  mta-sts  enforce -> secure match=mx.example.com servername=hostname: policy fetched
           next check in 5 min, valid for 1 d
";
        assert_eq!(block(&report), expected);
    }
}
