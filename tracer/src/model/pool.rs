//! The default swiotlb pool of a fixed size: areas, segments, alignment, and who gets which slot.
//!
//! Mirrors `swiotlb_tbl_map_single()`, `swiotlb_search_pool_area()` and `swiotlb_release_slots()` in
//! `kernel/dma/swiotlb.c` as of 6.12; for 6.8 and before ([`SlotRule::CallerAligned`]) the number of slots of a mapping is
//! as there, their place as in 6.12. Addresses are offsets into the pool, whose beginning is taken to be aligned to any mask;
//! DMA segment boundaries (4 GiB by default) are taken not to lie inside it.

pub use crate::facts::SlotRule;

/// Size of a slot, bytes (`IO_TLB_SIZE`).
pub const SLOT: u64 = 2048;
/// Slots that a mapping must not reach beyond, and no more than which it can have (`IO_TLB_SEGSIZE`).
pub const SEGMENT_SLOTS: u32 = 128;

/// A pool's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Slots; 0 for no pool. Others than multiples of 128 are rounded down.
    pub slots: u64,
    /// Areas; rounded down to what divides the slots into whole segments.
    pub areas: u32,
    /// How a mapping's slots are counted.
    pub slot_rule: SlotRule,
    /// Page size, bytes.
    pub page_size: u64,
}

/// A buffer that needs slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The CPU that asks: its area is searched first.
    pub cpu: u32,
    /// Physical address of the buffer.
    pub phys: u64,
    /// Length, bytes.
    pub size: u64,
    /// `alloc_align_mask`: granule - 1 behind an IOMMU, else 0.
    pub align_mask: u64,
    /// The device's `min_align_mask`.
    pub min_align_mask: u64,
}

/// Slots held by a mapping, to be given back to the same pool.
#[derive(Debug, PartialEq, Eq)]
pub struct Bounce {
    first: u32,
    slots: u32,
    offset: u64,
}

impl Bounce {
    /// Slots that it holds.
    pub fn slots(&self) -> u64 {
        u64::from(self.slots)
    }

    /// Where the buffer's bytes lie in the pool, bytes from its beginning.
    pub fn slot_addr(&self) -> u64 {
        u64::from(self.first) * SLOT + self.offset
    }
}

/// Why there are no slots. The kernel's message says "swiotlb buffer is full" for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// There is no pool.
    NoPool,
    /// More than a segment of 256 KiB: no pool, however large, has room for it.
    TooLarge,
    /// Fewer slots are free than it needs.
    Full,
    /// Enough slots are free, but not side by side where it needs them.
    Fragmented,
}

/// A pool.
#[derive(Clone, Debug)]
pub struct Pool {
    config: PoolConfig,
    area_slots: u32,
    areas: Vec<Area>,
    /// For each slot, how many free ones begin there, up to the end of its segment; 0 when it is taken.
    free: Vec<u8>,
    used: u64,
    peak: u64,
    foreign: Vec<(u32, u32)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Area {
    /// Where the next search begins, slots from the area's beginning.
    index: u32,
    used: u32,
}

impl Pool {
    /// An empty pool.
    pub fn new(config: PoolConfig) -> Self {
        let segments = (config.slots / u64::from(SEGMENT_SLOTS)).min(u64::from(u32::MAX / SEGMENT_SLOTS)) as u32;
        let mut areas = config.areas.clamp(1, segments.max(1));
        while !segments.is_multiple_of(areas) {
            areas -= 1;
        }
        let slots = segments * SEGMENT_SLOTS;
        Self {
            config,
            area_slots: slots / areas,
            areas: vec![Area::default(); areas as usize],
            free: (0..slots).map(|slot| (SEGMENT_SLOTS - slot % SEGMENT_SLOTS) as u8).collect(),
            used: 0,
            peak: 0,
            foreign: Vec::new(),
        }
    }

    /// Slots in all.
    pub fn total_slots(&self) -> u64 {
        self.free.len() as u64
    }

    /// Slots in use.
    pub fn used_slots(&self) -> u64 {
        self.used
    }

    /// Most slots ever in use at once.
    pub fn peak_slots(&self) -> u64 {
        self.peak
    }

    /// Finds slots for a buffer: `swiotlb_tbl_map_single()`.
    pub fn map(&mut self, request: &Request) -> Result<Bounce, Refused> {
        if self.free.is_empty() {
            return Err(Refused::NoPool);
        }
        let slot_mask = SLOT - 1;
        let (offset, bytes) = match self.config.slot_rule {
            SlotRule::PoolAligned => {
                let offset = request.phys & request.min_align_mask & (request.align_mask | slot_mask);
                (offset, (request.size + offset).next_multiple_of(request.align_mask + 1))
            }
            SlotRule::CallerAligned => {
                let offset = request.phys & request.min_align_mask & slot_mask;
                (offset, request.size.next_multiple_of(request.align_mask + 1) + offset)
            }
        };
        let slots = bytes.div_ceil(SLOT).max(1);
        if slots > u64::from(SEGMENT_SLOTS) {
            return Err(Refused::TooLarge);
        }
        let slots = slots as u32;
        let areas = self.areas.len() as u32;
        // Areas are a power of two in the kernel, where this is a mask.
        let start = request.cpu % areas;
        for n in 0..areas {
            if let Some(first) = self.search_area((start + n) % areas, slots, bytes, request) {
                self.used += u64::from(slots);
                self.peak = self.peak.max(self.used);
                return Ok(Bounce { first, slots, offset });
            }
        }
        let free = self.total_slots() - self.used;
        Err(if free < u64::from(slots) { Refused::Full } else { Refused::Fragmented })
    }

    /// Gives slots back: `swiotlb_release_slots()`.
    pub fn unmap(&mut self, bounce: Bounce) {
        self.release(bounce.first, bounce.slots);
    }

    /// Takes slots that somebody held before anybody looked, each as a mapping of its own.
    pub fn occupy_foreign(&mut self, slots: u64) {
        for _ in 0..slots {
            let request = Request { cpu: 0, phys: 0, size: 1, align_mask: 0, min_align_mask: 0 };
            let Ok(bounce) = self.map(&request) else { return };
            self.foreign.push((bounce.first, bounce.slots));
        }
    }

    /// Gives back slots that [`Pool::occupy_foreign`] took; no more than it took.
    pub fn release_foreign(&mut self, slots: u64) {
        for _ in 0..slots {
            let Some((first, slots)) = self.foreign.pop() else { return };
            self.release(first, slots);
        }
    }

    /// `swiotlb_search_pool_area()`: the first slot, taken.
    fn search_area(&mut self, area: u32, slots: u32, bytes: u64, request: &Request) -> Option<u32> {
        if slots > self.area_slots - self.areas[area as usize].used {
            return None;
        }
        let mut align_mask = request.align_mask;
        // Mappings of a page and more are page-aligned where nothing else is asked for.
        if align_mask == 0 && request.min_align_mask == 0 && bytes >= self.config.page_size {
            align_mask = self.config.page_size - 1;
        }
        align_mask |= SLOT - 1;
        // What lies below is kept by the offset into the slot, and the slots in front.
        let keep_mask = request.min_align_mask & !align_mask;
        let stride = (align_mask.max(keep_mask) / SLOT + 1) as u32;
        let base = area * self.area_slots;
        let mut index = self.areas[area as usize].index;
        let mut checked = 0;
        while checked < self.area_slots {
            let addr = u64::from(base + index) * SLOT;
            let misplaced = request.phys != 0 && addr & keep_mask != request.phys & keep_mask;
            if addr & align_mask != 0 || misplaced {
                index = self.wrap(index + 1);
                checked += 1;
                continue;
            }
            if u32::from(self.free[(base + index) as usize]) >= slots {
                self.take(base + index, slots);
                let area = &mut self.areas[area as usize];
                area.used += slots;
                area.index = if index + slots >= self.area_slots { 0 } else { index + slots };
                return Some(base + index);
            }
            index = self.wrap(index + stride);
            checked += stride;
        }
        None
    }

    /// `wrap_area_index()`.
    fn wrap(&self, index: u32) -> u32 {
        if index >= self.area_slots { 0 } else { index }
    }

    fn take(&mut self, first: u32, slots: u32) {
        self.free[first as usize..(first + slots) as usize].fill(0);
        self.count_down_to(first, 0);
    }

    fn release(&mut self, first: u32, slots: u32) {
        let end = first + slots;
        let following = if end % SEGMENT_SLOTS == 0 { 0 } else { self.free[end as usize] };
        for (n, slot) in (first..end).rev().enumerate() {
            self.free[slot as usize] = following + n as u8 + 1;
        }
        self.count_down_to(first, self.free[first as usize]);
        self.areas[(first / self.area_slots) as usize].used -= slots;
        self.used -= u64::from(slots);
    }

    /// Recounts the free slots in front of `slot`, at which `free` begin, back to the last taken one of the segment.
    fn count_down_to(&mut self, slot: u32, mut free: u8) {
        for before in (slot - slot % SEGMENT_SLOTS..slot).rev() {
            if self.free[before as usize] == 0 {
                break;
            }
            free += 1;
            self.free[before as usize] = free;
        }
    }
}

/// The pool that a kernel of 6.1 and later makes of `swiotlb=requested` on a machine with so many possible CPUs: slots and
/// areas. `setup_io_tlb_npages()`, `swiotlb_adjust_nareas()` and `limit_nareas()`.
pub fn rounded_slots(requested: u64, possible_cpus: u32) -> (u64, u32) {
    let segment = u64::from(SEGMENT_SLOTS);
    let areas = possible_cpus.max(1).next_power_of_two();
    let slots = requested.max(1).next_multiple_of(segment).max(segment * u64::from(areas)).next_power_of_two();
    (slots, areas)
}

#[cfg(test)]
mod tests;
