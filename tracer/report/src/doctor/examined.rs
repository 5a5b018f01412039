//! What a stream tells of its kernel, gathered item by item. Events are counted by the programs; none is looked at here.

use std::collections::BTreeMap;

use serde::Serialize;

use bouncescope_capture::facts::{
    Counters, Device, End, MaintenanceFunction, PoolFunction, PoolSample, PoolTimes, SiteCount,
};
use bouncescope_capture::stream::{Item, Source, Start};
use bouncescope_replay::bounds;

/// Devices, and call sites with their sizes, of which no machine has more.
const MOST_DEVICES: usize = 1 << 13;
const MOST_SITES: usize = 1 << 18;

/// An object of kmalloc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SmallObject {
    /// Bytes asked for.
    pub bytes_req: u32,
    /// Bytes given, with what debugging adds.
    pub bytes_alloc: u32,
}

/// What was gathered.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// The beginning.
    pub start: Start,
    /// Devices by name, as last described.
    pub devices: BTreeMap<String, Device>,
    /// The pool's counters, as last read.
    pub pool: Option<PoolSample>,
    /// The programs' counters, as last read.
    pub counters: Counters,
    /// The end; without it a capture was cut.
    pub end: Option<End>,
    /// The smallest object that was given.
    pub smallest_object: Option<SmallObject>,
    /// Call sites could be named.
    pub named: bool,
    /// Times of the pool's functions, as last read.
    pub times: PoolTimes,
    /// Allocations by call site, bytes asked for and given.
    pub sites: BTreeMap<(u64, u32, u32), u64>,
}

impl Examined {
    /// Of a whole stream.
    pub fn of<S: Source>(source: &mut S) -> Result<Self, S::Error> {
        let mut examined = Self::default();
        while let Some(item) = source.next_item()? {
            examined.take(item);
        }
        Ok(examined)
    }

    /// Takes note of an item, within what a kernel can have.
    pub fn take(&mut self, mut item: Item) {
        bounds::item(&mut item);
        match item {
            Item::Start(start) => {
                self.start = start;
                bounds::start(&mut self.start);
            }
            Item::Device(mut device) => {
                bounds::device(&mut device, &mut self.start.notes);
                if self.devices.len() < MOST_DEVICES || self.devices.contains_key(&device.name) {
                    self.devices.insert(device.name.clone(), device);
                }
            }
            Item::Pool(sample) => self.pool = Some(sample),
            Item::Sites(sites) => sites.iter().for_each(|site| self.object(site)),
            Item::Symbols(_) => self.named = true,
            Item::PoolTimes(times) => self.times = times,
            Item::Counters(counters) => self.counters = counters,
            Item::End(end) => self.end = Some(end),
            Item::Events(_) | Item::Passed(_) | Item::Lengths(_) | Item::Slab(_) => {}
        }
    }

    fn object(&mut self, site: &SiteCount) {
        let key = (site.call_site, site.bytes_req, site.bytes_alloc);
        if self.sites.len() < MOST_SITES || self.sites.contains_key(&key) {
            self.sites.insert(key, site.count);
        }
        let object = SmallObject { bytes_req: site.bytes_req, bytes_alloc: site.bytes_alloc };
        let key = |object: &SmallObject| (object.bytes_alloc, object.bytes_req);
        // kmalloc(0) gives no object.
        if object.bytes_req > 0 && self.smallest_object.is_none_or(|smallest| key(&object) < key(&smallest)) {
            self.smallest_object = Some(object);
        }
    }

    /// Allocations in all.
    pub(super) fn allocations(&self) -> u64 {
        self.sites.values().sum()
    }

    /// Calls of one of the pool's functions that returned.
    pub(super) fn calls(&self, function: PoolFunction) -> u64 {
        self.times.times.iter().filter(|time| time.function == function).map(|time| time.calls).sum()
    }

    /// Calls of one of the functions of cache maintenance that returned.
    pub(super) fn maintained(&self, function: MaintenanceFunction) -> u64 {
        self.times.maintenance.iter().filter(|time| time.function == function).map(|time| time.calls).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_object_given_counts_and_then_the_smallest_asked_for() {
        let mut examined = Examined::default();
        let site = |bytes_req, bytes_alloc| SiteCount { bytes_req, bytes_alloc, count: 1, call_site: 1 };
        examined.take(Item::Sites(vec![site(0, 0), site(100, 128), site(7, 8), site(3, 16)]));
        examined.take(Item::Sites(vec![site(8, 8)]));
        assert_eq!(examined.smallest_object, Some(SmallObject { bytes_req: 7, bytes_alloc: 8 }));
    }

    #[test]
    fn a_pool_that_no_kernel_has_is_cut_to_one_that_may_be_and_noted() {
        let mut start = Start::default();
        start.kernel.pool.slots = u64::MAX;
        let mut examined = Examined::default();
        examined.take(Item::Start(start));
        let page = crate::doctor::Page::new(examined, None);
        assert!(page.notes.iter().any(|note| note.contains("pool.slots")), "{:?}", page.notes);
        assert!(crate::doctor::text(&page).contains("4194304 slots of 2 KiB (8G)"));
    }

    #[test]
    fn a_device_described_again_is_as_it_was_described_last() {
        let mut examined = Examined::default();
        for coherent in [false, true] {
            examined.take(Item::Device(Device { name: "0000:00:01.0".into(), coherent, ..Device::default() }));
        }
        assert_eq!(examined.devices.values().map(|device| device.coherent).collect::<Vec<_>>(), [true]);
    }
}
