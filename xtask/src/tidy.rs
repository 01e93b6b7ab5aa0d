//! `cargo xtask tidy`: the rules of the code base that no compiler knows.
//!
//! - Crates depend on each other only as the map in ARCHITECTURE.md says.
//! - Source files stay below 1,000 lines, tables, tests and generated code apart.
//! - Some words never stand in the code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Which crates of ours each crate may depend on; its tests may use any.
const EDGES: [(&str, &[&str]); 13] = [
    ("cel", &[]),
    ("api", &["cel"]),
    ("store", &[]),
    ("sandbox", &[]),
    ("network", &[]),
    ("image", &[]),
    ("server", &["api", "cel", "store"]),
    ("controllers", &["api"]),
    ("scheduler", &["controllers"]),
    ("node", &["sandbox", "image", "network"]),
    ("control-plane", &["api", "server", "controllers", "scheduler"]),
    ("testkit", &["api", "server", "store", "controllers", "control-plane"]),
    (
        "cli",
        &["api", "server", "store", "controllers", "control-plane", "sandbox", "node", "network", "image"],
    ),
];

/// Files that may be longer: tables, and code that is made.
const LONG: [&str; 1] = ["crates/api/src/generated/"];
const MAX_LINES: usize = 1000;

/// Text that no source file may hold, and why.
const BANNED: [(&str, &str); 6] = [
    ("todo!(", "unfinished code"),
    ("unimplemented!(", "unfinished code: answer with an error that says so"),
    ("#[allow(", "use #[expect(..., reason = \"...\")]"),
    ("TODO", "an issue is the place for what is to be done"),
    ("FIXME", "an issue is the place for what is to be done"),
    ("for simplicity", "say what is given up and why"),
];

/// Checks all rules.
///
/// # Errors
/// Every violation, one per line.
pub(crate) fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent directory")?;
    let mut faults = Vec::new();
    edges(root, &mut faults)?;
    for top in ["crates", "xtask", "e2e", "fuzz/src", "fuzz/fuzz_targets"] {
        for file in sources(&root.join(top))? {
            check_file(root, &file, &mut faults)?;
        }
    }
    if faults.is_empty() {
        println!("tidy: ok");
        return Ok(());
    }
    bail!("tidy:\n  {}", faults.join("\n  "))
}

fn edges(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    let crates = root.join("crates");
    for entry in fs::read_dir(&crates).with_context(|| format!("reading {}", crates.display()))? {
        let name = entry.with_context(|| format!("reading {}", crates.display()))?.file_name();
        if !EDGES.iter().any(|(known, _)| name.to_str() == Some(known)) {
            faults.push(format!("crates/{} is not on the map", name.display()));
        }
    }
    for (name, allowed) in EDGES {
        let manifest = crates.join(name).join("Cargo.toml");
        let text =
            fs::read_to_string(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
        let tests = text.find("[dev-dependencies]").unwrap_or(text.len());
        for line in text[..tests].lines() {
            let Some(other) = line.strip_prefix("xebec-").and_then(|l| l.split(['.', ' ', '=']).next())
            else {
                continue;
            };
            if other != name && !allowed.contains(&other) {
                faults.push(format!("crates/{name} depends on {other}, which the map does not allow"));
            }
        }
    }
    Ok(())
}

fn sources(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target") {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

fn check_file(root: &Path, file: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.strip_prefix(root).unwrap_or(file).display().to_string();
    let lines = text.lines().count();
    let test = name.contains("/tests/") || name.ends_with("tests.rs");
    if lines > MAX_LINES && !test && !LONG.iter().any(|long| name.starts_with(long)) {
        faults.push(format!("{name}: {lines} lines, more than {MAX_LINES}: split it"));
    }
    if name == "xtask/src/tidy.rs" {
        return Ok(());
    }
    for (number, line) in text.lines().enumerate() {
        for (word, why) in BANNED {
            // What a module shared by tests holds is not used by each of them.
            if line.contains(word) && !(test && word == "#[allow(") {
                faults.push(format!("{name}:{}: `{word}`: {why}", number + 1));
            }
        }
    }
    Ok(())
}
