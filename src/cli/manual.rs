//! `man` and `completions`: manual pages and completions for shells, from the command line's own descriptions.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{Arguments, fail, print};
use crate::config::{KEYS, variable_of};

/// Print a manual page, as source for man: postseal man | man -l -
#[derive(Debug, Args)]
pub(super) struct Manual {
    /// A command, or `postseal.toml`; without it the page of the whole program.
    page: Option<String>,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Manual {
    pub(super) fn run(&self) -> ExitCode {
        let wanted = match self.page.as_deref() {
            None => "postseal.1".to_owned(),
            Some("postseal.toml") => "postseal.toml.5".to_owned(),
            Some(command) => format!("postseal-{command}.1"),
        };
        match pages().into_iter().find(|(name, _)| *name == wanted) {
            Some((_, page)) => print(&page),
            None => {
                let known =
                    command().get_subcommands().map(|command| command.get_name().to_owned()).collect::<Vec<_>>();
                fail(format!("no such page; there are postseal.toml and the commands: {}", known.join(", ")))
            }
        }
    }
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        print(&completions(self.shell))
    }
}

/// Completions for a shell, as a script for it.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "postseal", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// All manual pages: file name and roff source.
pub fn pages() -> Vec<(String, String)> {
    let command = command();
    // Writing into memory cannot fail.
    let rendered = |man: Man| {
        let mut page = Vec::new();
        let _ = man.render(&mut page);
        String::from_utf8_lossy(&page).into_owned()
    };
    let whole = rendered(Man::new(command.clone())) + &beside_the_commands().to_roff();
    let mut pages = vec![("postseal.1".to_owned(), whole)];
    for subcommand in command.get_subcommands() {
        let name = format!("postseal-{}", subcommand.get_name());
        // `postseal query` in the synopsis, postseal-query as the page's name.
        pages.push((format!("{name}.1"), rendered(Man::new(subcommand.clone()).title(name))));
    }
    pages.push(("postseal.toml.5".to_owned(), configuration().to_roff()));
    pages
}

fn command() -> clap::Command {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    command
}

/// What clap does not know of: postseal.1 after the options and commands.
fn beside_the_commands() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SIGNALS"]);
    for (signal, effect) in [
        ("SIGHUP", "reads the configuration again; postseal.toml(5). A bad file changes nothing and is logged."),
        ("SIGTERM, SIGINT", "answers what was asked, for up to 10 seconds, and ends."),
    ] {
        roff.control("TP", []).text([bold(signal)]).text([roman(effect)]);
    }
    roff.control("SH", ["FILES"]);
    for (file, purpose) in [
        ("/etc/postseal/postseal.toml", "the configuration, where --config names no other."),
        ("/var/lib/postseal", "what was learnt, the state of the trust anchors, and the control socket."),
    ] {
        roff.control("TP", []).text([italic(file)]).text([roman(purpose)]);
    }
    roff.control("SH", ["SYSTEMD"]);
    for (command, effect) in [
        ("systemctl reload postseal", "reads the configuration again, as SIGHUP does."),
        (
            "systemctl enable --now postseal-dns.socket",
            "turns the validating resolver on port 53 of 127.0.0.1 and ::1 on. It restarts the service, which then \
             answers there; lookups wait that long.",
        ),
    ] {
        roff.control("TP", []).text([bold(command)]).text([roman(effect)]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman("0: fine. 1: not; standard error says why. 2: wrong usage.")]);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("postseal.toml"), roman("(5), "), bold("postconf"), roman("(5)")]);
    roff
}

/// postseal.toml(5), from the table of keys.
fn configuration() -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", ["postseal.toml", "5", "", concat!("postseal ", env!("CARGO_PKG_VERSION")), ""]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("postseal.toml - configuration of postseal")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("Defaults, then "),
        italic("/etc/postseal/postseal.toml"),
        roman(" (or --config), then the environment, then --set. Unknown keys are errors. "),
        bold("postseal check-config"),
        roman(" shows every effective value and where it is from."),
    ]);
    roff.control("PP", []);
    roff.text([roman("SIGHUP reloads overrides, maps, log level, trust anchor file and CA file.")]);
    roff.control("SH", ["KEYS"]);
    for key in KEYS {
        roff.control("TP", []).text([bold(key.path)]);
        roff.text([roman(key.help.replace('`', ""))]);
        roff.control("br", []);
        roff.text([roman(format!("Default: {}.", key.default.unwrap_or("unset")))]);
        roff.control("br", []);
        roff.text([roman(format!("Environment: {}.", variable_of(key.path)))]);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("postseal"), roman("(1)")]);
    roff
}
