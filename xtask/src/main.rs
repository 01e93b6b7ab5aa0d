//! The project's only task runner: `cargo xtask <task>`.

mod clients;
mod codegen;
mod command;
mod demo;
mod fuzz;
mod image;
mod packages;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask <task>

tasks:
  demo [--once]      a cluster, an application, and what it answers
  test               everything: formatting, lints, tidy, unit and integration tests
  bench              measure what SPECIFICATION.md promises, on the release build
  fuzz [--seconds N] [TARGET...]
                     run fuzz targets, each for a while (60 seconds), all unless some are named
  tidy               the rules of the code base that no compiler knows
  codegen [--check]  make (or compare) the generated tables of crates/api";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["test"] => test::run_checks(),
        ["demo"] => demo::run_demo(false),
        ["demo", "--once"] => demo::run_demo(true),
        ["bench"] => test::run_benches(),
        ["fuzz", options @ ..] => fuzz::run_targets(options),
        ["tidy"] => tidy::run(),
        ["codegen", options @ ..] => codegen::run(options),
        _ => bail!(USAGE),
    }
}
