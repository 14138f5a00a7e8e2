//! Names of all metrics in one place (design §12). Label values are closed sets, never names from outside.

/// Counter, label `transport` (`udp`, `tcp`, `tls`): queries sent to servers.
pub const UPSTREAM_QUERIES: &str = "postseal_resolver_upstream_queries_total";
/// Counter, label `reason`: tries at servers that gave no answer or an error.
pub const UPSTREAM_ERRORS: &str = "postseal_resolver_upstream_errors_total";
/// Gauge, label `listener`: open connections.
pub const CONNECTIONS: &str = "postseal_connections";
