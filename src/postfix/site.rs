//! The Postfix of this host: its version, its files, the `resolv.conf` that its `smtp(8)` reads.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::main_cf::{MainCf, SmtpClient, smtp_clients, smtp_is_chrooted};
use super::version::{NO_CHROOT, Version};

/// Where Postfix's files are unless it says otherwise.
pub const CONFIG_DIRECTORY: &str = "/etc/postfix";
/// Its queue directory, likewise.
pub const QUEUE_DIRECTORY: &str = "/var/spool/postfix";
/// What libresolv reads.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// An installation of Postfix, as far as its files tell.
#[derive(Clone, Debug)]
pub struct Site {
    /// `main.cf`.
    pub main_cf: MainCf,
    /// Where mail waits, and where chrooted processes live.
    pub queue_directory: PathBuf,
    /// Whether `smtp(8)` runs in a chroot.
    pub chrooted: bool,
    /// The transports that `smtp(8)` serves.
    pub clients: Vec<SmtpClient>,
}

impl Site {
    /// Reads `main.cf` and the `master.cf` beside it. `version` says what `-` means there.
    pub fn read(main_cf: &Path, version: Option<Version>) -> std::io::Result<Self> {
        let parsed = MainCf::parse(&std::fs::read_to_string(main_cf)?);
        let master_cf = std::fs::read_to_string(main_cf.with_file_name("master.cf")).unwrap_or_default();
        let default = version.is_some_and(|version| version < NO_CHROOT);
        let queue_directory = parsed.get("queue_directory").unwrap_or_else(|| QUEUE_DIRECTORY.to_owned());
        Ok(Self {
            chrooted: smtp_is_chrooted(&master_cf, default).unwrap_or(default),
            queue_directory: queue_directory.into(),
            clients: smtp_clients(&master_cf),
            main_cf: parsed,
        })
    }

    /// Where a chroot has its copy of a file.
    pub fn copy_of(&self, usual: &Path) -> PathBuf {
        self.queue_directory.join(usual.strip_prefix("/").unwrap_or(usual))
    }

    /// The file that tells `smtp(8)` its resolvers: in a chroot the copy there, where there is one.
    pub fn resolv_conf(&self, usual: &Path) -> PathBuf {
        let inside = self.copy_of(usual);
        if self.chrooted && inside.exists() { inside } else { usual.to_owned() }
    }
}

/// The version that `postconf` tells, where there is one.
pub fn local_version() -> Option<Version> {
    let output = Command::new("postconf").args(["-d", "mail_version"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chrooted_smtp_reads_the_copy_of_resolv_conf_in_its_queue_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let queue = at("spool");
        std::fs::create_dir_all(queue.join("etc")).expect("made");
        std::fs::write(at("main.cf"), format!("queue_directory = {}\n", queue.display())).expect("written");
        let read = |version: &str| Site::read(&at("main.cf"), version.parse().ok()).expect("read");
        let usual = Path::new("/etc/resolv.conf");
        assert!(!read("3.7").chrooted && read("2.11").chrooted);
        std::fs::write(at("master.cf"), "smtp unix - - y - - smtp\n").expect("written");
        assert!(read("3.7").chrooted);
        assert_eq!(read("3.7").resolv_conf(usual), usual, "there is no copy");
        std::fs::write(queue.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").expect("written");
        assert_eq!(read("3.7").resolv_conf(usual), queue.join("etc/resolv.conf"));
        assert!(Site::read(&at("none.cf"), None).is_err());
    }
}
