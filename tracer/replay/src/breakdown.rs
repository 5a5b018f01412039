//! Counts by device, direction, size class and call site at once, and the rows that are made of them.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;
use tracer_ebpf::decide::size_roundup;

use super::devices::Identity;
use super::mapping::{Buffer, Mapping};
use super::names::Names;
use super::objects::Whose;
use super::outcome::{CallSiteRow, ClassRow, DeviceRow, DirectionRow, DriverRow, ListCallerRow, Rows, Tally};
use super::site::{SiteId, Symbols, named, origin};
use super::spread::spread;
use bouncescope_capture::event::{DeviceId, Direction};

/// Counts. A list counts, as a mapping, where its first segment does.
#[derive(Clone, Debug, Default)]
pub struct Breakdown {
    cells: Vec<(Whose, Tally)>,
    places: HashMap<Whose, usize>,
    /// The cells that were last asked for, by [`nearly`]: mostly the next is one of these. Empty before the first.
    recent: Vec<u32>,
    /// By device and return address of who mapped them.
    lists: HashMap<(Identity, u64), Lists>,
    /// Buffers of which only device and direction are told apart, since there are too many cells.
    pub(super) merged: u64,
}

/// Cells in which size and call site are told apart: some five times what an hour of a busy machine has. Each takes some 150 bytes, in every
/// simulated kernel that bounces its buffers.
const MOST_CELLS: usize = 1 << 15;

/// Cells remembered are two to the power of this.
const RECENT_BITS: u32 = 10;

/// A place for a cell that few others share.
#[inline]
fn nearly(whose: Whose) -> usize {
    let Whose { device, direction, class, site } = whose;
    let parts = class ^ u64::from(device.0) << 24 ^ u64::from(site.0) << 40 ^ u64::from(direction) << 62;
    spread(parts, RECENT_BITS)
}

/// Scatterlists of one device that one function mapped.
#[derive(Clone, Copy, Debug, Default)]
struct Lists {
    all: u64,
    losing: u64,
    before: u64,
    after: u64,
}

impl Breakdown {
    /// Counts a mapping and its buffers.
    pub fn mapping(&mut self, mapping: &Mapping, device: Identity) {
        let direction = mapping.direction as u8;
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            let cell = self.at(whose(device, direction, buffer));
            cell.mappings += u64::from(n == 0);
            cell.buffers += 1;
            cell.bytes += buffer.size;
        }
        if mapping.buffers.is_empty() {
            self.at(Whose { device, direction, ..Whose::default() }).mappings += 1;
        }
        if mapping.is_list() {
            self.list(device, mapping.caller);
        }
    }

    /// Counts a buffer of unknown origin; `first` of its mapping.
    #[inline]
    pub fn buffer(&mut self, device: Identity, direction: Direction, size: u64, first: bool) {
        let class = size_roundup(size, 8);
        let cell = self.at(Whose { device, direction: direction as u8, class, site: SiteId::UNKNOWN });
        cell.mappings += u64::from(first);
        cell.buffers += 1;
        cell.bytes += size;
    }

    /// Counts so many buffers of unknown origin that are alike.
    pub fn buffers(&mut self, device: Identity, direction: Direction, size: u64, first: bool, count: u64) {
        let class = size_roundup(size, 8);
        let cell = self.at(Whose { device, direction: direction as u8, class, site: SiteId::UNKNOWN });
        cell.mappings += if first { count } else { 0 };
        cell.buffers += count;
        cell.bytes += size * count;
    }

    /// Counts so many buffers of a length that a policy wants drivers not to map.
    #[inline]
    pub fn unaligned(&mut self, device: Identity, direction: Direction, size: u64, site: SiteId, count: u64) {
        let cell = self.at(Whose { device, direction: direction as u8, class: size_roundup(size, 8), site });
        *(if direction == Direction::ToDevice { &mut cell.unaligned_read } else { &mut cell.unaligned_written }) +=
            count;
    }

    /// Counts a scatterlist that the function with this return address mapped.
    pub fn list(&mut self, device: Identity, caller: u64) {
        self.more_lists(device, caller, 1);
    }

    /// Counts so many of them.
    pub fn more_lists(&mut self, device: Identity, caller: u64, count: u64) {
        self.lists(device, caller).all += count;
    }

    fn lists(&mut self, device: Identity, caller: u64) -> &mut Lists {
        self.lists.entry((device, caller)).or_default()
    }

    /// The counts that a mapping's buffer belongs to.
    pub fn cell(&mut self, mapping: &Mapping, n: usize, device: Identity) -> &mut Tally {
        let direction = mapping.direction as u8;
        let none = Whose { device, direction, ..Whose::default() };
        self.at(mapping.buffers.get(n).map_or(none, |buffer| whose(device, direction, buffer)))
    }

    #[inline]
    fn at(&mut self, whose: Whose) -> &mut Tally {
        let recent = self.recent.get(nearly(whose)).map_or(usize::MAX, |recent| *recent as usize);
        let at = match self.cells.get(recent) {
            Some((other, _)) if *other == whose => recent,
            _ => self.find(whose),
        };
        &mut self.cells[at].1
    }

    #[cold]
    fn find(&mut self, mut whose: Whose) -> usize {
        if self.cells.len() >= MOST_CELLS && !self.places.contains_key(&whose) {
            self.merged += 1;
            whose = Whose { device: whose.device, direction: whose.direction, ..Whose::default() };
        }
        let next = self.cells.len();
        let at = *self.places.entry(whose).or_insert(next);
        if at == next {
            self.cells.push((whose, Tally::default()));
        }
        self.recent.resize(1 << RECENT_BITS, u32::MAX);
        self.recent[nearly(whose)] = at as u32;
        at
    }

    /// A list behind an IOMMU is mapped element by element: DMA segments that it would have had, and has. One that has no more
    /// of them than before loses nothing.
    pub fn element_by_element(&mut self, device: Identity, caller: u64, before: u64, after: u64) {
        if after <= before {
            return;
        }
        let lists = self.lists(device, caller);
        lists.losing += 1;
        lists.before += before;
        lists.after += after;
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        for (whose, tally) in &other.cells {
            self.at(*whose).add(tally);
        }
        for ((device, caller), lists) in &other.lists {
            self.lists(*device, *caller).add(lists);
        }
    }

    /// Call sites whose objects were mapped.
    pub fn sites(&self) -> impl Iterator<Item = SiteId> {
        self.by(|whose| whose.site).into_keys()
    }

    /// All together.
    pub fn total(&self) -> Tally {
        sum(self.cells.iter().map(|(_, tally)| tally))
    }

    /// Scatterlists, and those of them that lose their concatenation.
    pub fn list_counts(&self) -> (u64, u64) {
        (self.lists.values().map(|lists| lists.all).sum(), self.lists.values().map(|lists| lists.losing).sum())
    }

    /// Sums by anything.
    fn by<K: Ord + Hash>(&self, key: impl Fn(&Whose) -> K) -> BTreeMap<K, Tally> {
        let mut sums: BTreeMap<K, Tally> = BTreeMap::new();
        for (whose, tally) in &self.cells {
            sums.entry(key(whose)).or_default().add(tally);
        }
        sums
    }

    /// As rows.
    pub fn rows(&self, names: Names) -> Rows {
        let Names { devices, objects, symbols } = names;
        let latest = |identity: Identity| devices.get(devices.latest(identity).unwrap_or(DeviceId(u32::MAX)));
        let mut by_device: Vec<DeviceRow> = self
            .by(|whose| whose.device)
            .into_iter()
            .map(|(identity, tally)| {
                let device = latest(identity);
                DeviceRow { device: device.name, driver: device.driver, coherent: device.coherent, tally }
            })
            .collect();
        by_device.sort_by_key(|row| order(&row.tally));
        let mut by_call_site: Vec<CallSiteRow> = self
            .by(|whose| whose.site)
            .into_iter()
            .map(|(site, tally)| {
                let (call_site, module) = origin(objects.address(site), symbols);
                CallSiteRow { call_site, module, tally }
            })
            .collect();
        by_call_site.sort_by_key(|row| order(&row.tally));
        let direction = |raw: u8| Direction::from_raw(raw).unwrap_or_default();
        let by_direction = self.by(|whose| whose.direction).into_iter();
        let by_class = self.by(|whose| whose.class).into_iter();
        Rows {
            by_driver: self.drivers(|identity| latest(identity).driver),
            by_list_caller: self.list_callers(symbols),
            by_device,
            by_call_site,
            overlaps: Vec::new(),
            by_direction: by_direction.map(|(raw, tally)| DirectionRow { direction: direction(raw), tally }).collect(),
            by_size_class: by_class.map(|(up_to, tally)| ClassRow { up_to, tally }).collect(),
        }
    }

    /// Most lists that lose segments first, then most lists. None where no list's caller is known.
    fn list_callers(&self, symbols: &Symbols) -> Vec<ListCallerRow> {
        let mut by_caller: BTreeMap<u64, Lists> = BTreeMap::new();
        for ((_, caller), lists) in &self.lists {
            by_caller.entry(*caller).or_default().add(lists);
        }
        if by_caller.keys().all(|caller| *caller == 0) {
            return Vec::new();
        }
        let row = |(caller, lists): (u64, Lists)| {
            let (caller, module) = named(caller, symbols);
            ListCallerRow {
                caller,
                module,
                lists: lists.all,
                lists_losing_concatenation: lists.losing,
                segments_before: lists.before,
                segments_after: lists.after,
            }
        };
        let mut rows: Vec<ListCallerRow> = by_caller.into_iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.lists_losing_concatenation, row.lists)));
        rows
    }

    fn drivers(&self, driver: impl Fn(Identity) -> String) -> Vec<DriverRow> {
        let mut lists: BTreeMap<String, Lists> = BTreeMap::new();
        for ((identity, _), of_device) in &self.lists {
            lists.entry(driver(*identity)).or_default().add(of_device);
        }
        let mut rows: Vec<DriverRow> = self
            .by(|whose| driver(whose.device))
            .into_iter()
            .map(|(driver, tally)| {
                let lists = lists.get(&driver).copied().unwrap_or_default();
                DriverRow {
                    driver,
                    lists: lists.all,
                    lists_losing_concatenation: lists.losing,
                    segments_before: lists.before,
                    segments_after: lists.after,
                    tally,
                }
            })
            .collect();
        rows.sort_by_key(|row| order(&row.tally));
        rows
    }
}

impl Lists {
    fn add(&mut self, other: &Self) {
        self.all += other.all;
        self.losing += other.losing;
        self.before += other.before;
        self.after += other.after;
    }
}

#[inline]
fn whose(device: Identity, direction: u8, buffer: &Buffer) -> Whose {
    Whose { device, direction, class: size_roundup(buffer.size, 8), site: buffer.site }
}

/// Most bounces first, then most mappings.
fn order(tally: &Tally) -> std::cmp::Reverse<(u64, u64)> {
    std::cmp::Reverse((tally.bounces, tally.mappings))
}

fn sum<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.add(tally);
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::Symbol;

    #[test]
    fn more_call_sites_than_are_told_apart_are_counted_together() {
        let mut breakdown = Breakdown::default();
        let many = MOST_CELLS as u32 + 1000;
        for n in (1..=many).chain([1]) {
            breakdown.at(Whose { site: SiteId(n), ..Whose::default() }).buffers += 1;
        }
        assert_eq!((breakdown.merged, breakdown.cells.len()), (1000, MOST_CELLS + 1));
        assert_eq!(breakdown.total().buffers, u64::from(many) + 1);
    }

    #[test]
    fn lists_are_counted_by_who_mapped_them_and_those_that_lose_segments_come_first() {
        let mut breakdown = Breakdown::default();
        let (device, other) = (Identity::default(), Identity(1));
        breakdown.list(device, 0x10);
        breakdown.list(device, 0x10);
        breakdown.list(other, 0x20);
        breakdown.element_by_element(other, 0x20, 1, 3);
        breakdown.element_by_element(device, 0x10, 2, 2);
        let symbol = Symbol { addr: 0x20, name: "map_buffer+0x8".into(), module: "vb2".into() };
        let rows = breakdown.list_callers(&Symbols::from_iter([(0x20, symbol)]));
        let row = |caller: &str, module: &str, lists, lists_losing_concatenation, segments_before, segments_after| {
            let (caller, module) = (caller.to_owned(), module.to_owned());
            ListCallerRow { caller, module, lists, lists_losing_concatenation, segments_before, segments_after }
        };
        assert_eq!(rows, [row("map_buffer+0x8", "vb2", 1, 1, 1, 3), row("0x10", "", 2, 0, 0, 0)]);
    }

    #[test]
    fn lists_of_which_nobody_is_known_to_have_mapped_them_make_no_rows() {
        let mut breakdown = Breakdown::default();
        breakdown.list(Identity::default(), 0);
        assert_eq!((breakdown.list_callers(&Symbols::default()), breakdown.list_counts()), (Vec::new(), (1, 0)));
    }
}
