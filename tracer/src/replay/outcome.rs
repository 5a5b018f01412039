//! What a replay under some settings comes to. Counts are of mappings (one call of `dma_map_*`) and of buffers (a single
//! buffer, or one segment of a list); bounces are of buffers.

use std::collections::BTreeMap;

use serde::Serialize;
use tracer_ebpf::decide::size_roundup;

use super::devices::{Devices, Identity};
use super::mapping::Mapping;
use crate::event::{DeviceId, Direction};

/// Counts of some of the mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Mappings.
    pub mappings: u64,
    /// Buffers.
    pub buffers: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
    /// Buffers that bounce.
    pub bounces: u64,
    /// Bytes copied into and out of the pool.
    pub bytes_copied: u64,
    /// Mappings refused.
    pub failed: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.mappings += other.mappings;
        self.buffers += other.buffers;
        self.bytes += other.bytes;
        self.bounces += other.bounces;
        self.bytes_copied += other.bytes_copied;
        self.failed += other.failed;
    }
}

/// Counts by device, direction and size class. A list counts, as a mapping, in the class of its first segment.
#[derive(Clone, Debug, Default)]
pub struct Breakdown {
    total: Tally,
    devices: BTreeMap<Identity, (DeviceId, Tally)>,
    directions: BTreeMap<Direction, Tally>,
    classes: BTreeMap<u64, Tally>,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRow {
    /// `dev_name()`.
    pub device: String,
    /// Its driver when last described.
    pub driver: String,
    /// `dev_is_dma_coherent()` when last described.
    pub coherent: bool,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirectionRow {
    /// Direction.
    pub direction: Direction,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One row of a breakdown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassRow {
    /// Longest buffer of the class, bytes: an object size of kmalloc with caches from 8 bytes.
    pub up_to: u64,
    /// Counts.
    #[serde(flatten)]
    pub tally: Tally,
}

/// The rows of a [`Breakdown`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// By device, most bounces first, then most mappings.
    pub by_device: Vec<DeviceRow>,
    /// By direction.
    pub by_direction: Vec<DirectionRow>,
    /// By length of the buffer, ascending.
    pub by_size_class: Vec<ClassRow>,
}

impl Breakdown {
    /// Adds a mapping, of whose buffers those for which `bounced` holds bounce. Each is copied into the pool, whatever the
    /// direction (`swiotlb_tbl_map_single()`).
    pub fn add(&mut self, mapping: &Mapping, devices: &Devices, failed: bool, bounced: impl Fn(usize) -> bool) {
        let mut total = Tally { mappings: 1, failed: u64::from(failed), ..Tally::default() };
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            let mut one = Tally { buffers: 1, bytes: buffer.size, ..Tally::default() };
            if bounced(n) {
                one.bounces = 1;
                one.bytes_copied = buffer.size;
            }
            total.add(&one);
            if n == 0 {
                one.mappings = 1;
                one.failed = u64::from(failed);
            }
            self.class(buffer.size).add(&one);
        }
        self.add_all(mapping, devices, &total);
    }

    /// A bounced buffer of a mapping is copied back, when unmapped.
    pub fn copied_back(&mut self, mapping: &Mapping, buffer: usize, devices: &Devices) {
        let Some(buffer) = mapping.buffers.get(buffer) else { return };
        let copied = Tally { bytes_copied: buffer.size, ..Tally::default() };
        self.class(buffer.size).add(&copied);
        self.add_all(mapping, devices, &copied);
    }

    /// All together.
    pub fn total(&self) -> Tally {
        self.total
    }

    fn class(&mut self, size: u64) -> &mut Tally {
        self.classes.entry(size_roundup(size, 8)).or_default()
    }

    fn add_all(&mut self, mapping: &Mapping, devices: &Devices, tally: &Tally) {
        self.total.add(tally);
        let (described, sum) = self.devices.entry(devices.identity(mapping.device)).or_default();
        *described = mapping.device;
        sum.add(tally);
        self.directions.entry(mapping.direction).or_default().add(tally);
    }

    /// As rows.
    pub fn rows(&self, devices: &Devices) -> Rows {
        let mut by_device: Vec<DeviceRow> = self
            .devices
            .values()
            .map(|(id, tally)| {
                let device = devices.get(*id);
                DeviceRow { device: device.name, driver: device.driver, coherent: device.coherent, tally: *tally }
            })
            .collect();
        by_device.sort_by_key(|row| std::cmp::Reverse((row.tally.bounces, row.tally.mappings)));
        Rows {
            by_device,
            by_direction: self
                .directions
                .iter()
                .map(|(direction, tally)| DirectionRow { direction: *direction, tally: *tally })
                .collect(),
            by_size_class: self
                .classes
                .iter()
                .map(|(up_to, tally)| ClassRow { up_to: *up_to, tally: *tally })
                .collect(),
        }
    }
}

/// What came out of a replay under some settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The settings' name.
    pub name: String,
    /// `cache_line_size()`, bytes.
    pub cache_line_size: u32,
    /// Minimum alignment of the kmalloc caches, bytes.
    pub minalign: u32,
    /// Slots of the pool.
    pub total_slots: u64,
    /// Mappings.
    pub mappings: u64,
    /// Buffers.
    pub buffers: u64,
    /// Buffers that bounce.
    pub bounces: u64,
    /// Why they bounce.
    pub bounces_by_reason: BTreeMap<String, u64>,
    /// Bytes copied into the pool, and back for what the device writes.
    pub bytes_copied: u64,
    /// Most slots in use at once.
    pub peak_slots: u64,
    /// When they first were.
    pub peak_time_ns: u64,
    /// Mappings refused.
    pub failed: u64,
    /// Why they are refused.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Scatterlists.
    pub lists: u64,
    /// Scatterlists behind an IOMMU whose segments are no longer concatenated.
    pub lists_losing_concatenation: u64,
    /// Slots taken for what has no mapping event, as the kernel was seen to: in the peak, and in nothing else.
    pub slots_without_mapping: u64,
    /// Mappings of devices whose description was lost: taken as mapped directly.
    pub not_simulated: u64,
    /// Mappings that this run bounces and the kernel refused, of which therefore no unmapping is known.
    pub mapped_but_refused_by_kernel: u64,
    /// Breakdowns.
    #[serde(flatten)]
    pub rows: Rows,
}

impl Outcome {
    /// Adds sums over mappings.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.mappings += tally.mappings;
        self.buffers += tally.buffers;
        self.bounces += tally.bounces;
        self.bytes_copied += tally.bytes_copied;
        self.failed += tally.failed;
    }
}
