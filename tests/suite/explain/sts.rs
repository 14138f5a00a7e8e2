//! What is wrong with a policy host, a record or a policy is named (RFC 8461), over real HTTPS.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postseal::policy::explain::text::{Style, render};
use postseal::policy::mta_sts::{FetchSettings, HttpsFetch};

use super::Setting;
use crate::support::https::{Certificate, PolicyHosts, Says, Script};
use crate::support::lab::Lab;
use crate::support::policy_lab::enforce;
use crate::support::zone::Zone;

/// What has to be said of a certificate; nothing of a good one.
fn told_of(certificate: Certificate) -> Option<&'static str> {
    match certificate {
        Certificate::Good => None,
        Certificate::WrongName => Some("certificate of policy host: for another name: mta-sts.wrong.example"),
        Certificate::ParentName => Some("certificate of policy host: for another name: parentname.sts.com"),
        Certificate::Expired => Some("certificate of policy host: expired on 2020-01-01"),
        Certificate::NotYetValid => Some("certificate of policy host: not yet valid: valid from 2090-01-01"),
        Certificate::SelfSigned | Certificate::OtherCa => Some("certificate of policy host: issued by an unknown CA"),
    }
}

/// What has to be said of a host that behaves like this.
fn told_of_host(says: &Says) -> &'static str {
    match says {
        Says::Octets(_) => "is not HTTP",
        Says::Drip(..) | Says::Nothing | Says::NoTls => "policy host did not answer in time",
        Says::Closes => "connection to policy host broke",
        Says::OldTls => "TLS with policy host",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_a_policy_host_is_named() {
    let policy = enforce(&["mx.plain.com"]);
    let with = |status: &str, header: &str, body: &str| {
        Script::response(status, &format!("Content-Length: {}\r\n{header}", body.len()), body.as_bytes())
    };
    let text = "Content-Type: text/plain";
    let mut rows: Vec<(String, Script, Option<&str>)> = vec![
        ("status404".into(), with("404 Not Found", text, ""), Some("policy host answered with HTTP status 404")),
        (
            "redirect".into(),
            with("302 Found", "Location: https://elsewhere.example/", ""),
            Some("policy host answered with HTTP status 302"),
        ),
        (
            "html".into(),
            with("200 OK", "Content-Type: text/html", &policy),
            Some("policy file is not text/plain: Content-Type: text/html"),
        ),
        (
            "gzip".into(),
            with("200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip", &policy),
            Some("policy file is encoded: Content-Encoding: gzip"),
        ),
        (
            "twotypes".into(),
            with("200 OK", "Content-Type: text/plain\r\nContent-Type: application/octet-stream", &policy),
            Some("policy file is not text/plain: Content-Type: application/octet-stream"),
        ),
        ("untyped".into(), with("200 OK", "X: y", &policy), Some("policy file is not text/plain: no Content-Type")),
        (
            "coding".into(),
            with("200 OK", "Content-Type: text/plain\r\nTransfer-Encoding: foo", &policy),
            Some("policy file has an unknown transfer coding: Transfer-Encoding: foo"),
        ),
        ("toolong".into(), with("200 OK", text, &"a".repeat(65_537)), Some("policy file is longer than 65536 octets")),
        ("nomode".into(), Script::policy("version: STSv1\nmax_age: 1\n"), Some("policy: mode is missing or unknown")),
        ("version".into(), Script::policy("version: STSv2\nmode: none\n"), Some("policy: version is not STSv1")),
        ("nomx".into(), Script::policy("version: STSv1\nmode: enforce\nmax_age: 86400\n"), Some("policy: no mx")),
    ];
    for certificate in Certificate::ALL {
        let name = format!("{certificate:?}").to_lowercase();
        rows.push((name, Script::policy(&policy).with_certificate(certificate), told_of(certificate)));
    }
    let drip = Says::Drip(Duration::from_secs(1), b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n".to_vec());
    for says in [Says::Octets(b"220 hello\r\n".to_vec()), drip, Says::Nothing, Says::Closes, Says::NoTls, Says::OldTls]
    {
        let name: String =
            format!("host-{says:?}").to_lowercase().chars().take(9).filter(char::is_ascii_alphabetic).collect();
        let told = told_of_host(&says);
        rows.push((name, Script::says(says), Some(told)));
    }
    let mut zone = Zone::new("sts.com");
    for (name, ..) in &rows {
        let records =
            format!("{name} MX 10 mx.plain.com.\nmta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT \"v=STSv1; id=1;\"");
        zone = zone.records(&records);
    }
    let hosts = PolicyHosts::start().await;
    for (name, script, _) in &rows {
        hosts.set(&format!("{name}.sts.com"), script.clone());
    }
    let plain = Zone::new("plain.com").records("mx A 192.0.2.1");
    let setting = over_https(&hosts, vec![Zone::new(".").signed(13), Zone::new("com").signed(13), plain, zone]).await;
    let asked = rows.iter().map(async |(name, _, told)| {
        let explanation = setting.explain(&format!("{name}.sts.com")).await;
        let text = render(&explanation, Style::default());
        let advice: String =
            explanation.advice.iter().map(|item| format!("{}; {}\n", item.problem, item.whose)).collect();
        let whose = format!("the operators of the policy host mta-sts.{name}.sts.com");
        let fits = match told {
            Some(told) => advice.contains(told) && text.contains(told) && advice.contains(&whose),
            None => advice.is_empty() && text.contains("mode enforce, id 1") && text.contains("mx: mx.plain.com"),
        };
        (!fits).then(|| format!("{name}: {told:?} is not in\n{text}"))
    });
    let wrong: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A lab over sockets whose policy files come from `hosts`, and that has no patience.
async fn over_https(hosts: &PolicyHosts, zones: Vec<Zone>) -> Setting {
    let lab = Lab::on_sockets(zones).await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), hosts.ca_pem()).unwrap();
    let settings = FetchSettings {
        ca_file: Some(ca.path().to_owned()),
        port: hosts.address.port(),
        allow_private_addresses: true,
        ..FetchSettings::default()
    };
    let fetch = HttpsFetch::new(Arc::new(lab.engine.clone()), settings, lab.clock.clone()).unwrap();
    Setting::with_fetch(lab, Arc::new(fetch), Duration::from_secs(4))
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_a_record_is_named() {
    let long = format!("\"v=STSv1; id={};\"", "a".repeat(33));
    let rows: &[(&str, &[&str], &str)] = &[
        ("two", &["\"v=STSv1; id=1;\"", "\"v=STSv1; id=2;\""], "several MTA-STS records"),
        ("noid", &["\"v=STSv1;\""], "MTA-STS record is malformed"),
        ("longid", &[&long], "MTA-STS record is malformed"),
        ("nohost", &["\"v=STSv1; id=1;\""], "policy host has no address"),
    ];
    let mut zone = Zone::new("sts.com");
    for (name, txt, _) in rows {
        zone = zone.records(&format!("{name} MX 10 mx.plain.com."));
        for txt in *txt {
            zone = zone.records(&format!("_mta-sts.{name} TXT {txt}"));
        }
    }
    let plain = Zone::new("plain.com").records("mx A 192.0.2.1");
    let lab = Lab::in_memory(vec![Zone::new(".").signed(13), Zone::new("com").signed(13), plain, zone]);
    let setting = Setting::new(lab);
    for (name, _, told) in rows {
        let explanation = setting.explain(&format!("{name}.sts.com")).await;
        let advice: Vec<&str> = explanation.advice.iter().map(|item| item.problem.as_str()).collect();
        assert!(advice.iter().any(|problem| problem.contains(told)), "{name}: {advice:?}");
    }
}
