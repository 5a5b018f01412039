//! Which mappings are in progress, and what ends them.

use std::collections::HashMap;
use std::hash::Hash;

use super::super::devices::Identity;
use super::super::mapping::MappingId;

/// Mappings in progress, by what their end will name.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    /// By device, DMA address and length. The same buffer may be mapped more than once.
    singles: HashMap<(Identity, u64, u64), Vec<MappingId>>,
    /// By device and address of the first entry.
    lists: HashMap<(Identity, u64), Vec<MappingId>>,
    /// By the address of a slot.
    holders: HashMap<u64, MappingId>,
    bounced: HashMap<MappingId, Held>,
}

/// A bounced mapping: it is gone with its first slot given back or its unmapping's event, whichever comes first, and
/// forgotten with the last of them.
#[derive(Debug, Default)]
struct Held {
    slots: u32,
    gone: bool,
    event_seen: bool,
}

impl Lifetimes {
    pub(super) fn begin_single(&mut self, device: Identity, dma_addr: u64, size: u64, id: MappingId) {
        self.singles.entry((device, dma_addr, size)).or_default().push(id);
    }

    pub(super) fn begin_list(&mut self, device: Identity, list: u64, id: MappingId) {
        self.lists.entry((device, list)).or_default().push(id);
    }

    /// The mapping holds this slot.
    pub(super) fn hold(&mut self, slot: u64, id: MappingId) {
        // The record of the last holder's giving it back was missed.
        if let Some(held) = self.holders.insert(slot, id).and_then(|last| self.bounced.get_mut(&last)) {
            held.slots -= 1;
        }
        self.bounced.entry(id).or_default().slots += 1;
    }

    /// A slot is given back: the mapping that held it, if one did, and whether that is the mapping's end.
    pub(super) fn slot_given_back(&mut self, slot: u64) -> Option<(MappingId, bool)> {
        let id = self.holders.remove(&slot)?;
        if let Some(held) = self.bounced.get_mut(&id) {
            held.slots -= 1;
        }
        Some((id, self.gone(id)))
    }

    /// A single buffer's unmapping: the mapping that ends with it. `None` when it has ended already, with its slot, or was
    /// mapped before the recording began.
    pub(super) fn end_single(&mut self, device: Identity, dma_addr: u64, size: u64) -> Option<MappingId> {
        let id = pop(&mut self.singles, &(device, dma_addr, size))?;
        self.end(id)
    }

    /// A list's unmapping, likewise.
    pub(super) fn end_list(&mut self, device: Identity, list: u64) -> Option<MappingId> {
        let id = pop(&mut self.lists, &(device, list))?;
        self.end(id)
    }

    fn end(&mut self, id: MappingId) -> Option<MappingId> {
        let Some(held) = self.bounced.get_mut(&id) else { return Some(id) };
        held.event_seen = true;
        self.gone(id).then_some(id)
    }

    /// Notes a bounced mapping's end; whether this is the first that is heard of it.
    fn gone(&mut self, id: MappingId) -> bool {
        let Some(held) = self.bounced.get_mut(&id) else { return false };
        let first = !held.gone;
        held.gone = true;
        if held.slots == 0 && held.event_seen {
            self.bounced.remove(&id);
        }
        first
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.singles.is_empty() && self.lists.is_empty() && self.holders.is_empty() && self.bounced.is_empty()
    }
}

fn pop<K: Eq + Hash>(map: &mut HashMap<K, Vec<MappingId>>, key: &K) -> Option<MappingId> {
    let ids = map.get_mut(key)?;
    let id = ids.pop();
    if ids.is_empty() {
        map.remove(key);
    }
    id
}
