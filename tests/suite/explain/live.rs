//! `--check-mx`: MX hosts that speak SMTP and TLS for real, held against TLSA records (RFC 7672 §3.1) and MTA-STS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postseal::policy::explain::text::{Style, render};
use postseal::policy::explain::{Explanation, Verdict};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, date_time_ymd};
use ring::digest::{SHA256, SHA512, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Setting;
use crate::support::lab::Lab;
use crate::support::policy_lab::{Host, ScriptedFetch, enforce};
use crate::support::zone::Zone;

/// What a server does before TLS.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    NoStartTls,
    Refuses,
    RefusesStartTls,
    NotSmtp,
    Injects,
    Closes,
    NoHandshake,
}

/// A mail server on a free port of 127.0.0.1; ends when dropped.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(manner: Manner, chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();
        let config = Arc::new(config);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                // Clients that turn away are what some tests are about.
                _ = serve(stream, manner, config.clone()).await;
            }
        });
        Self { address, _task: task }
    }
}

async fn serve(stream: TcpStream, manner: Manner, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    match manner {
        Manner::Closes => return Ok(()),
        Manner::NotSmtp => return stream.write_all(b"SSH-2.0-hello\r\n").await,
        Manner::Refuses => return stream.write_all(b"554 no mail here\r\n").await,
        _ => stream.write_all(b"220-mx.example ESMTP\r\n220 ready\r\n").await?,
    }
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert!(line.starts_with("EHLO [127.0.0.1]"), "{line}");
    if manner == Manner::NoStartTls {
        return stream.write_all(b"250-mx.example\r\n250 SIZE 1000\r\n").await;
    }
    stream.write_all(b"250-mx.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n").await?;
    line.clear();
    stream.read_line(&mut line).await?;
    assert_eq!(line, "STARTTLS\r\n");
    match manner {
        Manner::RefusesStartTls => return stream.write_all(b"454 4.7.0 TLS not available\r\n").await,
        Manner::Injects => return stream.write_all(b"220 go\r\n250 injected\r\n").await,
        Manner::NoHandshake => {
            stream.write_all(b"220 go\r\n").await?;
            return stream.write_all(b"this is not TLS at all\r\n").await;
        }
        _ => stream.write_all(b"220 go ahead\r\n").await?,
    }
    let mut tls = tokio_rustls::TlsAcceptor::from(config).accept(stream.into_inner()).await?;
    let mut farewell = [0; 6];
    tls.read_exact(&mut farewell).await?;
    assert_eq!(&farewell, b"QUIT\r\n", "no mail, nothing but good-bye");
    Ok(())
}

/// A CA, a certificate of it, and their keys.
struct Pki {
    ca: CertificateDer<'static>,
    ca_key: Vec<u8>,
    own: CertificateDer<'static>,
    own_key: KeyPair,
}

fn pki(names: &[&str], expired: bool) -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "mail CA");
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().der().clone();
    let ca_key = key.subject_public_key_info();
    let issuer = Issuer::new(params, key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let own_key = KeyPair::generate().unwrap();
    let own = params.signed_by(&own_key, &issuer).unwrap().der().clone();
    Pki { ca, ca_key, own, own_key }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// `3 1 1` and the like, over these octets.
fn tlsa(usage: u8, selector: u8, matching: u8, octets: &[u8]) -> String {
    let data = match matching {
        0 => hex(octets),
        1 => hex(digest(&SHA256, octets).as_ref()),
        _ => hex(digest(&SHA512, octets).as_ref()),
    };
    format!("TLSA {usage} {selector} {matching} {data}")
}

/// The world of `[mx.mail.com]:port`: one host at 127.0.0.1 with these TLSA records.
async fn look(address: SocketAddr, records: &[String]) -> Explanation {
    let mut zone = Zone::new("mail.com").signed(13).records("mx A 127.0.0.1");
    for record in records {
        zone = zone.records(&format!("_{}._tcp.mx {record}", address.port()));
    }
    let lab = Lab::on_sockets(vec![Zone::new(".").signed(13), Zone::new("com").signed(13), zone]).await;
    Setting::new(lab).look(&format!("[mx.mail.com]:{}", address.port()), true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_held_against_tlsa_records_as_rfc_7672_section_3_1_says() {
    let good = pki(&["mx.mail.com"], false);
    let (other, old) = (pki(&["mx.other.com"], false), pki(&["mx.other.com"], true));
    let old_name = pki(&["mx.mail.com"], true);
    let stranger = [7; 64];
    let spki = |pki: &Pki| pki.own_key.subject_public_key_info();
    let matched = "matches TLSA record 1";
    let issued = "issued by the CA in TLSA record 1";
    type Row<'a> = (&'a str, &'a Pki, bool, String, bool, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("EE, key", &good, true, tlsa(3, 1, 1, &spki(&good)), true, matched),
        ("EE, key, SHA-512", &good, true, tlsa(3, 1, 2, &spki(&good)), true, matched),
        ("EE, certificate", &good, true, tlsa(3, 0, 1, &good.own), true, matched),
        ("EE, whole certificate", &good, true, tlsa(3, 0, 0, &good.own), true, matched),
        ("EE, whole key", &good, true, tlsa(3, 1, 0, &spki(&good)), true, matched),
        // Neither name nor dates count (RFC 7672 §3.1.1).
        ("EE, other name and expired", &old, true, tlsa(3, 1, 1, &spki(&old)), true, matched),
        ("EE, stranger", &good, true, tlsa(3, 1, 1, &stranger), false, "matches no TLSA record"),
        ("EE that names the CA", &good, true, tlsa(3, 0, 1, &good.ca), false, "matches no TLSA record"),
        ("TA, sent along", &good, true, tlsa(2, 0, 1, &good.ca), true, issued),
        ("TA, its key", &good, true, tlsa(2, 1, 1, &good.ca_key), true, issued),
        ("TA, not sent, in full", &good, false, tlsa(2, 0, 0, &good.ca), true, issued),
        ("TA, not sent, its key in full", &good, false, tlsa(2, 1, 0, &good.ca_key), true, issued),
        ("TA, not sent, digest alone", &good, false, tlsa(2, 0, 1, &good.ca), false, "matches no TLSA record"),
        ("TA, other name", &other, true, tlsa(2, 0, 1, &other.ca), false, "certificate for another name: mx.other.com"),
        ("TA, expired", &old_name, true, tlsa(2, 0, 1, &old_name.ca), false, "certificate expired on 2020-01-01"),
        (
            "TA, another CA",
            &good,
            true,
            tlsa(2, 0, 0, &other.ca),
            false,
            "certificate not signed by the CA that it names",
        ),
    ];
    for (name, pki, send_ca, record, passes, words) in rows {
        let mut chain = vec![pki.own.clone()];
        chain.extend(send_ca.then(|| pki.ca.clone()));
        let server = Server::start(Manner::Good, chain, &pki.own_key).await;
        let explanation = look(server.address, &[record]).await;
        let live = &explanation.hosts[0].live;
        assert_eq!(live.len(), 1, "{name}: {explanation:?}");
        assert!(live[0].passed == passes && live[0].text.contains(words), "{name}: {live:?}");
        assert!(live[0].tls.as_ref().is_some_and(|tls| tls.starts_with("TLSv1.3")), "{name}: {live:?}");
        let verdict = if passes { Verdict::Protected } else { Verdict::Undeliverable };
        assert_eq!(explanation.verdict, verdict, "{name}");
        assert_eq!(explanation.answer.reply, "OK dane-only", "{name}: the policy stays what it is");
        // What the records would have to say is shown beside what they say, as long as it is short enough to compare.
        let presented: Vec<String> = match name {
            "EE, stranger" => vec![tlsa(3, 1, 1, &spki(&good))],
            "EE that names the CA" => vec![tlsa(3, 0, 1, &good.own)],
            "TA, other name" => vec![tlsa(2, 0, 1, &other.ca)],
            "TA, expired" => vec![tlsa(2, 0, 1, &old_name.ca)],
            _ => Vec::new(),
        };
        let shown: Vec<String> = live[0].presented.iter().map(|line| format!("TLSA {line}")).collect();
        assert_eq!(shown, presented, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_of_two_records_counts_as_well() {
    let pki = pki(&["mx.mail.com"], false);
    let server = Server::start(Manner::Good, vec![pki.own.clone()], &pki.own_key).await;
    let records = [tlsa(3, 1, 1, &[1]), tlsa(3, 1, 1, &pki.own_key.subject_public_key_info())];
    let explanation = look(server.address, &records).await;
    let live = &explanation.hosts[0].live[0];
    assert!(live.passed && live.text.contains("matches TLSA record"), "{live:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_on_the_way_to_tls_is_named() {
    let pki = pki(&["mx.mail.com"], false);
    let record = || [tlsa(3, 1, 1, &pki.own_key.subject_public_key_info())];
    for (manner, words) in [
        (Manner::NoStartTls, "no STARTTLS offered"),
        (Manner::Refuses, "the server refused: the greeting answered with \"554 no mail here\""),
        (Manner::RefusesStartTls, "the server refused: STARTTLS answered with \"454 4.7.0 TLS not available\""),
        (Manner::NotSmtp, "what came is not SMTP: while waiting for the greeting"),
        (Manner::Injects, "unencrypted after agreeing to TLS"),
        (Manner::Closes, "the connection ended: while waiting for the greeting"),
        (Manner::NoHandshake, ""),
    ] {
        let server = Server::start(manner, vec![pki.own.clone()], &pki.own_key).await;
        let explanation = look(server.address, &record()).await;
        let live = &explanation.hosts[0].live[0];
        assert!(!live.passed && live.text.contains(words) && live.tls.is_none(), "{live:?}");
        assert_eq!(explanation.verdict, Verdict::Undeliverable);
        assert!(explanation.advice.iter().any(|advice| advice.problem.contains("fails the check")), "{explanation:?}");
        assert!(explanation.advice.iter().any(|advice| advice.remedy.contains("policy.overrides")), "{explanation:?}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let explanation = look(closed, &record()).await;
    let live = &explanation.hosts[0].live[0];
    assert!(!live.passed && !live.reached && live.text.contains("connection refused"), "{live:?}");
    assert!(explanation.check.is_some_and(|check| check.is_blocked()), "{explanation:?}");
    assert_eq!(explanation.verdict, Verdict::Protected, "nothing is known of the host");
    let text = render(&explanation, Style::default());
    assert!(
        text.contains("protected; not checked: no MX host could be reached, is outbound SMTP blocked here?"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_mta_sts_the_web_pki_and_the_name_of_the_host_count() {
    let (good, wrong, old) = (pki(&["mx.mail.com"], false), pki(&["mx.other.com"], false), pki(&["mx.mail.com"], true));
    for (name, pki, trusted, passes, words) in [
        ("good", &good, &good, true, "valid for its name"),
        ("another CA", &good, &wrong, false, "certificate not signed by the CA that it names"),
        ("other name", &wrong, &wrong, false, "certificate for another name: mx.other.com"),
        ("expired", &old, &old, false, "certificate expired on 2020-01-01"),
    ] {
        let server = Server::start(Manner::Good, vec![pki.own.clone()], &pki.own_key).await;
        // A recipient domain on another port has no MTA-STS; so the policy is put in force by hand, at its host.
        let explanation = under_policy(server.address, trusted).await;
        let live = &explanation[0];
        assert!(live.passed == passes && live.text.contains(words), "{name}: {live:?}");
    }
}

/// What a host shows to whoever has to authenticate it by the web PKI with this CA: an operator's override says so.
async fn under_policy(address: SocketAddr, trusted: &Pki) -> Vec<postseal::policy::explain::LiveCheck> {
    let zone = Zone::new("mail.com").records("mx A 127.0.0.1");
    let lab = Lab::on_sockets(vec![Zone::new(".").signed(13), Zone::new("com").signed(13), zone]).await;
    let fetch = ScriptedFetch::new(&lab);
    fetch.set("mail.com", Host::Policy(Duration::ZERO, enforce(&["mx.mail.com"])));
    let mut setting = Setting::with_fetch(lab, fetch, Duration::from_secs(20));
    let mut roots = RootCertStore::empty();
    roots.add(trusted.ca.clone()).unwrap();
    setting.roots = Arc::new(roots);
    let key = format!("[mx.mail.com]:{}", address.port());
    let table = [(key.clone(), "secure match=mx.mail.com".to_owned())].into_iter().collect();
    setting.policy.engine.set_overrides(postseal::config::Overrides::parse(&table).unwrap());
    setting.look(&key, true).await.hosts.remove(0).live
}
