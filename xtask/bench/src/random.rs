//! The benchmark's disorder: the same in every run and on every machine, so that a capture of so many events is always the
//! same file.

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    /// From a seed, which must not be 0.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound` - 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// `low` to `high`, both included.
    pub(crate) fn between(&mut self, (low, high): (u64, u64)) -> u64 {
        low + self.below(high - low + 1)
    }

    /// The same, where each doubling is as likely as any other: few large numbers, many small ones.
    pub(crate) fn skewed(&mut self, (low, high): (u64, u64)) -> u64 {
        let doublings = u64::from((high / low).ilog2());
        let from = low << self.below(doublings + 1);
        self.between((from, (2 * from - 1).min(high)))
    }

    /// True in so many of 100 cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}
