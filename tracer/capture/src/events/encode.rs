//! Events into columns.

use super::{COLUMNS, Column, LEFT_OUT};
use crate::column::{ColumnWriter, put};
use crate::event::{Batch, DeviceId, Direction, Event, Memory, Segment, What};

/// Encodes events; keeps its memory between batches.
pub(crate) struct Encoder {
    columns: [ColumnWriter; COLUMNS],
}

impl Default for Encoder {
    fn default() -> Self {
        Self { columns: std::array::from_fn(|_| ColumnWriter::default()) }
    }
}

impl Encoder {
    /// Encodes `events` of `batch`, at most [`super::MAX_EVENTS`] with at most [`super::MAX_SEGMENTS`].
    pub(crate) fn encode(&mut self, events: &[Event], batch: &Batch) -> Vec<u8> {
        for event in events {
            self.event(event, batch.segments(event));
        }
        let mut payload = Vec::new();
        put(&mut payload, events.len() as u64);
        for column in LEFT_OUT {
            self.columns[column as usize].leave_out_zeroes();
        }
        // Those of memory at the end are the youngest: most frames have none.
        let of_memory = Column::Memory as usize;
        let last = (of_memory..COLUMNS).rev().find(|column| !self.columns[*column].is_empty());
        for column in &mut self.columns[..last.map_or(of_memory, |last| last + 1)] {
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
            What::Map { device, phys, dma_addr, size, direction, memory, attrs } => {
                self.mapping(device, direction, attrs);
                self.addresses(phys, dma_addr, size);
                self.memory([C::Memory, C::ObjectSize, C::ObjectOffset], memory);
            }
            What::Link { device, phys, dma_addr, size, direction, attrs } => {
                self.mapping(device, direction, attrs);
                self.addresses(phys, dma_addr, size);
            }
            What::Unmap { device, dma_addr, size, direction, attrs }
            | What::Unlink { device, dma_addr, size, direction, attrs } => {
                self.mapping(device, direction, attrs);
                self.delta(C::UnmapAddr, dma_addr);
                self.value(C::Size, size);
            }
            What::MapSg { device, list, nents, ents, direction, attrs, caller, first_segment: _, segments: _ } => {
                self.mapping(device, direction, attrs);
                self.delta(C::List, list);
                self.value(C::Nents, nents);
                self.value(C::Ents, ents);
                self.value(C::Recorded, segments.len() as u64);
                self.delta(C::Caller, caller);
                for segment in segments {
                    self.delta(C::Page, segment.page);
                    self.value(C::Offset, segment.offset);
                    self.value(C::Length, segment.length);
                    self.delta(C::SegmentDmaAddr, segment.dma_addr);
                    self.value(C::SegmentDmaLen, segment.dma_len);
                    self.value(C::DmaFlags, segment.dma_flags);
                    let columns = [C::SegmentMemory, C::SegmentObjectSize, C::SegmentObjectOffset];
                    self.memory(columns, segment.memory);
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
            // These have frames of their own, which the writer makes.
            What::CoherentAlloc { .. } | What::CoherentFree { .. } => {}
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

    fn memory(&mut self, columns: [Column; 3], memory: Memory) {
        let values = match memory {
            Memory::Unknown => [0; 3],
            Memory::Pages => [1, 0, 0],
            Memory::Object { cache, size, offset } => [cache, size, offset],
        };
        for (column, value) in columns.into_iter().zip(values) {
            self.value(column, value);
        }
    }

    fn addresses(&mut self, phys: u64, dma_addr: u64, size: u64) {
        self.delta(Column::Phys, phys);
        self.delta(Column::DmaAddr, dma_addr.wrapping_sub(phys));
        self.value(Column::Size, size);
    }

    fn mapping(&mut self, device: DeviceId, direction: Direction, attrs: u64) {
        self.value(Column::Device, device.0);
        self.value(Column::Direction, direction as u8);
        self.value(Column::Attrs, attrs);
    }
}
