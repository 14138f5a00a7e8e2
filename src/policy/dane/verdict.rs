//! The verdict over all MX hosts: one pure table (design §4 step 4).

use serde::{Deserialize, Serialize};

use crate::cache::DaneVerdict;

/// What is known of one MX host (design §4 steps 2 and 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStatus {
    /// Secure TLSA records, at least one usable.
    Usable,
    /// Secure TLSA records, none usable.
    Unusable,
    /// Provably no TLSA records that count: denied, or something on the way is not signed.
    NoTlsa,
    /// Proven to have no address: it cannot receive mail.
    Ignored,
    /// Could not be found out: it might have TLSA records.
    Unknown,
}

/// The verdict, and whether it rests on hosts of which nothing is known (then it is kept only briefly).
pub fn verdict(hosts: &[HostStatus], secure_mx: bool) -> (DaneVerdict, bool) {
    let has = |wanted: HostStatus| hosts.contains(&wanted);
    let (usable, unusable) = (has(HostStatus::Usable), has(HostStatus::Unusable));
    let (without, unknown) = (has(HostStatus::NoTlsa), has(HostStatus::Unknown));
    let verdict = match (usable || unusable, without, unknown) {
        // Postfix repeats the lookup per host and skips what it cannot resolve: unknown hosts do no harm.
        (true, false, _) if secure_mx && !unusable => DaneVerdict::DaneOnly,
        (true, _, _) if secure_mx && usable => DaneVerdict::Dane,
        // The unknown host may be one that DANE authenticates: MTA-STS must not take its place there (RFC 8461 §2).
        (true, _, true) if secure_mx => DaneVerdict::Partial,
        (true, _, _) => DaneVerdict::DaneWeak,
        (false, true, true) => DaneVerdict::Partial,
        (false, false, true) => DaneVerdict::Temporary,
        (false, _, false) => DaneVerdict::None,
    };
    (verdict, unknown)
}

/// True where the verdict is the same whatever comes of the hosts that are still unknown.
pub fn is_settled(hosts: &[HostStatus], secure_mx: bool) -> bool {
    let has = |wanted: HostStatus| hosts.contains(&wanted);
    let (usable, unusable) = (has(HostStatus::Usable), has(HostStatus::Unusable));
    match secure_mx {
        true => usable && (unusable || has(HostStatus::NoTlsa)),
        false => usable || unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HostStatus::{Ignored, NoTlsa, Unknown, Unusable, Usable};

    #[test]
    fn every_row_of_the_verdict_table() {
        use DaneVerdict::{Dane, DaneOnly, DaneWeak, None, Partial, Temporary};
        let rows: &[(&str, &[HostStatus], bool, DaneVerdict, bool)] = &[
            ("all usable", &[Usable, Usable], true, DaneOnly, false),
            ("usable and ignored", &[Usable, Ignored], true, DaneOnly, false),
            ("usable and unknown", &[Usable, Unknown], true, DaneOnly, true),
            ("all usable, insecure MX", &[Usable, Usable], false, DaneWeak, false),
            ("usable and unknown, insecure MX", &[Usable, Unknown], false, DaneWeak, true),
            ("usable and without", &[Usable, NoTlsa], true, Dane, false),
            ("usable and without, insecure MX", &[Usable, NoTlsa], false, DaneWeak, false),
            ("usable and unusable", &[Usable, Unusable], true, Dane, false),
            ("usable, without and unknown", &[Usable, NoTlsa, Unknown], true, Dane, true),
            ("all unusable", &[Unusable], true, DaneWeak, false),
            ("all unusable, insecure MX", &[Unusable], false, DaneWeak, false),
            ("unusable and without", &[Unusable, NoTlsa], true, DaneWeak, false),
            ("unusable and unknown", &[Unusable, Unknown], true, Partial, true),
            ("unusable, without and unknown", &[Unusable, NoTlsa, Unknown], true, Partial, true),
            ("unusable and unknown, insecure MX", &[Unusable, Unknown], false, DaneWeak, true),
            ("without and unknown", &[NoTlsa, Unknown], true, Partial, true),
            ("without and unknown, insecure MX", &[NoTlsa, Unknown], false, Partial, true),
            ("all without", &[NoTlsa, NoTlsa], true, None, false),
            ("without and ignored", &[NoTlsa, Ignored], true, None, false),
            ("none left", &[Ignored], true, None, false),
            ("no host", &[], true, None, false),
            ("all unknown", &[Unknown, Unknown], true, Temporary, true),
            ("unknown and ignored", &[Unknown, Ignored], false, Temporary, true),
        ];
        for (name, hosts, secure_mx, expected, short) in rows {
            assert_eq!(verdict(hosts, *secure_mx), (*expected, *short), "{name}");
        }
    }

    #[test]
    fn a_settled_verdict_is_not_changed_by_what_comes_of_unknown_hosts() {
        let all = [Usable, Unusable, NoTlsa, Ignored, Unknown];
        for secure_mx in [true, false] {
            for a in all {
                for b in all {
                    let same =
                        all.map(|late| verdict(&[a, b, late], secure_mx).0).windows(2).all(|pair| pair[0] == pair[1]);
                    assert_eq!(is_settled(&[a, b, Unknown], secure_mx), same, "{a:?} {b:?} {secure_mx}");
                }
            }
        }
    }

    #[test]
    fn order_and_number_of_hosts_change_nothing() {
        let all = [Usable, Unusable, NoTlsa, Ignored, Unknown];
        for a in all {
            for b in all {
                for secure_mx in [true, false] {
                    assert_eq!(verdict(&[a, b], secure_mx), verdict(&[b, a, a], secure_mx), "{a:?} {b:?}");
                }
            }
        }
    }
}
