//! Which mapping an unmapping is of, and whose slots are given back.

use std::{collections::HashMap, sync::Arc};

use crate::{
    event::MAPPING_ERROR,
    replay::{
        devices::{Devices, Identity},
        mapping::{Handle, Mapping},
        step::{Holder, Step, Unmapping},
    },
};

/// One DMA address is rarely mapped more than once at a time; this many without an unmapping are leaks of a lossy stream.
const MOST_OF_ONE_HANDLE: usize = 64;

/// What is mapped at this moment.
#[derive(Debug, Default)]
pub(super) struct Lifetimes {
    mapped: HashMap<(Identity, Handle), Vec<Arc<Mapping>>>,
    slots: HashMap<u64, Holder>,
    /// Releases of slots are recorded, so that it is worth remembering whose they are.
    slots_released: bool,
}

impl Lifetimes {
    pub(super) fn new(slots_released: bool) -> Self {
        Self { slots_released, ..Self::default() }
    }

    /// Completes a step with what came before it. To be called in the order of the steps.
    pub(super) fn resolve(&mut self, step: &mut Step, devices: &Devices) {
        match step {
            Step::Buffer { mapping, index, replaces } => {
                if let Some(slot) = mapping.buffers[*index as usize].truth.slot() {
                    *replaces = self.hold(slot, || Holder::Buffer(Arc::clone(mapping), *index));
                }
            }
            Step::Mapped { mapping, replaces } if !mapping.failed => {
                let mapped = self.mapped.entry((devices.identity(mapping.device), mapping.handle)).or_default();
                // A list is mapped once at a time: its entries hold the DMA addresses.
                if (mapping.is_list() || mapped.len() == MOST_OF_ONE_HANDLE) && !mapped.is_empty() {
                    *replaces = Some(mapped.remove(0));
                }
                mapped.push(Arc::clone(mapping));
            }
            Step::Mapped { .. } => {}
            Step::Unseen(unseen) => {
                if let Some(slot) = unseen.slot {
                    // Whoever held it before is gone as well; that is settled when its unmapping comes.
                    self.hold(slot, || Holder::Unseen(unseen.id));
                }
            }
            Step::SlotReleased(release) => release.holder = self.slots.remove(&release.slot),
            Step::Unmapped(unmapping) => unmapping.mapping = self.unmap(unmapping, devices),
        }
    }

    fn hold(&mut self, slot: u64, holder: impl FnOnce() -> Holder) -> Option<Holder> {
        if !self.slots_released || slot == MAPPING_ERROR {
            return None;
        }
        self.slots.insert(slot, holder())
    }

    /// The oldest mapping of the same length and direction, else the oldest. The same buffer may be mapped more than
    /// once, and an unmapping's event may come after the address was given out again.
    fn unmap(&mut self, unmapping: &Unmapping, devices: &Devices) -> Option<Arc<Mapping>> {
        let key = (devices.identity(unmapping.device), unmapping.handle);
        let mapped = self.mapped.get_mut(&key)?;
        let same = |mapping: &Arc<Mapping>| {
            mapping.direction == unmapping.direction
                && (mapping.is_list() || mapping.buffers.iter().all(|buffer| buffer.size == unmapping.size))
        };
        let mapping = mapped.remove(mapped.iter().position(same).unwrap_or(0));
        if mapped.is_empty() {
            self.mapped.remove(&key);
        }
        Some(mapping)
    }
}
