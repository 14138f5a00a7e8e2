//! Postfix's words for a decision, to the octet (design §3, §4, §11).

use postseal::config::{MapOptions, ReportLevel};
use postseal::limits::{REASON_BYTES, REPLY_BYTES, STS_POLICY_BYTES};
use postseal::policy::mta_sts::FetchError;
use postseal::policy::reply::Reply;

use super::script::World;

const TLSRPT: MapOptions = MapOptions {
    tlsrpt: true,
    require_sni: true,
    strict_testing: false,
    dane: true,
    mta_sts: true,
    report_level: None,
};

fn world(policy: &str) -> World {
    let world = World::new();
    world.plain_domain("example.com");
    world.dns.sts("example.com", 600, "1");
    world.host.serves("example.com", policy);
    world
}

#[tokio::test(start_paused = true)]
async fn secure_names_the_hosts_and_asks_for_sni() {
    let policy = "version: STSv1\nmode: enforce\nmx: MX1.example.com\nmx: *.example.net\nmax_age: 86400\n";
    let plain = "OK secure match=mx1.example.com:.example.net servername=hostname";
    assert_eq!(world(policy).ask("example.com").await, plain);
    assert_eq!(world(policy).ask("EXAMPLE.com.").await, plain);
    let map = MapOptions { require_sni: false, ..MapOptions::default() };
    assert_eq!(world(policy).reply("example.com", &map).await, "OK secure match=mx1.example.com:.example.net");
}

#[tokio::test(start_paused = true)]
async fn tlsrpt_attributes_follow_in_published_order() {
    let policy = "version: STSv1\r\nmode: enforce\r\nx-a: 1 2\r\nx-b: {3}\r\nmx: *.example.net\r\nmx: mx.example.com\r\nmax_age: 86400\r\n";
    let expected = "OK secure match=.example.net:mx.example.com servername=hostname policy_type=sts \
        policy_domain=example.com mx_host_pattern=*.example.net mx_host_pattern=mx.example.com \
        { policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = x-a: 1 2 } \
        { policy_string = mx: *.example.net } { policy_string = mx: mx.example.com } { policy_string = max_age: 86400 }";
    assert_eq!(world(policy).reply("example.com", &TLSRPT).await, expected);
}

#[tokio::test(start_paused = true)]
async fn dane_replies_carry_no_attributes() {
    let world = world("version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 86400\n");
    world.dns.mx("example.com", postseal::dns::Security::Secure, &["mx.example.com"]);
    world.dns.address("mx.example.com", postseal::dns::Security::Secure);
    world.dns.tlsa("_25._tcp.mx.example.com", postseal::dns::Security::Secure, true);
    assert_eq!(world.reply("example.com", &TLSRPT).await, "OK dane-only");
}

#[tokio::test(start_paused = true)]
async fn the_largest_policies_fit_attributes_going_first() {
    let head = "version: STSv1\nmode: enforce\nmax_age: 86400\n";
    let fill = |line: &str| format!("{head}mx: mx.example.com\n{}", line.repeat((STS_POLICY_BYTES - 100) / line.len()));
    // Extension lines alone: they are left out, version, mode and max_age stay.
    let reply = world(&fill("x: y\n")).reply("example.com", &TLSRPT).await;
    assert!(
        reply.ends_with(
            "{ policy_string = version: STSv1 } { policy_string = mode: enforce } { policy_string = max_age: 86400 }"
        ),
        "{reply}"
    );
    // So many hosts that no attribute fits: the plain reply.
    let mut hosts = head.to_owned();
    for n in 0.. {
        let line = format!("mx: {n}.a\n");
        if hosts.len() + line.len() > STS_POLICY_BYTES {
            break;
        }
        hosts.push_str(&line);
    }
    let reply = world(&hosts).reply("example.com", &TLSRPT).await;
    assert!(reply.starts_with("OK secure match=0.a:1.a:") && reply.ends_with(" servername=hostname"));
    assert!(reply.len() <= REPLY_BYTES);
}

#[tokio::test(start_paused = true)]
async fn testing_and_none_do_not_enforce() {
    for mode in ["testing", "none"] {
        let policy = format!("version: STSv1\nmode: {mode}\nmx: mx.example.com\nmax_age: 86400\n");
        assert_eq!(world(&policy).ask("example.com").await, "NOTFOUND ", "{mode}");
        let strict = MapOptions { strict_testing: true, ..MapOptions::default() };
        let reply = world(&policy).reply("example.com", &strict).await;
        assert_eq!(reply.starts_with("OK secure"), mode == "testing", "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_level_reports_failures_and_testing_policies() {
    let map = MapOptions { report_level: Some(ReportLevel::May), ..TLSRPT };
    let rows = [
        (FetchError::Status(404), "sts-policy-fetch-error"),
        (FetchError::Timeout, "sts-policy-fetch-error"),
        (FetchError::Certificate("expired".into()), "sts-webpki-invalid"),
    ];
    for (error, word) in rows {
        let world = world("");
        world.host.fails("example.com", error);
        let expected = format!("OK may policy_type=sts policy_domain=example.com policy_failure={word}");
        assert_eq!(world.reply("example.com", &map).await, expected);
        assert_eq!(world.ask("example.com").await, "NOTFOUND ", "other maps do not report");
        let without = MapOptions { tlsrpt: false, ..map };
        assert_eq!(world.reply("example.com", &without).await, "NOTFOUND ", "nor does one without attributes");
    }
    let encrypt = MapOptions { report_level: Some(ReportLevel::Encrypt), ..map };
    let expected = "OK encrypt policy_type=sts policy_domain=example.com policy_failure=sts-policy-invalid";
    assert_eq!(world("hello").reply("example.com", &encrypt).await, expected);
    let testing = "version: STSv1\nmode: testing\nmx: mx.example.com\nmax_age: 86400\n";
    let expected = "OK may policy_type=sts policy_domain=example.com mx_host_pattern=mx.example.com \
        { policy_string = version: STSv1 } { policy_string = mode: testing } { policy_string = mx: mx.example.com } \
        { policy_string = max_age: 86400 }";
    assert_eq!(world(testing).reply("example.com", &map).await, expected);
    let none = "version: STSv1\nmode: none\nmax_age: 86400\n";
    assert_eq!(world(none).reply("example.com", &map).await, "NOTFOUND ");
    let unannounced = World::new();
    unannounced.plain_domain("example.com");
    assert_eq!(unannounced.reply("example.com", &map).await, "NOTFOUND ");
}

#[test]
fn reasons_are_short_ascii() {
    assert_eq!(Reply::temp("bücher: \u{7}no").to_string(), "TEMP b?cher: ?no");
    assert_eq!(Reply::perm("x".repeat(500)).to_string().len(), "PERM ".len() + REASON_BYTES);
    assert_eq!(Reply::NotFound.to_string(), "NOTFOUND ");
}
