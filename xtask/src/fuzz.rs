//! `cargo xtask fuzz`: runs the targets of `fuzz/`, each for a while, until one finds something.
//!
//! The targets are a workspace of their own, built with the coverage that the fuzzer needs, which the stable compiler has
//! too; so they have a target directory of their own. What the fuzzer learns stays in `fuzz/corpus`, what it finds in
//! `fuzz/artifacts`; git ignores both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{cargo, run, target};

/// How long each target runs unless told otherwise.
const EACH: Duration = Duration::from_secs(60);

/// More than this of one input is a finding: its length in bytes, memory in megabytes, seconds.
const BOUNDS: [&str; 3] = ["-max_len=8192", "-rss_limit_mb=2048", "-timeout=10"];

/// Runs the named targets, or all.
///
/// # Errors
/// There is no such target, it does not build, or it found something.
pub(crate) fn run_targets(options: &[&str]) -> Result<()> {
    let (each, wanted) = parse(options)?;
    let crate_dir = crate_dir();
    let all = targets(&crate_dir.join("fuzz_targets"))?;
    for name in &wanted {
        ensure!(
            all.iter().any(|known| known == name),
            "there is no target {name}; there are: {}",
            all.join(", ")
        );
    }
    let chosen: Vec<&str> = if wanted.is_empty() { all.iter().map(String::as_str).collect() } else { wanted };
    let cargo = |arguments: &[&str]| in_fuzz(&crate_dir, arguments);
    let mut build = cargo(&["build", "--release"])?;
    run(build.args(chosen.iter().flat_map(|name| ["--bin", name])))?;
    for name in chosen {
        let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| format!("{kind}/{name}"));
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(crate_dir.join(made)).with_context(|| format!("making fuzz/{made}"))?;
        }
        let mut fuzz = cargo(&["run", "--release", "--quiet", "--bin", name, "--", &corpus])?;
        fuzz.arg(format!("-artifact_prefix={artifacts}/")).args(BOUNDS);
        run(fuzz.arg(format!("-max_total_time={}", each.as_secs())))
            .with_context(|| format!("{name} found something: the input is in fuzz/{artifacts}"))?;
    }
    Ok(())
}

/// Looks whether the targets still fit what they try.
///
/// # Errors
/// One does not compile.
pub(crate) fn check() -> Result<()> {
    run(&mut in_fuzz(&crate_dir(), &["check", "--quiet"])?)
}

fn crate_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz")
}

/// Cargo among the targets, whose flags are others.
fn in_fuzz(crate_dir: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = cargo(arguments);
    command.current_dir(crate_dir).env("CARGO_TARGET_DIR", target()?.join("fuzz"));
    Ok(command)
}

fn parse<'a>(options: &[&'a str]) -> Result<(Duration, Vec<&'a str>)> {
    let (each, names) = match options {
        ["--seconds", seconds, names @ ..] => {
            let seconds = seconds.parse().with_context(|| format!("--seconds {seconds}"))?;
            (Duration::from_secs(seconds), names)
        }
        names => (EACH, names),
    };
    // The fuzzer takes 0 for "without end".
    ensure!(!each.is_zero(), "--seconds takes at least 1");
    if let Some(option) = names.iter().find(|name| name.starts_with('-')) {
        bail!("{option}: usage: cargo xtask fuzz [--seconds N] [TARGET...]");
    }
    Ok((each, names.to_vec()))
}

/// The names of all targets, sorted.
fn targets(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let check = |options: &[&str], seconds: u64, names: &[&str]| {
            assert_eq!(
                parse(options).unwrap(),
                (Duration::from_secs(seconds), names.to_vec()),
                "{options:?}"
            );
        };
        check(&[], 60, &[]);
        check(&["api_json"], 60, &["api_json"]);
        check(&["--seconds", "5", "api_json", "store_disk"], 5, &["api_json", "store_disk"]);
        for wrong in
            [&["--seconds"][..], &["--seconds", "x"], &["--seconds", "0"], &["api_json", "--seconds"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_unknown_target_is_refused_with_those_that_there_are() {
        let error = run_targets(&["nothing"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no target nothing; there are: api_apply, "), "{error}");
    }
}
