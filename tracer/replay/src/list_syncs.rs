//! Syncs of scatterlists, counted by list. A sync is about all segments of the list (`dma_sync_sg_for_cpu()`, `kernel/dma/mapping.c`),
//! so that many of them are one look at each segment. A look for each sync would take time that grows with the product of both.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    devices::Identity,
    mapping::Mapping,
    step::{Synced, sync_copies},
};

/// Segments of the lists that are counted at one time: more than can be mapped at one time, so that room is made only for lists that are no
/// longer mapped.
const MOST_SEGMENTS: usize = 1 << 18;

/// The syncs of one list.
#[derive(Clone, Debug)]
pub(super) struct ListSyncs {
    /// The list.
    pub(super) mapping: Arc<Mapping>,
    /// Its device.
    pub(super) device: Identity,
    /// Syncs for the CPU.
    pub(super) for_cpu: u64,
    /// Syncs for the device.
    pub(super) for_device: u64,
}

impl ListSyncs {
    /// Those that copy what is bounced.
    pub(super) fn copies(&self) -> u64 {
        let of = |for_device, count| if sync_copies(self.mapping.direction, for_device) { count } else { 0 };
        of(false, self.for_cpu) + of(true, self.for_device)
    }
}

/// The syncs of all lists.
#[derive(Clone, Debug, Default)]
pub(super) struct AllListSyncs {
    lists: HashMap<u64, ListSyncs>,
    segments: usize,
}

impl AllListSyncs {
    /// Counts a sync of a list. Whether all have to be taken out, since there are too many.
    #[must_use]
    pub(super) fn count(&mut self, synced: &Synced, device: Identity) -> bool {
        let mapping = &synced.mapping;
        let list = self.lists.entry(mapping.id).or_insert_with(|| {
            self.segments += mapping.buffers.len();
            ListSyncs { mapping: Arc::clone(mapping), device, for_cpu: 0, for_device: 0 }
        });
        *(if synced.for_device { &mut list.for_device } else { &mut list.for_cpu }) += 1;
        self.segments > MOST_SEGMENTS
    }

    /// Takes out the syncs of one list.
    pub(super) fn take(&mut self, mapping: u64) -> Option<ListSyncs> {
        if self.lists.is_empty() {
            return None;
        }
        let list = self.lists.remove(&mapping)?;
        self.segments -= list.mapping.buffers.len();
        Some(list)
    }

    /// Takes out the syncs of all lists.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = ListSyncs> + use<> {
        self.segments = 0;
        std::mem::take(&mut self.lists).into_values()
    }
}
