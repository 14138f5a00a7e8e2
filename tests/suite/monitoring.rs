//! Dashboard and alert rules (`helm/postseal/files`) speak of metrics that exist; what they mean is tested with
//! promtool (.ci/stages/45-monitoring).

use std::collections::BTreeSet;
use std::path::Path;

use postseal::telemetry::metrics::{Kind, METRICS};

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/postseal/files").join(name);
    std::fs::read_to_string(path).expect("a shipped file")
}

/// Every `postseal_…` word of a text that is not part of a longer one.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("postseal_")).collect()
}

/// The series that a metric has, as expressions name them.
fn series() -> BTreeSet<String> {
    let names = METRICS.iter().flat_map(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => vec![metric.name.to_owned()],
        Kind::Histogram => ["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name)).to_vec(),
    });
    names.collect()
}

#[test]
fn dashboard_and_alerts_name_only_metrics_that_exist() {
    let series = series();
    for file in ["postseal-dashboard.json", "postseal-alerts.yaml"] {
        let text = shipped(file);
        let unknown: Vec<_> = mentioned(&text).into_iter().filter(|name| !series.contains(*name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
        assert!(mentioned(&text).len() >= 10, "{file}");
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let text = shipped("postseal-dashboard.json");
    let shown = mentioned(&text);
    for metric in METRICS {
        assert!(shown.iter().any(|name| name.starts_with(metric.name)), "{}", metric.name);
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: serde_json::Value = serde_json::from_str(&shipped("postseal-dashboard.json")).expect("JSON");
    assert_eq!((dashboard["uid"].as_str(), dashboard["title"].as_str()), (Some("postseal"), Some("postseal")));
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(taken.insert(panel["id"].as_u64().expect("an id")), "{panel}");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert(1_000 + 100 * y + x), "overlaps: {}", panel["title"]);
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert!(target["expr"].as_str().is_some_and(|expr| !expr.is_empty()), "{panel}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
        }
    }
}
