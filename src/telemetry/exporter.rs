//! Collects what the program counts, and writes it down for Prometheus.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::metrics::{BUILD_INFO, Kind, METRICS, Metric, Values};
use super::samples::Samples;
use super::{process, tlspol};

/// Upper bounds in seconds: from a cache hit to the longest wait of a mail.
const BUCKETS: &[f64] =
    &[0.000_01, 0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// What was counted, and the page that says so.
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
    /// Collects for the whole process from now on. Every series whose labels are known beforehand is there from the
    /// start, so that the first event shows as a rise.
    pub fn install() -> Result<Self, SetUpError> {
        let mut builder = PrometheusBuilder::new();
        for histogram in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
            builder = builder.set_buckets_for_metric(Matcher::Full(histogram.name.to_owned()), BUCKETS)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| SetUpError::AlreadySetUp)?;
        for metric in METRICS {
            begin(metric);
        }
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle })
    }

    /// The page, in Prometheus' text format; with postfix-tlspol's names beside our own where wanted.
    pub fn render(&self, tlspol_names: bool) -> String {
        let mut text = self.handle.render();
        if tlspol_names {
            let samples = Samples::parse(&text);
            tlspol::render(&samples, &mut text);
        }
        process::render(&mut text);
        text
    }

    /// What was counted so far.
    pub fn samples(&self) -> Samples {
        Samples::parse(&self.handle.render())
    }

    /// Moves recorded times into their buckets. To be called every second or so: until then each is kept.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// Describes a metric and begins each of its series at zero.
fn begin(metric: &Metric) {
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
        Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
    }
    for labels in combinations(metric) {
        match metric.kind {
            Kind::Counter => metrics::counter!(metric.name, &labels).absolute(0),
            Kind::Gauge => metrics::gauge!(metric.name, &labels).set(0.0),
            Kind::Histogram => drop(metrics::histogram!(metric.name, &labels)),
        }
    }
}

/// Every combination of the label values of a metric; none where some are not known beforehand.
fn combinations(metric: &Metric) -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all = vec![Vec::new()];
    for label in metric.labels {
        let Values::Of(values) = label.values else { return Vec::new() };
        let with = |sofar: &Vec<_>| {
            let sofar = sofar.clone();
            values.iter().map(move |value| [sofar.as_slice(), &[(label.name, *value)]].concat())
        };
        all = all.iter().flat_map(with).collect();
    }
    all
}
