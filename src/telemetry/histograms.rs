//! Histograms with fixed buckets. To record a time touches two counters and keeps nothing, so that a busy second
//! costs no memory; everything else goes on to the recorder behind.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;

/// Upper bounds in nanoseconds: from a cache hit to the longest wait of a mail.
const BOUNDS: [u64; 16] = [
    10_000,
    100_000,
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    60_000_000_000,
];
const SECOND: f64 = 1e9;

/// Every histogram of the process. A handle; clones share everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Histograms(Arc<Mutex<Vec<Series>>>);

/// A histogram and its name and labels.
type Series = (Key, Arc<Buckets>);

/// One histogram, in seconds.
#[derive(Debug, Default)]
struct Buckets {
    /// How many were within each bound and above the one before, and beyond the last.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        // Negative times count as none; no time is too long for 64 bits of nanoseconds.
        let nanoseconds = (seconds * SECOND) as u64;
        let place = BOUNDS.iter().position(|bound| nanoseconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Histograms {
    fn register(&self, key: &Key) -> Histogram {
        let mut all = self.0.lock();
        let known = all.iter().find(|(known, _)| known == key).map(|(_, buckets)| buckets.clone());
        Histogram::from_arc(known.unwrap_or_else(|| {
            let buckets = Arc::new(Buckets::default());
            all.push((key.clone(), buckets.clone()));
            buckets
        }))
    }

    /// Appends all histograms of this name in Prometheus' text format.
    pub(super) fn render(&self, name: &str, help: &str, out: &mut String) {
        let all = self.0.lock();
        let mut of_this_name = all.iter().filter(|(key, _)| key.name() == name).peekable();
        if of_this_name.peek().is_none() {
            return;
        }
        // Writing into a String cannot fail.
        _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        for (key, buckets) in of_this_name {
            let labels: Vec<String> =
                key.labels().map(|label| format!("{}=\"{}\"", label.key(), label.value())).collect();
            let labels = labels.join(",");
            let before_le = if labels.is_empty() { String::new() } else { format!("{labels},") };
            let mut total = 0;
            for (bound, count) in BOUNDS.iter().zip(&buckets.counts) {
                total += count.load(Ordering::Relaxed);
                let le = *bound as f64 / SECOND;
                _ = writeln!(out, "{name}_bucket{{{before_le}le=\"{le}\"}} {total}");
            }
            total += buckets.counts.last().map_or(0, |count| count.load(Ordering::Relaxed));
            let sum = buckets.nanoseconds.load(Ordering::Relaxed) as f64 / SECOND;
            let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            _ = writeln!(out, "{name}_bucket{{{before_le}le=\"+Inf\"}} {total}");
            _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {total}");
        }
        out.push('\n');
    }
}

/// Keeps histograms here and passes counters and gauges on.
pub(super) struct Divided<R> {
    pub(super) histograms: Histograms,
    pub(super) others: R,
}

impl<R: Recorder> Recorder for Divided<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.others.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.others.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.others.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.others.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.histograms.register(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Label;

    #[test]
    fn times_are_counted_in_every_bucket_that_holds_them() {
        let histograms = Histograms::default();
        let hit = Key::from_parts("took_seconds", vec![Label::new("cache", "hit")]);
        for seconds in [0.000_005, 0.000_01, 0.002, 90.0] {
            histograms.register(&hit).record(seconds);
        }
        histograms.register(&Key::from_name("other_seconds")).record(0.3);
        let mut text = String::new();
        histograms.render("took_seconds", "time taken", &mut text);
        for line in [
            "# TYPE took_seconds histogram",
            "took_seconds_bucket{cache=\"hit\",le=\"0.00001\"} 2",
            "took_seconds_bucket{cache=\"hit\",le=\"0.001\"} 2",
            "took_seconds_bucket{cache=\"hit\",le=\"0.005\"} 3",
            "took_seconds_bucket{cache=\"hit\",le=\"60\"} 3",
            "took_seconds_bucket{cache=\"hit\",le=\"+Inf\"} 4",
            "took_seconds_sum{cache=\"hit\"} 90.002015",
            "took_seconds_count{cache=\"hit\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(!text.contains("other"));
        let mut text = String::new();
        histograms.render("other_seconds", "the other", &mut text);
        assert!(text.contains("other_seconds_bucket{le=\"0.5\"} 1\n") && text.contains("other_seconds_count 1\n"));
    }
}
