//! Mappings as the kernel counted them by device, direction and length: what would bounce with any line size, without an event;
//! and the events held against it.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use serde::Serialize;
use tracer_ebpf::decide::Decider;
use tracer_ebpf::streamed::{SMALL_BELOW, Streamed};

use super::devices::{Devices, Identity};
use super::losses;
use super::settings::{self, Settings};
use super::spread::spread;
use bouncescope_capture::event::{Batch, DeviceId, Direction, Event, What};
use bouncescope_capture::facts::{Counters, KernelFacts, LengthCount, Mapped};
use bouncescope_capture::passed::{Alike, Passed, PassedBuffer};
use bouncescope_model::policy::WhenFull;
use bouncescope_model::rule::Look;

/// The line sizes that are tried, bytes.
pub const LINES: [u32; 4] = [32, 64, 128, 256];

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    device: DeviceId,
    direction: Direction,
    mapped: Mapped,
    /// Bytes, at most [`SMALL_BELOW`].
    length: u32,
}

/// The kernel's counts, and those of the events.
#[derive(Clone, Debug, Default)]
pub struct Lengths {
    counted: BTreeMap<Key, (u64, u64)>,
    /// `None` where they are not to be compared.
    streamed: Option<Events>,
    /// Totals for which there was no room.
    pub(super) left_out: u64,
}

/// Counts of events. Mostly an event is like one shortly before it, which is quickly found.
#[derive(Clone, Debug, Default)]
struct Events {
    /// By [`nearly`]; empty before the first. What is counted here comes to `all` when another takes its place.
    recent: Vec<(Key, u64)>,
    all: HashMap<Key, u64>,
    /// Events for which there was no room.
    left_out: u64,
}

/// Counts in [`Events::recent`] are two to the power of this.
const RECENT_BITS: u32 = 10;

/// A place that few others share.
#[inline]
fn nearly(key: Key) -> usize {
    let Key { device, direction, mapped, length } = key;
    let parts = u64::from(length) ^ u64::from(device.0) << 16 ^ (direction as u64) << 56 ^ (mapped as u64) << 60;
    spread(parts, RECENT_BITS)
}

impl Events {
    #[inline]
    fn one(&mut self, key: Key) {
        match self.recent.get_mut(nearly(key)) {
            Some((other, count)) if *other == key => *count += 1,
            _ => self.replace(key),
        }
    }

    #[cold]
    fn replace(&mut self, key: Key) {
        self.recent.resize(1 << RECENT_BITS, (key, 0));
        let (before, count) = std::mem::replace(&mut self.recent[nearly(key)], (key, 1));
        self.more(before, count);
    }

    fn more(&mut self, key: Key, count: u64) {
        if self.all.len() < MOST || self.all.contains_key(&key) {
            *self.all.entry(key).or_default() += count;
        } else {
            self.left_out += count;
        }
    }

    /// A key may come more than once.
    fn counts(&self) -> impl Iterator<Item = (Key, u64)> {
        self.recent.iter().copied().chain(self.all.iter().map(|(key, count)| (*key, *count)))
    }
}

/// Totals that are kept, by device, direction and length; the kernel's own map of them is smaller.
const MOST: usize = 1 << 18;

/// Mappings counted in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Total {
    /// Mappings: single buffers and lists.
    pub mappings: u64,
    /// Buffers: single ones and segments of lists.
    pub buffers: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
}

/// Mappings of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceLengths {
    /// `dev_name()`.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// `dev_is_dma_coherent()`.
    pub coherent: bool,
    /// All of them.
    #[serde(flatten)]
    pub total: Total,
    /// Buffers that the kernel's rule bounces for their length, by cache line size, bytes.
    pub bounces: BTreeMap<u32, u64>,
}

/// What the kernel counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counted {
    /// Everything together.
    pub total: Total,
    /// By device, most bounces with any of the line sizes first, then most mappings; empty where the recorder did not count.
    pub devices: Vec<DeviceLengths>,
}

impl Lengths {
    /// Nothing yet; `compared`: events are to be held against it.
    pub(super) fn new(compared: bool) -> Self {
        Self { counted: BTreeMap::new(), streamed: compared.then(Events::default), left_out: 0 }
    }

    /// Takes in totals.
    pub(super) fn counted(&mut self, lengths: Vec<LengthCount>) {
        for LengthCount { device, direction, mapped, length, count, bytes } in lengths {
            let key = Key { device, direction, mapped, length };
            if self.counted.len() < MOST || self.counted.contains_key(&key) {
                self.counted.insert(key, (count, bytes));
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Takes in events.
    pub(super) fn streamed(&mut self, events: &[Event], batch: &Batch) {
        let Some(streamed) = &mut self.streamed else { return };
        for event in events {
            match event.what {
                What::Map { device, size, direction, .. } | What::Link { device, size, direction, .. } => {
                    let length = size.min(SMALL_BELOW) as u32;
                    streamed.one(Key { device, direction, mapped: Mapped::Single, length });
                }
                What::MapSg { device, direction, .. } => {
                    streamed.one(Key { device, direction, mapped: Mapped::List, length: 0 });
                    for segment in batch.segments(event) {
                        let length = segment.length.min(SMALL_BELOW as u32);
                        streamed.one(Key { device, direction, mapped: Mapped::Segment, length });
                    }
                }
                _ => {}
            }
        }
    }

    /// Takes in events of which only totals are told.
    pub(super) fn passed(&mut self, passed: &Passed) {
        let Some(streamed) = &mut self.streamed else { return };
        for (Alike { device, direction, buffer, length }, count) in &passed.buffers {
            let (device, direction, length) = (*device, *direction, (*length).min(SMALL_BELOW) as u32);
            let mapped = if *buffer == PassedBuffer::Single { Mapped::Single } else { Mapped::Segment };
            streamed.more(Key { device, direction, mapped, length }, *count);
            if *buffer == PassedBuffer::FirstSegment {
                streamed.more(Key { device, direction, mapped: Mapped::List, length: 0 }, *count);
            }
        }
    }

    /// What the kernel counted.
    pub(super) fn finish(&self, devices: &Devices, kernel: &KernelFacts) -> Counted {
        Counted { total: self.total(), devices: self.devices(devices, kernel) }
    }

    /// Buffers that these settings bounce for their length or because everything does. Longer segments of the same lists behind an IOMMU
    /// bounce besides.
    pub(super) fn bounces(&self, devices: &Devices, settings: &Settings) -> u64 {
        let bounces_nowhere = settings.slots == 0 && settings.when_full == WhenFull::Fail;
        if bounces_nowhere || settings.rule.look != Look::Kmalloc {
            return 0;
        }
        let bounces = |key: &Key| {
            let (traits, _) = settings.device(&devices.get(key.device), devices.traits(key.device));
            let small = settings.decider.needs_bounce(traits.coherent, key.direction as u8, u64::from(key.length));
            key.mapped.is_memory() && (small || traits.force_bounce || settings.force)
        };
        self.counted
            .iter()
            .filter(|(key, _)| bounces(key))
            .map(|(_, (count, _))| count)
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn total(&self) -> Total {
        let mut total = Total::default();
        for (key, counts) in &self.counted {
            total.add(*key, *counts);
        }
        total
    }

    fn devices(&self, devices: &Devices, kernel: &KernelFacts) -> Vec<DeviceLengths> {
        let mut rows: BTreeMap<Identity, DeviceLengths> = BTreeMap::new();
        for (key, counts) in &self.counted {
            let row = rows.entry(devices.identity(key.device)).or_default();
            let device = devices.get(key.device);
            row.total.add(*key, *counts);
            for line in LINES {
                let bounces = row.bounces.entry(line).or_default();
                if key.mapped.is_memory() && bounces_for_length(kernel, line, device.coherent, key) {
                    *bounces += counts.0;
                }
            }
            (row.device, row.driver, row.coherent) = (device.name, device.driver, device.coherent);
        }
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by_cached_key(|row| std::cmp::Reverse((row.bounces.values().copied().max(), row.total.mappings)));
        rows
    }

    /// What the kernel counted of each length, against the events of what was to be streamed.
    pub(super) fn compare(&self, devices: &Devices, streamed: Streamed, counters: &Counters) -> Comparison {
        let mut comparison = Comparison::default();
        let Some(events) = self.streamed.as_ref().filter(|_| !self.counted.is_empty()) else { return comparison };
        comparison.counted = Some(self.total());
        let lost = losses::listed(losses::of_counted(counters));
        if !lost.is_empty() {
            comparison.not_compared = Some(format!("counts by length: lost {lost}"));
            return comparison;
        }
        if events.left_out > 0 {
            let more =
                format!("counts by length: {} events are of more devices and lengths than are kept", events.left_out);
            comparison.not_compared = Some(more);
            return comparison;
        }
        let is_streamed = |key: &Key| {
            let coherent = devices.get(key.device).coherent;
            // Which lists are streamed depends on their segments.
            let is_any_list = key.mapped == Mapped::List && streamed == Streamed::Small;
            !is_any_list && streamed.covers(coherent, key.direction as u64, u64::from(key.length))
        };
        let sum = |counts: &mut dyn Iterator<Item = (Key, u64)>| {
            let mut sums: BTreeMap<(Identity, Key), u64> = BTreeMap::new();
            for (key, count) in counts.filter(|(key, _)| is_streamed(key)) {
                // An event tells registers by an attribute, which earlier recorders did not count apart.
                let mapped = if key.mapped == Mapped::Resource { Mapped::Single } else { key.mapped };
                let by_identity = Key { device: DeviceId::default(), mapped, ..key };
                *sums.entry((devices.identity(key.device), by_identity)).or_default() += count;
            }
            sums
        };
        let counted = sum(&mut self.counted.iter().map(|(key, (count, _))| (*key, *count)));
        let seen = sum(&mut events.counts());
        for key in counted.keys().chain(seen.keys().filter(|key| !counted.contains_key(*key))) {
            let [counted, seen] = [&counted, &seen].map(|sums| sums.get(key).copied().unwrap_or(0));
            if counted != seen {
                let (identity, Key { direction, mapped, length, .. }) = *key;
                let name = devices.latest(identity).map(|id| devices.get(id).name).unwrap_or_default();
                comparison.problems.push(format!(
                    "{name}: {} {mapped:?} of {length} B: counted {counted}, recorded {seen}",
                    direction.name()
                ));
            }
        }
        comparison
    }
}

/// The kernel's counts by length, compared with the recorded events.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// All that was counted; `None` where nothing was, or nothing is to be compared.
    pub counted: Option<Total>,
    /// Where counts and events differ, one line each.
    pub problems: Vec<String>,
    /// Why they were not compared.
    pub not_compared: Option<String>,
}

impl Comparison {
    /// Counts and events are not of the same time.
    pub(super) fn leave_out(&mut self, why: &str) {
        self.problems.clear();
        self.not_compared.get_or_insert_with(|| format!("counts by length: {why}"));
    }
}

impl Total {
    fn add(&mut self, key: Key, (count, bytes): (u64, u64)) {
        self.mappings += if key.mapped == Mapped::Segment { 0 } else { count };
        self.buffers += if key.mapped == Mapped::List { 0 } else { count };
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// `dma_kmalloc_needs_bounce()` of a kernel with a pool.
fn bounces_for_length(kernel: &KernelFacts, cache_line_size: u32, coherent: bool, key: &Key) -> bool {
    let minalign = settings::smallest_minalign(kernel);
    let decider = Decider { bounce_unaligned: 1, cache_line_size, minalign, dma_minalign: kernel.dma_minalign };
    decider.needs_bounce(coherent, key.direction as u8, u64::from(key.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::event::Memory;
    use bouncescope_capture::facts::Device;

    fn count(device: u32, mapped: Mapped, length: u32, count: u64) -> LengthCount {
        let direction = Direction::FromDevice;
        LengthCount { device: DeviceId(device), direction, mapped, length, count, bytes: u64::from(length) * count }
    }

    #[test]
    fn what_settings_bounce_for_its_length_is_counted_for_devices_as_they_are_to_be_taken() {
        use crate::settings::WhatIf;
        use bouncescope_model::policy::{Override, PoolChoice, builtin};
        let mut lengths = Lengths::new(false);
        lengths.counted(vec![
            count(0, Mapped::Single, 8, 3),
            count(1, Mapped::Single, 8, 5),
            count(1, Mapped::Segment, 64, 7),
            count(1, Mapped::List, 0, 2),
        ]);
        let kernel =
            KernelFacts { cache_line_size: 64, dma_minalign: 128, kmalloc_minalign: 8, ..KernelFacts::default() };
        let bounces = |pool, coherent| {
            let devices_taken = vec![Override { name: "*".into(), coherent, ..Override::default() }];
            let change = WhatIf { pool: Some(pool), devices: devices_taken, ..WhatIf::default() };
            lengths.bounces(&devices(), &Settings::what_if(&kernel, &builtin("mainline").unwrap(), &change))
        };
        assert_eq!(bounces(PoolChoice::Slots(512), None), 3);
        assert_eq!(bounces(PoolChoice::Slots(512), Some(false)), 8);
        assert_eq!(bounces(PoolChoice::None, Some(false)), 0);
    }

    fn devices() -> Devices {
        let mut devices = Devices::default();
        for (id, name, coherent) in [(0, "usb", false), (1, "nvme", true)] {
            devices.add(Device { id: DeviceId(id), name: name.into(), coherent, ..Device::default() });
        }
        devices
    }

    fn kernel() -> KernelFacts {
        KernelFacts { dma_minalign: 128, ..KernelFacts::default() }
    }

    #[test]
    fn bounces_for_each_line_size_come_from_the_lengths_alone() {
        let mut lengths = Lengths::new(false);
        lengths.counted(vec![
            count(0, Mapped::Single, 18, 5),
            count(0, Mapped::Segment, 192, 2),
            count(0, Mapped::List, 0, 1),
            count(0, Mapped::Single, 256, 7),
            count(1, Mapped::Single, 8, 9),
        ]);
        // The latest total of each counts.
        lengths.counted(vec![count(0, Mapped::Single, 18, 6)]);
        let rows = lengths.devices(&devices(), &kernel());
        assert_eq!(rows[0].bounces, [(32, 0), (64, 6), (128, 8), (256, 8)].into());
        assert_eq!(rows[0].total, Total { mappings: 14, buffers: 15, bytes: 6 * 18 + 2 * 192 + 7 * 256 });
        assert!(rows[1].coherent && rows[1].bounces.values().all(|bounces| *bounces == 0));
    }

    fn compared(streamed: Streamed, events: &[(u32, u64)], counted: Vec<LengthCount>) -> Comparison {
        let mut lengths = Lengths::new(true);
        lengths.counted(counted);
        let events: Vec<Event> = events
            .iter()
            .map(|(device, size)| {
                let (device, direction) = (DeviceId(*device), Direction::FromDevice);
                let what = What::Map {
                    device,
                    phys: 0,
                    dma_addr: 0,
                    size: *size,
                    direction,
                    memory: Memory::Unknown,
                    attrs: 0,
                };
                Event { time_ns: 0, task: 0, cpu: 0, what }
            })
            .collect();
        lengths.streamed(&events, &Batch::default());
        lengths.compare(&devices(), streamed, &Counters::default())
    }

    #[test]
    fn what_was_to_be_streamed_has_to_be_there_and_nothing_else() {
        let counted =
            vec![count(0, Mapped::Single, 18, 1), count(0, Mapped::Single, 256, 3), count(1, Mapped::Single, 18, 3)];
        assert_eq!(compared(Streamed::Small, &[(0, 18)], counted.clone()).problems, Vec::<String>::new());
        assert_eq!(compared(Streamed::Written, &[(0, 18)], counted.clone()).problems.len(), 1, "256 B and more");
        assert_eq!(compared(Streamed::All, &[(0, 18)], counted.clone()).problems.len(), 2, "and a coherent device's");
        let not_counted = compared(Streamed::Small, &[(0, 18), (0, 20)], counted.clone()).problems;
        assert!(not_counted.len() == 1 && not_counted[0].contains("of 20 B: counted 0, recorded 1"), "{not_counted:?}");
        let twice = compared(Streamed::Small, &[(0, 18), (0, 18), (0, 20)], counted).problems;
        assert_eq!(twice.len(), 2, "{twice:?}");
        assert!(twice[0].contains("usb: FROM_DEVICE Single of 18 B: counted 1, recorded 2"), "{twice:?}");
    }

    #[test]
    fn registers_are_counted_apart_and_bounce_at_no_length() {
        let mut lengths = Lengths::new(false);
        lengths.counted(vec![count(0, Mapped::Resource, 4, 3), count(0, Mapped::Single, 4, 2)]);
        let rows = lengths.devices(&devices(), &kernel());
        assert_eq!((rows[0].bounces[&64], rows[0].total.mappings), (2, 5));
        // An event of either kind, with recorders that tell them apart and with those that do not.
        for mapped in [Mapped::Resource, Mapped::Single] {
            let counted = vec![count(0, mapped, 4, 1), count(0, Mapped::Single, 18, 1)];
            assert_eq!(compared(Streamed::Small, &[(0, 4), (0, 18)], counted).problems, Vec::<String>::new());
        }
    }

    #[test]
    fn a_capture_that_counted_nothing_is_compared_with_nothing() {
        let verdict = compared(Streamed::All, &[(0, 18)], Vec::new());
        assert!(verdict.problems.is_empty() && verdict.counted.is_none());
    }
}
