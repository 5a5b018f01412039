//! A batch of events as columns: one a field, so that what is alike lies together. Addresses are coded as differences:
//! a mapping's DMA address against its physical address, most others against the one before of the same kind.

mod decode;
mod encode;

pub(super) use decode::Decoder;
pub(super) use encode::Encoder;

use crate::event::{Kind, Memory};

/// The columns, in the order of the file. New ones go to the end: an old reader passes over them, a new reader takes a
/// missing one as empty.
#[derive(Clone, Copy, PartialEq, Eq)]
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
    /// Return addresses of who mapped a list; empty where all are 0.
    Caller,
    /// What buffers of single mappings lie in: 0 unknown, 1 pages, else the number of a cache.
    Memory,
    /// Sizes of the objects that they lie in.
    ObjectSize,
    /// Where in these.
    ObjectOffset,
    /// The same of segments.
    SegmentMemory,
    SegmentObjectSize,
    SegmentObjectOffset,
}

const COLUMNS: usize = Column::SegmentObjectOffset as usize + 1;

/// The columns that are left out of a frame where they have nothing but zeroes.
const LEFT_OUT: [Column; 7] = [
    Column::Caller,
    Column::Memory,
    Column::ObjectSize,
    Column::ObjectOffset,
    Column::SegmentMemory,
    Column::SegmentObjectSize,
    Column::SegmentObjectOffset,
];

/// More events than this in one frame are refused by the reader.
pub(super) const MAX_EVENTS: usize = 1 << 16;
/// More segments than this in one frame are refused by the reader.
pub(super) const MAX_SEGMENTS: usize = 1 << 18;

/// What every event has besides its kind.
const COMMON: [Column; 3] = [Column::Time, Column::Task, Column::Cpu];
/// What every segment of a scatterlist has.
const OF_SEGMENTS: [Column; 9] = [
    Column::Page,
    Column::Offset,
    Column::Length,
    Column::SegmentDmaAddr,
    Column::SegmentDmaLen,
    Column::DmaFlags,
    Column::SegmentMemory,
    Column::SegmentObjectSize,
    Column::SegmentObjectOffset,
];

/// What else an event of this kind has.
const fn columns_of(kind: Kind) -> &'static [Column] {
    use Column as C;
    match kind {
        Kind::Device | Kind::Cache | Kind::CoherentAlloc | Kind::CoherentFree => &[],
        Kind::Kmalloc => &[C::CallSite, C::Ptr, C::BytesReq, C::BytesAlloc, C::Gfp],
        Kind::Kfree => &[C::FreeSite, C::FreedPtr],
        Kind::Map => &[
            C::Device,
            C::Direction,
            C::Attrs,
            C::Phys,
            C::DmaAddr,
            C::Size,
            C::Memory,
            C::ObjectSize,
            C::ObjectOffset,
        ],
        Kind::Link => &[C::Device, C::Direction, C::Attrs, C::Phys, C::DmaAddr, C::Size],
        Kind::Unmap | Kind::Unlink => &[C::Device, C::Direction, C::Attrs, C::UnmapAddr, C::Size],
        Kind::MapSg => &[C::Device, C::Direction, C::Attrs, C::List, C::Nents, C::Ents, C::Recorded, C::Caller],
        Kind::UnmapSg => &[C::Device, C::Direction, C::Attrs, C::List, C::Nents],
        Kind::Bounced => &[C::Device, C::DevAddr, C::Size],
        Kind::SlotMap => &[C::Device, C::Direction, C::Phys, C::Slot, C::Size, C::AlignMask, C::Duration],
        Kind::SlotUnmap => &[C::Device, C::Direction, C::SlotUnmap, C::Size],
        Kind::Sync => &[C::Device, C::Direction, C::SyncAddr, C::Size, C::ForDevice],
        Kind::SyncSg => &[C::Device, C::Direction, C::List, C::Nents, C::ForDevice],
    }
}

impl Column {
    /// Its values are differences.
    const fn is_delta(self) -> bool {
        use Column as C;
        matches!(
            self,
            C::Time
                | C::Task
                | C::Cpu
                | C::Phys
                | C::DmaAddr
                | C::UnmapAddr
                | C::List
                | C::Page
                | C::SegmentDmaAddr
                | C::DevAddr
                | C::Slot
                | C::SlotUnmap
                | C::CallSite
                | C::FreeSite
                | C::Ptr
                | C::FreedPtr
                | C::SyncAddr
                | C::Caller
        )
    }

    /// The largest value that fits its field.
    const fn limit(self) -> u64 {
        use Column as C;
        match self {
            C::Kind => Kind::ALL.len() as u64 - 1,
            C::ForDevice => 1,
            C::Direction => 2,
            C::Memory | C::SegmentMemory => Memory::LAST_CACHE as u64,
            C::Cpu | C::ObjectSize | C::ObjectOffset | C::SegmentObjectSize | C::SegmentObjectOffset => u16::MAX as u64,
            C::Task
            | C::Device
            | C::Nents
            | C::Ents
            | C::Recorded
            | C::Offset
            | C::Length
            | C::SegmentDmaLen
            | C::DmaFlags => u32::MAX as u64,
            _ => u64::MAX,
        }
    }
}
