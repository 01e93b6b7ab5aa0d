//! Seeds: written into a target's corpus before the fuzzer reads it.

use std::fs;
use std::path::Path;

/// Writes `seeds` into `corpus/TARGET`, where they stay beside what the fuzzer found.
///
/// # Panics
/// The directory cannot be written.
pub fn plant<S: AsRef<[u8]>>(target: &str, seeds: &[S]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("the corpus directory can be made");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number:03}")), seed).expect("a seed can be written");
    }
}

/// Gives every block that looks like a tar header a right checksum, without which nothing behind it is reached.
pub fn fix_tar_checksums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// A target: its name, its seeds, and what is done with each input.
#[macro_export]
macro_rules! target {
    ($name:literal, $seeds:expr, $run:expr) => {
        libfuzzer_sys::fuzz_target!(
            init: $crate::seeds::plant($name, &$seeds),
            |data: &[u8]| {
                let run: fn(&[u8]) = $run;
                run(data);
            }
        );
    };
}
