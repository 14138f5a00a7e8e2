//! What the log says of decisions: one line for each fresh one that carries a policy, loses one, or cannot determine
//! any. All else is for debugging, so that a flood of random names writes next to nothing.

use std::time::Duration;

use super::{Engine, Inner};
use crate::cache::Protection;
use crate::clock::Instant;
use crate::names::NextHop;
use crate::policy::decision::{Decision, Outcome, Standing, StsView};
use crate::telemetry::metrics as metric_names;
use crate::telemetry::repeats::Policy;

impl Engine {
    /// Writes down what was decided, where it is worth a line. `is_first` where the question began the lookup that
    /// decided, so that those who joined it add no lines; `began` is when it came.
    pub(super) fn log(&self, hop: &NextHop, decision: &Decision, is_first: bool, began: Instant) {
        let answer = decision.outcome.label();
        let worth = if is_first { worth(decision) } else { Worth::Nothing };
        if matches!(worth, Worth::Nothing) {
            // Nearly every answer: nothing is made ready for a line that is not written.
            tracing::debug!(
                domain = %hop, answer, dane = branches(decision).0, mta_sts = branches(decision).1,
                cached = decision.cached, "answered"
            );
            return;
        }
        let now = self.inner.clock.instant();
        let took = now.saturating_duration_since(began);
        match worth {
            Worth::Policy if self.inner.repeats.may_list(Policy::Found, now) => {
                let (dane, mta_sts) = branches(decision);
                tracing::info!(domain = %hop, answer, dane, mta_sts, took = seconds(took), "policy found");
            }
            Worth::Doubt(reason) if self.inner.repeats.may_say(&hop.to_string(), reason, now) => {
                let (dane, mta_sts) = branches(decision);
                tracing::info!(
                    domain = %hop, answer, dane, mta_sts, took = seconds(took), reason, "policy cannot be determined"
                );
            }
            Worth::Nothing | Worth::Policy | Worth::Doubt(_) => {
                tracing::debug!(domain = %hop, answer, "answered; counted for a summary");
            }
        }
    }

    /// Writes down what was held back, when it is time.
    pub(super) fn summarise(&self) {
        for held in self.inner.repeats.summary(self.inner.clock.instant()) {
            let (count, period) = (held.count, held.period.as_secs());
            match held.reason.as_deref() {
                Some(reason) => tracing::info!(reason, count, period, "the same again"),
                None => tracing::info!(count, period, "and others, for many reasons"),
            }
        }
    }
}

impl Inner {
    /// Says so when a next hop is protected less than it was.
    pub(super) fn note_protection(&self, hop: &NextHop, protection: Protection, dane: &str, mta_sts: &str) {
        let before = self.cache.note_protection(hop, protection);
        if !protection.is_weaker_than(before) {
            return;
        }
        metrics::counter!(metric_names::POLICY_DOWNGRADES).increment(1);
        let (old, new) = (before.label(), protection.label());
        if self.repeats.may_list(Policy::Lost, self.clock.instant()) {
            tracing::warn!(domain = %hop, old, new, dane, mta_sts, "policy lost: mail to this domain is protected less now");
        }
    }
}

/// What a decision is worth in the log.
enum Worth<'a> {
    /// From memory, or plainly no policy.
    Nothing,
    /// It carries a policy.
    Policy,
    /// None could be determined, or an announced one could not be had, for this reason.
    Doubt(&'a str),
}

fn worth(decision: &Decision) -> Worth<'_> {
    if decision.cached {
        return Worth::Nothing;
    }
    match &decision.outcome {
        Outcome::Temporary(reason) | Outcome::Fallback(_, reason) => Worth::Doubt(reason),
        Outcome::DaneOnly
        | Outcome::Dane
        | Outcome::Secure(_)
        | Outcome::SecureHosts(..)
        | Outcome::ReportTesting(..) => Worth::Policy,
        Outcome::Override(_) => Worth::Nothing,
        Outcome::NotFound | Outcome::ReportFailure(..) => match &decision.sts {
            Some(view) if matches!(view.standing, Standing::Unavailable(_)) => Worth::Doubt(view.reason()),
            Some(_) | None => Worth::Nothing,
        },
    }
}

/// Both branches in words.
fn branches(decision: &Decision) -> (&str, &str) {
    let dane = decision.dane.as_ref().map_or("", |view| &view.entry.reason);
    (dane, decision.sts.as_ref().map_or("", StsView::status))
}

/// In seconds, to the millisecond.
fn seconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000.0).round() / 1_000.0
}
