//! The rings, read as one in the order of time.

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::{Context, Poll},
};

use aya::{Ebpf, maps::MapError};
use bytemuck::pod_read_unaligned;
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{
    record::{Header, Kind},
    ring,
};

use self::window::Windowed;
use super::LiveError;

mod window;

/// How long a program may take, stalled by what runs in its place, ns, for records to be in order: behind a record that is not
/// finished those of other CPUs in the same ring can't be read, while other rings can.
pub(super) const STALL_NS: u64 = 1_000_000;
/// Unread bytes from which on the reader is woken, in rings that are not small.
const WAKE_AT: u32 = 256 << 10;

/// How large the rings are, bytes: powers of two of at least a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of the ring of all that is no object.
    events: u32,
    /// Of each ring of objects that is used.
    objects: u32,
    /// How many of those are.
    used: usize,
    page: u32,
}

impl Sizes {
    /// The ring of all that is no object is rounded up. Those of objects, one for each CPU and a page at least, are together no larger than it where
    /// all allocations are sent (`allocation_sample` is 1), and than an eighth of it where one in so many is.
    pub(super) fn new(ring_bytes: u32, page: u32, cpus: usize, allocation_sample: u64) -> Self {
        let events = ring_bytes.max(page).next_power_of_two();
        let (used, all) = match allocation_sample {
            0 => (0, 0),
            1 => (cpus, events),
            _ => (cpus, events / 8),
        };
        let used = used.min(ring::OBJECTS.len());
        let share = (all / used.max(1) as u32).max(page);
        Self { events, objects: 1 << share.ilog2(), used, page }
    }

    /// The size of every ring.
    pub(super) fn by_name(self) -> impl Iterator<Item = (&'static str, u32)> {
        let of_objects = ring::OBJECTS.into_iter().enumerate();
        let of_objects =
            of_objects.map(move |(cpu, name)| (name, if cpu < self.used { self.objects } else { self.page }));
        [(ring::EVENTS, self.events)].into_iter().chain(of_objects)
    }

    /// Unread bytes from which on the reader is woken: in the ring of all that is no object, and in one of objects.
    pub(super) fn wake_at(self) -> (u32, u32) {
        (WAKE_AT.min(self.events / 4), WAKE_AT.min(self.objects / 4))
    }
}

/// The rings of the programs.
pub(super) struct Rings(Vec<Ring<AsyncFd<Windowed>>>);

impl Rings {
    pub(super) fn take_from(ebpf: &mut Ebpf) -> Result<Self, LiveError> {
        let names = [ring::EVENTS].into_iter().chain(ring::OBJECTS);
        let rings = names.map(|name| {
            let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?;
            // SAFETY: a ring owns its descriptor, and always answers with that one.
            let ring = unsafe { AsyncFd::register(Windowed::new(map)?) }.map_err(io::Error::from)?;
            Ok(Ring { records: ring, head: Vec::new() })
        });
        rings.collect::<Result<_, LiveError>>().map(Self)
    }

    /// Waits until the programs find that one of them needs emptying.
    pub(super) async fn one_fills(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_fills(context)).await
    }

    /// Asks all of them, so that each wakes this task.
    fn poll_fills(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut fills = Poll::Pending;
        for Ring { records, .. } in &self.0 {
            if let Poll::Ready(ready) = records.poll_read_ready(context) {
                ready?.clear_ready();
                fills = Poll::Ready(Ok(()));
            }
        }
        fills
    }

    /// Hands out what was recorded before `before_ns`, in the order of time as far as every program that began before then has
    /// ended: [`STALL_NS`] ago, nearly all have. Until `each` breaks; whether it did.
    pub(super) fn read(&mut self, before_ns: u64, each: impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
        merge(&mut self.0, before_ns, each)
    }
}

/// A ring, and the record that was taken out to see how old it is.
struct Ring<R> {
    records: R,
    /// Empty when there is none.
    head: Vec<u8>,
}

/// What records are taken from, the oldest first.
trait Records {
    /// Hands out the next; `None` when there is none.
    fn take<T>(&mut self, with: impl FnOnce(&[u8]) -> T) -> Option<T>;
}

impl Records for AsyncFd<Windowed> {
    fn take<T>(&mut self, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.get_mut().take(with)
    }
}

/// When a record happened, and between records of the same moment which is first: the clocks of small systems tick every 52 ns.
/// An object is allocated before it is mapped, and unmapped before it is freed.
type Order = (u64, u8);

fn order(record: &[u8]) -> Order {
    // What is too short to be a record has no moment; it is counted where it is decoded.
    let Some(header) = record.get(..size_of::<Header>()) else { return (0, 0) };
    let header: Header = pod_read_unaligned(header);
    let rank = match header.kind {
        kind if kind == Kind::Kmalloc as u8 => 0,
        kind if kind == Kind::Kfree as u8 => 2,
        _ => 1,
    };
    (header.time_ns, rank)
}

/// Which record comes next: by its order, and in the same order that of the first ring.
type Turn = (Order, usize);

fn merge<R: Records>(
    rings: &mut [Ring<R>],
    before_ns: u64,
    mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    rings.iter_mut().for_each(Ring::look);
    loop {
        let end: Turn = ((before_ns, 0), rings.len());
        let (mut first, mut second) = (end, end);
        for (n, ring) in rings.iter().enumerate().filter(|(_, ring)| !ring.head.is_empty()) {
            let turn = (order(&ring.head), n);
            if turn < first {
                (first, second) = (turn, first);
            } else {
                second = second.min(turn);
            }
        }
        let Some(ring) = rings.get_mut(first.1) else { return ControlFlow::Continue(()) };
        ring.hand_out(first.1, second, &mut each)?;
    }
}

impl<R: Records> Ring<R> {
    /// Takes out the oldest record, unless one has been.
    fn look(&mut self) {
        let Self { records, head } = self;
        if head.is_empty() {
            records.take(|record| head.extend_from_slice(record));
        }
    }

    /// Hands out the record that was taken out, and those after it, as the `n`th ring, until it is the turn of another.
    fn hand_out(&mut self, n: usize, other: Turn, each: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
        let Self { records, head } = self;
        let mut handed_out = each(head);
        head.clear();
        while handed_out.is_continue() && head.is_empty() {
            let next = records.take(|record| {
                if (order(record), n) < other {
                    return each(record);
                }
                head.extend_from_slice(record);
                ControlFlow::Continue(())
            });
            let Some(next) = next else { break };
            handed_out = next;
        }
        handed_out
    }
}

#[cfg(test)]
mod tests;
