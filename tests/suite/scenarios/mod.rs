//! Scripted conversations between the engine and a pretend internet, played in memory on a pretend clock.

mod expect;
mod records;
mod script;
mod servers;

use std::path::{Path, PathBuf};

use script::Script;

/// The directory with the shared scenarios, where it is there: `POSTSEAL_SHARED`, else `shared` beside the project.
fn shared_directory() -> Option<PathBuf> {
    let shared = match std::env::var_os("POSTSEAL_SHARED") {
        Some(shared) => PathBuf::from(shared),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("shared"),
    };
    Some(shared.join("scenarios")).filter(|directory| directory.is_dir())
}

/// All scripts of a directory, by name.
fn scripts(directory: &Path) -> Vec<(String, Script)> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rpl"));
    paths.sort();
    let parse = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let script = Script::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().expect("a file name").to_string_lossy().into_owned(), script)
    };
    paths.into_iter().map(parse).collect()
}

#[test]
fn every_shared_script_parses() {
    let Some(shared) = shared_directory() else {
        println!("skipped: no shared scenarios here (POSTSEAL_SHARED, or ../shared)");
        return;
    };
    for set in ["deckard", "own"] {
        let count = scripts(&shared.join(set)).len();
        assert!(count > 20, "{set} has {count} scenarios");
    }
}
