//! How long a verdict holds (design §7).

use crate::cache::DaneVerdict;
use crate::dns::{Answer, Cause, Found};
use crate::limits::{DANE_NEGATIVE_TTL, DANE_TTL, DANE_UNKNOWN_TTL, TEMPORARY_TTL, UNREACHED_TTL};

/// The least TTL of the answers that carry a decision; denials count for an hour at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried(u32);

impl Carried {
    /// Nothing has been looked up yet.
    pub fn nothing() -> Self {
        Self(DANE_TTL.1)
    }

    /// With one more answer.
    pub fn and(self, answer: &Answer) -> Self {
        let longest = match answer.found {
            Found::Records(_) => DANE_TTL.1,
            Found::NoData | Found::NxDomain => DANE_NEGATIVE_TTL,
        };
        Self(self.0.min(answer.ttl.min(longest)))
    }

    /// With a denial that holds for `ttl` seconds.
    pub fn denied_for(self, ttl: u32) -> Self {
        Self(self.0.min(ttl.min(DANE_NEGATIVE_TTL)))
    }

    /// With all that carried something else.
    pub fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// Seconds, at most a day, not raised to the least TTL.
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// Seconds for which the verdict holds.
    pub fn clamp(self, verdict: DaneVerdict, something_unknown: bool) -> u32 {
        let ttl = self.0.clamp(DANE_TTL.0, DANE_TTL.1);
        match verdict {
            DaneVerdict::Temporary => TEMPORARY_TTL,
            _ if something_unknown => ttl.min(DANE_UNKNOWN_TTL),
            _ => ttl,
        }
    }
}

/// Seconds for which a failure with this cause is remembered: less where nothing answered, as when our own network is away.
pub fn of_failure(cause: &Cause) -> u32 {
    match cause {
        Cause::Timeout | Cause::NoServers | Cause::Network => UNREACHED_TTL,
        _ => TEMPORARY_TTL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Security;
    use hickory_proto::rr::{Name, RData};

    #[test]
    fn ttls_are_clamped_by_what_was_found() {
        let answer = |found, ttl| Answer { found, canonical: Name::root(), security: Security::Secure, ttl };
        let records = || Found::Records(vec![RData::A(std::net::Ipv4Addr::new(192, 0, 2, 1).into())]);
        let rows = [
            ("records below a minute", answer(records(), 5), DaneVerdict::DaneOnly, false, 60),
            ("records", answer(records(), 7_200), DaneVerdict::DaneOnly, false, 7_200),
            ("records above a day", answer(records(), 900_000), DaneVerdict::Dane, false, 86_400),
            ("denial below a minute", answer(Found::NoData, 0), DaneVerdict::None, false, 60),
            ("denial", answer(Found::NxDomain, 1_800), DaneVerdict::None, false, 1_800),
            ("denial above an hour", answer(Found::NoData, 86_400), DaneVerdict::None, false, 3_600),
            ("something unknown", answer(records(), 7_200), DaneVerdict::DaneOnly, true, 300),
            ("partial", answer(Found::NoData, 120), DaneVerdict::Partial, true, 120),
            ("temporary", answer(records(), 7_200), DaneVerdict::Temporary, true, 10),
        ];
        for (name, answer, verdict, unknown, expected) in rows {
            assert_eq!(Carried::nothing().and(&answer).clamp(verdict, unknown), expected, "{name}");
        }
    }
}
