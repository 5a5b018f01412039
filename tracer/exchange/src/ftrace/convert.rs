//! Lines of a trace as events of a stream.

use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashMap;

use super::fields::{CallSite, Pointer};
use super::line::Line;
use super::values::{Lists, Values};
use bouncescope_capture::event::{Batch, DeviceId, Event, Kind, MAPPING_ERROR, Memory, Segment, What};
use bouncescope_capture::facts::{SiteCount, Symbol};

/// Whether a DMA address shows by itself that the buffer bounced: it differs from the physical one inside the page, where neither a bus
/// offset nor an IOMMU changes anything.
pub(super) fn is_displaced(phys: u64, dma_addr: u64) -> bool {
    dma_addr != MAPPING_ERROR && (phys ^ dma_addr) & 0xfff != 0
}

/// When, who and where.
pub(super) struct Head {
    pub(super) time_ns: u64,
    pub(super) task: u32,
    pub(super) cpu: u16,
}

/// Makes events of lines.
#[derive(Debug)]
pub(super) struct Converter {
    devices: HashMap<String, DeviceId>,
    /// The trace has `swiotlb_bounced`. Without it bounces are taken from DMA addresses.
    has_bounces: bool,
    /// Events by kind.
    pub(super) converted: Vec<(Kind, u64)>,
    /// Addresses given to call sites, which a trace names: those of the kernel itself, and those of modules by module.
    named: HashMap<String, u64>,
    in_modules: HashMap<String, HashMap<String, u64>>,
    /// Addresses that were given.
    addresses: u64,
    sites: HashMap<(u64, u32, u32), u64>,
    /// Objects of which the trace does not have the address.
    nameless: u64,
}

impl Converter {
    pub(super) fn new(devices: HashMap<String, DeviceId>, has_bounces: bool) -> Self {
        Self {
            devices,
            has_bounces,
            converted: Vec::new(),
            named: HashMap::new(),
            in_modules: HashMap::new(),
            addresses: 0,
            sites: HashMap::new(),
            nameless: 0,
        }
    }

    /// The device of this name, if anybody describes it.
    pub(super) fn device(&self, name: &str) -> Option<DeviceId> {
        self.devices.get(name).copied()
    }

    /// Converts an event that is read; whether it could be.
    pub(super) fn event(
        &mut self,
        line: &Line<'_>,
        values: &Values<'_>,
        lists: &Lists,
        batch: &mut Batch,
        symbols: &mut Vec<Symbol>,
    ) -> bool {
        let device = match values.device() {
            Some(name) => self.device(name),
            None => Some(DeviceId(0)),
        };
        let Some(device) = device else { return false };
        let what = match *values {
            Values::Kmalloc { site, ptr, bytes_req, bytes_alloc } => {
                let call_site = match site {
                    CallSite::Address(addr) => addr,
                    CallSite::Named { name, module } => self.named(name, module, symbols),
                };
                let ptr = if let Pointer::Known(addr) = ptr { addr } else { self.nameless() };
                What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp: 0 }
            }
            Values::Kfree { ptr, .. } => {
                let ptr = if let Pointer::Known(addr) = ptr { addr } else { 0 };
                What::Kfree { call_site: 0, ptr }
            }
            Values::Map { phys, dma_addr, size, direction, attrs, .. } => {
                What::Map { device, phys, dma_addr, size, direction, memory: Memory::Unknown, attrs }
            }
            Values::Unmap { dma_addr, size, direction, attrs, .. } => {
                What::Unmap { device, dma_addr, size, direction, attrs }
            }
            Values::Sync { dma_addr, size, direction, for_device, .. } => {
                What::Sync { device, dma_addr, size, direction, for_device }
            }
            Values::Bounced { dev_addr, size, .. } => What::Bounced { device, dev_addr, size },
            Values::MapSg { nents, ents, direction, attrs, .. } => {
                let first_segment = batch.segments.len() as u32;
                let segments = lists.buffers.iter().zip(&lists.dma_addrs).zip(&lists.lengths);
                batch.segments.extend(segments.map(|((phys, dma_addr), length)| segment(*phys, *dma_addr, *length)));
                What::MapSg {
                    device,
                    list: identity(&lists.buffers),
                    nents,
                    ents,
                    direction,
                    attrs,
                    caller: 0,
                    first_segment,
                    segments: batch.segments.len() as u32 - first_segment,
                }
            }
            Values::RefusedSg { direction, attrs, .. } => What::MapSg {
                device,
                list: identity(&lists.buffers),
                nents: lists.buffers.len() as u32,
                ents: 0,
                direction,
                attrs,
                caller: 0,
                first_segment: 0,
                segments: 0,
            },
            Values::UnmapSg { direction, attrs, .. } => {
                let nents = lists.buffers.len() as u32;
                What::UnmapSg { device, list: identity(&lists.buffers), nents, direction, attrs }
            }
        };
        let head = Head { time_ns: line.time.ns(), task: line.task, cpu: line.cpu.unwrap_or(0) };
        self.take(&head, what, &lists.buffers, batch);
        true
    }

    /// Takes in an event, with the bounces that it shows; of a list, `buffers` are the physical addresses.
    pub(super) fn take(&mut self, head: &Head, what: What, buffers: &[u64], batch: &mut Batch) {
        if let What::Kmalloc { call_site, bytes_req, bytes_alloc, .. } = what {
            let saturated = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            *self.sites.entry((call_site, saturated(bytes_req), saturated(bytes_alloc))).or_default() += 1;
        }
        if !self.has_bounces {
            self.shown_bounces(head, &what, buffers, batch);
        }
        self.push(head, what, batch);
    }

    /// An address for an object of its own, which no free names.
    pub(super) fn nameless(&mut self) -> u64 {
        self.nameless += 1;
        NAMELESS + self.nameless
    }

    /// The bounces that a mapping's own addresses show.
    fn shown_bounces(&mut self, head: &Head, mapping: &What, buffers: &[u64], batch: &mut Batch) {
        match *mapping {
            What::Map { device, phys, dma_addr, size, .. } if is_displaced(phys, dma_addr) => {
                self.push(head, What::Bounced { device, dev_addr: phys, size }, batch);
            }
            What::MapSg { device, first_segment, segments, .. } => {
                for (n, phys) in buffers.iter().enumerate().take(segments as usize) {
                    let segment = batch.segments[first_segment as usize + n];
                    if is_displaced(*phys, segment.dma_addr) {
                        let bounced = What::Bounced { device, dev_addr: *phys, size: u64::from(segment.length) };
                        self.push(head, bounced, batch);
                    }
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, head: &Head, what: What, batch: &mut Batch) {
        let kind = what.kind();
        match self.converted.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.converted.push((kind, 1)),
        }
        let Head { time_ns, task, cpu } = *head;
        batch.events.push(Event { time_ns, task, cpu, what });
    }

    /// Allocations by call site and size.
    pub(super) fn sites(&self) -> Vec<SiteCount> {
        let site = |(key, count): (&(u64, u32, u32), &u64)| {
            let (call_site, bytes_req, bytes_alloc) = *key;
            SiteCount { call_site, bytes_req, bytes_alloc, count: *count }
        };
        let mut sites: Vec<_> = self.sites.iter().map(site).collect();
        sites.sort_unstable_by_key(|site| (site.call_site, site.bytes_req, site.bytes_alloc));
        sites
    }

    /// The address that stands for a call site's name in its module.
    pub(super) fn named(&mut self, name: &str, module: &str, symbols: &mut Vec<Symbol>) -> u64 {
        let named = if module.is_empty() { &mut self.named } else { self.in_modules.entry_ref(module).or_default() };
        if let Some(addr) = named.get(name) {
            return *addr;
        }
        self.addresses += 1;
        let addr = self.addresses;
        named.insert(name.to_owned(), addr);
        // `function+0x10/0x40`: the length of the function says nothing here.
        let name = name.split('/').next().unwrap_or(name).to_owned();
        symbols.push(Symbol { addr, name, module: module.to_owned() });
        addr
    }
}

/// Addresses of objects that the trace does not tell apart begin here, above all that hashed pointers can be.
const NAMELESS: u64 = 1 << 63;

/// So many buffers of a list are in its event from 6.18 on (`DMA_TRACE_MAX_ENTRIES`, `include/trace/events/dma.h`).
const MOST: usize = 128;

/// A piece of a list.
pub(super) fn segment(phys: u64, dma_addr: u64, length: u64) -> Segment {
    let (offset, length) = ((phys & 0xfff) as u32, length as u32);
    Segment { page: 0, dma_addr, offset, length, dma_len: length, dma_flags: 0, memory: Memory::Unknown }
}

/// A list is known again by its first buffers: the events do not tell where it lies.
pub(super) fn identity(buffers: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    buffers[..buffers.len().min(MOST)].hash(&mut hasher);
    hasher.finish()
}
