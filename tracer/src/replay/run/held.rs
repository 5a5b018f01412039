//! The slots that one mapping holds.

use crate::model::pool;

/// Unmapped mappings that may hold slots still: bounds memory where the clock stands still.
pub(super) const MOST_UNMAPPED: usize = 1 << 16;

/// Slots of one buffer, and the pool that they are of.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) pool: usize,
    pub(super) held: pool::Held,
}

/// What the simulated kernel holds for a mapping.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    slots: Vec<(u32, Slots)>,
    /// All buffers that bounced, whether they still hold slots or not.
    bounced: Vec<u32>,
    /// It has been unmapped, and only the kernel's own release of the slots is waited for.
    unmapped: bool,
}

impl Held {
    /// A buffer bounced; without slots where it was copied elsewhere.
    pub(super) fn add(&mut self, index: u32, slots: Option<Slots>) {
        self.slots.extend(slots.map(|slots| (index, slots)));
        self.bounced.push(index);
    }

    /// The buffers that bounced.
    pub(super) fn bounced(&self) -> &[u32] {
        &self.bounced
    }

    /// Takes the slots of one buffer.
    pub(super) fn take(&mut self, index: u32) -> Option<Slots> {
        let at = self.slots.iter().position(|(held, _)| *held == index)?;
        Some(self.slots.swap_remove(at).1)
    }

    /// The mapping is unmapped: takes the slots of all buffers but those that `stay` a little longer.
    pub(super) fn end(&mut self, stay: impl Fn(u32) -> bool) -> Vec<Slots> {
        self.unmapped = true;
        let (later, now): (Vec<_>, Vec<_>) = std::mem::take(&mut self.slots).into_iter().partition(|(n, _)| stay(*n));
        self.slots = later;
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

    /// All slots still held.
    pub(super) fn into_slots(self) -> impl Iterator<Item = Slots> {
        self.slots.into_iter().map(|(_, slots)| slots)
    }
}
