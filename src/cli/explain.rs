//! `explain`: why one next hop has the policy that it has.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};

use super::{fail, print};
use crate::clock::Clock;
use crate::config::{Config, Environment, Sources};
use crate::control::client::{ClientError, ask, encode};
use crate::control::explanations::{Busy, Explanation, Style, Verdict, render};
use crate::daemon::{self, Parts};

/// Explain the policy of one next hop.
///
/// Exit code: 0 protected, 1 mail waits, or nothing could be found out, 2 wrong usage, 3 no policy, or none that
/// authenticates anybody, 4 an MX host failed the check (--check-mx).
#[derive(Debug, Args)]
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
                Ok(text) => text + "\n",
                Err(error) => return fail(error),
            }
        } else {
            render(&explanation, style(&sources.environment))
        };
        let printed = print(&text);
        if printed == ExitCode::SUCCESS { code(&explanation) } else { printed }
    }

    fn explanation(&self, sources: &Sources) -> Result<Explanation, ExplainError> {
        let config = Config::load(sources)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let explanation = runtime.block_on(async {
            if self.direct {
                return self.look(&config, &sources.environment).await;
            }
            match self.ask_daemon(&config).await {
                Err(ExplainError::Client(error @ ClientError::Connect { .. })) => {
                    eprintln!("postseal: {error} Looking here, without its cache.");
                    self.look(&config, &sources.environment).await
                }
                answered => answered,
            }
        });
        runtime.shutdown_background();
        explanation
    }

    async fn look(&self, config: &Config, environment: &Environment) -> Result<Explanation, ExplainError> {
        let map = daemon::map_options(config, &self.map).ok_or_else(|| ExplainError::NoMap(self.map.clone()))?;
        let parts = Parts::for_one_query(config, environment, Clock::system())?;
        Ok(parts.explanations().explain(&self.domain, &self.map, &map, self.check_mx).await?)
    }

    async fn ask_daemon(&self, config: &Config) -> Result<Explanation, ExplainError> {
        let target = format!(
            "/explain?key={}&map={}&format=json&check-mx={}",
            encode(&self.domain),
            encode(&self.map),
            u8::from(self.check_mx)
        );
        let response = ask(&config.state_dir, Method::GET, &target).await?;
        if response.status != StatusCode::OK {
            return Err(ExplainError::Refused(response.body.trim_end().to_owned()));
        }
        Ok(serde_json::from_str(&response.body)?)
    }
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Start(#[from] daemon::StartError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("no map named {0}")]
    NoMap(String),
    #[error("{0}")]
    Refused(String),
    #[error("answer of the daemon: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn code(explanation: &Explanation) -> ExitCode {
    match explanation.verdict {
        Verdict::Held => ExitCode::FAILURE,
        _ if explanation.has_failing_host() => ExitCode::from(4),
        Verdict::Protected => ExitCode::SUCCESS,
        Verdict::Weak | Verdict::NoPolicy => ExitCode::from(3),
    }
}

/// Colours and a width for a terminal alone; `NO_COLOR` and `COLUMNS` have their usual meaning.
fn style(environment: &Environment) -> Style {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Style::default();
    }
    let columns = environment.get("COLUMNS").and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    let width = columns.or_else(terminal).filter(|columns| *columns > 0);
    Style { colour: environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb"), width }
}
