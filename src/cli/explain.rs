//! `explain`: why one next hop has the policy that it has.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use hyper::Method;

use super::ask::{AskError, ask_daemon_of};
use super::{fail, print, width};
use crate::clock::Clock;
use crate::config::{Config, Environment, Sources};
use crate::control::client::{ClientError, encode};
use crate::control::explanations::{Explanation, Style, Verdict, Whose, render};
use crate::daemon::{self, Parts};
use crate::telemetry::clean::clean_json;

const EXAMPLES: &str = "\
Examples:
  postseal explain example.com
  postseal explain --check-mx example.com
  postseal explain --direct --json '[relay.example]:587'";

/// Explain the policy of one domain, or `[host]:port`: what was found, what is wrong, and who has to fix it.
///
/// Exit code: 0 protected, 1 Postfix keeps the mail queued, or nothing could be found out, 2 wrong usage or not a mail
/// domain, 3 no policy, or none that authenticates anybody, 4 an MX host failed the check or could not be checked
/// (--check-mx), 5 partly protected.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// A domain, `domain:port`, `[host]` or `[host]:port`.
    domain: String,

    /// Look here, without the running daemon and its cache; so it is as well where none runs.
    #[arg(long)]
    direct: bool,

    /// Connect to each MX host over SMTP with STARTTLS, and hold its certificate against the TLSA records or the
    /// MTA-STS policy.
    #[arg(long)]
    check_mx: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,

    /// The map to explain.
    #[arg(long, value_name = "NAME", default_value = "QUERY")]
    map: String,
}

impl Explain {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        let explanation = match self.explanation(sources) {
            Ok(explanation) => explanation,
            Err(error) => return fail(error),
        };
        let text = if self.json {
            match serde_json::to_string_pretty(&explanation) {
                Ok(text) => clean_json(&text).into_owned() + "\n",
                Err(error) => return fail(error),
            }
        } else {
            render(&explanation, style(&sources.environment))
        };
        let printed = print(&text);
        if printed == ExitCode::SUCCESS { code(&explanation) } else { printed }
    }

    fn explanation(&self, sources: &Sources) -> Result<Explanation, AskError> {
        let config = Config::load(sources)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let explanation = runtime.block_on(async {
            if self.direct {
                return self.look(&config, &sources.environment).await;
            }
            match self.ask_daemon(&config).await {
                Err(AskError::Client(error @ ClientError::Connect { .. })) => {
                    eprintln!("postseal: {error} Looking here, without its cache.");
                    self.look(&config, &sources.environment).await
                }
                answered => answered,
            }
        });
        runtime.shutdown_background();
        explanation
    }

    async fn look(&self, config: &Config, environment: &Environment) -> Result<Explanation, AskError> {
        let map = daemon::map_options(config, &self.map).ok_or_else(|| AskError::NoMap(self.map.clone()))?;
        let parts = Parts::for_one_query(config, environment, Clock::system())?;
        Ok(parts.explanations().explain(Whose::User(None), &self.domain, &self.map, &map, self.check_mx).await?)
    }

    async fn ask_daemon(&self, config: &Config) -> Result<Explanation, AskError> {
        let target = format!(
            "/explain?key={}&map={}&format=json&check-mx={}",
            encode(&self.domain),
            encode(&self.map),
            u8::from(self.check_mx)
        );
        Ok(serde_json::from_str(&ask_daemon_of(config, Method::GET, &target).await?)?)
    }
}

fn code(explanation: &Explanation) -> ExitCode {
    match explanation.verdict {
        Verdict::Held => ExitCode::FAILURE,
        Verdict::NotAMailDomain => ExitCode::from(2),
        Verdict::Undeliverable => ExitCode::from(4),
        _ if explanation.check.is_some_and(|check| check.passed < check.hosts) => ExitCode::from(4),
        Verdict::Protected => ExitCode::SUCCESS,
        Verdict::PartlyProtected => ExitCode::from(5),
        Verdict::Weak | Verdict::NoPolicy | Verdict::NullMx | Verdict::NoSuchDomain => ExitCode::from(3),
    }
}

/// Colours and a width for a terminal alone; `NO_COLOR` and `TERM` have their usual meaning.
fn style(environment: &Environment) -> Style {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Style::default();
    }
    let colour = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
    Style { colour, width: width(environment) }
}
