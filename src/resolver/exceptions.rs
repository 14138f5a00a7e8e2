//! Zones that the operator exempts from validation: negative trust anchors (RFC 7646). Pure.
//!
//! In: a name, the trust anchors and the time. Out: the exception that holds for the name, if any. The closest of
//! anchors and exceptions decides (RFC 7646 §2); at the same name the exception does. Never makes anything secure.

use std::collections::HashMap;

use hickory_proto::rr::Name;

use super::validate::Trust;
use crate::clock::UnixTime;

/// A negative trust anchor: at and below `zone` nothing is validated, and all is insecure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegativeAnchor {
    /// The zone, in lower case.
    pub zone: Name,
    /// When it ends: the first second in which it holds no longer; `None` for never.
    pub until: Option<UnixTime>,
    /// It belongs to a forward zone (`insecure = true`) and not to `resolver.insecure`.
    pub forwarded: bool,
}

impl NegativeAnchor {
    /// Whether it holds now.
    pub fn is_in_force(&self, now: UnixTime) -> bool {
        self.until.is_none_or(|end| now < end)
    }

    /// Seconds for which it still holds, at most [`u32::MAX`].
    pub fn seconds_left(&self, now: UnixTime) -> u32 {
        self.until.map_or(u32::MAX, |end| u32::try_from(end.saturating_sub(now).max(0)).unwrap_or(u32::MAX))
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Exceptions(Vec<NegativeAnchor>);

impl Exceptions {
    /// Names are compared in lower case.
    pub fn new(all: &[NegativeAnchor]) -> Self {
        Self(all.iter().map(|at| NegativeAnchor { zone: at.zone.to_lowercase(), ..at.clone() }).collect())
    }

    /// Whether there are none at all, in force or not.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that hold now.
    pub fn in_force(&self, now: UnixTime) -> impl Iterator<Item = &NegativeAnchor> {
        self.0.iter().filter(move |at| at.is_in_force(now))
    }

    /// The closest one at or above `name`, unless a trust anchor is closer.
    pub fn over(&self, name: &Name, anchors: &HashMap<Name, Trust>, now: UnixTime) -> Option<&NegativeAnchor> {
        let over = self.in_force(now).filter(|at| at.zone.zone_of(name));
        // Of two for one zone, the one that holds for longer.
        let closest = over.max_by_key(|at| (at.zone.iter().count(), at.seconds_left(now)))?;
        let is_closer = |at: &Name| *at != closest.zone && closest.zone.zone_of(at) && at.zone_of(name);
        (!anchors.keys().any(is_closer)).then_some(closest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    fn name(text: &str) -> Name {
        Name::from_str(text).expect("a name")
    }

    #[test]
    fn the_closest_of_anchors_and_exceptions_decides_and_an_end_passed_is_an_end() {
        let at = |zone: &str, until| NegativeAnchor { zone: name(zone), until, forwarded: false };
        let all = Exceptions::new(&[at("Broken.example.", Some(100)), at("deep.ok.broken.example.", None)]);
        let anchors: HashMap<Name, Trust> =
            [".", "broken.example.", "ok.broken.example."].map(|zone| (name(zone), Trust::from_sets([]))).into();
        for (asked, now, expected) in [
            ("broken.example.", 99, Some("broken.example.")),
            ("mx.BROKEN.example.", 99, Some("broken.example.")),
            ("mx.broken.example.", 100, None),
            ("xbroken.example.", 99, None),
            ("example.", 99, None),
            ("ok.broken.example.", 99, None),
            ("mx.ok.broken.example.", 99, None),
            ("mx.deep.ok.broken.example.", 1_000, Some("deep.ok.broken.example.")),
        ] {
            let found = all.over(&name(asked), &anchors, now).map(|found| found.zone.to_string());
            assert_eq!(found.as_deref(), expected, "{asked} at {now}");
        }
        assert_eq!(at("a.", Some(100)).seconds_left(90), 10);
        assert_eq!(at("a.", Some(100)).seconds_left(101), 0);
        assert_eq!(at("a.", None).seconds_left(0), u32::MAX);
    }
}
