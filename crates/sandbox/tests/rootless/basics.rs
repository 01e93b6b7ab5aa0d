//! Running containers: their ends, environment, users, output.

use std::sync::Arc;

use crate::harness::{Bench, Case, cases};

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(list, runs_a_program);
}

async fn runs_a_program(bench: Arc<Bench>) {
    let (status, output) = bench.run("echo hello").await;
    assert_eq!(status.code(), 0);
    assert_eq!(output, "hello\n");
}
