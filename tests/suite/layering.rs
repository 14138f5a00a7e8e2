//! Who may know whom (ARCHITECTURE.md): nothing below knows anything above.

use std::path::{Path, PathBuf};

const LEAVES: &[&str] = &["config", "limits", "clock", "names", "addresses", "caller", "places", "telemetry"];

/// Each module and what it may use besides the leaves.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["daemon", "control", "socketmap", "postfix"]),
    ("daemon", &["socketmap", "listener", "http", "control", "policy", "cache", "dns", "resolver", "postfix"]),
    ("control", &["policy", "cache", "dns", "resolver", "http"]),
    ("socketmap", &[]),
    ("http", &[]),
    ("postfix", &[]),
    ("listener", &["resolver", "dns"]),
    ("policy", &["cache", "dns"]),
    ("resolver", &["dns"]),
    ("cache", &[]),
    ("dns", &[]),
    // Leaves know at most what is plainer than they are.
    ("config", &["names"]),
    ("names", &[]),
    ("limits", &[]),
    ("clock", &[]),
    ("addresses", &[]),
    ("caller", &[]),
    ("places", &[]),
    ("telemetry", &[]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every `crate::module` outside comments and inline tests, with its line number.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            assert!(!rest.starts_with('{'), "line {}: one `use crate::` per module, so that it can be read", index + 1);
            found.push((index + 1, rest[..end].to_owned()));
        }
    }
    found
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file.strip_prefix(&root).expect("below src");
        let top = relative.iter().next().and_then(|part| part.to_str()).expect("a name");
        let module = top.trim_end_matches(".rs");
        if module == "lib" || relative.ends_with("tests.rs") || relative.iter().any(|part| part == "tests") {
            continue;
        }
        let (_, allowed) =
            MAY_USE.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} is not in the table"));
        for (line, used) in uses(&std::fs::read_to_string(file).expect("text")) {
            let is_leaf = LEAVES.contains(&used.as_str()) && !LEAVES.contains(&module);
            let plainer = LEAVES.contains(&module) && matches!(used.as_str(), "limits" | "clock");
            if used != module && !is_leaf && !plainer && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}:{line}: {module} uses {used}", relative.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_in_architecture_md_is_this_one() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).expect("text");
    let list = |names: &[&str]| match names {
        [] => "nothing".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    for (module, allowed) in MAY_USE.iter().filter(|(module, _)| !LEAVES.contains(module) && *module != "main") {
        let row = format!("| `{module}` | {} |", list(allowed));
        assert!(text.contains(&row), "{row}");
    }
    assert!(text.contains(&format!("Leaves, used by all: {}.", list(LEAVES))), "{}", list(LEAVES));
}
