//! `postfix-config`: what belongs into Postfix's main.cf, and what is wrong with the one that is there.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::config::{Config, Sources};
use crate::daemon;
use crate::postfix::check::{Checked, Finding, Severity, check, missing_copy, resolvers};
use crate::postfix::lines::{OLD_MAP, lines, map_name};
use crate::postfix::resolver;
use crate::postfix::site::{CONFIG_DIRECTORY, QUEUE_DIRECTORY, Site, local_version};
use crate::postfix::version::Version;

const EXAMPLES: &str = "\
Examples:
  postseal postfix-config
  postseal postfix-config --postconf | sh
  postseal postfix-config --postfix-version 3.10 --main-cf ./main.cf";

/// Print what belongs into Postfix's main.cf, and check the one that is there.
///
/// Exit code: 0 when nothing is wrong, 1 when the main.cf that was checked has mistakes, 2 when it cannot be told.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PostfixConfig {
    /// Version of Postfix, such as 3.7; without it the one that postconf tells.
    #[arg(long, value_name = "X.Y")]
    postfix_version: Option<Version>,

    /// The main.cf to check; without it /etc/postfix/main.cf, if it exists.
    #[arg(long, value_name = "FILE")]
    main_cf: Option<PathBuf>,

    /// Print the lines as commands for a shell, ready to be run where Postfix is.
    #[arg(long)]
    postconf: bool,

    /// Port of the resolvers, for labs.
    #[arg(long, hide = true, default_value_t = resolver::PORT)]
    resolver_port: u16,
}

/// The exit code where nothing can be said.
const CANNOT_TELL: u8 = 2;
/// Where Debian and its like keep CA certificates, and where Red Hat's do.
const CA_FILES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

impl PostfixConfig {
    pub(super) fn run(&self, sources: &Sources) -> ExitCode {
        match self.report(sources) {
            Ok((text, findings)) => {
                let mistaken = findings.iter().any(|finding| finding.severity == Severity::Mistake);
                let printed = print(&text);
                if mistaken { ExitCode::FAILURE } else { printed }
            }
            Err(error) => {
                eprintln!("postseal: {error}");
                ExitCode::from(CANNOT_TELL)
            }
        }
    }

    fn report(&self, sources: &Sources) -> Result<(String, Vec<Finding>), Box<dyn std::error::Error>> {
        let config = Config::load(sources)?;
        let version = self.postfix_version.or_else(local_version);
        let version =
            version.ok_or("there is no postconf to tell Postfix's version: name it with --postfix-version X.Y")?;
        let usual = Path::new(CONFIG_DIRECTORY).join("main.cf");
        let main_cf = self.main_cf.clone().or_else(|| usual.exists().then_some(usual));
        let site = match &main_cf {
            Some(file) => {
                Some(Site::read(file, Some(version)).map_err(|error| format!("{}: {error}", file.display()))?)
            }
            None => None,
        };
        let queue = site.as_ref().map_or(Path::new(QUEUE_DIRECTORY), |site| &site.queue_directory);
        let mut text = wanted(&config, version, queue, self.postconf);
        let Some((site, file)) = site.as_ref().zip(main_cf) else { return Ok((text, Vec::new())) };
        let findings = self.findings(&config, version, site)?;
        // Writing into a String cannot fail.
        let _ = writeln!(text, "\n# {}: {}", file.display(), verdict(&findings));
        for finding in &findings {
            let word = match finding.severity {
                Severity::Mistake => "mistake",
                Severity::Hint => "hint",
            };
            let _ = writeln!(text, "# {word}: {}", finding.text);
        }
        Ok((text, findings))
    }

    fn findings(&self, config: &Config, version: Version, site: &Site) -> std::io::Result<Vec<Finding>> {
        let mut findings = check(&Checked {
            main_cf: &site.main_cf,
            version,
            config,
            queue_directory: &site.queue_directory,
            chrooted: site.chrooted,
            clients: &site.clients,
            map_of: &|name| daemon::map_options(config, name),
            exists: &Path::exists,
        });
        findings.extend(missing_copy(site, &config.postfix.resolv_conf));
        let file = site.resolv_conf(&config.postfix.resolv_conf);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        if let Ok(found) = runtime.block_on(resolver::examine(&file, self.resolver_port)) {
            findings.extend(resolvers(&file, &found));
        }
        findings.sort_by_key(|finding| finding.severity != Severity::Mistake);
        Ok(findings)
    }
}

/// The lines, and what postseal itself must be told for them.
fn wanted(config: &Config, version: Version, queue_directory: &Path, postconf: bool) -> String {
    let ca_file = CA_FILES.into_iter().find(|file| Path::new(file).exists()).unwrap_or(CA_FILES[0]);
    let mut text = format!("# main.cf, for Postfix {version}\n");
    for (name, value) in lines(config, version, queue_directory, ca_file) {
        let _ = match postconf {
            true => writeln!(text, "postconf -e {}", quoted(&format!("{name} = {value}"))),
            false => writeln!(text, "{name} = {value}"),
        };
    }
    if postconf {
        text.push_str("postfix reload\n");
    }
    if map_name(config, version).is_none() {
        let _ = writeln!(text, "# Postfix {version} knows no servername=; in postseal.toml:");
        let _ = writeln!(text, "#   [maps.{OLD_MAP}]\n#   require-sni = false");
    }
    text
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn verdict(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Mistake), count(Severity::Hint)) {
        (0, 0) => "nothing wrong".to_owned(),
        (mistakes, hints) => format!("{mistakes} to correct, {hints} to consider"),
    }
}
