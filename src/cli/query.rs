//! `query`: the policy of one next hop, as Postfix would get it, and why.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::ask::{AskError, ask_daemon_of};
use super::{fail, print};
use crate::clock::Clock;
use crate::config::{Config, Environment, Sources};
use crate::control::client::encode;
use crate::control::report::{Branch, Report, examine};
use crate::daemon::{self, Parts};
use crate::names::NextHop;
use crate::socketmap::client;
use crate::telemetry::clean::{clean, clean_json, clean_lines};

/// The port of `socketmap.listen` unless configured.
const PORT: u16 = 8642;

/// Ask for the policy of one next hop.
#[derive(Debug, Args)]
pub(super) struct Query {
    /// A domain, `domain:port`, `[host]` or `[host]:port`.
    domain: String,

    /// Look it up here, without the running daemon and its cache.
    #[arg(long)]
    direct: bool,

    /// Ask a socketmap server over TCP, as Postfix does: an IP address, with a port if it is not 8642.
    #[arg(long, value_name = "ADDRESS", value_parser = server_address, conflicts_with_all = ["direct", "json"])]
    server: Option<SocketAddr>,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// The map to ask.
    #[arg(long, value_name = "NAME", default_value = "QUERY")]
    map: String,
}

impl Query {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        if let Some(server) = self.server {
            return self.ask_server(server);
        }
        if let Err(why) = NextHop::parse(self.domain.as_bytes()) {
            eprintln!("postseal: {}: {why}; Postfix is told that there is no policy", self.domain);
        }
        match self.report(sources) {
            Ok(report) if self.json => match serde_json::to_string_pretty(&report) {
                Ok(text) => print(&(clean_json(&text).into_owned() + "\n")),
                Err(error) => fail(error),
            },
            Ok(report) => print(&clean_lines(&block(&report))),
            Err(message) => fail(message),
        }
    }

    /// Prints the reply as it comes. TEMP and PERM, with which Postfix would hold mail, are failures.
    fn ask_server(&self, server: SocketAddr) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(error),
        };
        match runtime.block_on(client::ask(server, &self.map, &self.domain)) {
            Ok(reply) if reply.starts_with("OK ") || reply.starts_with("NOTFOUND ") => {
                print(&format!("{}\n", clean(reply.trim_end())))
            }
            Ok(reply) => fail(reply.trim_end()),
            Err(error) => fail(format!("{server}: {error}")),
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
        let _ = write!(text, "           looked at again in {} s", branch.ttl);
        if let Some(valid) = branch.valid_for {
            let _ = write!(text, ", valid for {valid} s");
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
           looked at again in 60 s
  mta-sts  enforce -> secure match=mx.example.com servername=hostname: policy fetched
           looked at again in 300 s, valid for 86400 s
";
        assert_eq!(block(&report), expected);
    }
}
