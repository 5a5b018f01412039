//! How full the pools are, over time where that was asked for.

use super::held::Held;
use super::{Growing, Run};
use crate::holders::{Turnover, Who};
use crate::occupancy::Occupancy;
use crate::trend::Level;

impl Run {
    /// Keeps how full the pools are from this moment on.
    pub(crate) fn keep_occupancy(&mut self, start_ns: u64) {
        self.outcome.occupancy = Some(Occupancy::new(start_ns, self.used_slots()));
    }

    /// Keeps who holds slots. Where nothing `else` is asked for of the captured kernel, nothing else is kept.
    pub(crate) fn keep_holders(&mut self, and_else: bool) {
        self.turnover = Some(Turnover::default());
        self.only_holders = self.follows && !and_else;
    }

    /// Keeps how full the pools are in the long run from this moment on.
    pub(crate) fn keep_level(&mut self, start_ns: u64) {
        self.level = Some(Level::new(start_ns, self.used_slots(), self.present_slots()));
    }

    /// For how long the pools were nearly full until the last step, ns, where that was asked for.
    pub(crate) fn nearly_full_ns(&self) -> Option<u64> {
        self.level.as_ref().map(Level::nearly_full_ns)
    }

    /// Lets time pass until this moment.
    pub(crate) fn end_occupancy(&mut self, end_ns: u64) {
        if let Some(occupancy) = &mut self.outcome.occupancy {
            occupancy.reach(end_ns);
        }
    }

    /// After a step: how full the pools are now.
    pub(super) fn note_occupancy(&mut self, time_ns: u64) {
        if self.outcome.occupancy.is_none() && self.level.is_none() {
            return;
        }
        let (used, present) = (self.used_slots(), self.present_slots());
        if let Some(level) = &mut self.level {
            level.set(time_ns, used, present);
        }
        if let Some(occupancy) = self.outcome.occupancy.as_mut().filter(|occupancy| occupancy.level() != used) {
            occupancy.set(time_ns, used);
        }
    }

    /// Who holds how many slots now.
    pub(super) fn holders(&self) -> impl Iterator<Item = (Who, u64)> {
        let unseen = self.unseen.values().map(|slots| (slots.who, slots.held.slots()));
        self.held.values().flat_map(Held::holders).chain(unseen).chain(self.coherent.holders())
    }

    /// Before slots are given back: if the pools have never been fuller, this is who has filled them.
    pub(super) fn keep_peak(&mut self) {
        if let Some(mut turnover) = self.turnover.take_if(|turnover| turnover.at_peak) {
            turnover.keep_peak(self.holders());
            self.turnover = Some(turnover);
        }
    }

    /// Slots in use, of all pools.
    pub fn used_slots(&self) -> u64 {
        let used = self.sum(Growing::used_slots);
        if self.owed.is_empty() { used } else { self.capacity().min(used + self.owed_slots(|_| true)) }
    }

    /// Slots of all pools that there are at the moment.
    pub(super) fn present_slots(&self) -> u64 {
        self.sum(Growing::present_slots)
    }

    /// Of all pools, which mostly are one.
    fn sum(&self, of: impl Fn(&Growing) -> u64) -> u64 {
        if let [only] = &self.pools[..] { of(only) } else { self.pools.iter().map(of).sum() }
    }

    /// Slots that all pools can hold; no bound where one grows.
    pub(super) fn capacity(&self) -> u64 {
        if self.pools.iter().any(Growing::grows) { u64::MAX } else { self.pools.iter().map(Growing::total_slots).sum() }
    }
}
