//! A kernel's own trace from boot on, and a recording of the same kernel that began later, as one stream.
//!
//! **One moment.** All mappings before it come from the trace, all after it from the recording. It is a quiet one: for
//! [`QUIET_NS`] on both sides nothing is mapped, so no event can be on the wrong side, although the two take their times one after the other.
//!
//! **No gap.** Trace and recording go on side by side for a while after that moment, and both have to hold the same.
//!
//! **One set of totals.** What the programs counted began between trace and recording. What only the trace has is added to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;

use bouncescope_capture::event::{Batch, DeviceId, Direction, Event, Kind, MAPPING_ERROR, Segment, What};
use bouncescope_capture::facts::{Counters, Device, LengthCount, Mapped, PoolFacts, PoolSample};
use bouncescope_capture::names::Loss;
use bouncescope_capture::stream::{Item, Source as _, Start};
use bouncescope_model::pool::Request;
use tracer_ebpf::decide::Decider;
use tracer_ebpf::streamed::{SMALL_BELOW, Streamed};

use crate::assume::assume;
use crate::ftrace::{Survey, Trace};
use crate::given::GivenDevice;
use crate::tracedat::Ring;

/// On each side of the moment of joining nothing is mapped for so long, ns: the kernel calls the trace's probe and the recorder's
/// program one after the other, and an interrupt may come in between.
pub const QUIET_NS: u64 = 100_000;

/// What a bus offset leaves alone: a multiple of the smallest page, bytes.
const PAGE: u64 = 4096;

/// Events in one batch.
const BATCH: usize = 16 << 10;

/// A recording, as far as it has come when the trace is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Begun {
    /// Its start; all hooks were attached then.
    pub start: Start,
    /// Its items until now.
    pub items: Vec<Item>,
    /// What the programs had counted by length, with the time in which that was read, ns; totals of what changed since the time before.
    pub counted: Vec<(Range<u64>, Vec<LengthCount>)>,
    /// When the trace was read, ns. What it holds from before is whole.
    pub traced_to_ns: u64,
    /// All events that happened before that were among the items by then, ns.
    pub recorded_to_ns: u64,
    /// Why the trace ended before the recording began; empty where it went on.
    pub gap: String,
    /// Why the trace does not begin at boot; empty where it does.
    pub late: String,
}

/// What joining came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Joined {
    /// Items to begin the stream with.
    pub items: Vec<Item>,
    /// What has to be done to all that follow.
    pub rest: Rest,
    /// The moment, ns.
    pub at_ns: u64,
    /// Events from the trace.
    pub events: u64,
    /// Of those, mappings.
    pub mappings: u64,
    /// Events that the trace lost.
    pub lost: u64,
    /// Mappings and unmappings after that moment that trace and recording both have.
    pub in_both: u64,
    /// The same that one of them does not have, and should.
    pub in_one: u64,
    /// What is missing or not certain, a line each; these are among the notes, too.
    pub doubts: Vec<String>,
}

/// Makes the items of a recording those of the joined stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// Numbers of the recording's devices begin here.
    first_device: u32,
    /// Mappings before this moment are the trace's, ns.
    at_ns: u64,
    /// Events that were added and left out, by kind and CPU.
    added: Counts,
    dropped: Counts,
    lost: u64,
    /// Mappings that the decider makes bounce: those added less those left out.
    predicted: i64,
    /// Coherence by number of the recording's devices.
    coherent: Vec<bool>,
    decider: Option<Decider>,
    /// The pool's own mark does not hold the trace's time: somebody has reset it since.
    mark_is_newer: bool,
}

/// Events by kind and CPU.
type Counts = BTreeMap<&'static str, Vec<u64>>;

/// What is counted apart: name of the device, direction, what is mapped, length of at most [`SMALL_BELOW`].
type Key = (String, Direction, Mapped, u32);

/// Buffers, and their bytes.
type Totals = BTreeMap<Key, (u64, u64)>;

/// Events, each with its segments, and the names of the devices that they number.
#[derive(Debug, Default)]
struct Side {
    events: Vec<(Event, Vec<Segment>)>,
    names: Vec<String>,
}

/// Joins a trace and a recording. `known` says what else is known of a device of that name.
///
/// # Errors
///
/// When the trace cannot be read.
pub fn join(ring: &Ring, begun: Begun, known: &dyn Fn(&str) -> Option<GivenDevice>) -> io::Result<Joined> {
    let described: Vec<Device> = begun.items.iter().filter_map(device_of).cloned().collect();
    let (survey, devices, traced, assumed) = read(ring, &begun.start, &described, known)?;
    let recorded = Side {
        events: begun.items.iter().flat_map(events_of).collect(),
        names: described.iter().map(|device| device.name.clone()).collect(),
    };
    let Begun { mut start, items, counted, traced_to_ns, recorded_to_ns, gap, late } = begun;
    let has_gap = !gap.is_empty();
    let lost = survey.lost.max(u64::from(has_gap));

    // Where the recording takes over.
    let compared_to_ns = recorded_to_ns.min(traced_to_ns);
    // A list has another identity in the trace: one that is mapped then could not be followed.
    let lists = mapped_lists(&traced.events);
    let mapped_at = |time_ns| lists.range(..time_ns).next_back().map_or(0, |(_, count)| *count);
    let quiet_from = |from_ns, to_ns| quiet(&times(&traced, &recorded, from_ns), from_ns, to_ns, mapped_at);
    let (at_ns, is_quiet) = if has_gap { (start.time_ns, true) } else { quiet_from(start.time_ns, compared_to_ns) };
    let (in_both, in_one) = if has_gap {
        (0, 0)
    } else {
        let (end_ns, _) = quiet_from(compared_to_ns, traced_to_ns);
        side_by_side([&traced, &recorded], &(at_ns..end_ns), start.streamed == Streamed::All)
    };

    // What the pool holds, as the trace has it, and as the kernel says.
    let held = Held::until(&traced.events, at_ns, &devices, &start);
    let sample = items.iter().find_map(|item| if let Item::Pool(sample) = item { Some(sample.clone()) } else { None });
    let at_sample = sample.map(|sample| {
        let held = Held::until(&traced.events, sample.time_ns, &devices, &start);
        (sample, held)
    });
    let is_whole = lost == 0 && late.is_empty();
    let mark_is_newer = take_over_pool(&mut start.kernel.pool, at_sample.as_ref(), is_whole);

    let coherent = |name: &str| {
        let latest = described.iter().rfind(|device| device.name == name);
        latest.or_else(|| devices.iter().find(|device| device.name == name)).is_some_and(|device| device.coherent)
    };
    let reads = Reads::of(&counted, &described);
    let (lengths, uncertain) = only_traced(&traced, &recorded, at_ns, &reads, start.streamed, coherent);

    let Side { events, .. } = traced;
    let before: Vec<_> = events.into_iter().take_while(|(event, _)| event.time_ns < at_ns).collect();
    let mut doubts = Vec::new();
    if has_gap {
        let last_ns = before.last().map_or(0, |(event, _)| event.time_ns);
        doubts.push(format!("{gap}: what was mapped from {} s to {} s is missing", seconds(last_ns), seconds(at_ns)));
    } else if in_one > 0 {
        let all = in_both + in_one;
        doubts.push(format!("of {all} mappings and unmappings after that moment, {in_one} are not in both"));
    }
    if !is_quiet {
        doubts.push(format!(
            "devices were never quiet for {} us: an event at that moment may be there twice, or not at all",
            2 * QUIET_NS / 1000
        ));
    }
    doubts.extend(Some(late).filter(|late| !late.is_empty()));
    if survey.lost > 0 {
        doubts.push(format!("{} of its events are lost (trace_buf_size= makes its buffers larger)", survey.lost));
    }
    if held.lists > 0 {
        doubts.push(format!("{} lists were mapped at that moment: when they are unmapped can't be told", held.lists));
    }
    if uncertain > 0 {
        doubts.push(format!("counts by length of unstreamed mappings may be off by {uncertain}"));
    }
    if let Some((sample, held)) = at_sample.filter(|(sample, held)| sample.used_slots != held.slots) {
        let (used, explained) = (sample.used_slots, held.slots);
        doubts.push(format!("the pool had {used} slots in use at the start, and its mappings hold {explained}"));
    }
    let moment = format!("it has all mappings before {} s after boot, the recorder those after it", seconds(at_ns));
    let others = assumed.into_iter().filter(|note| !note.contains("the model's alone"));
    let own = [moment].into_iter().chain(doubts.iter().cloned()).chain(others);
    start.notes.extend(own.map(|text| format!("the kernel's own trace: {text}")));

    let first_ns = before.first().map_or(at_ns, |(event, _)| event.time_ns).min(start.time_ns);
    start.wall_clock_s = start.wall_clock_s.saturating_sub((start.time_ns - first_ns) / 1_000_000_000);
    (start.time_ns, start.joined_ns) = (first_ns, Some(at_ns));
    let is_mapping = |event: &Event| matches!(event.what, What::Map { .. } | What::MapSg { .. });
    let (events, mappings) = (before.len() as u64, before.iter().filter(|(event, _)| is_mapping(event)).count() as u64);
    let rest = Rest {
        first_device: devices.len() as u32,
        at_ns,
        lost,
        coherent: described.iter().map(|device| device.coherent).collect(),
        decider: Some(start.kernel.decider()),
        mark_is_newer,
        ..Rest::default()
    };
    let (items, rest) = beginning(start, devices, with_slots(before, &held), lengths, items, rest);
    Ok(Joined { items, rest, at_ns, events, mappings, lost, in_both, in_one, doubts })
}

/// What a trace holds: of it all, its devices, its events, and what was assumed of the devices.
fn read(
    ring: &Ring,
    start: &Start,
    described: &[Device],
    known: &dyn Fn(&str) -> Option<GivenDevice>,
) -> io::Result<(Survey, Vec<Device>, Side, Vec<String>)> {
    let survey = Survey::of(ring.text()?)?;
    let (decider, has_bounces) = (start.kernel.decider(), survey.has(Kind::Bounced));
    let given: Vec<_> = survey
        .devices
        .iter()
        .filter(|(name, _)| described.iter().all(|device| device.name != **name))
        .filter_map(|(name, seen)| {
            // What a device did says more than what firmware says of it.
            let shown = seen.coherent(&decider, has_bounces).is_some();
            known(name).map(|one| GivenDevice { coherent: one.coherent.filter(|_| !shown), ..one })
        })
        .collect();
    let assumed = assume(&survey, start.kernel.clone(), described, &given);
    let mut trace = Trace::new(ring.text()?, &survey, assumed.kernel, assumed.devices, Vec::new());
    let (mut devices, mut side) = (Vec::new(), Side::default());
    while let Some(item) = trace.next_item()? {
        match item {
            Item::Device(device) => {
                side.names.push(device.name.clone());
                devices.push(device);
            }
            Item::Events(batch) => side.events.extend(single(&batch)),
            _ => {}
        }
    }
    Ok((survey, devices, side, assumed.notes))
}

/// Slots that were in use at the beginning of the joined stream: none where it is whole, else those that no mapping in it holds.
/// Whether somebody has reset the kernel's own mark since boot; if not, it is that of the joined stream.
fn take_over_pool(pool: &mut PoolFacts, at_sample: Option<&(PoolSample, Held)>, is_whole: bool) -> bool {
    let mark = at_sample.and_then(|(sample, held)| Some((sample.hiwater_slots?, held.most_slots)));
    let is_newer = mark.is_some_and(|(mark, most)| mark < most);
    pool.hiwater_reset = is_whole && mark.is_some() && !is_newer;
    if is_whole {
        pool.restricted.iter_mut().for_each(|one| one.used_at_start = 0);
        pool.used_at_start = 0;
    } else if let Some((sample, held)) = at_sample {
        pool.used_at_start = sample.used_slots.saturating_sub(held.slots);
    }
    is_newer
}

/// When something was mapped or unmapped from then on, on either side.
fn times(traced: &Side, recorded: &Side, from_ns: u64) -> BTreeSet<u64> {
    let both = traced.events.iter().chain(&recorded.events).filter(|(event, _)| is_traced(&event.what));
    both.map(|(event, _)| event.time_ns).filter(|time_ns| *time_ns >= from_ns).collect()
}

/// Totals by length of what the programs have not counted; and by how many they may be off.
fn only_traced(
    traced: &Side,
    recorded: &Side,
    at_ns: u64,
    reads: &Reads,
    streamed: Streamed,
    coherent: impl Fn(&str) -> bool,
) -> (Vec<LengthCount>, u64) {
    let mut dropped: Totals = BTreeMap::new();
    for one in recorded.events.iter().filter(|(event, _)| event.time_ns < at_ns) {
        for (key, bytes) in keys(&recorded.names, one) {
            let total = dropped.entry(key).or_default();
            *total = (total.0 + 1, total.1 + bytes);
        }
    }
    let mut uncertain = 0;
    let mut lengths = Vec::new();
    for (key, times) in timed_keys(traced) {
        let (name, direction, mapped, length) = &key;
        let is_any_list = *mapped == Mapped::List && streamed == Streamed::Small;
        let is_streamed = streamed.covers(coherent(name), *direction as u64, u64::from(*length)) && !is_any_list;
        let (before, counted) = if is_streamed || reads.totals.is_empty() {
            let before = times.partition_point(|(time_ns, _)| *time_ns < at_ns);
            (before, dropped.get(&key).copied().unwrap_or_default())
        } else {
            // Not among the recorded events: by what the programs had counted at a moment when nothing like it was mapped.
            let (before, counted, unsure) = reads.at_quiet(&key, &times);
            uncertain += unsure;
            (before, counted)
        };
        let bytes: u64 = times[..before].iter().map(|(_, bytes)| *bytes).sum();
        let count = (before as u64).saturating_sub(counted.0);
        if let (1.., Some(device)) = (count, traced.names.iter().position(|one| one == name)) {
            let (device, bytes) = (DeviceId(device as u32), bytes.saturating_sub(counted.1));
            let (direction, mapped, length) = (*direction, *mapped, *length);
            lengths.push(LengthCount { device, direction, mapped, length, count, bytes });
        }
    }
    (lengths, uncertain)
}

/// The items that a joined stream begins with.
fn beginning(
    start: Start,
    devices: Vec<Device>,
    traced: Vec<(Event, Vec<Segment>)>,
    lengths: Vec<LengthCount>,
    recorded: Vec<Item>,
    mut rest: Rest,
) -> (Vec<Item>, Rest) {
    let mut merged = traced;
    for (event, _) in &merged {
        count_in(&mut rest.added, event);
        let coherent = |id: usize| devices.get(id).is_some_and(|one| one.coherent);
        let predicted = rest.decider.is_some_and(|decider| is_predicted(&decider, event, coherent));
        rest.predicted += i64::from(predicted);
    }
    let mut begin = vec![Item::Start(start)];
    begin.extend(devices.into_iter().map(Item::Device));
    let mut others = Vec::new();
    for item in recorded {
        match rest.item(item) {
            Item::Device(device) => begin.push(Item::Device(device)),
            Item::Events(batch) => merged.extend(single(&batch)),
            other => others.push(other),
        }
    }
    merged.sort_by_key(|(event, _)| event.time_ns);
    begin.extend(merged.chunks(BATCH).map(|events| Item::Events(batch(events.iter().cloned()))));
    if !lengths.is_empty() {
        begin.push(Item::Lengths(lengths));
    }
    begin.extend(others);
    (begin, rest)
}

/// A time since boot, in seconds.
fn seconds(time_ns: u64) -> String {
    format!("{}.{:06}", time_ns / 1_000_000_000, time_ns / 1000 % 1_000_000)
}

impl Rest {
    /// An item of the recording as one of the joined stream.
    pub fn item(&mut self, mut item: Item) -> Item {
        match &mut item {
            Item::Device(device) => {
                if device.id.0 as usize >= self.coherent.len() {
                    self.coherent.resize(device.id.0 as usize + 1, false);
                }
                self.coherent[device.id.0 as usize] = device.coherent;
                device.id.0 += self.first_device;
            }
            Item::Events(batch) => self.events(batch),
            Item::Lengths(lengths) => lengths.iter_mut().for_each(|one| one.device.0 += self.first_device),
            Item::Pool(sample) if self.mark_is_newer => sample.hiwater_slots = None,
            Item::Counters(counters) => self.counters(counters),
            Item::End(end) => {
                for (kind, count) in &mut end.events {
                    let sum = |counts: &Counts| counts.get(kind.as_str()).map_or(0, |cpus| cpus.iter().sum::<u64>());
                    *count = (*count + sum(&self.added)).saturating_sub(sum(&self.dropped));
                }
            }
            _ => {}
        }
        item
    }

    fn events(&mut self, batch: &mut Batch) {
        if batch.events.iter().any(|event| is_traced(&event.what) && event.time_ns < self.at_ns) {
            let (dropped, kept): (Vec<_>, Vec<_>) =
                single(batch).into_iter().partition(|(event, _)| is_traced(&event.what) && event.time_ns < self.at_ns);
            for (event, _) in &dropped {
                count_in(&mut self.dropped, event);
                let coherent = |id: usize| self.coherent.get(id).copied().unwrap_or(false);
                self.predicted -=
                    i64::from(self.decider.is_some_and(|decider| is_predicted(&decider, event, coherent)));
            }
            *batch = self::batch(kept.into_iter());
        }
        for event in &mut batch.events {
            if let Some(device) = event.what.device_mut() {
                device.0 += self.first_device;
            }
        }
    }

    fn counters(&self, counters: &mut Counters) {
        for (kind, cpus) in &self.added {
            let seen = counters.seen.entry((*kind).to_owned()).or_default();
            seen.resize(seen.len().max(cpus.len()), 0);
            seen.iter_mut().zip(cpus).for_each(|(seen, added)| *seen += added);
        }
        for (kind, cpus) in &self.dropped {
            let Some(seen) = counters.seen.get_mut(*kind) else { continue };
            seen.iter_mut().zip(cpus).for_each(|(seen, dropped)| *seen = seen.saturating_sub(*dropped));
        }
        if self.lost > 0 {
            counters.lost.insert(Loss::TraceEvents, vec![self.lost]);
        }
        counters.predicted = counters.predicted.saturating_add_signed(self.predicted);
    }
}

/// The best moment from `from` on, before `to`, around which nothing is mapped: the first of those that cost least. Where there is none, the
/// quietest, and `false`.
fn quiet(times: &BTreeSet<u64>, from: u64, to: u64, cost: impl Fn(u64) -> u64) -> (u64, bool) {
    let (mut before, mut quietest, mut best) = (from, (0, from), None);
    for &time in times.iter().take_while(|time| **time < to).chain([&to.max(from)]) {
        let length = time - before;
        if length >= 2 * QUIET_NS {
            let moment = before + QUIET_NS;
            best = best.into_iter().chain([(cost(moment), moment)]).min();
        }
        if length > quietest.0 {
            quietest = (length, before + length / 2);
        }
        before = time;
    }
    best.map_or((quietest.1, false), |(_, moment)| (moment, true))
}

/// How many lists are mapped, from each of these times on.
fn mapped_lists(events: &[(Event, Vec<Segment>)]) -> BTreeMap<u64, u64> {
    let (mut mapped, mut counts) = (BTreeSet::new(), BTreeMap::new());
    for (event, _) in events {
        let _ = match event.what {
            What::MapSg { device, list, ents: 1.., .. } => mapped.insert((device, list)),
            What::UnmapSg { device, list, .. } => mapped.remove(&(device, list)),
            _ => continue,
        };
        counts.insert(event.time_ns, mapped.len() as u64);
    }
    counts
}

/// How many mappings and unmappings of single buffers both have within that time, and how many one of them lacks. The recording may
/// lack some unless it has `all`.
fn side_by_side(sides: [&Side; 2], time_ns: &Range<u64>, all: bool) -> (u64, u64) {
    // By CPU, whether it maps, device, DMA address, length and direction.
    type Same<'a> = (u16, bool, &'a str, u64, u64, u8);
    let mut counts: BTreeMap<Same<'_>, [u64; 2]> = BTreeMap::new();
    for (side, Side { events, names }) in sides.into_iter().enumerate() {
        for (event, _) in events.iter().filter(|(event, _)| time_ns.contains(&event.time_ns)) {
            let (maps, device, dma_addr, size, direction) = match event.what {
                What::Map { device, dma_addr, size, direction, .. } => (true, device, dma_addr, size, direction),
                What::Unmap { device, dma_addr, size, direction, .. } => (false, device, dma_addr, size, direction),
                _ => continue,
            };
            let name = names.get(device.0 as usize).map_or("", String::as_str);
            counts.entry((event.cpu, maps, name, dma_addr, size, direction as u8)).or_default()[side] += 1;
        }
    }
    counts.values().fold((0, 0), |(both, one), [traced, recorded]| {
        let missing = if all { traced.abs_diff(*recorded) } else { recorded.saturating_sub(*traced) };
        (both + traced.min(recorded), one + missing)
    })
}

/// What a trace shows to be mapped at a moment.
#[derive(Debug, Default)]
struct Held {
    /// Slots that its bounced buffers hold, and the most they ever did until then.
    slots: u64,
    most_slots: u64,
    /// Lists of which something may hold slots.
    lists: u64,
    /// Single bounced buffers that are mapped: place among the events, the buffer's physical address, its slot, and its attempt's time.
    singles: HashMap<usize, (u64, u64, u64)>,
}

impl Held {
    fn until(events: &[(Event, Vec<Segment>)], at_ns: u64, devices: &[Device], start: &Start) -> Self {
        let mut held = Self::default();
        // Attempts to bounce that wait for their mapping, by thread; the idle threads of all CPUs have one number.
        let mut attempts: HashMap<(u32, u16), Vec<Attempt>> = HashMap::new();
        let mut mapped: HashMap<(DeviceId, u64, bool), (usize, u64)> = HashMap::new();
        let slots = |cpu: u16, phys: u64, size: u64, device: DeviceId| {
            let device = devices.get(device.0 as usize);
            let align_mask = device.and_then(|one| one.iommu_granule).map_or(0, |granule| granule.saturating_sub(1));
            let min_align_mask = device.map_or(0, |one| u64::from(one.min_align_mask));
            let request = Request { cpu: cpu.into(), phys, size, align_mask, min_align_mask, is_memory: false };
            request.slots(start.kernel.pool.slot_rule, start.kernel.page_size.into()).map_or(1, u64::from)
        };
        for (n, (event, segments)) in events.iter().take_while(|(event, _)| event.time_ns < at_ns).enumerate() {
            let thread = (event.task, if event.task == 0 { event.cpu } else { 0 });
            let mut claim = |device: DeviceId, size: u64, offset: u64| {
                let waiting = attempts.get_mut(&thread)?;
                let fits =
                    |one: &Attempt| one.device == device && one.size == size && one.dev_addr % PAGE == offset % PAGE;
                let at = waiting.iter().rposition(fits)?;
                Some(waiting.swap_remove(at))
            };
            match event.what {
                What::Bounced { device, dev_addr, size } => {
                    let waiting = attempts.entry(thread).or_default();
                    // Of what was never mapped nothing needs to be remembered for long.
                    if waiting.len() == 256 {
                        waiting.clear();
                    }
                    waiting.push(Attempt { device, dev_addr, size, time_ns: event.time_ns });
                }
                What::Map { device, phys, dma_addr, size, .. } => {
                    let attempt = claim(device, size, phys).filter(|_| dma_addr != MAPPING_ERROR);
                    if let Some(attempt) = attempt {
                        let taken = slots(event.cpu, phys, size, device);
                        held.slots += taken;
                        mapped.insert((device, dma_addr, false), (n, taken));
                        // Behind an IOMMU the DMA address says nothing of the slot.
                        if devices.get(device.0 as usize).is_some_and(|one| one.iommu_granule.is_none()) {
                            let slot = dma_addr.wrapping_sub(attempt.dev_addr.wrapping_sub(phys));
                            held.singles.insert(n, (phys, slot, attempt.time_ns));
                        }
                    }
                }
                What::MapSg { device, list, ents, .. } => {
                    let claimed = segments.iter().rev().filter_map(|segment| {
                        let offset = u64::from(segment.offset);
                        claim(device, segment.length.into(), offset)
                            .map(|_| slots(event.cpu, offset, segment.length.into(), device))
                    });
                    let taken: u64 = claimed.sum();
                    if ents > 0 {
                        held.slots += taken;
                        mapped.insert((device, list, true), (n, taken));
                    }
                }
                What::Unmap { device, dma_addr, .. } => held.unmap(mapped.remove(&(device, dma_addr, false))),
                What::UnmapSg { device, list, .. } => held.unmap(mapped.remove(&(device, list, true))),
                _ => {}
            }
            held.most_slots = held.most_slots.max(held.slots);
        }
        held.lists = mapped.keys().filter(|(.., is_list)| *is_list).count() as u64;
        held
    }

    fn unmap(&mut self, mapped: Option<(usize, u64)>) {
        if let Some((n, slots)) = mapped {
            self.slots = self.slots.saturating_sub(slots);
            self.singles.remove(&n);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    device: DeviceId,
    dev_addr: u64,
    size: u64,
    time_ns: u64,
}

/// The trace's events, with the slots of those bounced buffers that are still mapped at the end: the recorder sees them given back.
fn with_slots(events: Vec<(Event, Vec<Segment>)>, held: &Held) -> Vec<(Event, Vec<Segment>)> {
    let mut all = Vec::with_capacity(events.len() + held.singles.len());
    for (n, (event, segments)) in events.into_iter().enumerate() {
        if let (Some(&(phys, slot, since_ns)), What::Map { device, size, direction, .. }) =
            (held.singles.get(&n), event.what)
        {
            let duration_ns = event.time_ns.saturating_sub(since_ns);
            let what = What::SlotMap { device, phys, slot, size, align_mask: 0, direction, duration_ns };
            all.push((Event { what, ..event }, Vec::new()));
        }
        all.push((event, segments));
    }
    all
}

/// What the programs had counted by length, at some moments.
#[derive(Debug, Default)]
struct Reads {
    /// When each was read, and totals then.
    totals: Vec<(Range<u64>, Totals)>,
}

impl Reads {
    fn of(counted: &[(Range<u64>, Vec<LengthCount>)], described: &[Device]) -> Self {
        let name = |id: DeviceId| described.get(id.0 as usize).map(|device| device.name.clone());
        let mut latest: BTreeMap<(DeviceId, Direction, Mapped, u32), (u64, u64)> = BTreeMap::new();
        let totals = counted.iter().map(|(time_ns, lengths)| {
            for one in lengths {
                latest.insert((one.device, one.direction, one.mapped, one.length), (one.count, one.bytes));
            }
            let mut totals: Totals = BTreeMap::new();
            for ((device, direction, mapped, length), (count, bytes)) in &latest {
                let Some(name) = name(*device) else { continue };
                let total = totals.entry((name, *direction, *mapped, *length)).or_default();
                *total = (total.0 + count, total.1.wrapping_add(*bytes));
            }
            (time_ns.clone(), totals)
        });
        Self { totals: totals.collect() }
    }

    /// How many of these times (sorted, with bytes) come before a moment at which the programs' total was read, that total, and by how
    /// many the difference may be off.
    fn at_quiet(&self, key: &Key, times: &[(u64, u64)]) -> (usize, (u64, u64), u64) {
        let before = |time_ns: u64| times.partition_point(|(time, _)| *time < time_ns);
        let one = |(time_ns, totals): &(Range<u64>, Totals)| {
            let from = before(time_ns.start.saturating_sub(QUIET_NS));
            let unsure = before(time_ns.end.saturating_add(QUIET_NS)) - from;
            (from, totals.get(key).copied().unwrap_or_default(), unsure as u64)
        };
        self.totals.iter().map(one).min_by_key(|(.., unsure)| *unsure).unwrap_or((
            times.len(),
            (0, 0),
            times.len() as u64,
        ))
    }
}

/// When a buffer of each key was mapped, and its bytes.
fn timed_keys(side: &Side) -> BTreeMap<Key, Vec<(u64, u64)>> {
    let mut timed: BTreeMap<Key, Vec<(u64, u64)>> = BTreeMap::new();
    for one in &side.events {
        for (key, bytes) in keys(&side.names, one) {
            timed.entry(key).or_default().push((one.0.time_ns, bytes));
        }
    }
    timed
}

/// By what the programs count a mapping, each with its bytes.
fn keys(names: &[String], (event, segments): &(Event, Vec<Segment>)) -> Vec<(Key, u64)> {
    let name = |device: DeviceId| names.get(device.0 as usize).cloned().unwrap_or_default();
    match event.what {
        What::Map { device, size, direction, .. } => {
            vec![((name(device), direction, Mapped::Single, size.min(SMALL_BELOW) as u32), size)]
        }
        What::MapSg { device, direction, .. } => {
            let of_segment = |segment: &Segment| {
                let length = segment.length.min(SMALL_BELOW as u32);
                ((name(device), direction, Mapped::Segment, length), u64::from(segment.length))
            };
            [((name(device), direction, Mapped::List, 0), 0)]
                .into_iter()
                .chain(segments.iter().map(of_segment))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn count_in(counts: &mut Counts, event: &Event) {
    let cpus = counts.entry(event.what.kind().name()).or_default();
    let cpu = usize::from(event.cpu);
    cpus.resize(cpus.len().max(cpu + 1), 0);
    cpus[cpu] += 1;
}

/// Whether the programs count it as predicted: a single mapping that bounces for its length.
fn is_predicted(decider: &Decider, event: &Event, coherent: impl Fn(usize) -> bool) -> bool {
    let What::Map { device, size, direction, .. } = event.what else { return false };
    decider.needs_bounce(coherent(device.0 as usize), direction as u8, size)
}

/// What comes from the trace before the moment of joining.
fn is_traced(what: &What) -> bool {
    !matches!(what, What::Kmalloc { .. } | What::Kfree { .. })
}

fn device_of(item: &Item) -> Option<&Device> {
    if let Item::Device(device) = item { Some(device) } else { None }
}

fn events_of(item: &Item) -> Vec<(Event, Vec<Segment>)> {
    if let Item::Events(batch) = item { single(batch) } else { Vec::new() }
}

/// The events of a batch, each with its segments.
fn single(batch: &Batch) -> Vec<(Event, Vec<Segment>)> {
    batch.events.iter().map(|event| (*event, batch.segments(event).to_vec())).collect()
}

fn batch(events: impl Iterator<Item = (Event, Vec<Segment>)>) -> Batch {
    let mut batch = Batch::default();
    for (mut event, segments) in events {
        if let What::MapSg { first_segment, .. } = &mut event.what {
            *first_segment = batch.segments.len() as u32;
        }
        batch.events.push(event);
        batch.segments.extend(segments);
    }
    batch
}

#[cfg(test)]
mod tests;
