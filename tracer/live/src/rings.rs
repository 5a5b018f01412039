//! The rings, read as one in the order of time.

use std::{
    future::poll_fn,
    io,
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll},
};

use aya::{
    Ebpf,
    maps::{Map, MapError},
};
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{
    object_ring::{self, PLACES, TABLES},
    ring,
};

use super::LiveError;
use mapping::MappedArray;
use own::{CpuRings, Geometry, Memory};
use source::{Merge, Order, Source, Turn, order};
use window::Windowed;

mod mapping;
mod own;
mod source;
mod window;

pub(super) use own::ObjectCounts;
pub(super) use source::{Object, Record, Shared};

/// How long a program may take, stalled by what runs in its place, ns, for records to be in order: behind a record that is not
/// finished those of other CPUs in the same ring can't be read, while other rings can.
pub(super) const STALL_NS: u64 = 1_000_000;
/// Unread bytes from which on the reader is woken, in rings that are not small.
const WAKE_AT: u32 = 256 << 10;

/// The maps of the rings of our own that are mapped.
const OBJECT_CONTROL: &str = "OBJECT_CONTROL";
const OBJECT_SLOTS: &str = "OBJECT_SLOTS";

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
    /// Where objects do not go through the kernel's rings.
    own: Option<Geometry>,
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
        Self { events, objects: 1 << share.ilog2(), used, page, own: None }
    }

    /// The same with rings of our own for the objects; `None` where none are sent. They are together no larger than the ring of all
    /// that is no object, and where one in so many is sent, a sixteenth of it: an object takes a quarter of what it takes in a ring of the kernel's.
    pub(super) fn own(ring_bytes: u32, page: u32, cpus: usize, allocation_sample: u64) -> Option<Self> {
        let Self { events, .. } = Self::new(ring_bytes, page, cpus, 0);
        let all = match allocation_sample {
            0 => return None,
            1 => events,
            _ => events / 16,
        };
        let cpus = cpus.max(1) as u32;
        // The share of a CPU has two rings and a quarter.
        let slots = u64::from(all / cpus) * 4 / (9 * size_of::<[u64; 2]>() as u64);
        let log2 = slots.max(1).ilog2().max(object_ring::LEAST_LOG2);
        Some(Self { events, objects: page, used: 0, page, own: Some(Geometry { cpus, log2 }) })
    }

    /// [`tracer_ebpf::config::Config::object_slots_log2`].
    pub(super) fn object_slots_log2(self) -> u32 {
        self.own.map_or(0, |own| own.log2)
    }

    /// The size of every ring, and the entries of the maps of our own.
    pub(super) fn by_name(self) -> impl Iterator<Item = (&'static str, u32)> {
        let own = self.own.map_or([1; 3], |own| [own.controls(), own.slots(), own.cpus * TABLES * PLACES]);
        let own = [OBJECT_CONTROL, OBJECT_SLOTS, "OBJECT_PLACES"].into_iter().zip(own);
        let of_objects = ring::OBJECTS.into_iter().enumerate();
        let of_objects =
            of_objects.map(move |(cpu, name)| (name, if cpu < self.used { self.objects } else { self.page }));
        [(ring::EVENTS, self.events)].into_iter().chain(of_objects).chain(own)
    }

    /// Unread bytes from which on the reader is woken: in the ring of all that is no object, and in one of objects.
    pub(super) fn wake_at(self) -> (u32, u32) {
        (WAKE_AT.min(self.events / 4), WAKE_AT.min(self.objects / 4))
    }
}

/// The rings of the programs.
pub(super) struct Rings {
    all: Vec<Any>,
    merge: Merge,
    /// Those of our own.
    own: Option<(Arc<Memory<MappedArray>>, Geometry)>,
    /// More may be there than was taken out the last time.
    more: bool,
}

impl Rings {
    /// An error also where the maps of our own can't be mapped.
    pub(super) fn take_from(ebpf: &mut Ebpf, sizes: Sizes) -> Result<Self, LiveError> {
        let in_kernel: &[&str] = if sizes.own.is_some() { &[] } else { &ring::OBJECTS };
        let names = [ring::EVENTS].into_iter().chain(in_kernel.iter().copied());
        let rings = names.map(|name| {
            // SAFETY: a ring owns its descriptor, and always answers with that one.
            let ring = unsafe { AsyncFd::register(Windowed::new(take_map(ebpf, name)?)?) }.map_err(io::Error::from)?;
            Ok(Any::Kernel(Ring { records: ring, head: Vec::new() }))
        });
        let mut all = rings.collect::<Result<Vec<_>, LiveError>>()?;
        let mut own = None;
        if let Some(geometry) = sizes.own {
            let memory = Arc::new(Memory {
                control: mapped(ebpf, OBJECT_CONTROL, geometry.control_bytes())?,
                slots: mapped(ebpf, OBJECT_SLOTS, geometry.slot_bytes())?,
            });
            all.extend((0..geometry.cpus).map(|cpu| Any::Own(CpuRings::new(&memory, geometry, cpu))));
            own = Some((memory, geometry));
        }
        Ok(Self { all, merge: Merge::default(), own, more: false })
    }

    /// Waits until the programs find that one of them needs emptying.
    pub(super) async fn one_fills(&self) -> io::Result<()> {
        if self.more {
            return Ok(());
        }
        poll_fn(|context| self.poll_fills(context)).await
    }

    /// Asks all of them, so that each wakes this task.
    fn poll_fills(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut fills = Poll::Pending;
        for ring in &self.all {
            // Where one of our own fills, that of all that is no object says so.
            let Any::Kernel(Ring { records, .. }) = ring else { continue };
            if let Poll::Ready(ready) = records.poll_read_ready(context) {
                ready?.clear_ready();
                fills = Poll::Ready(Ok(()));
            }
        }
        fills
    }

    /// Hands out what was recorded before `before_ns`, in the order of time as far as every program that began before then has
    /// ended: [`STALL_NS`] ago, nearly all have. Until `each` breaks; whether it did.
    pub(super) fn read(&mut self, before_ns: u64, each: impl FnMut(Record<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let read = self.merge.read(&mut self.all, before_ns, each);
        self.more = read.is_break();
        read
    }

    /// What the programs counted in the rings of our own; nothing where there are none.
    pub(super) fn object_counts(&self) -> ObjectCounts {
        self.own.as_ref().map_or_else(ObjectCounts::default, |(memory, geometry)| memory.counts(*geometry))
    }
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

fn mapped(ebpf: &mut Ebpf, name: &str, bytes: usize) -> Result<MappedArray, LiveError> {
    match take_map(ebpf, name)? {
        Map::Array(map) => Ok(MappedArray::new(map, bytes).map_err(MapError::from)?),
        _ => Err(MapError::InvalidName { name: name.to_owned() }.into()),
    }
}

/// Any of them.
enum Any {
    Kernel(Ring<AsyncFd<Windowed>>),
    Own(CpuRings<MappedArray>),
}

impl Source for Any {
    fn look(&mut self) {
        match self {
            Self::Kernel(ring) => ring.look(),
            Self::Own(rings) => rings.look(),
        }
    }

    fn first(&self) -> Option<Order> {
        match self {
            Self::Kernel(ring) => ring.first(),
            Self::Own(rings) => rings.first(),
        }
    }

    fn hand_out(
        &mut self,
        n: usize,
        other: Turn,
        each: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Self::Kernel(ring) => ring.hand_out(n, other, each),
            Self::Own(rings) => rings.hand_out(n, other, each),
        }
    }

    fn rest(&mut self) {
        match self {
            Self::Kernel(ring) => ring.rest(),
            Self::Own(rings) => rings.rest(),
        }
    }
}

/// A ring of the kernel's, and the record that was taken out to see how old it is.
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

impl<R: Records> Source for Ring<R> {
    /// Takes out the oldest record, unless one has been.
    fn look(&mut self) {
        let Self { records, head } = self;
        if head.is_empty() {
            records.take(|record| head.extend_from_slice(record));
        }
    }

    fn first(&self) -> Option<Order> {
        (!self.head.is_empty()).then(|| order(&self.head))
    }

    fn hand_out(
        &mut self,
        n: usize,
        other: Turn,
        each: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Self { records, head } = self;
        let mut handed_out = each(Record::Bytes(head));
        head.clear();
        while handed_out.is_continue() && head.is_empty() {
            let next = records.take(|record| {
                if (order(record), n) < other {
                    return each(Record::Bytes(record));
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
