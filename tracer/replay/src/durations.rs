//! A histogram of durations in bounded memory, for percentiles of which the error is known.
//!
//! Buckets are log-linear: below 16 ns one for each nanosecond, above that 16 of equal width for each power of two. A percentile is the
//! middle of its bucket, so it is at most 1/32 (3.2 %) off.

/// Buckets for each power of two, as a power of two itself.
const LOG2_BUCKETS: u32 = 4;
const BUCKETS: u64 = 1 << LOG2_BUCKETS;

/// Durations, of which only the bucket is kept, with the least and the greatest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    /// Up to the highest that has any: at most 976, 7.6 KiB.
    buckets: Vec<u64>,
    count: u64,
    least_ns: u64,
    most_ns: u64,
}

impl Durations {
    /// Takes in a duration.
    pub(crate) fn add(&mut self, ns: u64) {
        let bucket = bucket(ns);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.least_ns = if self.count == 0 { ns } else { self.least_ns.min(ns) };
        self.most_ns = self.most_ns.max(ns);
        self.count += 1;
    }

    /// The least duration that so many of a hundred do not exceed, ns; 0 where there is none.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        if rank >= u128::from(self.count) {
            return self.most_ns;
        }
        let mut below = 0_u128;
        let found = self.buckets.iter().position(|count| {
            below += u128::from(*count);
            below >= rank
        });
        found.map_or(0, middle).clamp(self.least_ns, self.most_ns)
    }
}

fn bucket(ns: u64) -> usize {
    // The highest bit and the four behind it.
    let shift = (ns | BUCKETS).ilog2() - LOG2_BUCKETS;
    (u64::from(shift) * BUCKETS + (ns >> shift)) as usize
}

/// The middle of a bucket, ns.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * BUCKETS {
        return bucket;
    }
    let shift = bucket / BUCKETS - 1;
    let first = (bucket - shift * BUCKETS) << shift;
    first + ((1_u64 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How far a percentile may be off.
    const ERROR_PERCENT: f64 = 100.0 / 32.0;

    fn of(durations: impl IntoIterator<Item = u64>) -> Durations {
        let mut all = Durations::default();
        durations.into_iter().for_each(|ns| all.add(ns));
        all
    }

    #[test]
    fn percentiles_of_few_are_those_of_a_sorted_list() {
        assert_eq!([0, 50, 99, 100].map(|percent| of([]).percentile(percent)), [0; 4]);
        assert_eq!([1, 50, 99, 100].map(|percent| of([1_234_567]).percentile(percent)), [1_234_567; 4]);
        let ten = of((1..=10).rev());
        assert_eq!([1, 10, 11, 50, 90, 91, 100].map(|percent| ten.percentile(percent)), [1, 1, 2, 5, 9, 10, 10]);
    }

    #[test]
    fn a_thousand_times_from_1_to_1000_us_have_the_percentiles_of_their_number() {
        let all = of((1..=1000).map(|us| us * 1000));
        for percent in [1, 25, 50, 90, 99] {
            let (exact, found) = (percent as f64 * 1e4, all.percentile(percent) as f64);
            assert!((found / exact - 1.0).abs() * 100.0 <= ERROR_PERCENT, "{percent} %: {found} for {exact}");
        }
        assert_eq!(all.percentile(100), 1_000_000, "the greatest is kept as it is");
    }

    #[test]
    fn however_long_durations_are_memory_is_bounded() {
        let all = of((0..64).map(|bit| 1_u64 << bit).chain([0, u64::MAX]));
        assert_eq!(all.buckets.len(), 976);
        assert_eq!(all.percentile(100), u64::MAX);
    }

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_as_near_as_is_said(ns: u64) {
            let off = middle(bucket(ns)).abs_diff(ns);
            prop_assert!(off as f64 <= ns as f64 * ERROR_PERCENT / 100.0, "{off} of {ns}");
        }

        #[test]
        fn longer_durations_lie_in_no_lower_bucket(one: u64, other: u64) {
            prop_assert_eq!(bucket(one.min(other)) <= bucket(one.max(other)), true);
        }
    }
}
