//! The same counts under postfix-tlspol's metric names (`http.tlspol-metric-names`), for dashboards made for it:
//! what both programs count alike. Its numbers of the Go runtime have no equal here.

use std::fmt::Write;

use super::metrics::{CACHE_ENTRIES, CACHE_REQUESTS, PREFETCH, QUERIES};
use super::samples::Samples;

/// A metric of postfix-tlspol and where its series come from.
struct Mirror {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    ours: &'static str,
    /// The label of each side, and which of its values is which of ours; empty: one series, the sum of all.
    label: (&'static str, &'static str),
    series: &'static [(&'static str, &'static str)],
}

const MIRRORS: &[Mirror] = &[
    Mirror {
        name: "postfix_tlspol_queries_total",
        kind: "counter",
        help: "lookups answered",
        ours: QUERIES,
        label: ("", ""),
        series: &[],
    },
    Mirror {
        name: "postfix_tlspol_policy_total",
        kind: "counter",
        help: "answers by policy",
        ours: QUERIES,
        label: ("policy", "answer"),
        series: &[("dane", "dane"), ("dane-only", "dane-only"), ("secure", "secure"), ("no-policy", "notfound")],
    },
    Mirror {
        name: "postfix_tlspol_cache_requests_total",
        kind: "counter",
        help: "looks into the policy cache",
        ours: CACHE_REQUESTS,
        label: ("result", "result"),
        series: &[("hit", "hit"), ("miss", "miss")],
    },
    Mirror {
        name: "postfix_tlspol_cache_entries",
        kind: "gauge",
        help: "next hops in the policy cache",
        ours: CACHE_ENTRIES,
        label: ("", ""),
        series: &[],
    },
    Mirror {
        name: "postfix_tlspol_prefetch_total",
        kind: "counter",
        help: "renewals before the end",
        ours: PREFETCH,
        label: ("result", "result"),
        series: &[("success", "ok"), ("failure", "failed")],
    },
];

/// Appends the other program's metrics to a page of ours.
pub fn render(samples: &Samples, out: &mut String) {
    for Mirror { name, kind, help, ours, label: (theirs, own), series } in MIRRORS {
        // Writing into a String cannot fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        if series.is_empty() {
            let _ = writeln!(out, "{name} {}", samples.sum(ours, None));
        }
        for (value, our_value) in *series {
            let count = samples.sum(ours, Some((own, our_value)));
            let _ = writeln!(out, "{name}{{{theirs}=\"{value}\"}} {count}");
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_counts_appear_under_the_other_programs_names() {
        let page = "postseal_queries_total{map=\"QUERY\",answer=\"dane-only\"} 1\n\
                    postseal_queries_total{map=\"QUERY\",answer=\"notfound\"} 2\n\
                    postseal_queries_total{map=\"QUERYwithTLSRPT\",answer=\"notfound\"} 1\n\
                    postseal_queries_total{map=\"other\",answer=\"not-a-destination\"} 1\n\
                    postseal_cache_requests_total{result=\"hit\"} 3\npostseal_cache_entries 7\n\
                    postseal_prefetch_total{result=\"failed\"} 4\n";
        let mut text = String::new();
        render(&Samples::parse(page), &mut text);
        for line in [
            "# TYPE postfix_tlspol_queries_total counter\n",
            "postfix_tlspol_queries_total 5\n",
            "postfix_tlspol_policy_total{policy=\"dane-only\"} 1\n",
            "postfix_tlspol_policy_total{policy=\"dane\"} 0\n",
            "postfix_tlspol_policy_total{policy=\"no-policy\"} 3\n",
            "postfix_tlspol_cache_requests_total{result=\"hit\"} 3\n",
            "postfix_tlspol_cache_requests_total{result=\"miss\"} 0\n",
            "postfix_tlspol_cache_entries 7\n",
            "postfix_tlspol_prefetch_total{result=\"failure\"} 4\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
