//! Figures of simulated kernels without a rule about them, with the same doubts about the recording. Whether the model is one
//! of this kernel, which takes a replay of its own, is not asked.

use super::doubt::Doubts;
use super::measure::{Measured, Taken, measure};
use super::select::totals;
use crate::Replayed;
use crate::figures::{Figure, Run};
use crate::outcome::Outcome;

/// Measures what was simulated over one recording.
#[derive(Debug)]
pub struct Gauge<'a> {
    replayed: &'a Replayed,
    doubts: Doubts,
}

impl<'a> Gauge<'a> {
    /// For a recording.
    pub fn new(replayed: &'a Replayed) -> Self {
        Self { replayed, doubts: Doubts::of_recording(replayed) }
    }

    /// A figure of everything that a simulated kernel did; `None` where the recording does not tell it.
    pub fn total(&self, outcome: &Outcome, figure: Figure) -> Option<Measured> {
        let run = Run { replayed: self.replayed, outcome: Some(outcome) };
        self.of(run, figure)
    }

    /// The same of what the recorded kernel did.
    pub fn observed(&self, figure: Figure) -> Option<Measured> {
        self.of(Run { replayed: self.replayed, outcome: None }, figure)
    }

    fn of(&self, run: Run, figure: Figure) -> Option<Measured> {
        let taken = Taken { run, doubts: &self.doubts };
        measure(figure, &totals(run), taken).ok()
    }
}
