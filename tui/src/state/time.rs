//! Which time is seen: a window that ends at a moment, which stands, or runs.

/// Length of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Ten seconds.
    TenSeconds,
    /// A minute.
    Minute,
    /// Everything up to the moment.
    #[default]
    All,
}

impl Length {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TenSeconds => "10 s",
            Self::Minute => "1 min",
            Self::All => "all",
        }
    }

    /// Its length, ns.
    pub const fn ns(self) -> Option<u64> {
        match self {
            Self::TenSeconds => Some(10_000_000_000),
            Self::Minute => Some(60_000_000_000),
            Self::All => None,
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::TenSeconds => Self::Minute,
            Self::Minute => Self::All,
            Self::All => Self::TenSeconds,
        }
    }
}

/// How fast a capture can be played: halves and doubles of real time.
const SLOWEST: i32 = -4;
const FASTEST: i32 = 8;

/// The time of a stream, ns, and the moment that is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeLine {
    /// The stream is a running kernel's.
    pub is_live: bool,
    /// The earliest moment of which something can be seen.
    pub first_ns: u64,
    /// The latest.
    pub last_ns: u64,
    /// The moment at which the window ends. `None` is the latest, and goes with it.
    pub moment_ns: Option<u64>,
    /// The window.
    pub length: Length,
    /// The moment moves by itself.
    pub is_playing: bool,
    /// How fast: 2 to the power of this.
    pub speed: i32,
}

impl TimeLine {
    /// Of a live stream: the last ten seconds, always.
    pub fn live() -> Self {
        Self { is_live: true, length: Length::TenSeconds, ..Self::default() }
    }

    /// The moment that is seen.
    pub fn moment(&self) -> u64 {
        self.moment_ns.unwrap_or(self.last_ns).clamp(self.first_ns, self.last_ns.max(self.first_ns))
    }

    /// From when to when is seen.
    pub fn window(&self) -> (u64, u64) {
        let to = self.moment();
        let from = self.length.ns().map_or(self.first_ns, |ns| to.saturating_sub(ns).max(self.first_ns));
        (from, to)
    }

    /// Where the moment lies, 0 to 1.
    pub fn part(&self) -> f64 {
        let whole = self.last_ns.saturating_sub(self.first_ns).max(1);
        self.moment().saturating_sub(self.first_ns) as f64 / whole as f64
    }

    /// Goes to a moment; to the latest where it lies there or beyond.
    pub fn go(&mut self, moment_ns: u64) {
        self.moment_ns =
            (moment_ns < self.last_ns || self.is_live).then_some(moment_ns.clamp(self.first_ns, self.last_ns));
    }

    /// Goes to a part of the whole, 0 to 1.
    pub fn go_to_part(&mut self, part: f64) {
        let whole = self.last_ns.saturating_sub(self.first_ns);
        self.go(self.first_ns + (part.clamp(0.0, 1.0) * whole as f64) as u64);
    }

    /// Moves by a part of what is seen at once: of the window, or of everything where that is all.
    pub fn scrub(&mut self, part: f64) {
        let whole = self.length.ns().unwrap_or(self.last_ns.saturating_sub(self.first_ns));
        let by = (part.abs() * whole as f64) as u64;
        let now = self.moment();
        self.go(if part < 0.0 { now.saturating_sub(by) } else { now.saturating_add(by) });
    }

    /// Stands, or runs again. A capture that is at its end begins anew.
    pub fn toggle(&mut self) {
        if self.is_live {
            self.moment_ns = if self.moment_ns.is_none() { Some(self.last_ns) } else { None };
            return;
        }
        self.is_playing = !self.is_playing;
        if self.is_playing && self.moment() >= self.last_ns {
            self.moment_ns = Some(self.first_ns);
        }
    }

    /// It stands still, though it could run.
    pub fn is_paused(&self) -> bool {
        if self.is_live { self.moment_ns.is_some() } else { !self.is_playing }
    }

    /// Lets so much real time pass; whether the moment moved.
    pub fn pass(&mut self, ns: u64) -> bool {
        if !self.is_playing {
            return false;
        }
        let by = ns as f64 * 2.0_f64.powi(self.speed);
        self.go(self.moment().saturating_add(by as u64));
        self.is_playing = self.moment_ns.is_some();
        true
    }

    /// Plays twice, or half as fast.
    pub fn faster(&mut self, by: i32) {
        self.speed = (self.speed + by).clamp(SLOWEST, FASTEST);
    }

    /// How fast, as one says it.
    pub fn speed_name(&self) -> String {
        if self.speed < 0 { format!("1/{}x", 1 << -self.speed) } else { format!("{}x", 1 << self.speed) }
    }

    /// The next length of the window.
    pub fn next_length(&mut self) {
        self.length = self.length.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn capture() -> TimeLine {
        TimeLine { first_ns: 100 * SECOND, last_ns: 200 * SECOND, ..TimeLine::default() }
    }

    #[test]
    fn a_window_ends_at_the_moment_and_begins_no_earlier_than_the_stream() {
        let mut time = capture();
        assert_eq!(time.window(), (100 * SECOND, 200 * SECOND));
        time.length = Length::TenSeconds;
        assert_eq!(time.window(), (190 * SECOND, 200 * SECOND));
        time.go(105 * SECOND);
        assert_eq!(time.window(), (100 * SECOND, 105 * SECOND));
    }

    #[test]
    fn playing_goes_on_to_the_end_and_begins_anew_there() {
        let mut time = capture();
        time.toggle();
        assert_eq!((time.is_playing, time.moment()), (true, 100 * SECOND));
        time.faster(3);
        assert!(time.pass(SECOND));
        assert_eq!(time.moment(), 108 * SECOND);
        time.pass(60 * SECOND);
        assert_eq!((time.is_playing, time.moment()), (false, 200 * SECOND));
        assert!(!time.pass(SECOND));
    }

    #[test]
    fn a_live_stream_that_is_paused_stays_where_it_is() {
        let mut time = TimeLine { first_ns: 0, last_ns: 50 * SECOND, ..TimeLine::live() };
        time.toggle();
        time.last_ns = 60 * SECOND;
        assert_eq!(time.window(), (40 * SECOND, 50 * SECOND));
        time.toggle();
        assert_eq!(time.window(), (50 * SECOND, 60 * SECOND));
    }

    #[test]
    fn scrubbing_moves_by_parts_of_the_window_and_stays_within_the_stream() {
        let mut time = capture();
        time.scrub(-0.5);
        assert_eq!(time.moment(), 150 * SECOND);
        time.length = Length::TenSeconds;
        time.scrub(0.1);
        assert_eq!(time.moment(), 151 * SECOND);
        time.go(0);
        assert_eq!(time.moment(), 100 * SECOND);
        time.scrub(-1.0);
        assert_eq!(time.moment(), 100 * SECOND);
    }

    #[test]
    fn speeds_have_an_end() {
        let mut time = capture();
        time.faster(-99);
        assert_eq!(time.speed_name(), "1/16x");
        time.faster(99);
        assert_eq!(time.speed_name(), "256x");
    }
}
