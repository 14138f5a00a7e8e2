//! Where state lives when nobody says (design §11).

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::sources::Environment;

const SYSTEM: &str = "/var/lib/postseal";

/// The default state directory and what it came from: systemd's, else the system's if we may write there,
/// else the user's (XDG base directories).
pub(super) fn default_state_dir(environment: &Environment) -> (PathBuf, String) {
    // systemd separates several directories by colons; the first is the unit's main one.
    if let Some(first) =
        environment.get("STATE_DIRECTORY").and_then(|list| list.split(':').next()).filter(|d| !d.is_empty())
    {
        return (first.into(), "default, from STATE_DIRECTORY".into());
    }
    let system = Path::new(SYSTEM);
    if may_use(system) {
        return (system.into(), "default".into());
    }
    // The XDG specification ignores relative paths.
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(state) = absolute("XDG_STATE_HOME") {
        return (state.join("postseal"), "default, from XDG_STATE_HOME".into());
    }
    match absolute("HOME") {
        Some(home) => (home.join(".local/state/postseal"), "default, from HOME".into()),
        None => (system.into(), "default".into()),
    }
}

/// Writable, or not there and can be made.
fn may_use(path: &Path) -> bool {
    let writable = |path: &Path| path.is_dir() && access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if path.exists() { writable(path) } else { path.parent().is_some_and(writable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_directory_comes_first() {
        let environment = Environment::from_iter([("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("HOME", "/root")]);
        assert_eq!(default_state_dir(&environment).0, Path::new("/var/lib/a"));
    }
}
