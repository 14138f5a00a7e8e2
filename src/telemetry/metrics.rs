//! All metrics in one place (design §12), and the page that Prometheus reads. Label values are closed sets,
//! never names from outside.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::process;

/// Counter, labels `map` (built-in or configured names, `other`) and `answer`: lookups answered.
pub const QUERIES: &str = "postseal_queries_total";
/// Histogram, label `cache` (`hit`, `miss`): time from a lookup to its reply.
pub const QUERY_DURATION: &str = "postseal_query_duration_seconds";
/// Counter, label `result`: looks into the policy cache.
pub const CACHE_REQUESTS: &str = "postseal_cache_requests_total";
/// Gauge: next hops in the policy cache.
pub const CACHE_ENTRIES: &str = "postseal_cache_entries";
/// Counter: next hops that made room for others.
pub const CACHE_EVICTIONS: &str = "postseal_cache_evictions_total";
/// Counter, label `result`: renewals before the end.
pub const PREFETCH: &str = "postseal_prefetch_total";
/// Counter, label `result`: DANE branches evaluated.
pub const DANE_RESULTS: &str = "postseal_dane_results_total";
/// Counter, label `result`: MTA-STS branches evaluated.
pub const MTA_STS_RESULTS: &str = "postseal_mta_sts_results_total";
/// Counter, label `result`: MTA-STS policies fetched.
pub const MTA_STS_FETCH: &str = "postseal_mta_sts_fetch_total";
/// Histogram: time of a policy fetch, all tries.
pub const MTA_STS_FETCH_DURATION: &str = "postseal_mta_sts_fetch_duration_seconds";
/// Counter, label `transport` (`udp`, `tcp`, `tls`): queries sent to servers.
pub const UPSTREAM_QUERIES: &str = "postseal_resolver_upstream_queries_total";
/// Counter, label `reason`: tries at servers that gave no answer or an error.
pub const UPSTREAM_ERRORS: &str = "postseal_resolver_upstream_errors_total";
/// Histogram: time of a DNS lookup that the cache could not answer.
pub const LOOKUP_DURATION: &str = "postseal_resolver_lookup_duration_seconds";
/// Counter, label `result` (`secure`, `insecure`, `bogus`, `failed`): DNS lookups by what validation said.
pub const VALIDATIONS: &str = "postseal_resolver_validations_total";
/// Gauge: octets in the DNS cache.
pub const RESOLVER_CACHE_BYTES: &str = "postseal_resolver_cache_bytes";
/// Counter, labels `rcode` and `ad`: questions answered by the DNS listener.
pub const DNS_LISTENER_QUERIES: &str = "postseal_dns_listener_queries_total";
/// Gauge, labels `tag`, `algorithm`, `state`: 1 for each trust anchor that is known.
pub const TRUST_ANCHOR_INFO: &str = "postseal_trust_anchor_info";
/// Gauge: when the root's keys were last looked at (RFC 5011), in seconds since 1970-01-01 UTC.
pub const TRUST_ANCHOR_LAST_REFRESH: &str = "postseal_trust_anchor_last_refresh_timestamp_seconds";
/// Counter: writes that did not reach the disk.
pub const STORE_WRITE_ERRORS: &str = "postseal_store_write_errors_total";
/// Gauge: 1 while the store cannot be written and new entries are in memory only, else 0.
pub const STORE_FAILING: &str = "postseal_store_failing";
/// Counter: stored entries that were skipped because they cannot be understood.
pub const STORE_DAMAGED_ENTRIES: &str = "postseal_store_damaged_entries_total";
/// Counter: stored entries that damage has cost.
pub const STORE_LOST: &str = "postseal_store_lost_entries_total";
/// Counter: times that the whole store was beyond reading and was moved aside.
pub const STORE_MOVED_ASIDE: &str = "postseal_store_moved_aside_total";
/// Gauge, label `listener` (`socketmap`, `http`, `dns`, `control`): open connections.
pub const CONNECTIONS: &str = "postseal_connections";
/// Counter: answers weaker than the one before for the same next hop.
pub const POLICY_DOWNGRADES: &str = "postseal_policy_downgrades_total";
/// Gauge, label `version`: always 1.
pub const BUILD_INFO: &str = "postseal_build_info";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times in seconds.
    Histogram,
}

/// One metric, for Prometheus and for the README.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, separated by commas.
    pub labels: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

/// Every metric of our own; `process_*` come from the system.
pub const METRICS: &[Metric] = &[
    metric(QUERIES, Kind::Counter, "map,answer", "lookups answered"),
    metric(QUERY_DURATION, Kind::Histogram, "cache", "time from a lookup to its reply"),
    metric(CACHE_REQUESTS, Kind::Counter, "result", "looks into the policy cache"),
    metric(CACHE_ENTRIES, Kind::Gauge, "", "next hops in the policy cache"),
    metric(CACHE_EVICTIONS, Kind::Counter, "", "next hops that made room for others"),
    metric(PREFETCH, Kind::Counter, "result", "renewals before the end"),
    metric(DANE_RESULTS, Kind::Counter, "result", "DANE branches evaluated"),
    metric(MTA_STS_RESULTS, Kind::Counter, "result", "MTA-STS branches evaluated"),
    metric(MTA_STS_FETCH, Kind::Counter, "result", "MTA-STS policies fetched"),
    metric(MTA_STS_FETCH_DURATION, Kind::Histogram, "", "time of a policy fetch, all tries"),
    metric(UPSTREAM_QUERIES, Kind::Counter, "transport", "queries sent to servers"),
    metric(UPSTREAM_ERRORS, Kind::Counter, "reason", "tries at servers that gave no answer or an error"),
    metric(LOOKUP_DURATION, Kind::Histogram, "", "time of a DNS lookup that the cache could not answer"),
    metric(VALIDATIONS, Kind::Counter, "result", "DNS lookups by what validation said"),
    metric(RESOLVER_CACHE_BYTES, Kind::Gauge, "", "octets in the DNS cache"),
    metric(DNS_LISTENER_QUERIES, Kind::Counter, "rcode,ad", "questions answered by the DNS listener"),
    metric(TRUST_ANCHOR_INFO, Kind::Gauge, "tag,algorithm,state", "1 for each trust anchor that is known"),
    metric(TRUST_ANCHOR_LAST_REFRESH, Kind::Gauge, "", "when the root's keys were last looked at"),
    metric(STORE_WRITE_ERRORS, Kind::Counter, "", "writes that did not reach the disk"),
    metric(STORE_FAILING, Kind::Gauge, "", "1 while the store cannot be written, else 0"),
    metric(STORE_DAMAGED_ENTRIES, Kind::Counter, "", "stored entries skipped because they cannot be understood"),
    metric(STORE_LOST, Kind::Counter, "", "stored entries that damage has cost"),
    metric(STORE_MOVED_ASIDE, Kind::Counter, "", "times that the whole store was beyond reading and moved aside"),
    metric(CONNECTIONS, Kind::Gauge, "listener", "open connections"),
    metric(POLICY_DOWNGRADES, Kind::Counter, "", "answers weaker than the one before for the same next hop"),
    metric(BUILD_INFO, Kind::Gauge, "version", "always 1"),
];

/// Upper bounds in seconds: from a cache hit to the longest wait of a mail.
const BUCKETS: &[f64] =
    &[0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// Collects what the program counts, and writes it down for Prometheus.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
}

/// Why nothing is collected.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The buckets are empty; a test keeps this from happening.
    #[error("metrics: {0}")]
    Build(#[from] BuildError),
    /// A second set-up in one process.
    #[error("metrics are set up already")]
    AlreadySetUp,
}

impl Exporter {
    /// Collects for the whole process from now on.
    pub fn install() -> Result<Self, SetUpError> {
        let mut builder = PrometheusBuilder::new();
        for histogram in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
            builder = builder.set_buckets_for_metric(Matcher::Full(histogram.name.to_owned()), BUCKETS)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| SetUpError::AlreadySetUp)?;
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
            }
        }
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle })
    }

    /// The page, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        process::render(&mut text);
        text
    }

    /// Moves recorded times into their buckets. To be called every second or so: until then each is kept.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_this_module_is_in_the_table_with_the_conventions_kept() {
        let source = include_str!("metrics.rs");
        let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once("\"postseal_"));
        let mut count = 0;
        for (_, rest) in names {
            let name = format!("postseal_{}", rest.trim_end_matches("\";"));
            let metric = METRICS.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(metric.kind == Kind::Histogram, name.ends_with("_duration_seconds"), "{name}");
            count += 1;
        }
        assert_eq!(count, METRICS.len());
    }
}
