//! One process per state directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files;

/// Name of the lock file in the state directory. It stays behind; what counts is the lock on it.
pub(super) const LOCK_FILE: &str = "postseal.lock";

/// Holds the state directory until dropped; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _held: File,
}

/// Why the state directory is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it. Do not start.
    #[error("another postseal{} is using {}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .directory.display())]
    Held {
        /// The state directory.
        directory: PathBuf,
        /// The other process, where it left its number.
        pid: Option<u32>,
    },
    /// The lock file cannot be had: nothing can be stored either.
    #[error("cannot lock {}: {error}{}", .directory.display(), whose(.directory, .error))]
    Io {
        /// The state directory.
        directory: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Where rights are lacking: whose the directory is and who we are, as with a fresh volume that belongs to root.
fn whose(directory: &Path, error: &io::Error) -> String {
    let (Ok(directory), Ok(process)) = (fs::metadata(directory), fs::metadata("/proc/self")) else {
        return String::new();
    };
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let (owner, uid, gid) = (directory.uid(), process.uid(), process.gid());
    format!(
        "; it belongs to user {owner}, postseal runs as user {uid}: chown {uid}:{gid} it, nothing is kept until then"
    )
}

impl StateLock {
    /// Takes the lock of `directory`, which is created where it is not there.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { directory: directory.to_owned(), error };
        files::make_directory(directory).map_err(failed)?;
        let path = directory.join(LOCK_FILE);
        let (mut file, writable) =
            match files::open(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false)) {
                Ok(file) => (file, true),
                // A read-only file system still takes locks.
                Err(error) => (files::open_to_read(&path).map_err(|_| failed(error))?, false),
            };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The number is a courtesy; without it the message is as true.
                let _ = file.take(16).read_to_string(&mut text);
                return Err(LockError::Held { directory: directory.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if writable {
            // A full disk must not keep us from starting: the lock is held with or without the number.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        }
        Ok(Self { _held: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = StateLock::take(directory.path()).expect("the first gets it");
        let error = StateLock::take(directory.path()).expect_err("the second does not");
        assert!(matches!(error, LockError::Held { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        drop(held);
        StateLock::take(directory.path()).expect("free again");
    }

    #[test]
    fn a_directory_that_cannot_be_is_not_taken_for_held() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = StateLock::take(&file.path().join("state")).expect_err("below a file");
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }

    #[test]
    fn lacking_rights_are_told_with_both_users() {
        let directory = tempfile::tempdir().expect("a directory");
        let denied =
            LockError::Io { directory: directory.path().to_owned(), error: io::ErrorKind::PermissionDenied.into() };
        let uid = fs::metadata(directory.path()).expect("it is there").uid();
        let hint = format!("it belongs to user {uid}, postseal runs as user {uid}");
        assert!(denied.to_string().contains(&hint), "{denied}");
    }
}
