//! QNAME minimisation (RFC 9156): how much of a name the servers of a zone get to see. Pure.

use hickory_proto::rr::Name;

/// Probes of one lookup after which the full name is sent (RFC 9156 §2.3, MAX_MINIMISE_COUNT).
pub const MAX_PROBES: u8 = 10;

/// What to ask the servers of a zone for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The full question.
    Full,
    /// Only this ancestor of the name, type A (RFC 9156 §2.1): is there a zone cut?
    Probe(Name),
}

/// Decides what to send to the servers of `zone` about `name`.
///
/// `is_cut_free` says that a name is already known to be no zone cut; `registry` that the zone's business is to
/// delegate (root, TLDs, zones with several known delegations). Elsewhere the full name goes out at once: there
/// a probe would tell little less and cost a round trip. Labels that begin with an underscore are never probed
/// (RFC 9156 §2.3: no zone cuts are expected there).
pub fn next(zone: &Name, name: &Name, registry: bool, probes: u8, is_cut_free: impl Fn(&Name) -> bool) -> Ask {
    if !registry || probes >= MAX_PROBES {
        return Ask::Full;
    }
    let underscores = name.iter().take_while(|label| label.first() == Some(&b'_')).count();
    let labels = name.iter().count();
    let stem = labels - underscores;
    let mut shown = zone.iter().count() + 1;
    while shown < stem {
        let candidate = name.trim_to(shown);
        if !is_cut_free(&candidate) {
            return Ask::Probe(candidate);
        }
        shown += 1;
    }
    Ask::Full
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn registries_see_one_label_more_and_nobody_is_asked_about_underscores() {
        let name = |text| Name::from_str(text).expect("a name");
        let rows = [
            (".", "a.example.com.", true, 0, "", Some("com.")),
            ("com.", "a.example.com.", true, 0, "", Some("example.com.")),
            ("com.", "example.com.", true, 0, "", None),
            ("com.", "_mta-sts.example.com.", true, 0, "", None),
            ("com.", "_25._tcp.mx.example.com.", true, 0, "", Some("example.com.")),
            ("example.com.", "_25._tcp.mx.example.com.", true, 0, "", None),
            ("example.com.", "a.b.example.com.", false, 0, "", None),
            ("uk.", "a.example.co.uk.", true, 0, "co.uk.", Some("example.co.uk.")),
            ("com.", "a.example.com.", true, MAX_PROBES, "", None),
            (".", "com.", true, 0, "", None),
            (".", ".", true, 0, "", None),
        ];
        for (zone, asked, registry, probes, free, expected) in rows {
            let got = next(&name(zone), &name(asked), registry, probes, |n| !free.is_empty() && *n == name(free));
            let expected = expected.map_or(Ask::Full, |probe| Ask::Probe(name(probe)));
            assert_eq!(got, expected, "{asked} at {zone}");
        }
    }
}
