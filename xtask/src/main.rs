//! The project's only task runner: `cargo xtask <task>`.

mod codegen;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["codegen", options @ ..] => codegen::run(options),
        _ => bail!("usage: cargo xtask codegen [--check]"),
    }
}
