//! When a replay is asked for: at once when a person changed something, and when the window moves by itself no more often than
//! leaves the processor to others.

use std::time::{Duration, Instant};

use crate::answer::Question;

/// Between two replays while the window moves by itself, at the least.
const EVERY: Duration = Duration::from_secs(1);
/// And so many times as long as one takes.
const REST: u32 = 4;

/// What was asked, and when.
#[derive(Debug, Default)]
pub(super) struct Asking {
    latest: Option<Question>,
    under_way: bool,
    /// When the window may have moved again.
    next: Option<Instant>,
}

impl Asking {
    pub(super) fn is_due(&self, question: &Question, is_moving: bool, now: Instant) -> bool {
        let Some(latest) = &self.latest else { return true };
        if latest == question {
            return false;
        }
        let only_time = Question { from_ns: latest.from_ns, to_ns: latest.to_ns, ..question.clone() };
        if only_time != *latest || !is_moving {
            return true;
        }
        !self.under_way && self.next.is_none_or(|next| next <= now)
    }

    pub(super) fn asked(&mut self, question: Question, now: Instant) {
        self.latest = Some(question);
        self.under_way = true;
        self.next = Some(now + EVERY);
    }

    pub(super) fn answered(&mut self, now: Instant, took: Duration) {
        self.under_way = false;
        self.next = self.next.max(Some(now + took * REST));
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(to_ns: u64) -> Question {
        Question { to_ns, ..Question::default() }
    }

    #[test]
    fn what_was_asked_is_not_asked_again() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        assert!(asking.is_due(&question(1), false, now));
        asking.asked(question(1), now);
        assert!(!asking.is_due(&question(1), false, now));
        assert!(asking.is_due(&question(2), false, now));
    }

    #[test]
    fn a_window_that_moves_by_itself_is_asked_about_no_more_than_once_a_second() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        asking.asked(question(1), now);
        assert!(!asking.is_due(&question(2), true, now + EVERY * 2), "one is under way");
        asking.answered(now, Duration::from_millis(1));
        assert!(!asking.is_due(&question(2), true, now + EVERY / 2));
        assert!(asking.is_due(&question(2), true, now + EVERY));
    }

    #[test]
    fn long_replays_are_followed_by_long_rests() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        asking.asked(question(1), now);
        asking.answered(now, EVERY);
        assert!(!asking.is_due(&question(2), true, now + EVERY * 3));
        assert!(asking.is_due(&question(2), true, now + EVERY * 4));
    }

    #[test]
    fn another_setting_is_asked_for_at_once_whatever_is_under_way() {
        let (mut asking, now) = (Asking::default(), Instant::now());
        asking.asked(question(1), now);
        let mut other = question(1);
        other.knobs.line = Some(32);
        assert!(asking.is_due(&other, true, now));
    }
}
