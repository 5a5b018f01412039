//! What commands cost by what they read: a stream with its events over and over, at addresses that go on or stay.

use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use peak_alloc::PeakAlloc;
use tracer::event::{Batch, What};
use tracer::stream::Item;

use crate::{everything, stream::Stream};

/// Events and segments of all repetitions: what takes time with the square of their number shows at so many.
const MOST: usize = 1 << 14;
/// CPU time that a stream may take however short it is.
const AT_LEAST: Duration = Duration::from_secs(2);
/// CPU time more for each event or segment, under about 50 simulated kernels, with counters and checks compiled in: several times what a
/// recorded one takes.
const PER_EVENT: Duration = Duration::from_micros(400);
/// Bytes of memory at once.
const MEMORY: usize = 256 << 20;

/// A stream, and how it is repeated.
#[derive(Arbitrary, Debug)]
pub struct Repeated {
    stream: Stream,
    times: u16,
    /// From each repetition to the next: addresses of buffers, of slots, of objects, and lists.
    strides: [u16; 4],
}

impl Repeated {
    /// Its items, and how many events and segments they hold.
    pub fn items(self) -> (Vec<Item>, usize) {
        let (times, strides) = (usize::from(self.times), self.strides.map(u64::from));
        let mut left = MOST;
        let mut items = self.stream.items();
        for item in &mut items {
            if let Item::Events(batch) = item {
                *batch = repeated(batch, times, strides, &mut left);
            }
        }
        (items, MOST - left)
    }
}

/// The events over and over while there are some left, each time a little further.
fn repeated(once: &Batch, times: usize, strides: [u64; 4], left: &mut usize) -> Batch {
    let mut all = Batch::default();
    let length = once.events.len() + once.segments.len();
    let span = once.events.iter().map(|event| event.time_ns).max().unwrap_or(0)
        - once.events.iter().map(|event| event.time_ns).min().unwrap_or(0);
    for round in 0..times.max(1) as u64 {
        if length == 0 || *left < length {
            break;
        }
        *left -= length;
        let by = strides.map(|stride| stride * round);
        let segments = all.segments.len() as u32;
        all.segments.extend(once.segments.iter().map(|segment| {
            let mut segment = *segment;
            segment.dma_addr = segment.dma_addr.wrapping_add(by[0]);
            segment
        }));
        all.events.extend(once.events.iter().map(|event| {
            let mut event = *event;
            event.time_ns = event.time_ns.wrapping_add(span.saturating_add(1).wrapping_mul(round));
            shift(&mut event.what, by, segments);
            event
        }));
    }
    all
}

fn shift(what: &mut What, [buffers, slots, objects, lists]: [u64; 4], segments: u32) {
    let add = |address: &mut u64, by: u64| *address = address.wrapping_add(by);
    match what {
        What::Map { phys, dma_addr, .. } | What::Link { phys, dma_addr, .. } => {
            add(phys, buffers);
            add(dma_addr, buffers);
        }
        What::Unmap { dma_addr, .. } | What::Unlink { dma_addr, .. } | What::Sync { dma_addr, .. } => {
            add(dma_addr, buffers);
        }
        What::MapSg { list, first_segment, .. } => {
            add(list, lists);
            *first_segment += segments;
        }
        What::UnmapSg { list, .. } | What::SyncSg { list, .. } => add(list, lists),
        What::Bounced { dev_addr, .. } => add(dev_addr, buffers),
        What::SlotMap { phys, slot, .. } => {
            add(phys, buffers);
            add(slot, slots);
        }
        What::SlotUnmap { slot, .. } | What::CoherentAlloc { slot, .. } | What::CoherentFree { slot, .. } => {
            add(slot, slots);
        }
        What::Kmalloc { ptr, .. } | What::Kfree { ptr, .. } => add(ptr, objects),
    }
}

/// Does everything with a stream, within its bounds of time and memory.
pub fn bounded(repeated: Repeated, memory: &PeakAlloc) {
    let (items, events) = repeated.items();
    let before = memory.current_usage();
    memory.reset_peak_usage();
    let began = cpu_time();
    everything::with(&items);
    let (took, at_most) = (cpu_time().saturating_sub(began), AT_LEAST + PER_EVENT * events as u32);
    assert!(took <= at_most, "{events} events took {took:?}, more than {at_most:?}");
    let peak = memory.peak_usage().saturating_sub(before);
    assert!(peak <= MEMORY, "{events} events took {} MiB", peak >> 20);
}

/// CPU time of this thread so far: what else the machine does is no finding.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("CPU time is not negative")
}
