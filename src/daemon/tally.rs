//! Answers counted under postfix-tlspol's metric names (`http.tlspol-metric-names`), for dashboards made for it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::decision::Outcome;

/// What both programs count alike. Its own numbers of its runtime have no equal here.
#[derive(Debug, Default)]
pub(super) struct Tally {
    queries: AtomicU64,
    dane: AtomicU64,
    dane_only: AtomicU64,
    secure: AtomicU64,
    no_policy: AtomicU64,
}

impl Tally {
    /// A query, and what came of it; none where the key was no next hop.
    pub(super) fn count(&self, outcome: Option<&Outcome>) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        let answer = match outcome {
            Some(Outcome::Dane) => &self.dane,
            Some(Outcome::DaneOnly) => &self.dane_only,
            Some(Outcome::Secure(_)) => &self.secure,
            Some(Outcome::NotFound) => &self.no_policy,
            Some(
                Outcome::Override(_) | Outcome::ReportTesting(..) | Outcome::ReportFailure(..) | Outcome::Temporary(_),
            )
            | None => return,
        };
        answer.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn render(&self, out: &mut String) {
        let queries = self.queries.load(Ordering::Relaxed);
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "# HELP postfix_tlspol_queries_total lookups answered\n# TYPE postfix_tlspol_queries_total counter\n\
             postfix_tlspol_queries_total {queries}\n\n\
             # HELP postfix_tlspol_policy_total answers by policy\n# TYPE postfix_tlspol_policy_total counter\n"
        );
        for (policy, count) in [
            ("dane", &self.dane),
            ("dane-only", &self.dane_only),
            ("secure", &self.secure),
            ("no-policy", &self.no_policy),
        ] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "postfix_tlspol_policy_total{{policy=\"{policy}\"}} {count}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_appear_under_the_other_programs_names() {
        let tally = Tally::default();
        for outcome in [Some(Outcome::DaneOnly), Some(Outcome::NotFound), Some(Outcome::NotFound), None] {
            tally.count(outcome.as_ref());
        }
        let mut text = String::new();
        tally.render(&mut text);
        for line in [
            "postfix_tlspol_queries_total 4\n",
            "postfix_tlspol_policy_total{policy=\"dane-only\"} 1\n",
            "postfix_tlspol_policy_total{policy=\"dane\"} 0\n",
            "postfix_tlspol_policy_total{policy=\"no-policy\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
