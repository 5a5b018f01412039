//! The rings, read as one in the order of time.

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::{Context, Poll},
};

use aya::{
    Ebpf,
    maps::{MapData, MapError, RingBuf},
};
use bytemuck::pod_read_unaligned;
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{
    record::{Header, Kind},
    ring,
};

use super::LiveError;

/// How large each ring is, by name, bytes: a power of two of at least a page each. The objects' rings, as many as there are CPUs,
/// are together as large as the one of all others, or a page each where no objects are sent.
pub(super) fn sizes(ring_bytes: u32, page_bytes: u32, cpus: usize, objects: bool) -> Vec<(&'static str, u32)> {
    let used = if objects { cpus.min(ring::OBJECTS.len()) } else { 0 };
    let size = |bytes: u32| bytes.max(page_bytes).next_power_of_two();
    let of_objects = ring::OBJECTS.iter().enumerate();
    let of_objects = of_objects.map(|(cpu, name)| (*name, size(if cpu < used { ring_bytes / used as u32 } else { 0 })));
    [(ring::EVENTS, size(ring_bytes))].into_iter().chain(of_objects).collect()
}

/// The rings of the programs.
pub(super) struct Rings(Vec<Ring<AsyncFd<RingBuf<MapData>>>>);

impl Rings {
    pub(super) fn take_from(ebpf: &mut Ebpf) -> Result<Self, LiveError> {
        let names = [ring::EVENTS].into_iter().chain(ring::OBJECTS);
        let rings = names.map(|name| {
            let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?;
            // SAFETY: a ring owns its descriptor, and always answers with that one.
            let ring = unsafe { AsyncFd::register(RingBuf::try_from(map)?) }.map_err(io::Error::from)?;
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

    /// Hands out what was recorded before `before_ns`, which must not lie ahead: a record that comes later than this is older by
    /// no more than its program took. Until `each` breaks; whether it did.
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

impl Records for AsyncFd<RingBuf<MapData>> {
    fn take<T>(&mut self, with: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.get_mut().next().map(|record| with(&record))
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
