//! What makes the flight recorder write a file, such as so many slots in use; and how often it may.

use std::time::Duration;

use tracer::{
    facts::PoolSample,
    plain::{plain, shortened},
};

/// Reasons that one file names.
const MOST_REASONS: usize = 8;
/// Characters of a message in such a reason.
const LONGEST_REASON: usize = 160;

/// As it may stand on a terminal.
pub(super) fn worded(message: &str) -> String {
    plain(&shortened(message, LONGEST_REASON)).into_owned()
}

/// So many slots in use, or so many of a hundred of those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    Number(u64),
    Percent(u64),
}

impl Slots {
    /// From the command line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be a number of slots, such as 400, or a part of the pool, such as 80%".to_owned();
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0).ok_or_else(wrong);
        match text.strip_suffix('%') {
            Some(percent) => number(percent).and_then(|of| if of > 100 { Err(wrong()) } else { Ok(Self::Percent(of)) }),
            None => number(text).map(Self::Number),
        }
    }

    fn of(self, sample: &PoolSample) -> u64 {
        match self {
            Self::Number(slots) => slots,
            Self::Percent(percent) => (sample.slots.saturating_mul(percent)).div_ceil(100),
        }
    }
}

/// Watches how full the pool is.
#[derive(Debug)]
pub(super) struct Fullness {
    slots: Slots,
    /// It was that full the last time.
    was_full: bool,
    /// `None` until the first sample: its mark may be of long before.
    mark: Option<u64>,
}

impl Fullness {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots, was_full: false, mark: None }
    }

    /// The reason, when the pool has become that full since the last sample: by the sample itself, or by the kernel's high-water mark.
    pub(super) fn reason(&mut self, sample: &PoolSample) -> Option<String> {
        let enough = self.slots.of(sample);
        let mark = sample.hiwater_slots.unwrap_or(0);
        let is_lifted = self.mark.is_some_and(|before| mark > before);
        let most = if is_lifted { mark.max(sample.used_slots) } else { sample.used_slots };
        let has_filled = most >= enough && enough > 0 && !self.was_full;
        self.was_full = sample.used_slots >= enough;
        self.mark = self.mark.max(Some(mark));
        has_filled.then(|| format!("{most} of {} slots in use", sample.slots))
    }
}

/// When something happened, ns of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When {
    /// Not before.
    pub(super) earliest_ns: u64,
    /// Not after.
    pub(super) latest_ns: u64,
}

impl When {
    /// At this very moment.
    pub(super) const fn at(time_ns: u64) -> Self {
        Self { earliest_ns: time_ns, latest_ns: time_ns }
    }
}

/// Something for which a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// What happened, in one line.
    pub(super) reason: String,
    pub(super) when: When,
    /// What else is to be known of it, in one line.
    pub(super) note: Option<String>,
}

impl Cause {
    pub(super) fn new(reason: String, when: When) -> Self {
        Self { reason, when, note: None }
    }
}

/// A file that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    /// When the first of the causes happened: not before the earliest moment of any.
    pub(super) when: When,
    pub(super) reasons: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Causes that came too soon after an earlier file.
    pub(super) suppressed: u64,
}

/// Decides which causes make a file.
#[derive(Debug)]
pub(super) struct Triggers {
    after_ns: u64,
    interval_ns: u64,
    pending: Option<Pending>,
    latest_ns: Option<u64>,
    suppressed: u64,
    /// Causes that came too soon, in all.
    pub(super) all_suppressed: u64,
    /// Causes, in all.
    pub(super) all: u64,
}

fn push(lines: &mut Vec<String>, line: String) {
    if lines.len() < MOST_REASONS && !lines.contains(&line) {
        lines.push(line);
    }
}

impl Triggers {
    /// A file is written `after` its cause, and none for a cause within `interval` of that of another file.
    pub(super) fn new(after: Duration, interval: Duration) -> Self {
        let [after_ns, interval_ns] = [after, interval].map(|time| time.as_nanos() as u64);
        Self { after_ns, interval_ns, pending: None, latest_ns: None, suppressed: 0, all_suppressed: 0, all: 0 }
    }

    /// Something happened.
    pub(super) fn came(&mut self, cause: Cause) {
        self.all += 1;
        let Cause { reason, when, note } = cause;
        let is_soon = |latest_ns| when.latest_ns.saturating_sub(latest_ns) < self.interval_ns;
        if self.pending.is_none() && self.latest_ns.is_some_and(is_soon) {
            self.suppressed += 1;
            self.all_suppressed += 1;
            return;
        }
        let pending = self.pending.get_or_insert_with(|| {
            self.latest_ns = Some(when.latest_ns);
            Pending { when, reasons: Vec::new(), notes: Vec::new(), suppressed: 0 }
        });
        pending.when.earliest_ns = pending.when.earliest_ns.min(when.earliest_ns);
        push(&mut pending.reasons, reason);
        if let Some(note) = note {
            push(&mut pending.notes, note);
        }
    }

    /// When the cause of a file that is still to be written happened at the earliest, ns.
    pub(super) fn earliest_ns(&self) -> Option<u64> {
        self.pending.as_ref().map(|pending| pending.when.earliest_ns)
    }

    /// A file that is due.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Pending> {
        let is_due = |pending: &&Pending| now_ns >= pending.when.latest_ns.saturating_add(self.after_ns);
        self.pending.as_ref().filter(is_due)?;
        self.take()
    }

    /// A file that is due or will be, when recording ends.
    pub(super) fn take(&mut self) -> Option<Pending> {
        let pending = self.pending.take()?;
        Some(Pending { suppressed: std::mem::take(&mut self.suppressed), ..pending })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn a_threshold_is_a_number_of_slots_or_a_part_of_the_pool() {
        assert_eq!(Slots::parse("400"), Ok(Slots::Number(400)));
        assert_eq!(Slots::parse("80%"), Ok(Slots::Percent(80)));
        for wrong in ["", "0", "0%", "101%", "many", "-3"] {
            assert!(Slots::parse(wrong).unwrap_err().contains("number of slots"), "{wrong}");
        }
    }

    #[test]
    fn a_pool_that_fills_is_told_once_and_a_burst_between_samples_by_the_mark() {
        let mut fullness = Fullness::new(Slots::Percent(80));
        let mut at = |used_slots, mark| {
            let sample = PoolSample { slots: 512, used_slots, hiwater_slots: Some(mark), ..PoolSample::default() };
            fullness.reason(&sample)
        };
        assert_eq!(at(100, 100), None);
        assert_eq!(at(410, 420).as_deref(), Some("420 of 512 slots in use"));
        assert_eq!(at(500, 500), None, "it has been full since");
        assert_eq!(at(10, 500), None);
        assert_eq!(at(10, 512).as_deref(), Some("512 of 512 slots in use"), "in between");
        assert_eq!(at(11, 512), None);
    }

    #[test]
    fn a_mark_of_before_the_recording_is_no_reason() {
        let mut fullness = Fullness::new(Slots::Percent(80));
        let mut at = |used_slots, mark| {
            let sample = PoolSample { slots: 512, used_slots, hiwater_slots: Some(mark), ..PoolSample::default() };
            fullness.reason(&sample)
        };
        assert_eq!(at(0, 512), None);
        assert_eq!(at(500, 512).as_deref(), Some("500 of 512 slots in use"));
    }

    const SECOND: u64 = 1_000_000_000;

    fn triggers(after_s: u64, interval_s: u64) -> Triggers {
        Triggers::new(Duration::from_secs(after_s), Duration::from_secs(interval_s))
    }

    fn cause(reason: &str, at_s: u64) -> Cause {
        Cause::new(reason.to_owned(), When::at(at_s * SECOND))
    }

    #[test]
    fn a_cause_makes_a_file_later_and_those_meanwhile_are_of_the_same() {
        let mut triggers = triggers(5, 60);
        triggers.came(cause("one", 100));
        triggers.came(cause("two", 101));
        triggers.came(cause("one", 102));
        assert_eq!(triggers.due(104 * SECOND), None);
        let due = triggers.due(105 * SECOND).unwrap();
        assert_eq!((due.when, due.reasons), (When::at(100 * SECOND), vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(triggers.due(106 * SECOND), None, "once");
    }

    #[test]
    fn a_cause_that_is_learnt_of_late_moves_the_beginning_of_the_file_and_not_its_end() {
        let mut triggers = triggers(5, 60);
        triggers.came(cause("one", 100));
        let when = When { earliest_ns: 90 * SECOND, latest_ns: 101 * SECOND };
        triggers.came(Cause { note: Some("late".to_owned()), ..Cause::new("two".to_owned(), when) });
        assert_eq!(triggers.earliest_ns(), Some(90 * SECOND));
        assert_eq!(triggers.due(104 * SECOND), None);
        let due = triggers.due(105 * SECOND).unwrap();
        assert_eq!((due.when.earliest_ns, due.notes), (90 * SECOND, vec!["late".to_owned()]));
        assert_eq!(triggers.earliest_ns(), None);
    }

    #[test]
    fn a_file_goes_on_until_long_enough_after_the_latest_moment_at_which_its_cause_may_have_happened() {
        let mut triggers = triggers(5, 60);
        let when = When { earliest_ns: 90 * SECOND, latest_ns: 100 * SECOND };
        triggers.came(Cause::new("one".to_owned(), when));
        assert_eq!(triggers.due(104 * SECOND), None);
        assert!(triggers.due(105 * SECOND).is_some());
    }

    #[test]
    fn causes_that_come_too_soon_make_no_file_and_are_counted() {
        let mut triggers = triggers(1, 60);
        let mut files = VecDeque::new();
        for at in 0..200 {
            triggers.came(cause(&format!("at {at}"), at));
            files.extend(triggers.due(at * SECOND));
        }
        assert_eq!(files.len(), 4);
        let joined = files.iter().map(|file| file.reasons.len() as u64).sum::<u64>();
        assert_eq!(joined + triggers.all_suppressed, triggers.all);
        let told: Vec<u64> = files.iter().map(|file| file.suppressed).collect();
        assert_eq!(told, [0, 58, 58, 58], "of a minute each, two are of the file itself");
    }
}
