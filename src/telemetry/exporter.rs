//! Collects what the program counts, and writes it down for Prometheus.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::histograms::{Divided, Histograms};
use super::metrics::{BUILD_INFO, Kind, METRICS, Metric, Values};
use super::samples::Samples;
use super::{process, tlspol};

/// What was counted, and the page that says so.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    histograms: Histograms,
}

/// A second set-up in one process.
#[derive(Debug, thiserror::Error)]
#[error("metrics are set up already")]
pub struct AlreadySetUp;

impl Exporter {
    /// Collects for the whole process from now on. Every series whose labels are known beforehand is there from the
    /// start, so that the first event shows as a rise.
    pub fn install() -> Result<Self, AlreadySetUp> {
        let others = PrometheusBuilder::new().build_recorder();
        let (handle, histograms) = (others.handle(), Histograms::default());
        let recorder = Divided { histograms: histograms.clone(), others };
        metrics::set_global_recorder(recorder).map_err(|_| AlreadySetUp)?;
        for metric in METRICS {
            begin(metric);
        }
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle, histograms })
    }

    /// The page, in Prometheus' text format; with postfix-tlspol's names beside our own where wanted.
    pub fn render(&self, tlspol_names: bool) -> String {
        let mut text = self.counted();
        if tlspol_names {
            let samples = Samples::parse(&text);
            tlspol::render(&samples, &mut text);
        }
        process::render(&mut text);
        text
    }

    /// What was counted so far.
    pub fn samples(&self) -> Samples {
        Samples::parse(&self.counted())
    }

    fn counted(&self) -> String {
        let mut text = self.handle.render();
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
            self.histograms.render(metric.name, metric.help, &mut text);
        }
        text
    }
}

/// Describes a metric and begins each of its series at zero.
fn begin(metric: &Metric) {
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
        Kind::Histogram => {} // described where it is rendered
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
