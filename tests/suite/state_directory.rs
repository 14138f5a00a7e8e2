//! What a state directory holds when the service starts, and whose it is then: nothing of it is followed, waited for or
//! left open to other users (design §7, §10).

use std::fs::{
    Permissions, create_dir, create_dir_all, metadata, read_to_string, set_permissions, symlink_metadata, write,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::binary::{CONFIG, Daemon, directory_with, run};

fn mode(path: &Path) -> u32 {
    metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o777
}

/// Every directory and file below, with its mode.
fn modes(directory: &Path, found: &mut Vec<(String, bool, u32)>) {
    for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
        let data = entry.metadata().expect("there");
        found.push((entry.path().display().to_string(), data.is_dir(), data.mode() & 0o777));
        if data.is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn directory_and_files_are_for_their_owner_alone_when_new_and_when_they_were_open_before() {
    let mut directory = directory_with(CONFIG);
    for round in 0..2 {
        let state = directory.path().join("state");
        let mut daemon = Daemon::start_in(directory);
        daemon.wait_for("ready");
        // The store is made beside the first answers; a purge returns once everything is on disk.
        assert!(run(daemon.directory.path(), &["purge", "--all"]).status.success());
        assert_eq!(mode(&state), 0o700, "round {round}");
        let mut found = Vec::new();
        modes(&state, &mut found);
        assert!(found.iter().any(|(path, ..)| path.ends_with("policies.log")), "{found:?}");
        for (path, is_directory, mode) in &found {
            assert_eq!(*mode, if *is_directory { 0o700 } else { 0o600 }, "round {round}: {path}");
        }
        directory = std::mem::replace(&mut daemon.directory, tempfile::tempdir().expect("a directory"));
        assert!(daemon.stop().0);
        modes(&state, &mut found);
        for (path, is_directory, _) in found.iter().filter(|(path, ..)| Path::new(path).exists()) {
            set_permissions(path, Permissions::from_mode(if *is_directory { 0o755 } else { 0o644 })).expect("set");
        }
        set_permissions(&state, Permissions::from_mode(0o777)).expect("set");
    }
}

#[test]
fn links_and_odd_files_are_put_away_with_an_error_and_nothing_waits_for_them() {
    for name in ["postseal.lock", "store/policies.log", "store/policies.end", "store/keyspace.opening", "store"] {
        for kind in ["link", "pipe", "directory"] {
            if (name, kind) == ("store", "directory") {
                continue; // that is what it is
            }
            let directory = directory_with(CONFIG);
            let (path, victim) = (directory.path().join("state").join(name), directory.path().join("victim"));
            write(&victim, "precious").expect("written");
            create_dir_all(path.parent().expect("a parent")).expect("made");
            match kind {
                "link" => symlink(&victim, &path).expect("linked"),
                "pipe" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe"),
                _ => create_dir(&path).expect("made"),
            }
            let mut daemon = Daemon::start_in(directory);
            daemon.wait_for(if name == "store" { "beyond reading" } else { "put away" });
            daemon.wait_for("ready");
            assert_eq!(daemon.ask("QUERY override.example"), "OK encrypt", "{name} {kind}");
            assert!(run(daemon.directory.path(), &["purge", "--all"]).status.success(), "{name} {kind}");
            assert_eq!(read_to_string(&victim).expect("text"), "precious", "{name} {kind}");
            assert!(symlink_metadata(&path).is_ok_and(|now| !now.is_symlink()) || name.ends_with("opening"));
            assert!(daemon.stop().0);
        }
    }
}
