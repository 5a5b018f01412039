//! Ring records into events, and device pointers into device numbers.

use std::collections::HashMap;
use std::ops::Range;

use bytemuck::{Pod, pod_read_unaligned};
use tracer_ebpf::record::{self, Header, Kind, device_flag};

use crate::{
    kernel::{firmware, reach, root::Root},
    rings::Object,
};
use bouncescope_capture::event::{Batch, DeviceId, Direction, Event, Segment, What};
use bouncescope_capture::facts::Device;
use bouncescope_model::concatenation::SegmentLimits;

use caches::Caches;

mod caches;

/// What has been decoded and not yet been taken, and what must be remembered between records.
#[derive(Default)]
pub(super) struct Decoder {
    /// Events in the order of the ring.
    pub(super) batch: Batch,
    /// Devices described since they were last taken; they come before `batch`.
    pub(super) new_devices: Vec<Device>,
    /// The newest description of each `struct device *`.
    current: HashMap<u64, DeviceId>,
    /// Which device each description was first given a number as, by `struct device *` and fingerprint.
    described: HashMap<(u64, u64), DeviceId>,
    devices: u32,
    /// The programs can tell no more of a device than its name: the firmware tells what else it can.
    only_names: bool,
    /// Granule of an IOMMU whose domain could not be read: the page size is what every arm64 SMMU driver offers.
    page_size: u64,
    /// Slab caches that buffers lie in.
    pub(super) caches: Caches,
    /// Where the functions lie that map scatterlists; empty when kallsyms does not say.
    pub(super) mappers: Vec<Range<u64>>,
    /// Where returns of probed functions are caught.
    pub(super) trampolines: Vec<Range<u64>>,
    /// Address of the default pool; `None` when kallsyms does not tell.
    default_pool: Option<u64>,
    /// Names of restricted pools, by address of their `struct io_tlb_mem`.
    restricted_pools: HashMap<u64, String>,
    /// Records decoded, by kind as in [`Kind::ALL`].
    pub(super) decoded: [u64; Kind::ALL.len()],
    /// Records that made no sense: too short, or of an unknown kind or direction.
    pub(super) malformed: u64,
}

impl Decoder {
    pub(super) fn new(page_size: u32, default_pool: Option<u64>, only_names: bool) -> Self {
        Self { page_size: u64::from(page_size), default_pool, only_names, ..Self::default() }
    }

    /// Decodes one record of the ring.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        match self.decode(bytes) {
            Some(kind) => self.decoded[kind as usize] += 1,
            None => self.malformed += 1,
        }
    }

    /// Takes what happened to an object.
    pub(super) fn object(&mut self, object: &Object<'_>) {
        let kind = if object.is_kmalloc { Kind::Kmalloc } else { Kind::Kfree };
        self.decoded[kind as usize] += 1;
        self.batch.events.push(object.event());
    }

    fn decode(&mut self, bytes: &[u8]) -> Option<Kind> {
        let header: Header = prefix(bytes)?;
        let kind = *Kind::ALL.get(usize::from(header.kind))?;
        let direction = Direction::from_raw(header.direction)?;
        let what = match kind {
            Kind::Device => {
                self.describe(&prefix(bytes)?);
                return Some(kind);
            }
            Kind::Cache => {
                let r: record::Cache = prefix(bytes)?;
                self.caches.describe(&r, text(&r.name));
                return Some(kind);
            }
            Kind::Kmalloc => {
                let r: record::Kmalloc = prefix(bytes)?;
                What::Kmalloc {
                    call_site: r.call_site,
                    ptr: r.ptr,
                    bytes_req: r.bytes_req,
                    bytes_alloc: r.bytes_alloc,
                    gfp: r.gfp,
                }
            }
            Kind::Kfree => {
                let r: record::Kfree = prefix(bytes)?;
                What::Kfree { call_site: r.call_site, ptr: r.ptr }
            }
            Kind::Map => {
                let r: record::Map = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                let memory = self.caches.memory(r.memory, r.phys, self.page_size);
                let record::Map { phys, dma_addr, size, attrs, .. } = r;
                What::Map { device, phys, dma_addr, size, direction, memory, attrs }
            }
            Kind::Unmap => {
                let r: record::Unmap = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::Unmap { device, dma_addr: r.dma_addr, size: r.size, direction, attrs: r.attrs }
            }
            Kind::Link => {
                let r: record::Map = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::Link { device, phys: r.phys, dma_addr: r.dma_addr, size: r.size, direction, attrs: r.attrs }
            }
            Kind::Unlink => {
                let r: record::Unmap = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::Unlink { device, dma_addr: r.dma_addr, size: r.size, direction, attrs: r.attrs }
            }
            Kind::MapSg => self.map_sg(bytes, &header, direction)?,
            Kind::UnmapSg => {
                let r: record::UnmapSg = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::UnmapSg { device, list: r.list, nents: r.nents, direction, attrs: r.attrs }
            }
            Kind::Bounced => {
                let r: record::Bounced = prefix(bytes)?;
                What::Bounced { device: self.device(r.dev, &header), dev_addr: r.dev_addr, size: r.size }
            }
            Kind::SlotMap => {
                let r: record::SlotMap = prefix(bytes)?;
                What::SlotMap {
                    device: self.device(r.dev, &header),
                    phys: r.phys,
                    slot: r.slot,
                    size: r.size,
                    align_mask: r.align_mask,
                    direction,
                    duration_ns: header.time_ns.saturating_sub(r.entry_ns),
                }
            }
            Kind::SlotUnmap => {
                let r: record::SlotUnmap = prefix(bytes)?;
                What::SlotUnmap { device: self.device(r.dev, &header), slot: r.slot, size: r.size, direction }
            }
            Kind::CoherentAlloc => {
                let r: record::Coherent = prefix(bytes)?;
                What::CoherentAlloc {
                    device: self.device(r.dev, &header),
                    slot: r.slot,
                    size: r.size,
                    duration_ns: header.time_ns.saturating_sub(r.entry_ns),
                }
            }
            Kind::CoherentFree => {
                let r: record::Coherent = prefix(bytes)?;
                What::CoherentFree { device: self.device(r.dev, &header), slot: r.slot, size: r.size }
            }
            Kind::Sync => {
                let r: record::Sync = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::Sync { device, dma_addr: r.dma_addr, size: r.size, direction, for_device: r.for_device != 0 }
            }
            Kind::SyncSg => {
                let r: record::SyncSg = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::SyncSg { device, list: r.list, nents: r.nents, direction, for_device: r.for_device != 0 }
            }
        };
        self.batch.events.push(Event { time_ns: header.time_ns, task: header.task, cpu: header.cpu, what });
        Some(kind)
    }

    fn map_sg(&mut self, bytes: &[u8], header: &Header, direction: Direction) -> Option<What> {
        let head: record::MapSg = prefix(bytes)?;
        let first_segment = self.batch.segments.len() as u32;
        let tail = bytes.get(size_of::<record::MapSg>()..)?;
        let stride = size_of::<record::Segment>();
        let tail = tail.get(..head.recorded as usize * stride)?;
        let Self { batch, caches, page_size, .. } = self;
        batch.segments.extend(tail.chunks_exact(stride).map(|bytes| {
            let r: record::Segment = pod_read_unaligned(bytes);
            Segment {
                page: r.page,
                dma_addr: r.dma_addr,
                offset: r.offset,
                length: r.length,
                dma_len: r.dma_len,
                dma_flags: r.dma_flags,
                memory: caches.memory(r.memory, r.offset.into(), *page_size),
            }
        }));
        Some(What::MapSg {
            device: self.device(head.dev, header),
            list: head.list,
            nents: head.nents,
            ents: head.ents,
            direction,
            attrs: head.attrs,
            caller: self.caller(&head),
            first_segment,
            segments: head.recorded,
        })
    }

    /// The return address of who mapped a list: the one behind the functions that map. 0 when it is not on the recorded part of the stack,
    /// or when kallsyms does not say where those functions lie.
    fn caller(&self, head: &record::MapSg) -> u64 {
        let is_in = |functions: &[Range<u64>], addr: &u64| functions.iter().any(|function| function.contains(addr));
        if head.has_returned != 0 {
            // Before 5.16 it is where the probe itself returns to.
            return Some(head.stack[0]).filter(|caller| !is_in(&self.trampolines, caller)).unwrap_or(0);
        }
        // What an interrupt or another driver maps lies in front of what was being mapped. A trampoline of fexit lies between a function
        // and its own beginning.
        let maps = |at: &usize| head.stack.get(*at).is_some_and(|addr| is_in(&self.mappers, addr));
        let mut at = (0..head.stack.len()).find(maps);
        while let Some(next) = at.and_then(|at| [at + 1, at + 2].into_iter().find(maps)) {
            at = Some(next);
        }
        at.and_then(|at| head.stack.get(at + 1)).copied().unwrap_or(0)
    }

    /// The number of a device; one that was never described (its record was lost) gets a number and no traits.
    fn device(&mut self, dev: u64, header: &Header) -> DeviceId {
        if let Some(id) = self.current.get(&dev) {
            return *id;
        }
        self.add(dev, Device::without_description(header.time_ns))
    }

    fn describe(&mut self, r: &record::Device) {
        let granule = match r.iommu_pgsize_bitmap {
            0 => self.page_size,
            bitmap => bitmap & bitmap.wrapping_neg(),
        };
        let flag = |bit| r.flags & bit != 0;
        let own_pool = match self.default_pool {
            Some(default) => r.pool != 0 && r.pool != default,
            None => flag(device_flag::RESTRICTED_POOL),
        };
        let restricted_pool = own_pool.then(|| self.restricted_pool(r.pool, &text(&r.bus), &text(&r.name)));
        // A 0 is none set: dma_get_max_seg_size() and dma_get_seg_boundary() then have a value of their own.
        let unset = SegmentLimits::default();
        let set = |value: u64, unset: u64| if value == 0 { unset } else { value };
        let id = self.add(
            r.dev,
            Device {
                id: DeviceId::default(),
                name: text(&r.name),
                driver: text(&r.driver),
                bus: text(&r.bus),
                coherent: flag(device_flag::COHERENT),
                dma_mask: r.dma_mask,
                bus_dma_limit: r.bus_dma_limit,
                min_align_mask: r.min_align_mask,
                max_segment_size: Some(set(r.max_segment_size, unset.max_size.into()) as u32),
                segment_boundary_mask: Some(set(r.segment_boundary_mask, unset.boundary_mask)),
                iommu_granule: flag(device_flag::IOMMU).then_some(granule),
                untrusted: flag(device_flag::UNTRUSTED),
                force_bounce: flag(device_flag::FORCE_BOUNCE),
                own_pool,
                restricted_pool,
                time_ns: r.header.time_ns,
                undescribed: false,
            },
        );
        self.described.entry((r.dev, r.fingerprint)).or_insert(id);
    }

    /// What a restricted pool is called: like its reserved memory, as firmware gives it to the first of its devices; else by a number.
    fn restricted_pool(&mut self, pool: u64, bus: &str, device: &str) -> String {
        let number = self.restricted_pools.len() + 1;
        let named = || reach::restricted_pool(&Root::default(), bus, device);
        let new = || named().unwrap_or_else(|| format!("restricted pool {number}"));
        self.restricted_pools.entry(pool).or_insert_with(new).clone()
    }

    /// The number of the device that was described so, always the same; `None` while that description has not come.
    pub(super) fn described(&self, dev: u64, fingerprint: u64) -> Option<DeviceId> {
        self.described.get(&(dev, fingerprint)).copied()
    }

    /// The number of a device whose description will not come.
    pub(super) fn undescribed(&mut self, dev: u64, fingerprint: u64, time_ns: u64) -> DeviceId {
        if let Some(id) = self.described(dev, fingerprint) {
            return id;
        }
        let header = Header { time_ns, task: 0, cpu: 0, kind: 0, direction: 0 };
        let id = self.device(dev, &header);
        self.described.insert((dev, fingerprint), id);
        id
    }

    fn add(&mut self, dev: u64, mut device: Device) -> DeviceId {
        if self.only_names {
            firmware::complete(&Root::default(), &mut device, self.page_size as u32);
        }
        device.id = DeviceId(self.devices);
        self.devices += 1;
        self.current.insert(dev, device.id);
        let id = device.id;
        self.new_devices.push(device);
        id
    }
}

/// The record at the beginning of `bytes`; `None` when they are too short.
fn prefix<T: Pod>(bytes: &[u8]) -> Option<T> {
    bytes.get(..size_of::<T>()).map(pod_read_unaligned)
}

/// Up to the first NUL; what follows is not ours.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests;
