//! What a reader was told to leave closed, and what it gives instead: totals that are as good as the events to those who told it.

use crate::event::{DeviceId, Direction, Kind};

/// What of the events a replay has to see one by one; a reader gives [`Passed`] for the rest where a file allows it.
///
/// The default is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Needs {
    /// Every event.
    #[default]
    Everything,
    /// What any kernel may do something with whose lines are no longer than this, bytes, and which bounces buffers of
    /// [`SMALL_BELOW`](tracer_ebpf::streamed::SMALL_BELOW) bytes and more for nothing else than where they lie.
    WithLines(u64),
    /// What any kernel may do something with that bounces longer buffers too, of devices that write and are not coherent.
    Written,
}

/// What is mapped, as far as totals tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PassedBuffer {
    /// A single buffer, which is a mapping.
    Single = 0,
    /// The first segment of a scatterlist, which stands for the list too.
    FirstSegment = 1,
    /// Another segment of a list.
    Segment = 2,
}

impl PassedBuffer {
    /// Every choice, in the order of its value.
    pub const ALL: [Self; 3] = [Self::Single, Self::FirstSegment, Self::Segment];
}

/// Buffers that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alike {
    /// The device, as it was described then.
    pub device: DeviceId,
    /// Direction.
    pub direction: Direction,
    /// What is mapped.
    pub buffer: PassedBuffer,
    /// Bytes of the buffer.
    pub length: u64,
}

/// Totals of events that were not given one by one. Of each mapping among them it is known that the kernel left it alone, and that every kernel
/// would in which the reader was told to be interested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Events by kind.
    pub kinds: [u64; Kind::ALL.len()],
    /// Mappings of which each buffer's own address proves that it was left alone.
    pub by_address: u64,
    /// Mappings of which that rests on an attempt to bounce that was not seen.
    pub by_no_attempt: u64,
    /// Lists whose segments' pages were recorded. None of them is behind an IOMMU, and each has as many DMA segments as segments.
    pub lists: PassedLists,
    /// Buffers: how many there are of each.
    pub buffers: Vec<(Alike, u64)>,
    /// Lists by device and return address of who mapped them.
    pub callers: Vec<((DeviceId, u64), u64)>,
}

/// Lists among the events that were not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedLists {
    /// All of them.
    pub all: u64,
    /// Of several segments.
    pub of_several: u64,
    /// Of segments of different lengths.
    pub of_mixed_lengths: u64,
    /// Their segments.
    pub segments: u64,
}

impl Passed {
    /// Events.
    pub fn events(&self) -> u64 {
        self.kinds.iter().sum()
    }

    /// Mappings: single buffers and lists.
    pub fn mappings(&self) -> u64 {
        self.by_address + self.by_no_attempt
    }

    /// Adds others.
    pub fn add(&mut self, other: Self) {
        for (sum, count) in self.kinds.iter_mut().zip(other.kinds) {
            *sum += count;
        }
        self.by_address += other.by_address;
        self.by_no_attempt += other.by_no_attempt;
        self.lists.all += other.lists.all;
        self.lists.of_several += other.lists.of_several;
        self.lists.of_mixed_lengths += other.lists.of_mixed_lengths;
        self.lists.segments += other.lists.segments;
        self.buffers.extend(other.buffers);
        self.callers.extend(other.callers);
    }
}
