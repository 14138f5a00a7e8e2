//! RFC 8461 and design §5, rule by rule, over real DNS and HTTPS.

use std::time::Duration;

use futures_util::future::join_all;

use crate::support::daemon::Daemon;
use crate::support::fault::{Fault, On};
use crate::support::https::{Certificate, Says, Script};
use crate::support::mail::USABLE;
use crate::support::policy_lab::enforce;
use crate::support::zone::{Denial, Zone};

const SECURE: &str = "OK secure match=mx.example.net servername=hostname";
const NONE: &str = "NOTFOUND ";
const RECORD: &str = "\"v=STSv1; id=1;\"";

/// Recipient domains are names in one zone: `<row>.sts.com`.
struct Row {
    name: String,
    records: String,
    script: Script,
    expected: &'static str,
}

fn row(name: &str, txt: &[&str], script: Script, expected: &'static str) -> Row {
    let mut records = format!("{name} MX 10 mx.plain.com.\nmta-sts.{name} A 127.0.0.1\n");
    for txt in txt {
        records.push_str(&format!("_mta-sts.{name} TXT {txt}\n"));
    }
    Row { name: name.to_owned(), records, script, expected }
}

async fn check(rows: Vec<Row>, configuration: &str) -> Daemon {
    let mut zone = Zone::new("sts.com");
    for row in &rows {
        zone = zone.records(&row.records);
    }
    let zones = vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13).denial(Denial::opt_out()),
        Zone::new("plain.com").records("mx A 192.0.2.1"),
        zone,
    ];
    let daemon = Daemon::start(zones, configuration).await;
    for row in &rows {
        daemon.hosts.set(&format!("{}.sts.com", row.name), row.script.clone());
    }
    let asked = rows.iter().map(async |row| {
        let reply = daemon.ask(&format!("QUERY {}.sts.com", row.name)).await;
        let fits = if row.expected == "TEMP" { reply.starts_with("TEMP ") } else { reply == row.expected };
        (!fits).then(|| format!("{}: {reply:?}, should be {:?}", row.name, row.expected))
    });
    let wrong: Vec<String> = join_all(asked).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon
}

fn good() -> Script {
    Script::policy(&enforce(&["mx.example.net"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_announce_a_policy_as_rfc_8461_section_3_1_says() {
    let long = format!("\"v=STSv1; id={};\"", "a".repeat(32));
    let longer = format!("\"v=STSv1; id={};\"", "a".repeat(33));
    let mut rows = vec![
        row("plain", &[RECORD], good(), SECURE),
        row("no-last-semicolon", &["\"v=STSv1; id=20270101T000000\""], good(), SECURE),
        row("no-space", &["\"v=STSv1;id=1;\""], good(), SECURE),
        row("space-before-semicolon", &["\"v=STSv1 ; id=1 ;\""], good(), SECURE),
        row("extension", &["\"v=STSv1; id=1; foo=bar;\""], good(), SECURE),
        row("extension-first", &["\"v=STSv1; foo=bar; id=1;\""], good(), SECURE),
        row("longest-id", &[&long], good(), SECURE),
        row("split", &["\"v=STSv\" \"1; i\" \"d=1;\""], good(), SECURE),
        row("split-with-a-v-too-many", &["\"v=STSv\" \"v1; id=1;\""], good(), NONE),
        row("beside-others", &[RECORD, "\"v=spf1 -all\"", "\"hello\""], good(), SECURE),
        row("two", &[RECORD, "\"v=STSv1; id=2;\""], good(), NONE),
        row("two-one-broken", &[RECORD, "\"v=STSv1; nonsense\""], good(), NONE),
        row("none", &[], good(), NONE),
        row("others-only", &["\"v=spf1 -all\""], good(), NONE),
        row("version-2", &["\"v=STSv2; id=1;\""], good(), NONE),
        row("version-10", &["\"v=STSv10; id=1;\""], good(), NONE),
        row("version-case", &["\"v=stsv1; id=1;\""], good(), NONE),
        row("space-first", &["\" v=STSv1; id=1;\""], good(), NONE),
        row("no-id", &["\"v=STSv1;\""], good(), NONE),
        row("empty-id", &["\"v=STSv1; id=;\""], good(), NONE),
        row("id-with-hyphen", &["\"v=STSv1; id=2027-01-01;\""], good(), NONE),
        row("id-too-long", &[&longer], good(), NONE),
        row("id-in-upper-case", &["\"v=STSv1; ID=1;\""], good(), NONE),
    ];
    rows.push(Row {
        name: "alias".to_owned(),
        records: "alias MX 10 mx.plain.com.\nmta-sts.alias A 127.0.0.1\n_mta-sts.alias CNAME _mta-sts.plain".to_owned(),
        script: good(),
        expected: SECURE,
    });
    rows.push(Row {
        name: "aliased-host".to_owned(),
        records: format!(
            "aliased-host MX 10 mx.plain.com.\nmta-sts.aliased-host CNAME mta-sts.plain\n_mta-sts.aliased-host TXT {RECORD}"
        ),
        script: good(),
        expected: SECURE,
    });
    rows.push(Row {
        name: "no-host".to_owned(),
        records: format!("no-host MX 10 mx.plain.com.\n_mta-sts.no-host TXT {RECORD}"),
        script: good(),
        expected: NONE,
    });
    check(rows, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_fetched_as_rfc_8461_section_3_3_says() {
    let policy = enforce(&["mx.example.net"]);
    let with = |status: &str, header: &str| {
        let header = format!("Content-Length: {}\r\n{header}", policy.len());
        Script::response(status, header.trim_end(), policy.as_bytes())
    };
    let typed = |media: &str| with("200 OK", &format!("Content-Type: {media}"));
    let padded = |octets: usize| {
        let filler = "x-filler: ".len() + 2;
        let text = format!("{policy}x-filler: {}\r\n", "x".repeat(octets - policy.len() - filler));
        assert_eq!(text.len(), octets);
        Script::policy(&text)
    };
    let chunked = format!("{:x}\r\n{policy}\r\n0\r\n\r\n", policy.len());
    let short = format!("Content-Type: text/plain\r\nContent-Length: {}", policy.len() + 10);
    let big_header = format!("Content-Type: text/plain\r\nX-Big: {}", "x".repeat(70_000));
    let certificate = |kind| good().with_certificate(kind);
    let rows = vec![
        row("good", &[RECORD], good(), SECURE),
        row("status-201", &[RECORD], with("201 Created", "Content-Type: text/plain"), NONE),
        row("status-203", &[RECORD], with("203 Non-Authoritative", "Content-Type: text/plain"), NONE),
        row("status-206", &[RECORD], with("206 Partial Content", "Content-Type: text/plain"), NONE),
        row("status-404", &[RECORD], with("404 Not Found", "Content-Type: text/plain"), NONE),
        row("status-500", &[RECORD], with("500 Oops", "Content-Type: text/plain"), NONE),
        row(
            "redirect-301",
            &[RECORD],
            with("301 Moved", "Content-Type: text/plain\r\nLocation: /.well-known/mta-sts.txt"),
            NONE,
        ),
        row(
            "redirect-302",
            &[RECORD],
            with(
                "302 Found",
                "Content-Type: text/plain\r\nLocation: https://mta-sts.good.sts.com/.well-known/mta-sts.txt",
            ),
            NONE,
        ),
        row(
            "redirect-307",
            &[RECORD],
            with(
                "307 Temporary",
                "Content-Type: text/plain\r\nLocation: https://mta-sts.good.sts.com/.well-known/mta-sts.txt",
            ),
            NONE,
        ),
        row("charset", &[RECORD], typed("text/plain; charset=utf-8"), SECURE),
        row("media-case", &[RECORD], typed("Text/PLAIN"), SECURE),
        row("html", &[RECORD], typed("text/html"), NONE),
        row("octet-stream", &[RECORD], typed("application/octet-stream"), NONE),
        row("plainer", &[RECORD], typed("text/plainer"), NONE),
        row("no-media-type", &[RECORD], with("200 OK", ""), NONE),
        row("gzip", &[RECORD], with("200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip"), NONE),
        row(
            "chunked",
            &[RECORD],
            Script::response("200 OK", "Content-Type: text/plain\r\nTransfer-Encoding: chunked", chunked.as_bytes()),
            SECURE,
        ),
        row("short-body", &[RECORD], Script::response("200 OK", &short, policy.as_bytes()), NONE),
        row("largest", &[RECORD], padded(65_536), SECURE),
        row("too-large", &[RECORD], padded(65_537), NONE),
        row("big-header", &[RECORD], with("200 OK", &big_header), NONE),
        row("not-http", &[RECORD], Script::says(Says::Octets(b"220 mx.example.net ESMTP\r\n".to_vec())), NONE),
        row("closes", &[RECORD], Script::says(Says::Closes), NONE),
        row("old-tls", &[RECORD], Script::says(Says::OldTls), NONE),
        row("wrong-name", &[RECORD], certificate(Certificate::WrongName), NONE),
        row("parent-name", &[RECORD], certificate(Certificate::ParentName), NONE),
        row("expired", &[RECORD], certificate(Certificate::Expired), NONE),
        row("not-yet-valid", &[RECORD], certificate(Certificate::NotYetValid), NONE),
        row("self-signed", &[RECORD], certificate(Certificate::SelfSigned), NONE),
        row("other-ca", &[RECORD], certificate(Certificate::OtherCa), NONE),
    ];
    let daemon = check(rows, "").await;
    let requests = daemon.hosts.take_requests();
    let request = "GET /.well-known/mta-sts.txt HTTP/1.1";
    assert!(requests.iter().all(|line| line.ends_with(request)), "{requests:?}");
    // No redirect was followed, and an HTTP error is fetched once (RFC 8461 §3.3).
    for name in ["good", "status-404", "redirect-302"] {
        let host = format!("mta-sts.{name}.sts.com ");
        assert_eq!(requests.iter().filter(|line| line.starts_with(&host)).count(), 1, "{requests:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_keep_us_waiting_at_first_contact_hold_no_mail() {
    let policy = enforce(&["mx.example.net"]);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", policy.len());
    let drip = Says::Drip(Duration::from_millis(200), [head.as_bytes(), policy.as_bytes()].concat());
    let rows = vec![
        row("drip", &[RECORD], Script::says(drip), NONE),
        row("nothing", &[RECORD], Script::says(Says::Nothing), NONE),
        row("no-tls", &[RECORD], Script::says(Says::NoTls), NONE),
    ];
    check(rows, "[policy]\ntimeout = \"2s\"").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_a_policy_host_touches_a_dane_domain() {
    let certificate = |kind| good().with_certificate(kind);
    let says = |what| Script::says(what);
    let faults = [
        ("wrong-name", certificate(Certificate::WrongName)),
        ("expired", certificate(Certificate::Expired)),
        ("self-signed", certificate(Certificate::SelfSigned)),
        ("other-ca", certificate(Certificate::OtherCa)),
        ("redirect", Script::response("302 Found", "Location: https://good.sts.com/", b"")),
        ("server-error", Script::response("500 Oops", "Content-Length: 0", b"")),
        ("garbage", says(Says::Octets(b"garbage\r\n\r\n".to_vec()))),
        ("closes", says(Says::Closes)),
        ("nothing", says(Says::Nothing)),
        ("no-tls", says(Says::NoTls)),
        ("old-tls", says(Says::OldTls)),
        ("drip", says(Says::Drip(Duration::from_secs(1), vec![b'x'; 1000]))),
        ("none", Script::policy("version: STSv1\nmode: none\nmax_age: 86400\n")),
        ("good", good()),
    ];
    let mut zone = Zone::new("dane.com").signed(13).records(&format!("mx A 192.0.2.1\n_25._tcp.mx {USABLE}"));
    for (name, _) in &faults {
        let records = format!("{name} MX 10 mx\nmta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT {RECORD}");
        zone = zone.records(&records);
    }
    let zones = vec![Zone::new(".").signed(13), Zone::new("com").signed(13), zone];
    // Long enough that an answer that waited for the policy host would be noticed as TEMP only after a minute.
    let daemon = Daemon::start(zones, "[policy]\ntimeout = \"60s\"").await;
    for (name, script) in &faults {
        daemon.hosts.set(&format!("{name}.dane.com"), script.clone());
    }
    for (name, _) in &faults {
        let request = format!("QUERY {name}.dane.com");
        let reply = tokio::time::timeout(Duration::from_secs(30), daemon.ask(&request)).await;
        assert_eq!(reply.as_deref(), Ok("OK dane-only"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_read_as_rfc_8461_section_3_2_says() {
    let two = "OK secure match=mx1.example.net:.example.org servername=hostname";
    let policy = |text: &str| Script::policy(text);
    let rows: Vec<Row> = [
        ("crlf", "version: STSv1\r\nmode: enforce\r\nmx: mx.example.net\r\nmax_age: 86400\r\n", SECURE),
        ("lf", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n", SECURE),
        ("no-last-newline", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400", SECURE),
        ("version-last", "mode: enforce\nmx: mx.example.net\nmax_age: 86400\nversion: STSv1\n", SECURE),
        ("no-spaces", "version:STSv1\nmode:enforce\nmx:mx.example.net\nmax_age:86400\n", SECURE),
        ("many-spaces", "version:  STSv1\nmode:\tenforce\nmx: mx.example.net  \nmax_age: 86400\n", SECURE),
        ("empty-lines", "version: STSv1\n\nmode: enforce\n\nmx: mx.example.net\nmax_age: 86400\n\n", SECURE),
        ("unknown-fields", "version: STSv1\nmode: enforce\nfoo: bar\nmx: mx.example.net\nmax_age: 86400\n", SECURE),
        (
            "repeated",
            "version: STSv1\nmode: enforce\nmode: none\nmx: mx.example.net\nmax_age: 86400\nmax_age: 1\n",
            SECURE,
        ),
        (
            "repeated-first-none",
            "version: STSv1\nmode: none\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n",
            NONE,
        ),
        ("two-mx", "version: STSv1\nmode: enforce\nmx: mx1.example.net\nmx: *.example.org\nmax_age: 86400\n", two),
        ("mx-case", "version: STSv1\nmode: enforce\nmx: MX.Example.NET\nmax_age: 86400\n", SECURE),
        ("max-age-zero", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 0\n", SECURE),
        ("max-age-too-much", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 9999999999\n", SECURE),
        ("testing", "version: STSv1\nmode: testing\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("mode-none", "version: STSv1\nmode: none\nmax_age: 86400\n", NONE),
        ("no-version", "mode: enforce\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("wrong-version", "version: STSv2\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("no-mode", "version: STSv1\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("wrong-mode", "version: STSv1\nmode: enforced\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("no-max-age", "version: STSv1\nmode: enforce\nmx: mx.example.net\n", NONE),
        ("max-age-11-digits", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 00000086400\n", NONE),
        ("max-age-negative", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: -1\n", NONE),
        ("max-age-words", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 1 day\n", NONE),
        ("no-mx", "version: STSv1\nmode: enforce\nmax_age: 86400\n", NONE),
        ("mx-address", "version: STSv1\nmode: enforce\nmx: 192.0.2.1\nmax_age: 86400\n", NONE),
        ("mx-trailing-dot", "version: STSv1\nmode: enforce\nmx: mx.example.net.\nmax_age: 86400\n", NONE),
        ("mx-inner-wildcard", "version: STSv1\nmode: enforce\nmx: mx.*.example.net\nmax_age: 86400\n", NONE),
        ("mx-bare-wildcard", "version: STSv1\nmode: enforce\nmx: *\nmax_age: 86400\n", NONE),
        ("mx-u-label", "version: STSv1\nmode: enforce\nmx: mx.bücher.example\nmax_age: 86400\n", NONE),
        ("byte-order-mark", "\u{feff}version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n", NONE),
        ("no-colon", "version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\nnonsense\n", NONE),
        ("empty", "", NONE),
        ("html-page", "<html>version: STSv1\nmode: enforce\n</html>", NONE),
    ]
    .into_iter()
    .map(|(name, text, expected)| row(name, &[RECORD], policy(text), expected))
    .collect();
    check(rows, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_survives_a_restart_with_dns_and_https_cut_off() {
    let mut daemon = check(vec![row("kept", &[RECORD], good(), SECURE)], "").await;
    daemon.hosts.set("kept.sts.com", Script::says(Says::Closes));
    daemon.world.inject(On::everything(), Fault::Silence);
    daemon.restart().await;
    assert_eq!(daemon.ask("QUERY kept.sts.com").await, SECURE);
    assert_eq!(daemon.ask("QUERYwithTLSRPT kept.sts.com").await.split_once(" policy_type=sts ").unwrap().0, SECURE);
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_hosts_at_private_addresses_are_refused_unless_allowed() {
    // The base configuration allows them; the same world without that line has no policy.
    let zones = vec![
        Zone::new(".").signed(13),
        Zone::new("com").signed(13),
        Zone::new("plain.com").records("mx A 192.0.2.1"),
        Zone::new("sts.com").records(&row("private", &[RECORD], good(), NONE).records),
    ];
    let daemon = Daemon::start_with(zones, "", |base| base.replace("allow-private-addresses = true", "")).await;
    daemon.hosts.set("private.sts.com", good());
    assert_eq!(daemon.ask("QUERY private.sts.com").await, NONE);
    assert!(daemon.hosts.take_requests().is_empty());
}
