//! Clusters as an author of operators uses them.

mod clock;
mod cluster;
mod database;
mod faults;
mod nodes;
mod operator;

use std::time::Duration;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A test's outcome: its errors say by themselves what is wrong.
type Tested = Result<(), Box<dyn std::error::Error>>;
