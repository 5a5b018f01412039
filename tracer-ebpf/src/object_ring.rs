//! Rings of objects in plain arrays: one for each CPU and program, written by that program alone and read by user space through a mapping.
//!
//! A ring's slots are 16 bytes: two words, whose highest bit says in which lap of the ring they were written. A word of the lap before
//! has the other bit, so a reader that finds both bits as they must be has the whole slot, in whatever order the two stores became
//! visible. Nothing else tells the reader how far the program is: no barrier, no atomic instruction, on any architecture.
//!
//! The program overwrites a slot only when the reader is past it. It learns that from [`Control::tail`], which the reader stores with
//! release ordering. The program's stores depend on a branch on what it read there, which orders them behind it.
//!
//! Most slots are events: where, when and who. What they share with the events before them is said once, in slots of their own
//! in front of the event that needs it: call site, sizes and flags of a place in a small table, the higher bits of the time, and those
//! of an address that is no usual one. An event goes into the ring with all that it needs, or not at all.

use crate::memory_access::{load, store};

/// Rings of a CPU: those of the programs on kmalloc and on kfree, and that of the program on kfree in bulk.
pub const RINGS: u32 = 3;
/// Which of a CPU's rings is whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Writer {
    /// `kmem:kmalloc`.
    Kmalloc = 0,
    /// `kmem:kfree`.
    Kfree = 1,
    /// `kmem_cache_free_bulk()`, whose ring is a quarter as large.
    Bulk = 2,
}
/// Places of a ring's table: a power of two.
pub const PLACES: u32 = 512;
/// Rings of a CPU that have a table of places: that of a bulk, whose objects have no call site, has none.
pub const TABLES: u32 = 2;
/// The fewest slots of a ring, as the logarithm to base 2.
pub const LEAST_LOG2: u32 = 8;
/// The most slots that one event takes, with everything that must be said before it.
pub const MOST: u64 = 5;

/// The bit of a word that says in which lap it was written.
pub const LAP: u64 = 1 << 63;
/// In the first word: this is no event.
const DEFINES: u64 = 1 << 62;
/// Where in the first word of a slot that is no event it says which it is.
const WHICH: u32 = 60;
/// Bits of the first word that are left there.
const PAYLOAD: u64 = (1 << WHICH) - 1;
const INDEX_BITS: u32 = PLACES.ilog2();
/// Bits of an address that an event has: from the fourth lowest on, since objects are aligned to 8 bytes.
const PTR_BITS: u32 = 62 - INDEX_BITS;
const PTR_MASK: u64 = (1 << PTR_BITS) - 1;
/// The highest bits of an address of the kernel, unless a tag is in there.
const USUAL_TOP: u64 = 0xff;
/// Where they begin.
const TOP: u32 = PTR_BITS + 3;
/// Bits of the time that an event has: some four and a half minutes.
pub const TIME_BITS: u32 = 38;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// Bits that say which event of its CPU it was in the same tick of the clock, from 0. There are no more of them than the programs have time for.
pub const TURN_BITS: u32 = 3;
const TURN_MASK: u64 = (1 << TURN_BITS) - 1;
/// Where the thread begins, above both.
const TASK: u32 = TIME_BITS + TURN_BITS;
/// Thread ids are below `PID_MAX_LIMIT`, `4 << 20`.
const TASK_MASK: u64 = (1 << 22) - 1;

/// Slots that a CPU's rings have in all, of which the first has `1 << log2`.
pub const fn slots_of_a_cpu(log2: u32) -> u64 {
    (2 << log2) + (1 << (log2 - 2))
}

/// Where a ring lies among all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first slot.
    pub first: u32,
    /// How many it has, as the logarithm to base 2.
    pub log2: u32,
}

impl Span {
    /// Of a writer's ring on a CPU, where the ring of kmalloc has `1 << log2` slots.
    #[inline(always)]
    pub const fn of(writer: Writer, cpu: u32, log2: u32) -> Self {
        let first = cpu * slots_of_a_cpu(log2) as u32 + ((writer as u32) << log2);
        Self { first, log2: if matches!(writer, Writer::Bulk) { log2 - 2 } else { log2 } }
    }

    /// Slots of this ring.
    #[inline(always)]
    pub const fn size(self) -> u64 {
        1 << self.log2
    }

    /// Which slot of all the `at`-th one of this ring is, counted through all laps.
    #[inline(always)]
    pub const fn slot(self, at: u64) -> u32 {
        self.first.wrapping_add((at & (self.size() - 1)) as u32)
    }

    /// What both words of the `at`-th slot have in [`LAP`] once they are written. A ring begins with nothing but zeros, so that is set
    /// in the first lap.
    #[inline(always)]
    pub const fn lap(self, at: u64) -> u64 {
        !(at >> self.log2) << 63
    }
}

/// What belongs to a ring beside its slots. The program's part and the reader's are on cache lines of their own.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Control {
    /// Slots written, through all laps.
    pub head: u64,
    /// [`Control::tail`] as the program saw it last.
    pub seen_tail: u64,
    /// Slots written that are no events.
    pub definitions: u64,
    /// Events for which the ring had no room.
    pub refused: u64,
    /// Events that came while the program was already at work on this ring: before 6.1, an interrupt's.
    pub nested: u64,
    /// The higher bits of the time, as they were said last.
    pub epoch: u64,
    /// Not 0 while the program is at work.
    pub taken: u64,
    /// In the ring of kmalloc: the time of the last event of the CPU in any of its rings, and its turn, as [`take_turn`] has them.
    pub clock: u64,
    reserved: [u64; 8],
    /// Slots that the reader is past, through all laps.
    pub tail: u64,
    reserved_too: [u64; 15],
}

impl Control {
    /// Of a ring that nothing was written into.
    pub const EMPTY: Self = Self {
        head: 0,
        seen_tail: 0,
        definitions: 0,
        refused: 0,
        nested: 0,
        epoch: 0,
        taken: 0,
        clock: 0,
        reserved: [0; 8],
        tail: 0,
        reserved_too: [0; 15],
    };
}

/// What the events of one place have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(bytemuck::Pod, bytemuck::Zeroable))]
#[repr(C)]
pub struct Place {
    /// Return address of the caller.
    pub call_site: u64,
    /// Bytes asked for; saturated at `u32::MAX`.
    pub bytes_req: u32,
    /// Bytes given; saturated at `u32::MAX`.
    pub bytes_alloc: u32,
    /// `gfp_t`.
    pub gfp: u32,
    /// 0.
    pub reserved: u32,
}

/// A [`Place`] as the program remembers it: in words, each of which is read and written at once, and in the order of the program.
pub type PlaceWords = [u64; 3];

impl Place {
    /// As words.
    #[inline(always)]
    const fn words(self) -> PlaceWords {
        [self.call_site, (self.bytes_req as u64) << 32 | self.bytes_alloc as u64, self.gfp as u64]
    }
}

/// A slot, without what says in which lap it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An object is allocated or freed.
    Event {
        /// Place of the table that says the rest, below [`PLACES`].
        index: u32,
        /// The object's address without its three lowest and its highest bits.
        ptr: u64,
        /// Thread id.
        task: u32,
        /// Which event of its CPU it is in this tick of the clock.
        turn: u64,
        /// The lowest [`TIME_BITS`] bits of the time.
        time: u64,
    },
    /// From here on, this is the call site of a place, and these are the flags.
    Site {
        /// Place of the table.
        index: u32,
        /// Return address.
        call_site: u64,
        /// `gfp_t`.
        gfp: u32,
    },
    /// From here on, these are the sizes of a place.
    Sizes {
        /// Place of the table.
        index: u32,
        /// Bytes asked for.
        bytes_req: u32,
        /// Bytes given.
        bytes_alloc: u32,
    },
    /// From here on, these are the higher bits of the time.
    Epoch(u64),
    /// The bits of the next event's address that it does not have itself: the highest byte, and the three lowest bits.
    Rest(u64),
}

impl Slot {
    /// As two words, with [`LAP`] cleared.
    #[inline(always)]
    pub const fn encode(self) -> [u64; 2] {
        match self {
            Self::Event { index, ptr, task, turn, time } => [
                (index as u64) << PTR_BITS | ptr & PTR_MASK,
                (task as u64 & TASK_MASK) << TASK | (turn & TURN_MASK) << TIME_BITS | time & TIME_MASK,
            ],
            Self::Site { index, call_site, gfp } => {
                [DEFINES | (index as u64) << 33 | (gfp as u64) << 1 | call_site >> 63, call_site & !LAP]
            }
            Self::Sizes { index, bytes_req, bytes_alloc } => {
                [DEFINES | 1 << WHICH | (index as u64) << 32 | bytes_req as u64, bytes_alloc as u64]
            }
            Self::Epoch(epoch) => [DEFINES | 2 << WHICH, epoch & !LAP],
            Self::Rest(rest) => [DEFINES | 3 << WHICH, rest & !LAP],
        }
    }

    /// From two words, whatever is in them.
    #[inline(always)]
    pub const fn decode([first, second]: [u64; 2]) -> Self {
        let (first, second) = (first & !LAP, second & !LAP);
        if first & DEFINES == 0 {
            return Self::Event {
                index: (first >> PTR_BITS) as u32,
                ptr: first & PTR_MASK,
                task: (second >> TASK) as u32,
                turn: second >> TIME_BITS & TURN_MASK,
                time: second & TIME_MASK,
            };
        }
        let payload = first & PAYLOAD;
        match (first >> WHICH) & 3 {
            0 => Self::Site {
                index: (payload >> 33) as u32 % PLACES,
                call_site: payload << 63 | second,
                gfp: (payload >> 1) as u32,
            },
            1 => Self::Sizes {
                index: (payload >> 32) as u32 % PLACES,
                bytes_req: payload as u32,
                bytes_alloc: second as u32,
            },
            2 => Self::Epoch(second),
            _ => Self::Rest(second),
        }
    }
}

/// What of an address an event has, and the rest.
#[inline(always)]
const fn split(ptr: u64) -> (u64, u64) {
    (ptr >> 3 & PTR_MASK, (ptr >> TOP) << 3 | ptr & 7)
}

/// The rest of a usual address.
pub const USUAL_REST: u64 = USUAL_TOP << 3;

/// The address of which an event has the one part, and the rest is the other.
pub const fn join(ptr: u64, rest: u64) -> u64 {
    (rest >> 3) << TOP | ptr << 3 | rest & 7
}

/// When and by whom an object is allocated or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_MONOTONIC`, ns.
    pub time_ns: u64,
    /// Which event of the CPU it is in this tick of the clock ([`take_turn`]).
    pub turn: u64,
    /// Thread id.
    pub task: u32,
}

/// Which event of a CPU one is in this tick of the clock: an object may be freed and allocated again within one, and both events are in rings
/// of their own. `clock` is [`Control::clock`] of the CPU. From the eighth on, all are the seventh.
///
/// A program that interrupts another between the two accesses may get the same turn. Its object cannot be the other's, which is not freed
/// yet, or nobody's but the allocator's.
///
/// # Safety
///
/// The clock must be alive and aligned, and only this CPU may write to it.
#[inline(always)]
pub unsafe fn take_turn(clock: *mut u64, time_ns: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe {
        let last = load(clock);
        let time = time_ns << TURN_BITS;
        let turn = if last & !TURN_MASK != time {
            0
        } else if last & TURN_MASK == TURN_MASK {
            TURN_MASK
        } else {
            (last & TURN_MASK) + 1
        };
        store(clock, time | turn);
        turn
    }
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in the ring.
    In,
    /// It is in the ring, of which another quarter is full, and the reader is not keeping up.
    Fills,
    /// The ring had no room; that is counted.
    Refused,
    /// The program is at work on this ring already, interrupted by itself. Not counted yet: the caller adds to [`Control::nested`] in a way
    /// that cannot itself be interrupted.
    Nested,
}

/// Puts an event into a ring. `shared` is the place of the ring's table that it has its call site from, the place's number, and what must
/// be there; `now` is asked for the time and the thread once the ring is taken, so that the times in a ring are in order.
///
/// # Safety
///
/// The control and the place must be alive, aligned and this ring's, as must be the slots that `slots` finds by number. Nobody else writes
/// to them, except that the same CPU may do the same while it interrupts this.
#[inline(always)]
pub unsafe fn put(
    control: *mut Control,
    shared: Option<(*mut PlaceWords, u32, Place)>,
    ptr: u64,
    span: Span,
    now: impl FnOnce() -> Now,
    slots: impl Fn(u32) -> Option<*mut [u64; 2]>,
) -> Put {
    // SAFETY: the caller's, for this and all accesses below.
    unsafe {
        if load(&raw const (*control).taken) != 0 {
            return Put::Nested;
        }
        store(&raw mut (*control).taken, 1);
        let Now { time_ns, turn, task } = now();
        let head = load(&raw const (*control).head);
        let mut tail = load(&raw const (*control).seen_tail);
        if head.wrapping_sub(tail) > span.size() - MOST {
            // The reader's cache line: only now and then.
            tail = load(&raw const (*control).tail);
            store(&raw mut (*control).seen_tail, tail);
        }
        let unread = head.wrapping_sub(tail);
        let (bits, rest) = split(ptr);
        let epoch = time_ns >> TIME_BITS;
        let (mut index, mut defines) = (0, false);
        if let Some((place, number, wanted)) = shared {
            index = number;
            let [site, sizes, flags] = wanted.words();
            defines = load(place.cast()) != site
                || load(place.cast::<u64>().add(1)) != sizes
                || load(place.cast::<u64>().add(2)) != flags;
        }
        let is_plain = !defines && rest == USUAL_REST && epoch == load(&raw const (*control).epoch);
        if unread > if is_plain { span.size() - 1 } else { span.size() - MOST } {
            store(&raw mut (*control).refused, load(&raw const (*control).refused).wrapping_add(1));
            store(&raw mut (*control).taken, 0);
            return Put::Refused;
        }
        let write = |at: u64, slot: Slot| {
            if let Some(words) = slots(span.slot(at)) {
                let lap = span.lap(at);
                let [first, second] = slot.encode();
                store((&raw mut (*words)[0]).cast(), first | lap);
                store((&raw mut (*words)[1]).cast(), second | lap);
            }
        };
        let mut at = head;
        if !is_plain {
            if let Some((place, index, wanted)) = shared.filter(|_| defines) {
                let Place { call_site, bytes_req, bytes_alloc, gfp, .. } = wanted;
                write(at, Slot::Site { index, call_site, gfp });
                write(at + 1, Slot::Sizes { index, bytes_req, bytes_alloc });
                let [site, sizes, flags] = wanted.words();
                store(place.cast(), site);
                store(place.cast::<u64>().add(1), sizes);
                store(place.cast::<u64>().add(2), flags);
                at += 2;
            }
            if epoch != load(&raw const (*control).epoch) {
                write(at, Slot::Epoch(epoch));
                store(&raw mut (*control).epoch, epoch);
                at += 1;
            }
            if rest != USUAL_REST {
                write(at, Slot::Rest(rest));
                at += 1;
            }
            let definitions = load(&raw const (*control).definitions);
            store(&raw mut (*control).definitions, definitions.wrapping_add(at - head));
        }
        write(at, Slot::Event { index, ptr: bits, task, turn, time: time_ns });
        at += 1;
        store(&raw mut (*control).head, at);
        let quarter = span.size() / 4;
        let fills = (head ^ at) & quarter != 0 && at.wrapping_sub(load(&raw const (*control).tail)) >= quarter;
        store(&raw mut (*control).taken, 0);
        if fills { Put::Fills } else { Put::In }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const SITE: u64 = 0xffff_8000_1234_5678;

    #[test]
    fn every_slot_is_read_as_it_was_written() {
        let slots = [
            Slot::Event { index: PLACES - 1, ptr: PTR_MASK, task: (4 << 20) - 1, turn: TURN_MASK, time: TIME_MASK },
            Slot::Event { index: 0, ptr: 0, task: 0, turn: 0, time: 0 },
            Slot::Event { index: 5, ptr: 2, task: 0, turn: 0, time: TIME_MASK },
            Slot::Event { index: 5, ptr: 2, task: 1, turn: 3, time: 0 },
            Slot::Site { index: PLACES - 1, call_site: SITE, gfp: u32::MAX },
            Slot::Site { index: 1, call_site: 7, gfp: 0 },
            Slot::Site { index: 1, call_site: u64::MAX, gfp: 1 << 31 },
            Slot::Sizes { index: PLACES - 1, bytes_req: u32::MAX, bytes_alloc: u32::MAX },
            Slot::Sizes { index: 0, bytes_req: 0, bytes_alloc: 1 },
            Slot::Epoch(u64::MAX >> TIME_BITS),
            Slot::Rest(u64::MAX >> TOP << 3 | 7),
        ];
        for slot in slots {
            let words = slot.encode();
            assert_eq!(words.map(|word| word & LAP), [0; 2], "{slot:?}");
            assert_eq!(Slot::decode(words), slot);
            assert_eq!(Slot::decode(words.map(|word| word | LAP)), slot);
        }
    }

    #[test]
    fn addresses_are_put_together_from_both_parts() {
        for ptr in [0, 16, u64::MAX, SITE, 0xf5ff_8000_1234_5678, 1 << 55, 0xffff_ffff_ffff_fff9] {
            let (bits, rest) = split(ptr);
            assert_eq!(join(bits, rest), ptr);
        }
        assert_eq!(split(SITE).1, USUAL_REST);
    }

    #[test]
    fn events_of_one_tick_take_turns_and_those_of_another_begin_anew() {
        let mut clock = 0;
        // SAFETY: a local of this thread.
        let mut turns = |times: &[u64]| -> Vec<u64> {
            times.iter().map(|time| unsafe { take_turn(&raw mut clock, *time) }).collect()
        };
        assert_eq!(turns(&[52, 52, 52, 104, 156, 156]), [0, 1, 2, 0, 0, 1]);
        assert_eq!(turns(&[208; 10]), [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]);
    }

    #[test]
    fn the_rings_of_all_cpus_lie_side_by_side() {
        let mut next = 0;
        for cpu in 0..3 {
            for writer in [Writer::Kmalloc, Writer::Kfree, Writer::Bulk] {
                let span = Span::of(writer, cpu, 8);
                assert_eq!(span.first, next);
                next += span.size() as u32;
            }
        }
        assert_eq!(u64::from(next), 3 * slots_of_a_cpu(8));
    }

    #[test]
    fn a_lap_is_told_from_the_one_before_and_from_nothing() {
        let span = Span { first: 0, log2: 2 };
        assert_eq!([0, 3, 4, 7, 8].map(|at| span.lap(at)), [LAP, LAP, 0, 0, LAP]);
    }

    #[test]
    fn the_reader_and_the_program_write_to_cache_lines_of_their_own() {
        assert_eq!(core::mem::offset_of!(Control, tail), 128);
        assert_eq!(size_of::<Control>(), 256);
    }
}
