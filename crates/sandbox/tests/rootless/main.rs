//! The crate as it is used: an ordinary user's process becomes the keeper of
//! namespaces, a server runs in them, and pods with real containers in that.
//!
//! Started as root, the tests become the user `xebec-test`, made if there is
//! none. The container images are made of a static busybox.

#![expect(
    clippy::unwrap_used,
    clippy::exit,
    reason = "this is a test and, at once, the program that it tests"
)]

mod basics;
mod groups;
mod gvisor;
mod harness;
mod host;
mod isolation;
mod keeper;
mod roles;

use std::ffi::OsString;

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("keeper") => xebec_sandbox::bootstrap::keeper_main(),
        Some("shim") => xebec_sandbox::shim::main(),
        Some("server") => harness::serve(&inside()),
        Some("delegated-server") => harness::serve(&delegated()),
        Some("delegated") => host::run_delegated(),
        Some("role") => roles::play(),
        _ => host::run(&inside()),
    }
}

/// The cases that run once more where a control group was delegated.
fn delegated() -> Vec<harness::Case> {
    let mut cases = Vec::new();
    groups::cases(&mut cases);
    cases.extend(inside().into_iter().filter(|case| groups::MATTERS_FOR.contains(&case.name)));
    cases
}

/// The cases that run in the keeper's namespaces.
fn inside() -> Vec<harness::Case> {
    let mut cases = Vec::new();
    keeper::cases(&mut cases);
    basics::cases(&mut cases);
    isolation::cases(&mut cases);
    gvisor::cases(&mut cases);
    cases
}
