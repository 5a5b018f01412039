//! Of recordings that are drawn alike, the share in which something happens: what some of them say of all.

use serde::Serialize;

/// The chance to be wrong on either side.
const RISK: f64 = 0.05;

/// Between which bounds a share lies with 95 % confidence on either side (Clopper and Pearson).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Share {
    /// The least share, 0 to 1.
    pub at_least: f64,
    /// The greatest share, 0 to 1.
    pub at_most: f64,
}

impl Share {
    /// It happened in so many of `all`, at least and at most.
    pub(super) fn of([at_least, at_most]: [u64; 2], all: u64) -> Self {
        Self { at_least: 1.0 - greatest(all.saturating_sub(at_least), all), at_most: greatest(at_most, all) }
    }
}

/// The share with which `count` of `all` or fewer are as rare as the risk.
fn greatest(count: u64, all: u64) -> f64 {
    if count >= all {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let share = f64::midpoint(low, high);
        if at_most(count, all, share) > RISK { low = share } else { high = share }
    }
    high
}

/// The probability of `count` or fewer of `all`, each with this share.
fn at_most(count: u64, all: u64, share: f64) -> f64 {
    let mut term = (all as f64 * (1.0 - share).ln()).exp();
    let mut sum = term;
    for k in 0..count {
        term *= (all - k) as f64 / (k + 1) as f64 * share / (1.0 - share);
        sum += term;
    }
    sum
}

/// So many in which it never happens say, with the same confidence, that the share is at most this.
pub(super) fn needed_for(share: f64) -> u64 {
    (RISK.ln() / (1.0 - share).ln()).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // None of n: 1 - 0.05^(1/n); one of ten: 0.394, from 0.0051.
        let rounded = |share: Share| ((share.at_least * 1000.0).round(), (share.at_most * 1000.0).round());
        assert_eq!(rounded(Share::of([0, 0], 5)), (0.0, 451.0));
        assert_eq!(rounded(Share::of([1, 1], 10)), (5.0, 394.0));
        assert_eq!(rounded(Share::of([5, 5], 5)), (549.0, 1000.0));
        assert_eq!(rounded(Share::of([0, 0], 0)), (0.0, 1000.0));
        assert_eq!(rounded(Share::of([0, 1], 10)), (0.0, 394.0));
        assert!(Share::of([300, 300], 1000).at_most < 0.33);
        assert_eq!((needed_for(0.05), needed_for(0.01)), (59, 299));
    }
}
