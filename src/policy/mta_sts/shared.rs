//! Entries of the shared store, made policies again by the parsers that read what is fetched.

use crate::cache::entry::HeldPolicy;
use crate::cache::shared::{SharedCopy, Unusable};
use crate::clock::UnixTime;
use crate::limits::SHARED_CLOCK_SKEW;

use super::policy;
use super::record::is_id;

/// The policy in an entry, if it is one that holds at `now`: no longer than its `max_age` says, from a fetch that is
/// past (RFC 8461 §3.2).
pub fn verify(copy: &SharedCopy, now: UnixTime) -> Result<HeldPolicy, Unusable> {
    if !is_id(copy.id.as_bytes()) {
        return Err(Unusable::Id);
    }
    let policy = policy::parse(copy.text.as_bytes()).map_err(|error| Unusable::Policy(error.into()))?;
    if copy.fetched_at > now.saturating_add(SHARED_CLOCK_SKEW) {
        return Err(Unusable::Future);
    }
    // A clock that is a little ahead does not lengthen its life.
    let fetched_at = copy.fetched_at.min(now);
    if fetched_at.saturating_add(policy.max_age.into()) <= now {
        return Err(Unusable::Expired);
    }
    Ok(HeldPolicy { id: copy.id.clone(), fetched_at, policy: policy.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STS_POLICY_BYTES;
    use crate::names::Domain;

    const NOW: UnixTime = 1_800_000_000;
    const GOOD: &str = "version: STSv1\nmode: enforce\nmx: mx.example.com\nmax_age: 600\nx:y";

    fn copy(id: &str, age: i64, text: &str) -> SharedCopy {
        SharedCopy { domain: "example.com".into(), id: id.into(), fetched_at: NOW - age, text: text.into() }
    }

    #[test]
    fn only_what_is_a_policy_and_holds_now_is_taken() {
        let rows: &[(&str, SharedCopy, &str)] = &[
            ("fresh", copy("a1", 0, GOOD), "ok"),
            ("in its last second", copy("a1", 599, GOOD), "ok"),
            ("over", copy("a1", 600, GOOD), "expired"),
            ("long over", copy("a1", NOW, GOOD), "expired"),
            ("from the farthest past", SharedCopy { fetched_at: i64::MIN, ..copy("a1", 0, GOOD) }, "expired"),
            ("a clock a little ahead", copy("a1", -SHARED_CLOCK_SKEW, GOOD), "ok"),
            ("from the future", copy("a1", -SHARED_CLOCK_SKEW - 1, GOOD), "fetched in the future"),
            (
                "from the farthest future",
                SharedCopy { fetched_at: i64::MAX, ..copy("a1", 0, GOOD) },
                "fetched in the future",
            ),
            ("max_age 0", copy("a1", 0, &GOOD.replace("600", "0")), "expired"),
            ("no id", copy("", 0, GOOD), "the id is malformed"),
            ("id with a blank", copy("a 1", 0, GOOD), "the id is malformed"),
            ("id of 33", copy(&"a".repeat(33), 0, GOOD), "the id is malformed"),
            ("no text", copy("a1", 0, ""), "policy: version is not STSv1"),
            ("no mx", copy("a1", 0, &GOOD.replace("mx: mx.example.com\n", "")), "policy: no mx"),
            (
                "an attribute smuggled in",
                copy("a1", 0, &GOOD.replace("mx.e", "mx servername=x.e")),
                "policy: mx in line 3 is no host name",
            ),
            ("too long", copy("a1", 0, &"\n".repeat(STS_POLICY_BYTES + 1)), "policy: longer than 65536 octets"),
        ];
        for (name, copy, expected) in rows {
            let result = verify(copy, NOW);
            let word = result.as_ref().map_or_else(ToString::to_string, |_| "ok".to_owned());
            assert_eq!(&word, expected, "{name}");
            if let Ok(held) = result {
                assert!(held.fetched_at <= NOW, "{name}");
            }
        }
    }

    #[test]
    fn the_longest_max_age_is_that_of_fetched_policies() {
        let text = GOOD.replace("600", "9999999999");
        let held = verify(&copy("a1", 31_557_599, &text), NOW).expect("a policy");
        assert_eq!(held.policy.max_age, 31_557_600);
        assert!(matches!(verify(&copy("a1", 31_557_600, &text), NOW), Err(Unusable::Expired)));
    }

    #[test]
    fn a_policy_that_was_fetched_comes_back_the_same_however_it_was_written() {
        let domain = Domain::parse("example.com").expect("a domain");
        for text in
            [GOOD.to_owned(), GOOD.replace('\n', "\r\n\r\n"), GOOD.replace(": ", ":"), GOOD.replace(": ", ": \t")]
        {
            let policy = policy::parse(text.as_bytes()).expect("a policy");
            let held = HeldPolicy { id: "a1".into(), fetched_at: NOW, policy: policy.into() };
            assert_eq!(verify(&SharedCopy::of(&domain, &held), NOW).expect("the same"), held);
        }
    }

    #[test]
    fn the_longest_policy_fits() {
        let domain = Domain::parse(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join("."))
            .expect("a domain");
        let mut text = GOOD.replace(": ", ":");
        while text.len() + 4 <= STS_POLICY_BYTES {
            text += "\na:b";
        }
        let policy = policy::parse(text.as_bytes()).expect("a policy");
        let held = HeldPolicy { id: "a".repeat(32).into(), fetched_at: NOW, policy: policy.into() };
        let octets = SharedCopy::of(&domain, &held).encode().expect("it fits");
        assert_eq!(verify(&SharedCopy::decode(&domain, &octets).expect("whole"), NOW).expect("a policy"), held);
    }
}
