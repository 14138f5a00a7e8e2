//! Where choices come from: a seed in tests, octets in fuzzing.

/// Where choices come from: a seed, or a fuzzer's octets, after which all choices are zero.
pub enum Dice {
    /// SplitMix64.
    Seed(u64),
    /// Octets still unused, last first; what a fuzzer gives.
    #[allow(dead_code, reason = "the fuzz targets share this file")]
    Octets(Vec<u8>),
}

impl Dice {
    /// A number below `sides`.
    pub fn below(&mut self, sides: usize) -> usize {
        let number = match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) as usize
            }
            Self::Octets(octets) => usize::from(octets.pop().unwrap_or(0)),
        };
        number % sides
    }

    /// True once in `sides` times.
    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}
