//! The `xebec` command: arguments, configuration, wiring and the rendering of errors.
fn main() {}
