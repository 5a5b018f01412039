//! Steps in the order of the kernel's own moments, held back while one before them is not known yet.
//!
//! The kernel takes slots before it sends the mapping event. Each attempt keeps a place at its own moment; the event that
//! claims it fills the place. Nothing behind an open place comes out, so that no moment comes out of order. A place that
//! stays open is given up after [`ATTEMPT_PATIENCE_NS`] or [`CAPACITY`] later places.

use std::collections::VecDeque;

use super::attempts::Context;
use crate::step::Step;
use bouncescope_capture::limits::ATTEMPT_PATIENCE_NS;

/// Bounds memory where a second has very many events.
const CAPACITY: usize = 1 << 16;

/// A place.
#[derive(Clone, Debug)]
enum Place {
    Filled(Step),
    Open {
        context: Context,
        time_ns: u64,
    },
    /// Given up for a later place.
    Void,
}

/// What is at the front.
#[derive(Debug)]
pub(super) enum Front {
    /// A step, with its place.
    Step(u64, Step),
    /// An attempt to be given up: its place is now to be filled.
    Overdue(Context, u64),
}

/// The places from the oldest that is not settled on.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    places: VecDeque<Place>,
    first: u64,
    now_ns: u64,
}

impl Queue {
    /// Nothing waits, and nothing is waited for.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds a step at the end. Its place.
    pub(super) fn push(&mut self, step: Step) -> u64 {
        self.places.push_back(Place::Filled(step));
        self.first + self.places.len() as u64 - 1
    }

    /// Keeps a place at the end.
    pub(super) fn open(&mut self, context: Context, time_ns: u64) -> u64 {
        self.places.push_back(Place::Open { context, time_ns });
        self.first + self.places.len() as u64 - 1
    }

    /// Fills a place that was kept.
    pub(super) fn fill(&mut self, place: u64, step: Step) {
        self.set(place, Place::Filled(step));
    }

    /// Gives a place up.
    pub(super) fn cancel(&mut self, place: u64) {
        self.set(place, Place::Void);
    }

    /// Takes note of the time.
    pub(super) fn now(&mut self, time_ns: u64) {
        self.now_ns = self.now_ns.max(time_ns);
    }

    /// What comes next; `None` while it is waited for. `at_end` nothing is waited for any more.
    pub(super) fn front(&mut self, at_end: bool) -> Option<Front> {
        loop {
            match *self.places.front()? {
                Place::Open { context, time_ns } => {
                    let overdue = at_end
                        || self.places.len() > CAPACITY
                        || self.now_ns.saturating_sub(time_ns) > ATTEMPT_PATIENCE_NS;
                    return overdue.then_some(Front::Overdue(context, self.first));
                }
                Place::Filled(_) | Place::Void => {
                    self.first += 1;
                    if let Some(Place::Filled(step)) = self.places.pop_front() {
                        return Some(Front::Step(self.first - 1, step));
                    }
                }
            }
        }
    }

    fn set(&mut self, place: u64, to: Place) {
        if let Some(index) = place.checked_sub(self.first)
            && let Some(place) = self.places.get_mut(index as usize)
        {
            *place = to;
        }
    }
}
