//! What the fuzz targets share: seeds, and decisions taken from the fuzzer's bytes.
//!
//! A target is one file in `fuzz_targets/`. It never does more than call the code under test and check a property of what
//! comes back; a panic, an overflow, more than ten seconds or more than two gigabytes are findings by themselves.

pub mod choices;
pub mod generate;
pub mod seeds;

pub use choices::Choices;
