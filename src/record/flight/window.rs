//! The last minutes of a stream as a capture of their own: what a recording would hold that began and ended then.
//!
//! Programs stay attached while a window is cut out of what they send, so nothing is of one moment by itself. The programs' own counters tell
//! for each kind of record and each CPU how many had been sent when they were read, and records of one kind come from one CPU in order: so many
//! of them lie before the cut. A recording attaches the hooks on the pool first and detaches them last, so that no mapping is seen without its
//! slots. Here a window takes the records of slots from one reading of the counters on, those of attempts to bounce from the next, all others
//! from the one after that; and it ends in the reverse order. Slots that were taken earlier are "in use at the start".

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Write,
    ops::Range,
};

use anyhow::{Context as _, Result, ensure};
use tracer::{
    capture::Writer,
    event::{Batch, DeviceId, Event, Kind, Memory, What},
    facts::{Counters, End, PoolFacts, PoolSample, PoolTimes},
    names::Loss,
    pseudonym::{MARK, without_addresses},
    stream::{Item, WINDOW},
};

use super::ring::{Kept, Moment, Ordinals, Piece, Totals};

/// How long before the end of a window a mapping whose slots were taken may still have had no event.
const IN_PROGRESS_NS: u64 = 10_000_000;
/// Readings of the counters at which a window begins, and as many at which it ends. One more comes behind them: what was sent before a reading is
/// taken from the rings after it.
const READINGS: usize = 3;

/// What a window is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// From when on, ns of `CLOCK_MONOTONIC`.
    pub(super) from_ns: u64,
    /// Why, one line each.
    pub(super) reasons: Vec<String>,
    /// Other things that are to be known of it, one line each.
    pub(super) notes: Vec<String>,
    /// What is kept may take so many bytes.
    pub(super) memory: u64,
    /// What recording has cost, in the shape of an end.
    pub(super) cost: End,
    /// The time now, seconds since 1970.
    pub(super) wall_clock_s: u64,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// From when on it holds everything, ns of `CLOCK_MONOTONIC`.
    pub(super) start_ns: u64,
    /// Until when.
    pub(super) end_ns: u64,
    /// Events.
    pub(super) events: u64,
}

/// Where records of a kind begin or end.
struct Cut<'a> {
    moments: [&'a Moment; READINGS],
    /// Records that had been sent by then, by kind and CPU.
    sent: [Vec<u64>; Kind::ALL.len()],
}

/// What was in use of each pool at this moment is what a window begins with.
fn begins_with(pool: &mut PoolFacts, sample: Option<&PoolSample>) {
    pool.used_at_start = sample.map_or(0, |sample| sample.used_slots);
    for (own, sample) in pool.restricted.iter_mut().zip(sample.iter().flat_map(|sample| &sample.restricted)) {
        own.used_at_start = sample.used_slots;
        pool.used_at_start = pool.used_at_start.saturating_sub(sample.used_slots);
    }
}

/// Which reading of the counters a kind begins with; the end is in the reverse order.
const fn place(kind: Kind) -> usize {
    match kind {
        Kind::SlotMap | Kind::SlotUnmap | Kind::CoherentAlloc | Kind::CoherentFree => 0,
        Kind::Bounced => 1,
        _ => 2,
    }
}

impl<'a> Cut<'a> {
    fn new(moments: [&'a Moment; READINGS], place: impl Fn(Kind) -> usize) -> Self {
        let sent = Kind::ALL.map(|kind| {
            let counters = &moments[place(kind)].counters;
            let refused = counters.lost.get(&Loss::RingFull(kind));
            let refused = refused.into_iter().flatten().copied().chain(std::iter::repeat(0));
            let seen = counters.seen.get(kind.name()).into_iter().flatten();
            seen.zip(refused).map(|(seen, refused)| seen.saturating_sub(refused)).collect()
        });
        Self { moments, sent }
    }

    /// Whether it lies behind a record: so many of its kind came from its CPU before.
    fn reaches(&self, event: &Event, ordinal: u64) -> bool {
        let sent = self.sent[event.what.kind() as usize].get(usize::from(event.cpu));
        ordinal < sent.copied().unwrap_or(0)
    }
}

/// A window of what is kept.
pub(super) struct Window {
    kept: Kept,
    /// The readings of the counters with which it begins; `None` where it begins with the recording itself.
    begin: Option<Range<usize>>,
}

impl Window {
    /// Of what is kept, from this moment on or from one before it; where so much is not kept, from as early as possible on.
    pub(super) fn new(kept: Kept, from_ns: u64) -> Self {
        let moments = moments(&kept);
        // Behind the readings at which it begins there are those at which it ends.
        let ends = if kept.end.is_some() { 1 } else { READINGS + 1 };
        // The losses of a window count from one reading earlier on.
        let first = if kept.before.is_some() { READINGS } else { READINGS - 1 };
        let possible: Vec<usize> =
            (first..moments.len().saturating_sub(ends)).filter(|last| moments[*last].has_sums).collect();
        let is_early = |last: &&usize| moments[**last].counters.time_ns <= from_ns;
        let is_quiet = |last: &&usize| moments[**last + 1 - READINGS].is_quiet();
        let early = || possible.iter().rev().filter(is_early);
        let chosen = early().find(is_quiet).or_else(|| early().next());
        let earliest = || possible.iter().take(4).find(is_quiet).or(possible.first());
        let chosen = chosen.or_else(|| kept.before.as_ref().and_then(|_| earliest())).copied();
        let begin = chosen.map(|last| last + 1 - READINGS..last + 1);
        Self { kept, begin }
    }

    /// Writes it.
    pub(super) fn write<W: Write>(mut self, request: &Request, out: &mut Writer<W>) -> Result<Written> {
        let begin = self.begin.clone();
        let pieces = std::mem::take(&mut self.kept.pieces);
        let before = self.kept.before.clone();
        let moments: Vec<&Moment> =
            before.as_deref().into_iter().chain(pieces.iter().map(|one| &*one.moment)).collect();
        let shift = usize::from(before.is_some());
        let is_over = self.kept.end.is_some();
        ensure!(before.is_none() || begin.is_some(), "nothing is kept that a window could begin with yet");
        ensure!(is_over || moments.len() > READINGS, "the recording has only just begun");
        let back = |by: usize| moments.len().checked_sub(by).map(|at| moments[at]).context("nothing was counted");
        // Behind the last reading but one is everything that was sent before it.
        let end_moments = if is_over { [back(1)?; READINGS] } else { [back(4)?, back(3)?, back(2)?] };
        let end = Cut::new(end_moments, |kind| READINGS - 1 - place(kind));
        let nothing = Moment::default();
        let first = begin.clone().map_or([&nothing; READINGS], |begin| [0, 1, 2].map(|at| moments[begin.start + at]));
        let start_cut = Cut::new(first, place);

        let mut cutter = Cutter {
            begin: begin.is_some().then_some(&start_cut),
            end: (!is_over).then_some(&end),
            early: <[Vec<u64>; Kind::ALL.len()]>::default(),
            late: <[Vec<u64>; Kind::ALL.len()]>::default(),
            devices: HashMap::new(),
            call_sites: BTreeSet::new(),
        };
        // The piece that ends with the reading n is the one before which n readings, less the one of earlier pieces, were.
        let of_piece = |n: usize| n + shift;
        let totals_at = begin.as_ref().map_or(0, |begin| begin.end);
        let mut then = self.kept.totals.clone();
        let mut now;
        let mut slab_before = None;
        let sums =
            |pieces: &mut dyn Iterator<Item = &std::sync::Arc<Piece>>, totals: &mut Totals, slab: &mut Option<Item>| {
                for piece in pieces {
                    piece.others(|item| {
                        totals.take(&item);
                        if let Item::Slab(_) = item {
                            *slab = Some(item);
                        }
                        Ok(())
                    })?;
                }
                anyhow::Ok(())
            };
        let begins_in = totals_at.saturating_sub(shift);
        sums(&mut pieces.iter().take(begins_in), &mut then, &mut slab_before)?;
        now = then.clone();
        let mut slab_within = None;
        sums(&mut pieces.iter().skip(begins_in), &mut now, &mut slab_within)?;

        let (lengths, sites) = (now.lengths_since(&then), now.sites_since(&then));
        let events_from = begin.as_ref().map_or(0, |begin| (begin.start + 1).saturating_sub(shift));
        let mut named: BTreeSet<u32> = lengths.iter().map(|one| one.device.0).collect();
        named.extend(pieces.iter().skip(events_from).flat_map(|piece| &piece.devices));

        let keeps_mark = (begin.is_none() || first[0].is_quiet()) && (is_over || end_moments[READINGS - 1].is_quiet());
        let start_ns = self.start(&first, begin.is_some(), request, end_moments[0], keeps_mark, out)?;
        for (id, number) in named.iter().zip(0..) {
            cutter.devices.insert(*id, DeviceId(number));
            if let Some(device) = self.kept.devices.get(id) {
                out.write(&Item::Device(tracer::facts::Device { id: DeviceId(number), ..device.clone() }))?;
            }
        }
        let pool = |moment: &Moment, out: &mut Writer<W>| -> Result<()> {
            let Some(sample) = &moment.pool else { return Ok(()) };
            let mut sample = sample.clone();
            if !keeps_mark {
                sample.hiwater_slots = None;
                sample.restricted.iter_mut().for_each(|pool| pool.hiwater_slots = None);
            }
            Ok(out.write(&Item::Pool(sample))?)
        };
        if begin.is_some() {
            first.iter().try_for_each(|moment| pool(moment, out))?;
        }
        if let Some(slab) = slab_before.filter(|_| slab_within.is_none()) {
            out.write(&slab)?;
        }
        for (n, piece) in pieces.iter().enumerate().skip(events_from) {
            let mut ordinals = piece.first.clone();
            piece.events(|batch| {
                let batch = cutter.cut(batch, &mut ordinals);
                Ok(out.write(&Item::Events(batch))?)
            })?;
            if of_piece(n) >= totals_at {
                piece.others(|item| {
                    if matches!(item, Item::Slab(_)) {
                        out.write(&item)?;
                    }
                    Ok(())
                })?;
                // The last piece only brings what was sent before the reading that the window ends with.
                if is_over || n + 1 < pieces.len() {
                    pool(&piece.moment, out)?;
                }
            }
        }

        let earlier = begin.as_ref().and_then(|begin| begin.start.checked_sub(1)).map_or(&nothing, |at| moments[at]);
        let counters = cutter.counters(earlier, &start_cut, &end);
        cutter.call_sites.extend(sites.iter().map(|site| site.call_site));
        // The names of slab caches, which events name by their numbers.
        cutter.call_sites.extend(self.kept.symbols.keys().filter(|address| Memory::is_cache(**address)));
        let symbols: Vec<_> =
            cutter.call_sites.iter().filter_map(|site| self.kept.symbols.get(site)).cloned().collect();
        let renumbered = |mut one: tracer::facts::LengthCount| {
            one.device = cutter.devices.get(&one.device.0).copied().unwrap_or(one.device);
            one
        };
        let end_ns = counters.time_ns;
        out.write(&Item::Symbols(symbols))?;
        out.write(&Item::Lengths(lengths.into_iter().map(renumbered).collect()))?;
        out.write(&Item::Sites(sites))?;
        let times = now.times_since(&then);
        if !times.is_empty() {
            out.write(&Item::PoolTimes(PoolTimes { time_ns: end_ns, times, ..PoolTimes::default() }))?;
        }
        out.write(&Item::Counters(counters))?;
        let events: BTreeMap<String, u64> =
            out.events_written().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect();
        let count = events.values().sum();
        let cost = self.kept.end.take().unwrap_or_else(|| End {
            time_ns: end_ns,
            detach_began_ns: end_ns.saturating_sub(IN_PROGRESS_NS),
            ..request.cost.clone()
        });
        let recorder_cpu_ns = cost.recorder_cpu_ns.saturating_sub(first[READINGS - 1].cpu_ns);
        let written = Written { start_ns, end_ns: cost.time_ns, events: count };
        out.write(&Item::End(End { events, recorder_cpu_ns, ..cost }))?;
        Ok(written)
    }

    /// Writes the beginning; when that is.
    fn start<W: Write>(
        &self,
        first: &[&Moment; READINGS],
        is_window: bool,
        request: &Request,
        end: &Moment,
        keeps_mark: bool,
        out: &mut Writer<W>,
    ) -> Result<u64> {
        let mut start = self.kept.start.clone();
        let recorder_start_ns = start.time_ns;
        if is_window {
            start.time_ns = first[READINGS - 1].counters.time_ns;
            start.kernel.pool.hiwater_reset = false;
            begins_with(&mut start.kernel.pool, first[0].pool.as_ref());
            let ago_s = end.counters.time_ns.saturating_sub(start.time_ns) / 1_000_000_000;
            start.wall_clock_s = request.wall_clock_s.saturating_sub(ago_s);
            if start.time_ns > request.from_ns {
                let less_s = (start.time_ns - request.from_ns) as f64 / 1e9;
                start.notes.push(format!(
                    "it begins {less_s:.1} s later than was asked for: {} of memory hold no more (--memory)",
                    tracer::report::bytes(request.memory)
                ));
            }
            let began_s = start.time_ns.saturating_sub(recorder_start_ns) / 1_000_000_000;
            start
                .notes
                .push(format!("these are the last minutes of a recording that began {began_s} s before them (--last)"));
        }
        if !keeps_mark {
            start.notes.push(
                "the kernel's high-water mark is left out: slots were taken or given back at the very moment at which the file begins or ends"
                    .to_owned(),
            );
        }
        let mut notes: Vec<String> =
            request.reasons.iter().map(|reason| format!("written because of {reason}")).collect();
        notes.extend(request.notes.iter().cloned());
        if start.other.contains_key(MARK) {
            // The start was given pseudonyms before these came.
            notes = notes.iter().map(|note| without_addresses(note)).collect();
        }
        start.notes.extend(notes);
        let time_ns = start.time_ns;
        start.other.insert(WINDOW.to_owned(), serde_json::json!({ "whole": !is_window }));
        out.write(&Item::Start(start))?;
        Ok(time_ns)
    }
}

fn moments(kept: &Kept) -> Vec<&Moment> {
    kept.before.as_deref().into_iter().chain(kept.pieces.iter().map(|piece| &*piece.moment)).collect()
}

/// Takes the records of a window out of the pieces.
struct Cutter<'a> {
    begin: Option<&'a Cut<'a>>,
    end: Option<&'a Cut<'a>>,
    /// Records of slots that were sent before the counters were read, but after the pool was sampled.
    early: [Vec<u64>; Kind::ALL.len()],
    /// The same at the end.
    late: [Vec<u64>; Kind::ALL.len()],
    /// Numbers of devices, by those in the recording.
    devices: HashMap<u32, DeviceId>,
    call_sites: BTreeSet<u64>,
}

fn count(counts: &mut Vec<u64>, cpu: u16) {
    let cpu = usize::from(cpu);
    counts.resize(counts.len().max(cpu + 1), 0);
    counts[cpu] += 1;
}

impl Cutter<'_> {
    fn cut(&mut self, mut batch: Batch, ordinals: &mut Ordinals) -> Batch {
        batch.events.retain_mut(|event| {
            let ordinal = ordinals.next(event);
            if !self.takes(event, ordinal) {
                return false;
            }
            if let Some(device) = event.what.device_mut() {
                *device = self.devices.get(&device.0).copied().unwrap_or(*device);
            }
            if let What::Kmalloc { call_site, .. } | What::MapSg { caller: call_site, .. } = event.what {
                self.call_sites.insert(call_site);
            }
            true
        });
        batch
    }

    fn takes(&mut self, event: &Event, ordinal: u64) -> bool {
        // Slots in use are counted a little before the counters are read: what comes in between is of the time behind.
        let kind = event.what.kind();
        let is_since = |sample: &Moment| {
            let is_of_slots = place(kind) == 0;
            is_of_slots && sample.pool.as_ref().is_some_and(|pool| event.time_ns >= pool.time_ns)
        };
        if let Some(end) = self.end {
            if !end.reaches(event, ordinal) {
                return false;
            }
            if is_since(end.moments[READINGS - 1]) {
                count(&mut self.late[kind as usize], event.cpu);
                return false;
            }
        }
        let Some(begin) = self.begin.filter(|begin| begin.reaches(event, ordinal)) else { return true };
        let is_early = is_since(begin.moments[0]);
        if is_early {
            count(&mut self.early[kind as usize], event.cpu);
        }
        is_early
    }

    /// What the programs counted in the window.
    fn counters(&self, earlier: &Moment, begin: &Cut<'_>, end: &Cut<'_>) -> Counters {
        let is_window = self.begin.is_some();
        let since = |now: &[u64], before: Option<&Vec<u64>>| -> Vec<u64> {
            let before = before.filter(|_| is_window).into_iter().flatten().copied().chain(std::iter::repeat(0));
            now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).collect()
        };
        let at_end = |kind: Kind| &end.moments[READINGS - 1 - place(kind)].counters;
        let mut seen = BTreeMap::new();
        for kind in Kind::ALL {
            let Some(now) = at_end(kind).seen.get(kind.name()) else { continue };
            let mut counts = since(now, begin.moments[place(kind)].counters.seen.get(kind.name()));
            for (cpu, count) in counts.iter_mut().enumerate() {
                let of = |counts: &[Vec<u64>]| counts[kind as usize].get(cpu).copied().unwrap_or(0);
                *count = (*count + of(&self.early)).saturating_sub(of(&self.late));
            }
            seen.insert(kind.name().to_owned(), counts);
        }
        // What was missed is counted by each program, and a program may have missed something while the others were asked: it counts from the reading
        // before the first to the last.
        let [first, last] = [&earlier.counters, &end.moments[READINGS - 1].counters];
        let mut lost = BTreeMap::new();
        for loss in last.lost.keys() {
            let (before, now) = match loss {
                Loss::RingFull(kind) => (&begin.moments[place(*kind)].counters, at_end(*kind)),
                _ => (first, last),
            };
            let counts = since(now.lost.get(loss).map_or(&[][..], Vec::as_slice), before.lost.get(loss));
            if counts.iter().any(|count| *count > 0) {
                lost.insert(loss.clone(), counts);
            }
        }
        let (before, now) = (&begin.moments[READINGS - 1].counters, &end.moments[0].counters);
        Counters {
            time_ns: now.time_ns,
            seen,
            lost,
            predicted: now.predicted.saturating_sub(before.predicted),
            linked: now.linked.saturating_sub(before.linked),
            linked_bytes: now.linked_bytes.saturating_sub(before.linked_bytes),
            tracefs_bounced: None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tracer::{
        capture::Reader,
        replay::{Replayed, Wanted, replay, settings::Settings},
        stream::Source as _,
    };

    use super::super::ring::Ring;
    use super::*;

    pub(in super::super) const HOLD: &[u8] = include_bytes!("../../../captures/6.12-full-hold-300.bounce");
    const MIXED: &[u8] = include_bytes!("../../../captures/default.bounce");
    const FORCE: &[u8] = include_bytes!("../../../captures/6.12-force-mixed.bounce");
    const SMMU: &[u8] = include_bytes!("../../../captures/7.3-smmu-mixed.bounce");

    /// Plays a recording as it was made, and stops after each reading of the counters.
    pub(in super::super) fn play(capture: &[u8], keep: Duration, memory: u64, mut at: impl FnMut(&Ring, u64)) -> Ring {
        let mut reader = Reader::new(capture).unwrap();
        let Some(Item::Start(start)) = reader.next_item().unwrap() else { panic!("no start") };
        let mut ring = Ring::new(start, keep, memory).unwrap();
        while let Some(item) = reader.next_item().unwrap() {
            let counted = if let Item::Counters(counters) = &item { Some(counters.time_ns) } else { None };
            ring.take(item).unwrap();
            if let Some(time_ns) = counted {
                ring.counted(true, 0).unwrap();
                at(&ring, time_ns);
            }
        }
        ring
    }

    fn replayed(window: &[u8]) -> Replayed {
        let wanted = |start: &tracer::stream::Start| Wanted {
            settings: vec![Settings::captured(&start.kernel)],
            verdict: true,
            ..Wanted::default()
        };
        replay(&mut Reader::new(window).unwrap(), wanted).unwrap()
    }

    fn written(ring: &Ring, from_ns: u64) -> Option<(Written, Vec<u8>)> {
        let mut out = Writer::new(Vec::new()).unwrap();
        let request = Request { from_ns, reasons: vec!["a test".into()], ..Request::default() };
        let written = Window::new(ring.kept(), from_ns).write(&request, &mut out).ok()?;
        Some((written, out.into_inner().unwrap()))
    }

    /// Cuts windows that begin so many seconds before the last reading of the counters, wherever one can end, and has each compared with the
    /// kernel.
    fn every_window(capture: &[u8], seconds: f64) -> Vec<(Written, Replayed)> {
        let mut all = Vec::new();
        let end = |ring: &Ring, now_ns: u64| {
            let from_ns = now_ns.saturating_sub((seconds * 1e9) as u64);
            if let Some((written, file)) = written(ring, from_ns) {
                all.push((written, replayed(&file)));
            }
        };
        play(capture, Duration::from_secs_f64(seconds), u64::MAX, end);
        all
    }

    #[test]
    fn every_window_of_a_sound_recording_is_a_sound_recording() {
        for (capture, seconds, least) in
            [(HOLD, 1.6, 1), (HOLD, 2.1, 1), (MIXED, 1.6, 30), (MIXED, 7.0, 20), (FORCE, 2.0, 20), (SMMU, 2.0, 20)]
        {
            let all = every_window(capture, seconds);
            let windows: Vec<_> = all.iter().filter(|(_, replayed)| replayed.start.is_window()).collect();
            assert!(windows.len() >= least, "{seconds}: {}", windows.len());
            for (written, replayed) in &all {
                let verdict = &replayed.verdict;
                assert!(verdict.agrees(), "{written:?}: {:#?} {:#?}", verdict.problems, verdict.differences);
                assert!(replayed.gaps.is_empty() && replayed.end.is_some());
                assert_eq!(verdict.events_seen, verdict.events_recorded + verdict.events_lost);
                assert_eq!(verdict.events_recorded, written.events);
            }
        }
    }

    #[test]
    fn a_window_holds_as_much_as_was_asked_for_and_hardly_more() {
        for (written, _) in every_window(MIXED, 4.0).into_iter().filter(|(_, one)| one.start.is_window()) {
            // The end is the reading of the counters three before the last, here half a second from each other.
            let seconds = (written.end_ns - written.start_ns) as f64 / 1e9;
            assert!((1.5..5.0).contains(&seconds), "{seconds}");
        }
    }

    #[test]
    fn slots_that_are_held_since_before_a_window_are_in_use_at_its_start() {
        let all = every_window(FORCE, 2.0);
        let held = all.iter().filter(|(_, one)| one.start.is_window() && one.start.kernel.pool.used_at_start > 0);
        assert!(held.clone().count() > 5);
        for (_, replayed) in held {
            assert!(replayed.verdict.peak_slots_predicted >= replayed.start.kernel.pool.used_at_start);
        }
        let refused = every_window(HOLD, 2.1).iter().map(|(_, replayed)| replayed.verdict.failed_kernel).max();
        assert_eq!(refused, Some(44), "all refusals of the burst are in one");
    }

    #[test]
    fn every_device_that_a_window_names_is_described_before_with_numbers_from_0_on() {
        let ring = play(FORCE, Duration::from_secs(2), u64::MAX, |_, _| ());
        let (_, file) = written(&ring, u64::MAX).unwrap();
        let mut reader = Reader::new(&file[..]).unwrap();
        let mut described = 0;
        let mut named = BTreeSet::new();
        while let Some(item) = reader.next_item().unwrap() {
            match item {
                Item::Device(device) => {
                    assert_eq!(device.id.0, described);
                    assert!(device.name.starts_with("0000:"), "{device:?}");
                    described += 1;
                }
                Item::Events(mut batch) => {
                    named.extend(batch.events.iter_mut().filter_map(|event| Some(event.what.device_mut()?.0)));
                }
                Item::Lengths(lengths) => named.extend(lengths.iter().map(|one| one.device.0)),
                _ => {}
            }
        }
        assert!(!named.is_empty() && named.iter().all(|id| *id < described), "{named:?} of {described}");
    }

    #[test]
    fn the_last_window_ends_as_the_recording_does() {
        let ring = play(MIXED, Duration::from_secs(3), u64::MAX, |_, _| ());
        let whole = replayed(MIXED);
        let (end_ns, whole_end) = (whole.end.as_ref().unwrap().time_ns, whole.end.unwrap());
        let (written, file) = written(&ring, end_ns - 3_000_000_000).unwrap();
        let replayed = replayed(&file);
        assert!(replayed.verdict.agrees() && replayed.start.is_window(), "{:?}", replayed.verdict.problems);
        let end = replayed.end.unwrap();
        assert_eq!((written.end_ns, end.time_ns, end.detach_began_ns), (end_ns, end_ns, whole_end.detach_began_ns));
        assert!(end.events.values().sum::<u64>() < whole_end.events.values().sum());
    }

    #[test]
    fn what_is_kept_stays_within_its_memory_and_a_file_that_reaches_back_less_far_says_so() {
        let memory = 400 << 10;
        let mut most = 0;
        let ring = play(MIXED, Duration::from_hours(1), memory, |ring, _| most = most.max(ring.bytes()));
        assert!(most <= memory && most > memory / 2, "{most}");
        let request = Request { from_ns: 1, memory, ..Request::default() };
        let mut out = Writer::new(Vec::new()).unwrap();
        Window::new(ring.kept(), 1).write(&request, &mut out).unwrap();
        let replayed = replayed(&out.into_inner().unwrap());
        let notes = replayed.start.notes.join("\n");
        assert!(notes.contains("later than was asked for: 400.0 KiB of memory hold no more (--memory)"), "{notes}");
        assert!(replayed.verdict.agrees(), "{:?}", replayed.verdict.problems);
    }

    #[test]
    fn what_a_file_will_reach_back_to_is_kept_until_it_is_written() {
        let mut reader = Reader::new(MIXED).unwrap();
        let Some(Item::Start(start)) = reader.next_item().unwrap() else { panic!("no start") };
        let from_ns = start.time_ns + 3_000_000_000;
        let mut rings = [(); 3].map(|()| Ring::new(start.clone(), Duration::from_secs(1), u64::MAX).unwrap());
        rings[1].hold(Some(from_ns));
        rings[2].hold(Some(from_ns));
        while let Some(item) = reader.next_item().unwrap() {
            for ring in &mut rings {
                ring.take(item.clone()).unwrap();
                if matches!(item, Item::Counters(_)) {
                    ring.counted(true, 0).unwrap();
                }
            }
            if rings[2].now_ns() > from_ns + 8_000_000_000 {
                rings[2].hold(None);
            }
        }
        let starts = [0, 1, 2].map(|n| written(&rings[n], from_ns).unwrap().0.start_ns);
        assert!(starts[0] > from_ns && starts[1] <= from_ns, "{starts:?} {from_ns}");
        assert_eq!(starts[2], starts[0], "and no longer");
    }

    #[test]
    fn a_recording_that_is_shorter_than_its_window_is_whole() {
        let ring = play(HOLD, Duration::from_hours(1), u64::MAX, |_, _| ());
        let (_, file) = written(&ring, 0).unwrap();
        let (whole, replayed) = (replayed(HOLD), replayed(&file));
        assert!(!replayed.start.is_window());
        let figures = |one: &Replayed| {
            let verdict = &one.verdict;
            (verdict.mappings, verdict.bounces_kernel, verdict.failed_kernel, verdict.counted, verdict.agrees())
        };
        assert_eq!(figures(&replayed), figures(&whole));
    }
}
