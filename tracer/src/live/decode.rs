//! Ring records into events, and device pointers into device numbers.

use std::collections::HashMap;

use bytemuck::{Pod, pod_read_unaligned};
use tracer_ebpf::record::{self, Header, Kind, device_flag};

use crate::event::{Batch, DeviceId, Direction, Event, Segment, What};
use crate::facts::Device;

/// What has been decoded and not yet been taken, and what must be remembered between records.
#[derive(Default)]
pub(super) struct Decoder {
    /// Events in the order of the ring.
    pub(super) batch: Batch,
    /// Devices described since they were last taken; they come before `batch`.
    pub(super) new_devices: Vec<Device>,
    /// The newest description of each `struct device *`.
    current: HashMap<u64, DeviceId>,
    devices: u32,
    /// Granule of an IOMMU whose domain could not be read: the page size is what every arm64 SMMU driver offers.
    page_size: u64,
    /// Address of the default pool; `None` when kallsyms does not tell.
    default_pool: Option<u64>,
    /// Records decoded, by kind as in [`Kind::ALL`].
    pub(super) decoded: [u64; Kind::ALL.len()],
    /// Records that made no sense: too short, or of an unknown kind or direction.
    pub(super) malformed: u64,
}

impl Decoder {
    pub(super) fn new(page_size: u32, default_pool: Option<u64>) -> Self {
        Self { page_size: u64::from(page_size), default_pool, ..Self::default() }
    }

    /// Decodes one record of the ring.
    pub(super) fn record(&mut self, bytes: &[u8]) {
        match self.decode(bytes) {
            Some(kind) => self.decoded[kind as usize] += 1,
            None => self.malformed += 1,
        }
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
                What::Map { device, phys: r.phys, dma_addr: r.dma_addr, size: r.size, direction, attrs: r.attrs }
            }
            Kind::Unmap => {
                let r: record::Unmap = prefix(bytes)?;
                let device = self.device(r.dev, &header);
                What::Unmap { device, dma_addr: r.dma_addr, size: r.size, direction, attrs: r.attrs }
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
        self.batch.segments.extend(tail.chunks_exact(stride).map(|bytes| {
            let r: record::Segment = pod_read_unaligned(bytes);
            Segment {
                page: r.page,
                dma_addr: r.dma_addr,
                offset: r.offset,
                length: r.length,
                dma_len: r.dma_len,
                dma_flags: r.dma_flags,
            }
        }));
        Some(What::MapSg {
            device: self.device(head.dev, header),
            list: head.list,
            nents: head.nents,
            ents: head.ents,
            direction,
            attrs: head.attrs,
            first_segment,
            segments: head.recorded,
        })
    }

    /// The number of a device; one that was never described (its record was lost) gets a number and no traits.
    fn device(&mut self, dev: u64, header: &Header) -> DeviceId {
        if let Some(id) = self.current.get(&dev) {
            return *id;
        }
        let name = "(description lost)".to_owned();
        self.add(dev, Device { name, time_ns: header.time_ns, ..Device::default() })
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
        self.add(
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
                iommu_granule: flag(device_flag::IOMMU).then_some(granule),
                untrusted: flag(device_flag::UNTRUSTED),
                force_bounce: flag(device_flag::FORCE_BOUNCE),
                own_pool,
                time_ns: r.header.time_ns,
            },
        );
    }

    fn add(&mut self, dev: u64, mut device: Device) -> DeviceId {
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
mod tests {
    use bytemuck::{Zeroable, bytes_of};
    use record::NAME_LEN;

    use super::*;

    fn header(kind: Kind, direction: Direction) -> Header {
        Header { time_ns: 7, task: 3, cpu: 1, kind: kind as u8, direction: direction as u8 }
    }

    fn device(dev: u64, flags: u32) -> record::Device {
        let mut name = [b'x'; NAME_LEN];
        name[..4].copy_from_slice(b"usb\0");
        record::Device {
            header: header(Kind::Device, Direction::Bidirectional),
            dev,
            flags,
            name,
            iommu_pgsize_bitmap: 0x20_1000,
            ..record::Device::zeroed()
        }
    }

    fn map(dev: u64) -> record::Map {
        record::Map { header: header(Kind::Map, Direction::FromDevice), dev, phys: 1, dma_addr: 2, size: 8, attrs: 0 }
    }

    #[test]
    fn a_device_described_again_gets_a_new_number() {
        let mut decoder = Decoder::new(4096, None);
        decoder.record(bytes_of(&device(0xd0, device_flag::COHERENT)));
        decoder.record(bytes_of(&map(0xd0)));
        decoder.record(bytes_of(&device(0xd0, device_flag::IOMMU)));
        decoder.record(bytes_of(&map(0xd0)));
        let named: Vec<_> = decoder
            .batch
            .events
            .iter()
            .map(|event| match event.what {
                What::Map { device, .. } => device.0,
                _ => panic!("{event:?}"),
            })
            .collect();
        assert_eq!(named, [0, 1]);
        assert_eq!(decoder.new_devices[0].name, "usb");
        assert!(decoder.new_devices[0].coherent);
        assert_eq!(decoder.new_devices[0].iommu_granule, None);
        assert_eq!(decoder.new_devices[1].iommu_granule, Some(4096));
    }

    #[test]
    fn an_event_of_a_device_whose_description_was_lost_is_kept() {
        let mut decoder = Decoder::new(4096, None);
        decoder.record(bytes_of(&map(0xd0)));
        assert_eq!(decoder.batch.events.len(), 1);
        assert_eq!(decoder.new_devices[0].name, "(description lost)");
    }

    #[test]
    fn a_pool_of_its_own_is_another_than_the_default_or_a_restricted_one() {
        let own = |default_pool, pool, flags| {
            let mut decoder = Decoder::new(4096, default_pool);
            decoder.record(bytes_of(&record::Device { pool, ..device(0xd0, flags) }));
            decoder.new_devices[0].own_pool
        };
        assert!(!own(Some(0x100), 0x100, 0) && own(Some(0x100), 0x200, 0) && !own(Some(0x100), 0, 0));
        assert!(!own(None, 0x100, 0) && own(None, 0x200, device_flag::RESTRICTED_POOL));
    }

    #[test]
    fn syncs_keep_their_direction_and_side() {
        let header = |kind| header(kind, Direction::ToDevice);
        let single = |for_device| record::Sync { header: header(Kind::Sync), dev: 1, dma_addr: 2, size: 8, for_device };
        let list = record::SyncSg { header: header(Kind::SyncSg), dev: 1, list: 3, nents: 2, for_device: 1 };
        let mut decoder = Decoder::new(4096, None);
        decoder.record(bytes_of(&single(0)));
        decoder.record(bytes_of(&single(1)));
        decoder.record(bytes_of(&list));
        let (device, direction) = (DeviceId(0), Direction::ToDevice);
        let single = |for_device| What::Sync { device, dma_addr: 2, size: 8, direction, for_device };
        let list = What::SyncSg { device, list: 3, nents: 2, direction, for_device: true };
        let whats: Vec<_> = decoder.batch.events.iter().map(|event| event.what).collect();
        assert_eq!(whats, [single(false), single(true), list]);
    }

    #[test]
    fn segments_follow_their_list() {
        let head = record::MapSg {
            header: header(Kind::MapSg, Direction::ToDevice),
            nents: 3,
            ents: 1,
            recorded: 2,
            ..record::MapSg::zeroed()
        };
        let segments = [8, 4096].map(|length| record::Segment { length, ..record::Segment::zeroed() });
        let bytes = [bytes_of(&head), bytes_of(&segments[0]), bytes_of(&segments[1])].concat();
        let mut decoder = Decoder::new(4096, None);
        decoder.record(&bytes);
        let event = decoder.batch.events[0];
        assert_eq!(decoder.batch.segments(&event).iter().map(|s| s.length).collect::<Vec<_>>(), [8, 4096]);
    }

    #[test]
    fn records_cut_short_or_of_unknown_kind_are_counted() {
        let mut decoder = Decoder::new(4096, None);
        decoder.record(&bytes_of(&map(1))[..40]);
        decoder.record(&[0xff; 64]);
        decoder.record(&[]);
        assert_eq!((decoder.malformed, decoder.batch.events.len()), (3, 0));
    }
}
