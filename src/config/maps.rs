//! Options of a map (`[maps.NAME]`, design §11).

use serde::{Deserialize, Serialize};

/// How one socketmap name answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MapOptions {
    /// Send TLSRPT attributes with `secure` (Postfix 3.10 or newer).
    pub tlsrpt: bool,
    /// `servername=hostname` with `secure`: MTA-STS hosts may need SNI (RFC 8461 §8.4).
    pub require_sni: bool,
    /// Treat `mode: testing` as `enforce`.
    pub strict_testing: bool,
    /// Use DANE.
    pub dane: bool,
    /// Use MTA-STS.
    pub mta_sts: bool,
    /// Level at which failures and `testing` policies are reported by TLSRPT; unset: not.
    pub report_level: Option<ReportLevel>,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self { tlsrpt: false, require_sni: true, strict_testing: false, dane: true, mta_sts: true, report_level: None }
    }
}

/// What is answered where a policy cannot be determined and nothing was ever known of the domain (`policy.on-failure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// TEMP: mail waits.
    #[default]
    Temp,
    /// Opportunistic TLS.
    May,
    /// Mandatory, unauthenticated TLS.
    Encrypt,
}

impl OnFailure {
    /// The level that takes the place of TEMP, where one does.
    pub fn level(self) -> Option<ReportLevel> {
        match self {
            Self::Temp => None,
            Self::May => Some(ReportLevel::May),
            Self::Encrypt => Some(ReportLevel::Encrypt),
        }
    }
}

/// Security level of an answer that only reports, or stands in for one that cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportLevel {
    /// Opportunistic TLS.
    May,
    /// Mandatory, unauthenticated TLS.
    Encrypt,
}
