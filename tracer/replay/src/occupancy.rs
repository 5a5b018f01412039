//! How full a pool was over time, in a bounded number of equal spans: when a stream is longer than they reach, each becomes two of
//! before.

use serde::Serialize;

/// Spans at the most; a curve that is drawn has about as many points.
const SPANS: usize = 512;
/// The first spans' length, ns: short streams are told in detail.
const FIRST_WIDTH_NS: u64 = 10_000;

/// The most slots in use in each span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Occupancy {
    /// When the first span begins, ns of the stream's clock.
    pub start_ns: u64,
    /// Length of a span, ns.
    pub width_ns: u64,
    /// The most slots in use at any moment of each span; the last one is not over.
    pub peaks: Vec<u64>,
    /// Slots in use at the end.
    #[serde(skip)]
    level: u64,
}

impl Occupancy {
    /// From this moment on, with so many slots in use.
    pub fn new(start_ns: u64, slots: u64) -> Self {
        Self { start_ns, width_ns: FIRST_WIDTH_NS, peaks: vec![slots], level: slots }
    }

    /// So many slots are in use from this moment on. A moment before the last one counts as that one.
    pub fn set(&mut self, time_ns: u64, slots: u64) {
        self.reach(time_ns);
        if let Some(peak) = self.peaks.last_mut() {
            *peak = slots.max(*peak);
        }
        self.level = slots;
    }

    /// Slots in use at the latest moment, and until the next.
    pub fn level(&self) -> u64 {
        self.level
    }

    /// Lets time pass, with as many slots in use as there are.
    pub fn reach(&mut self, time_ns: u64) {
        let gone = time_ns.saturating_sub(self.start_ns);
        while gone / self.width_ns >= SPANS as u64 {
            self.peaks = self.peaks.chunks(2).map(|two| two.iter().copied().max().unwrap_or_default()).collect();
            self.width_ns = self.width_ns.saturating_mul(2);
        }
        let spans = (gone / self.width_ns) as usize + 1;
        if spans > self.peaks.len() {
            self.peaks.resize(spans, self.level);
        }
    }

    /// The spans: the moment each begins, seconds from the first, and its peak.
    pub fn curve(&self) -> impl Iterator<Item = (f64, u64)> {
        self.peaks.iter().enumerate().map(|(n, peak)| ((n as u64 * self.width_ns) as f64 / 1e9, *peak))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_peak_and_the_next_what_was_left() {
        let mut occupancy = Occupancy::new(1000, 0);
        occupancy.set(1000, 7);
        occupancy.set(1001, 3);
        occupancy.set(1000 + 3 * FIRST_WIDTH_NS, 5);
        assert_eq!(occupancy.peaks, [7, 3, 3, 5]);
        occupancy.set(1002, 1);
        occupancy.reach(1000 + 4 * FIRST_WIDTH_NS);
        assert_eq!((occupancy.peaks.as_slice(), occupancy.level()), (&[7, 3, 3, 5, 1][..], 1), "time never goes back");
    }

    #[test]
    fn however_long_a_stream_is_its_peaks_stay_and_the_spans_are_bounded() {
        let mut occupancy = Occupancy::new(0, 0);
        for second in 0..100_000_u64 {
            occupancy.set(second * 1_000_000_000, if second == 77_777 { 9 } else { second % 2 });
        }
        assert!(occupancy.peaks.len() <= SPANS && occupancy.peaks.len() > SPANS / 2, "{}", occupancy.peaks.len());
        let (at, _) = occupancy.curve().find(|(_, peak)| *peak == 9).unwrap();
        let width = occupancy.width_ns as f64 / 1e9;
        assert!(at <= 77_777.0 && 77_777.0 < at + width, "{at} {width}");
        occupancy.set(u64::MAX, 4);
        assert!(occupancy.peaks.len() <= SPANS);
    }
}
