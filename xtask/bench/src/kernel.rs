//! The benchmark's machine at work: bursts of mappings and unmappings on eight CPUs, as events in the order of a Linux 6.12
//! kernel. `swiotlb_bounced`, the search for slots and the mapping event come one after another; slots are given back
//! before the unmapping event. CPUs interleave; on one of them nothing overlaps.

use std::{cmp::Ordering, cmp::Reverse, collections::BinaryHeap};

use tracer::event::{DeviceId, Direction, Event, Memory, Segment, What};

use super::{
    memory::{Buffers, Pool, struct_page},
    random::Random,
    traffic::{DEVICES, PATTERNS, Part, Pattern, Place},
};

pub(super) const CPUS: u64 = 8;
/// The clock's resolution.
const TICK_NS: u64 = 16;
/// Between bursts on the whole machine; with the patterns' lifetimes about 1200 buffers are mapped at a time.
const BETWEEN_BURSTS_NS: (u64, u64) = (1000, 19_000);
/// The linear map, where the tables of scatterlists are.
const LINEAR: u64 = 0xffff_0000_0000_0000;
const PAGE: u64 = 4096;

/// An event on its way, and the segments of its list.
pub(super) struct Emitted {
    pub(super) event: Event,
    pub(super) segments: Vec<Segment>,
    /// The pattern and part whose buffer is free again.
    freed: Option<(usize, usize, u64)>,
    order: u64,
}

/// A burst that waits for its completion.
struct Completion {
    time_ns: u64,
    order: u64,
    pattern: usize,
    cpu: u16,
    mapped: Vec<Mapped>,
}

/// What is mapped.
struct Mapped {
    part: usize,
    buffer: u64,
    dma_addr: u64,
    size: u64,
    nents: u32,
    slot: Option<u64>,
}

/// A CPU at work.
struct Run {
    time_ns: u64,
    cpu: u16,
    task: u32,
}

/// The machine.
pub(super) struct Kernel {
    random: Random,
    buffers: Vec<Vec<Buffers>>,
    pub(super) pool: Pool,
    /// Until when each CPU is at work.
    busy_until_ns: [u64; CPUS as usize],
    next_burst_ns: u64,
    completions: BinaryHeap<Reverse<Completion>>,
    events: BinaryHeap<Reverse<Emitted>>,
    emitted: u64,
    bursts: u64,
    weights: u64,
}

impl Kernel {
    pub(super) fn new(seed: u64, now_ns: u64) -> Self {
        let mut ranges = 0..;
        let mut buffers = |pattern: &Pattern| {
            let places = pattern.parts.iter().map(|part| part.place);
            places.zip(&mut ranges).map(|(place, range)| Buffers::new(place, range)).collect()
        };
        Self {
            random: Random::new(seed),
            buffers: PATTERNS.iter().map(&mut buffers).collect(),
            pool: Pool::new(CPUS),
            busy_until_ns: [0; CPUS as usize],
            next_burst_ns: now_ns,
            completions: BinaryHeap::new(),
            events: BinaryHeap::new(),
            emitted: 0,
            bursts: 0,
            weights: PATTERNS.iter().map(|pattern| pattern.weight).sum(),
        }
    }

    /// The next event. Once `draining`, nothing new is mapped, and `None` when nothing is left.
    pub(super) fn next_event(&mut self, draining: bool) -> Option<Emitted> {
        loop {
            let completion_ns = self.completions.peek().map(|Reverse(completion)| completion.time_ns);
            let burst_ns = (!draining).then_some(self.next_burst_ns);
            let next_ns = completion_ns.into_iter().chain(burst_ns).min();
            // What is decided later happens later.
            let settled = |emitted: &Emitted| next_ns.is_none_or(|next_ns| emitted.event.time_ns < next_ns);
            if self.events.peek().is_some_and(|Reverse(emitted)| settled(emitted)) {
                let Reverse(mut emitted) = self.events.pop()?;
                self.settle(&emitted);
                emitted.event.time_ns -= emitted.event.time_ns % TICK_NS;
                return Some(emitted);
            }
            if completion_ns == Some(next_ns?) {
                let Reverse(completion) = self.completions.pop()?;
                self.complete(&completion);
            } else {
                self.burst();
            }
        }
    }

    fn settle(&mut self, emitted: &Emitted) {
        match emitted.event.what {
            What::SlotMap { .. } => self.pool.taken(),
            What::SlotUnmap { slot, .. } => self.pool.give_back(slot),
            _ => {}
        }
        if let Some((pattern, part, buffer)) = emitted.freed {
            self.buffers[pattern][part].give_back(buffer);
        }
    }

    fn burst(&mut self) {
        let now_ns = self.next_burst_ns;
        self.next_burst_ns += self.random.between(BETWEEN_BURSTS_NS);
        let mut at = self.random.below(self.weights);
        let number = PATTERNS.iter().position(|pattern| {
            let here = at < pattern.weight;
            at = at.saturating_sub(pattern.weight);
            here
        });
        let number = number.unwrap_or_default();
        let pattern = &PATTERNS[number];
        let cpu = self.random.below(CPUS) as u16;
        let mut run = self.run(cpu, now_ns);
        let mut mapped = Vec::new();
        for _ in 0..self.random.skewed(pattern.burst) {
            run.time_ns += self.random.between((300, 900));
            for (n, part) in pattern.parts.iter().enumerate() {
                if self.random.percent(part.percent) {
                    mapped.push(self.map(number, n, part, &mut run));
                }
            }
        }
        self.busy_until_ns[usize::from(cpu)] = run.time_ns;
        self.bursts += 1;
        self.completions.push(Reverse(Completion {
            time_ns: run.time_ns + self.random.skewed(pattern.lifetime_ns),
            order: self.bursts,
            pattern: number,
            // Interrupts mostly come to the CPU that asked.
            cpu: if self.random.percent(80) { cpu } else { self.random.below(CPUS) as u16 },
            mapped,
        }));
    }

    /// A CPU that begins to work when it is free.
    fn run(&mut self, cpu: u16, now_ns: u64) -> Run {
        let time_ns = now_ns.max(self.busy_until_ns[usize::from(cpu)]);
        // Nobody, or the one of four threads that lives there for a millisecond.
        let thread = 1000 + 16 * u32::from(cpu) + (time_ns >> 20 & 3) as u32;
        Run { time_ns, cpu, task: if self.random.percent(40) { 0 } else { thread } }
    }

    fn map(&mut self, pattern: usize, number: usize, part: &Part, run: &mut Run) -> Mapped {
        let device = DeviceId(PATTERNS[pattern].device);
        let direction = part.direction;
        let buffers = &mut self.buffers[pattern][number];
        let buffer = buffers.take();
        let list = buffer | LINEAR;
        let size = *self.random.one_of(part.sizes);
        let mut segments = Vec::new();
        match part.place {
            Place::PageCache { pages } => {
                for _ in 0..self.random.skewed(pages) {
                    segments.push(segment(buffers.page_cache(&mut self.random), size));
                }
            }
            // In the same allocation as the table.
            Place::ListOfObject => segments.push(segment(buffer + 512, size)),
            Place::Rolling { .. } | Place::Slab { .. } => {}
        }
        let phys = segments.first().map_or(buffer, |segment| segment.dma_addr);
        let slot = needs_bounce(device, direction, size).then(|| self.slot(device, direction, phys, size, run));
        let dma_addr = slot.unwrap_or(phys);
        if let (Some(slot), Some(first)) = (slot, segments.first_mut()) {
            first.dma_addr = slot;
        }
        let nents = segments.len() as u32;
        run.time_ns += self.random.between((60, 260));
        let what = if nents == 0 {
            What::Map { device, phys, dma_addr, size, direction, memory: Memory::Unknown, attrs: 0 }
        } else {
            What::MapSg {
                device,
                list,
                nents,
                ents: nents,
                direction,
                attrs: 0,
                caller: 0,
                first_segment: 0,
                segments: nents,
            }
        };
        self.emit(run, what, segments, None);
        Mapped { part: number, buffer, dma_addr, size, nents, slot }
    }

    fn slot(&mut self, device: DeviceId, direction: Direction, phys: u64, size: u64, run: &mut Run) -> u64 {
        run.time_ns += self.random.between((100, 300));
        self.emit(run, What::Bounced { device, dev_addr: phys, size }, Vec::new(), None);
        let slot = self.pool.take(run.cpu);
        let duration_ns = self.random.between((200, 900)) / TICK_NS * TICK_NS;
        run.time_ns += duration_ns + self.random.between((60, 200));
        let what = What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns };
        self.emit(run, what, Vec::new(), None);
        slot
    }

    fn complete(&mut self, completion: &Completion) {
        let pattern = &PATTERNS[completion.pattern];
        let device = DeviceId(pattern.device);
        let mut run = self.run(completion.cpu, completion.time_ns);
        for mapped in &completion.mapped {
            let direction = pattern.parts[mapped.part].direction;
            run.time_ns += self.random.between((100, 500));
            if let Some(slot) = mapped.slot {
                self.emit(&run, What::SlotUnmap { device, slot, size: mapped.size, direction }, Vec::new(), None);
                run.time_ns += self.random.between((60, 200));
            }
            let &Mapped { dma_addr, size, nents, .. } = mapped;
            let what = if nents == 0 {
                What::Unmap { device, dma_addr, size, direction, attrs: 0 }
            } else {
                What::UnmapSg { device, list: mapped.buffer | LINEAR, nents, direction, attrs: 0 }
            };
            self.emit(&run, what, Vec::new(), Some((completion.pattern, mapped.part, mapped.buffer)));
        }
        let busy = &mut self.busy_until_ns[usize::from(completion.cpu)];
        *busy = run.time_ns.max(*busy);
    }

    fn emit(&mut self, run: &Run, what: What, segments: Vec<Segment>, freed: Option<(usize, usize, u64)>) {
        let event = Event { time_ns: run.time_ns, task: run.task, cpu: run.cpu, what };
        self.emitted += 1;
        self.events.push(Reverse(Emitted { event, segments, freed, order: self.emitted }));
    }
}

/// What these kernels bounce: lines of 64 bytes, caches from 8.
fn needs_bounce(device: DeviceId, direction: Direction, size: u64) -> bool {
    let coherent = DEVICES[device.0 as usize].coherent;
    !coherent && direction != Direction::ToDevice && matches!(size, 1..=32 | 65..=96)
}

/// One entry of a list, mapped as it is.
fn segment(phys: u64, length: u64) -> Segment {
    Segment {
        page: struct_page(phys),
        dma_addr: phys,
        offset: (phys % PAGE) as u32,
        length: length as u32,
        dma_len: length as u32,
        dma_flags: 0,
        memory: Memory::Unknown,
    }
}

/// By time, then in the order in which they were decided; in a heap the earliest comes first.
macro_rules! ordered_by_time {
    ($type:ty, $time:expr) => {
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                let key = |value: &Self| ($time(value), value.order);
                key(self).cmp(&key(other))
            }
        }

        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl Eq for $type {}
    };
}

ordered_by_time!(Emitted, |emitted: &Emitted| emitted.event.time_ns);
ordered_by_time!(Completion, |completion: &Completion| completion.time_ns);
