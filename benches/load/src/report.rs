//! What came of a run, for people and as JSON.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// See the module. Times in microseconds, memory in octets.
#[derive(Debug, Serialize)]
pub struct Report {
    pub replies: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub connections: usize,
    pub pipeline: usize,
    pub latency: Latency,
    /// CPU of the watched processes, for each reply.
    pub cpu_per_reply: Option<f64>,
    pub cpu_seconds: Option<f64>,
    pub resident: Option<u64>,
    /// The most the watched processes ever had resident.
    pub peak: Option<u64>,
    /// CPU of the load generator itself, for each reply.
    pub own_cpu_per_reply: f64,
    /// Replies that were not the expected ones, and one of them.
    pub wrong: u64,
    pub wrong_example: Option<String>,
}

/// Quantiles from request to reply.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Latency {
    /// From a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { mean, p50, p90, p99, p999, max } = self.latency;
        let mebibytes = |octets: u64| octets as f64 / f64::from(1 << 20);
        writeln!(f, "replies      {} in {:.2} s: {:.0}/s", self.replies, self.seconds, self.per_second)?;
        writeln!(f, "connections  {}, up to {} requests under way on each", self.connections, self.pipeline)?;
        writeln!(
            f,
            "latency, µs  p50 {p50:.1}  p90 {p90:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1}  mean {mean:.1}"
        )?;
        if let (Some(each), Some(all)) = (self.cpu_per_reply, self.cpu_seconds) {
            writeln!(f, "server CPU   {each:.2} µs for each reply, {all:.2} s in all")?;
        }
        if let (Some(resident), Some(peak)) = (self.resident, self.peak) {
            writeln!(f, "memory, MiB  {:.1} resident, {:.1} at most", mebibytes(resident), mebibytes(peak))?;
        }
        writeln!(f, "own CPU      {:.2} µs for each reply", self.own_cpu_per_reply)?;
        match &self.wrong_example {
            Some(example) => writeln!(f, "WRONG        {} replies, such as {example:?}", self.wrong),
            None => Ok(()),
        }
    }
}
