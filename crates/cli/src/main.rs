//! The `xebec` command: arguments, configuration, wiring and the rendering of errors.
//!
//! ```text
//!   xebec up ──▶ keeper ──▶ serve        (each this same program again, see `up`, `xebec_sandbox::bootstrap`, `serve`)
//!                  └──▶ shim …           (one per pod, see `xebec_sandbox::shim`)
//!   xebec status, image … ──▶ serve      (over the control socket, see `control`)
//! ```

mod args;
mod audit;
mod backing;
mod control;
mod crd;
mod identity;
mod image;
mod kubeconfig;
mod layout;
mod output;
mod purge;
mod secrets;
mod serve;
mod status;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use args::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(mut arguments: Arguments) -> Result<ExitCode> {
    arguments.place.assume_user()?;
    let place = &arguments.place;
    match arguments.command {
        Command::Up(options) => up::up(place, &options),
        Command::Down(options) => up::down(place, &options),
        Command::Status(options) => status::run(place, &options),
        Command::Kubeconfig => kubeconfig::print(place),
        Command::Image(options) => image::run(place, &options),
        Command::Secrets(options) => secrets::run(place, &options),
        Command::Crd(options) => crd::run(&options.command),
        Command::Version => {
            let kubernetes = xebec_server::discovery::KUBERNETES_VERSION;
            output::print(&format!("xebec {} (Kubernetes {kubernetes})", env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "xebec", &mut script);
            output::print(String::from_utf8_lossy(&script).trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Keeper => xebec_sandbox::bootstrap::keeper_main(),
        Command::Purge => purge::inside(place),
        Command::Shim(_) => xebec_sandbox::shim::main(),
        Command::Serve(options) => serve::run(place, &options),
    }
}
