//! `check-config`: every effective value with its origin, as TOML that can be read back.

use std::fmt::Write;

use figment::Figment;
use figment::value::{Dict, Value};

use super::error::ConfigError;
use super::keys::{KEYS, MAP_NAME};
use super::maps::MapOptions;
use super::sources::Sources;
use super::tree::Config;

/// Checks all sources and prints what results. Passwords in URLs are left out.
pub fn effective(sources: &Sources) -> Result<String, ConfigError> {
    let figment = sources.merge()?;
    let config = Config::from_figment(&figment)?;
    let mut text = String::new();
    let mut section = "";
    for key in KEYS.iter().filter(|key| !key.path.contains(MAP_NAME)) {
        let (table, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if table != section {
            section = table;
            line(&mut text, format_args!("\n[{table}]"));
        }
        match (key.path, figment.find_value(key.path)) {
            // A table of its own, each line with its own origin; it ends the section, so it comes below.
            ("policy.overrides", _) => {}
            (_, Ok(value)) => {
                line(&mut text, format_args!("{name} = {} # {}", toml(&value), origin(&figment, &value)));
            }
            (_, Err(_)) => line(&mut text, format_args!("# {name} is unset # default")),
        }
        if key.path == "policy.overrides" {
            overrides(&mut text, &figment);
        }
    }
    for (name, options) in &config.maps {
        map(&mut text, &figment, name, options);
    }
    Ok(text)
}

fn overrides(text: &mut String, figment: &Figment) {
    let dict = figment.find_value("policy.overrides").ok().and_then(Value::into_dict).unwrap_or_default();
    if dict.is_empty() {
        line(text, format_args!("overrides = {{}} # default"));
        return;
    }
    line(text, format_args!("\n[policy.overrides]"));
    for (key, value) in &dict {
        line(text, format_args!("{} = {} # {}", quoted(key), toml(value), origin(figment, value)));
    }
}

fn map(text: &mut String, figment: &Figment, name: &str, options: &MapOptions) {
    line(text, format_args!("\n[maps.{}]", quoted(name)));
    // Names may hold dots, so the path is walked, not parsed.
    let given = figment.find_value("maps").ok().and_then(Value::into_dict).unwrap_or_default();
    let given = given.get(name).and_then(Value::as_dict).cloned().unwrap_or_default();
    let effective = Value::serialize(options).ok().and_then(Value::into_dict).unwrap_or_default();
    for key in KEYS.iter().filter_map(|key| key.path.strip_prefix("maps.NAME.")) {
        match (given.get(key), effective.get(key)) {
            (Some(value), _) => line(text, format_args!("{key} = {} # {}", toml(value), origin(figment, value))),
            (None, Some(value)) if !matches!(value, Value::Empty(..)) => {
                line(text, format_args!("{key} = {} # default", toml(value)));
            }
            (None, _) => line(text, format_args!("# {key} is unset # default")),
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

fn origin(figment: &Figment, value: &Value) -> String {
    figment.get_metadata(value.tag()).map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string())
}

/// A value as TOML; passwords in URLs are left out.
pub(super) fn toml(value: &Value) -> String {
    match value {
        Value::String(_, text) => quoted(&without_password(text)),
        Value::Char(_, letter) => quoted(&letter.to_string()),
        Value::Bool(_, switch) => switch.to_string(),
        Value::Num(_, number) => number
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| number.to_u128().map(|number| number.to_string()))
            .or_else(|| number.to_f64().map(|number| format!("{number:?}")))
            .unwrap_or_default(),
        Value::Empty(..) => "\"\"".to_owned(),
        Value::Dict(_, dict) => inline_table(dict),
        Value::Array(_, items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
    }
}

fn inline_table(dict: &Dict) -> String {
    let pairs: Vec<_> = dict.iter().map(|(key, value)| format!("{} = {}", quoted(key), toml(value))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// A basic TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// `scheme://user:password@host` becomes `scheme://user:***@host`.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let (user_info, host) = rest.rsplit_once('@')?;
        let (user, _) = user_info.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogLevel;

    #[test]
    fn check_config_prints_toml_that_reads_back_the_same_and_says_where_each_value_is_from() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("postseal.toml");
        let file = "state-dir = \"s\"\n[maps.\"a.b\"]\ntlsrpt = true\n[policy.overrides]\n\"example.com\" = \"may\"\n\
                    [[resolver.forward]]\nzone = \"x.example\"\nservers = [\"192.0.2.1\"]\n\
                    [store]\nshared = \"redis://u:secret@h:1\"\n";
        std::fs::write(&path, file).expect("written");
        let sources = Sources {
            file: Some(path.clone()),
            environment: [("POSTSEAL_LOG__LEVEL", "debug"), ("POSTSEAL_SOCKETMAP__LISTEN", "unix:/x")]
                .into_iter()
                .collect(),
            flags: vec![("cache.prefetch".into(), "false".into())],
        };
        let text = effective(&sources).expect("a configuration");
        let from_file = format!("# {}", path.display());
        for part in [
            "level = \"debug\" # POSTSEAL_LOG__LEVEL",
            "listen = [\"unix:/x\"] # POSTSEAL_SOCKETMAP__LISTEN",
            "prefetch = false # flag --set cache.prefetch",
            "timeout = \"20s\" # default",
            "# ca-file is unset # default",
            "shared = \"redis://u:***@h:1\"",
            &format!("\"example.com\" = \"may\" {from_file}"),
            &format!("tlsrpt = true {from_file}"),
            "dane = true # default",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("secret"));
        let again = directory.path().join("again.toml");
        std::fs::write(&again, &text).expect("written");
        let config = Config::load(&Sources { file: Some(again), ..Sources::default() }).expect("reads back");
        assert_eq!(config.log.level, LogLevel::Debug);
        assert_eq!(config.resolver.forward.len(), 1);
        assert!(config.maps["a.b"].tlsrpt && config.policy.overrides.len() == 1);
    }
}
