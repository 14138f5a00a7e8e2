//! From an MX answer to the hosts that receive mail (design §4 step 1).

use hickory_proto::rr::RData;

use crate::dns::{Answer, Found};
use crate::limits::MX_HOSTS;
use crate::names::Domain;

/// Who receives mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailHosts {
    /// Nobody: no host to have TLSA records.
    Nobody(Nobody),
    /// These, best preference first, each once.
    Hosts {
        /// Preference and name.
        hosts: Vec<(u16, Domain)>,
        /// How many more there are than are looked at.
        left_out: usize,
    },
}

/// Why nobody receives mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    /// The domain does not exist.
    #[error("domain does not exist")]
    NoDomain,
    /// The domain says that it takes no mail (RFC 7505).
    #[error("null MX: domain takes no mail")]
    NullMx,
}

/// Reads an MX answer for `domain`.
pub fn mail_hosts(domain: &Domain, answer: &Answer) -> MailHosts {
    let records = match &answer.found {
        Found::NxDomain => return MailHosts::Nobody(Nobody::NoDomain),
        // The domain itself is the only host (RFC 5321 §5.1, "implicit MX").
        Found::NoData => return MailHosts::Hosts { hosts: vec![(0, domain.clone())], left_out: 0 },
        Found::Records(records) => records,
    };
    let mut targets: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            RData::MX(mx) => Some((mx.preference, &mx.exchange)),
            _ => None,
        })
        .collect();
    if let [(0, exchange)] = targets.as_slice()
        && exchange.is_root()
    {
        return MailHosts::Nobody(Nobody::NullMx);
    }
    targets.sort_by_key(|(preference, _)| *preference);
    let mut hosts: Vec<(u16, Domain)> = Vec::new();
    for (preference, exchange) in targets {
        // A `.` beside real hosts, and what is no host name, receives nothing.
        let Ok(host) = Domain::from_name(exchange) else { continue };
        if !hosts.iter().any(|(_, known)| known == &host) {
            hosts.push((preference, host));
        }
    }
    let left_out = hosts.len().saturating_sub(MX_HOSTS);
    hosts.truncate(MX_HOSTS);
    MailHosts::Hosts { hosts, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Security;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::MX;

    fn read(found: Found) -> MailHosts {
        let domain = Domain::parse("example.com").expect("a domain");
        mail_hosts(&domain, &Answer { found, canonical: domain.to_name(), security: Security::Secure, ttl: 300 })
    }

    fn records(mx: &[(u16, &str)]) -> Found {
        let record = |(preference, name): &(u16, &str)| {
            let labels = name.split_terminator('.').map(str::as_bytes).filter(|label| !label.is_empty());
            let exchange = Name::from_labels(labels).expect("a name");
            RData::MX(MX::new(*preference, exchange))
        };
        Found::Records(mx.iter().map(record).collect())
    }

    #[test]
    fn hosts_come_from_the_answer_or_are_the_domain_itself() {
        let hosts = |list: &[(u16, &str)]| MailHosts::Hosts {
            hosts: list.iter().map(|(p, h)| (*p, Domain::parse(h).expect("a host"))).collect(),
            left_out: 0,
        };
        let rows = [
            ("no such domain", Found::NxDomain, MailHosts::Nobody(Nobody::NoDomain)),
            ("no MX record: implicit MX", Found::NoData, hosts(&[(0, "example.com")])),
            ("null MX", records(&[(0, ".")]), MailHosts::Nobody(Nobody::NullMx)),
            ("lone . of other preference", records(&[(10, ".")]), hosts(&[])),
            ("two null MX", records(&[(0, "."), (5, ".")]), hosts(&[])),
            (". beside a host", records(&[(0, "."), (10, "mx.example.")]), hosts(&[(10, "mx.example")])),
            (
                "by preference, each once",
                records(&[(20, "b.example."), (10, "a.example."), (30, "A.EXAMPLE."), (20, "B.example.")]),
                hosts(&[(10, "a.example"), (20, "b.example")]),
            ),
            (
                "no host names",
                records(&[(1, "192.0.2.1."), (2, "a b.example."), (3, "mx.example.")]),
                hosts(&[(3, "mx.example")]),
            ),
        ];
        for (name, found, expected) in rows {
            assert_eq!(read(found), expected, "{name}");
        }
    }

    #[test]
    fn hosts_beyond_the_limit_are_counted_not_forgotten() {
        let many: Vec<String> = (0..MX_HOSTS + 3).map(|n| format!("mx{n}.example.")).collect();
        let many: Vec<(u16, &str)> = many.iter().map(|name| (10, name.as_str())).collect();
        assert!(matches!(read(records(&many)), MailHosts::Hosts { hosts, left_out: 3 } if hosts.len() == MX_HOSTS));
    }
}
