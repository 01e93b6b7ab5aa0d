//! Seeded mutation for the parsers' property tests; also used by the integration tests.

/// A small generator with a fixed sequence for a seed (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).expect("usize fits u64")).expect("below n")
    }
}

/// `count` inputs made from the seeds by a few random edits each: flips, insertions, deletions, splices, cuts.
pub(crate) fn mutations<'a>(
    seeds: &'a [&'a [u8]],
    count: usize,
    seed: u64,
) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    let mut random = Random::new(seed);
    (0..count).map(move |_| {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..random.below(6) {
            let at = random.below(bytes.len() + 1);
            let edit = random.below(6);
            match edit {
                0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                1 => bytes.insert(at, b"/:@.-_aZ0[]\0\xff\""[random.below(14)]),
                2 if at < bytes.len() => {
                    bytes.remove(at);
                }
                3 => bytes.truncate(at),
                4 => {
                    let other = seeds[random.below(seeds.len())];
                    let from = random.below(other.len() + 1);
                    bytes.splice(at.., other[from..].iter().copied());
                }
                _ if at < bytes.len() => {
                    let len = random.below(16.min(bytes.len() - at)) + 1;
                    let copy = bytes[at..(at + len).min(bytes.len())].to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => {}
            }
        }
        bytes
    })
}

/// Gives every block that looks like a tar header a right checksum, without which nothing behind it is reached.
pub(crate) fn fix_tar_checksums(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
