//! Who may see everything and erase it: root and the daemon's own user, by what the kernel says of the other end, however
//! the sockets can be reached (design §10).

use std::fs::{Permissions, set_permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use postseal::caller::own_uid;

use super::binary::{CONFIG, Daemon, directory_with, run};

/// Whoever is neither root nor runs the daemon.
const STRANGER: u32 = 65_534;

/// Sends octets to a Unix socket as another user; all that comes back within two seconds.
const ASK: &str = r#"use IO::Socket::UNIX; $SIG{ALRM} = sub { exit 0 }; alarm 2; $| = 1;
my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "connect: $!"; print $s $ARGV[1]; $s->flush;
while (sysread($s, my $b, 4096)) { print $b }"#;

/// None where this machine has no way to be somebody else: not root, or no perl.
fn ask_as_stranger(socket: &Path, octets: &str) -> Option<String> {
    if own_uid() != 0 {
        println!("skipped: only root can become another user");
        return None;
    }
    let mut perl = Command::new("perl");
    let output = perl.args(["-e", ASK]).arg(socket).arg(octets).uid(STRANGER).gid(STRANGER).current_dir("/").output();
    match output {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            println!("skipped: perl: {error}");
            None
        }
    }
}

fn frame(text: &str) -> String {
    format!("{}:{text},", text.len())
}

/// Asks for a form that ends the connection; all of its answer.
fn whole(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connected");
    stream.write_all(frame(request).as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The next line of the log that has this in its message.
fn line(daemon: &mut Daemon, message: &str) -> serde_json::Value {
    daemon.wait_for_line(message)
}

#[test]
fn a_local_user_may_ask_for_policies_and_nothing_more_and_the_log_names_who_tried() {
    let directory = directory_with(CONFIG);
    set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("set");
    let mut daemon = Daemon::start_in(directory);
    daemon.wait_for("ready");
    let socket = daemon.path("map.sock");
    assert_eq!(socket.metadata().expect("there").permissions().mode() & 0o777, 0o666);
    let Some(answer) = ask_as_stranger(&socket, &frame("QUERY override.example")) else { return };
    assert_eq!(answer, frame("OK encrypt"));
    for form in ["DUMP", "EXPORT", "PURGE", "purge", "PURGE override.example"] {
        // The connection stays: what comes after is answered.
        let answer = ask_as_stranger(&socket, &(frame(form) + &frame("QUERY override.example"))).expect("as before");
        let name = form.split(' ').next().expect("a name").to_uppercase();
        let refusal = frame(&format!("PERM {name} is for root and postseal's own user alone"));
        assert_eq!(answer, refusal + &frame("OK encrypt"), "{form}");
    }
    let refused = line(&mut daemon, "DUMP refused to user 65534");
    assert_eq!((&refused["level"], &refused["uid"]), (&"WARN".into(), &STRANGER.into()), "{refused}");
    assert!(refused["pid"].is_i64(), "{refused}");
    // The file's mode is one guard, who asks is another.
    set_permissions(daemon.path("state"), Permissions::from_mode(0o755)).expect("set");
    let control = daemon.path("state/control.socket");
    set_permissions(&control, Permissions::from_mode(0o666)).expect("set");
    for request in ["POST /purge?all=1", "GET /dump", "GET /export", "GET /status", "GET /explain?key=override.example"]
    {
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = ask_as_stranger(&control, &head).expect("as before");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
    }
    let refused = line(&mut daemon, "refused at the control socket");
    assert_eq!(refused["uid"], STRANGER, "{refused}");
    assert!(daemon.stop().0);
}

#[test]
fn every_purge_and_every_listing_is_logged_with_who_asked() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let socket = daemon.path("map.sock");
    let who = |line: &serde_json::Value| {
        assert_eq!((&line["level"], &line["uid"]), (&"INFO".into(), &own_uid().into()), "{line}");
        (line["domain"].clone(), line["pid"].clone())
    };
    assert_eq!(whole(&socket, "PURGE"), "OK\n");
    let (domain, pid) = who(&line(&mut daemon, "purged"));
    assert_eq!((domain, pid), ("everything".into(), std::process::id().into()));
    assert_eq!(whole(&socket, "PURGE Example.com."), "OK\n");
    assert_eq!(who(&line(&mut daemon, "purged")), ("example.com".into(), std::process::id().into()));
    assert_eq!(whole(&socket, "DUMP"), "");
    assert_eq!(line(&mut daemon, "told")["form"], "DUMP");
    assert_eq!(whole(&socket, "EXPORT"), "");
    assert_eq!(line(&mut daemon, "told")["form"], "EXPORT");
    let directory = daemon.directory.path().to_owned();
    for (arguments, purged) in [(&["purge", "example.com"][..], "example.com"), (&["purge", "--all"], "everything")] {
        assert_eq!(run(&directory, arguments).stdout, b"0 purged\n", "{arguments:?}");
        assert_eq!(who(&line(&mut daemon, "purged")).0, purged);
    }
    assert!(daemon.stop().0);
}

/// A server that answers everything with this error.
fn redis_that_says(error: &'static str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut part) {
                // One reply to each command: more would end the connection. A command begins with `*` (RESP arrays).
                let commands = part[..count].iter().filter(|octet| **octet == b'*').count();
                if stream.write_all(format!("-ERR {error}\r\n").repeat(commands).as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[test]
fn what_a_redis_says_reaches_log_and_status_without_anything_that_steers_a_terminal() {
    let address = redis_that_says("\u{1b}]0;owned\u{7}\u{1b}[31mno\u{9b}32m \u{202e}desrever\u{2066} \u{7f}end");
    for format in ["text", "json"] {
        let config = CONFIG.replace("format = \"json\"", &format!("format = \"{format}\""));
        let directory = directory_with(&format!("{config}\n[store]\nshared = \"redis://{address}\"\n"));
        let mut daemon = Daemon::start_in(directory);
        let line = daemon.wait_for_text("desrever");
        let status = loop {
            let output = run(daemon.directory.path(), &["status", "--json"]);
            let text = String::from_utf8(output.stdout).expect("text");
            if text.contains("desrever") {
                break text;
            }
        };
        let people = String::from_utf8(run(daemon.directory.path(), &["status"]).stdout).expect("text");
        let parsed: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let error = parsed["shared_store"]["error"].as_str().expect("an error").to_owned();
        for (what, text) in [("log", line.trim_end()), ("status", &error), ("status for people", &people)] {
            let lines_of_ours = |character: &char| what == "status for people" && *character == '\n';
            let bad = text.chars().filter(|character| !lines_of_ours(character));
            let bad: Vec<char> = bad.filter(|c| c.is_control() || ('\u{200e}'..='\u{2069}').contains(c)).collect();
            assert!(bad.is_empty(), "{format}, {what}: {text:?}");
            assert!(!text.contains("\\u00"), "{format}, {what}: {text:?}");
        }
        assert!(daemon.stop().0);
    }
}

#[test]
fn purge_without_a_name_asks_for_all_and_erases_nothing() {
    let mut daemon = Daemon::start();
    daemon.wait_for("ready");
    let directory = daemon.directory.path();
    for (arguments, part) in
        [(&["purge"][..], "--all"), (&["purge", "--all", "example.com"], "--all"), (&["purge", ""], "empty")]
    {
        let output = run(directory, arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(part), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    // Nor does the daemon take silence for "everything", whoever asks it.
    let mut control = UnixStream::connect(daemon.path("state/control.socket")).expect("connected");
    control.write_all(b"POST /purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    control.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("all=1"), "{answer}");
    assert!(daemon.stop().0);
}
