//! Columns into events: some thousand events at a time, column by column, so that each column is one tight loop over its
//! bytes and what lies between columns and events stays in the CPU's cache.

use std::slice;

use super::{COLUMNS, COMMON, Column, MAX_EVENTS, MAX_SEGMENTS, OF_SEGMENTS, columns_of};
use crate::{
    capture::column::{ColumnReader, get},
    event::{Batch, DeviceId, Direction, Event, Kind, Segment, What},
};

/// Events decoded at a time.
const CHUNK: usize = 2048;

/// Decodes events; keeps its memory between frames.
pub(in crate::capture) struct Decoder {
    /// The values of each column that belong to the events at hand.
    values: [Vec<u64>; COLUMNS],
}

impl Default for Decoder {
    fn default() -> Self {
        Self { values: [const { Vec::new() }; COLUMNS] }
    }
}

impl Decoder {
    /// Decodes what an [`super::Encoder`] made; `None` when it is no such thing.
    pub(in crate::capture) fn decode(&mut self, mut payload: &[u8]) -> Option<Batch> {
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
        let mut batch = Batch::default();
        batch.events.reserve_exact(count);
        while batch.events.len() < count {
            self.chunk(&mut columns, CHUNK.min(count - batch.events.len()), &mut batch)?;
        }
        columns.iter().all(ColumnReader::is_empty).then_some(batch)
    }

    /// Decodes the next `count` events.
    fn chunk(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], count: usize, batch: &mut Batch) -> Option<()> {
        for column in COMMON {
            self.column(columns, column, count)?;
        }
        let mut of_kind = [0; Kind::ALL.len()];
        for &kind in &self.values[Column::Kind as usize] {
            of_kind[kind as usize] += 1;
        }
        // Devices are described in frames of their own.
        if of_kind[Kind::Device as usize] > 0 {
            return None;
        }
        let mut counts = [0; COLUMNS];
        for (kind, of_kind) in Kind::ALL.into_iter().zip(of_kind) {
            for &column in columns_of(kind) {
                counts[column as usize] += of_kind;
            }
        }
        for &column in Kind::ALL.into_iter().flat_map(columns_of) {
            // Kinds share columns.
            let count = std::mem::take(&mut counts[column as usize]);
            if count > 0 {
                self.column(columns, column, count)?;
            }
        }
        let first_segment = batch.segments.len();
        if of_kind[Kind::MapSg as usize] > 0 {
            self.segments(columns, batch)?;
        }
        let mut rows = Rows::new(&self.values, first_segment);
        let kinds = &self.values[Column::Kind as usize];
        batch.events.extend(kinds.iter().map(|&kind| rows.event(kind)));
        Some(())
    }

    /// Decodes the segments of the lists at hand into the batch; the lists themselves are counted from there.
    fn segments(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], batch: &mut Batch) -> Option<()> {
        let mut after = batch.segments.len() as u64;
        for recorded in &self.values[Column::Recorded as usize] {
            after += *recorded;
            if after > MAX_SEGMENTS as u64 {
                return None;
            }
        }
        let count = after as usize - batch.segments.len();
        for column in OF_SEGMENTS {
            self.column(columns, column, count)?;
        }
        let values = |column: Column| self.values[column as usize].iter();
        let addresses = values(Column::Page).zip(values(Column::SegmentDmaAddr));
        let buffers = values(Column::Offset).zip(values(Column::Length));
        let mapped = values(Column::SegmentDmaLen).zip(values(Column::DmaFlags));
        let segments = addresses.zip(buffers).zip(mapped);
        batch.segments.extend(segments.map(|(((page, dma_addr), (offset, length)), (dma_len, dma_flags))| Segment {
            page: *page,
            dma_addr: *dma_addr,
            offset: *offset as u32,
            length: *length as u32,
            dma_len: *dma_len as u32,
            dma_flags: *dma_flags as u32,
        }));
        Some(())
    }

    /// Decodes the next `count` values of a column, each of which must fit its field.
    fn column(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], column: Column, count: usize) -> Option<()> {
        let values = &mut self.values[column as usize];
        let reader = &mut columns[column as usize];
        if column.is_delta() {
            reader.deltas(count, values)?;
        } else {
            reader.values(count, values)?;
        }
        let limit = column.limit();
        // All bits that occur are no less than any value, and found without a branch.
        let fits = limit == u64::MAX
            || values.iter().fold(0, |bits, value| bits | value) <= limit
            || values.iter().all(|value| *value <= limit);
        fits.then_some(())
    }
}

/// The values at hand, as they are used up. There are as many as the events take: `Decoder::chunk` has seen to that, and
/// to their limits.
struct Rows<'a> {
    values: [slice::Iter<'a, u64>; COLUMNS],
    first_segment: u32,
}

impl<'a> Rows<'a> {
    /// `first_segment`: where the first list's segments begin in the batch.
    fn new(values: &'a [Vec<u64>; COLUMNS], first_segment: usize) -> Self {
        Self { values: std::array::from_fn(|column| values[column].iter()), first_segment: first_segment as u32 }
    }

    #[inline]
    fn value(&mut self, column: Column) -> u64 {
        self.values[column as usize].next().copied().unwrap_or_default()
    }

    #[inline]
    fn small(&mut self, column: Column) -> u32 {
        self.value(column) as u32
    }

    #[inline]
    fn device(&mut self) -> DeviceId {
        DeviceId(self.small(Column::Device))
    }

    #[inline]
    fn direction(&mut self) -> Direction {
        Direction::from_raw(self.value(Column::Direction) as u8).unwrap_or_default()
    }

    /// The next event, of this kind.
    #[inline]
    fn event(&mut self, kind: u64) -> Event {
        let time_ns = self.value(Column::Time);
        let task = self.small(Column::Task);
        let cpu = self.value(Column::Cpu) as u16;
        Event { time_ns, task, cpu, what: self.what(Kind::ALL[kind as usize]) }
    }

    #[inline]
    fn what(&mut self, kind: Kind) -> What {
        use Column as C;
        match kind {
            Kind::Map => {
                let phys = self.value(C::Phys);
                What::Map {
                    device: self.device(),
                    phys,
                    dma_addr: self.value(C::DmaAddr).wrapping_add(phys),
                    size: self.value(C::Size),
                    direction: self.direction(),
                    attrs: self.value(C::Attrs),
                }
            }
            Kind::Unmap => What::Unmap {
                device: self.device(),
                dma_addr: self.value(C::UnmapAddr),
                size: self.value(C::Size),
                direction: self.direction(),
                attrs: self.value(C::Attrs),
            },
            Kind::MapSg => {
                let segments = self.small(C::Recorded);
                let first_segment = self.first_segment;
                self.first_segment += segments;
                What::MapSg {
                    device: self.device(),
                    list: self.value(C::List),
                    nents: self.small(C::Nents),
                    ents: self.small(C::Ents),
                    direction: self.direction(),
                    attrs: self.value(C::Attrs),
                    first_segment,
                    segments,
                }
            }
            Kind::UnmapSg => What::UnmapSg {
                device: self.device(),
                list: self.value(C::List),
                nents: self.small(C::Nents),
                direction: self.direction(),
                attrs: self.value(C::Attrs),
            },
            Kind::Bounced => {
                What::Bounced { device: self.device(), dev_addr: self.value(C::DevAddr), size: self.value(C::Size) }
            }
            Kind::SlotMap => What::SlotMap {
                device: self.device(),
                phys: self.value(C::Phys),
                slot: self.value(C::Slot),
                size: self.value(C::Size),
                align_mask: self.value(C::AlignMask),
                direction: self.direction(),
                duration_ns: self.value(C::Duration),
            },
            Kind::SlotUnmap => What::SlotUnmap {
                device: self.device(),
                slot: self.value(C::SlotUnmap),
                size: self.value(C::Size),
                direction: self.direction(),
            },
            Kind::Kmalloc => What::Kmalloc {
                call_site: self.value(C::CallSite),
                ptr: self.value(C::Ptr),
                bytes_req: self.value(C::BytesReq),
                bytes_alloc: self.value(C::BytesAlloc),
                gfp: self.value(C::Gfp),
            },
            Kind::Sync => What::Sync {
                device: self.device(),
                dma_addr: self.value(C::SyncAddr),
                size: self.value(C::Size),
                direction: self.direction(),
                for_device: self.value(C::ForDevice) != 0,
            },
            Kind::SyncSg => What::SyncSg {
                device: self.device(),
                list: self.value(C::List),
                nents: self.small(C::Nents),
                direction: self.direction(),
                for_device: self.value(C::ForDevice) != 0,
            },
            // `Decoder::chunk` has refused devices.
            Kind::Kfree | Kind::Device => {
                What::Kfree { call_site: self.value(C::FreeSite), ptr: self.value(C::FreedPtr) }
            }
        }
    }
}
