//! Which mapping an unmapping or a handing over is of, and whose slots are given back. Only of mappings that are followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::{
    devices::Identity,
    mapping::{Handle, Mapping},
    spread::spread,
    step::{Holder, Step},
};
use bouncescope_capture::event::{Direction, MAPPING_ERROR};
use bouncescope_capture::limits::MOST_MAPPED;

/// One DMA address is rarely mapped more than once at a time; this many without an unmapping are leaks of a lossy stream.
const MOST_OF_ONE_HANDLE: usize = 64;

/// There are two to the power of this many different [`nearly`].
const KEY_BITS: u32 = 11;

/// A number that few handles share.
#[inline]
fn nearly(identity: Identity, handle: Handle) -> usize {
    let (Handle::Single(address) | Handle::List(address) | Handle::Link(address)) = handle;
    let parts = address ^ u64::from(identity.0) << 52;
    spread(parts, KEY_BITS)
}

/// What is mapped at this moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifetimes {
    mapped: HashMap<(Identity, Handle), Vec<Arc<Mapping>>>,
    /// How many of their keys have each [`nearly`]: with none there is nothing to look up. Empty before the first.
    keys: Vec<u32>,
    /// Where single mappings begin, for parts of them.
    starts: BTreeMap<(Identity, u64), u32>,
    /// Linked buffers, by the DMA address that they begin at.
    links: BTreeMap<(Identity, u64), Arc<Mapping>>,
    slots: HashMap<u64, Holder>,
    /// Releases of slots are recorded, so that it is worth remembering whose they are.
    slots_released: bool,
    /// Buffers of what is mapped.
    buffers: usize,
}

impl Lifetimes {
    pub(super) fn new(slots_released: bool) -> Self {
        Self { slots_released, ..Self::default() }
    }

    /// Whether anything that is followed may be mapped by this handle; mostly not, and that is quickly told.
    #[inline]
    fn may_hold(&self, identity: Identity, handle: Handle) -> bool {
        self.keys.get(nearly(identity, handle)).is_some_and(|keys| *keys > 0)
    }

    fn forget(&mut self, identity: Identity, handle: Handle) -> Option<Vec<Arc<Mapping>>> {
        let mapped = self.mapped.remove(&(identity, handle))?;
        self.buffers -= mapped.iter().map(|mapping| mapping.buffers.len()).sum::<usize>();
        self.keys[nearly(identity, handle)] -= 1;
        Some(mapped)
    }

    /// Whether there is room for another mapping of so many buffers.
    pub(super) fn has_room(&self, buffers: usize) -> bool {
        self.buffers + buffers <= MOST_MAPPED
    }

    /// A mapping begins, unless it failed. The list of the same handle whose unmapping has not been seen.
    pub(super) fn mapped(&mut self, mapping: &Arc<Mapping>, identity: Identity) -> Option<Arc<Mapping>> {
        if mapping.failed {
            return None;
        }
        if let Handle::Link(start) = mapping.handle {
            let replaced = self.links.insert((identity, start), Arc::clone(mapping));
            self.buffers += mapping.buffers.len();
            self.buffers -= replaced.as_ref().map_or(0, |replaced| replaced.buffers.len());
            return replaced;
        }
        self.keys.resize(1 << KEY_BITS, 0);
        let mapped = self.mapped.entry((identity, mapping.handle)).or_insert_with(|| {
            self.keys[nearly(identity, mapping.handle)] += 1;
            Vec::new()
        });
        // A list is mapped once at a time: its entries hold the DMA addresses.
        let full = (mapping.is_list() || mapped.len() == MOST_OF_ONE_HANDLE) && !mapped.is_empty();
        let replaced = full.then(|| mapped.remove(0));
        mapped.push(Arc::clone(mapping));
        self.buffers += mapping.buffers.len();
        self.buffers -= replaced.as_ref().map_or(0, |replaced| replaced.buffers.len());
        if let (Handle::Single(start), None) = (mapping.handle, &replaced) {
            *self.starts.entry((identity, start)).or_default() += 1;
        }
        replaced
    }

    /// A list that is not followed was mapped: what was mapped by its handle, which is so no more.
    pub(super) fn forget_list(&mut self, identity: Identity, list: u64) -> Option<Arc<Mapping>> {
        let handle = Handle::List(list);
        // A list is mapped once at a time.
        self.may_hold(identity, handle).then(|| self.forget(identity, handle)?.pop()).flatten()
    }

    /// One of the linked buffers in a range of DMA addresses, which is so no more; `None` after the last. The kernel unlinks buffers as
    /// they were linked, or many at once (`dma_iova_unlink()`, `drivers/iommu/dma-iommu.c`).
    pub(super) fn unlinked(&mut self, identity: Identity, start: u64, size: u64) -> Option<Arc<Mapping>> {
        let last = start.saturating_add(size.checked_sub(1)?);
        let (&(of, at), mapping) = self.links.range((identity, 0)..=(identity, last)).next_back()?;
        if at.saturating_add(mapping.bytes) <= start {
            return None;
        }
        let mapping = self.links.remove(&(of, at))?;
        self.buffers -= mapping.buffers.len();
        Some(mapping)
    }

    /// The oldest mapping of the same length and direction is unmapped. The same buffer may be mapped more than once, and
    /// an unmapping's event may come after the address was given out again. One of another length is of another mapping,
    /// which is not followed: the kernel takes only the lengths back that it gave (`check_unmap()` in `kernel/dma/debug.c`).
    pub(super) fn unmapped(
        &mut self,
        identity: Identity,
        handle: Handle,
        size: u64,
        direction: Direction,
    ) -> Option<Arc<Mapping>> {
        if !self.may_hold(identity, handle) {
            return None;
        }
        let mapped = self.mapped.get_mut(&(identity, handle))?;
        let same = |mapping: &Arc<Mapping>| {
            mapping.is_list() || mapping.direction == direction && mapping.buffers.iter().all(|one| one.size == size)
        };
        let mapping = mapped.remove(mapped.iter().position(same)?);
        self.buffers -= mapping.buffers.len();
        if mapped.is_empty() {
            self.forget(identity, handle);
        }
        if let Handle::Single(start) = handle
            && let Some(count) = self.starts.get_mut(&(identity, start))
        {
            *count -= 1;
            if *count == 0 {
                self.starts.remove(&(identity, start));
            }
        }
        Some(mapping)
    }

    /// The single mapping that this DMA address lies in, and how far.
    pub(super) fn part(&self, identity: Identity, dma_addr: u64) -> Option<(Arc<Mapping>, u64)> {
        let (&(_, start), _) = self.starts.range((identity, 0)..=(identity, dma_addr)).next_back()?;
        let at = dma_addr - start;
        let mapped = self.mapped.get(&(identity, Handle::Single(start)))?;
        let inside = mapped.iter().rev().find(|mapping| at < mapping.buffers.iter().map(|one| one.size).sum())?;
        Some((Arc::clone(inside), at))
    }

    /// The list of this address.
    pub(super) fn list(&self, identity: Identity, list: u64) -> Option<(Arc<Mapping>, u64)> {
        let mapped = self.mapped.get(&(identity, Handle::List(list)))?.last()?;
        Some((Arc::clone(mapped), 0))
    }

    /// Completes a step with whose slots it is about. To be called in the order of the steps.
    pub(super) fn resolve(&mut self, step: &mut Step) {
        match step {
            Step::Buffer { mapping, index, replaces, .. } => {
                if let Some(slot) = mapping.buffers[*index as usize].truth.slot() {
                    *replaces = self.hold(slot, || Holder::Buffer(Arc::clone(mapping), *index));
                }
            }
            Step::Unseen(unseen) => {
                if let Some(slot) = unseen.slot {
                    // Whoever held it before is gone as well; that is settled when its unmapping comes.
                    self.hold(slot, || Holder::Unseen(unseen.id));
                }
            }
            Step::Coherent { memory, replaces, .. } => {
                *replaces = self.hold(memory.slot, || Holder::Coherent(memory.id));
            }
            Step::SlotReleased(release) => release.holder = self.slots.remove(&release.slot),
            Step::Mapped { .. }
            | Step::Synced(_)
            | Step::Unmapped(_)
            | Step::Forgotten { .. }
            | Step::RefusedEnds { .. } => {}
        }
    }

    fn hold(&mut self, slot: u64, holder: impl FnOnce() -> Holder) -> Option<Holder> {
        if !self.slots_released || slot == MAPPING_ERROR {
            return None;
        }
        if self.slots.len() >= MOST_MAPPED && !self.slots.contains_key(&slot) {
            return None;
        }
        self.slots.insert(slot, holder())
    }
}
