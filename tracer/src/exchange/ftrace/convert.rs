//! Lines of a trace as events of a stream.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::fields::{array, attrs, direction, hex, number, of_all, value};
use super::line::Line;
use crate::event::{Batch, DeviceId, Event, Kind, Segment, What};
use crate::facts::{SiteCount, Symbol};

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
        Kind::Bounced => line.text.strip_prefix("dev_name: ")?.split(" dma_mask=").next(),
        _ => line.text.split(" dir=").next(),
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
    let (nents, ents) = (of_all(text, "nents"), of_all(text, "ents"));
    let (sizes, buffers) = (array(text, "sizes")?, array(text, "phys_addrs")?);
    let one_by_one = sizes.len() == buffers.len() && nents == ents;
    one_by_one.then_some(sizes)
}

/// Makes events of lines.
#[derive(Debug)]
pub(super) struct Converter {
    devices: HashMap<String, DeviceId>,
    /// Events by kind.
    pub(super) converted: BTreeMap<&'static str, u64>,
    /// Addresses given to call sites, which a trace names.
    named: HashMap<String, u64>,
    sites: HashMap<(u64, u32, u32), u64>,
}

impl Converter {
    pub(super) fn new(devices: HashMap<String, DeviceId>) -> Self {
        Self { devices, converted: BTreeMap::new(), named: HashMap::new(), sites: HashMap::new() }
    }

    /// Converts an event; one that cannot be is left out, as the survey has counted.
    pub(super) fn event(&mut self, line: &Line<'_>, batch: &mut Batch, symbols: &mut Vec<Symbol>) {
        let device = match device(line) {
            Some(name) => self.devices.get(name).copied(),
            None if is_of_device(line) => None,
            None => Some(DeviceId(0)),
        };
        let Some(mut what) = device.and_then(|device| what(line, device, batch)) else { return };
        if let What::Kmalloc { call_site, bytes_req, bytes_alloc, .. } = &mut what {
            *call_site = self.call_site(value(line.text, "call_site").unwrap_or_default(), symbols);
            let saturated = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            *self.sites.entry((*call_site, saturated(*bytes_req), saturated(*bytes_alloc))).or_default() += 1;
        }
        *self.converted.entry(what.kind().name()).or_default() += 1;
        batch.events.push(Event { time_ns: line.time_ns, task: line.task, cpu: line.cpu, what });
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

    /// The address itself where the trace has it, else one that stands for the name.
    fn call_site(&mut self, name: &str, symbols: &mut Vec<Symbol>) -> u64 {
        if let Some(addr) = name.strip_prefix("0x").and_then(|addr| u64::from_str_radix(addr, 16).ok()) {
            return addr;
        }
        let next = self.named.len() as u64 + 1;
        if let Some(addr) = self.named.get(name) {
            return *addr;
        }
        self.named.insert(name.to_owned(), next);
        // `function+0x10/0x40`: the length of the function says nothing here.
        let name = name.split('/').next().unwrap_or(name).to_owned();
        symbols.push(Symbol { addr: next, name, module: String::new() });
        next
    }
}

/// What happened; `None` where a value is missing. Segments of lists go into the batch.
fn what(line: &Line<'_>, device: DeviceId, batch: &mut Batch) -> Option<What> {
    let text = line.text;
    Some(match kind(line.event)? {
        Kind::Kmalloc => What::Kmalloc {
            call_site: 0,
            ptr: hex(text, "ptr")?,
            bytes_req: number(text, "bytes_req")?,
            bytes_alloc: number(text, "bytes_alloc")?,
            gfp: 0,
        },
        Kind::Kfree => What::Kfree { call_site: 0, ptr: hex(text, "ptr")? },
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
            dma_addr: hex(text, "dma_addr")?,
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
            let buffers = array(text, "phys_addrs")?;
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

fn mapped(text: &str, device: DeviceId, batch: &mut Batch) -> Option<What> {
    let (buffers, dma_addrs) = (array(text, "phys_addrs")?, array(text, "dma_addrs")?);
    let nents = of_all(text, "nents").unwrap_or(buffers.len() as u32);
    let ents = of_all(text, "ents").unwrap_or(dma_addrs.len() as u32);
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
        first_segment,
        segments: batch.segments.len() as u32 - first_segment,
    })
}

/// Of a refused list the event has no lengths; its `dma_addrs` are physical addresses.
fn refused(text: &str, device: DeviceId) -> Option<What> {
    let buffers = array(text, "dma_addrs")?;
    Some(What::MapSg {
        device,
        list: identity(&buffers),
        nents: buffers.len() as u32,
        ents: 0,
        direction: direction(text)?,
        attrs: attrs(text),
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
