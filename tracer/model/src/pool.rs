//! The default swiotlb pool of a fixed size: areas, segments, and who gets which slot.
//!
//! Mirrors `swiotlb_find_slots()`, `swiotlb_search_pool_area()` and `swiotlb_release_slots()` in `kernel/dma/swiotlb.c` as
//! of 6.12. For 6.8 and before ([`SlotRule::CallerAligned`]) the number of slots of a mapping is as there, their place as
//! in 6.12. Addresses are offsets into the pool, whose beginning is taken to be aligned to any mask; DMA segment boundaries
//! (4 GiB by default) are taken not to lie inside it. Pools that grow are made of such ones: [`Growing`].

mod boot;
mod demand;
mod growing;
mod parameter;

pub use self::boot::{Asked, Boot, ByDefault, DEFAULT_SLOTS, Made};
pub use self::boot::{MAX_CPUS, MAX_SLOTS};
use self::demand::Demand;
pub use self::growing::{Growing, Held, WORKER_NS};
pub use self::parameter::PoolParameter;

use serde::{Deserialize, Serialize};

/// Size of a slot, bytes (`IO_TLB_SIZE`).
pub const SLOT: u64 = 2048;
/// Slots that a mapping must not reach beyond, and no more than which it can have (`IO_TLB_SEGSIZE`).
pub const SEGMENT_SLOTS: u32 = 128;

/// How `swiotlb_tbl_map_single()` counts the slots of a mapping; a property of the source, found by the function's
/// arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SlotRule {
    /// 5.10 to 6.8: the caller rounds the length up, offsets are below one slot.
    CallerAligned,
    /// 6.10 on: the pool rounds up itself, and pads by whole slots in front.
    #[default]
    PoolAligned,
}

/// A pool's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Slots; 0 for no pool.
    pub slots: u64,
    /// Areas, a power of two; fewer are made where they would be smaller than a segment (`limit_nareas()`).
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
    /// It is no buffer but coherent memory, of whole pages: `swiotlb_alloc()`.
    pub is_memory: bool,
}

impl Request {
    /// Slots that it takes, padding included; `None` for what no segment has room for.
    pub fn slots(&self, rule: SlotRule, page_size: u64) -> Option<u32> {
        Demand::new(self, rule, page_size).map(|demand| demand.slots)
    }
}

/// How a pool may be used, where neither the number of slots in use nor their place is known for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Slots in use, at least.
    pub least: u64,
    /// Slots in use, at most.
    pub most: u64,
    /// All of them lie in runs of so many or a multiple, each at a multiple of it; a power of two.
    pub unit: u32,
}

/// What may become of a search for slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possible {
    /// It may find some.
    pub found: bool,
    /// It may find none.
    pub refused: bool,
}

/// Slots held by a mapping, to be given back to the same pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounce {
    first: u32,
    slots: u32,
    /// Below the size of a segment.
    offset: u32,
}

impl Bounce {
    /// Slots that it holds, padding included.
    pub fn slots(&self) -> u64 {
        u64::from(self.slots)
    }

    /// Where the buffer's bytes lie in the pool, bytes from its beginning.
    pub fn slot_addr(&self) -> u64 {
        u64::from(self.first) * SLOT + u64::from(self.offset)
    }
}

/// Why there are no slots. The kernel's message says "swiotlb buffer is full" for `TooLarge`, `Full` and `Fragmented`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// There is no pool.
    NoPool,
    /// There is none, and the device cannot reach the buffer.
    Unreachable,
    /// The mapping's attributes forbid that it bounces; the pool was not asked.
    Forbidden,
    /// More than a segment of 256 KiB, or than an area: an empty pool has no room for it either.
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
    slots: u32,
    area_slots: u32,
    areas: Vec<Area>,
    /// Of each segment, a bit for each slot that is taken, and for those beyond the pool's end. The kernel keeps for each slot how many free
    /// ones begin there (`io_tlb_slot.list`); that is how many zeros do.
    taken: Vec<u128>,
    /// Of each segment, no fewer than the longest run of free slots in it: exact after a search in vain, until slots are given back.
    longest: Vec<u8>,
    /// Slots and segments that searches have looked at.
    visits: u64,
    used: u64,
    peak: u64,
    /// Slots held from before, one by one in turn from each area's beginning on.
    foreign: u64,
    /// The runs in which they lie.
    foreign_unit: u32,
    /// Slots held from before that this pool had no room for.
    foreign_without_room: u64,
}

/// `struct io_tlb_area`, and what a search in vain has shown.
#[derive(Clone, Copy, Debug)]
struct Area {
    /// Where the next search begins, slots from the area's beginning.
    index: u32,
    used: u32,
    /// No fewer than the longest run of free slots.
    longest: u8,
    /// What was last searched for in vain from this index on, with no slots given back since.
    in_vain: Option<Demand>,
}

impl Default for Area {
    fn default() -> Self {
        Self { index: 0, used: 0, longest: SEGMENT_SLOTS as u8, in_vain: None }
    }
}

impl Pool {
    /// An empty pool: `swiotlb_init_io_tlb_pool()`.
    pub fn new(config: PoolConfig) -> Self {
        let slots = config.slots.min(MAX_SLOTS) as u32;
        let areas = config.areas.min(slots / SEGMENT_SLOTS).max(1);
        let mut taken = vec![0; slots.div_ceil(SEGMENT_SLOTS) as usize];
        if let Some(last) = taken.last_mut().filter(|_| !slots.is_multiple_of(SEGMENT_SLOTS)) {
            *last = u128::MAX << (slots % SEGMENT_SLOTS);
        }
        Self {
            config,
            slots,
            area_slots: slots / areas,
            areas: vec![Area::default(); areas as usize],
            taken,
            longest: vec![SEGMENT_SLOTS as u8; slots.div_ceil(SEGMENT_SLOTS) as usize],
            visits: 0,
            used: 0,
            peak: 0,
            foreign: 0,
            foreign_unit: 1,
            foreign_without_room: 0,
        }
    }

    /// Slots in all (`io_tlb_nslabs`).
    pub fn total_slots(&self) -> u64 {
        u64::from(self.slots)
    }

    /// How many free slots begin at this one, up to the end of its segment; 0 when it is taken. The pool may end within a segment.
    fn free(&self, slot: u32) -> u32 {
        let nth = slot % SEGMENT_SLOTS;
        (self.taken[(slot / SEGMENT_SLOTS) as usize] >> nth).trailing_zeros().min(SEGMENT_SLOTS - nth)
    }

    /// How many free slots end before this one, down to the beginning of its segment.
    fn free_before(&self, slot: u32) -> u32 {
        let nth = slot % SEGMENT_SLOTS;
        let taken = self.taken[(slot / SEGMENT_SLOTS) as usize];
        taken.checked_shl(SEGMENT_SLOTS - nth).unwrap_or(0).leading_zeros().min(nth)
    }

    /// Slots in use (`io_tlb_used`).
    pub fn used_slots(&self) -> u64 {
        self.used
    }

    /// Most slots in use after any mapping (`io_tlb_used_hiwater`, reset at the beginning): slots held from before count
    /// together with a mapping's, and not before there was one.
    pub fn peak_slots(&self) -> u64 {
        self.peak
    }

    /// Finds slots for a buffer: `swiotlb_tbl_map_single()`.
    pub fn map(&mut self, request: &Request) -> Result<Bounce, Refused> {
        let demand = self.demand(request)?;
        self.map_demand(request.cpu, &demand)
    }

    /// The same of what it comes to: `swiotlb_find_slots()`.
    fn map_demand(&mut self, cpu: u32, demand: &Demand) -> Result<Bounce, Refused> {
        let areas = (0..self.areas.len() as u32).map(|nth| cpu.wrapping_add(nth));
        let found = areas.into_iter().find_map(|area| self.find_in(area, demand));
        self.peak = self.peak.max(self.used);
        found.ok_or_else(|| self.why_not(demand))
    }

    /// Finds slots in the area that is the `nth` to be searched from the request's CPU on, if there are so many: `swiotlb_search_area()`.
    fn map_in(&mut self, cpu: u32, demand: &Demand, nth: u32) -> Option<Bounce> {
        if nth as usize >= self.areas.len() || demand.slots > self.area_slots {
            return None;
        }
        let bounce = self.find_in(cpu.wrapping_add(nth), demand)?;
        self.peak = self.peak.max(self.used);
        Some(bounce)
    }

    /// Gives slots back: `swiotlb_release_slots()`.
    #[expect(clippy::needless_pass_by_value, reason = "who has given slots back holds them no longer")]
    pub fn unmap(&mut self, bounce: Bounce) {
        self.release(&bounce);
    }

    /// Takes slots that were held before anybody looked, as far as there is room: in runs of [`Pool::foreign_unit`], spread over
    /// the areas as if all CPUs had mapped alike, for nobody knows where they really are. For a pool of which nothing is used.
    pub fn occupy_foreign(&mut self, slots: u64) {
        let areas = self.areas.len() as u32;
        let room = if self.used == 0 { u64::from(self.area_slots) * u64::from(areas) } else { 0 };
        self.foreign = slots.min(room);
        self.foreign_without_room = slots - self.foreign;
        self.foreign_unit = self.foreign_unit(self.foreign);
        let (runs, areas) = (self.foreign / u64::from(self.foreign_unit), u64::from(areas));
        for area in 0..areas {
            let used = (runs / areas + u64::from(area < runs % areas)) as u32 * self.foreign_unit;
            if used > 0 {
                self.take(area as u32 * self.area_slots, used);
                self.areas[area as usize] = Area { index: used % self.area_slots, used, ..Area::default() };
            }
        }
        self.used += self.foreign;
    }

    /// In which runs slots are taken to lie that were held before anybody looked, as in [`Usage`]: behind an IOMMU a mapping takes whole
    /// pages. As far as their number and an area's allow that.
    pub fn foreign_unit(&self, slots: u64) -> u32 {
        let page = (self.config.page_size / SLOT).max(1).trailing_zeros();
        1 << slots.trailing_zeros().min(page).min(self.area_slots.trailing_zeros())
    }

    /// Gives back slots that [`Pool::occupy_foreign`] was told of, no more; first those for which there was no room, so that
    /// a pool too small for what it began with does not look better than it is.
    pub fn release_foreign(&mut self, slots: u64) {
        let without_room = slots.min(self.foreign_without_room);
        self.foreign_without_room -= without_room;
        for _ in 0..(slots - without_room).min(self.foreign) {
            self.foreign -= 1;
            let (areas, unit) = (self.areas.len() as u64, u64::from(self.foreign_unit));
            let (run, within) = (self.foreign / unit, self.foreign % unit);
            let (area, nth) = ((run % areas) as u32, (run / areas * unit + within) as u32);
            self.release(&Bounce { first: area * self.area_slots + nth, slots: 1, offset: 0 });
        }
    }

    fn demand(&self, request: &Request) -> Result<Demand, Refused> {
        if self.slots == 0 {
            return Err(Refused::NoPool);
        }
        Demand::new(request, self.config.slot_rule, self.config.page_size)
            .filter(|demand| demand.slots <= self.area_slots)
            .ok_or(Refused::TooLarge)
    }

    /// Looks into one area, counted on beyond the last one (a mask in the kernel, where areas are a power of two).
    fn find_in(&mut self, area: u32, demand: &Demand) -> Option<Bounce> {
        let first = self.search_area(area % self.areas.len() as u32, demand)?;
        self.used += u64::from(demand.slots);
        Some(Bounce { first, slots: demand.slots, offset: demand.offset as u32 })
    }

    fn why_not(&self, demand: &Demand) -> Refused {
        let free = self.total_slots() - self.used;
        if free < u64::from(demand.slots) { Refused::Full } else { Refused::Fragmented }
    }

    /// What may become of a search under any such usage.
    pub fn possible(&self, request: &Request, usage: Usage) -> Possible {
        let Ok(demand) = self.demand(request) else { return Possible { found: false, refused: true } };
        let slots = u64::from(demand.slots);
        // It finds none if there is something in each of the places for it that do not overlap.
        let place = demand.slots.next_multiple_of(demand.stride.max(1)).min(SEGMENT_SLOTS);
        let places = self.total_slots() / u64::from(SEGMENT_SLOTS) * u64::from(SEGMENT_SLOTS / place);
        let blocked = usage.most.min(self.total_slots()) / u64::from(usage.unit.clamp(1, place));
        Possible { found: usage.least + slots <= self.total_slots(), refused: blocked >= places }
    }

    /// The largest unit, as in [`Usage`], that the slots for this request keep to as well as those before it, whose is `unit`.
    pub fn unit_with(&self, request: &Request, unit: u32) -> u32 {
        if unit == 1 {
            return 1;
        }
        let of =
            |demand: Demand| 1 << (demand.slots | demand.stride).trailing_zeros().min(SEGMENT_SLOTS.trailing_zeros());
        self.demand(request).map_or(unit, |demand| unit.min(of(demand)))
    }

    /// Slots and segments that searches have looked at so far: what they cost.
    pub(super) fn visits(&self) -> u64 {
        self.visits
    }

    /// `swiotlb_search_pool_area()`: the first slot, taken. The slots that the kernel looks at one by one are passed over a segment at a
    /// time where no run in the segment is long enough; which slot is found does not change.
    fn search_area(&mut self, area: u32, demand: &Demand) -> Option<u32> {
        self.visits += 1;
        let (area_slots, base) = (self.area_slots, area * self.area_slots);
        let wrap = |index| if index >= area_slots { 0 } else { index };
        let Area { mut index, used, longest, in_vain } = self.areas[area as usize];
        if demand.slots > area_slots.saturating_sub(used) || demand.slots > u32::from(longest) {
            return None;
        }
        if in_vain.is_some_and(|before| before.is_met_by_the_same(demand)) {
            return None;
        }
        let mut checked = 0;
        while checked < area_slots {
            self.visits += 1;
            let slot = base + index;
            let segment = slot / SEGMENT_SLOTS;
            let end = ((segment + 1) * SEGMENT_SLOTS).min(base + area_slots);
            let is_short = u32::from(self.longest[segment as usize]) < demand.slots;
            if is_short && let Some(next) = demand.next_look(slot, end) {
                checked += next - slot;
                index = wrap(next - base);
                continue;
            }
            let step = if !demand.allows(u64::from(slot) * SLOT) {
                1
            } else if self.free(slot) < demand.slots {
                demand.stride
            } else {
                self.take(slot, demand.slots);
                let area = &mut self.areas[area as usize];
                (area.index, area.used, area.in_vain) = (wrap(index + demand.slots), used + demand.slots, None);
                return Some(slot);
            };
            if slot + step >= end {
                self.longest[segment as usize] = self.longest_in(segment);
            }
            index = wrap(index + step);
            checked += step;
        }
        let segments = base / SEGMENT_SLOTS..=(base + area_slots - 1) / SEGMENT_SLOTS;
        let longest = segments.map(|segment| self.longest[segment as usize]).max().unwrap_or(0);
        let area = &mut self.areas[area as usize];
        (area.longest, area.in_vain) = (longest, Some(*demand));
        None
    }

    /// The longest run of free slots in a segment.
    fn longest_in(&self, segment: u32) -> u8 {
        let mut free = !self.taken[segment as usize];
        let mut longest = 0;
        while free != 0 {
            free >>= free.trailing_zeros();
            let run = free.trailing_ones();
            longest = longest.max(run);
            free = free.checked_shr(run).unwrap_or(0);
        }
        longest as u8
    }

    /// So many free slots are side by side in a segment now.
    fn lengthen(&mut self, segment: u32, run: u8) {
        let longest = &mut self.longest[segment as usize];
        *longest = run.max(*longest);
        // A segment lies in two areas where the number of slots is no power of two.
        let last = self.areas.len() as u32 - 1;
        let areas = segment * SEGMENT_SLOTS / self.area_slots
            ..=(((segment + 1) * SEGMENT_SLOTS - 1) / self.area_slots).min(last);
        for area in areas {
            let area = &mut self.areas[area as usize];
            (area.longest, area.in_vain) = (run.max(area.longest), None);
        }
    }

    /// The bits of so many slots from `first` on, by segment.
    fn bits(first: u32, slots: u32) -> impl Iterator<Item = (usize, u128)> {
        let end = first + slots;
        (first / SEGMENT_SLOTS..end.div_ceil(SEGMENT_SLOTS)).map(move |segment| {
            let begin = segment * SEGMENT_SLOTS;
            let (from, to) = (first.max(begin) - begin, end.min(begin + SEGMENT_SLOTS) - begin);
            (segment as usize, u128::MAX >> (SEGMENT_SLOTS - (to - from)) << from)
        })
    }

    fn take(&mut self, first: u32, slots: u32) {
        for (segment, bits) in Self::bits(first, slots) {
            self.taken[segment] |= bits;
        }
    }

    fn release(&mut self, bounce: &Bounce) {
        let &Bounce { first, slots, .. } = bounce;
        for (segment, bits) in Self::bits(first, slots) {
            self.taken[segment] &= !bits;
        }
        let run = self.free_before(first) + self.free(first);
        self.lengthen(first / SEGMENT_SLOTS, run as u8);
        self.areas[(first / self.area_slots) as usize].used -= slots;
        self.used -= u64::from(slots);
    }
}

#[cfg(test)]
mod tests;
