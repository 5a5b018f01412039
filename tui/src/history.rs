//! What happened over time, kept as items pass: counts in buckets of equal length, so that any window of time can be shown
//! without going back to its events; and what is known by now of kernel, devices and losses.

mod bucket;
mod sites;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use tracer::doctor::Examined;
use tracer::event::{Event, Kind, MAPPING_ERROR, What};
use tracer::facts::{Counters, Device, PoolSample, Symbol, is_attached};
use tracer::model::pool::SLOT;
use tracer::names::{Loss, Program, Subject};
use tracer::stream::{Gaps, Item, Start};

pub use bucket::Bucket;
pub use sites::{Site, Sites};

/// Buckets kept of a whole capture; beyond, two become one.
const WHOLE: usize = 1 << 16;
/// Length of the first buckets of a capture, ns.
const FINEST_NS: u64 = 1_000_000;
/// Length of a live stream's buckets, ns, and how many are kept: ten minutes.
const RECENT_NS: u64 = 100_000_000;
const RECENT: usize = 6000;
/// Times of refused mappings kept.
const REFUSALS: usize = 1 << 16;

/// What makes way when there is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Detail: a capture's history reaches from its beginning to its end.
    #[default]
    Whole,
    /// What is oldest.
    Recent,
}

/// Devices and names of call sites that are kept, more than there are.
const MOST: usize = 1 << 16;
/// Slots in use that are kept apart.
const MOST_HELD: usize = 1 << 18;

/// The history.
#[derive(Clone, Debug)]
pub struct History {
    keep: Keep,
    /// The beginning of the stream.
    pub start: Start,
    /// What the page about the kernel is made from.
    pub examined: Examined,
    /// Descriptions of devices, in the order in which they came.
    pub devices: Vec<Device>,
    /// Names of call sites.
    pub symbols: HashMap<u64, Symbol>,
    /// Allocations by call site.
    pub sites: Sites,
    /// What is missing from a capture.
    pub gaps: Gaps,
    buckets: VecDeque<Bucket>,
    bucket_ns: u64,
    /// Beginning of the first bucket, ns.
    first_ns: u64,
    begun: bool,
    now_ns: u64,
    counted_ns: u64,
    /// Slots by where they lie, while they are in use.
    held: HashMap<u64, u64>,
    held_slots: u64,
    /// Of them those that were given back unseen, as the pool's own counter says.
    stale_slots: u64,
    /// What that counter said, until all events before it have come.
    sample: Option<PoolSample>,
    slots_are_seen: bool,
    releases_are_seen: bool,
    refusals: VecDeque<u64>,
}

impl History {
    /// Of nothing so far.
    pub fn new(keep: Keep) -> Self {
        let bucket_ns = if keep == Keep::Recent { RECENT_NS } else { FINEST_NS };
        Self {
            keep,
            start: Start::default(),
            examined: Examined::default(),
            devices: Vec::new(),
            symbols: HashMap::new(),
            sites: Sites::default(),
            gaps: Gaps::default(),
            buckets: VecDeque::new(),
            bucket_ns,
            first_ns: 0,
            begun: false,
            now_ns: 0,
            counted_ns: 0,
            held: HashMap::new(),
            held_slots: 0,
            stale_slots: 0,
            sample: None,
            slots_are_seen: false,
            releases_are_seen: false,
            refusals: VecDeque::new(),
        }
    }

    /// Takes in an item.
    pub fn observe(&mut self, item: &Item) {
        match item {
            Item::Start(start) if !self.begun => self.begin(start),
            Item::Device(device) if self.devices.len() < MOST => self.devices.push(device.clone()),
            Item::Device(_) => return,
            Item::Events(batch) => {
                batch.events.iter().for_each(|event| self.event(event));
                return;
            }
            Item::Pool(sample) => {
                self.pass(sample.time_ns);
                self.used(sample.time_ns, sample.used_slots);
                self.sample = Some(sample.clone());
            }
            Item::Sites(sites) => {
                let all = self.sites.take(sites, self.counted_ns, self.now_ns, self.keep);
                self.allocated(all);
            }
            Item::Symbols(symbols) => {
                let room = MOST.saturating_sub(self.symbols.len());
                self.symbols.extend(symbols.iter().take(room).map(|symbol| (symbol.addr, symbol.clone())));
            }
            Item::Counters(counters) => self.pass(counters.time_ns),
            Item::End(end) => self.pass(end.time_ns),
            Item::Start(_) | Item::Slab(_) | Item::PoolTimes(_) | Item::Lengths(_) | Item::Passed(_) => {}
        }
        self.examined.take(item.clone());
    }

    fn begin(&mut self, start: &Start) {
        self.slots_are_seen = is_attached(&start.hooks, &Subject::SlotMap);
        self.releases_are_seen = is_attached(&start.hooks, &Subject::SlotUnmap);
        (self.first_ns, self.now_ns, self.counted_ns) = (start.time_ns, start.time_ns, start.time_ns);
        self.held_slots = start.kernel.pool.used_at_start;
        self.start = start.clone();
        self.begun = true;
    }

    fn event(&mut self, event: &Event) {
        if let Some(sample) = self.sample.take_if(|sample| sample.time_ns < event.time_ns) {
            self.correct(&sample);
        }
        let bucket = self.bucket(event.time_ns);
        if bucket.event(&event.what) {
            if self.refusals.len() == REFUSALS {
                self.refusals.pop_front();
            }
            self.refusals.push_back(event.time_ns);
        }
        self.pass(event.time_ns);
        match event.what {
            What::SlotMap { slot, size, .. } | What::CoherentAlloc { slot, size, .. } if slot != MAPPING_ERROR => {
                let slots = (slot % SLOT).saturating_add(size).div_ceil(SLOT);
                if self.held.len() >= MOST_HELD && !self.held.contains_key(&slot) {
                    return;
                }
                let before = self.held.insert(slot, slots).unwrap_or(0);
                self.held_slots = (self.held_slots + slots).saturating_sub(before);
                self.stale_slots = self.stale_slots.saturating_sub(before);
                if self.releases_are_seen {
                    self.used(event.time_ns, self.held_slots.saturating_sub(self.stale_slots));
                }
            }
            What::SlotUnmap { slot, .. } | What::CoherentFree { slot, .. } => {
                let slots = self.held.remove(&slot).unwrap_or(0);
                self.held_slots = self.held_slots.saturating_sub(slots);
            }
            _ => {}
        }
    }

    /// Where releases were missed, what is held is too much from then on: the pool's own counter tells by how much.
    fn correct(&mut self, sample: &PoolSample) {
        let counters = self.counters();
        let releases =
            [Loss::RingFull(Kind::SlotUnmap), Loss::Missed(Program::SlotUnmap), Loss::Missed(Program::SlotUnmapEnter)];
        if releases.iter().any(|loss| counters.lost(loss) > 0) {
            self.stale_slots = self.held_slots.saturating_sub(sample.used_slots);
        }
    }

    fn pass(&mut self, time_ns: u64) {
        self.now_ns = self.now_ns.max(time_ns);
    }

    fn used(&mut self, time_ns: u64, slots: u64) {
        let bucket = self.bucket(time_ns);
        bucket.used_slots = bucket.used_slots.max(Some(slots));
    }

    /// Spreads allocations over the time since they were last counted.
    fn allocated(&mut self, count: u64) {
        let (from, to) = (self.counted_ns, self.now_ns);
        self.counted_ns = to;
        self.bucket(to);
        let (first, last) = (self.place(from), self.place(to));
        let each = count as f64 / (last - first + 1) as f64;
        for bucket in self.buckets.range_mut(first..=last) {
            bucket.allocations += each;
        }
    }

    /// The bucket of a moment, as an index; moments before the first count there.
    fn place(&self, time_ns: u64) -> usize {
        (time_ns.saturating_sub(self.first_ns) / self.bucket_ns) as usize
    }

    fn bucket(&mut self, time_ns: u64) -> &mut Bucket {
        let most = if self.keep == Keep::Recent { RECENT } else { WHOLE };
        while self.keep == Keep::Whole && self.place(time_ns) >= most {
            self.halve();
        }
        if self.place(time_ns) >= 2 * most {
            // A long silence, or a clock that jumped: nothing of what was kept is recent any more.
            self.buckets.clear();
            self.first_ns = time_ns;
        }
        let mut place = self.place(time_ns);
        while place >= most {
            self.buckets.pop_front();
            self.first_ns += self.bucket_ns;
            place -= 1;
        }
        if place >= self.buckets.len() {
            self.buckets.resize(place + 1, Bucket::default());
        }
        &mut self.buckets[place]
    }

    /// Makes one bucket of each two.
    fn halve(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets).into_iter();
        while let Some(mut bucket) = buckets.next() {
            if let Some(next) = buckets.next() {
                bucket.add(&next);
            }
            self.buckets.push_back(bucket);
        }
        self.bucket_ns *= 2;
    }

    /// Whether the stream has begun.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// The earliest moment kept, ns.
    pub fn first_ns(&self) -> u64 {
        self.first_ns
    }

    /// The latest moment so far, ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The programs' counters, as last read.
    pub fn counters(&self) -> &Counters {
        &self.examined.counters
    }

    /// Buffers that bounced: those for which slots were found, or where that is not recorded, attempts.
    pub fn bounces(&self, bucket: &Bucket) -> u64 {
        if self.slots_are_seen { bucket.slots_found } else { bucket.attempts }
    }

    /// Sums over a window of time.
    pub fn sum(&self, from_ns: u64, to_ns: u64) -> Bucket {
        let mut sum = Bucket::default();
        self.range(from_ns, to_ns).for_each(|bucket| sum.add(bucket));
        sum.used_slots = sum.used_slots.map(|slots| slots.min(self.mark()));
        sum
    }

    fn range(&self, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Bucket> {
        let first = self.place(from_ns).min(self.buckets.len());
        let last = (self.place(to_ns) + 1).clamp(first, self.buckets.len());
        self.buckets.range(first..last)
    }

    /// The window in so many columns, each a sum and the time that it covers, ns: of the buckets that begin in it, or of the one
    /// that it lies in where that is longer.
    pub fn columns(&self, from_ns: u64, to_ns: u64, columns: usize) -> Vec<(Bucket, f64)> {
        let wide_ns = to_ns.saturating_sub(from_ns).max(1) as f64 / columns.max(1) as f64;
        let moment = |n: usize| from_ns.saturating_add((n as f64 * wide_ns) as u64);
        let column = |n: usize| {
            let first = self.place(moment(n)).min(self.buckets.len());
            let last = self.place(moment(n + 1)).max(first + 1).min(self.buckets.len());
            let mut sum = Bucket::default();
            self.buckets.range(first..last).for_each(|bucket| sum.add(bucket));
            sum.used_slots = sum.used_slots.map(|slots| slots.min(self.mark()));
            (sum, (last.max(first + 1) - first) as f64 * self.bucket_ns as f64)
        };
        (0..columns).map(column).collect()
    }

    /// Slots in use before a moment, as far as seen; what was in use at the beginning where nothing has been seen since.
    pub fn used_before(&self, time_ns: u64) -> u64 {
        let place = self.place(time_ns).min(self.buckets.len());
        let seen = self.buckets.range(..place).rev().find_map(|bucket| bucket.used_slots);
        seen.unwrap_or(self.start.kernel.pool.used_at_start)
    }

    /// Slots that were never exceeded: the pool's own high-water mark, where it is that of this stream. What is followed from event
    /// to event can be more for a while, where releases were missed.
    fn mark(&self) -> u64 {
        let pool = &self.start.kernel.pool;
        let is_all = pool.hiwater_reset && pool.restricted.is_empty() && self.examined.end.is_some();
        self.examined.pool.as_ref().filter(|_| is_all).and_then(|sample| sample.hiwater_slots).unwrap_or(u64::MAX)
    }

    /// When the pool was seen fullest, ns, and with how many slots in use.
    pub fn fullest(&self) -> Option<(u64, u64)> {
        let all = self.buckets.iter().enumerate().rev();
        let (place, slots) = all
            .filter_map(|(n, bucket)| Some((n, bucket.used_slots?.min(self.mark()))))
            .max_by_key(|(_, slots)| *slots)?;
        Some((self.first_ns + place as u64 * self.bucket_ns + self.bucket_ns / 2, slots))
    }

    /// The next mapping that the kernel refused after a moment, ns.
    pub fn next_refusal(&self, after_ns: u64) -> Option<u64> {
        self.refusals.iter().copied().filter(|time_ns| *time_ns > after_ns).min()
    }
}
