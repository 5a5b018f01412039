//! A batch of events as columns: one a field, so that what is alike lies together. Addresses are coded as differences:
//! a mapping's DMA address against its physical address, most others against the one before of the same kind.

use super::column::{ColumnReader, ColumnWriter, get, put};
use crate::event::{Batch, DeviceId, Direction, Event, Kind, Segment, What};

/// The columns, in the order of the file. New ones go to the end: an old reader passes over them, a new reader takes a
/// missing one as empty.
#[derive(Clone, Copy)]
enum Column {
    Kind,
    Time,
    Task,
    Cpu,
    Device,
    Direction,
    Attrs,
    /// Lengths of mappings.
    Size,
    /// Physical addresses of buffers.
    Phys,
    /// DMA addresses less the physical address of the same mapping.
    DmaAddr,
    /// DMA addresses of unmappings.
    UnmapAddr,
    List,
    Nents,
    Ents,
    /// Segments recorded of each list.
    Recorded,
    Page,
    Offset,
    Length,
    SegmentDmaAddr,
    SegmentDmaLen,
    DmaFlags,
    DevAddr,
    Slot,
    SlotUnmap,
    AlignMask,
    Duration,
    CallSite,
    FreeSite,
    Ptr,
    FreedPtr,
    BytesReq,
    BytesAlloc,
    Gfp,
    /// DMA addresses of parts handed over.
    SyncAddr,
    /// 1 for a part handed to the device, 0 to the CPU.
    ForDevice,
}

const COLUMNS: usize = Column::ForDevice as usize + 1;

/// More events than this in one frame are refused by the reader.
pub(super) const MAX_EVENTS: usize = 1 << 16;
/// More segments than this in one frame are refused by the reader.
pub(super) const MAX_SEGMENTS: usize = 1 << 18;

/// Encodes events; keeps its memory between batches.
pub(super) struct Encoder {
    columns: [ColumnWriter; COLUMNS],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { columns: std::array::from_fn(|_| ColumnWriter::default()) }
    }
}

impl Encoder {
    /// Encodes `events` of `batch`, at most [`MAX_EVENTS`] with at most [`MAX_SEGMENTS`].
    pub(super) fn encode(&mut self, events: &[Event], batch: &Batch) -> Vec<u8> {
        for event in events {
            self.event(event, batch.segments(event));
        }
        let mut payload = Vec::new();
        put(&mut payload, events.len() as u64);
        for column in &mut self.columns {
            column.finish(&mut payload);
        }
        payload
    }

    fn value(&mut self, column: Column, value: impl Into<u64>) {
        self.columns[column as usize].value(value.into());
    }

    fn delta(&mut self, column: Column, value: impl Into<u64>) {
        self.columns[column as usize].delta(value.into());
    }

    fn event(&mut self, event: &Event, segments: &[Segment]) {
        use Column as C;
        self.value(C::Kind, event.what.kind() as u8);
        self.delta(C::Time, event.time_ns);
        self.delta(C::Task, event.task);
        self.delta(C::Cpu, event.cpu);
        match event.what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } => {
                self.delta(C::CallSite, call_site);
                self.delta(C::Ptr, ptr);
                self.value(C::BytesReq, bytes_req);
                self.value(C::BytesAlloc, bytes_alloc);
                self.value(C::Gfp, gfp);
            }
            What::Kfree { call_site, ptr } => {
                self.delta(C::FreeSite, call_site);
                self.delta(C::FreedPtr, ptr);
            }
            What::Map { device, phys, dma_addr, size, direction, attrs } => {
                self.mapping(device, direction, attrs);
                self.delta(C::Phys, phys);
                self.delta(C::DmaAddr, dma_addr.wrapping_sub(phys));
                self.value(C::Size, size);
            }
            What::Unmap { device, dma_addr, size, direction, attrs } => {
                self.mapping(device, direction, attrs);
                self.delta(C::UnmapAddr, dma_addr);
                self.value(C::Size, size);
            }
            What::MapSg { device, list, nents, ents, direction, attrs, first_segment: _, segments: _ } => {
                self.mapping(device, direction, attrs);
                self.delta(C::List, list);
                self.value(C::Nents, nents);
                self.value(C::Ents, ents);
                self.value(C::Recorded, segments.len() as u64);
                for segment in segments {
                    self.delta(C::Page, segment.page);
                    self.value(C::Offset, segment.offset);
                    self.value(C::Length, segment.length);
                    self.delta(C::SegmentDmaAddr, segment.dma_addr);
                    self.value(C::SegmentDmaLen, segment.dma_len);
                    self.value(C::DmaFlags, segment.dma_flags);
                }
            }
            What::UnmapSg { device, list, nents, direction, attrs } => {
                self.mapping(device, direction, attrs);
                self.delta(C::List, list);
                self.value(C::Nents, nents);
            }
            What::Bounced { device, dev_addr, size } => {
                self.value(C::Device, device.0);
                self.delta(C::DevAddr, dev_addr);
                self.value(C::Size, size);
            }
            What::SlotMap { device, phys, slot, size, align_mask, direction, duration_ns } => {
                self.value(C::Device, device.0);
                self.value(C::Direction, direction as u8);
                self.delta(C::Phys, phys);
                self.delta(C::Slot, slot);
                self.value(C::Size, size);
                self.value(C::AlignMask, align_mask);
                self.value(C::Duration, duration_ns);
            }
            What::SlotUnmap { device, slot, size, direction } => {
                self.value(C::Device, device.0);
                self.value(C::Direction, direction as u8);
                self.delta(C::SlotUnmap, slot);
                self.value(C::Size, size);
            }
            What::Sync { device, dma_addr, size, direction, for_device } => {
                self.value(C::Device, device.0);
                self.value(C::Direction, direction as u8);
                self.delta(C::SyncAddr, dma_addr);
                self.value(C::Size, size);
                self.value(C::ForDevice, for_device);
            }
            What::SyncSg { device, list, nents, direction, for_device } => {
                self.value(C::Device, device.0);
                self.value(C::Direction, direction as u8);
                self.delta(C::List, list);
                self.value(C::Nents, nents);
                self.value(C::ForDevice, for_device);
            }
        }
    }

    fn mapping(&mut self, device: DeviceId, direction: Direction, attrs: u64) {
        self.value(Column::Device, device.0);
        self.value(Column::Direction, direction as u8);
        self.value(Column::Attrs, attrs);
    }
}

/// Decodes what [`Encoder::encode`] made; `None` when it is no such thing.
pub(super) fn decode(mut payload: &[u8]) -> Option<Batch> {
    let count = usize::try_from(get(&mut payload)?).ok()?;
    // Each event has a byte in the column of kinds.
    if count > MAX_EVENTS || count > payload.len() {
        return None;
    }
    let mut columns = [ColumnReader::empty(); COLUMNS];
    for column in &mut columns {
        if payload.is_empty() {
            break;
        }
        *column = ColumnReader::take(&mut payload)?;
    }
    let mut decoder = Decoder { columns, batch: Batch::default() };
    decoder.batch.events.reserve_exact(count);
    for _ in 0..count {
        let event = decoder.event()?;
        decoder.batch.events.push(event);
    }
    decoder.columns.iter().all(ColumnReader::is_empty).then_some(decoder.batch)
}

struct Decoder<'a> {
    columns: [ColumnReader<'a>; COLUMNS],
    batch: Batch,
}

impl Decoder<'_> {
    #[inline]
    fn value(&mut self, column: Column) -> Option<u64> {
        self.columns[column as usize].value()
    }

    #[inline]
    fn small(&mut self, column: Column) -> Option<u32> {
        u32::try_from(self.value(column)?).ok()
    }

    #[inline]
    fn delta(&mut self, column: Column) -> Option<u64> {
        self.columns[column as usize].delta()
    }

    fn flag(&mut self, column: Column) -> Option<bool> {
        match self.value(column)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn device(&mut self) -> Option<DeviceId> {
        self.small(Column::Device).map(DeviceId)
    }

    fn direction(&mut self) -> Option<Direction> {
        Direction::from_raw(u8::try_from(self.value(Column::Direction)?).ok()?)
    }

    fn mapping(&mut self) -> Option<(DeviceId, Direction, u64)> {
        Some((self.device()?, self.direction()?, self.value(Column::Attrs)?))
    }

    fn event(&mut self) -> Option<Event> {
        let kind = *Kind::ALL.get(usize::try_from(self.value(Column::Kind)?).ok()?)?;
        let time_ns = self.delta(Column::Time)?;
        let task = u32::try_from(self.delta(Column::Task)?).ok()?;
        let cpu = u16::try_from(self.delta(Column::Cpu)?).ok()?;
        Some(Event { time_ns, task, cpu, what: self.what(kind)? })
    }

    fn what(&mut self, kind: Kind) -> Option<What> {
        use Column as C;
        Some(match kind {
            Kind::Device => return None,
            Kind::Kmalloc => What::Kmalloc {
                call_site: self.delta(C::CallSite)?,
                ptr: self.delta(C::Ptr)?,
                bytes_req: self.value(C::BytesReq)?,
                bytes_alloc: self.value(C::BytesAlloc)?,
                gfp: self.value(C::Gfp)?,
            },
            Kind::Kfree => What::Kfree { call_site: self.delta(C::FreeSite)?, ptr: self.delta(C::FreedPtr)? },
            Kind::Map => {
                let (device, direction, attrs) = self.mapping()?;
                let phys = self.delta(C::Phys)?;
                let dma_addr = self.delta(C::DmaAddr)?.wrapping_add(phys);
                What::Map { device, phys, dma_addr, size: self.value(C::Size)?, direction, attrs }
            }
            Kind::Unmap => {
                let (device, direction, attrs) = self.mapping()?;
                let dma_addr = self.delta(C::UnmapAddr)?;
                What::Unmap { device, dma_addr, size: self.value(C::Size)?, direction, attrs }
            }
            Kind::MapSg => self.map_sg()?,
            Kind::UnmapSg => {
                let (device, direction, attrs) = self.mapping()?;
                What::UnmapSg { device, list: self.delta(C::List)?, nents: self.small(C::Nents)?, direction, attrs }
            }
            Kind::Bounced => {
                What::Bounced { device: self.device()?, dev_addr: self.delta(C::DevAddr)?, size: self.value(C::Size)? }
            }
            Kind::SlotMap => What::SlotMap {
                device: self.device()?,
                direction: self.direction()?,
                phys: self.delta(C::Phys)?,
                slot: self.delta(C::Slot)?,
                size: self.value(C::Size)?,
                align_mask: self.value(C::AlignMask)?,
                duration_ns: self.value(C::Duration)?,
            },
            Kind::SlotUnmap => What::SlotUnmap {
                device: self.device()?,
                direction: self.direction()?,
                slot: self.delta(C::SlotUnmap)?,
                size: self.value(C::Size)?,
            },
            Kind::Sync => What::Sync {
                device: self.device()?,
                direction: self.direction()?,
                dma_addr: self.delta(C::SyncAddr)?,
                size: self.value(C::Size)?,
                for_device: self.flag(C::ForDevice)?,
            },
            Kind::SyncSg => What::SyncSg {
                device: self.device()?,
                direction: self.direction()?,
                list: self.delta(C::List)?,
                nents: self.small(C::Nents)?,
                for_device: self.flag(C::ForDevice)?,
            },
        })
    }

    fn map_sg(&mut self) -> Option<What> {
        use Column as C;
        let (device, direction, attrs) = self.mapping()?;
        let list = self.delta(C::List)?;
        let nents = self.small(C::Nents)?;
        let ents = self.small(C::Ents)?;
        let segments = self.small(C::Recorded)?;
        let first_segment = self.batch.segments.len() as u32;
        for _ in 0..segments {
            if self.batch.segments.len() == MAX_SEGMENTS {
                return None;
            }
            let segment = Segment {
                page: self.delta(C::Page)?,
                offset: self.small(C::Offset)?,
                length: self.small(C::Length)?,
                dma_addr: self.delta(C::SegmentDmaAddr)?,
                dma_len: self.small(C::SegmentDmaLen)?,
                dma_flags: self.small(C::DmaFlags)?,
            };
            self.batch.segments.push(segment);
        }
        Some(What::MapSg { device, list, nents, ents, direction, attrs, first_segment, segments })
    }
}
