//! Coherent memory of devices with a restricted pool, which takes slots of that pool (`swiotlb_alloc()`, `kernel/dma/swiotlb.c`). No policy changes
//! how much of it a device asks for.

use std::collections::BTreeMap;

use bouncescope_model::pool::{Request, SLOT};
use hashbrown::HashMap;

use super::follow::Taker;
use super::held::{Search, Slots};
use super::{Devices, Identity, Overlap, Run};
use crate::holders::Who;
use crate::names::Names;
use crate::outcome::CoherentRow;
use crate::site::SiteId;
use crate::step::Coherent;

/// Pieces of coherent memory that are followed: those of a pool of 64 MiB that are all of one page.
const MOST: usize = 1 << 14;

/// What a device does with coherent memory.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    pool: usize,
    allocated: u64,
    given_back: u64,
    refused: u64,
    slots: u64,
    peak_slots: u64,
}

/// The coherent memory that is in use, and whose.
#[derive(Clone, Debug, Default)]
pub(super) struct CoherentMemory {
    held: HashMap<u64, Slots>,
    by_device: BTreeMap<Identity, Use>,
    /// Slots by pool.
    by_pool: Vec<u64>,
}

impl CoherentMemory {
    /// Slots of such memory that was allocated while it was looked.
    pub(super) fn holders(&self) -> impl Iterator<Item = (Who, u64)> {
        self.held.values().map(|slots| (slots.who, slots.held.slots()))
    }

    /// Slots of such memory in one pool.
    pub(super) fn slots_in(&self, pool: usize) -> u64 {
        self.by_pool.get(pool).copied().unwrap_or(0)
    }

    /// Slots are held from now on.
    pub(super) fn hold(&mut self, id: u64, slots: Slots) {
        let used = self.by_device.entry(slots.who.device).or_default();
        used.pool = slots.pool as usize;
        used.allocated += 1;
        used.slots += slots.held.slots();
        used.peak_slots = used.peak_slots.max(used.slots);
        if self.by_pool.len() <= used.pool {
            self.by_pool.resize(used.pool + 1, 0);
        }
        self.by_pool[used.pool] += slots.held.slots();
        self.held.insert(id, slots);
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Slots> {
        let slots = self.held.remove(&id)?;
        let used = self.by_device.entry(slots.who.device).or_default();
        used.given_back += 1;
        used.slots = used.slots.saturating_sub(slots.held.slots());
        if let Some(in_pool) = self.by_pool.get_mut(slots.pool as usize) {
            *in_pool = in_pool.saturating_sub(slots.held.slots());
        }
        Some(slots)
    }

    /// By device, most slots first; `pool` names a pool.
    pub(super) fn rows(&self, names: Names, pool: impl Fn(usize) -> String) -> Vec<CoherentRow> {
        let mut rows: Vec<_> = self
            .by_device
            .iter()
            .map(|(device, used)| {
                let (device, driver) = names.devices.name_and_driver(*device);
                CoherentRow {
                    device,
                    driver,
                    pool: pool(used.pool),
                    allocated: used.allocated,
                    given_back: used.given_back,
                    refused: used.refused,
                    peak_slots: used.peak_slots,
                    slots_at_end: used.slots,
                }
            })
            .collect();
        rows.sort_by(|a, b| b.peak_slots.cmp(&a.peak_slots).then_with(|| a.device.cmp(&b.device)));
        rows
    }
}

impl Run {
    /// A device is given coherent memory, or would be.
    pub(super) fn take_coherent(&mut self, memory: &Coherent, overlap: Overlap, devices: &Devices) {
        let taken = self.kernel.device(memory.device, devices).unwrap_or_default();
        if taken.own_pool.is_none() || self.coherent.held.len() >= MOST {
            return;
        }
        let device = devices.identity(memory.device);
        let pool = self.pool_of(device, taken);
        // What the recorded kernel refused is never given back: nobody knows for how long it would have been kept.
        if !memory.found {
            self.refuse_coherent(device, pool);
            return;
        }
        let request = Request {
            cpu: u32::from(memory.cpu),
            phys: 0,
            size: memory.size,
            align_mask: 0,
            min_align_mask: taken.traits.min_align_mask,
            is_memory: true,
        };
        let who = Who { since_ns: memory.time_ns, device, site: SiteId::COHERENT };
        let search = Search { pool, request, who };
        match self.search(&search) {
            Ok(slots) => {
                self.coherent.hold(memory.id, slots);
                self.note_peak(&search, memory.time_ns, overlap);
            }
            Err(_) if self.follows => {
                self.owe(Taker::Coherent(memory.id), search);
                self.note_mark(pool, overlap);
            }
            Err(_) => self.refuse_coherent(device, pool),
        }
    }

    fn refuse_coherent(&mut self, device: Identity, pool: usize) {
        let used = self.coherent.by_device.entry(device).or_default();
        used.pool = pool;
        used.refused += 1;
        self.outcome.coherent_refused += 1;
    }
}

/// Slots of coherent memory of this length, which is that of whole pages when it is allocated (`dma_direct_alloc()`), and the driver's own when it
/// is given back (`dma_direct_free()`, `kernel/dma/direct.c`, 6.12).
pub(crate) fn slots_of(size: u64, page_size: u64) -> u64 {
    size.checked_next_multiple_of(page_size.max(SLOT)).unwrap_or(u64::MAX).div_ceil(SLOT)
}
