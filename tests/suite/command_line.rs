//! What the command line says of itself: help, manual pages, completions, version.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_postseal")).args(arguments).current_dir(&directory).env_clear().output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

const COMMANDS: [&str; 12] = [
    "serve",
    "query",
    "explain",
    "dump",
    "export",
    "purge",
    "check-config",
    "postfix-config",
    "status",
    "healthcheck",
    "man",
    "completions",
];

#[test]
fn help_shows_every_command_examples_and_the_environment() {
    let help = printed(&["--help"]);
    for part in COMMANDS.iter().copied().chain(["Examples:", "Environment:", "NO_COLOR", "HTTPS_PROXY", "Exit code:"]) {
        assert!(help.contains(part), "{part} in\n{help}");
    }
    for command in ["query", "explain", "dump", "purge", "postfix-config"] {
        let help = printed(&[command, "--help"]);
        assert!(help.contains("Examples:\n  postseal "), "{command}: {help}");
    }
    for command in ["query", "explain", "postfix-config"] {
        let help = printed(&[command, "--help"]);
        assert!(help.contains("Exit code: 0"), "{command}: {help}");
    }
    for command in COMMANDS {
        let help = printed(&[command, "--help"]);
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{command}: {help}");
    }
}

#[test]
fn there_is_a_manual_page_for_each_command_and_for_the_configuration() {
    let whole = printed(&["man"]);
    for part in [".SH SIGNALS", ".SH FILES", ".SH \"EXIT STATUS\"", "Examples:"] {
        assert!(whole.contains(part), "{part} in {whole}");
    }
    for command in COMMANDS {
        let page = printed(&["man", command]);
        assert!(page.contains(&format!(".TH postseal\\-{command}")) || page.contains(".TH postseal-"), "{page}");
    }
    let configuration = printed(&["man", "postseal.toml"]);
    for key in postseal::config::KEYS {
        assert!(configuration.contains(&key.path.replace('-', "\\-")), "{}", key.path);
    }
    let unknown = run(&["man", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("postfix-config"), "{unknown:?}");
}

#[test]
fn completions_are_there_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell]);
        assert!(script.contains("postseal") && script.contains("explain"), "{shell}: {script}");
    }
    assert_eq!(run(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn the_version_begins_with_the_number() {
    assert!(printed(&["--version"]).starts_with(concat!("postseal ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn lines_for_postconf_are_commands_for_a_shell() {
    // What follows the lines is about the Postfix of this host, where there is one.
    let output = run(&["postfix-config", "--postfix-version", "3.7", "--postconf"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.split_inclusive("\n\n").next().unwrap_or_default().trim_end().to_owned() + "\n";
    assert!(text.contains("postconf -e 'smtp_dns_support_level = dnssec'\n"), "{text}");
    assert!(text.contains("postconf -e 'smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8642:QUERY'\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    assert!(lines.into_iter().all(|line| line.starts_with("postconf -e '") || line == "postfix reload"), "{text}");
}
