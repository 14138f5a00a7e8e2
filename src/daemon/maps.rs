//! Which map a name stands for (design §3).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use metrics::Counter;

use crate::config::MapOptions;
use crate::policy::decision::Outcome;
use crate::telemetry::metrics as names;

/// All maps by name.
pub(super) struct Maps {
    by_name: HashMap<Box<[u8]>, Arc<Map>>,
}

/// One map: its options, and counters that are looked up once instead of for each query.
pub(super) struct Map {
    pub(super) options: MapOptions,
    answers: [Counter; ANSWERS.len()],
}

/// Names that are there without configuration; they also match case-insensitively.
const BUILT_IN: [(&str, bool); 3] = [("QUERY", false), ("QUERYwithTLSRPT", true), ("postfix", false)];

/// Every answer a map can give, as `answer` label; [`place`] is where each stands.
const ANSWERS: [&str; 8] = ["override", "dane-only", "dane", "secure", "report", "notfound", "temp", "fallback"];

fn place(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Override(_) => 0,
        Outcome::DaneOnly => 1,
        Outcome::Dane => 2,
        Outcome::Secure(_) | Outcome::SecureHosts(..) => 3,
        Outcome::ReportTesting(..) | Outcome::ReportFailure(..) => 4,
        Outcome::NotFound => 5,
        Outcome::Temporary(_) => 6,
        Outcome::Fallback(..) => 7,
    }
}

impl Maps {
    /// The built-in maps, and those of `[maps.NAME]`, which may also give a built-in one other options.
    pub(super) fn new(configured: &BTreeMap<String, MapOptions>) -> Self {
        let built_in =
            BUILT_IN.iter().map(|(name, tlsrpt)| (*name, MapOptions { tlsrpt: *tlsrpt, ..MapOptions::default() }));
        let configured = configured.iter().map(|(name, options)| (name.as_str(), *options));
        let by_name = built_in
            .chain(configured)
            .map(|(name, options)| (name.as_bytes().into(), Arc::new(Map::new(name, options))));
        Self { by_name: by_name.collect() }
    }

    /// Exact names first; the built-in ones also in any case.
    pub(super) fn find(&self, name: &[u8]) -> Option<&Arc<Map>> {
        self.by_name.get(name).or_else(|| {
            let (built_in, _) = BUILT_IN.iter().find(|(built_in, _)| built_in.as_bytes().eq_ignore_ascii_case(name))?;
            self.by_name.get(built_in.as_bytes())
        })
    }
}

impl Map {
    fn new(name: &str, options: MapOptions) -> Self {
        let label = names::map_label(name).to_owned();
        let counter =
            |answer: &'static str| metrics::counter!(names::QUERIES, "map" => label.clone(), "answer" => answer);
        Self { options, answers: ANSWERS.map(counter) }
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        if let Some(counter) = self.answers.get(place(outcome)) {
            counter.increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReportLevel;

    #[test]
    fn every_answer_is_counted_at_its_place() {
        for outcome in [Outcome::DaneOnly, Outcome::Dane, Outcome::NotFound, Outcome::Override("may".into())] {
            assert_eq!(ANSWERS[place(&outcome)], outcome.label());
        }
        assert_eq!(ANSWERS[place(&Outcome::Temporary("why".into()))], "temp");
        assert_eq!(ANSWERS[place(&Outcome::Fallback(ReportLevel::May, "why".into()))], "fallback");
    }

    #[test]
    fn names_match_exactly_and_the_built_in_ones_in_any_case() {
        let own = MapOptions { dane: false, ..MapOptions::default() };
        let maps = Maps::new(&BTreeMap::from([("strict".to_owned(), own), ("postfix".to_owned(), own)]));
        let find = |name: &str| maps.find(name.as_bytes()).map(|map| (map.options.tlsrpt, map.options.dane));
        for (name, expected) in [
            ("QUERY", Some((false, true))),
            ("query", Some((false, true))),
            ("QUERYwithTLSRPT", Some((true, true))),
            ("querywithtlsrpt", Some((true, true))),
            ("postfix", Some((false, false))),
            ("POSTFIX", Some((false, false))),
            ("strict", Some((false, false))),
            ("Strict", None),
            ("", None),
            ("QUERY ", None),
        ] {
            assert_eq!(find(name), expected, "{name}");
        }
    }
}
