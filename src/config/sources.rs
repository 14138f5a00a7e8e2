//! Where values come from: defaults < file < environment < flags (design §11). Each layer is checked against
//! the table of keys before it is merged, so that an error can name the file or variable it stands in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::keys::{self, KEYS, Key, Kind, Place};
use super::state_dir::default_state_dir;

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/postseal/postseal.toml";
/// What our environment variables begin with.
const PREFIX: &str = "POSTSEAL_";

/// The environment, taken once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's variables; those that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// One variable, if set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// All that a configuration is made from; kept for reloads.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`; `None`: [`DEFAULT_FILE`] if it exists.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// `--set KEY=VALUE`, in order.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// Checks and merges all layers.
    pub(super) fn merge(&self) -> Result<Figment, ConfigError> {
        let mut figment = defaults(&self.environment)?;
        if let Some(layer) = self.file_layer()? {
            figment = figment.merge(layer);
        }
        for (name, value) in &self.environment.0 {
            if let Some(layer) = environment_layer(name, value)? {
                figment = figment.merge(layer);
            }
        }
        for (key, value) in &self.flags {
            let origin = format!("flag --set {key}");
            figment = figment.merge(text_layer(origin, key.split('.').map(str::to_owned).collect(), value, key)?);
        }
        Ok(figment)
    }

    fn file_layer(&self) -> Result<Option<Layer>, ConfigError> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None => Path::new(DEFAULT_FILE),
        };
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if self.file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let dict = Toml::from_str::<Dict>(&text)
            .map_err(|error| ConfigError::Syntax { origin: origin.clone(), message: error.to_string() })?;
        check_keys(&origin, &mut Vec::new(), &dict)?;
        Ok(Some(Layer { origin, dict }))
    }
}

/// One source of values; its name is what `check-config` and errors call it.
struct Layer {
    origin: String,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn defaults(environment: &Environment) -> Result<Figment, ConfigError> {
    let (state_dir, origin) = default_state_dir(environment);
    let state_dir = Value::from(state_dir.display().to_string());
    let mut figment = Figment::new().merge(Layer { origin, dict: nested(&["state-dir".to_owned()], state_dir) });
    for key in KEYS.iter().filter(|key| !key.path.contains(keys::MAP_NAME)) {
        if let Some(text) = key.default {
            let path: Vec<String> = key.path.split('.').map(str::to_owned).collect();
            let dict = nested(&path, toml_value(text).ok_or(ConfigError::Default(key.path))?);
            figment = figment.merge(Layer { origin: "default".into(), dict });
        }
    }
    Ok(figment)
}

/// Walks a layer: every path must be a key or lead to one.
fn check_keys(origin: &str, path: &mut Vec<String>, dict: &Dict) -> Result<(), ConfigError> {
    for (name, value) in dict {
        path.push(name.clone());
        match (keys::find(path), value) {
            (Place::Leaf(_), _) => {}
            (Place::Section, Value::Dict(_, inner)) => check_keys(origin, path, inner)?,
            (Place::Section, other) => {
                return Err(ConfigError::Value {
                    origin: origin.to_owned(),
                    key: path.join("."),
                    found: other.to_actual().to_string(),
                    expected: "a table".to_owned(),
                });
            }
            (Place::Unknown, _) => {
                return Err(ConfigError::UnknownKey {
                    origin: origin.to_owned(),
                    key: path.join("."),
                    nearest: keys::nearest(path),
                });
            }
        }
        path.pop();
    }
    Ok(())
}

fn environment_layer(name: &str, value: &str) -> Result<Option<Layer>, ConfigError> {
    let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(None) };
    if is_service_link(rest) {
        return Ok(None);
    }
    let mut path: Vec<String> = rest.split("__").map(|part| part.to_lowercase().replace('_', "-")).collect();
    // A map's name keeps its case and its underscores.
    if path.first().is_some_and(|first| first == "maps")
        && let (Some(slot), Some(as_written)) = (path.get_mut(1), rest.split("__").nth(1))
    {
        as_written.clone_into(slot);
    }
    // Compose files and unit files pass variables on that nobody set.
    if value.is_empty() && matches!(keys::find(&path), Place::Leaf(key) if key.kind != Kind::List) {
        return Ok(None);
    }
    text_layer(name.to_owned(), path, value, name).map(Some)
}

/// Kubernetes puts `POSTSEAL_PORT_8642_TCP` and the like into the pods beside a service named `postseal`.
/// None of our keys looks like that: a key that ends in a port has `__` in its variable.
fn is_service_link(rest: &str) -> bool {
    if rest.contains("__") {
        return false;
    }
    let is_port = |tail: &str| {
        let mut parts = tail.split('_').skip(1);
        tail.is_empty()
            || (tail.starts_with('_')
                && parts.next().is_some_and(|number| number.parse::<u16>().is_ok())
                && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP")))
    };
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.match_indices("PORT").any(|(at, word)| is_port(rest.split_at(at + word.len()).1))
}

/// A layer out of one text, read by the kind of its key.
fn text_layer(origin: String, path: Vec<String>, text: &str, written: &str) -> Result<Layer, ConfigError> {
    match keys::find(&path) {
        Place::Leaf(key) => Ok(Layer { dict: nested(&path, read_text(key, text)), origin }),
        // Under a table of the operator's choice: `policy.overrides` cannot be split, names have dots.
        Place::Section | Place::Unknown => {
            let nearest = keys::nearest(&path);
            let nearest = if written.starts_with(PREFIX) { variable_of(&nearest) } else { nearest };
            Err(ConfigError::UnknownKey { origin, key: written.to_owned(), nearest })
        }
    }
}

/// The environment variable of a key.
pub fn variable_of(key: &str) -> String {
    let is_map = key.starts_with("maps.");
    let parts = key.split('.').enumerate().map(|(index, part)| {
        if is_map && index == 1 { part.to_owned() } else { part.to_uppercase().replace('-', "_") }
    });
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__"))
}

/// Anything that does not fit stays a text, so that the one check of types reports it.
fn read_text(key: &Key, text: &str) -> Value {
    let trimmed = text.trim();
    let as_toml = || toml_value(trimmed).unwrap_or_else(|| Value::from(text));
    match key.kind {
        Kind::Text => Value::from(text),
        Kind::Switch => trimmed.parse::<bool>().map_or_else(|_| Value::from(text), Value::from),
        Kind::Number => trimmed.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        Kind::NumberOrText => Value::from(trimmed),
        Kind::Tables | Kind::Table => as_toml(),
        Kind::List if trimmed.starts_with('[') && trimmed.ends_with(']') && !trimmed.contains("]:") => as_toml(),
        Kind::List => {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::from(items.map(Value::from).collect::<Vec<_>>())
        }
    }
}

fn toml_value(text: &str) -> Option<Value> {
    Toml::from_str::<Dict>(&format!("value = {text}")).ok()?.remove("value")
}

fn nested(path: &[String], value: Value) -> Dict {
    let mut value = value;
    let mut dict = Dict::new();
    for (index, part) in path.iter().enumerate().rev() {
        dict = Dict::from([(part.clone(), value)]);
        if index > 0 {
            value = Value::from(std::mem::take(&mut dict));
        } else {
            break;
        }
    }
    dict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_of_kubernetes_are_not_settings() {
        for link in [
            "SERVICE_HOST",
            "SERVICE_PORT_SOCKETMAP",
            "PORT",
            "PORT_8642_TCP",
            "PORT_8642_TCP_ADDR",
            "METRICS_PORT_9642_TCP",
        ] {
            assert!(is_service_link(link), "{link}");
        }
        for setting in
            ["STATE_DIR", "RESOLVER__UPSTREAM_PORT", "SOCKETMAP__REUSE_PORT", "MTA_STS__PORT", "SOCKETMAP_REUSE_PORTS"]
        {
            assert!(!is_service_link(setting), "{setting}");
        }
    }

    #[test]
    fn variables_and_keys_are_two_spellings_of_one_path() {
        for key in KEYS {
            let variable = variable_of(key.path);
            assert!(environment_layer(&variable, "x").is_ok_and(|layer| layer.is_some()), "{variable}");
        }
        assert_eq!(variable_of("mta-sts.ca-file"), "POSTSEAL_MTA_STS__CA_FILE");
    }
}
