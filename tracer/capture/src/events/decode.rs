//! Columns into events: a thousand events at a time, column by column, so that each column is one tight loop over its
//! bytes and what lies between columns and events stays in the CPU's cache.

use super::{COLUMNS, COMMON, Column, LEFT_OUT, MAX_EVENTS, MAX_SEGMENTS, OF_SEGMENTS, columns_of};
use crate::column::{ColumnReader, get};
use crate::event::{Batch, DeviceId, Direction, Event, Kind, Memory, Segment, What};

/// Events decoded at a time; a power of two.
const CHUNK: usize = 1024;

/// Decodes events; keeps its memory between frames.
pub(crate) struct Decoder {
    /// The values that belong to the events at hand. No event takes more than one of a column.
    values: Box<[[u64; CHUNK]]>,
    /// The values that belong to the segments of these events' lists, in the order of [`OF_SEGMENTS`].
    of_segments: [Vec<u64>; OF_SEGMENTS.len()],
    /// Batches that were used, for their memory. Fresh memory of this size comes from the kernel each time, page by page.
    used: Vec<Batch>,
}

/// Used batches that are kept: more than wait at one time.
const MOST_USED: usize = 8;

impl Default for Decoder {
    fn default() -> Self {
        Self { values: vec![[0; CHUNK]; COLUMNS].into(), of_segments: Default::default(), used: Vec::new() }
    }
}

impl Decoder {
    /// Decodes what an [`super::Encoder`] made; `None` when it is no such thing.
    pub(crate) fn decode(&mut self, mut payload: &[u8]) -> Option<Batch> {
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
        for column in LEFT_OUT {
            let column = &mut columns[column as usize];
            if column.is_empty() {
                // Nothing was recorded, or by a recorder from before there was such a column.
                *column = ColumnReader::left_out();
            }
        }
        let mut batch = self.empty();
        batch.events.reserve_exact(count);
        while batch.events.len() < count {
            self.chunk(&mut columns, CHUNK.min(count - batch.events.len()), &mut batch)?;
        }
        columns.iter().all(ColumnReader::is_empty).then_some(batch)
    }

    /// An empty batch.
    pub(crate) fn empty(&mut self) -> Batch {
        let mut batch = self.used.pop().unwrap_or_default();
        batch.clear();
        batch
    }

    /// Takes a batch that nobody needs any more.
    pub(crate) fn take_back(&mut self, used: Batch) {
        if self.used.len() < MOST_USED {
            self.used.push(used);
        }
    }

    /// Decodes the next `count` events.
    fn chunk(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], count: usize, batch: &mut Batch) -> Option<()> {
        self.column(columns, Column::Kind, count)?;
        let of_kind = count_kinds(&self.values[Column::Kind as usize][..count])?;
        let mut counts = [0; COLUMNS];
        for column in COMMON {
            counts[column as usize] = count;
        }
        for (kind, of_kind) in Kind::ALL.into_iter().zip(of_kind) {
            for &column in columns_of(kind) {
                counts[column as usize] += of_kind;
            }
        }
        for &column in COMMON.iter().chain(Kind::ALL.into_iter().flat_map(columns_of)) {
            // Kinds share columns.
            let count = std::mem::take(&mut counts[column as usize]);
            if count > 0 {
                self.column(columns, column, count)?;
            }
        }
        let first_segment = batch.segments.len();
        self.segments(columns, of_kind[Kind::MapSg as usize], batch)?;
        let values = |column: Column| self.values[column as usize][..count].iter();
        let rows = values(Column::Kind).zip(values(Column::Time)).zip(values(Column::Task)).zip(values(Column::Cpu));
        let values = self.values.first_chunk()?;
        let mut rest = Rest { values, used: [0; COLUMNS], first_segment: first_segment as u32 };
        batch.events.extend(rows.map(|(((kind, time_ns), task), cpu)| Event {
            time_ns: *time_ns,
            task: *task as u32,
            cpu: *cpu as u16,
            what: rest.what(Kind::ALL[*kind as usize]),
        }));
        Some(())
    }

    /// Decodes the segments of the `lists` at hand into the batch.
    fn segments(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], lists: usize, batch: &mut Batch) -> Option<()> {
        let count: u64 = self.values[Column::Recorded as usize][..lists].iter().sum();
        if count > (MAX_SEGMENTS - batch.segments.len()) as u64 {
            return None;
        }
        for (column, values) in OF_SEGMENTS.into_iter().zip(&mut self.of_segments) {
            values.resize(count as usize, 0);
            read(columns, column, values)?;
        }
        let [page, offset, length, dma_addr, dma_len, dma_flags, memories, sizes, offsets] =
            self.of_segments.each_ref().map(|values| values.iter());
        let segments = page.zip(offset).zip(length).zip(dma_addr).zip(dma_len).zip(dma_flags);
        let memories = memories.zip(sizes).zip(offsets).map(|((cache, size), offset)| memory(*cache, *size, *offset));
        let all = segments.zip(memories);
        batch.segments.extend(all.map(|((((((page, offset), length), dma_addr), dma_len), dma_flags), memory)| {
            Segment {
                page: *page,
                dma_addr: *dma_addr,
                offset: *offset as u32,
                length: *length as u32,
                dma_len: *dma_len as u32,
                dma_flags: *dma_flags as u32,
                memory,
            }
        }));
        Some(())
    }

    /// Decodes the next `count` values of a column.
    fn column(&mut self, columns: &mut [ColumnReader<'_>; COLUMNS], column: Column, count: usize) -> Option<()> {
        read(columns, column, &mut self.values[column as usize][..count])
    }
}

/// Decodes the next values of a column, each of which must fit its field.
fn read(columns: &mut [ColumnReader<'_>; COLUMNS], column: Column, values: &mut [u64]) -> Option<()> {
    let reader = &mut columns[column as usize];
    if column.is_delta() {
        reader.deltas(values)?;
    } else {
        reader.values(values)?;
    }
    let limit = column.limit();
    // All bits that occur are no less than any value, and found without a branch.
    let fits = limit == u64::MAX
        || values.iter().fold(0, |bits, value| bits | value) <= limit
        || values.iter().all(|value| *value <= limit);
    fits.then_some(())
}

/// What a buffer lies in, by what its columns have.
fn memory(cache: u64, size: u64, offset: u64) -> Memory {
    match cache {
        0 => Memory::Unknown,
        1 => Memory::Pages,
        cache => Memory::object(cache as u16, size as u16, offset as u16),
    }
}

/// How many events there are of each kind; `None` when one is a device or about coherent memory, which have frames of their own, or a cache,
/// which is a symbol.
fn count_kinds(kinds: &[u64]) -> Option<[usize; Kind::ALL.len()]> {
    // Neighbours are mostly of one kind: counted in turn in several places, they need not wait for each other.
    let mut counts = [[0_usize; Kind::ALL.len()]; 4];
    for four in kinds.chunks(4) {
        for (kind, counts) in four.iter().zip(&mut counts) {
            *counts.get_mut(*kind as usize)? += 1;
        }
    }
    let sum = std::array::from_fn(|kind| counts.iter().map(|counts| counts[kind]).sum());
    let elsewhere = [Kind::Device, Kind::Cache, Kind::CoherentAlloc, Kind::CoherentFree];
    elsewhere.iter().all(|kind| sum[*kind as usize] == 0).then_some(sum)
}

/// What the events at hand have besides what all have, as it is used up. There is as much as they take: `Decoder::chunk` has
/// seen to that, and to the limits.
struct Rest<'a> {
    values: &'a [[u64; CHUNK]; COLUMNS],
    used: [usize; COLUMNS],
    first_segment: u32,
}

impl Rest<'_> {
    #[inline]
    fn value(&mut self, column: Column) -> u64 {
        let used = &mut self.used[column as usize];
        let value = self.values[column as usize][*used % CHUNK];
        *used += 1;
        value
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

    /// What happened in the next event, of this kind.
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
                    memory: memory(self.value(C::Memory), self.value(C::ObjectSize), self.value(C::ObjectOffset)),
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
            Kind::Link => {
                let phys = self.value(C::Phys);
                What::Link {
                    device: self.device(),
                    phys,
                    dma_addr: self.value(C::DmaAddr).wrapping_add(phys),
                    size: self.value(C::Size),
                    direction: self.direction(),
                    attrs: self.value(C::Attrs),
                }
            }
            Kind::Unlink => What::Unlink {
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
                    caller: self.value(C::Caller),
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
            // `count_kinds` has refused the others.
            Kind::Kfree | Kind::Device | Kind::Cache | Kind::CoherentAlloc | Kind::CoherentFree => {
                What::Kfree { call_site: self.value(C::FreeSite), ptr: self.value(C::FreedPtr) }
            }
        }
    }
}
