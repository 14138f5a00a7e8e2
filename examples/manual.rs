//! Writes the manual pages, the completions for shells and the commented configuration file, all from the command
//! line's and the configuration's own descriptions: `cargo run --example manual -- DIRECTORY`. The packages have them.

use std::error::Error;
use std::fs;
use std::path::Path;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use postseal::config::{KEYS, sample, variable_of};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: manual DIRECTORY")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let mut command = postseal::cli::command().disable_help_subcommand(true);
    command.build();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "postseal", directory)?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    beside_the_commands().to_writer(&mut page)?;
    fs::write(directory.join("postseal.1"), page)?;
    for subcommand in command.get_subcommands() {
        let name = format!("postseal-{}", subcommand.get_name());
        // `postseal query` in the synopsis, postseal-query as the page's name.
        let man = Man::new(subcommand.clone()).title(name.clone());
        let mut page = Vec::new();
        man.render(&mut page)?;
        fs::write(directory.join(format!("{name}.1")), page)?;
    }
    fs::write(directory.join("postseal.toml.5"), configuration().to_roff())?;
    fs::write(directory.join("postseal.toml"), sample())?;
    Ok(())
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
