//! How full the recorded kernel's own pool was, whatever the model has made of single mappings: one wrong guess stays one. Under the
//! captured settings what the kernel bounced holds slots, and what it refused holds none.

use super::held::{Search, Slots};
use super::{Growing, Overlap, Request, Run};
use crate::mapping::Truth;
use bouncescope_model::pool::{SEGMENT_SLOTS, Usage};

/// Searches of the kernel that found slots where the simulated pool is full, at most: more than overlap on any machine.
const MOST_OWED: usize = 1 << 10;

/// Who takes slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// A buffer of a mapping: its number, and which.
    Buffer(u64, u32),
    /// An [`super::Unseen`], by its number.
    Unseen(u64),
    /// Coherent memory, by its number.
    Coherent(u64),
}

/// Slots that the kernel found, and for which the next ones to come free here are meant.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    taker: Taker,
    pub(super) search: Search,
    slots: u64,
}

/// What is known of the order in which slots were taken, and so of their places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// No two of the searches since the pool was last empty overlapped.
    is_known: bool,
    /// As in [`Usage`].
    unit: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { is_known: true, unit: SEGMENT_SLOTS }
    }
}

impl Order {
    /// Of a pool in which others hold slots, nobody knows where but that they lie in such runs.
    pub(super) const fn of_foreign(unit: u32) -> Self {
        Self { is_known: true, unit }
    }

    /// Slots were taken.
    pub(super) fn took(&mut self, pool: &Growing, request: &Request, overlap: Overlap) {
        self.is_known &= overlap.is_none();
        self.unit = pool.unit_with(request, self.unit);
    }
}

impl Run {
    /// Whether a buffer holds slots from now on, as the recorded kernel has it; `None` where the model decides.
    pub(super) fn recorded(&self, truth: Truth) -> Option<bool> {
        match truth {
            _ if !self.follows => None,
            Truth::Bounced { .. } => Some(true),
            Truth::Refused | Truth::NotReached => Some(false),
            Truth::Direct { .. } | Truth::Unknown(_) => None,
        }
    }

    /// Whether it depends on the order of what overlaps that a search finds slots; in a pool that grows, on when it does.
    pub(super) fn is_raced(&self, search: &Search, overlap: Overlap) -> bool {
        let pool = &self.pools[search.pool];
        if pool.grows() {
            return pool.hangs_on_worker(&search.request);
        }
        if overlap.is_none() && self.order.is_known && self.owed.is_empty() {
            return false;
        }
        let used = pool.used_slots() + self.owed_slots(|owed| owed.search.pool == search.pool);
        let usage = Usage {
            least: if overlap.is_cut { 0 } else { used.saturating_sub(overlap.fewer.into()) },
            most: if overlap.is_cut {
                u64::MAX
            } else {
                used.saturating_add(u64::from(overlap.more) + u64::from(overlap.stalled))
            },
            unit: self.order.unit,
        };
        let possible = pool.possible(&search.request, usage);
        possible.found && possible.refused
    }

    /// The kernel found slots that the simulated pool has not.
    pub(super) fn owe(&mut self, taker: Taker, search: Search) {
        if self.owed.len() < MOST_OWED {
            let slots = self.pools[search.pool].slots(&search.request);
            self.order.is_known = false;
            self.owed.push_back(Owed { taker, search, slots });
        }
    }

    /// Slots that are owed.
    pub(super) fn owed_slots(&self, which: impl Fn(&&Owed) -> bool) -> u64 {
        self.owed.iter().filter(which).map(|owed| owed.slots).sum()
    }

    /// Nothing is owed any more to these.
    pub(super) fn forgive(&mut self, which: impl Fn(&Taker) -> bool) {
        self.owed.retain(|owed| !which(&owed.taker));
    }

    /// Whether something is owed to a buffer of this mapping.
    pub(super) fn owes(&self, mapping: u64) -> bool {
        self.owed.iter().any(|owed| matches!(owed.taker, Taker::Buffer(id, _) if id == mapping))
    }

    /// Slots have come free: who is owed some gets them.
    pub(super) fn pay(&mut self) {
        while let Some(owed) = self.owed.pop_front() {
            let Ok(held) = self.pools[owed.search.pool].map(&owed.search.request) else {
                self.owed.push_front(owed);
                break;
            };
            let slots = Slots { pool: owed.search.pool as u32, held, who: owed.search.who };
            match owed.taker {
                Taker::Buffer(mapping, index) => self.held.entry(mapping).or_default().hold(index, slots),
                Taker::Unseen(id) => drop(self.unseen.insert(id, slots)),
                Taker::Coherent(id) => self.coherent.hold(id, slots),
            }
        }
        if self.used_slots() == 0 {
            self.order = Order::default();
        }
    }
}
