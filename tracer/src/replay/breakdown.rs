//! Counts by device, direction, size class and call site at once, and the rows that are made of them.

use std::collections::BTreeMap;
use std::hash::Hash;

use hashbrown::HashMap;
use tracer_ebpf::decide::size_roundup;

use super::devices::{Devices, Identity};
use super::mapping::Mapping;
use super::objects::{Objects, SiteId, Whose};
use super::outcome::{CallSiteRow, ClassRow, DeviceRow, DirectionRow, DriverRow, Rows, Tally};
use crate::event::{DeviceId, Direction};
use crate::facts::Symbol;

/// Counts. A list counts, as a mapping, where its first segment does.
#[derive(Clone, Debug, Default)]
pub struct Breakdown {
    cells: Vec<(Whose, Tally)>,
    places: HashMap<Whose, usize>,
    /// The cells that were last asked for, a few of them by parts of whose they are: mostly the next is one of these.
    recent: [usize; RECENT],
    lists: HashMap<Identity, Lists>,
}

/// Cells remembered.
const RECENT: usize = 32;

/// Scatterlists of one device.
#[derive(Clone, Copy, Debug, Default)]
struct Lists {
    all: u64,
    losing: u64,
    before: u64,
    after: u64,
}

/// Names of call sites, by address.
pub type Symbols = HashMap<u64, Symbol>;

impl Breakdown {
    /// Counts a mapping and its buffers.
    pub fn mapping(&mut self, mapping: &Mapping, device: Identity) {
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            let cell = self.cell(mapping, n, device);
            cell.mappings += u64::from(n == 0);
            cell.buffers += 1;
            cell.bytes += buffer.size;
        }
        if mapping.buffers.is_empty() {
            let whose = Whose { device, direction: mapping.direction as u8, ..Whose::default() };
            self.at(whose).mappings += 1;
        }
        if mapping.is_list() {
            self.lists.entry(device).or_default().all += 1;
        }
    }

    /// The counts that a mapping's buffer belongs to.
    pub fn cell(&mut self, mapping: &Mapping, n: usize, device: Identity) -> &mut Tally {
        let direction = mapping.direction as u8;
        let whose = mapping.buffers.get(n).map_or(Whose { device, direction, ..Whose::default() }, |buffer| Whose {
            device,
            direction,
            class: size_roundup(buffer.size, 8),
            site: buffer.site,
        });
        self.at(whose)
    }

    #[inline]
    fn at(&mut self, whose: Whose) -> &mut Tally {
        let Whose { device, direction, class, site } = whose;
        let nearly = device.0 ^ u32::from(direction) << 3 ^ class.trailing_zeros() << 1 ^ site.0;
        let recent = &mut self.recent[nearly as usize % RECENT];
        if self.cells.get(*recent).is_none_or(|(other, _)| *other != whose) {
            let next = self.cells.len();
            *recent = *self.places.entry(whose).or_insert(next);
            if *recent == next {
                self.cells.push((whose, Tally::default()));
            }
        }
        &mut self.cells[*recent].1
    }

    /// A list loses its concatenation: DMA segments that it would have had, and has.
    pub fn loses_concatenation(&mut self, device: Identity, before: u64, after: u64) {
        let lists = self.lists.entry(device).or_default();
        lists.losing += 1;
        lists.before += before;
        lists.after += after;
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        for (whose, tally) in &other.cells {
            self.at(*whose).add(tally);
        }
        for (device, lists) in &other.lists {
            self.lists.entry(*device).or_default().add(lists);
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
    pub fn lists(&self) -> (u64, u64) {
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
    pub fn rows(&self, devices: &Devices, objects: &Objects, symbols: &Symbols) -> Rows {
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
                let address = objects.address(site);
                let symbol = symbols.get(&address);
                let unnamed = || if address == 0 { String::new() } else { format!("{address:#x}") };
                CallSiteRow {
                    call_site: symbol.map_or_else(unnamed, |symbol| symbol.name.clone()),
                    module: symbol.map(|symbol| symbol.module.clone()).unwrap_or_default(),
                    tally,
                }
            })
            .collect();
        by_call_site.sort_by_key(|row| order(&row.tally));
        let direction = |raw: u8| Direction::from_raw(raw).unwrap_or_default();
        let by_direction = self.by(|whose| whose.direction).into_iter();
        let by_class = self.by(|whose| whose.class).into_iter();
        Rows {
            by_driver: self.drivers(|identity| latest(identity).driver),
            by_device,
            by_call_site,
            by_direction: by_direction.map(|(raw, tally)| DirectionRow { direction: direction(raw), tally }).collect(),
            by_size_class: by_class.map(|(up_to, tally)| ClassRow { up_to, tally }).collect(),
        }
    }

    fn drivers(&self, driver: impl Fn(Identity) -> String) -> Vec<DriverRow> {
        let mut lists: BTreeMap<String, Lists> = BTreeMap::new();
        for (identity, of_device) in &self.lists {
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
