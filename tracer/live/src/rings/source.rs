//! What events come from, in the order of time: the order itself, and what a source is asked for.

use std::ops::ControlFlow;

use bouncescope_capture::event::Event;
use bytemuck::pod_read_unaligned;
use tracer_ebpf::record::{Header, Kind};

/// What is handed out.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    /// A record of a ring of the kernel's.
    Bytes(&'a [u8]),
    /// What happened to an object.
    Object(Event),
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

/// Hands out what happened before `before_ns`, in the order of time, until `each` breaks; whether it did.
pub(super) fn merge<S: Source>(
    sources: &mut [S],
    before_ns: u64,
    mut each: impl FnMut(Record<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    sources.iter_mut().for_each(Source::look);
    let end: Turn = (moment(before_ns, 0), sources.len());
    let mut handed_out = ControlFlow::Continue(());
    while handed_out.is_continue() {
        let (mut first, mut second) = (end, end);
        for (n, source) in sources.iter().enumerate() {
            let Some(order) = source.first() else { continue };
            let turn = (order, n);
            if turn < first {
                (first, second) = (turn, first);
            } else {
                second = second.min(turn);
            }
        }
        let Some(source) = sources.get_mut(first.1) else { break };
        handed_out = source.hand_out(first.1, second, &mut each);
    }
    sources.iter_mut().for_each(Source::rest);
    handed_out
}
