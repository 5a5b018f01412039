//! How the recorded kernel mapped scatterlists, held against the model: into how many DMA segments, and whether it marked them.
//!
//! `iommu_dma_map_sg()` (`drivers/iommu/dma-iommu.c`) sets `SG_DMA_SWIOTLB` in the first entry of a list that it maps element by element.
//! Unmapping and syncs look at that mark alone. Nothing clears it but `sg_init_table()`: in a table that is mapped again without, the mark
//! is that of an earlier mapping. Such a list is a finding, and no disagreement: mapping it does not look at the mark.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use super::devices::{Devices, Identity};
use super::kernel::Kernel;
use super::settings::Settings;
use super::site::{Symbols, named};
use bouncescope_capture::event::{DeviceId, Event, Segment, What};
use bouncescope_capture::passed::PassedLists;
use bouncescope_capture::stream::Start;
use bouncescope_model::concatenation::SegmentLimits;
use bouncescope_model::mapping::Buffer;
use bouncescope_model::policy::Lists as Mode;

/// `SG_DMA_BUS_ADDRESS` (`include/linux/scatterlist.h`): an address of a PCI bus, which goes past the IOMMU.
const BUS_ADDRESS: u32 = 1;
/// `SG_DMA_SWIOTLB` (6.5 on, with `CONFIG_NEED_SG_DMA_FLAGS`).
const SWIOTLB: u32 = 2;
/// Disagreements kept with everything about them; beyond, they are only counted.
const KEPT: usize = 1000;
/// Tables of which it is kept that they were marked: more than can be mapped at one time.
const MOST_TABLES: usize = 1 << 16;

/// A list that was mapped otherwise than predicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListDifference {
    /// When, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// CPU number.
    pub cpu: u16,
    /// The device.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// The function that mapped the list; empty where it was not recorded.
    pub caller: String,
    /// Segments of the list.
    pub segments: u32,
    /// DMA segments, in the model; `None` where it cannot tell.
    pub dma_segments_predicted: Option<u64>,
    /// DMA segments that the kernel made.
    pub dma_segments_kernel: u64,
    /// The list is mapped element by element, and so marked, in the model.
    pub marked_predicted: bool,
    /// The kernel marked it; `None` where that is not recorded.
    pub marked_kernel: Option<bool>,
}

/// Lists of one device, mapped by one function, that carry the mark of an earlier mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StaleMarks {
    /// The device.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// The function that mapped them; empty where it was not recorded.
    pub caller: String,
    /// The module that it is in; empty for the kernel itself.
    pub module: String,
    /// Lists.
    pub lists: u64,
    /// Those of which the earlier mapping, the last of the same table that was marked rightly, is in the recording.
    pub earlier_recorded: u64,
    /// Those of several segments: their unmapping takes each entry for a mapping of its own.
    pub of_several: u64,
    /// When the first was mapped, ns of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
}

/// Scatterlists that were mapped, as far as they are recorded one by one.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Lists {
    /// Lists that were compared.
    pub compared: u64,
    /// Lists behind an IOMMU among them.
    pub behind_iommu: u64,
    /// Lists of several segments among them.
    pub of_several: u64,
    /// Lists of segments of different lengths among them.
    pub of_mixed_lengths: u64,
    /// Those that came out otherwise than predicted.
    pub disagreements: u64,
    /// Lists about which the capture does not tell, or the model.
    pub unknown: u64,
    /// DMA segments of the lists that were compared, in the model.
    pub dma_segments_predicted: u64,
    /// DMA segments that the kernel made of them.
    pub dma_segments_kernel: u64,
    /// Lists that are mapped element by element behind an IOMMU, in the model.
    pub marked_predicted: u64,
    /// Lists behind an IOMMU that the kernel marked so, without the stale ones; `None` where the kernel has no mark, or it is not recorded.
    pub marked_kernel: Option<u64>,
    /// DMA segments of the same lists under each of the ways in which a policy maps lists (`--lists`).
    pub dma_segments_by_mode: BTreeMap<&'static str, u64>,
    /// Lists that carry the mark of an earlier mapping, most first.
    pub stale_marks: Vec<StaleMarks>,
    /// The first disagreements.
    pub differences: Vec<ListDifference>,
}

/// The ways to map lists, with their names in a policy.
const MODES: [(Mode, &str); 3] =
    [(Mode::WholeList, "whole-list"), (Mode::WholeListBounce, "whole-list-bounce"), (Mode::Flagged, "flagged")];

/// What the model says of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Predicted {
    /// Behind an IOMMU, element by element.
    lost: bool,
    /// DMA segments in each of [`MODES`]; `None` where something is not known that they depend on.
    dma_segments: [Option<u64>; MODES.len()],
}

/// A disagreement, without the names that are known at the end only.
#[derive(Clone, Debug)]
struct Differs {
    time_ns: u64,
    cpu: u16,
    device: DeviceId,
    caller: u64,
    segments: u32,
    predicted: Predicted,
    ents: u32,
    marked: bool,
    /// Its only difference is a mark that it does not have, which is none where the kernel has no marks.
    mark_alone: bool,
}

/// Counts while the stream flows.
#[derive(Clone, Debug)]
pub(super) struct ListComparison {
    kernel: Kernel,
    page_size: u64,
    /// Before this moment lists are from the kernel's own trace, which has no marks, ns.
    joined_ns: u64,
    /// `CONFIG_NEED_SG_DMA_FLAGS`.
    is_configured: bool,
    lists: Lists,
    marked: u64,
    /// Lists predicted to be marked that are not.
    unmarked: u64,
    stale: HashMap<(Identity, u64), StaleMarks>,
    /// Tables that were marked rightly, by device.
    tables: HashSet<(Identity, u64)>,
    differences: Vec<Differs>,
}

impl ListComparison {
    /// For a stream with this beginning, and the recorded kernel's own rules.
    pub(super) fn new(start: &Start, settings: Settings) -> Self {
        let flags = start.kernel.config.get("CONFIG_NEED_SG_DMA_FLAGS");
        Self {
            kernel: Kernel::new(settings, 0),
            page_size: u64::from(start.kernel.page_size),
            joined_ns: start.joined_ns.unwrap_or(0),
            is_configured: flags.is_some_and(|value| value == "y"),
            lists: Lists::default(),
            marked: 0,
            unmarked: 0,
            stale: HashMap::new(),
            tables: HashSet::new(),
            differences: Vec::new(),
        }
    }

    /// Takes in the event of a list with its segments. Some of them `bounced`, as far as records tell.
    pub(super) fn list(&mut self, event: &Event, segments: &[Segment], bounced: bool, devices: &Devices) {
        let What::MapSg { device, list, nents, ents, caller, .. } = event.what else { return };
        // What is refused is compared as a mapping. Only the programs tell the pages, and with them all of an entry.
        let is_recorded = segments.first().is_some_and(|first| first.page != 0) && event.time_ns >= self.joined_ns;
        if ents == 0 || nents == 0 || !is_recorded {
            return;
        }
        let Some(predicted) = self.predicted(event, segments, devices) else {
            self.lists.unknown += 1;
            return;
        };
        let identity = devices.identity(device);
        let is_behind_iommu = devices.described(device).is_some_and(|device| device.iommu_granule.is_some());
        let has_mark = is_behind_iommu && segments[0].dma_flags & SWIOTLB != 0;
        let lists = &mut self.lists;
        lists.compared += 1;
        lists.behind_iommu += u64::from(is_behind_iommu);
        lists.of_several += u64::from(nents > 1);
        lists.of_mixed_lengths += u64::from(segments.iter().any(|one| one.length != segments[0].length));
        lists.marked_predicted += u64::from(predicted.lost);
        // Taken apart, it would have been for a segment that bounces.
        let is_stale = has_mark && !predicted.lost && !bounced;
        self.marked += u64::from(has_mark && !is_stale);
        let others = predicted.dma_segments[0].is_some_and(|count| count != u64::from(ents));
        for ((_, name), count) in MODES.iter().zip(predicted.dma_segments) {
            *lists.dma_segments_by_mode.entry(name).or_default() += count.unwrap_or(0);
        }
        if let Some(count) = predicted.dma_segments[0] {
            lists.dma_segments_predicted += count;
            lists.dma_segments_kernel += u64::from(ents);
        }
        if is_stale {
            self.stale(event, identity);
        } else if has_mark && predicted.lost {
            if self.tables.len() == MOST_TABLES {
                self.tables.clear();
            }
            self.tables.insert((identity, list));
        }
        let wrongly_marked = !is_stale && has_mark && !predicted.lost;
        let mark_is_missing = predicted.lost && !has_mark;
        if !others && !wrongly_marked && !mark_is_missing {
            return;
        }
        let mark_alone = !others && !wrongly_marked;
        *(if mark_alone { &mut self.unmarked } else { &mut self.lists.disagreements }) += 1;
        if self.differences.len() < KEPT {
            let (time_ns, cpu, marked) = (event.time_ns, event.cpu, has_mark);
            self.differences.push(Differs {
                time_ns,
                cpu,
                device,
                caller,
                segments: nents,
                predicted,
                ents,
                marked,
                mark_alone,
            });
        }
    }

    /// Takes in lists that were left out: not behind an IOMMU, and mapped as predicted.
    pub(super) fn passed(&mut self, passed: &PassedLists) {
        if passed.all == 0 {
            return;
        }
        let lists = &mut self.lists;
        lists.compared += passed.all;
        lists.of_several += passed.of_several;
        lists.of_mixed_lengths += passed.of_mixed_lengths;
        for (_, name) in MODES {
            *lists.dma_segments_by_mode.entry(name).or_default() += passed.segments;
        }
        lists.dma_segments_predicted += passed.segments;
        lists.dma_segments_kernel += passed.segments;
    }

    /// What the model says; `None` where the list or the device is not wholly known.
    fn predicted(&mut self, event: &Event, segments: &[Segment], devices: &Devices) -> Option<Predicted> {
        let What::MapSg { device, nents, direction, attrs, .. } = event.what else { return None };
        let described = devices.described(device)?;
        let Some(granule) = described.iommu_granule else {
            return Some(Predicted { lost: false, dma_segments: [Some(u64::from(nents)); MODES.len()] });
        };
        let is_whole = segments.len() as u32 >= nents;
        if !is_whole || segments.iter().any(|one| one.dma_flags & BUS_ADDRESS != 0) {
            return None;
        }
        let direction = direction as u8;
        let buffers = segments.iter().map(|one| Buffer {
            // Nothing above the page is looked at behind an IOMMU.
            phys: u64::from(one.offset),
            dma_addr: None,
            size: u64::from(one.length),
            direction,
            attrs,
            shared: false,
        });
        let unset = SegmentLimits::default();
        let limits = |max_size| SegmentLimits {
            max_size,
            boundary_mask: described.segment_boundary_mask.unwrap_or(unset.boundary_mask),
        };
        let max_size = described.max_segment_size;
        let mut predicted = Predicted::default();
        for (n, (mode, _)) in MODES.into_iter().enumerate() {
            let mut with = |max_size| self.kernel.list(device, mode, limits(max_size), buffers.clone(), devices);
            let (lost, count) = with(max_size.unwrap_or(unset.max_size));
            // Recorders before it was recorded leave it open.
            let other = if max_size.is_none() { with(u32::MAX).1 } else { count };
            let is_known = count == other && (lost || granule <= self.page_size);
            predicted.dma_segments[n] = is_known.then_some(count);
            if n == 0 {
                predicted.lost = lost;
            }
        }
        Some(predicted)
    }

    fn stale(&mut self, event: &Event, identity: Identity) {
        let What::MapSg { list, nents, caller, .. } = event.what else { return };
        let earlier = self.tables.contains(&(identity, list));
        let stale = self.stale.entry((identity, caller)).or_default();
        if stale.lists == 0 {
            stale.first_ns = event.time_ns;
        }
        stale.lists += 1;
        stale.earlier_recorded += u64::from(earlier);
        stale.of_several += u64::from(nents > 1);
    }

    /// What came of it.
    pub(super) fn finish(self, devices: &Devices, symbols: &Symbols) -> Lists {
        let Self { mut lists, is_configured, marked, unmarked, stale, differences, .. } = self;
        // Where nobody says whether the kernel has marks, one of them does.
        let has_marks = is_configured || marked > 0 || !stale.is_empty();
        if has_marks {
            lists.marked_kernel = Some(marked);
            lists.disagreements += unmarked;
        }
        let shown = differences.into_iter().filter(|one| has_marks || !one.mark_alone);
        lists.differences = shown
            .map(|one| {
                let device = devices.get(one.device);
                ListDifference {
                    time_ns: one.time_ns,
                    cpu: one.cpu,
                    device: device.name,
                    driver: device.driver,
                    caller: named(one.caller, symbols).0,
                    segments: one.segments,
                    dma_segments_predicted: one.predicted.dma_segments[0],
                    dma_segments_kernel: u64::from(one.ents),
                    marked_predicted: one.predicted.lost,
                    marked_kernel: has_marks.then_some(one.marked),
                }
            })
            .collect();
        let named_stale = |((identity, caller), stale): ((Identity, u64), StaleMarks)| {
            let device = devices.get(devices.latest(identity).unwrap_or(DeviceId(u32::MAX)));
            let (caller, module) = named(caller, symbols);
            StaleMarks { device: device.name, driver: device.driver, caller, module, ..stale }
        };
        lists.stale_marks = stale.into_iter().map(named_stale).collect();
        lists.stale_marks.sort_by(|a, b| {
            let by_count = b.lists.cmp(&a.lists);
            by_count.then_with(|| (&a.device, &a.caller).cmp(&(&b.device, &b.caller)))
        });
        lists
    }
}

#[cfg(test)]
mod tests;
