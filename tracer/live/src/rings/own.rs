//! The rings of objects ([`tracer_ebpf::object_ring`]) as a source of events, one for each CPU; and what the programs count there.

use std::{
    mem::offset_of,
    ops::{ControlFlow, Deref},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bouncescope_capture::objects::{Known, Moment};
use tracer_ebpf::object_ring::{
    Control, LAP, PLACES, RINGS, Slot, Span, TIME_BITS, TURN_BITS, USUAL_REST, Writer, join, slots_of_a_cpu,
};

use super::source::{ALLOCATED, FREED, Object, Order, Record, Shared, Source, Turn, moment};

const WRITERS: [Writer; RINGS as usize] = [Writer::Kmalloc, Writer::Kfree, Writer::Bulk];

/// The maps of all rings.
pub(super) struct Memory<W> {
    /// A [`Control`] for each ring.
    pub(super) control: W,
    /// Their slots.
    pub(super) slots: W,
}

/// How large the maps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) cpus: u32,
    /// Slots of a ring for kmalloc, as the logarithm to base 2.
    pub(crate) log2: u32,
}

impl Geometry {
    /// Entries of the map of controls.
    pub(crate) fn controls(self) -> u32 {
        self.cpus * RINGS
    }

    /// Entries of the map of slots.
    pub(crate) fn slots(self) -> u32 {
        self.cpus * slots_of_a_cpu(self.log2) as u32
    }

    /// Bytes of the map of controls.
    pub(super) fn control_bytes(self) -> usize {
        self.controls() as usize * size_of::<Control>()
    }

    /// Bytes of the map of slots.
    pub(super) fn slot_bytes(self) -> usize {
        self.slots() as usize * size_of::<[u64; 2]>()
    }
}

/// What the programs counted, by CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectCounts {
    /// Allocations: seen, and not recorded.
    pub(crate) allocated: Vec<[u64; 2]>,
    /// Frees: seen, and not recorded.
    pub(crate) freed: Vec<[u64; 2]>,
}

impl<W: Deref<Target = [AtomicU64]>> Memory<W> {
    fn counter(&self, cpu: u32, writer: Writer, offset: usize) -> u64 {
        let ring = (cpu * RINGS + writer as u32) as usize;
        self.control[(ring * size_of::<Control>() + offset) / 8].load(Ordering::Relaxed)
    }

    /// What was counted: exact when no program runs any more.
    pub(super) fn counts(&self, geometry: Geometry) -> ObjectCounts {
        let of = |cpu, writer| {
            let counter = |offset| self.counter(cpu, writer, offset);
            let lost = counter(offset_of!(Control, refused)) + counter(offset_of!(Control, nested));
            // What is no event is counted first, so that it never seems to be more than all.
            let definitions = counter(offset_of!(Control, definitions));
            let recorded = counter(offset_of!(Control, head)).saturating_sub(definitions);
            [recorded + lost, lost]
        };
        let both = |a: [u64; 2], b: [u64; 2]| [a[0] + b[0], a[1] + b[1]];
        ObjectCounts {
            allocated: (0..geometry.cpus).map(|cpu| of(cpu, Writer::Kmalloc)).collect(),
            freed: (0..geometry.cpus).map(|cpu| both(of(cpu, Writer::Kfree), of(cpu, Writer::Bulk))).collect(),
        }
    }
}

/// When an event of a CPU happened, and which one it was of those that happened in the same tick of the clock there.
type When = u64;

/// Later than every event.
const NONE: When = u64::MAX;

/// An event of that turn in that tick.
fn when(time_ns: u64, turn: u64) -> When {
    time_ns.min((u64::MAX >> TURN_BITS) - 1) << TURN_BITS | turn
}

/// The rings of one CPU.
pub(super) struct CpuRings<W> {
    rings: [Ring<W>; RINGS as usize],
    /// When the oldest event of each happened; [`NONE`] where there is none.
    heads: [When; RINGS as usize],
}

impl<W: Deref<Target = [AtomicU64]>> CpuRings<W> {
    pub(super) fn new(memory: &Arc<Memory<W>>, geometry: Geometry, cpu: u32) -> Self {
        let rings = WRITERS.map(|writer| Ring::new(Arc::clone(memory), geometry, cpu, writer));
        Self { rings, heads: [NONE; RINGS as usize] }
    }

    /// Which ring has the oldest event, if any has one, and its place in the order of all sources.
    ///
    /// An object may be freed and allocated again in one tick of the clock. The free then comes where allocations of that moment come:
    /// before what is mapped.
    fn oldest(&self) -> Option<(Order, usize)> {
        let [kmalloc, kfree, bulk] = self.heads;
        let (when, ring) = if kfree < kmalloc { (kfree, 1) } else { (kmalloc, 0) };
        let (when, ring) = if bulk < when { (bulk, 2) } else { (when, ring) };
        let time_ns = when >> TURN_BITS;
        let allocates = kmalloc >> TURN_BITS == time_ns;
        (when != NONE).then(|| (moment(time_ns, if allocates { ALLOCATED } else { FREED }), ring))
    }
}

impl<W: Deref<Target = [AtomicU64]>> Source for CpuRings<W> {
    fn look(&mut self) {
        for (ring, head) in self.rings.iter_mut().zip(&mut self.heads) {
            if *head == NONE {
                *head = ring.look();
            }
        }
    }

    fn first(&self) -> Option<Order> {
        self.oldest().map(|(order, _)| order)
    }

    fn hand_out(
        &mut self,
        n: usize,
        other: Turn,
        each: &mut impl FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while let Some((order, oldest)) = self.oldest()
            && (order, n) < other
        {
            let ring = &mut self.rings[oldest];
            let handed_out = each(Record::Object(ring.object()));
            self.heads[oldest] = ring.look();
            handed_out?;
        }
        ControlFlow::Continue(())
    }

    fn rest(&mut self) {
        self.rings.iter_mut().for_each(Ring::give_back);
    }
}

/// An event as the ring has it.
#[derive(Clone, Copy, Default)]
struct Head {
    index: u32,
    task: u32,
    ptr: u64,
    time_ns: u64,
}

/// One ring, as far as it has been read.
struct Ring<W> {
    memory: Arc<Memory<W>>,
    span: Span,
    /// Its [`Control::tail`], as a word of that map.
    tail: usize,
    cpu: u16,
    is_kmalloc: bool,
    /// Slots read, through all laps.
    at: u64,
    /// What the program was last told of that.
    given_back: u64,
    epoch: u64,
    /// The rest of the next event's address.
    rest: u64,
    /// What the program said of each place: a power of two of them.
    places: Vec<Shared>,
    /// The oldest event, read already, if there is one.
    head: Head,
}

/// The slot that both words are when they are of the lap that `lap` stands for.
fn whole(words: [u64; 2], lap: u64) -> Option<Slot> {
    ((words[0] ^ lap) & LAP == 0 && (words[1] ^ lap) & LAP == 0).then(|| Slot::decode(words))
}

impl<W: Deref<Target = [AtomicU64]>> Ring<W> {
    fn new(memory: Arc<Memory<W>>, geometry: Geometry, cpu: u32, writer: Writer) -> Self {
        let control = (cpu * RINGS + writer as u32) as usize * size_of::<Control>();
        // All events of a bulk have the same place: none.
        let places = if writer == Writer::Bulk { 1 } else { PLACES };
        Self {
            memory,
            span: Span::of(writer, cpu, geometry.log2),
            tail: (control + offset_of!(Control, tail)) / 8,
            cpu: cpu as u16,
            is_kmalloc: writer == Writer::Kmalloc,
            at: 0,
            given_back: 0,
            epoch: 0,
            rest: USUAL_REST,
            places: vec![Shared::default(); places as usize],
            head: Head::default(),
        }
    }

    /// The next slot, if it is there.
    fn slot(&self) -> Option<Slot> {
        let first = self.span.slot(self.at) as usize * 2;
        let words: &[AtomicU64] = self.memory.slots.get(first..first + 2)?;
        // In whatever order: each word says itself whether it is there.
        whole([words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed)], self.span.lap(self.at))
    }

    /// Reads up to the next event; when it happened, or [`NONE`].
    #[inline]
    fn look(&mut self) -> When {
        while let Some(slot) = self.slot() {
            self.at += 1;
            if self.at - self.given_back >= self.span.size() / 8 {
                self.give_back();
            }
            match slot {
                Slot::Event { index, ptr, task, turn, time } => {
                    let time_ns = self.epoch << TIME_BITS | time;
                    self.head = Head { index, task, ptr: join(ptr, self.rest), time_ns };
                    self.rest = USUAL_REST;
                    return when(time_ns, turn);
                }
                Slot::Site { index, call_site, gfp } => {
                    let Shared { allocation, known } = self.place(index);
                    (allocation.call_site, allocation.gfp, *known) = (call_site, gfp.into(), Known::default());
                }
                Slot::Sizes { index, bytes_req, bytes_alloc } => {
                    let Shared { allocation, known } = self.place(index);
                    (allocation.bytes_req, allocation.bytes_alloc) = (bytes_req.into(), bytes_alloc.into());
                    *known = Known::default();
                }
                Slot::Epoch(epoch) => self.epoch = epoch,
                Slot::Rest(rest) => self.rest = rest,
            }
        }
        NONE
    }

    /// What was said of a place.
    #[inline]
    fn place(&mut self, index: u32) -> &mut Shared {
        let last = self.places.len() - 1;
        &mut self.places[index as usize & last]
    }

    /// The event up to which it was read.
    #[inline]
    fn object(&mut self) -> Object<'_> {
        let Head { index, task, ptr, time_ns } = self.head;
        let moment = Moment { time_ns, task, cpu: self.cpu };
        Object { moment, ptr, is_kmalloc: self.is_kmalloc, shared: self.place(index) }
    }

    /// Lets the program write over what was read.
    fn give_back(&mut self) {
        if self.given_back != self.at {
            self.given_back = self.at;
            // Behind all that was read of these slots.
            self.memory.control[self.tail].store(self.at, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
