//! What events come from, in the order of time: the order itself, and what a source is asked for.

use std::{cmp::Reverse, collections::BinaryHeap, ops::ControlFlow};

use bouncescope_capture::{
    event::{Event, What},
    objects::{Allocation, Known, Moment},
};
use bytemuck::pod_read_unaligned;
use tracer_ebpf::record::{Header, Kind};

/// What is handed out.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// A record of a ring of the kernel's.
    Bytes(&'a [u8]),
    /// What happened to an object.
    Object(Object<'a>),
}

/// An object that was allocated or freed.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    pub(crate) moment: Moment,
    pub(crate) ptr: u64,
    /// It was allocated.
    pub(crate) is_kmalloc: bool,
    pub(crate) shared: &'a mut Shared,
}

/// What many events of a ring have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shared {
    /// Of a free, the call site only.
    pub(crate) allocation: Allocation,
    /// What the encoder of a capture knows of it.
    pub(crate) known: Known,
}

impl Object<'_> {
    /// As an event of a stream.
    pub(crate) fn event(&self) -> Event {
        let Moment { time_ns, task, cpu } = self.moment;
        let Allocation { call_site, bytes_req, bytes_alloc, gfp } = self.shared.allocation;
        let ptr = self.ptr;
        let what = if self.is_kmalloc {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp }
        } else {
            What::Kfree { call_site, ptr }
        };
        Event { time_ns, task, cpu, what }
    }
}

/// When a record happened, and between records of the same moment which is first: the clocks of small systems tick every 52 ns.
/// An object is allocated before it is mapped, and unmapped before it is freed. One number, because it is compared for every record.
pub(super) type Order = u64;

/// The order of what happened at a time, with its rank among what happened then: below 4.
pub(super) const fn moment(time_ns: u64, rank: u64) -> Order {
    let most = u64::MAX >> 2;
    (if time_ns < most { time_ns } else { most }) << 2 | rank
}

/// An allocation's place among what happened in the same moment.
pub(super) const ALLOCATED: u64 = 0;
/// A free's.
pub(super) const FREED: u64 = 2;

/// The order of a record of a ring of the kernel's.
pub(super) fn order(record: &[u8]) -> Order {
    // What is too short to be a record has no moment; it is counted where it is decoded.
    let Some(header) = record.get(..size_of::<Header>()) else { return 0 };
    let header: Header = pod_read_unaligned(header);
    let rank = match header.kind {
        kind if kind == Kind::Kmalloc as u8 => ALLOCATED,
        kind if kind == Kind::Kfree as u8 => FREED,
        _ => 1,
    };
    moment(header.time_ns, rank)
}

/// Which record comes next: by its order, and in the same order that of the first source.
pub(super) type Turn = (Order, usize);

/// Something that records are taken from, the oldest first.
pub(super) trait Source {
    /// Looks for new records.
    fn look(&mut self);

    /// The order of the oldest record, as far as [`Self::look`] saw one.
    fn first(&self) -> Option<Order>;

    /// Hands out that record, and those after it, as the `n`th source, until it is the turn of `other`.
    fn hand_out(
        &mut self,
        n: usize,
        other: Turn,
        each: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()>;

    /// No more is taken for now.
    fn rest(&mut self) {}
}

/// Reads sources as one; keeps its memory.
#[derive(Default)]
pub(super) struct Merge {
    /// The turn of each source that has a record, the first on top.
    turns: BinaryHeap<Reverse<Turn>>,
}

impl Merge {
    /// Hands out what happened before `before_ns`, in the order of time, until `each` breaks; whether it did.
    pub(super) fn read<S: Source>(
        &mut self,
        sources: &mut [S],
        before_ns: u64,
        mut each: impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let end: Turn = (moment(before_ns, 0), sources.len());
        self.turns.clear();
        for (n, source) in sources.iter_mut().enumerate() {
            source.look();
            self.turns.extend(source.first().map(|order| Reverse((order, n))));
        }
        let mut handed_out = ControlFlow::Continue(());
        while let Some(Reverse(turn)) = self.turns.pop()
            && turn < end
            && let Some(source) = sources.get_mut(turn.1)
        {
            let next = self.turns.peek().map_or(end, |Reverse(next)| *next).min(end);
            handed_out = source.hand_out(turn.1, next, &mut each);
            if handed_out.is_break() {
                break;
            }
            if let Some(order) = source.first() {
                self.turns.push(Reverse((order, turn.1)));
            }
        }
        sources.iter_mut().for_each(Source::rest);
        handed_out
    }
}
