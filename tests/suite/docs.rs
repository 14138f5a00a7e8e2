//! What the documents say is what the program does.

use std::path::Path;

use postseal::config::{Config, Environment, KEYS, Sources, effective, sample};
use postseal::telemetry::metrics::{Kind, Label, METRICS, Values};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(name: &str) -> String {
    std::fs::read_to_string(top().join(name)).expect("a document")
}

/// Every page that people read: path from the top, and text.
fn pages() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned).into();
    for entry in std::fs::read_dir(top().join("docs")).expect("docs") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    names.into_iter().map(|name| (name.clone(), document(&name))).collect()
}

/// A page without its code blocks.
fn prose(text: &str) -> String {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence && !line.starts_with("    ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchor that a heading has on the pages of code hosts.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
}

#[test]
fn every_link_within_the_project_leads_somewhere() {
    let mut links = 0;
    for (name, text) in pages() {
        let directory = top().join(&name).parent().expect("a directory").to_owned();
        for rest in prose(&text).split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") || target.is_empty() {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { top().join(&name) } else { directory.join(file) };
            assert!(file.exists(), "{name}: {target}");
            if !heading.is_empty() {
                let there = std::fs::read_to_string(&file).expect("a page");
                let mut anchors =
                    there.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#')));
                assert!(anchors.any(|anchor| anchor == heading), "{name}: {target}");
            }
        }
    }
    assert!(links > 30, "{links}");
}

#[test]
fn the_readme_is_short_and_leads_to_every_page() {
    let readme = document("README.md");
    assert!(readme.lines().count() <= 200, "{}", readme.lines().count());
    for (name, _) in pages().iter().filter(|(name, _)| name != "README.md") {
        assert!(readme.contains(&format!("({name})")), "{name}");
    }
}

fn load(toml: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("postseal.toml");
    std::fs::write(&file, toml).expect("written");
    let sources = Sources { file: Some(file), ..Sources::default() };
    effective(&sources).and_then(|_| Config::load(&sources)).map_err(|error| error.to_string())
}

#[test]
fn every_toml_block_is_a_configuration() {
    let mut blocks = 0;
    for (name, text) in pages() {
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            blocks += 1;
            assert!(load(block).is_ok(), "{name}: {:?} in\n{block}", load(block).err());
        }
    }
    assert!(blocks >= 6, "{blocks}");
}

#[test]
fn the_image_s_environment_is_a_configuration_for_containers() {
    let dockerfile = document("docker/Dockerfile");
    let words = dockerfile.split_whitespace().filter(|word| word.starts_with("POSTSEAL_"));
    let environment = words.filter_map(|word| word.split_once('=')).collect();
    let sources = Sources { environment, ..Sources::default() };
    let config = Config::load(&sources).expect("a configuration");
    assert_eq!(config.state_dir, Path::new("/var/lib/postseal"));
    assert_eq!(config.socketmap.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:8642"]);
    assert_eq!(config.dns.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:53", "[::1]:53"]);
    assert_eq!(config.http.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:9642"]);
}

#[test]
fn the_examples_of_the_compose_file_are_a_configuration() {
    let compose = document("compose.yaml");
    let lines = compose.lines().map(|line| line.trim_start_matches(['#', ' ']));
    let environment: Environment = lines
        .filter(|line| line.starts_with("POSTSEAL_"))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, value.trim_matches('\'')))
        .collect();
    let sources = Sources { environment, ..Sources::default() };
    let config = Config::load(&sources).expect("a configuration");
    assert_eq!(config.resolver.forward.len(), 1);
}

#[test]
fn the_packaged_configuration_has_every_key_and_is_up_to_date() {
    let made = "cargo run --example manual -- target/manual && cp target/manual/postseal.toml debian/";
    assert!(
        document("debian/postseal.toml") == sample(),
        "debian/postseal.toml is not what the keys say; make it by\n{made}"
    );
    for key in KEYS.iter().filter(|key| key.path != "policy.overrides") {
        let name = key.path.rsplit('.').next().expect("a name");
        assert!(sample().lines().any(|line| line.starts_with(&format!("#{name} = "))), "{}", key.path);
    }
}

#[test]
fn the_packaged_configuration_changes_nothing_and_is_one_with_every_key_uncommented() {
    let defaults = format!("{:?}", load("").expect("the defaults"));
    assert_eq!(format!("{:?}", load(&sample()).expect("a configuration")), defaults);
    let uncommented: String = sample()
        .lines()
        .map(|line| if line.starts_with("# ") { "" } else { line.trim_start_matches('#') }.to_owned() + "\n")
        .collect();
    let config = load(&uncommented).unwrap_or_else(|error| panic!("{error} in\n{uncommented}"));
    assert_eq!((config.policy.overrides.len(), config.resolver.forward.len()), (2, 1));
    assert_eq!(config.maps.keys().map(ToString::to_string).collect::<Vec<_>>(), ["strict"]);
    // But for the examples, what is there is the default.
    let keys: Vec<_> =
        KEYS.iter().filter(|key| key.default.is_some_and(|default| !["[]", "{}"].contains(&default))).collect();
    assert!(keys.len() > 25, "{}", keys.len());
    for key in keys {
        let name = key.path.rsplit('.').next().expect("a name");
        let line = format!("{name} = {}", key.default.unwrap_or_default());
        assert!(uncommented.lines().any(|shown| shown == line), "{line}");
    }
}

#[test]
fn every_key_is_described_with_its_default() {
    let page = document("docs/configuration.md");
    for key in KEYS {
        let default = match key.default {
            None if key.path == "state-dir" => "see below".to_owned(),
            None => "unset".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let row = format!("| `{}` | {default} | {} |", key.path, key.help);
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn check_config_prints_the_documented_defaults() {
    let text = effective(&Sources::default()).expect("the defaults");
    for key in KEYS.iter().filter(|key| !key.path.starts_with("maps.") && key.path != "state-dir") {
        let name = key.path.rsplit('.').next().expect("a name");
        let line = match key.default {
            Some(default) => format!("{name} = {default} # default"),
            None => format!("# {name} is unset # default"),
        };
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[test]
fn every_metric_is_described() {
    let page = document("docs/monitoring.md");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric.labels.iter().map(describe).collect();
        let row = format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join("; "), metric.help);
        assert!(page.contains(&row), "{row}");
    }
    assert_eq!(page.matches("\n| `postseal_").count(), METRICS.len(), "a row of a metric that is gone");
}

/// A label and what it can be, as the page has it.
fn describe(label: &Label) -> String {
    match label.values {
        Values::Of(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{}`: {}", label.name, values.join(", "))
        }
        Values::Map | Values::Number | Values::Version => format!("`{}`", label.name),
    }
}
