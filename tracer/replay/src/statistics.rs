//! What happened, without any what-if.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

use super::bounds;
use super::breakdown::Breakdown;
use super::devices::{Devices, Identity};
use super::list_syncs::{AllListSyncs, ListSyncs};
use super::mapping::{Buffer, Mapping, Truth};
use super::names::Names;
use super::outcome::{Rows, Tally};
use super::overlaps::Overlaps;
use super::site::Symbols;
use super::step::Step;
use bouncescope_capture::event::{DeviceId, Event, Kind};
use bouncescope_capture::facts::{PoolSample, SiteCount, Symbol};
use bouncescope_capture::stream::Start;

/// What the kernel did, in the same figures as a replay's outcome.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Bounces, copies and refusals.
    breakdown: Breakdown,
    overlaps: Overlaps,
    total: Tally,
    list_syncs: AllListSyncs,
    /// Buffers of which it is not known whether they bounced.
    pub unknown: u64,
    /// Slots taken for which no mapping was seen.
    pub orphans: u64,
    /// The most slots in use in any sample, and the high-water mark of the last one.
    pub used_peak: Option<u64>,
    /// `io_tlb_used_hiwater` of the last sample.
    pub hiwater: Option<u64>,
    /// The same of the first sample.
    first_hiwater: Option<u64>,
    /// The same of each restricted pool.
    pub restricted: Vec<ObservedPool>,
    /// The kernel's own count of slots, in order; of a long recording the fuller of each two or more samples.
    pub samples: Vec<PoolSample>,
}

impl Observed {
    /// Takes in a mapping.
    pub fn mapped(&mut self, mapping: &Mapping, device: Identity) {
        for (n, buffer) in mapping.buffers.iter().enumerate() {
            match buffer.truth {
                Truth::Bounced { .. } => {
                    let cell = self.breakdown.cell(mapping, n, device);
                    cell.bounces += 1;
                    cell.bytes_copied += buffer.size;
                }
                Truth::Unknown(_) => self.unknown += 1,
                Truth::Direct { .. } | Truth::Refused | Truth::NotReached => {}
            }
        }
        if mapping.failed {
            self.breakdown.cell(mapping, 0, device).failed += 1;
        }
    }

    /// Takes in what was mapped already in the lines of a mapping's buffers. Each buffer counts once that was mapped as it is beside another
    /// that was.
    pub(super) fn mapped_beside(&mut self, mapping: &Mapping, cache_line_size: u64, devices: &Devices) {
        let is_coherent = |id| devices.described(id).is_none_or(|device| device.coherent);
        let is_direct = |truth: Truth| matches!(truth, Truth::Direct { .. });
        if mapping.failed || mapping.beside.is_empty() || is_coherent(mapping.device) {
            return;
        }
        let mut counted = None;
        for beside in mapping.beside.iter() {
            let n = beside.buffer as usize;
            let both = is_direct(beside.truth) && mapping.buffers.get(n).is_some_and(|buffer| is_direct(buffer.truth));
            if counted != Some(n) && both && beside.from_line <= cache_line_size && !is_coherent(beside.device) {
                counted = Some(n);
                self.breakdown.cell(mapping, n, devices.identity(mapping.device)).overlaps += 1;
                self.overlaps.count(mapping, beside, devices);
            }
        }
    }

    /// Overlaps until now.
    pub(super) fn overlaps_so_far(&self) -> u64 {
        self.overlaps.total()
    }

    /// Takes in what becomes of a mapping later.
    pub fn step(&mut self, step: &Step, devices: &Devices) {
        match step {
            Step::Unmapped(unmapping) => {
                let mapping = &unmapping.mapping;
                if let Some(list) = self.list_syncs.take(mapping.id) {
                    self.list_synced(&list);
                }
                if unmapping.copies_back() {
                    self.copied(mapping, |buffer| buffer.size, devices.identity(mapping.device));
                }
            }
            Step::Synced(synced) if synced.copies() => {
                let device = devices.identity(synced.mapping.device);
                if !synced.mapping.is_list() {
                    self.copied(&synced.mapping, |buffer| synced.bytes_of(buffer), device);
                } else if self.list_syncs.count(synced, device) {
                    self.all_lists_synced();
                }
            }
            Step::Unseen(_) => self.orphans += 1,
            _ => {}
        }
    }

    fn all_lists_synced(&mut self) {
        for list in self.list_syncs.take_all() {
            self.list_synced(&list);
        }
    }

    fn list_synced(&mut self, list: &ListSyncs) {
        self.copied(&list.mapping, |buffer| buffer.size * list.copies(), list.device);
    }

    fn copied(&mut self, mapping: &Mapping, bytes: impl Fn(&Buffer) -> u64, device: Identity) {
        for (n, buffer) in mapping.buffers.iter().enumerate().filter(|(_, buffer)| buffer.truth.is_bounced()) {
            self.breakdown.cell(mapping, n, device).bytes_copied += bytes(buffer);
        }
    }

    /// Adds what is the same whatever a kernel does: mappings, buffers, bytes. To be done once, at the end.
    pub fn complete(&mut self, common: &Breakdown) {
        self.all_lists_synced();
        self.breakdown.add(common);
        self.total = self.breakdown.total();
    }

    /// Totals at the end; `failed` are mappings that the kernel refused.
    pub fn total(&self) -> Tally {
        self.total
    }

    /// Takes in a sample of the pool's counters.
    pub fn pool(&mut self, sample: &PoolSample) {
        self.used_peak = self.used_peak.max(Some(sample.used_slots));
        if self.samples.is_empty() {
            self.first_hiwater = sample.hiwater_slots;
        }
        self.hiwater = sample.hiwater_slots;
        self.restricted
            .resize(sample.restricted.len().min(bounds::MAX_LIST).max(self.restricted.len()), ObservedPool::default());
        for (pool, sample) in self.restricted.iter_mut().zip(&sample.restricted) {
            pool.used_peak = pool.used_peak.max(sample.used_slots);
            if !std::mem::replace(&mut pool.is_sampled, true) {
                pool.first_mark = sample.hiwater_slots;
            }
            pool.mark = sample.hiwater_slots;
        }
        if self.samples.len() == SAMPLES {
            let fuller = |two: &[PoolSample]| two.iter().max_by_key(|sample| sample.used_slots).cloned();
            self.samples = self.samples.chunks(2).filter_map(fuller).collect();
        }
        self.samples.push(PoolSample { restricted: Vec::new(), ..sample.clone() });
    }

    /// Whether the high-water mark rose during the recording, and is the recording's own then.
    pub fn has_new_hiwater(&self) -> bool {
        self.first_hiwater.is_some() && self.hiwater > self.first_hiwater
    }

    /// Breakdowns.
    pub fn rows(&self, names: Names) -> Rows {
        Rows { overlaps: self.overlaps.rows(names), ..self.breakdown.rows(names) }
    }
}

/// A restricted pool's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedPool {
    /// Most slots in use in any sample.
    pub used_peak: u64,
    /// `io_tlb_used_hiwater` of the first sample; `None` before it, and where the kernel keeps none.
    first_mark: Option<u64>,
    is_sampled: bool,
    /// The same of the last one.
    mark: Option<u64>,
}

impl ObservedPool {
    /// The high-water mark, where it is the recording's own: it was reset when the recording began, or has risen since.
    pub fn mark(&self, was_reset: bool) -> Option<u64> {
        let has_risen = self.first_mark.is_some_and(|first| self.mark > Some(first));
        self.mark.filter(|_| was_reset || has_risen)
    }
}

/// How many samples of the pool are kept.
const SAMPLES: usize = 1024;
/// Call sites and sizes of which totals are kept; the kernel's own map of them is smaller.
const MOST_SITES: usize = 1 << 18;
/// Names of call sites that are kept.
const MOST_SYMBOLS: usize = 1 << 16;
/// Bytes of a name: `KSYM_NAME_LEN` (`include/linux/kallsyms.h`) and an offset.
const LONGEST_SYMBOL: usize = 512 + 32;
/// Lengths of which one device's buffers are told apart in one direction.
const MOST_LENGTHS: usize = 1 << 14;
/// How many times of bounces are kept; detaching takes milliseconds.
const LATEST: usize = 4096;

/// Powers of two, from 1 up to a page and "more", by which something is aligned.
pub const ALIGNMENTS: usize = 14;

/// Counts by alignment: index n for what is a multiple of 2^n bytes and of no more; the last for all that is more.
pub type ByAlignment = [u64; ALIGNMENTS];

/// Mappings of one device in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeviceStatistics {
    /// `dev_name()`.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// `dev_is_dma_coherent()`.
    pub coherent: bool,
    /// Direction.
    pub direction: String,
    /// Mappings.
    pub mappings: u64,
    /// Of them scatterlists.
    pub lists: u64,
    /// Buffers.
    pub buffers: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
    /// Buffers that bounced.
    pub bounces: u64,
    /// Mappings that the kernel refused.
    pub refused: u64,
    /// Buffers that do not begin at a multiple of the line size.
    pub starts_inside_a_line: u64,
    /// Buffers whose length is no multiple of the line size.
    pub ends_inside_a_line: u64,
    /// Buffers by alignment of their start.
    pub start_alignment: ByAlignment,
    /// Of them those that bounced, by the same.
    pub bounced_start_alignment: ByAlignment,
    /// Buffers by alignment of their length.
    pub length_alignment: ByAlignment,
    /// Buffers by length.
    pub lengths: BTreeMap<u64, u64>,
}

/// Allocations of one call site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SiteStatistics {
    /// `function+0xoffset`, or the address.
    pub call_site: String,
    /// Module.
    pub module: String,
    /// Allocations.
    pub count: u64,
    /// Bytes asked for.
    pub bytes_req: u64,
    /// Bytes given.
    pub bytes_alloc: u64,
}

/// Allocations of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SizeStatistics {
    /// Bytes given to each.
    pub bytes_alloc: u32,
    /// Allocations.
    pub count: u64,
    /// Bytes asked for, by all of them.
    pub bytes_req: u64,
}

/// Everything counted in one pass.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    line: u64,
    page: u64,
    detailed: bool,
    by_device: hashbrown::HashMap<(Identity, u8), (DeviceId, DeviceStatistics)>,
    /// Latest totals by call site and size.
    sites: HashMap<(u64, u32, u32), u64>,
    /// Names of call sites.
    pub symbols: Symbols,
    /// Totals and names of call sites for which there was no room.
    pub(super) left_out: u64,
    events: [u64; Kind::ALL.len()],
    start_ns: u64,
    bounced_since_start: u64,
    /// The times of the last of them, in case that they came when counting had ended.
    latest_bounced: VecDeque<u64>,
    /// Time of the first and of the last event, ns.
    pub span_ns: Option<(u64, u64)>,
}

impl Statistics {
    /// For a stream with this beginning; `detailed` with lengths and alignments by device.
    pub fn new(start: &Start, detailed: bool) -> Self {
        Self {
            line: u64::from(start.kernel.cache_line_size.max(1)),
            page: u64::from(start.kernel.page_size.max(1)),
            start_ns: start.joined_ns.unwrap_or(start.time_ns),
            detailed,
            ..Self::default()
        }
    }

    /// Lengths and alignments are counted.
    pub(crate) fn is_detailed(&self) -> bool {
        self.detailed
    }

    /// Takes in events.
    pub(crate) fn events_of(&mut self, events: &[Event]) {
        // Neighbours are mostly of one kind: counted in turn in two places, they need not wait for each other.
        let mut counts = [[0; Kind::ALL.len()]; 2];
        for (n, event) in events.iter().enumerate() {
            let kind = event.what.kind();
            counts[n % 2][kind as usize] += 1;
            if kind == Kind::Bounced {
                self.bounced(event.time_ns);
            }
        }
        for (sum, kind) in self.events.iter_mut().zip(0..) {
            *sum += counts.iter().map(|counts: &[u64; _]| counts[kind]).sum::<u64>();
        }
        if let (Some(first), Some(last)) = (events.first(), events.last()) {
            let first = self.span_ns.map_or(first.time_ns, |(first, _)| first);
            self.span_ns = Some((first, last.time_ns));
        }
    }

    /// Takes in events of which only the kinds are told: none of the first or the last, nor of attempts to bounce.
    pub(crate) fn events_passed(&mut self, kinds: &[u64; Kind::ALL.len()]) {
        for (sum, count) in self.events.iter_mut().zip(kinds) {
            *sum += count;
        }
    }

    fn bounced(&mut self, time_ns: u64) {
        if time_ns >= self.start_ns {
            self.bounced_since_start += 1;
            if self.latest_bounced.len() == LATEST {
                self.latest_bounced.pop_front();
            }
            self.latest_bounced.push_back(time_ns);
        }
    }

    /// Takes in totals by call site.
    pub fn sites(&mut self, sites: Vec<SiteCount>) {
        for site in sites {
            let key = (site.call_site, site.bytes_req, site.bytes_alloc);
            if self.sites.len() < MOST_SITES || self.sites.contains_key(&key) {
                self.sites.insert(key, site.count);
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Takes in names of call sites.
    pub fn symbols(&mut self, symbols: Vec<Symbol>) {
        for symbol in symbols {
            let fits = symbol.name.len().max(symbol.module.len()) <= LONGEST_SYMBOL;
            if fits && (self.symbols.len() < MOST_SYMBOLS || self.symbols.contains_key(&symbol.addr)) {
                self.symbols.insert(symbol.addr, symbol);
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Takes in a mapping.
    pub fn mapped(&mut self, mapping: &Mapping, devices: &Devices) {
        if !self.detailed {
            return;
        }
        let key = (devices.identity(mapping.device), mapping.direction as u8);
        let (described, statistics) = self.by_device.entry(key).or_default();
        if statistics.mappings == 0 || *described != mapping.device {
            *described = mapping.device;
            let device = devices.get(mapping.device);
            statistics.device = device.name;
            statistics.driver = device.driver;
            statistics.coherent = device.coherent;
            mapping.direction.name().clone_into(&mut statistics.direction);
        }
        statistics.add(mapping, self.line, self.page);
    }

    /// Records of `swiotlb_bounced` after everything was attached and before `end_ns`.
    pub(crate) fn bounced_before(&self, end_ns: u64) -> u64 {
        self.bounced_since_start - self.latest_bounced.iter().filter(|time_ns| **time_ns >= end_ns).count() as u64
    }

    /// Events in the stream, of a kind.
    pub fn events(&self, kind: Kind) -> u64 {
        self.events[kind as usize]
    }

    /// Allocations: address of the call site, bytes asked for, how many.
    pub fn allocations(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.sites.iter().map(|((call_site, bytes_req, _), count)| (*call_site, u64::from(*bytes_req), *count))
    }

    /// Allocations: address of the call site, bytes asked for and given, how many.
    pub(super) fn allocated(&self) -> impl Iterator<Item = (u64, u64, u64, u64)> {
        let widened = |(key, count): (&(u64, u32, u32), &u64)| (key.0, u64::from(key.1), u64::from(key.2), *count);
        self.sites.iter().map(widened)
    }

    /// Mappings by device and direction.
    pub fn devices(&self) -> Vec<DeviceStatistics> {
        let mut devices: Vec<_> = self.by_device.iter().map(|(key, (_, statistics))| (key, statistics)).collect();
        devices.sort_by_key(|(key, device)| (std::cmp::Reverse((device.bounces, device.mappings)), **key));
        devices.into_iter().map(|(_, statistics)| statistics.clone()).collect()
    }

    /// Allocations by call site, most bytes given first.
    pub fn call_sites(&self) -> Vec<SiteStatistics> {
        let mut sites: HashMap<u64, SiteStatistics> = HashMap::new();
        for ((call_site, bytes_req, bytes_alloc), count) in &self.sites {
            let site = sites.entry(*call_site).or_default();
            site.count += count;
            site.bytes_req = site.bytes_req.saturating_add(u64::from(*bytes_req).saturating_mul(*count));
            site.bytes_alloc = site.bytes_alloc.saturating_add(u64::from(*bytes_alloc).saturating_mul(*count));
        }
        let mut named: Vec<_> = sites
            .into_iter()
            .map(|(addr, site)| {
                let symbol = self.symbols.get(&addr);
                let call_site = symbol.map_or_else(|| format!("{addr:#x}"), |symbol| symbol.name.clone());
                let module = symbol.map(|symbol| symbol.module.clone()).unwrap_or_default();
                SiteStatistics { call_site, module, ..site }
            })
            .collect();
        named.sort_by(|a, b| (b.bytes_alloc, &a.call_site).cmp(&(a.bytes_alloc, &b.call_site)));
        named
    }

    /// Allocations by size given, ascending.
    pub fn sizes(&self) -> Vec<SizeStatistics> {
        let mut sizes: BTreeMap<u32, SizeStatistics> = BTreeMap::new();
        for ((_, bytes_req, bytes_alloc), count) in &self.sites {
            let size = sizes.entry(*bytes_alloc).or_default();
            size.bytes_alloc = *bytes_alloc;
            size.count += count;
            size.bytes_req = size.bytes_req.saturating_add(u64::from(*bytes_req).saturating_mul(*count));
        }
        sizes.into_values().collect()
    }
}

impl DeviceStatistics {
    fn add(&mut self, mapping: &Mapping, line: u64, page: u64) {
        self.mappings += 1;
        self.lists += u64::from(mapping.is_list());
        self.refused += u64::from(mapping.failed);
        for buffer in mapping.buffers.iter() {
            self.buffers += 1;
            self.bytes += buffer.size;
            self.bounces += u64::from(buffer.truth.is_bounced());
            self.starts_inside_a_line += u64::from(buffer.phys % line != 0);
            self.ends_inside_a_line += u64::from(buffer.size % line != 0);
            // Beyond the page only the address itself tells.
            let start = if buffer.exact { buffer.phys } else { buffer.phys | page };
            self.start_alignment[alignment(start)] += 1;
            self.bounced_start_alignment[alignment(start)] += u64::from(buffer.truth.is_bounced());
            self.length_alignment[alignment(buffer.size)] += 1;
            if self.lengths.len() < MOST_LENGTHS || self.lengths.contains_key(&buffer.size) {
                *self.lengths.entry(buffer.size).or_default() += 1;
            }
        }
    }
}

/// Index into [`ByAlignment`].
fn alignment(value: u64) -> usize {
    (value.trailing_zeros() as usize).min(ALIGNMENTS - 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mapping::{Besides, Buffers, Handle, Unknown};
    use crate::site::SiteId;
    use crate::step::Synced;
    use bouncescope_capture::event::{DeviceId, Direction, Memory};
    use bouncescope_capture::facts::Device;
    use bouncescope_model::sharing::Around;

    #[test]
    fn the_high_water_mark_is_the_recordings_own_where_it_rose() {
        let observed = |marks: &[Option<u64>]| {
            let mut observed = Observed::default();
            for mark in marks {
                observed.pool(&PoolSample { hiwater_slots: *mark, ..PoolSample::default() });
            }
            observed.has_new_hiwater()
        };
        assert!(observed(&[Some(5), Some(7)]));
        assert!(!observed(&[Some(7), Some(7)]) && !observed(&[None, Some(7)]) && !observed(&[]));
    }

    /// A list of a device that writes, with these buffers.
    fn list(truths: &[Truth]) -> Mapping {
        let buffer = |truth: &Truth| Buffer {
            time_ns: 1,
            cpu: 0,
            phys: 0x1000,
            exact: true,
            size: 100,
            direct_dma_addr: None,
            memory: Memory::Unknown,
            site: SiteId::UNKNOWN,
            around: Around::default(),
            truth: *truth,
        };
        Mapping {
            id: 1,
            time_ns: 1,
            device: DeviceId(0),
            direction: Direction::FromDevice,
            attrs: 0,
            caller: 0,
            handle: Handle::List(7),
            failed: false,
            bytes: 0,
            buffers: Buffers::List(truths.iter().map(buffer).collect()),
            truncated: 0,
            sharing: Box::default(),
            beside: Besides::default(),
            in_lines: false,
        }
    }

    #[test]
    fn syncs_of_a_list_that_stays_mapped_are_copies_at_the_end() {
        let bounced = Truth::Bounced { slot: None };
        let mapping = list(&[bounced, Truth::Unknown(Unknown::EventsLost), bounced]);
        let mut devices = Devices::default();
        devices.add(Device { id: DeviceId(0), ..Device::default() });
        let mut observed = Observed::default();
        observed.mapped(&mapping, devices.identity(mapping.device));
        let synced =
            |for_device| Synced { time_ns: 2, mapping: Arc::new(mapping.clone()), at: 0, size: 300, for_device };
        for for_device in [false, false, true] {
            observed.step(&Step::Synced(synced(for_device)), &devices);
        }
        let mut common = Breakdown::default();
        common.mapping(&mapping, devices.identity(mapping.device));
        observed.complete(&common);
        let total = observed.total();
        assert_eq!((total.mappings, total.buffers, total.bounces, observed.unknown), (1, 3, 2, 1));
        assert_eq!(total.bytes_copied, 2 * 100 * (1 + 2), "when it was mapped, and for each sync for the CPU");
    }

    #[test]
    fn a_list_of_which_no_segment_was_recorded_is_a_mapping() {
        let mut breakdown = Breakdown::default();
        breakdown.mapping(&list(&[]), Identity::default());
        let total = breakdown.total();
        assert_eq!((total.mappings, total.buffers), (1, 0));
    }

    #[test]
    fn names_that_are_too_long_are_counted_and_not_kept() {
        let mut statistics = Statistics::default();
        let symbol = |addr, length| Symbol { addr, name: "x".repeat(length), module: String::new() };
        statistics.symbols(vec![
            symbol(1, LONGEST_SYMBOL),
            symbol(2, LONGEST_SYMBOL + 1),
            symbol(3, 2 * LONGEST_SYMBOL),
        ]);
        assert_eq!((statistics.symbols.len(), statistics.left_out), (1, 2));
    }

    #[test]
    fn lengths_and_alignments_are_counted_where_they_are_asked_for() {
        let detailed = |asked| Statistics::new(&Start::default(), asked).is_detailed();
        assert!(detailed(true) && !detailed(false));
    }
}
