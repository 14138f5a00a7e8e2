//! Postfix versions, and what came with which (postconf(5)).

use std::fmt;
use std::str::FromStr;

/// Major and minor number; patches change nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// `smtp_dns_support_level`, and DANE at all; socketmap tables came with 2.10.
pub const DANE: Version = Version { major: 2, minor: 11 };
/// chroot is no longer the default in master.cf.
pub const NO_CHROOT: Version = Version { major: 3, minor: 0 };
/// `smtp_tls_dane_insecure_mx_policy`
pub const INSECURE_MX: Version = Version { major: 3, minor: 1 };
/// `servername=` in policies.
pub const SERVERNAME: Version = Version { major: 3, minor: 4 };
/// TLSRPT: `smtp_tlsrpt_enable`, `policy_type=` and its like in policies.
pub const TLSRPT: Version = Version { major: 3, minor: 10 };

/// Not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a Postfix version: expected something like 3.7 or 3.10.2")]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    /// `3.10`, `3.7.11`, `3.12-20260101`, and `mail_version = 3.7.11` as postconf prints it.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let text = text.trim();
        let text = text.strip_prefix("mail_version").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let mut numbers = text.split(['.', '-']);
        let mut number = || numbers.next().and_then(|part| part.parse().ok()).ok_or(NotAVersion);
        Ok(Self { major: number()?, minor: number()? })
    }
}

impl Version {
    /// Major and minor number.
    pub fn numbers(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postconf_prints_them_and_compare_as_numbers() {
        for (text, expected) in [
            ("3.7", Some("3.7")),
            ("3.10.2", Some("3.10")),
            ("3.12-20260101", Some("3.12")),
            ("mail_version = 3.7.11\n", Some("3.7")),
            ("3", None),
            ("three.seven", None),
            ("", None),
        ] {
            let version = text.parse::<Version>().ok().map(|version| version.to_string());
            assert_eq!(version.as_deref(), expected, "{text}");
        }
        assert!("3.9".parse::<Version>().expect("a version") < TLSRPT);
        assert!("3.10".parse::<Version>().expect("a version") >= TLSRPT);
        assert!("2.11".parse::<Version>().expect("a version") < INSECURE_MX);
    }
}
