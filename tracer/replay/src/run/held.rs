//! The slots that one mapping holds.

use crate::holders::Who;
use bouncescope_model::pool::{self, Request};
use hashbrown::HashMap;

/// Unmapped mappings that may hold slots still: bounds memory where the clock stands still.
pub(super) const MOST_UNMAPPED: usize = 1 << 16;

/// Mappings that are over and whose memory is kept for others.
pub(super) const MOST_SPARE: usize = 64;

/// Lists of more buffers that hold slots are not searched for one of them.
const SHORT: usize = 64;

/// A search for slots.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) pool: usize,
    pub(super) request: Request,
    pub(super) who: Who,
}

/// Slots of one buffer, and the pool that they are of.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    /// As small as can be: there may be very many.
    pub(super) pool: u32,
    pub(super) held: pool::Held,
    pub(super) who: Who,
}

/// What the simulated kernel holds for a mapping.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    slots: Vec<(u32, Slots)>,
    /// Where in `slots` those of a buffer are, once there are more than [`SHORT`].
    places: Option<Box<HashMap<u32, usize>>>,
    /// All buffers that bounced, whether they still hold slots or not.
    bounced: Vec<u32>,
    /// Memory of buffers that found no slots, bytes.
    elsewhere: u64,
    /// It has been unmapped, and only the kernel's own release of the slots is waited for.
    unmapped: bool,
}

impl Held {
    /// A buffer bounced.
    pub(super) fn bounce(&mut self, index: u32) {
        self.bounced.push(index);
    }

    /// A buffer that bounced found no slots, and has memory of its own.
    pub(super) fn copy_elsewhere(&mut self, bytes: u64) {
        self.elsewhere = self.elsewhere.saturating_add(bytes);
    }

    /// Gives back the memory of all such buffers, bytes.
    pub(super) fn take_elsewhere(&mut self) -> u64 {
        std::mem::take(&mut self.elsewhere)
    }

    /// A buffer holds slots: one that bounced, unless it was copied elsewhere.
    pub(super) fn hold(&mut self, index: u32, slots: Slots) {
        self.slots.push((index, slots));
        match &mut self.places {
            Some(places) => drop(places.insert(index, self.slots.len() - 1)),
            None if self.slots.len() > SHORT => self.find_places(),
            None => {}
        }
    }

    /// The buffers that bounced.
    pub(super) fn bounced(&self) -> &[u32] {
        &self.bounced
    }

    /// Takes the slots of one buffer.
    pub(super) fn take(&mut self, index: u32) -> Option<Slots> {
        let at = match &mut self.places {
            Some(places) => places.remove(&index)?,
            None => self.slots.iter().position(|(held, _)| *held == index)?,
        };
        let (_, slots) = self.slots.swap_remove(at);
        if let (Some(places), Some((moved, _))) = (&mut self.places, self.slots.get(at)) {
            places.insert(*moved, at);
        }
        Some(slots)
    }

    fn find_places(&mut self) {
        let places = || Box::new(self.slots.iter().enumerate().map(|(at, (index, _))| (*index, at)).collect());
        self.places = (self.slots.len() > SHORT).then(places);
    }

    /// The mapping is unmapped: takes the slots of all buffers but those that `stay` a little longer.
    pub(super) fn end(&mut self, stay: impl Fn(u32) -> bool) -> Vec<Slots> {
        self.unmapped = true;
        if self.slots.iter().all(|(n, _)| stay(*n)) {
            return Vec::new();
        }
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.slots).into_iter().partition(|(n, _)| stay(*n));
        self.slots = later;
        self.find_places();
        now.into_iter().map(|(_, slots)| slots).collect()
    }

    /// It has been unmapped.
    pub(super) fn is_unmapped(&self) -> bool {
        self.unmapped
    }

    /// It has been unmapped and holds nothing any more.
    pub(super) fn is_over(&self) -> bool {
        self.unmapped && self.slots.is_empty()
    }

    /// For another mapping; `None` if it has held a long list.
    pub(super) fn emptied(mut self) -> Option<Self> {
        self.slots.clear();
        self.bounced.clear();
        let is_small = self.slots.capacity().max(self.bounced.capacity()) <= SHORT;
        is_small.then(|| Self { slots: self.slots, bounced: self.bounced, ..Self::default() })
    }

    /// Who holds how many slots, of what has not been unmapped.
    pub(super) fn holders(&self) -> impl Iterator<Item = (Who, u64)> {
        let held = if self.unmapped { &[] } else { self.slots.as_slice() };
        held.iter().map(|(_, slots)| (slots.who, slots.held.slots()))
    }

    /// All slots still held.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Slots> {
        self.slots.into_iter().map(|(_, slots)| slots)
    }
}
