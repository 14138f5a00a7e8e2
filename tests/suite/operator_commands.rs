//! What operators and their tools ask of a running daemon: `dump`, `export`, `purge`, and the same on the
//! socketmap's Unix socket (design §10).

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use postseal::clock::Clock;

use super::support::https::{PolicyHosts, Script};
use super::support::killable::{Killable, ask, ask_for_all, command, configure, describe};
use super::support::mail::{domain, foundation, host};
use super::support::policy_lab::enforce;
use super::support::serve::Served;
use super::support::world::World;

const SECURE: &str = "secure match=.hosts.net servername=hostname";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_socketmap_forms_show_and_forget_what_is_cached() {
    let mut zones = foundation();
    zones.push(
        domain("sts.com", false, &[host::NONE]).records("_mta-sts TXT \"v=STSv1; id=20270101;\"\nmta-sts A 127.0.0.1"),
    );
    zones.push(domain("dane.com", true, &[host::USABLE]));
    zones.push(domain("bare.com", false, &[host::NONE]));
    let world = Arc::new(World::build(Clock::system().wall(), zones));
    let served = Served::start(world.clone()).await;
    let hosts = PolicyHosts::start().await;
    hosts.set("sts.com", Script::policy(&enforce(&["*.hosts.net"])));
    let directory = tempfile::tempdir().unwrap();
    describe(directory.path(), &world, &hosts.ca_pem());
    configure(directory.path(), served.port, hosts.address.port());
    tokio::task::spawn_blocking(move || look_and_forget(directory.path())).await.unwrap();
    drop((served, hosts));
}

fn look_and_forget(directory: &Path) {
    let daemon = Killable::start(directory);
    let connect = || daemon.connect().unwrap();
    let mut stream = connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut stream, "sts.com").unwrap(), format!("OK {SECURE}"));
    }
    assert_eq!(ask(&mut stream, "dane.com").unwrap(), "OK dane-only");
    assert_eq!(ask(&mut stream, "bare.com").unwrap(), "NOTFOUND ");

    let json: serde_json::Value = serde_json::from_str(&printed(directory, &["dump", "--json"])).unwrap();
    let domains: Vec<_> = json.as_array().unwrap().iter().map(|row| row["domain"].as_str().unwrap()).collect();
    assert_eq!(domains, ["sts.com", "bare.com", "dane.com"], "the most used come first");
    let sts = &json[0];
    assert_eq!((sts["answer"].as_str(), sts["mta_sts"]["status"].as_str()), (Some(SECURE), Some("enforce")));
    assert_eq!(sts["dane"]["status"], "none");
    let remaining = sts["mta_sts"]["remaining"].as_u64().unwrap();
    assert!((604_700..=604_800).contains(&remaining), "{remaining}");
    assert!(sts["hits"].as_u64().unwrap() >= 2, "{sts}");
    let table = printed(directory, &["dump"]);
    assert!(table.starts_with("HITS") && table.ends_with("\n3 domains: 2 with a policy, 0 held\n"), "{table}");
    assert_eq!(printed(directory, &["dump", "--policy"]).lines().count(), 4, "head, two policies, totals");
    assert_eq!(printed(directory, &["dump", "--held"]).lines().count(), 2);

    let export = format!("{:<28} dane-only\n{:<28} {SECURE}\n", "dane.com", "sts.com");
    assert_eq!(printed(directory, &["export"]), export);
    assert_eq!(ask_for_all(connect(), "EXPORT"), export);
    let dump = ask_for_all(connect(), "DUMP");
    assert!(dump.starts_with("sts.com ") && dump.contains(SECURE) && dump.lines().count() == 2, "{dump}");
    assert_eq!(report(connect())["mta-sts"]["policy"], SECURE);

    assert_eq!(printed(directory, &["purge", "sts.com"]), "1 purged\n");
    assert!(!printed(directory, &["dump"]).contains("sts.com"));
    assert!(!command(directory, &["purge", "not a domain"]).status.success());
    assert_eq!(ask_for_all(connect(), "PURGE"), "OK\n");
    assert_eq!(printed(directory, &["dump"]).lines().count(), 2);
    daemon.kill();
    let daemon = Killable::start(directory);
    assert_eq!(printed(directory, &["dump"]).lines().count(), 2, "and on disk as well");
    daemon.kill();
    assert!(!command(directory, &["dump"]).status.success(), "nobody there to ask");
}

fn printed(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `JSON` keeps the connection, so the answer is read as a line.
fn report(mut stream: UnixStream) -> serde_json::Value {
    use std::io::{BufRead, BufReader, Write};
    let request = "JSON sts.com";
    write!(stream, "{}:{request},", request.len()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}
