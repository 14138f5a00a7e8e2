//! Files and directories of the state directory: for their owner alone, however they were made; never through a
//! symbolic link, never anything but a plain file.
//!
//! Whoever could once write to the directory may have left anything there: a link to a file that is not ours, a pipe that
//! nobody writes to, a mode that lets others read. None of it is used; an open that finds such a thing is an error.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::STORE_DIRECTORY;
use super::lock::LOCK_FILE;
use super::recover::DAMAGED;
use crate::limits::STATE_DIRECTORY_ENTRIES;

/// Of a directory.
const DIRECTORY_MODE: u32 = 0o700;
/// Of a file.
const FILE_MODE: u32 = 0o600;
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;
/// Set on a directory that many users share, like /tmp.
const STICKY: u32 = 0o1000;
/// The control socket, and what a file system puts into its own root, are no sign of a directory that others use.
const NOT_FOREIGN: [&str; 2] = ["control.socket", "lost+found"];

/// A place in the file system that is not what it must be.
#[derive(Debug, thiserror::Error)]
enum Odd {
    #[error("{0} is a symbolic link, and none is followed here")]
    Link(String),
    #[error("{0} is {1}, not a plain file")]
    Kind(String, &'static str),
    #[error("holds files that are not postseal's; give it a directory of its own")]
    Shared,
    #[error("belongs to user {owner}, postseal runs as user {us}")]
    NotOurs { owner: u32, us: u32 },
}

fn odd(what: Odd) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Opens a plain file, which is for its owner alone from then on. A link is not followed; a pipe, a device, a directory
/// or a socket is an error, at once.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let options = options.mode(FILE_MODE).custom_flags(i32::try_from(flags).map_err(io::Error::other)?);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => odd(Odd::Link(name(path))),
        _ => match kind(path) {
            Some(kind) => odd(Odd::Kind(name(path), kind)),
            None => error,
        },
    })?;
    let found = file.metadata()?;
    if let Some(kind) = kind_of(&found) {
        return Err(odd(Odd::Kind(name(path), kind)));
    }
    if found.mode() & OTHERS != 0 {
        // Best effort: on a read-only file system, or one without permissions, it stays as it is.
        let _ = file.set_permissions(Permissions::from_mode(FILE_MODE));
    }
    Ok(file)
}

/// Opens a plain file to read from it.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// All of a plain file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_to_read(path)?;
    let mut octets = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.read_to_end(&mut octets)?;
    Ok(octets)
}

/// True where a directory, and no link to one, is there.
pub(super) fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes a directory, with those above it, for its owner alone.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Makes the state directory, or closes it to others where it is there already. An error says why it stays open: it is
/// not ours, or others have files there, which a process of root's must not cut off.
pub fn make_state_directory(path: &Path) -> io::Result<()> {
    make_directory(path)?;
    let directory = File::open(path)?;
    let found = directory.metadata()?;
    if found.mode() & OTHERS == 0 {
        return Ok(());
    }
    let us = geteuid().as_raw();
    if us == 0 && (found.mode() & STICKY != 0 || has_others_files(path)?) {
        return Err(odd(Odd::Shared));
    }
    let closed = Permissions::from_mode(found.mode() & 0o6000 | DIRECTORY_MODE);
    directory.set_permissions(closed).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => odd(Odd::NotOurs { owner: found.uid(), us }),
        _ => error,
    })
}

fn has_others_files(directory: &Path) -> io::Result<bool> {
    for (count, entry) in fs::read_dir(directory)?.enumerate() {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let ours = [LOCK_FILE, STORE_DIRECTORY].iter().chain(&NOT_FOREIGN).any(|known| name.starts_with(known));
        if !ours || count >= STATE_DIRECTORY_ENTRIES {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts away whatever stands in the place of one of our plain files, or of a directory, and is none: a link, a pipe, a
/// device. What it names is not touched. `now` becomes part of the new name.
pub(super) fn clear(path: &Path, is_directory: bool, now: i64) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    if if is_directory { found.is_dir() } else { found.is_file() } {
        return;
    }
    let what = kind_of(&found).unwrap_or("a plain file");
    let aside = path.with_file_name(format!("{}.{DAMAGED}{now}", name(path)));
    let moved = fs::rename(path, &aside);
    tracing::error!(
        path = %path.display(), what, moved_to = %aside.display(), error = moved.err().map(tracing::field::display),
        "in the state directory: not what postseal makes there, put away"
    );
}

/// Closes a directory of ours and everything below it to others, links not followed. What cannot be closed stays.
pub(super) fn close_all(directory: &Path, depth: u32) {
    close_one(directory, OFlags::DIRECTORY, DIRECTORY_MODE);
    close_below(directory, depth);
}

fn close_below(directory: &Path, depth: u32) {
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        // Of the entry itself, not of what it may point to.
        let Ok(found) = entry.metadata() else { continue };
        let path = entry.path();
        let is_open = found.mode() & OTHERS != 0;
        if found.is_dir() {
            if is_open {
                close_one(&path, OFlags::DIRECTORY, DIRECTORY_MODE);
            }
            if depth > 0 {
                close_below(&path, depth - 1);
            }
        } else if found.is_file() && is_open {
            close_one(&path, OFlags::NONBLOCK, FILE_MODE);
        }
    }
}

/// Closes one directory or file, unless it is a link by now.
fn close_one(path: &Path, flags: OFlags, mode: u32) {
    let flags = i32::try_from((flags | OFlags::NOFOLLOW).bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    // Best effort, as above.
    let _ = opened.and_then(|opened| opened.set_permissions(Permissions::from_mode(mode)));
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn kind(path: &Path) -> Option<&'static str> {
    kind_of(&fs::symlink_metadata(path).ok()?)
}

/// What it is where it is no plain file.
fn kind_of(found: &fs::Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    if kind.is_file() {
        None
    } else if kind.is_symlink() {
        Some("a symbolic link")
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    fn to_write() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        options
    }

    #[test]
    fn what_is_no_plain_file_is_an_error_at_once_and_nothing_behind_it_is_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        fs::write(at("victim"), "precious").expect("written");
        symlink(at("victim"), at("link")).expect("linked");
        symlink(at("nowhere"), at("dangling")).expect("linked");
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        fs::create_dir(at("directory")).expect("made");
        let _socket = UnixListener::bind(at("socket")).expect("bound");
        for (name, what) in [
            ("link", "symbolic link"),
            ("dangling", "symbolic link"),
            ("pipe", "a pipe"),
            ("directory", "a directory"),
            ("socket", "a socket"),
        ] {
            for mut options in
                [OpenOptions::new().read(true).clone(), to_write(), OpenOptions::new().append(true).clone()]
            {
                let error = open(&at(name), &mut options).expect_err(name).to_string();
                assert!(error.contains(what) && error.contains(name), "{name}: {error}");
            }
        }
        assert!(open(Path::new("/dev/null"), OpenOptions::new().read(true)).is_err(), "a device");
        assert_eq!(fs::read_to_string(at("victim")).expect("text"), "precious");
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn files_are_for_their_owner_alone_however_they_were_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for before in [None, Some(0o644), Some(0o666), Some(0o600)] {
            if let Some(before) = before {
                fs::set_permissions(&path, Permissions::from_mode(before)).expect("set");
            }
            open(&path, &mut to_write()).expect("a plain file");
            assert_eq!(mode(&path), FILE_MODE, "{before:?}");
        }
    }

    #[test]
    fn a_state_directory_is_closed_to_others_with_all_that_is_in_the_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("a/state");
        make_state_directory(&state).expect("made");
        assert_eq!(mode(&state), DIRECTORY_MODE);
        let below = state.join(STORE_DIRECTORY).join("keyspace");
        fs::create_dir_all(&below).expect("made");
        fs::write(below.join("table"), "x").expect("written");
        fs::write(directory.path().join("outside"), "x").expect("written");
        symlink(directory.path().join("outside"), below.join("link")).expect("linked");
        for (path, mode) in [(&below, 0o777), (&below.join("table"), 0o644), (&directory.path().join("outside"), 0o644)]
        {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("set");
        }
        for before in [0o755, 0o777, 0o2770, 0o700] {
            fs::set_permissions(&state, Permissions::from_mode(before)).expect("set");
            make_state_directory(&state).expect("closed");
            assert_eq!(mode(&state) & 0o777, DIRECTORY_MODE, "{before:o}");
        }
        close_all(&state.join(STORE_DIRECTORY), 5);
        assert_eq!((mode(&below), mode(&below.join("table"))), (DIRECTORY_MODE, FILE_MODE));
        assert_eq!(mode(&directory.path().join("outside")), 0o644, "a link is not followed");
    }

    #[test]
    fn root_does_not_cut_others_off_from_a_directory_that_holds_their_files() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("postseal.lock"), "").expect("written");
        assert!(!has_others_files(directory.path()).expect("read"));
        fs::write(directory.path().join("somebody's"), "").expect("written");
        assert!(has_others_files(directory.path()).expect("read"));
    }

    #[test]
    fn what_stands_in_the_place_of_ours_is_put_away_and_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, victim) = (directory.path().join("policies.log"), directory.path().join("victim"));
        fs::write(&victim, "precious").expect("written");
        symlink(&victim, &log).expect("linked");
        clear(&log, false, 7);
        assert!(fs::symlink_metadata(&log).is_err());
        assert!(fs::symlink_metadata(directory.path().join("policies.log.damaged-7")).is_ok());
        assert_eq!(fs::read_to_string(&victim).expect("text"), "precious");
        fs::write(&log, "records").expect("written");
        clear(&log, false, 8);
        assert_eq!(fs::read_to_string(&log).expect("text"), "records", "a plain file stays");
    }
}
