//! DANE and MTA-STS combined: one pure table, first match wins (design §4).

use crate::cache::DaneVerdict;

/// What the MTA-STS branch says, as far as the table asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sts {
    /// A policy in force.
    Secure,
    /// No policy that enforces anything.
    None,
    /// Could not be found out, and no policy is cached.
    Temporary,
}

/// What Postfix is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combined {
    /// `dane-only`.
    DaneOnly,
    /// `dane`.
    Dane,
    /// `secure …`.
    Secure,
    /// `secure …` for the hosts alone that are proven to have no usable TLSA records; TEMP where the policy allows none of
    /// them.
    SecureHosts,
    /// NOTFOUND.
    NotFound,
    /// TEMP.
    Temporary,
}

/// The answer, or `None` where a branch that is still under way (`None`) decides.
pub fn combine(dane: Option<DaneVerdict>, sts: Option<Sts>) -> Option<Combined> {
    match (dane?, sts) {
        (DaneVerdict::DaneOnly, _) => Some(Combined::DaneOnly),
        // MTA-STS must not override DANE (RFC 8461 §2), nor may mail go out in the clear where it forbids that (§5):
        // what DANE authenticates, and nothing else.
        (DaneVerdict::Dane, Some(Sts::Secure)) => Some(Combined::DaneOnly),
        (DaneVerdict::Dane, Some(Sts::None | Sts::Temporary)) => Some(Combined::Dane),
        // Authenticated beats unauthenticated; no valid DANE is overridden.
        (DaneVerdict::DaneWeak, Some(Sts::Secure)) => Some(Combined::Secure),
        (DaneVerdict::DaneWeak, Some(Sts::None | Sts::Temporary)) => Some(Combined::Dane),
        // The unknown host might have TLSA records: its certificate must not be asked for by another measure.
        (DaneVerdict::Partial, Some(Sts::Secure)) => Some(Combined::SecureHosts),
        (DaneVerdict::Partial, Some(Sts::None | Sts::Temporary)) => Some(Combined::Dane),
        (DaneVerdict::Temporary, _) => Some(Combined::Temporary),
        (DaneVerdict::None, Some(Sts::Secure)) => Some(Combined::Secure),
        // Without a policy, deliver as usual (RFC 8461 §5.1).
        (DaneVerdict::None, Some(Sts::None | Sts::Temporary)) => Some(Combined::NotFound),
        (DaneVerdict::Dane | DaneVerdict::DaneWeak | DaneVerdict::Partial | DaneVerdict::None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Combined as C;
    use DaneVerdict as D;

    #[test]
    fn every_row_of_the_combination_table() {
        let any = [Some(Sts::Secure), Some(Sts::None), Some(Sts::Temporary), None];
        let mut rows = vec![
            ("weak, secure", D::DaneWeak, Some(Sts::Secure), Some(C::Secure)),
            ("weak, none", D::DaneWeak, Some(Sts::None), Some(C::Dane)),
            ("weak, temporary", D::DaneWeak, Some(Sts::Temporary), Some(C::Dane)),
            ("weak waits", D::DaneWeak, None, None),
            ("dane, secure", D::Dane, Some(Sts::Secure), Some(C::DaneOnly)),
            ("dane, none", D::Dane, Some(Sts::None), Some(C::Dane)),
            ("dane, temporary", D::Dane, Some(Sts::Temporary), Some(C::Dane)),
            ("dane waits", D::Dane, None, None),
            ("partial, secure", D::Partial, Some(Sts::Secure), Some(C::SecureHosts)),
            ("partial, none", D::Partial, Some(Sts::None), Some(C::Dane)),
            ("partial, temporary", D::Partial, Some(Sts::Temporary), Some(C::Dane)),
            ("partial waits", D::Partial, None, None),
            ("none, secure", D::None, Some(Sts::Secure), Some(C::Secure)),
            ("none, none", D::None, Some(Sts::None), Some(C::NotFound)),
            ("none, temporary", D::None, Some(Sts::Temporary), Some(C::NotFound)),
            ("none waits", D::None, None, None),
        ];
        for sts in any {
            rows.push(("dane-only, any", D::DaneOnly, sts, Some(C::DaneOnly)));
            rows.push(("temporary, any", D::Temporary, sts, Some(C::Temporary)));
        }
        for (name, dane, sts, expected) in rows {
            assert_eq!(combine(Some(dane), sts), expected, "{name}");
        }
        for sts in any {
            assert_eq!(combine(None, sts), None, "DANE decides first: {sts:?}");
        }
    }
}
