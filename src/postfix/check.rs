//! The usual mistakes in an existing `main.cf`, each with what comes of it and what to do.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::lines::{Endpoint, endpoints};
use super::main_cf::{MainCf, SmtpClient};
use super::resolver::Manner;
use super::site::Site;
use super::version::{DANE, INSECURE_MX, SERVERNAME, TLSRPT, Version};
use crate::config::{Config, MapOptions};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Mail is held, or goes out with less protection than a policy asks for.
    Mistake,
    /// It works, but not as well as it could.
    Hint,
}

/// Something to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, what comes of it, what to do.
    pub text: String,
}

/// What is checked, and against what.
pub struct Checked<'a> {
    /// The file.
    pub main_cf: &'a MainCf,
    /// Of the Postfix that reads it.
    pub version: Version,
    /// Our own configuration.
    pub config: &'a Config,
    /// Postfix's queue directory.
    pub queue_directory: &'a Path,
    /// Whether `smtp(8)` runs in a chroot there.
    pub chrooted: bool,
    /// The transports that `smtp(8)` serves.
    pub clients: &'a [SmtpClient],
    /// The options of our map of a name.
    pub map_of: &'a dyn Fn(&str) -> Option<MapOptions>,
    /// Whether there is a file of that name.
    pub exists: &'a dyn Fn(&Path) -> bool,
}

fn mistake(text: impl Into<String>) -> Finding {
    Finding { severity: Severity::Mistake, text: text.into() }
}

fn hint(text: impl Into<String>) -> Finding {
    Finding { severity: Severity::Hint, text: text.into() }
}

/// All that is wrong with the file.
pub fn check(checked: &Checked<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    version(checked, &mut findings);
    policy_maps(checked, &mut findings);
    dns(checked, &mut findings);
    security_level(checked, &mut findings);
    certificates(checked, &mut findings);
    reports(checked, &mut findings);
    relay(checked, &mut findings);
    transports(checked, &mut findings);
    findings.extend(overrides(checked.config, checked.version).into_iter().map(mistake));
    findings
}

/// What is in `policy.overrides` and this version does not know.
pub fn overrides(config: &Config, version: Version) -> Vec<String> {
    let unknown = config.policy.overrides.unknown_to(version.numbers());
    let tell = |(key, what, (major, minor)): (&str, &str, (u32, u32))| {
        format!(
            "policy.overrides: `{key}` has {what}, which Postfix knows since {major}.{minor}: {version} defers the mail"
        )
    };
    unknown.map(tell).collect()
}

fn version(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    if checked.version < DANE {
        findings.push(mistake(format!("Postfix {} knows no DANE: {DANE} or newer is needed", checked.version)));
    }
}

/// `smtp_tls_policy_maps`: are we asked, at the right place, for a map that suits this version?
fn policy_maps(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let tables = checked.main_cf.list("smtp_tls_policy_maps");
    let sockets: Vec<&str> = tables.iter().filter_map(|table| socketmap(table)).collect();
    let ours = endpoints(checked.config, checked.queue_directory);
    if sockets.is_empty() {
        let table =
            ours.first().map_or_else(String::new, |at| format!(": smtp_tls_policy_maps = {}", at.table("QUERY")));
        findings.push(mistake(format!("smtp_tls_policy_maps names no socketmap, so postseal is never asked{table}")));
    }
    for socket in sockets {
        let Some((address, map)) = socket.rsplit_once(':') else {
            findings.push(mistake(format!("socketmap:{socket} has no map name: add :QUERY")));
            continue;
        };
        if !is_ours(address, &ours, checked.queue_directory) {
            let places: Vec<String> = ours.iter().map(|at| at.table(map)).collect();
            let places = if places.is_empty() { "nowhere".to_owned() } else { places.join(" or ") };
            findings.push(mistake(format!(
                "socketmap:{socket} is not where postseal listens by its configuration: {places}"
            )));
        }
        match (checked.map_of)(map) {
            None => {
                findings.push(mistake(format!("postseal has no map named {map}, so every lookup fails: QUERY is one")))
            }
            Some(options) => map_suits(map, &options, checked, findings),
        }
    }
    if !checked.main_cf.get("smtp_tls_per_site").unwrap_or_default().is_empty() {
        findings.push(hint(
            "smtp_tls_per_site is ignored beside smtp_tls_policy_maps: move its entries to policy.overrides",
        ));
    }
}

/// Address and map of a socketmap table, also where `proxymap(8)` asks it.
fn socketmap(table: &str) -> Option<&str> {
    table.strip_prefix("proxy:").unwrap_or(table).strip_prefix("socketmap:")
}

/// With a relay, all mail has one next hop.
fn relay(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let relay = checked.main_cf.list("relayhost");
    if let [relay, ..] = relay.as_slice() {
        findings.push(hint(format!(
            "relayhost = {relay}: all mail that no transport map sends elsewhere goes there, so the policy of the relay is \
             the one that counts, and those of recipient domains are not asked for. See: postseal explain '{relay}'"
        )));
    }
}

/// Transports of their own in `master.cf` may not ask us at all.
fn transports(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    for SmtpClient { name, options } in checked.clients {
        for (parameter, value) in options {
            match parameter.as_str() {
                "smtp_tls_policy_maps" if !value.split(',').any(|table| socketmap(table).is_some()) => {
                    findings.push(hint(format!(
                        "master.cf: the transport {name} has a smtp_tls_policy_maps of its own ({value}), so postseal is not \
                         asked about mail that it carries"
                    )));
                }
                "smtp_dns_support_level" if value != "dnssec" => findings.push(mistake(format!(
                    "master.cf: the transport {name} has smtp_dns_support_level = {value}: without DNSSEC, dane-only \
                     defers every mail that it carries"
                ))),
                _ => {}
            }
        }
    }
}

/// Whether an address of a socketmap is one of ours, by name or by number.
fn is_ours(address: &str, ours: &[Endpoint], queue_directory: &Path) -> bool {
    let address = address.replace("inet:localhost:", "inet:127.0.0.1:");
    let address = match address.strip_prefix("unix:").map(Path::new) {
        Some(path) => format!("unix:{}", path.strip_prefix(queue_directory).unwrap_or(path).display()),
        None => address,
    };
    ours.iter().any(|at| at.table("") == format!("socketmap:{address}:"))
}

fn map_suits(map: &str, options: &MapOptions, checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let version = checked.version;
    if options.tlsrpt && version < TLSRPT {
        findings.push(mistake(format!(
            "map {map} sends TLSRPT attributes, which Postfix {version} takes for errors and defers mail: use QUERY, or \
             Postfix {TLSRPT} or newer"
        )));
    }
    if options.require_sni && options.mta_sts && version < SERVERNAME {
        findings.push(mistake(format!(
            "map {map} sends servername=, which Postfix {version} takes for an error and defers mail: use a map with \
             require-sni = false"
        )));
    }
}

/// DANE needs Postfix to ask for signed answers.
fn dns(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let main_cf = checked.main_cf;
    let level = main_cf.get("smtp_dns_support_level").unwrap_or_default();
    if level != "dnssec" || main_cf.is_yes("disable_dns_lookups") {
        findings.push(mistake(
            "without DNSSEC, dane-only defers every mail and dane is weakened to may: smtp_dns_support_level = dnssec \
             (and no disable_dns_lookups)",
        ));
    }
    let lookup = main_cf.list("smtp_host_lookup");
    if !lookup.is_empty() && !lookup.iter().any(|method| method == "dns") {
        findings.push(mistake("smtp_host_lookup without dns turns DANE off: smtp_host_lookup = dns"));
    }
}

/// The level for all domains without a policy.
fn security_level(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let level = checked.main_cf.get("smtp_tls_security_level").unwrap_or_default();
    match level.as_str() {
        "may" | "dane" => {}
        "" if checked.main_cf.is_yes("smtp_use_tls") => {}
        "" | "none" => findings.push(mistake(
            "mail to domains without a policy may be sent unencrypted: smtp_tls_security_level = may",
        )),
        strict => findings.push(mistake(format!(
            "smtp_tls_security_level = {strict} holds mail to every domain without a policy that does not offer as much: \
             may is what postseal's \"no policy\" means"
        ))),
    }
    let insecure_mx = checked.main_cf.get("smtp_tls_dane_insecure_mx_policy");
    if checked.version >= INSECURE_MX && level != "dane" && insecure_mx.as_deref() != Some("dane") {
        findings.push(hint(
            "TLSA records of hosts behind an unsigned MX record are not used: smtp_tls_dane_insecure_mx_policy = dane",
        ));
    }
}

/// `secure` is verified against CA certificates that Postfix does not have by itself.
fn certificates(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    let main_cf = checked.main_cf;
    let value = |name| main_cf.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match (value("smtp_tls_CAfile"), value("smtp_tls_CApath")) {
        (None, None) if main_cf.is_yes("tls_append_default_CA") => {}
        (None, None) => findings.push(mistake(
            "mail under `secure` policies (MTA-STS) is deferred for want of CA certificates: smtp_tls_CAfile = \
             /etc/ssl/certs/ca-certificates.crt",
        )),
        (Some(file), _) if !(checked.exists)(&file) => {
            findings.push(mistake(format!("smtp_tls_CAfile = {}: there is no such file", file.display())));
        }
        (None, Some(path)) if checked.chrooted => {
            let inside = checked.queue_directory.join(path.strip_prefix("/").unwrap_or(&path));
            if !(checked.exists)(&inside) {
                findings.push(mistake(format!(
                    "smtp runs in a chroot, where smtp_tls_CApath = {} is {}, which is not there: use smtp_tls_CAfile, \
                     which is read before",
                    path.display(),
                    inside.display()
                )));
            }
        }
        (Some(_), _) | (None, Some(_)) => {}
    }
}

/// TLSRPT (RFC 8460): attributes are of use only where Postfix reports.
fn reports(checked: &Checked<'_>, findings: &mut Vec<Finding>) {
    if checked.version < TLSRPT {
        return;
    }
    let main_cf = checked.main_cf;
    let enabled = main_cf.is_yes("smtp_tlsrpt_enable");
    let socket = main_cf.get("smtp_tlsrpt_socket_name").is_some_and(|name| !name.is_empty());
    if enabled && !socket {
        findings.push(mistake(
            "smtp_tlsrpt_enable without smtp_tlsrpt_socket_name reports nothing: name the socket of your \
                               TLSRPT collector",
        ));
    }
    let tables = main_cf.list("smtp_tls_policy_maps");
    let maps = tables.iter().filter_map(|table| socketmap(table)).filter_map(|socket| socket.rsplit(':').next());
    let sends = maps.filter_map(|map| (checked.map_of)(map)).any(|options| options.tlsrpt);
    if enabled && !sends {
        findings.push(hint("reports say nothing of MTA-STS policies with this map: ask for QUERYwithTLSRPT"));
    }
}

/// In a chroot, libresolv finds no other `resolv.conf` than the copy there, and without one asks this host.
pub fn missing_copy(site: &Site, usual: &Path) -> Option<Finding> {
    let copy = site.copy_of(usual);
    (site.chrooted && !copy.exists()).then(|| {
        let text = format!(
            "smtp runs in a chroot that has no {}, so it asks 127.0.0.1: copy {} there, and again when it changes",
            copy.display(),
            usual.display()
        );
        hint(text)
    })
}

/// Whether the resolvers that Postfix uses validate; `file` is their `resolv.conf`. Each of them counts: the later
/// ones answer when the first is slow.
pub fn resolvers(file: &Path, found: &[(IpAddr, Manner)]) -> Option<Finding> {
    let unfit: Vec<String> = found
        .iter()
        .filter_map(|(address, manner)| match manner {
            Manner::Validates => None,
            Manner::DoesNotValidate => Some(format!("{address} does not validate")),
            Manner::Fails => Some(format!("{address} answers with an error")),
            Manner::Silent => Some(format!("{address} does not answer")),
        })
        .collect();
    if unfit.is_empty() {
        return None;
    }
    Some(mistake(format!(
        "{}: {}. Postfix believes DANE records only from a resolver that validates DNSSEC: with another, dane-only defers \
         mail and dane is weakened to may. postseal is such a resolver: dns.listen = [\"127.0.0.1:53\"], and nameserver \
         127.0.0.1 as the only one in that file",
        file.display(),
        unfit.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::postfix::main_cf::smtp_clients;

    /// A `master.cf` in which nothing is set differently.
    const MASTER: &str = "smtp unix - - y - - smtp\nrelay unix - - y - - smtp -o syslog_name=postfix/relay\n";

    const GOOD: &str = "smtp_dns_support_level = dnssec\nsmtp_tls_security_level = may\n\
                        smtp_tls_dane_insecure_mx_policy = dane\n\
                        smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8642:QUERY\nsmtp_tls_CAfile = /ca.pem\n";

    fn map_of(name: &str) -> Option<MapOptions> {
        match name {
            "QUERY" => Some(MapOptions::default()),
            "QUERYwithTLSRPT" => Some(MapOptions { tlsrpt: true, ..MapOptions::default() }),
            "old" => Some(MapOptions { require_sni: false, ..MapOptions::default() }),
            _ => None,
        }
    }

    /// Severities and texts for a file, read by this version.
    fn findings(text: &str, version: &str, chrooted: bool) -> Vec<Finding> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("postseal.toml");
        let unix = "unix:/var/spool/postfix/postseal/map.sock";
        std::fs::write(&file, format!("[socketmap]\nlisten = [\"127.0.0.1:8642\", \"{unix}\"]")).expect("written");
        let sources = Sources { file: Some(file), ..Sources::default() };
        check(&Checked {
            main_cf: &MainCf::parse(text),
            version: version.parse().expect("a version"),
            config: &Config::load(&sources).expect("a configuration"),
            queue_directory: Path::new("/var/spool/postfix"),
            chrooted,
            clients: &smtp_clients(MASTER),
            map_of: &map_of,
            exists: &|path| path == Path::new("/ca.pem"),
        })
    }

    #[test]
    fn a_file_as_it_should_be_has_no_findings() {
        for (from, to, version) in [
            ("security_level = may", "security_level = may", "3.7"),
            ("security_level = may", "security_level = dane", "3.7"),
            ("inet:127.0.0.1:8642", "inet:localhost:8642", "3.9"),
            ("socketmap:inet:", "proxy:socketmap:inet:", "3.9"),
            ("security_level = may", "security_level = may\nrelayhost =", "3.7"),
            ("inet:127.0.0.1:8642", "unix:postseal/map.sock", "3.9"),
            ("inet:127.0.0.1:8642", "unix:/var/spool/postfix/postseal/map.sock", "3.9"),
            ("smtp_tls_CAfile = /ca.pem", "tls_append_default_CA = yes", "3.9"),
            ("QUERY\n", "old\n", "2.11"),
            ("QUERY\n", "QUERYwithTLSRPT\nsmtp_tlsrpt_enable = yes\nsmtp_tlsrpt_socket_name = run/x\n", "3.10"),
        ] {
            assert_eq!(findings(&GOOD.replace(from, to), version, true), [], "{to}");
        }
    }

    #[test]
    fn overrides_that_this_version_rejects_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("postseal.toml");
        std::fs::write(&file, "[policy.overrides]\n\"a.example\" = \"dane enable_rpk=yes\"").expect("written");
        let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).expect("a configuration");
        let of = |version: &str| overrides(&config, version.parse().expect("a version"));
        assert_eq!(of("3.9"), Vec::<String>::new());
        let expected =
            "policy.overrides: `a.example` has enable_rpk, which Postfix knows since 3.9: 3.7 defers the mail";
        assert_eq!(of("3.7"), [expected]);
    }

    #[test]
    fn each_mistake_is_found_and_named() {
        for (from, to, version, part) in [
            ("smtp_dns_support_level = dnssec", "", "3.7", "smtp_dns_support_level = dnssec"),
            ("= dnssec", "= enabled", "3.7", "smtp_dns_support_level = dnssec"),
            ("= dnssec", "= dnssec\ndisable_dns_lookups = yes", "3.7", "no disable_dns_lookups"),
            ("= dnssec", "= dnssec\nsmtp_host_lookup = native", "3.7", "smtp_host_lookup = dns"),
            ("8642:QUERY", "8642:QUERYwithTLSRPT", "3.9", "takes for errors and defers mail: use QUERY"),
            ("8642:QUERY", "8642:QUERY", "3.3", "require-sni = false"),
            ("8642:QUERY", "8642:NONE", "3.7", "no map named NONE"),
            ("8642:QUERY", "8643:QUERY", "3.7", "not where postseal listens"),
            ("inet:127.0.0.1:8642", "unix:other.sock", "3.7", "not where postseal listens"),
            ("socketmap:inet:127.0.0.1:8642:QUERY", "hash:/etc/postfix/tls", "3.7", "postseal is never asked"),
            ("smtp_tls_CAfile = /ca.pem", "", "3.7", "for want of CA certificates"),
            ("/ca.pem", "/missing.pem", "3.7", "there is no such file"),
            ("smtp_tls_CAfile = /ca.pem", "smtp_tls_CApath = /etc/ssl", "3.7", "/var/spool/postfix/etc/ssl"),
            ("security_level = may", "security_level = none", "3.7", "unencrypted"),
            ("security_level = may", "security_level = encrypt", "3.7", "holds mail to every domain"),
            ("security_level = may", "security_level = dane-only", "3.7", "holds mail to every domain"),
            ("QUERY", "QUERYwithTLSRPT\nsmtp_tlsrpt_enable = yes", "3.10", "without smtp_tlsrpt_socket_name"),
            ("QUERY", "old", "2.10", "knows no DANE"),
        ] {
            let found = findings(&GOOD.replacen(from, to, 1), version, true);
            let mistakes: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Mistake).collect();
            assert_eq!(mistakes.len(), 1, "{from} -> {to}: {found:?}");
            assert!(mistakes[0].text.contains(part), "{part} in {found:?}");
        }
    }

    #[test]
    fn what_could_be_better_is_a_hint() {
        for (from, to, version, part) in [
            ("smtp_tls_dane_insecure_mx_policy = dane", "", "3.1", "smtp_tls_dane_insecure_mx_policy = dane"),
            ("QUERY\n", "QUERY\nsmtp_tls_per_site = hash:/x\n", "3.7", "smtp_tls_per_site is ignored"),
            ("QUERY\n", "QUERY\nrelayhost = [relay.example]:587\n", "3.7", "postseal explain '[relay.example]:587'"),
            (
                "QUERY\n",
                "QUERY\nsmtp_tlsrpt_enable = yes\nsmtp_tlsrpt_socket_name = x\n",
                "3.10",
                "ask for QUERYwithTLSRPT",
            ),
        ] {
            let mut found = findings(&GOOD.replacen(from, to, 1), version, false);
            found.retain(|finding| !finding.text.contains("require-sni"));
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert!(found[0].severity == Severity::Hint && found[0].text.contains(part), "{part} in {found:?}");
        }
    }

    #[test]
    fn transports_that_do_not_ask_us_are_named() {
        for (options, severity, part) in [
            (
                "-o smtp_tls_policy_maps=hash:/x",
                Severity::Hint,
                "the transport bulk has a smtp_tls_policy_maps of its own",
            ),
            ("-o smtp_dns_support_level=enabled", Severity::Mistake, "smtp_dns_support_level = enabled"),
        ] {
            let clients = smtp_clients(&format!("{MASTER}bulk unix - - y - - smtp {options}\n"));
            let mut found = Vec::new();
            let config = Config::load(&Sources::default()).expect("a configuration");
            let checked = Checked {
                main_cf: &MainCf::parse(GOOD),
                version: DANE,
                config: &config,
                queue_directory: Path::new("/var/spool/postfix"),
                chrooted: false,
                clients: &clients,
                map_of: &map_of,
                exists: &|_| true,
            };
            transports(&checked, &mut found);
            assert!(found.len() == 1 && found[0].severity == severity && found[0].text.contains(part), "{found:?}");
        }
        let clients = smtp_clients(&format!(
            "{MASTER}bulk unix - - y - - smtp -o smtp_tls_policy_maps=proxy:socketmap:inet:x:Q\n"
        ));
        assert_eq!(clients.len(), 3);
    }

    #[test]
    fn resolvers_that_do_not_validate_are_named_with_what_to_do() {
        let file = Path::new("/etc/resolv.conf");
        let address: IpAddr = "192.0.2.1".parse().expect("an address");
        assert_eq!(resolvers(file, &[(address, Manner::Validates)]), None);
        for (manner, part) in [
            (Manner::DoesNotValidate, "192.0.2.1 does not validate"),
            (Manner::Fails, "192.0.2.1 answers with an error"),
            (Manner::Silent, "192.0.2.1 does not answer"),
        ] {
            let text = resolvers(file, &[(address, manner)]).expect("a finding").text;
            assert!(text.contains(part) && text.contains("/etc/resolv.conf") && text.contains("dns.listen"), "{text}");
        }
    }
}
