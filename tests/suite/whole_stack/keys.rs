//! Map names, keys and replies (design §3), byte for byte.

use crate::support::daemon::Daemon;
use crate::support::fault::{Fault, On};
use crate::support::https::Script;
use crate::support::mail::{STS, domain, foundation, host};
use crate::support::policy_lab::enforce;
use crate::support::record::rtype;
use crate::support::zone::Delegation;

const SECURE: &str = "OK secure match=mx1.sts.com:.example.net servername=hostname";
const TLSRPT: &str = "OK secure match=mx1.sts.com:.example.net servername=hostname policy_type=sts policy_domain=sts.com \
     mx_host_pattern=mx1.sts.com mx_host_pattern=*.example.net { policy_string = version: STSv1 } \
     { policy_string = mode: enforce } { policy_string = mx: mx1.sts.com } { policy_string = mx: *.example.net } \
     { policy_string = max_age: 604800 }";

const MAPS: &str = r#"
[maps.strict]
strict-testing = true
[maps.no-sni]
require-sni = false
[maps.no-dane]
dane = false
[maps.no-sts]
mta-sts = false
[maps.report]
tlsrpt = true
report-level = "may"
"#;

async fn start() -> Daemon {
    let mut zones = foundation();
    zones.extend([
        domain("dane.com", true, &[host::USABLE]),
        domain("both.com", true, &[host::USABLE]).records(&sts_here()),
        domain("sts.com", false, &[host::INSECURE]).records(&sts_here()),
        domain("testing.com", false, &[host::INSECURE]).records(&sts_here()),
        domain("nosuchpolicy.com", false, &[host::INSECURE]).records(&sts_here()),
        domain("xn--bcher-kva.com", true, &[host::USABLE]),
        domain("bogus.com", true, &[host::USABLE]).delegation(Delegation::WrongDigest),
        domain("slow.com", true, &[host::USABLE]),
    ]);
    let daemon = Daemon::start(zones, MAPS).await;
    let late = std::time::Duration::from_millis(700);
    daemon.world.inject(On::name("slow.com").qtype(rtype::MX), Fault::Late(late));
    let policy = enforce(&["mx1.sts.com", "*.example.net"]);
    daemon.hosts.set("sts.com", Script::policy(&policy));
    daemon.hosts.set("both.com", Script::policy(&policy));
    daemon.hosts.set("testing.com", Script::policy(&policy.replace("enforce", "testing")));
    daemon.hosts.set("nosuchpolicy.com", Script::response("404 Not Found", "Content-Length: 0", b""));
    daemon
}

fn sts_here() -> String {
    STS.replace("192.0.2.80", "127.0.0.1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_map_and_key_gets_its_reply() {
    let daemon = start().await;
    let long = format!("QUERY {}.com", ["a".repeat(60).as_str(); 5].join("."));
    for (request, reply) in [
        ("QUERY dane.com", "OK dane-only"),
        ("QUERY DANE.com.", "OK dane-only"),
        ("QUERY bücher.com", "OK dane-only"),
        ("QUERY xn--bcher-kva.com", "OK dane-only"),
        ("QUERY .dane.com", "NOTFOUND "),
        ("QUERY [usable.hosts.net]", "OK dane-only"),
        ("QUERY [usable.hosts.net]:587", "OK dane-only"),
        ("QUERY [usable.hosts.net]:465", "NOTFOUND "),
        ("QUERY dane.com:587", "OK dane-only"),
        ("QUERY dane.com:2525", "NOTFOUND "),
        ("QUERY [192.0.2.1]", "NOTFOUND "),
        ("QUERY [2001:db8::1]", "NOTFOUND "),
        ("QUERY 192.0.2.1", "NOTFOUND "),
        ("QUERY ", "NOTFOUND "),
        (&long, "NOTFOUND "),
        ("QUERY plain.net", "NOTFOUND "),
        ("QUERY absent.com", "NOTFOUND "),
        ("QUERY both.com", "OK dane-only"),
        ("QUERY sts.com", SECURE),
        ("query sts.com", SECURE),
        ("postfix sts.com", SECURE),
        ("POSTFIX sts.com", SECURE),
        ("QUERYwithTLSRPT sts.com", TLSRPT),
        ("querywithtlsrpt sts.com", TLSRPT),
        ("QUERYwithTLSRPT dane.com", "OK dane-only"),
        ("QUERYwithTLSRPT both.com", "OK dane-only"),
        ("QUERYwithTLSRPT plain.net", "NOTFOUND "),
        ("QUERY sts.com:587", SECURE),
        ("QUERY [sts.com]", SECURE),
        ("QUERY [STS.com]:587", SECURE),
        ("QUERYwithTLSRPT [sts.com]:587", TLSRPT),
        ("QUERY .sts.com", "NOTFOUND "),
        ("QUERY [mx.sts.com]", "NOTFOUND "),
        ("QUERY testing.com", "NOTFOUND "),
        ("QUERYwithTLSRPT testing.com", "NOTFOUND "),
        ("strict testing.com", "OK secure match=mx1.sts.com:.example.net servername=hostname"),
        ("no-sni sts.com", "OK secure match=mx1.sts.com:.example.net"),
        ("no-dane both.com", SECURE),
        ("no-dane dane.com", "NOTFOUND "),
        ("no-sts sts.com", "NOTFOUND "),
        ("no-sts both.com", "OK dane-only"),
        ("report dane.com", "OK dane-only"),
        ("QUERY nosuchpolicy.com", "NOTFOUND "),
        (
            "report nosuchpolicy.com",
            "OK may policy_type=sts policy_domain=nosuchpolicy.com policy_failure=sts-policy-fetch-error",
        ),
    ] {
        assert_eq!(daemon.ask(request).await, reply, "{request}");
    }
    let reported = daemon.ask("report testing.com").await;
    assert!(reported.starts_with("OK may policy_type=sts policy_domain=testing.com mx_host_pattern="), "{reported}");
    assert!(!reported.contains("policy_failure"), "{reported}");
    let held = daemon.ask("QUERY bogus.com").await;
    assert!(held.starts_with("TEMP bogus.com: MX lookup: ") && held.len() <= 205 && held.is_ascii(), "{held}");
    for request in ["nosuchmap dane.com", "Strict testing.com", "QUERYx dane.com"] {
        let reply = daemon.ask(request).await;
        assert!(reply.starts_with("PERM unknown map "), "{request}: {reply}");
    }
    assert!(daemon.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order_and_side_by_side() {
    let daemon = start().await;
    let mut client = daemon.connect().await;
    for request in ["QUERY slow.com", "QUERY .x", "nosuchmap x", "QUERY dane.com", "QUERY sts.com"] {
        client.send(request.as_bytes()).await;
    }
    let mut replies = Vec::new();
    for _ in 0..5 {
        replies.push(client.receive().await);
    }
    assert_eq!(replies, ["OK dane-only", "NOTFOUND ", &replies[2], "OK dane-only", SECURE]);
    assert!(replies[2].starts_with("PERM "), "{}", replies[2]);
    // Keys are octets: what is no UTF-8 is no destination.
    assert_eq!(client.ask(b"QUERY \xff\xfe\x00").await, "NOTFOUND ");
    assert_eq!(client.ask(b"QUERY dane.com").await, "OK dane-only");
}
