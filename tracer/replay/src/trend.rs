//! How full the pools are in the long run: the slots that are in use at the least, and the time for which hardly any are free. A leak
//! raises the floor for good; a peak leaves it where it was.

use serde::Serialize;

/// Spans at the most; at least half as many once a stream is long.
const SPANS: usize = 128;
/// The first spans' length, ns.
const FIRST_WIDTH_NS: u64 = 10_000;
/// A pool of which more is in use than this is nearly full, percent.
pub const NEARLY_FULL: u64 = 80;
/// In less time than this drivers start, and map what they keep, ns.
pub(crate) const START_NS: u64 = 1_000_000_000;

/// The pools in the long run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Trend {
    /// The least slots in use at any moment of each quarter of the recording.
    pub floors: [u64; 4],
    /// Slots by which the floor rose from the first quarter to the last, where each quarter's is higher than the one before and the
    /// recording took a second or more; else 0.
    pub rise: u64,
    /// For how long more than 80 % of the slots were in use, ns.
    pub nearly_full_ns: u64,
}

impl Trend {
    /// The least slots in use in the last quarter.
    pub fn floor(&self) -> u64 {
        self.floors[3]
    }
}

/// Follows the slots in use, in a bounded number of equal spans: when a stream is longer than they reach, each becomes two of before.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    start_ns: u64,
    width_ns: u64,
    /// The least slots in use in each span.
    floors: Vec<u64>,
    /// When the last span ends, ns.
    end_ns: u64,
    used: u64,
    capacity: u64,
    /// Until when the floors and the time are counted, ns.
    now_ns: u64,
    /// The last moment that was told, ns.
    told_ns: u64,
    nearly_full_ns: u64,
}

impl Level {
    /// From this moment on, with so many slots in use, of so many.
    pub(crate) fn new(start_ns: u64, used: u64, capacity: u64) -> Self {
        Self {
            start_ns,
            width_ns: FIRST_WIDTH_NS,
            floors: vec![used],
            end_ns: start_ns.saturating_add(FIRST_WIDTH_NS),
            used,
            capacity,
            now_ns: start_ns,
            told_ns: start_ns,
            nearly_full_ns: 0,
        }
    }

    /// So many slots are in use from this moment on, of so many. A moment before the last one counts as that one.
    pub(crate) fn set(&mut self, time_ns: u64, used: u64, capacity: u64) {
        self.told_ns = self.told_ns.max(time_ns);
        if (used, capacity) == (self.used, self.capacity) {
            return;
        }
        self.reach(self.told_ns);
        (self.used, self.capacity) = (used, capacity);
        if let Some(floor) = self.floors.last_mut() {
            *floor = used.min(*floor);
        }
    }

    fn reach(&mut self, time_ns: u64) {
        self.nearly_full_ns += self.nearly_full_until_ns(time_ns);
        self.now_ns = self.now_ns.max(time_ns);
        if self.now_ns < self.end_ns {
            return;
        }
        let gone_ns = self.now_ns.saturating_sub(self.start_ns);
        while gone_ns / self.width_ns >= SPANS as u64 {
            self.floors = self.floors.chunks(2).map(|two| two.iter().copied().min().unwrap_or_default()).collect();
            self.width_ns = self.width_ns.saturating_mul(2);
        }
        let spans = (gone_ns / self.width_ns) as usize + 1;
        if spans > self.floors.len() {
            self.floors.resize(spans, self.used);
        }
        let reached_ns = self.width_ns.saturating_mul(self.floors.len() as u64);
        self.end_ns = self.start_ns.saturating_add(reached_ns);
    }

    /// Of the time that is not counted yet, for how long until then they were nearly full, ns.
    fn nearly_full_until_ns(&self, time_ns: u64) -> u64 {
        let is_nearly_full = u128::from(self.used) * 100 > u128::from(self.capacity) * u128::from(NEARLY_FULL);
        if is_nearly_full { time_ns.saturating_sub(self.now_ns) } else { 0 }
    }

    /// For how long they were nearly full until the last moment that was told, ns. Whatever comes later, it never becomes less.
    pub(crate) fn nearly_full_ns(&self) -> u64 {
        self.nearly_full_ns + self.nearly_full_until_ns(self.told_ns)
    }

    /// What came of it by this moment.
    pub(crate) fn trend(mut self, end_ns: u64) -> Trend {
        self.reach(end_ns);
        let spans = self.floors.len();
        let floors = [0, 1, 2, 3].map(|quarter| {
            let first = quarter * spans / 4;
            let end = ((quarter + 1) * spans / 4).max(first + 1);
            self.floors[first..end].iter().copied().min().unwrap_or_default()
        });
        let rises =
            self.now_ns.saturating_sub(self.start_ns) >= START_NS && floors.is_sorted_by(|one, next| one < next);
        let rise = if rises { floors[3] - floors[0] } else { 0 };
        Trend { floors, rise, nearly_full_ns: self.nearly_full_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// The level in each second, and what came of it.
    fn trend(used: impl Fn(u64) -> u64) -> Trend {
        let mut level = Level::new(0, 0, 100);
        for second in 0..40 {
            // Something comes and goes all the time.
            level.set(second * SECOND, used(second) + 20, 100);
            level.set(second * SECOND + 1000, used(second), 100);
        }
        level.trend(40 * SECOND)
    }

    #[test]
    fn a_leak_raises_the_floor_and_a_peak_or_what_a_driver_keeps_does_not() {
        let leak = trend(|second| second);
        assert_eq!((leak.floors, leak.rise), ([0, 9, 19, 30], 30));
        let peak = trend(|second| if (10..30).contains(&second) { second } else { 0 });
        assert_eq!((peak.floor(), peak.rise), (0, 0));
        let kept = trend(|second| if second < 3 { 0 } else { 30 });
        assert_eq!((kept.floors, kept.rise), ([0, 30, 30, 30], 0));
    }

    #[test]
    fn what_drivers_take_when_they_start_is_no_rise() {
        let mut level = Level::new(0, 0, 100);
        for n in 0..10 {
            level.set(n * SECOND / 20, n, 100);
        }
        assert_eq!(level.trend(SECOND / 2).rise, 0);
    }

    #[test]
    fn time_is_counted_while_more_than_80_percent_are_in_use() {
        let mut level = Level::new(0, 0, 100);
        level.set(SECOND, 80, 100);
        level.set(2 * SECOND, 81, 100);
        level.set(4 * SECOND, 81, 200);
        level.set(5 * SECOND, 170, 200);
        level.set(4 * SECOND, 0, 200);
        assert_eq!(level.clone().trend(9 * SECOND).nearly_full_ns, 2 * SECOND, "moments never go back");
        level.set(9 * SECOND, 200, 200);
        assert_eq!(level.trend(12 * SECOND).nearly_full_ns, 5 * SECOND, "until the end");
    }

    #[test]
    fn the_time_that_is_told_while_it_goes_on_never_becomes_less() {
        let mut level = Level::new(0, 90, 100);
        let mut told = Vec::new();
        for (time_ns, used) in [(SECOND, 90), (3 * SECOND, 90), (2 * SECOND, 10), (4 * SECOND, 90), (6 * SECOND, 10)] {
            level.set(time_ns, used, 100);
            told.push(level.nearly_full_ns() / SECOND);
        }
        assert_eq!(told, [1, 3, 3, 3, 5]);
    }

    #[test]
    fn without_a_pool_none_is_full() {
        assert_eq!(Level::new(0, 0, 0).trend(SECOND), Trend::default());
    }

    #[test]
    fn however_long_a_stream_is_the_spans_are_bounded() {
        let mut level = Level::new(0, 0, 100);
        for second in 0..100_000_u64 {
            level.set(second * SECOND, 2 + second % 2, 100);
        }
        assert!(level.floors.len() <= SPANS && level.floors.len() > SPANS / 2, "{}", level.floors.len());
        level.set(u64::MAX, 4, 100);
        assert!(level.floors.len() <= SPANS);
        assert_eq!(level.trend(u64::MAX).floors, [0, 3, 3, 3]);
    }
}
