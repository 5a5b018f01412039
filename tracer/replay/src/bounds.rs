//! What no kernel exceeds. A capture that was damaged or made up may say anything: its facts, lengths and counts are brought
//! within these bounds where they enter, so that nothing behind has to expect more.

use tracer_ebpf::decide::ARM64_DMA_MINALIGN;
use tracer_ebpf::streamed::SMALL_BELOW;

use bouncescope_capture::event::{Event, What};
use bouncescope_capture::facts::{Counters, Device, LengthCount, LiveSites, PoolTimes, SiteCount, SlabSample};
use bouncescope_capture::limits::{MAX_ALIGN_MASK, MAX_GRANULE, MAX_SIZE, MAX_TIME_NS, MOST_HOOKS};
use bouncescope_capture::names::Loss;
use bouncescope_capture::plain::{plain_word, plain_words};
use bouncescope_capture::stream::{Item, Start};
use bouncescope_model::pool::MAX_CPUS;

/// More than anything happens in a recording.
const MAX_COUNT: u64 = 1 << 40;
/// More caches of kmalloc than a kernel has, with 16 random copies of each (`RANDOM_KMALLOC_CACHES`).
const MAX_CACHES: usize = 1 << 12;
/// More slabs than a cache has.
const MAX_SLABS: u64 = 1 << 24;
/// More objects, or pages, than are in a slab, and than a CPU has at hand in one sheaf.
const MAX_PER_SLAB: u32 = 1 << 16;
/// More slots than a pool has, which lies below 4 GiB (`swiotlb_memblock_alloc()`) unless a guest without arm64's rules asks
/// otherwise: 8 GiB.
const MAX_SLOTS: u64 = 1 << 22;
/// No sample is smaller: one in so many.
const MAX_SAMPLE: u64 = 1 << 32;
/// More hooks than there are, or notes about them, or pools.
pub(super) const MAX_LIST: usize = MOST_HOOKS;
/// Longer than a name of a device, driver or module, bytes: what is longer is cut.
const MAX_NAME: usize = 256;
/// Longer than a line of notes, or a kernel's command line (`COMMAND_LINE_SIZE`, `arch/arm64/include/uapi/asm/setup.h`), bytes.
const MAX_LINE: usize = 4096;
/// What a line can be where nothing tells, bytes.
const LINE_SIZE: u32 = 64;

/// Brings an item within the bounds, whatever it is, for those who make something else of a capture than a replay.
pub fn any(any: &mut Item) {
    item(any);
    match any {
        Item::Device(described) => device(described, &mut Vec::new()),
        Item::Start(first) => start(first),
        Item::Pool(sample) => sample.restricted.truncate(MAX_LIST),
        Item::Events(batch) => batch.events.iter_mut().for_each(event),
        _ => {}
    }
}

/// Brings the beginning of a stream within the bounds, with a note of each fact that was not.
pub fn start(start: &mut Start) {
    let mut notes = Notes(&mut start.notes);
    notes.first("hooks", &mut start.hooks);
    notes.first("pool.restricted", &mut start.kernel.pool.restricted);
    start.kernel.config.retain(first());
    start.other.retain(first());
    start.notes.truncate(MAX_LIST);
    plain_words(start, MAX_LINE);
    let mut notes = Notes(&mut start.notes);
    let kernel = &mut start.kernel;
    notes.power_of_two("page_size", &mut kernel.page_size, 4096..=65536, 4096);
    notes.power_of_two("cache_line_size", &mut kernel.cache_line_size, 8..=4096, LINE_SIZE);
    if let Some(of_cpu) = &mut kernel.cpu_line_size {
        notes.power_of_two("cpu_line_size", of_cpu, 8..=4096, LINE_SIZE);
    }
    notes.power_of_two("dma_minalign", &mut kernel.dma_minalign, 1..=4096, ARM64_DMA_MINALIGN);
    notes.power_of_two("kmalloc_minalign", &mut kernel.kmalloc_minalign, 1..=4096, 8);
    let struct_page = kernel.struct_page_size;
    if struct_page != 0 && (!struct_page.is_multiple_of(8) || !(32..=256).contains(&struct_page)) {
        notes.take("struct_page_size", &mut kernel.struct_page_size, 0);
    }
    notes.within("possible_cpus", &mut kernel.possible_cpus, 1, MAX_CPUS);
    notes.within("pool.areas", &mut kernel.pool.areas, 0, MAX_CPUS);
    let restricted = kernel.pool.restricted.iter_mut().map(|pool| (&mut pool.slots, &mut pool.used_at_start));
    for (slots, used) in restricted.chain([(&mut kernel.pool.slots, &mut kernel.pool.used_at_start)]) {
        notes.within("pool.slots", slots, 0, MAX_SLOTS);
        notes.within("pool.used_at_start", used, 0, MAX_SLOTS);
    }
    notes.within("allocation_sample", &mut start.allocation_sample, 0, MAX_SAMPLE);
    notes.within("time_ns", &mut start.time_ns, 0, MAX_TIME_NS);
    start.notes.truncate(MAX_LIST);
}

/// Brings a device within the bounds, with a note of each fact that was not.
pub fn device(device: &mut Device, notes: &mut Vec<String>) {
    plain_words(device, MAX_NAME);
    let Device { name, min_align_mask, iommu_granule, segment_boundary_mask, .. } = device;
    let mut notes = Notes(notes);
    if let Some(granule) =
        iommu_granule.as_mut().filter(|granule| !granule.is_power_of_two() || **granule > MAX_GRANULE)
    {
        notes.take_of(name, "iommu_granule", granule, 4096);
    }
    let aligned = ((*min_align_mask).min(MAX_ALIGN_MASK) + 1).next_power_of_two() - 1;
    if aligned != *min_align_mask {
        notes.take_of(name, "min_align_mask", min_align_mask, aligned);
    }
    if let Some(mask) = segment_boundary_mask.as_mut().filter(|mask| **mask & mask.wrapping_add(1) != 0) {
        notes.take_of(name, "segment_boundary_mask", mask, u64::MAX);
    }
}

/// Brings any other item within the bounds.
pub fn item(item: &mut Item) {
    match item {
        // Events one by one, when they are taken in; totals of them are within the bounds as they are read.
        Item::Start(_) | Item::Device(_) | Item::Events(_) | Item::Passed(_) => {}
        Item::Symbols(symbols) => {
            for symbol in symbols {
                plain_word(&mut symbol.name, MAX_LINE);
                plain_word(&mut symbol.module, MAX_LINE);
            }
        }
        Item::Pool(sample) => {
            for slots in [&mut sample.slots, &mut sample.used_slots].into_iter().chain(&mut sample.hiwater_slots) {
                *slots = (*slots).min(MAX_SLOTS);
            }
        }
        Item::Sites(sites) => sites.iter_mut().for_each(|SiteCount { count, .. }| *count = (*count).min(MAX_COUNT)),
        Item::Lengths(lengths) => {
            for LengthCount { length, count, bytes, .. } in lengths {
                *length = (*length).min(SMALL_BELOW as u32);
                (*count, *bytes) = ((*count).min(MAX_COUNT), (*bytes).min(MAX_COUNT << 8));
            }
        }
        Item::Slab(SlabSample { caches, live_sites, .. }) => {
            if let Some(LiveSites { sites, left_out }) = live_sites {
                sites.truncate(MAX_CACHES);
                *left_out = (*left_out).min(MAX_COUNT);
                for site in sites {
                    for word in [&mut site.place, &mut site.module, &mut site.function] {
                        plain_word(word, MAX_NAME);
                    }
                    (site.calls, site.bytes) = (site.calls.min(MAX_COUNT), site.bytes.min(MAX_SIZE));
                }
            }
            caches.truncate(MAX_CACHES);
            for cache in caches {
                plain_word(&mut cache.name, MAX_NAME);
                cache.active_objects = cache.active_objects.min(MAX_COUNT);
                cache.slabs = cache.slabs.min(MAX_SLABS);
                cache.cpu_slabs = cache.cpu_slabs.map(|slabs| slabs.min(MAX_SLABS));
                cache.sheaf_capacity = cache.sheaf_capacity.min(MAX_PER_SLAB.into());
                cache.objects_per_slab = cache.objects_per_slab.min(MAX_PER_SLAB);
                cache.pages_per_slab = cache.pages_per_slab.min(MAX_PER_SLAB);
            }
        }
        Item::PoolTimes(PoolTimes { times, maintenance, .. }) => {
            maintenance.truncate(MAX_LIST);
            let pool = times.iter_mut().map(|time| (&mut time.calls, &mut time.total_ns));
            let maintained = maintenance.iter_mut().map(|time| (&mut time.calls, &mut time.total_ns));
            for (calls, total_ns) in pool.chain(maintained) {
                *calls = (*calls).min(MAX_COUNT);
                *total_ns = (*total_ns).min(MAX_COUNT << 8);
            }
        }
        Item::Counters(counters) => {
            counters.seen.retain(first());
            if counters.lost.len() > MAX_LIST {
                let others = counters.lost.values().skip(MAX_LIST).flatten().copied().collect();
                counters.lost.retain(first());
                counters.lost.insert(Loss::Unknown("others".into()), others);
            }
            plain_words(counters, MAX_NAME);
            let Counters { seen, lost, predicted, tracefs_bounced, .. } = counters;
            let by_cpu = seen.values_mut().chain(lost.values_mut()).flatten();
            for count in by_cpu.chain([predicted]).chain(tracefs_bounced) {
                *count = (*count).min(MAX_COUNT);
            }
        }
        Item::End(end) => {
            end.events.retain(first());
            end.programs.truncate(MAX_LIST);
            plain_words(end, MAX_NAME);
            end.time_ns = end.time_ns.min(MAX_TIME_NS);
        }
    }
}

/// Keeps the first of a map.
fn first<K, V>() -> impl FnMut(&K, &mut V) -> bool {
    let mut kept = 0;
    move |_, _| {
        kept += 1;
        kept <= MAX_LIST
    }
}

/// Brings an event within the bounds.
pub(super) fn event(event: &mut Event) {
    event.time_ns = event.time_ns.min(MAX_TIME_NS);
    match &mut event.what {
        What::Kmalloc { bytes_req, bytes_alloc, .. } => {
            (*bytes_req, *bytes_alloc) = ((*bytes_req).min(MAX_SIZE), (*bytes_alloc).min(MAX_SIZE));
        }
        What::SlotMap { size, duration_ns, align_mask, .. } => {
            // A granule less 1.
            *align_mask = ((*align_mask).min(MAX_GRANULE - 1) + 1).next_power_of_two() - 1;
            (*size, *duration_ns) = ((*size).min(MAX_SIZE), (*duration_ns).min(MAX_TIME_NS));
        }
        What::CoherentAlloc { size, duration_ns, .. } => {
            (*size, *duration_ns) = ((*size).min(MAX_SIZE), (*duration_ns).min(MAX_TIME_NS));
        }
        What::Map { size, .. }
        | What::Unmap { size, .. }
        | What::Link { size, .. }
        | What::Unlink { size, .. }
        | What::Bounced { size, .. }
        | What::SlotUnmap { size, .. }
        | What::CoherentFree { size, .. }
        | What::Sync { size, .. } => *size = (*size).min(MAX_SIZE),
        What::Kfree { .. } | What::MapSg { .. } | What::UnmapSg { .. } | What::SyncSg { .. } => {}
    }
}

struct Notes<'a>(&'a mut Vec<String>);

impl Notes<'_> {
    fn power_of_two(&mut self, name: &str, value: &mut u32, range: std::ops::RangeInclusive<u32>, otherwise: u32) {
        if !value.is_power_of_two() || !range.contains(value) {
            self.take(name, value, otherwise);
        }
    }

    fn within<T: Copy + Ord + std::fmt::Display>(&mut self, name: &str, value: &mut T, from: T, to: T) {
        let bounded = (*value).clamp(from, to);
        if bounded != *value {
            self.take(name, value, bounded);
        }
    }

    fn first<T>(&mut self, name: &str, list: &mut Vec<T>) {
        if list.len() > MAX_LIST {
            self.0.insert(0, format!("the capture's {name} are {}: the first {MAX_LIST} are taken", list.len()));
            list.truncate(MAX_LIST);
        }
    }

    fn take_of<T: Copy + std::fmt::Display>(&mut self, device: &str, name: &str, value: &mut T, otherwise: T) {
        if self.0.len() < MAX_LIST {
            self.0.push(format!("{name} of {device} is {value}, which no device has: assumed to be {otherwise}"));
        }
        *value = otherwise;
    }

    fn take<T: Copy + std::fmt::Display>(&mut self, name: &str, value: &mut T, otherwise: T) {
        self.0.push(format!("the capture's {name} is {value}, which no kernel has: assumed to be {otherwise}"));
        *value = otherwise;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::{Hook, KernelFacts, PoolFacts};

    fn plausible() -> Start {
        let pool = PoolFacts { slots: 32768, areas: 4, used_at_start: 2, ..PoolFacts::default() };
        let kernel = KernelFacts {
            page_size: 16384,
            possible_cpus: 8,
            cache_line_size: 128,
            dma_minalign: 128,
            kmalloc_minalign: 16,
            pool,
            ..KernelFacts::default()
        };
        Start { kernel, allocation_sample: 64, time_ns: 5, ..Start::default() }
    }

    #[test]
    fn what_a_kernel_can_say_stays_without_a_note() {
        let mut bounded = plausible();
        start(&mut bounded);
        assert_eq!(bounded, plausible());
    }

    #[test]
    fn what_no_kernel_has_is_replaced_and_noted() {
        let mut bounded = plausible();
        bounded.kernel.cache_line_size = 4_000_000_000;
        bounded.kernel.page_size = 1;
        bounded.kernel.possible_cpus = 0;
        bounded.allocation_sample = u64::MAX;
        start(&mut bounded);
        let KernelFacts { cache_line_size, page_size, possible_cpus, .. } = bounded.kernel;
        assert_eq!((cache_line_size, page_size, possible_cpus, bounded.allocation_sample), (64, 4096, 1, MAX_SAMPLE));
        assert_eq!(bounded.notes.len(), 4);
        assert!(bounded.notes[0].contains("page_size is 1"), "{:?}", bounded.notes);
    }

    #[test]
    fn what_no_device_has_is_replaced_and_noted() {
        let (name, driver) = ("usb".to_owned(), "a\x1b".to_owned());
        let mut device = Device { name, driver, min_align_mask: u32::MAX, iommu_granule: Some(3), ..Device::default() };
        let mut notes = Vec::new();
        super::device(&mut device, &mut notes);
        assert_eq!((device.min_align_mask, device.iommu_granule), (65535, Some(4096)));
        assert_eq!(device.driver, r"a\u{1b}");
        assert_eq!(notes[0], "iommu_granule of usb is 3, which no device has: assumed to be 4096");
        assert_eq!(notes.len(), 2);
        for (mask, granule) in [(0, None), (511, Some(4096)), (4095, Some(65536))] {
            let mut device = Device { min_align_mask: mask, iommu_granule: granule, ..Device::default() };
            super::device(&mut device, &mut notes);
            assert_eq!((device.min_align_mask, device.iommu_granule), (mask, granule));
        }
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn losses_without_end_are_added_up() {
        let lost = (0..1000).map(|n| (format!("later{n:04}").as_str().into(), vec![2])).collect();
        let mut counters = Item::Counters(Counters { lost, ..Counters::default() });
        item(&mut counters);
        let Item::Counters(counters) = counters else { unreachable!("it was one") };
        assert_eq!((counters.lost.len(), counters.total_lost()), (MAX_LIST + 1, 2000));
    }

    #[test]
    fn no_length_is_more_than_memory_has() {
        let mut what = Event { time_ns: u64::MAX, ..sized(u64::MAX) };
        event(&mut what);
        assert_eq!(what, Event { time_ns: MAX_TIME_NS, ..sized(MAX_SIZE) });
    }

    #[test]
    fn of_a_list_without_end_the_first_are_taken_with_a_note() {
        let mut endless = plausible();
        endless.hooks = vec![Hook::default(); 100_000];
        endless.notes = vec!["x".into(); 100_000];
        start(&mut endless);
        assert_eq!((endless.hooks.len(), endless.notes.len()), (MAX_LIST, MAX_LIST));
        assert_eq!(endless.notes[0], "the capture's hooks are 100000: the first 256 are taken");
    }

    fn sized(size: u64) -> Event {
        let what = What::Bounced { device: bouncescope_capture::event::DeviceId(0), dev_addr: 0, size };
        Event { time_ns: 0, task: 0, cpu: 0, what }
    }
}
