//! What is the same whatever a simulated kernel does, counted once for all of them; and which mappings have to be followed
//! because something becomes of them in one of these kernels.

use super::breakdown::Breakdown;
use super::compare::Comparison;
use super::devices::{Devices, Identity};
use super::kernel::Kernel;
use super::lines::{Lines, Owner, Placed};
use super::list_marks::ListComparison;
use super::maintenance::{Spared, refused_from};
use super::mapping::{Beside, Buffer, Buffers, Handle, Mapping};
use super::objects::Objects;
use super::pairing::{Plain, Watch};
use super::run::Predicted;
use super::settings::Settings;
use super::site::SiteId;
use super::statistics::{Observed, Statistics};
use super::views::Views;
use bouncescope_capture::event::{DeviceId, Direction, Event, Memory, Segment, What};
use bouncescope_capture::facts::KernelFacts;
use bouncescope_capture::passed::{Alike, Passed, PassedBuffer};
use bouncescope_capture::stream::Streamed;
use bouncescope_model::sharing::Sharing;
use tracer_ebpf::attrs::{MMIO, REQUIRE_COHERENT, SHARES_LINES};

/// What is so mapped may be refused.
const SPECIAL: u64 = MMIO | REQUIRE_COHERENT;

/// Looks at every mapping.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    /// Live objects and call sites.
    pub(super) objects: Objects,
    /// Counts that are the same for all.
    pub(super) common: Breakdown,
    /// What the recorded kernel did.
    pub(super) observed: Observed,
    /// In detail, where asked for.
    pub(super) statistics: Statistics,
    /// The captured kernel's own settings against what it did, where asked for.
    pub(super) comparison: Option<Comparison>,
    /// How it mapped lists, where the comparison was asked for.
    pub(super) lists: Option<ListComparison>,
    /// What lies in one line at the same time is asked for.
    pub(super) finds_overlaps: bool,
    /// What is mapped in which lines.
    pub(super) lines: Lines,
    /// `cache_line_size()` of the recorded kernel.
    captured_line: u64,
    /// What the mappings that are not followed leave unsafe, by view.
    pub(super) unfollowed: Vec<Breakdown>,
    /// Buffers of lengths that a policy wants drivers not to map, by what they are to be a multiple of, bytes.
    unaligned: Vec<(u64, Breakdown)>,
    /// The cache maintenance that the recorded kernel did not do, because it refused the mappings.
    pub(super) spared: Spared,
    /// Mappings of devices whose description was lost.
    pub(super) not_simulated: u64,
    /// `DMA_ATTR_*` bits with which what shares the buffer's lines is no hazard.
    harmless: u64,
    /// No two of which decide alike.
    kernels: Vec<Kernel>,
    views: Views,
    quick: Vec<Option<Quick>>,
    scratch: Vec<Sharing>,
}

/// What decides about most mappings of a device.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is so or not, whatever the others are")]
struct Quick {
    /// No kernel bounces these lengths for alignment.
    never_from: u64,
    /// Some kernel bounces for something else than alignment or reach, or nothing is known of the device.
    always: bool,
    /// The last DMA address that the device reaches without an IOMMU.
    reach: u64,
    /// Not coherent in some kernel: what else lies in its lines matters.
    writes_memory: bool,
    /// The same of the recorded kernel or some other: where its buffers lie matters.
    in_lines: bool,
    known: bool,
}

impl Watcher {
    /// For a kernel's stream.
    pub(super) fn new(kernel: &KernelFacts, statistics: Statistics, comparison: Option<Comparison>) -> Self {
        let mut lines = Lines::default();
        lines.look_at(kernel.cache_line_size.into());
        let has_bit = kernel.release_numbers().is_some_and(|release| release.is_at_least(6, 18));
        Self {
            objects: Objects::new(kernel),
            common: Breakdown::default(),
            observed: Observed::default(),
            statistics,
            comparison,
            lists: None,
            finds_overlaps: true,
            lines,
            captured_line: kernel.cache_line_size.into(),
            unfollowed: Vec::new(),
            unaligned: Vec::new(),
            spared: Spared::default(),
            not_simulated: 0,
            harmless: MMIO | if has_bit { SHARES_LINES } else { 0 },
            kernels: Vec::new(),
            views: Views::default(),
            quick: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Mappings of which something becomes under these settings are to be followed. The view from which it looks at memory.
    pub(super) fn follow_for(&mut self, settings: &Settings) -> usize {
        let view = self.views.of(settings);
        self.lines.look_at(settings.decider.cache_line_size.into());
        self.unfollowed.resize(self.views.len(), Breakdown::default());
        // Those of a sweep over pools ask the same of every mapping.
        if !self.kernels.iter().any(|kernel| kernel.decides_as(settings, view)) {
            self.kernels.push(Kernel::new(settings.clone(), view));
        }
        if let Some(of) = settings.wanted_multiple()
            && self.unaligned(of).is_none()
        {
            self.unaligned.push((of, Breakdown::default()));
        }
        view
    }

    /// Buffers whose length is no multiple of so many bytes, where that was asked for.
    pub(super) fn unaligned(&self, multiple_of: u64) -> Option<&Breakdown> {
        self.unaligned.iter().find(|(of, _)| *of == multiple_of).map(|(_, breakdown)| breakdown)
    }

    /// Counts a buffer for the policies that want drivers to map aligned lengths.
    #[inline]
    fn count_unaligned(&mut self, device: Identity, direction: Direction, size: u64, site: SiteId) {
        for (of, breakdown) in &mut self.unaligned {
            if !size.is_multiple_of(*of) {
                breakdown.unaligned(device, direction, size, site, 1);
            }
        }
    }

    /// Takes in mappings that were left out, as [`Watch::passes`] takes in those of which the same is known; `caller` tells by whom lists are to be counted.
    pub(super) fn passed(
        &mut self,
        passed: &Passed,
        mut caller: impl FnMut(Identity, u64, u64) -> u64,
        devices: &Devices,
    ) {
        for ((device, by), count) in &passed.callers {
            let device = devices.identity(*device);
            self.common.more_lists(device, caller(device, *by, *count), *count);
        }
        for (Alike { device, direction, buffer, length }, count) in &passed.buffers {
            let device = devices.identity(*device);
            self.common.buffers(device, *direction, *length, *buffer != PassedBuffer::Segment, *count);
            for (of, breakdown) in &mut self.unaligned {
                if !length.is_multiple_of(*of) {
                    breakdown.unaligned(device, *direction, *length, SiteId::UNKNOWN, *count);
                }
            }
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.passed(passed);
        }
        if let Some(lists) = &mut self.lists {
            lists.passed(&passed.lists);
        }
    }

    fn quick(&mut self, id: DeviceId, devices: &Devices) -> Quick {
        let index = id.0 as usize;
        if let Some(Some(quick)) = self.quick.get(index) {
            return *quick;
        }
        let Some(device) = devices.described(id) else {
            return Quick {
                never_from: 0,
                always: false,
                reach: u64::MAX,
                writes_memory: false,
                in_lines: false,
                known: false,
            };
        };
        let limits = [device.dma_mask, device.bus_dma_limit].into_iter().filter(|limit| *limit != 0);
        let reach = if device.iommu_granule.is_some() { u64::MAX } else { limits.min().unwrap_or(u64::MAX) };
        let in_lines = self.finds_overlaps && !device.coherent;
        let mut quick = Quick { never_from: 0, always: false, reach, writes_memory: false, in_lines, known: true };
        for kernel in &mut self.kernels {
            quick.never_from = quick.never_from.max(kernel.bounces_below(id, devices));
            quick.always |= kernel.bounces_otherwise(id, devices);
            quick.writes_memory |= kernel.device(id, devices).is_some_and(|taken| !taken.traits.coherent);
        }
        quick.in_lines |= self.finds_overlaps && quick.writes_memory;
        if self.quick.len() <= index {
            self.quick.resize(index + 1, None);
        }
        self.quick[index] = Some(quick);
        quick
    }

    /// Tells for every buffer and view what else lies in its lines. Whether anything can.
    fn look_around(&mut self, mapping: &mut Mapping, segments: &[Segment]) -> bool {
        let buffers: &mut [_] = match &mut mapping.buffers {
            Buffers::One(one) => one,
            Buffers::List(list) => list,
        };
        self.scratch.clear();
        let mut any = false;
        for (n, buffer) in buffers.iter_mut().enumerate() {
            if self.objects.were_seen() || buffer.memory != Memory::Unknown {
                self.objects.locate(buffer, segments.get(n).map(|segment| segment.page));
            }
            for sharing in self.views.sharing(buffer, &self.objects) {
                any |= sharing != Sharing::None;
                self.scratch.push(sharing);
            }
        }
        any
    }

    /// Counts what its small buffers lie in, where that was to be looked up: not of device registers, and not where buffers are linked.
    fn count_origins(&mut self, mapping: &Mapping, devices: &Devices) {
        let coherent = devices.described(mapping.device).is_none_or(|device| device.coherent);
        let small = |buffer: &&Buffer| Streamed::Small.covers(coherent, mapping.direction as u64, buffer.size);
        if mapping.attrs & MMIO == 0 && !mapping.is_link() {
            for buffer in mapping.buffers.iter().filter(small) {
                self.objects.count_origin(buffer.memory);
            }
        }
    }

    /// Whether some kernel may do something with a mapping, as far as that is quickly told.
    fn may_matter(mapping: &Mapping, quick: &Quick) -> bool {
        if quick.always || mapping.attrs & SPECIAL != 0 {
            return true;
        }
        let written = mapping.direction != Direction::ToDevice;
        let may_bounce = |size: u64| written && size < quick.never_from;
        let reaches = |dma_addr: Option<u64>, size: u64| {
            dma_addr.is_none_or(|addr| addr.saturating_add(size.saturating_sub(1)) <= quick.reach)
        };
        let nothing = mapping
            .buffers
            .iter()
            .all(|buffer| !may_bounce(buffer.size) && reaches(buffer.direct_dma_addr, buffer.size));
        !nothing
    }

    /// Notes what is mapped already in the lines of a mapping's buffers, and from now on what it has in which.
    fn find_beside(&mut self, mapping: &mut Mapping, segments: &[Segment], identity: Identity) {
        let written = mapping.direction != Direction::ToDevice;
        let buffers: &mut [_] = match &mut mapping.buffers {
            Buffers::One(one) => one,
            Buffers::List(list) => list,
        };
        let mut found: Vec<Beside> = Vec::new();
        for (n, buffer) in buffers.iter_mut().enumerate() {
            if let Some(segment) = segments.get(n) {
                self.objects.place(buffer, segment.page);
            }
            if !buffer.exact {
                self.lines.not_located += 1;
                continue;
            }
            let placed = Placed { start: buffer.phys, size: buffer.size, written };
            let is_cut = self.lines.beside(placed, |beside| found.push(Beside { buffer: n as u32, ..beside }));
            self.lines.cut += u64::from(is_cut);
        }
        for beside in &mut found {
            beside.shares =
                self.views.shares(&mapping.buffers[beside.buffer as usize], beside, &self.objects).collect();
        }
        mapping.beside = found.into();
        let owner = |n: usize| Owner {
            buffer: (mapping.id, n as u32),
            device: mapping.device,
            origin: mapping.origin(n),
            truth: mapping.buffers[n].truth,
            object: mapping.buffers[n].around.object,
        };
        let located = mapping.buffers.iter().enumerate().filter(|(_, buffer)| buffer.exact);
        let kept = located.map(|(n, buffer)| (Placed { start: buffer.phys, size: buffer.size, written }, owner(n)));
        mapping.in_lines = self.lines.mapped(identity, mapping.handle, mapping.direction, mapping.bytes, kept);
    }

    /// Whether nothing else is mapped in the lines of buffers that were mapped as they are; they are then.
    fn is_alone(&mut self, what: &What, buffers: impl Iterator<Item = Plain> + Clone, devices: &Devices) -> bool {
        let (device, handle, direction, caller, bytes) = match *what {
            What::Map { device, dma_addr, size, direction, .. } => {
                (device, Handle::Single(dma_addr), direction, 0, size)
            }
            What::Link { device, dma_addr, size, direction, .. } => {
                (device, Handle::Link(dma_addr), direction, 0, size)
            }
            // Behind an IOMMU, where a segment lies is told by its page.
            What::MapSg { .. } if buffers.clone().any(|one| one.dma_addr.is_none()) => return false,
            What::MapSg { device, list, direction, caller, .. } => (device, Handle::List(list), direction, caller, 0),
            _ => return false,
        };
        let written = direction != Direction::ToDevice;
        let placed = |one: &Plain| Placed { start: one.phys, size: one.size, written };
        let (mut is_alone, mut cut) = (true, 0);
        for one in buffers.clone() {
            cut += u64::from(self.lines.beside(placed(&one), |_| is_alone = false));
        }
        if is_alone {
            // Otherwise its lines are searched once more, for what is there.
            self.lines.cut += cut;
            let kept = buffers.map(|one| (placed(&one), Owner::of_plain(device, caller, one.proof)));
            self.lines.mapped(devices.identity(device), handle, direction, bytes, kept);
        }
        is_alone
    }

    fn count_unfollowed(&mut self, mapping: &Mapping, devices: &Devices) {
        let views = self.views.len().max(1);
        let device = devices.identity(mapping.device);
        let from_each = self.scratch.chunks(views).enumerate().flat_map(|(n, of_buffer)| {
            let shares = |(_, sharing): &(usize, &Sharing)| **sharing != Sharing::None;
            of_buffer.iter().enumerate().filter(shares).map(move |(view, sharing)| (n, view, *sharing))
        });
        for (n, view, sharing) in from_each {
            // All kernels of a view take the device for the same.
            let kernel = self.kernels.iter_mut().find(|kernel| kernel.view == view);
            if kernel.is_none_or(|kernel| kernel.device(mapping.device, devices).is_none_or(|one| one.traits.coherent))
            {
                continue;
            }
            self.unfollowed[view].cell(mapping, n, device).count_hazard(sharing);
        }
    }
}

impl Watch for Watcher {
    fn unmapped(&mut self, identity: Identity, handle: Handle, size: u64, direction: Direction) {
        if !self.lines.is_empty() {
            self.lines.unmapped(identity, handle, size, direction);
        }
    }

    fn unlinked(&mut self, identity: Identity, dma_addr: u64, size: u64) {
        if !self.lines.is_empty() {
            self.lines.unlinked(identity, dma_addr, size);
        }
    }

    fn list(&mut self, event: &Event, segments: &[Segment], bounced: bool, devices: &Devices) {
        if let Some(lists) = &mut self.lists {
            lists.list(event, segments, bounced, devices);
        }
    }

    fn passes(
        &mut self,
        what: &What,
        buffers: impl ExactSizeIterator<Item = Plain> + Clone,
        devices: &Devices,
    ) -> bool {
        let (What::Map { device, direction, attrs, .. }
        | What::MapSg { device, direction, attrs, .. }
        | What::Link { device, direction, attrs, .. }) = *what
        else {
            return false;
        };
        let quick = self.quick(device, devices);
        let is_origin_known = matches!(what, What::Map { memory, .. } if *memory != Memory::Unknown);
        let looked_at = self.objects.were_seen() || self.statistics.is_detailed() || is_origin_known;
        if !quick.known || quick.always || attrs & SPECIAL != 0 || looked_at {
            return false;
        }
        let written = direction != Direction::ToDevice;
        let in_line = self.views.longest_line().saturating_sub(1);
        let nothing = |one: Plain| {
            let may_share = quick.writes_memory && (one.phys | one.size) & in_line != 0;
            let reaches =
                one.dma_addr.is_none_or(|addr| addr.saturating_add(one.size.saturating_sub(1)) <= quick.reach);
            reaches && !(written && (may_share || one.size < quick.never_from))
        };
        if !buffers.clone().all(nothing) {
            return false;
        }
        if quick.in_lines && attrs & self.harmless == 0 && !self.is_alone(what, buffers.clone(), devices) {
            return false;
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.plain(buffers.clone().map(|one| one.proof));
        }
        let identity = devices.identity(device);
        if let What::MapSg { caller, .. } = *what {
            self.common.list(identity, caller);
        }
        for (n, buffer) in buffers.enumerate() {
            self.common.buffer(identity, direction, buffer.size, n == 0);
            self.count_unaligned(identity, direction, buffer.size, SiteId::UNKNOWN);
        }
        true
    }

    fn mapped(&mut self, mapping: &mut Mapping, segments: &[Segment], devices: &Devices) -> bool {
        let quick = self.quick(mapping.device, devices);
        self.not_simulated += u64::from(!quick.known);
        let written = mapping.direction != Direction::ToDevice && mapping.attrs & self.harmless == 0;
        self.count_origins(mapping, devices);
        self.scratch.clear();
        let mut shares = false;
        if written && quick.writes_memory || self.objects.were_seen() {
            shares = self.look_around(mapping, segments) && written && quick.writes_memory;
        }
        let identity = devices.identity(mapping.device);
        if quick.in_lines && mapping.attrs & self.harmless == 0 && !mapping.failed {
            self.find_beside(mapping, segments, identity);
            self.observed.mapped_beside(mapping, self.captured_line, devices);
        }
        self.common.mapping(mapping, identity);
        if mapping.attrs & MMIO == 0 {
            for buffer in mapping.buffers.iter() {
                self.count_unaligned(identity, mapping.direction, buffer.size, buffer.site);
            }
        }
        self.observed.mapped(mapping, identity);
        self.statistics.mapped(mapping, devices);
        let described = devices.described(mapping.device).filter(|device| mapping.failed && !device.coherent);
        if let Some(device) = described {
            self.spared.refused(mapping, refused_from(mapping, device.iommu_granule.is_some()));
        }
        let bounced = mapping.buffers.iter().any(|buffer| buffer.truth.is_bounced());
        let is_beside = !mapping.beside.is_empty();
        let mut followed = bounced || is_beside;
        if quick.known && (followed || Self::may_matter(mapping, &quick)) {
            if written && quick.writes_memory {
                // Rules may want to know, and those who count what is left unsafe.
                mapping.sharing = self.scratch.as_slice().into();
            }
            followed |= self.kernels.iter_mut().any(|kernel| !kernel.leaves_alone(mapping, devices));
        }
        if !followed {
            if shares && !mapping.failed {
                self.count_unfollowed(mapping, devices);
            }
            if let Some(comparison) = &mut self.comparison {
                comparison.mapping(mapping, |_| Predicted::Direct.into(), devices);
            }
        }
        followed
    }
}
