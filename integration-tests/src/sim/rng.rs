//! Randomness from a seed: SplitMix64.

/// A generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always yields the same numbers for the same seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5ea1_b05e_a1b0_5ea1)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True with a probability in millionths.
    pub fn chance(&mut self, millionths: u64) -> bool {
        self.next() % 1_000_000 < millionths
    }
}

/// A pseudo-random number that depends only on these parts.
pub fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x1234_5678_9abc_def0, |state, part| mix(state ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15))))
}

/// 32 pseudo-random bytes that depend only on these parts.
pub fn bytes(parts: &[u64]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (index, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = hash(&[hash(parts), index as u64]);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    // Clear the top bits: a commitment must be below the field's modulus.
    bytes[31] &= 0x3f;
    bytes
}

/// Bytes as numbers, for [`hash`].
pub fn words(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|at| bytes[at * 8..].iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
