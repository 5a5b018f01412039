//! A frame of events that is filled one by one: objects go into their columns at once, without an [`Event`] in between.

use crate::event::{Batch, Event, Kind, Segment, What};
use crate::events::{MAX_EVENTS, MAX_SEGMENTS};
use crate::objects::{Allocation, Known, Moment, ObjectDecoder, ObjectEncoder, tick_shift};

/// Events in one frame that are no objects, at the most. Decoded, they are 1 MiB: little enough to be in the CPU's cache still when they
/// are replayed, and for damage to take little; enough for compression. With objects, a frame has up to 65,536 events.
pub const FRAME_EVENTS: usize = 1 << 14;

/// Takes events, the next in the stream's order, until there are enough for a frame; keeps its memory.
#[derive(Default)]
pub struct Filling {
    objects: ObjectEncoder,
    frame: Frame,
    tick_shift: u8,
    /// Of the room that a frame has: all of it once it must be finished.
    taken: usize,
}

/// Events for one frame of a capture ([`crate::Writer::write_frame`]).
#[derive(Clone, Debug)]
pub struct Frame {
    /// The block of objects, before it is compressed.
    pub(super) block: Vec<u8>,
    /// How many objects are in it: allocations and frees.
    pub(super) objects: [usize; 2],
    /// All other events, and which of all events they are.
    pub(super) others: Batch,
    pub(super) others_at: Vec<u32>,
    /// The earliest and the latest moment, ns.
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
    pub(super) tick_shift: u8,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            block: Vec::new(),
            objects: [0; 2],
            others: Batch::default(),
            others_at: Vec::new(),
            first_ns: u64::MAX,
            last_ns: 0,
            tick_shift: 0,
        }
    }
}

impl Frame {
    /// Events in it.
    pub fn len(&self) -> usize {
        self.objects() + self.others.events.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Allocations and frees in it.
    pub fn objects(&self) -> usize {
        self.objects[0] + self.objects[1]
    }

    /// The others, with what their scatterlists name.
    pub fn others(&self) -> &Batch {
        &self.others
    }

    /// All of them, as a reader would have them but for the times of objects, which are rounded down and may so come before those of the
    /// events in front; `None` where an allocation or a free is damaged.
    pub(super) fn events(&self) -> Option<Batch> {
        let mut objects = Vec::with_capacity(self.objects());
        if self.objects() > 0 {
            ObjectDecoder::default().begin(&self.block)?.decode(self.objects(), &mut objects)?;
        }
        let mut objects = objects.into_iter();
        let mut batch = Batch { events: Vec::with_capacity(self.len()), segments: self.others.segments.clone() };
        for (at, event) in self.others_at.iter().zip(&self.others.events) {
            let before = (*at as usize).checked_sub(batch.events.len())?;
            batch.events.extend(objects.by_ref().take(before));
            batch.events.push(*event);
        }
        batch.events.extend(objects);
        Some(batch)
    }

    fn clear(&mut self) {
        let Self { block, others, others_at, .. } = self;
        block.clear();
        others.clear();
        others_at.clear();
        (self.objects, self.first_ns, self.last_ns) = ([0; 2], u64::MAX, 0);
    }

    #[inline]
    fn at(&mut self, time_ns: u64) {
        self.first_ns = self.first_ns.min(time_ns);
        self.last_ns = self.last_ns.max(time_ns);
    }
}

impl Filling {
    /// For a stream whose times of objects may be rounded down to multiples of `object_tick_ns`
    /// ([`crate::stream::Start::object_tick_ns`]).
    pub fn new(object_tick_ns: Option<u32>) -> Self {
        let mut filling = Self { tick_shift: tick_shift(object_tick_ns), ..Self::default() };
        filling.objects.begin(filling.tick_shift);
        filling
    }

    /// Allocations, frees and other events so far.
    pub fn counts(&self) -> [usize; 3] {
        let allocations = self.frame.objects[0];
        [allocations, self.objects.len() - allocations, self.frame.others_at.len()]
    }

    /// Events so far.
    pub fn len(&self) -> usize {
        self.objects.len() + self.frame.others_at.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It is time for [`Self::finish`]: nothing more fits.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.taken >= MAX_EVENTS
    }

    /// Adds an allocation; whether none of its kind is in the frame yet. Nothing where the frame is full.
    #[inline]
    pub fn allocated(&mut self, moment: Moment, ptr: u64, allocation: &Allocation, known: &mut Known) -> bool {
        if self.is_full() {
            return false;
        }
        self.taken += 1;
        self.frame.objects[0] += 1;
        self.frame.at(moment.time_ns);
        self.objects.allocated(moment, ptr, allocation, known) == Some(true)
    }

    /// Adds a free. Nothing where the frame is full.
    #[inline]
    pub fn freed(&mut self, moment: Moment, ptr: u64, call_site: u64, known: &mut Known) {
        if !self.is_full() {
            self.taken += 1;
            self.frame.at(moment.time_ns);
            self.objects.freed(moment, ptr, call_site, known);
        }
    }

    /// Adds any event of `batch`. Nothing where the frame is full.
    pub fn event(&mut self, event: &Event, batch: &Batch) {
        let Event { time_ns, task, cpu, what } = *event;
        let moment = Moment { time_ns, task, cpu };
        match what {
            What::Kmalloc { call_site, ptr, bytes_req, bytes_alloc, gfp } => {
                let allocation = Allocation { call_site, bytes_req, bytes_alloc, gfp };
                self.allocated(moment, ptr, &allocation, &mut Known::default());
            }
            What::Kfree { call_site, ptr } => self.freed(moment, ptr, call_site, &mut Known::default()),
            _ if !self.is_full() => self.other(event, batch.segments(event)),
            _ => {}
        }
    }

    fn other(&mut self, event: &Event, segments: &[Segment]) {
        let at = self.len() as u32;
        let mut event = *event;
        let frame = &mut self.frame;
        if let What::MapSg { first_segment, .. } = &mut event.what {
            *first_segment = frame.others.segments.len() as u32;
        }
        frame.at(event.time_ns);
        frame.others_at.push(at);
        frame.others.segments.extend_from_slice(segments);
        frame.others.events.push(event);
        let is_last = frame.others.events.len() >= FRAME_EVENTS || frame.others.segments.len() > MAX_SEGMENTS / 2;
        self.taken = if is_last { MAX_EVENTS } else { self.taken + 1 };
    }

    /// The frame, in the memory of one that is not needed any more; the next one begins.
    pub fn finish(&mut self, mut used: Frame) -> Frame {
        used.clear();
        std::mem::swap(&mut self.frame, &mut used);
        used.tick_shift = self.tick_shift;
        used.objects[1] = self.objects.len() - used.objects[0];
        self.taken = 0;
        if used.objects() > 0 {
            self.objects.finish(&mut used.block);
        }
        used
    }
}

/// Events by kind that are in frames.
pub(super) fn count(frame: &Frame, counts: &mut [u64; Kind::ALL.len()]) {
    counts[Kind::Kmalloc as usize] += frame.objects[0] as u64;
    counts[Kind::Kfree as usize] += frame.objects[1] as u64;
    for event in &frame.others.events {
        counts[event.what.kind() as usize] += 1;
    }
}

#[cfg(test)]
mod tests;
