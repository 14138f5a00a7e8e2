//! All metrics in one place (design §12): names, labels with every value they can have, help. Never a name from
//! outside among the values.

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
/// Counter, labels `operation` (`read`, `write`, `remove`) and `result`: requests to the shared store.
pub const SHARED_STORE_REQUESTS: &str = "postseal_shared_store_requests_total";
/// Gauge: 1 while there is a shared store and it cannot be reached, else 0.
pub const SHARED_STORE_FAILING: &str = "postseal_shared_store_failing";
/// Gauge: changes that are still to be written to the shared store.
pub const SHARED_STORE_PENDING: &str = "postseal_shared_store_pending_changes";
/// Gauge, label `listener` (`socketmap`, `http`, `dns`, `control`): open connections.
pub const CONNECTIONS: &str = "postseal_connections";
/// Counter: answers weaker than the one before for the same next hop.
pub const POLICY_DOWNGRADES: &str = "postseal_policy_downgrades_total";
/// Gauge: what `/readyz` says, 1 for ready.
pub const READY: &str = "postseal_ready";
/// See [`METRICS`].
pub const ROOT_REACHABLE: &str = "postseal_root_reachable";
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

/// A label of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// The values of a label: always a bounded set.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these.
    Of(&'static [&'static str]),
    /// A map's name where it can be no domain (see [`map_label`]), or `other`.
    Map,
    /// A key tag or an algorithm's number, of the few keys that are trust anchors.
    Number,
    /// Our own version.
    Version,
}

/// One metric, for Prometheus and for docs/monitoring.md.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [Label],
    /// One line of help.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

const fn of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Of(values) }
}

/// What stands for maps whose name is no label.
pub const OTHER_MAP: &str = "other";

/// The `map` label of a map with this name. The operator may have named it after a domain: that is no label.
pub fn map_label(name: &str) -> &str {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    if name.bytes().all(plain) { name } else { OTHER_MAP }
}

const QUERY_LABELS: &[Label] = &[
    Label { name: "map", values: Values::Map },
    of(
        "answer",
        &[
            "dane-only",
            "dane",
            "secure",
            "report",
            "fallback",
            "override",
            "notfound",
            "temp",
            "not-a-destination",
            "perm",
        ],
    ),
];
const HIT_OR_MISS: &[&str] = &["hit", "miss"];
const UPSTREAM_ERROR_LABELS: &[Label] = &[of(
    "reason",
    &[
        "timeout",
        "servfail",
        "refused",
        "formerr",
        "notimp",
        "rcode",
        "malformed",
        "connection_refused",
        "unreachable",
        "closed",
        "no_socket",
        "budget",
    ],
)];
const DNS_LISTENER_LABELS: &[Label] = &[
    of("rcode", &["noerror", "nxdomain", "servfail", "refused", "formerr", "notimp", "other"]),
    of("ad", &["false", "true"]),
];
const TRUST_ANCHOR_LABELS: &[Label] = &[
    Label { name: "tag", values: Values::Number },
    Label { name: "algorithm", values: Values::Number },
    of("state", &["add-pending", "valid", "missing", "revoked", "removed"]),
];
const SHARED_STORE_LABELS: &[Label] = &[
    of("operation", &["read", "write", "remove"]),
    of("result", &["hit", "miss", "ok", "older", "invalid", "refused", "failed", "skipped", "dropped"]),
];

/// Every metric of our own; `process_*` come from the system.
pub const METRICS: &[Metric] = &[
    metric(QUERIES, Kind::Counter, QUERY_LABELS, "lookups answered"),
    metric(QUERY_DURATION, Kind::Histogram, &[of("cache", HIT_OR_MISS)], "time from a lookup to its reply"),
    metric(CACHE_REQUESTS, Kind::Counter, &[of("result", HIT_OR_MISS)], "looks into the policy cache"),
    metric(CACHE_ENTRIES, Kind::Gauge, &[], "next hops in the policy cache"),
    metric(CACHE_EVICTIONS, Kind::Counter, &[], "next hops that made room for others"),
    metric(PREFETCH, Kind::Counter, &[of("result", &["ok", "failed"])], "renewals before the end"),
    metric(
        DANE_RESULTS,
        Kind::Counter,
        &[of("result", &["dane-only", "dane", "partial", "none", "temporary"])],
        "DANE branches evaluated",
    ),
    metric(
        MTA_STS_RESULTS,
        Kind::Counter,
        &[of("result", &["enforce", "testing", "none", "absent", "unavailable"])],
        "MTA-STS branches evaluated",
    ),
    metric(
        MTA_STS_FETCH,
        Kind::Counter,
        &[of("result", &["ok", "network", "http", "certificate", "invalid"])],
        "MTA-STS policies fetched",
    ),
    metric(MTA_STS_FETCH_DURATION, Kind::Histogram, &[], "time of a policy fetch, all tries"),
    metric(UPSTREAM_QUERIES, Kind::Counter, &[of("transport", &["udp", "tcp", "tls"])], "queries sent to servers"),
    metric(UPSTREAM_ERRORS, Kind::Counter, UPSTREAM_ERROR_LABELS, "tries at servers that gave no answer or an error"),
    metric(LOOKUP_DURATION, Kind::Histogram, &[], "time of a DNS lookup that the cache could not answer"),
    metric(
        VALIDATIONS,
        Kind::Counter,
        &[of("result", &["secure", "insecure", "bogus", "failed"])],
        "DNS lookups by what validation said",
    ),
    metric(RESOLVER_CACHE_BYTES, Kind::Gauge, &[], "octets in the DNS cache"),
    metric(DNS_LISTENER_QUERIES, Kind::Counter, DNS_LISTENER_LABELS, "questions answered by the DNS listener"),
    metric(TRUST_ANCHOR_INFO, Kind::Gauge, TRUST_ANCHOR_LABELS, "1 for the state that each known trust anchor is in"),
    metric(
        TRUST_ANCHOR_LAST_REFRESH,
        Kind::Gauge,
        &[],
        "when the root's keys were last looked at, in seconds since 1970; 0 for never",
    ),
    metric(STORE_WRITE_ERRORS, Kind::Counter, &[], "writes that did not reach the disk"),
    metric(STORE_FAILING, Kind::Gauge, &[], "1 while the store cannot be written, else 0"),
    metric(STORE_DAMAGED_ENTRIES, Kind::Counter, &[], "stored entries skipped because they cannot be understood"),
    metric(STORE_LOST, Kind::Counter, &[], "stored entries that damage has cost"),
    metric(STORE_MOVED_ASIDE, Kind::Counter, &[], "times that the whole store was beyond reading and moved aside"),
    metric(SHARED_STORE_REQUESTS, Kind::Counter, SHARED_STORE_LABELS, "reads and changes of the shared store"),
    metric(SHARED_STORE_FAILING, Kind::Gauge, &[], "1 while the shared store cannot be reached, else 0"),
    metric(SHARED_STORE_PENDING, Kind::Gauge, &[], "changes still to be written to the shared store"),
    metric(CONNECTIONS, Kind::Gauge, &[of("listener", &["socketmap", "http", "dns", "control"])], "open connections"),
    metric(POLICY_DOWNGRADES, Kind::Counter, &[], "answers weaker than the one before for the same next hop"),
    metric(READY, Kind::Gauge, &[], "1 while /readyz says ready, else 0"),
    metric(
        ROOT_REACHABLE,
        Kind::Gauge,
        &[],
        "1 where the root could be reached and validated at the last look, else 0",
    ),
    metric(BUILD_INFO, Kind::Gauge, &[Label { name: "version", values: Values::Version }], "always 1"),
];

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

    #[test]
    fn a_map_named_after_a_domain_is_no_label() {
        for (name, label) in [
            ("QUERY", "QUERY"),
            ("QUERYwithTLSRPT", "QUERYwithTLSRPT"),
            ("My_map-2", "My_map-2"),
            ("example.com", OTHER_MAP),
            ("[mx]:25", OTHER_MAP),
        ] {
            assert_eq!(map_label(name), label);
        }
    }
}
