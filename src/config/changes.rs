//! What a reload cannot change: the keys that only a new process takes over.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::keys::{KEYS, MAP_NAME};
use super::print::toml;
use super::sources::Sources;

/// Keys that SIGHUP takes over (design §11), with all below them. Of `mta-sts.ca-file` and `resolver.trust-anchors` the
/// files are read again; another file for the first needs a restart.
const RELOADED: [&str; 4] = ["policy.overrides", "maps", "log.level", "resolver.trust-anchors"];

/// The value of every key that needs a restart, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed(BTreeMap<&'static str, Option<String>>);

impl Fixed {
    /// As these sources have them now.
    pub fn of(sources: &Sources) -> Result<Self, ConfigError> {
        let figment = sources.merge()?;
        let fixed = KEYS.iter().map(|key| key.path).filter(|path| !path.contains(MAP_NAME) && !is_reloaded(path));
        Ok(Self(fixed.map(|path| (path, figment.find_value(path).ok().as_ref().map(toml))).collect()))
    }

    /// The keys whose values differ, in the order of their names.
    pub fn changed(&self, now: &Self) -> Vec<&'static str> {
        let differs = |path: &&&'static str| self.0.get(**path) != now.0.get(**path);
        now.0.keys().filter(differs).copied().collect()
    }
}

fn is_reloaded(path: &str) -> bool {
    RELOADED.iter().any(|key| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_take_over_is_told_by_key() {
        let fixed = |flags: &[(&str, &str)]| {
            let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("postseal.toml");
            std::fs::write(&file, "state-dir = \"state\"").expect("written");
            Fixed::of(&Sources { file: Some(file), flags, ..Sources::default() }).expect("a configuration")
        };
        let before = fixed(&[]);
        for (flags, changed) in [
            (&[][..], &[][..]),
            (&[("log.level", "debug"), ("resolver.trust-anchors", "x")], &[]),
            (&[("maps.x.tlsrpt", "true")], &[]),
            (&[("policy.timeout", "10s")], &["policy.timeout"]),
            (&[("log.format", "json"), ("dns.listen", "127.0.0.1:53")], &["dns.listen", "log.format"]),
            (&[("state-dir", "other"), ("mta-sts.ca-file", "x")], &["mta-sts.ca-file", "state-dir"]),
        ] {
            assert_eq!(before.changed(&fixed(flags)), changed, "{flags:?}");
        }
        for key in RELOADED {
            assert!(KEYS.iter().any(|known| known.path.starts_with(key)), "{key}");
        }
    }
}
