//! `postseal postfix-config`: the lines for each version, the checks of an existing main.cf, the exit codes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

struct Site {
    directory: tempfile::TempDir,
}

/// The pages that show lines for main.cf.
const PAGES: [&str; 2] = [include_str!("../../docs/postfix.md"), include_str!("../../README.md")];

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(
            directory.path().join("postseal.toml"),
            "state-dir = \"state\"\n[postfix]\nresolv-conf = \"none\"\n",
        )
        .expect("written");
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_postseal"))
            .args(["--config", "postseal.toml", "postfix-config"])
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .output()
            .expect("ran");
        let text = |octets| String::from_utf8(octets).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

    fn check(&self, main_cf: &str, version: &str) -> (Option<i32>, String) {
        std::fs::write(self.path().join("main.cf"), main_cf).expect("written");
        let (code, text, _) = self.run(&["--postfix-version", version, "--main-cf", "main.cf"]);
        (code, text)
    }
}

/// The lines of a text that are no comments.
fn parameters(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// The lines for main.cf that a page shows, block by block.
fn shown(page: &str) -> Vec<BTreeSet<String>> {
    let mut blocks: Vec<BTreeSet<String>> = Vec::new();
    let mut in_block = false;
    for line in page.lines().map(str::trim) {
        if line.starts_with("smtp_dns") {
            blocks.push(BTreeSet::new());
            in_block = true;
        }
        in_block &= line != "```";
        if let Some(block) = blocks.last_mut().filter(|_| in_block) {
            block.insert(line.to_owned());
        }
    }
    blocks
}

#[test]
fn the_lines_of_the_pages_are_those_that_are_printed() {
    let site = Site::new();
    let shown: Vec<_> = PAGES.iter().flat_map(|page| shown(page)).collect();
    assert_eq!(shown.len(), 3);
    for (wanted, version) in shown.into_iter().zip(["3.7", "3.10", "3.7"]) {
        let (_, text, _) = site.run(&["--postfix-version", version, "--main-cf", "/dev/null"]);
        let found: BTreeSet<String> = parameters(&text).into_iter().map(str::to_owned).collect();
        assert_eq!(found, wanted, "{version}");
    }
}

#[test]
fn what_is_printed_passes_its_own_check() {
    let site = Site::new();
    std::fs::write(site.path().join("ca.pem"), "").expect("written");
    let ca = site.path().join("ca.pem").display().to_string();
    for version in ["3.4", "3.7", "3.9", "3.10", "3.12"] {
        let (_, text, _) = site.run(&["--postfix-version", version, "--main-cf", "/dev/null"]);
        let main_cf: String = text
            .lines()
            .map(|line| {
                if line.starts_with("smtp_tls_CAfile") {
                    format!("smtp_tls_CAfile = {ca}\n")
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
        let (code, text) = site.check(&main_cf, version);
        assert!(code == Some(0) && text.contains("nothing wrong"), "{version}: {text}");
    }
}

#[test]
fn the_lines_follow_the_configuration() {
    let site = Site::new();
    let configure = |listen: &str| {
        let text = format!("state-dir = \"state\"\n[socketmap]\nlisten = [\"{listen}\"]\n");
        std::fs::write(site.path().join("postseal.toml"), text).expect("written");
    };
    for (listen, table) in [
        ("127.0.0.1:8461", "socketmap:inet:127.0.0.1:8461:QUERY"),
        ("0.0.0.0:8642", "socketmap:inet:127.0.0.1:8642:QUERY"),
        ("[::1]:8642", "socketmap:inet:[::1]:8642:QUERY"),
        ("unix:/var/spool/postfix/postseal/socketmap.sock", "socketmap:unix:postseal/socketmap.sock:QUERY"),
        ("unix:/run/postseal.sock", "socketmap:unix:/run/postseal.sock:QUERY"),
    ] {
        configure(listen);
        let (_, text, _) = site.run(&["--postfix-version", "3.7", "--main-cf", "/dev/null"]);
        assert!(text.contains(&format!("smtp_tls_policy_maps = {table}\n")), "{table} in {text}");
    }
}

#[test]
fn each_version_gets_what_it_understands() {
    let site = Site::new();
    let lines = |version: &str| site.run(&["--postfix-version", version, "--main-cf", "/dev/null"]).1;
    assert!(!lines("3.0").contains("insecure_mx") && lines("3.1").contains("smtp_tls_dane_insecure_mx_policy = dane"));
    assert!(lines("3.3").contains(":old\n") && lines("3.3").contains("require-sni = false"));
    assert!(lines("3.9").contains(":QUERY\n") && !lines("3.9").contains("tlsrpt"));
    assert!(lines("3.10").contains(":QUERYwithTLSRPT\n") && lines("3.10").contains("smtp_tlsrpt_enable = yes"));
}

#[test]
fn exit_codes_tell_mistakes_from_what_cannot_be_told() {
    let site = Site::new();
    let (code, text) = site.check("smtp_tls_security_level = may\n", "3.7");
    assert_eq!(code, Some(1), "{text}");
    for part in ["# mistake: smtp_tls_policy_maps names no socketmap", "# mistake: without DNSSEC", "CA certificates"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, _, error) = site.run(&["--postfix-version", "3.7", "--main-cf", "missing.cf"]);
    assert!(code == Some(2) && error.contains("missing.cf"), "{error}");
    let (code, _, error) = site.run(&["--postfix-version", "three"]);
    assert!(code == Some(2) && error.contains("not a Postfix version"), "{error}");
    let (code, _, error) = site.run(&[]);
    // Without PATH there is no postconf to be found.
    assert!(code == Some(2) && error.contains("--postfix-version"), "{error}");
}

#[test]
fn a_chroot_without_a_resolv_conf_is_worth_a_hint() {
    let site = Site::new();
    std::fs::write(site.path().join("master.cf"), "smtp unix - - y - - smtp\n").expect("written");
    let queue = site.path().join("spool");
    let (_, text) = site.check(&format!("queue_directory = {}\n", queue.display()), "3.7");
    assert!(text.contains("# hint: smtp runs in a chroot that has no "), "{text}");
    let at = |word: &str| text.find(word).expect("a finding");
    assert!(at("# mistake: ") < at("# hint: "), "worst first: {text}");
}

#[test]
fn a_resolver_that_does_not_validate_is_a_mistake() {
    let site = Site::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = socket.local_addr().expect("an address").port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            (buffer[2], buffer[3]) = (0x81, 0x80);
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
    std::fs::write(site.path().join("resolv.conf"), "nameserver 127.0.0.1\n").expect("written");
    std::fs::write(
        site.path().join("postseal.toml"),
        "state-dir = \"state\"\n[postfix]\nresolv-conf = \"resolv.conf\"\n",
    )
    .expect("written");
    std::fs::write(site.path().join("main.cf"), "").expect("written");
    let (code, text, _) = site.run(&["--postfix-version", "3.7", "--main-cf", "main.cf", "--resolver-port", &port]);
    assert!(code == Some(1) && text.contains("127.0.0.1 does not validate"), "{text}");
}
