//! The metrics page read back: what was counted, without a second set of counters.

/// One line of the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series.
    pub name: String,
    /// Labels with their values, as written.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

/// All lines of a page.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Reads a page that [`super::exporter::Exporter`] wrote; what is no sample is passed over.
    pub fn parse(page: &str) -> Self {
        Self(page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// Every sample.
    pub fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// The sum over all series of `name`, or of those with this value of a label.
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        let counts = |sample: &&Sample| {
            let fits = |(key, value): (&str, &str)| sample.labels.iter().any(|(k, v)| k == key && v == value);
            sample.name == name && label.is_none_or(fits)
        };
        // From +0: the sum of nothing would be -0.
        self.0.iter().filter(counts).fold(0.0, |sum, sample| sum + sample.value)
    }
}

/// `name{label="value",…} 1.5`
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.strip_suffix('}') {
        Some(series) => series.split_once('{')?,
        None => (series, ""),
    };
    let label = |(name, value): (&str, &str)| (name.trim_start_matches(',').to_owned(), value.to_owned());
    let mut parts = labels.split('"');
    let mut found = Vec::new();
    while let (Some(name), Some(value)) = (parts.next().and_then(|name| name.strip_suffix('=')), parts.next()) {
        found.push(label((name, value)));
    }
    Some(Sample { name: name.to_owned(), labels: found, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_reads_back_as_its_samples() {
        let page = "# HELP a_total things\n# TYPE a_total counter\na_total{map=\"Q\",answer=\"dane\"} 3\n\
                    a_total{map=\"R\",answer=\"dane\"} 4\na_total{map=\"R\",answer=\"temp\"} 1\n\nb 0.5\nnonsense\n";
        let samples = Samples::parse(page);
        assert_eq!(samples.iter().count(), 4);
        let first = samples.iter().next().expect("one");
        assert_eq!(first.labels, [("map".to_owned(), "Q".to_owned()), ("answer".to_owned(), "dane".to_owned())]);
        assert_eq!(samples.sum("a_total", None), 8.0);
        assert_eq!(samples.sum("a_total", Some(("answer", "dane"))), 7.0);
        assert_eq!(samples.sum("b", None), 0.5);
        assert_eq!(samples.sum("c", None), 0.0);
    }
}
