//! Lines of a trace as events of a stream.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::fields::{self, CallSite, Pointer, address, array, attrs, direction, hex, number, of_all, pointer};
use super::line::Line;
use bouncescope_capture::event::{Batch, DeviceId, Event, Kind, MAPPING_ERROR, Segment, What};
use bouncescope_capture::facts::{SiteCount, Symbol};

/// Longer names are no device's: sysfs has a directory of each (`NAME_MAX`, `include/uapi/linux/limits.h`).
const LONGEST_NAME: usize = 255;

/// What an event of this name is converted to; `None` for those that are not.
pub(super) fn kind(event: &str) -> Option<Kind> {
    Some(match event {
        "kmalloc" | "kmalloc_node" => Kind::Kmalloc,
        "kfree" => Kind::Kfree,
        "dma_map_page" | "dma_map_phys" => Kind::Map,
        "dma_unmap_page" | "dma_unmap_phys" => Kind::Unmap,
        "dma_map_sg" | "dma_map_sg_err" => Kind::MapSg,
        "dma_unmap_sg" => Kind::UnmapSg,
        "swiotlb_bounced" => Kind::Bounced,
        "dma_sync_single_for_cpu" | "dma_sync_single_for_device" => Kind::Sync,
        _ => return None,
    })
}

/// The device that an event is of; `None` too where there should be one, and what is there is no device's name.
pub(super) fn device<'a>(line: &Line<'a>) -> Option<&'a str> {
    let name = match kind(line.event)? {
        Kind::Kmalloc | Kind::Kfree => None,
        Kind::Bounced => fields::bounced_device(line.text),
        _ => fields::device(line.text),
    };
    name.filter(|name| (1..=LONGEST_NAME).contains(&name.len()))
}

/// Whether an event is one of a device.
fn is_of_device(line: &Line<'_>) -> bool {
    kind(line.event).is_some_and(|kind| !matches!(kind, Kind::Kmalloc | Kind::Kfree))
}

/// Everything is there that is needed of it.
pub(super) fn is_whole(line: &Line<'_>) -> bool {
    let mut batch = Batch::default();
    (!is_of_device(line) || device(line).is_some()) && what(line, DeviceId(0), &mut batch).is_some()
}

/// Lengths of a list's buffers. The event has those of the DMA segments (`lengths` of `dma_map_sg`,
/// `include/trace/events/dma.h`), which are the buffers' only where none were merged.
pub(super) fn list_lengths(text: &str) -> Option<Vec<u64>> {
    let (sizes, buffers) =
        (array(text, "sizes", 4).or_else(|| array(text, "lengths", 4))?, array(text, "phys_addrs", 8)?);
    let one_by_one = sizes.len() == buffers.len() && entries(text, "nents") == entries(text, "ents");
    one_by_one.then_some(sizes)
}

/// Entries of a list, all of them: the event holds no more than [`MOST`]. `None` where it does not say how many there are.
fn entries(text: &str, name: &str) -> Option<u32> {
    of_all(text, name).or_else(|| of_all(text, &format!("full_{name}")))
}

/// Whether a DMA address shows by itself that the buffer bounced: it differs from the physical one inside the page, where neither a bus
/// offset nor an IOMMU changes anything.
pub(super) fn is_displaced(phys: u64, dma_addr: u64) -> bool {
    dma_addr != MAPPING_ERROR && (phys ^ dma_addr) & 0xfff != 0
}

/// Makes events of lines.
#[derive(Debug)]
pub(super) struct Converter {
    devices: HashMap<String, DeviceId>,
    /// The trace has `swiotlb_bounced`. Without it bounces are taken from DMA addresses.
    has_bounces: bool,
    /// Events by kind.
    pub(super) converted: BTreeMap<&'static str, u64>,
    /// Addresses given to call sites, which a trace names.
    named: HashMap<String, u64>,
    sites: HashMap<(u64, u32, u32), u64>,
    /// Objects of which the trace does not have the address.
    nameless: u64,
}

impl Converter {
    pub(super) fn new(devices: HashMap<String, DeviceId>, has_bounces: bool) -> Self {
        Self {
            devices,
            has_bounces,
            converted: BTreeMap::new(),
            named: HashMap::new(),
            sites: HashMap::new(),
            nameless: 0,
        }
    }

    /// Converts an event that is read; whether it could be.
    pub(super) fn event(&mut self, line: &Line<'_>, batch: &mut Batch, symbols: &mut Vec<Symbol>) -> bool {
        let device = match device(line) {
            Some(name) => self.devices.get(name).copied(),
            None if is_of_device(line) => None,
            None => Some(DeviceId(0)),
        };
        let Some(mut what) = device.and_then(|device| what(line, device, batch)) else { return false };
        if let What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, .. } = &mut what {
            *call_site = self.call_site(fields::call_site(line.text), symbols);
            if pointer(line.text) == Some(Pointer::NotYet) {
                // An object of its own, which no free names.
                self.nameless += 1;
                *ptr = NAMELESS + self.nameless;
            }
            let saturated = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            *self.sites.entry((*call_site, saturated(*bytes_req), saturated(*bytes_alloc))).or_default() += 1;
        }
        if !self.has_bounces {
            self.shown_bounces(line, &what, batch);
        }
        self.push(line, what, batch);
        true
    }

    /// The bounces that a mapping's own addresses show.
    fn shown_bounces(&mut self, line: &Line<'_>, mapping: &What, batch: &mut Batch) {
        let mut displaced = Vec::new();
        let device = match *mapping {
            What::Map { device, phys, dma_addr, size, .. } => {
                displaced.extend(is_displaced(phys, dma_addr).then_some((phys, size)));
                device
            }
            What::MapSg { device, first_segment, .. } => {
                let buffers = array(line.text, "phys_addrs", 8).unwrap_or_default();
                let segments = &batch.segments[first_segment as usize..];
                let pairs =
                    buffers.iter().zip(segments).filter(|(phys, segment)| is_displaced(**phys, segment.dma_addr));
                displaced.extend(pairs.map(|(phys, segment)| (*phys, u64::from(segment.length))));
                device
            }
            _ => return,
        };
        for (dev_addr, size) in displaced {
            self.push(line, What::Bounced { device, dev_addr, size }, batch);
        }
    }

    fn push(&mut self, line: &Line<'_>, what: What, batch: &mut Batch) {
        *self.converted.entry(what.kind().name()).or_default() += 1;
        batch.events.push(Event { time_ns: line.time.ns(), task: line.task, cpu: line.cpu.unwrap_or(0), what });
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

    /// The address itself where the trace has it, else one that stands for the name in its module.
    fn call_site(&mut self, site: CallSite<'_>, symbols: &mut Vec<Symbol>) -> u64 {
        let (name, module) = match site {
            CallSite::Address(addr) => return addr,
            CallSite::Named { name, module } => (name, module),
        };
        let next = self.named.len() as u64 + 1;
        // Most allocations come from the kernel itself: no text is made for them.
        let known =
            if module.is_empty() { self.named.get(name) } else { self.named.get(&format!("{name} [{module}]")) };
        if let Some(addr) = known {
            return *addr;
        }
        self.named.insert(if module.is_empty() { name.to_owned() } else { format!("{name} [{module}]") }, next);
        // `function+0x10/0x40`: the length of the function says nothing here.
        let name = name.split('/').next().unwrap_or(name).to_owned();
        symbols.push(Symbol { addr: next, name, module: module.to_owned() });
        next
    }
}

/// Addresses of objects that the trace does not tell apart begin here, above all that hashed pointers can be.
const NAMELESS: u64 = 1 << 63;

/// What happened; `None` where a value is missing. Segments of lists go into the batch.
fn what(line: &Line<'_>, device: DeviceId, batch: &mut Batch) -> Option<What> {
    let text = line.text;
    Some(match kind(line.event)? {
        Kind::Kmalloc => What::Kmalloc {
            call_site: 0,
            ptr: object(text)?,
            bytes_req: number(text, "bytes_req")?,
            bytes_alloc: number(text, "bytes_alloc")?,
            gfp: 0,
        },
        Kind::Kfree => What::Kfree { call_site: 0, ptr: object(text)? },
        Kind::Map => What::Map {
            device,
            phys: hex(text, "phys_addr")?,
            dma_addr: hex(text, "dma_addr")?,
            size: number(text, "size")?,
            direction: direction(text)?,
            attrs: attrs(text),
        },
        Kind::Unmap => What::Unmap {
            device,
            dma_addr: address(text, ["dma_addr", "addr"])?,
            size: number(text, "size")?,
            direction: direction(text)?,
            attrs: attrs(text),
        },
        Kind::Bounced => What::Bounced { device, dev_addr: hex(text, "dev_addr")?, size: number(text, "size")? },
        Kind::Sync => What::Sync {
            device,
            dma_addr: hex(text, "dma_addr")?,
            size: number(text, "size")?,
            direction: direction(text)?,
            for_device: line.event.ends_with("for_device"),
        },
        Kind::MapSg if line.event == "dma_map_sg_err" => refused(text, device)?,
        Kind::MapSg => mapped(text, device, batch)?,
        Kind::UnmapSg => {
            let buffers = array(text, "phys_addrs", 8).or_else(|| array(text, "addrs", 8))?;
            What::UnmapSg {
                device,
                list: identity(&buffers),
                nents: buffers.len() as u32,
                direction: direction(text)?,
                attrs: attrs(text),
            }
        }
        _ => return None,
    })
}

/// The address of an object; 0 for one that is not known yet.
fn object(text: &str) -> Option<u64> {
    Some(match pointer(text)? {
        Pointer::Known(addr) => addr,
        Pointer::NotYet => 0,
    })
}

fn mapped(text: &str, device: DeviceId, batch: &mut Batch) -> Option<What> {
    let (buffers, dma_addrs) = (array(text, "phys_addrs", 8)?, array(text, "dma_addrs", 8)?);
    let nents = entries(text, "nents").unwrap_or(buffers.len() as u32);
    let ents = entries(text, "ents").unwrap_or(dma_addrs.len() as u32);
    let direction = direction(text)?;
    let first_segment = batch.segments.len() as u32;
    for ((phys, dma_addr), length) in buffers.iter().zip(&dma_addrs).zip(list_lengths(text).unwrap_or_default()) {
        let length = length as u32;
        let offset = (phys & 0xfff) as u32;
        batch.segments.push(Segment { page: 0, dma_addr: *dma_addr, offset, length, dma_len: length, dma_flags: 0 });
    }
    Some(What::MapSg {
        device,
        list: identity(&buffers),
        nents,
        ents,
        direction,
        attrs: attrs(text),
        caller: 0,
        first_segment,
        segments: batch.segments.len() as u32 - first_segment,
    })
}

/// Of a refused list the event has no lengths; what it prints as `dma_addrs` are physical addresses.
fn refused(text: &str, device: DeviceId) -> Option<What> {
    let buffers = array(text, "dma_addrs", 8).or_else(|| array(text, "phys_addrs", 8))?;
    Some(What::MapSg {
        device,
        list: identity(&buffers),
        nents: buffers.len() as u32,
        ents: 0,
        direction: direction(text)?,
        attrs: attrs(text),
        caller: 0,
        first_segment: 0,
        segments: 0,
    })
}

/// So many buffers of a list are in its event from 6.18 on (`DMA_TRACE_MAX_ENTRIES`, `include/trace/events/dma.h`).
const MOST: usize = 128;

/// A list is known again by its first buffers: the events do not tell where it lies.
fn identity(buffers: &[u64]) -> u64 {
    let mut hasher = DefaultHasher::new();
    buffers[..buffers.len().min(MOST)].hash(&mut hasher);
    hasher.finish()
}
