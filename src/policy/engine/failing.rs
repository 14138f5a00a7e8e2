//! What is answered where a policy cannot be determined (`policy.on-failure`, design §11).

use super::EngineSettings;
use crate::cache::DaneVerdict;
use crate::clock::{Stamp, UnixTime};
use crate::policy::decision::{Decision, Outcome, Standing};
use crate::policy::merge::combine;

impl EngineSettings {
    /// Whether DANE decides whatever MTA-STS says. Where a failure does not hold mail, whether there is an MTA-STS policy
    /// counts for it, too.
    pub(super) fn is_decided_by(&self, verdict: DaneVerdict) -> bool {
        combine(Some(verdict), None).is_some()
            && (verdict != DaneVerdict::Temporary || self.on_failure.level().is_none())
    }

    /// The decision, or `policy.on-failure` in place of TEMP: where nothing is in force now, and no policy counts as seen
    /// at `now`, when it does until `seen_until`.
    pub(super) fn or_fallback(&self, decision: Decision, seen_until: UnixTime, now: Stamp) -> Decision {
        let (Outcome::Temporary(reason), Some(level)) = (&decision.outcome, self.on_failure.level()) else {
            return decision;
        };
        let in_force = decision.sts.as_ref().is_some_and(|view| matches!(view.standing, Standing::InForce(..)));
        if in_force || now.wall < seen_until {
            return decision;
        }
        let outcome = Outcome::Fallback(level, reason.clone());
        Decision { outcome, ..decision }
    }
}
