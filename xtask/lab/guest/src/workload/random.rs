//! Numbers that look random and are the same in every run, so that a workload is.

/// xorshift64, by George Marsaglia.
pub(super) struct Random(u64);

impl Random {
    /// `seed` must not be 0.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Small seeds are alike at first.
        for _ in 0..4 {
            random.below(1);
        }
        random
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_stay_below_the_limit_and_differ() {
        let mut random = Random::new(1);
        let drawn: Vec<_> = (0..100).map(|_| random.below(128)).collect();
        assert!(drawn.iter().all(|&n| n < 128));
        assert!(drawn.iter().collect::<std::collections::BTreeSet<_>>().len() > 30);
    }
}
