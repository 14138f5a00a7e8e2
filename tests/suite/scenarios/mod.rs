//! Scripted conversations between the engine and a pretend internet, played in memory on a pretend clock.

mod expect;
mod play;
mod records;
mod script;
mod servers;

use std::path::{Path, PathBuf};

use play::Outcome;
use script::Script;
use servers::Answered;

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

/// Shared scenarios whose expectation does not fit us, each with the reason.
const NOT_OURS: &[(&str, &str)] = &[];

#[test]
fn shared_scenarios_hold() {
    let Some(shared) = shared_directory() else {
        println!("skipped: no shared scenarios here (POSTSEAL_SHARED, or ../shared)");
        return;
    };
    let mut failing = Vec::new();
    for set in ["deckard", "own"] {
        let scripts = scripts(&shared.join(set));
        assert!(scripts.len() > 20, "{set} has {} scenarios", scripts.len());
        failing.extend(play_all(set, scripts));
    }
    failing.retain(|name| !NOT_OURS.iter().any(|(known, _)| known == name));
    assert!(failing.is_empty(), "failing: {failing:?}");
}

/// What the shared scenarios miss: aliases by DNAME, roll-overs, forms of denial, zones that share servers.
#[test]
fn own_scenarios_hold() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/scenarios/data");
    assert_eq!(play_all("data", scripts(&directory)), Vec::<String>::new());
}

/// Plays scripts (with `SCENARIO=name` one, with its conversation if it fails), prints the totals, and gives the names of those that fail.
fn play_all(set: &str, scripts: Vec<(String, Script)>) -> Vec<String> {
    let only = std::env::var("SCENARIO").ok();
    let scripts: Vec<_> =
        scripts.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)).collect();
    let (total, mut checks, mut queries, mut unscripted) = (scripts.len(), 0, 0, 0);
    let mut failing = Vec::new();
    for (name, script) in scripts {
        let played = std::panic::catch_unwind(|| play::play(script));
        let outcome = played.unwrap_or_else(|_| Outcome { differences: vec!["panic".into()], ..Outcome::default() });
        checks += outcome.checks;
        queries += outcome.asked.len();
        unscripted += outcome.asked.iter().filter(|asked| asked.answered == Answered::Implied).count();
        if outcome.differences.is_empty() {
            continue;
        }
        println!("{set}/{name}: {}", outcome.differences.join("; "));
        if only.is_some() {
            outcome.asked.iter().for_each(|asked| println!("  {asked}"));
        }
        failing.push(name);
    }
    println!(
        "{set}: {} of {total} scenarios hold, {checks} checks, {queries} queries of which {unscripted} not scripted",
        total - failing.len()
    );
    failing
}
