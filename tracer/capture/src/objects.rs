//! Allocations and frees as references to each other: the block of objects in a frame of events. `docs/capture-format.md` has the rules.
//!
//! Each block can be read by itself. Encoder and decoder go through the events in order and keep the same [`Lists`] of
//! addresses: those that each kind of allocation made and that live, and those that each CPU freed of each class. An address is then its
//! place in one of them, mostly the first. Nothing here compresses; the frame does.

mod decode;
mod encode;
mod lists;

pub use decode::{ObjectDecoder, Objects};
pub use encode::{Allocation, Known, Moment, ObjectEncoder};
use lists::Lists;

use crate::column::{unzigzag, zigzag};

/// More events than this in one block are refused by the reader.
pub const MAX_OBJECTS: usize = 1 << 16;

/// What recordings take as a tick, ns: less than it takes to see an event.
pub const TICK_NS: u32 = 16;
/// The coarsest unit: a second.
const MAX_SHIFT: u8 = 30;

/// Ticks of this length, or of the next smaller power of two, as [`ObjectEncoder::encode`] takes them; exact times for `None`.
pub(crate) fn tick_shift(tick_ns: Option<u32>) -> u8 {
    let log2 = tick_ns.and_then(u32::checked_ilog2).unwrap_or(0);
    (log2 as u8).min(MAX_SHIFT)
}

/// The columns, in the order of the block.
#[derive(Clone, Copy)]
enum Column {
    /// What events can be, in the order in which they first occur.
    Dictionary,
    /// Which of these each event is.
    Entry,
    /// Events in a row that are of one CPU and task.
    Run,
    /// The CPU of each run, and whether another task runs there than the last time.
    Cpu,
    /// The tasks that do.
    Task,
    /// Where each allocated address is found.
    Allocated,
    /// Where each freed one is.
    Freed,
    /// The numbers of addresses that are known, but not near the top of the list.
    Known,
    /// The addresses that are not known.
    Address,
    /// How long after the one before each event was: its power of two and the three bits below the first.
    Time,
    /// Longer times, and times that go back.
    FarTime,
    /// The rest of the bits of all times that are neither short nor far.
    TimeBits,
}

const COLUMNS: usize = Column::TimeBits as usize + 1;

/// Places of addresses: not known.
const NEW: u8 = 0;
/// Known, with its number.
const BY_NUMBER: u8 = 1;
/// Known, and the first of the list that it is looked for in; the second is one more.
const FIRST: u8 = 2;
/// How many of a list are looked at. More cost more than they save.
const DEPTH: u8 = 64;

/// Bits of a time below its first that its code has.
const FINE: u32 = 3;
/// Times from this on are far.
const FAR_LOG2: u32 = 20;
/// The code of a far time.
const FAR: u8 = (2 << FINE) + ((FAR_LOG2 - FINE - 1) << FINE) as u8;

/// What an event is but for its address, time, CPU and task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Kmalloc {
        call_site: u64,
        bytes_req: u64,
        bytes_alloc: u64,
        gfp: u64,
        /// Whatever has the same class may get an object that was freed of it. The writer's choice, from 1.
        class: u8,
    },
    Kfree {
        call_site: u64,
        /// The entry of the allocation whose object is freed; `None` when that is not known.
        of: Option<u16>,
        /// The class of that, or [`UNKNOWN_CLASS`].
        class: u8,
    },
}

/// The class of what was allocated before the block began, or without an event.
const UNKNOWN_CLASS: u8 = 0;
const CLASSES: u8 = 64;

impl Entry {
    const fn class(&self) -> u8 {
        match *self {
            Self::Kmalloc { class, .. } | Self::Kfree { class, .. } => class,
        }
    }
}

/// Between addresses: objects lie at multiples of eight bytes, so the last three bits come first, where they are mostly zeroes.
const fn fold_address(delta: u64) -> u64 {
    zigzag((delta as i64 >> ALIGNED) as u64) | delta << (64 - ALIGNED)
}

/// The other way.
const fn unfold_address(folded: u64) -> u64 {
    unzigzag(folded & (u64::MAX >> ALIGNED)) << ALIGNED | folded >> (64 - ALIGNED)
}

/// Bits of an address that are mostly the same.
const ALIGNED: u32 = 3;

/// What the last task of each CPU was; CPUs share where there are many.
struct Tasks([u32; 256]);

impl Tasks {
    const NONE: Self = Self([0; 256]);

    fn of(&mut self, cpu: u16) -> &mut u32 {
        &mut self.0[usize::from(cpu) % 256]
    }
}

#[cfg(test)]
mod tests;
