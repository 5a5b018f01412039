//! One pass over a stream: everything that is done once, whatever is to be simulated; and the steps that each simulated kernel
//! takes for itself.

use std::sync::Arc;

use super::bounds;
use super::breakdown::Breakdown;
use super::callers::Callers;
use super::compare::Comparison;
use super::devices::Devices;
use super::holders::SlotHolders;
use super::lengths::Lengths;
use super::list_marks::ListComparison;
use super::live_functions::LiveFunctions;
use super::lives::Lives;
use super::losses::Doubts;
use super::maintenance;
use super::memory;
use super::names::Names;
use super::outcome::Outcome;
use super::pairing::{Pairing, Witnesses};
use super::run::{Last, Run};
use super::settings::Settings;
use super::site::{SiteId, is_code};
use super::slabs;
use super::statistics::Statistics;
use super::step::Step;
use super::watch::Watcher;
use super::work;
use super::{ReplayError, Replayed, Uncounted, Wanted};
use bouncescope_capture::event::{Batch, What};
use bouncescope_capture::facts::{Counters, End, PoolTimes, SlabSample};
use bouncescope_capture::passed::{Needs, Passed};
use bouncescope_capture::stream::{Gaps, Item, Source, Start};

/// So many events stay in the CPU's cache while they are looked at twice.
const CACHED: usize = 256;

/// A pass in progress.
#[derive(Clone, Debug)]
pub struct Pass {
    start: Start,
    wanted: Wanted,
    devices: Arc<Devices>,
    pairing: Pairing,
    watcher: Watcher,
    /// The captured kernel as it was.
    own: Option<Run>,
    /// Settings that are asked about and are the captured kernel's own.
    captured: Option<Captured>,
    steps: Vec<Step>,
    /// Others take the steps too.
    has_runs: bool,
    lives: Lives,
    counters: Counters,
    witnesses: Witnesses,
    slabs: Option<(SlabSample, SlabSample)>,
    pool_times: Option<PoolTimes>,
    lengths: Lengths,
    callers: Callers,
    end: Option<End>,
    /// More is to come: the kernel's totals are of another moment than the records.
    goes_on: bool,
}

/// Settings that need no run of their own as long as what the captured kernel would have done is what it did.
#[derive(Clone, Debug)]
struct Captured {
    /// Their number among those that are asked about.
    number: usize,
    /// Their run from the first step on that the recorded kernel did not take.
    run: Option<Run>,
}

/// The beginning of a stream.
pub fn start<S: Source>(source: &mut S) -> Result<Start, ReplayError<S::Error>> {
    let mut before = 0;
    loop {
        match source.next_item().map_err(ReplayError::Source)? {
            Some(Item::Start(mut start)) => {
                bounds::start(&mut start);
                if before > 0 {
                    let note = format!("{before} events stand before the beginning of the capture, and are left out");
                    start.notes.insert(0, note);
                }
                return Ok(start);
            }
            // Only damage can put something in front.
            Some(Item::Events(batch)) => before += batch.events.len(),
            Some(_) => {}
            None => return Err(ReplayError::NoStart),
        }
    }
}

impl Pass {
    /// Over a stream that begins so.
    pub fn new(start: Start, wanted: Wanted) -> Self {
        let witnesses = Witnesses::new(&start.hooks);
        let comparison = wanted.verdict.then(|| Comparison::new(&start));
        let statistics = Statistics::new(&start, wanted.statistics);
        let mut watcher = Watcher::new(&start.kernel, statistics, comparison);
        watcher.finds_overlaps = wanted.overlaps;
        watcher.lists = wanted.verdict.then(|| ListComparison::new(&start, Settings::captured(&start.kernel)));
        let own = (wanted.verdict || wanted.holders).then(|| {
            let settings = Settings::captured(&start.kernel);
            let view = watcher.follow_for(&settings);
            let mut own = Run::new(settings, view, &start, witnesses);
            if wanted.holders {
                own.keep_holders(wanted.verdict);
                own.keep_level(start.time_ns);
            }
            own
        });
        Self {
            devices: Arc::default(),
            pairing: Pairing::new(&start),
            watcher,
            own,
            captured: None,
            steps: Vec::new(),
            has_runs: true,
            lives: Lives::default(),
            counters: Counters::default(),
            witnesses,
            slabs: None,
            pool_times: None,
            lengths: Lengths::new(wanted.verdict),
            callers: Callers::default(),
            end: None,
            goes_on: false,
            start,
            wanted,
        }
    }

    /// The simulated kernels, one for each of the settings wanted but for those for which the captured kernel's own stands. They may be driven
    /// by other threads than the pass, and are to be given back in this order.
    pub fn runs(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        let keeps_more = self.wanted.holders || self.wanted.occupancy;
        let is_captured = |settings: &Settings| settings.is_captured(&self.start.kernel);
        let number = self.wanted.settings.iter().position(is_captured).filter(|_| self.wanted.verdict && !keeps_more);
        self.captured = number.map(|number| Captured { number, run: None });
        for (_, settings) in self.wanted.settings.iter().enumerate().filter(|(n, _)| Some(*n) != number) {
            let view = self.watcher.follow_for(settings);
            let mut run = Run::new(settings.clone(), view, &self.start, self.witnesses);
            if self.wanted.occupancy {
                run.keep_occupancy(self.start.time_ns);
            }
            if self.wanted.holders || self.wanted.occupancy {
                run.keep_level(self.start.time_ns);
            }
            runs.push(run);
        }
        self.has_runs = !runs.is_empty();
        runs
    }

    /// Takes in the rest of a stream on this thread, which drives the simulated kernels too.
    pub fn alone<S: Source>(mut self, source: &mut S, mut runs: Vec<Run>) -> Result<Replayed, ReplayError<S::Error>> {
        self.drive(source, &mut |steps, devices| {
            for run in &mut runs {
                run.steps(&steps, devices);
            }
        })?;
        Ok(self.finish(runs, source.gaps()))
    }

    /// Takes in the rest of a stream, and gives the steps that the simulated kernels have to take for it.
    pub fn drive<S: Source>(
        &mut self,
        source: &mut S,
        take: &mut impl FnMut(Vec<Step>, &Arc<Devices>),
    ) -> Result<(), ReplayError<S::Error>> {
        source.leave_out(self.needs());
        while let Some(item) = source.next_item().map_err(ReplayError::Source)? {
            if let Some(used) = self.item(item, take) {
                source.take_back(used);
            }
        }
        self.end(take);
        Ok(())
    }

    /// Takes in an item, and gives the steps that the simulated kernels have to take for it, with the devices described by then. The
    /// batch that it was, which is no longer needed.
    pub(super) fn item(&mut self, mut item: Item, take: &mut impl FnMut(Vec<Step>, &Arc<Devices>)) -> Option<Batch> {
        bounds::item(&mut item);
        match item {
            Item::Start(_) => {}
            Item::Device(mut device) => {
                bounds::device(&mut device, &mut self.start.notes);
                Arc::make_mut(&mut self.devices).add(device);
            }
            Item::Events(mut batch) => {
                // Other threads may still read the devices as they were.
                let devices = Arc::make_mut(&mut self.devices);
                for first in (0..batch.events.len()).step_by(CACHED) {
                    let chunk = first..batch.events.len().min(first + CACHED);
                    for event in &mut batch.events[chunk.clone()] {
                        bounds::event(event);
                        self.callers.bound(event, devices);
                    }
                    let events = &batch.events[chunk];
                    self.watcher.statistics.events_of(events);
                    self.lengths.streamed(events, &batch);
                    for event in events {
                        if matches!(event.what, What::Kmalloc { .. } | What::Kfree { .. }) {
                            self.watcher.objects.event(event.time_ns, &event.what);
                        }
                        self.pairing.event(event, batch.segments(event), devices, &mut self.watcher);
                        while let Some(step) = self.pairing.next_step() {
                            let (own, captured) = (self.own.as_mut(), self.captured.as_mut());
                            let (watcher, lives, steps) = (&mut self.watcher, &mut self.lives, &mut self.steps);
                            take_step(step, watcher, own, captured, lives, self.has_runs, steps, devices);
                        }
                    }
                }
                self.give(take);
                return Some(batch);
            }
            Item::Passed(passed) => self.passed(&passed),
            Item::Pool(sample) => self.watcher.observed.pool(&sample),
            Item::Sites(sites) => self.watcher.statistics.sites(sites),
            Item::Lengths(lengths) => self.lengths.counted(lengths),
            Item::Symbols(symbols) => self.watcher.statistics.symbols(symbols),
            Item::Slab(sample) => {
                self.watcher.objects.counted(sample.time_ns);
                let first = self.slabs.take().map_or_else(|| sample.clone(), |(first, _)| first);
                self.slabs = Some((first, sample));
            }
            Item::PoolTimes(times) => self.pool_times = Some(times),
            Item::Counters(counters) => self.counters = counters,
            Item::End(end) => self.end = Some(end),
        }
        None
    }

    /// What has to be seen one by one of the events that come.
    pub(super) fn needs(&self) -> Needs {
        // Whatever is told of buffers one by one rests on all of them.
        if self.wanted.statistics || self.wanted.overlaps {
            return Needs::Everything;
        }
        let own = Settings::captured(&self.start.kernel);
        self.wanted.settings.iter().chain([&own]).map(Settings::needs).fold(Needs::WithLines(0), Settings::either_needs)
    }

    /// Takes in events that were left out.
    fn passed(&mut self, passed: &Passed) {
        let devices = Arc::make_mut(&mut self.devices);
        self.watcher.statistics.events_passed(&passed.kinds);
        self.lengths.passed(passed);
        self.pairing.passed(passed.mappings());
        let callers = &mut self.callers;
        self.watcher.passed(passed, |identity, caller, lists| callers.bounded(identity, caller, lists), devices);
    }

    /// No more items come: gives the last steps.
    pub(super) fn end(&mut self, take: &mut impl FnMut(Vec<Step>, &Arc<Devices>)) {
        self.pairing.finish();
        while let Some(step) = self.pairing.next_step() {
            let (own, captured) = (self.own.as_mut(), self.captured.as_mut());
            let (watcher, lives, steps) = (&mut self.watcher, &mut self.lives, &mut self.steps);
            take_step(step, watcher, own, captured, lives, self.has_runs, steps, &self.devices);
        }
        self.give(take);
    }

    fn give(&mut self, take: &mut impl FnMut(Vec<Step>, &Arc<Devices>)) {
        if !self.steps.is_empty() {
            let capacity = self.steps.len();
            take(std::mem::replace(&mut self.steps, Vec::with_capacity(capacity)), &self.devices);
        }
    }

    /// A line for everything of which there was more than is kept.
    fn left_out(&self) -> Vec<String> {
        let counts = [
            (self.devices.left_out, "descriptions of devices"),
            (self.pairing.left_out(), "mappings"),
            (self.watcher.objects.left_out, "allocations"),
            (self.watcher.statistics.left_out, "counts and names of call sites"),
            (self.lengths.left_out, "counts of mappings"),
        ];
        let more = |(count, what): (u64, &str)| {
            (count > 0).then(|| {
                format!("{count} {what} are left out of all figures: there are more at one time than a machine has")
            })
        };
        let merged = self.watcher.common.merged;
        let merged = (merged > 0).then(|| {
            format!("{merged} buffers are counted by device and direction alone: there are more sizes and call sites than are kept apart")
        });
        let lists = self.callers.merged;
        let lists = (lists > 0).then(|| {
            format!("{lists} scatterlists are counted by device alone: there are more functions that map lists than are kept apart")
        });
        counts.into_iter().filter_map(more).chain(merged).chain(lists).collect()
    }

    /// For how long the pools were nearly full until the last record that was taken in, ns, while more are to come.
    pub(super) fn nearly_full_ns(&self) -> Option<u64> {
        self.own.as_ref().filter(|_| self.end.is_none())?.nearly_full_ns()
    }

    /// What has come of it so far, while the recording goes on.
    pub(super) fn finish_so_far(mut self, runs: Vec<Run>) -> Replayed {
        self.goes_on = true;
        self.finish(runs, Gaps::default())
    }

    /// What came of it, with the simulated kernels as they are after the last step.
    pub fn finish(self, runs: Vec<Run>, gaps: Gaps) -> Replayed {
        let left_out = self.left_out();
        let Self {
            mut start,
            wanted,
            devices,
            mut watcher,
            own,
            captured,
            counters,
            slabs,
            pool_times,
            lengths,
            end,
            ..
        } = self;
        start.notes.extend(left_out);
        let (first_ns, last_ns) = watcher.statistics.span_ns.unwrap_or((start.time_ns, start.time_ns));
        let end_ns = end.as_ref().map_or(last_ns, |end| end.time_ns.max(last_ns));
        let has_events = watcher.statistics.span_ns.is_some();
        let span_ns = if has_events { end_ns.saturating_sub(start.time_ns.min(first_ns)) } else { 0 };
        watcher.observed.complete(&watcher.common);
        let cache_maintenance_ns = maintenance::measured_ns(&start.hooks, pool_times.as_ref());
        let names = Names { devices: &devices, objects: &watcher.objects, symbols: &watcher.statistics.symbols };
        let last = Last {
            names,
            pool_times: pool_times.as_ref(),
            cache_maintenance_ns,
            spared: &watcher.spared,
            start_ns: start.time_ns,
            end_ns,
            span_ns,
            not_simulated: watcher.not_simulated,
        };
        let live_objects = watcher.objects.live();
        let (cpus, sample) = (start.kernel.possible_cpus, start.allocation_sample);
        let live_sites = slabs.as_ref().and_then(|(_, last)| last.live_sites.as_ref());
        let functions = live_sites
            .map(|sites| LiveFunctions::new(sites, &watcher.statistics.symbols, watcher.statistics.allocated()));
        let outcome = |mut run: Run| {
            let view = run.view();
            // The curve goes on to the end.
            run.end_occupancy(start.time_ns.saturating_add(span_ns));
            let caches = memory::caches(&live_objects, run.settings(), cpus, sample);
            let slab_bytes = watcher.objects.were_seen().then(|| memory::slab_bytes(&caches, sample));
            let all_slabs = slabs.as_ref().and_then(|(_, last)| {
                slabs::under(last, &live_objects, run.settings(), cpus, sample, functions.as_ref())
            });
            let misses = !start.streamed.includes(run.settings().looks_at());
            let counted = if misses { lengths.bounces(&devices, run.settings()) } else { 0 };
            let unaligned = run.settings().wanted_multiple().and_then(|of| watcher.unaligned(of));
            if let Some(unaligned) = unaligned {
                run.add(unaligned);
            }
            let mut outcome = Outcome {
                all_slabs,
                slab_bytes,
                caches,
                looks_at_unstreamed: misses,
                ..run.finish(&watcher.common, &watcher.unfollowed[view], &last)
            };
            outcome.bounces_only_counted = counted.saturating_sub(outcome.total.bounces);
            outcome.total.bounces += outcome.bounces_only_counted;
            outcome
        };
        let captured = captured.and_then(|captured| Some((captured.number, captured.run.or_else(|| own.clone())?)));
        // Of a run that only knows who holds slots, no figure of the kernel's other than these is asked for.
        let mut own = own.map(|own| {
            let nothing = Breakdown::default();
            if wanted.verdict { outcome(own) } else { own.finish(&nothing, &nothing, &last) }
        });
        let mut outcomes: Vec<Outcome> = runs.into_iter().map(outcome).collect();
        if let Some((number, run)) = captured {
            let Settings { name, about, .. } = wanted.settings[number].clone();
            outcomes.insert(number, Outcome { name, about, ..outcome(run) });
        }
        let doubts = Doubts::new(&counters, &gaps, self.witnesses, !start.kernel.pool.restricted.is_empty());
        let held = own.as_mut().filter(|_| wanted.holders).map(|own| SlotHolders {
            at_peak: std::mem::take(&mut own.held_at_peak),
            at_end: std::mem::take(&mut own.held_at_end),
            times: std::mem::take(&mut own.held_times),
            trend: own.trend.unwrap_or_default(),
            at_most: doubts.pool,
        });
        let pool_calls =
            own.as_ref().map(|own| work::beside_measured(&own.pool_calls, &start.hooks, pool_times.as_ref()));
        let comparison = watcher.comparison.take().unwrap_or_else(|| Comparison::new(&start));
        let mut verdict = comparison.finish(
            &own.unwrap_or_default(),
            &watcher.observed,
            &counters,
            &watcher.statistics,
            &start,
            end.as_ref(),
            &gaps,
            self.goes_on,
            doubts,
        );
        verdict.pool_calls = pool_calls.unwrap_or_default();
        if let Some(lists) = watcher.lists.take() {
            verdict.lists = lists.finish(&devices, &watcher.statistics.symbols);
        }
        if wanted.verdict && gaps.is_empty() && !self.goes_on {
            let mut comparison = lengths.compare(&devices, start.streamed, &counters);
            if start.is_window() && comparison.counted.is_some() {
                comparison
                    .leave_out("they were not read at the moments at which this part of a recording begins and ends");
            }
            verdict.counted = comparison.counted;
            verdict.problems.extend(comparison.problems);
            verdict.not_compared.extend(comparison.not_compared);
        }
        let mapped_sites = watcher.common.sites().filter(|site| *site != SiteId::UNKNOWN);
        let lengths = lengths.finish(&devices, &start.kernel);
        Replayed {
            devices: devices.all_latest(),
            mapped_sites: mapped_sites
                .map(|site| watcher.objects.address(site))
                .filter(|address| is_code(*address))
                .collect(),
            origins: watcher.objects.origins(),
            overlaps_looked_for: wanted.overlaps,
            uncounted: Uncounted {
                not_located: watcher.lines.not_located,
                left_out: watcher.lines.left_out + watcher.lines.cut,
            },
            observed_rows: watcher.observed.rows(names),
            span_ns,
            live_objects,
            held,
            older_frees: watcher.objects.older_frees(),
            since_count: watcher.objects.since_count().clone(),
            origins_known: watcher.objects.can_tell(),
            start,
            outcomes,
            settings: wanted.settings,
            observed: watcher.observed,
            statistics: watcher.statistics,
            verdict,
            counters,
            slabs,
            lengths,
            pool_times,
            cache_maintenance_ns,
            end,
            gaps,
        }
    }
}

/// Lets everybody take a step, with the ends of refused mappings that come before it.
#[expect(clippy::too_many_arguments, reason = "the parts of a pass, of which others are in use")]
fn take_step(
    step: Step,
    watcher: &mut Watcher,
    own: Option<&mut Run>,
    captured: Option<&mut Captured>,
    lives: &mut Lives,
    has_runs: bool,
    steps: &mut Vec<Step>,
    devices: &Devices,
) {
    if has_runs || captured.is_some() {
        let from = steps.len();
        lives.before(&step, steps);
        if let Some(captured) = captured {
            if steps.len() > from && captured.run.is_none() {
                captured.run = own.as_deref().cloned();
            }
            if let Some(run) = &mut captured.run {
                run.steps(&steps[from..], devices);
                run.step(&step, devices);
            }
        }
    }
    look(&step, watcher, own, devices);
    if has_runs {
        steps.push(step);
    } else {
        steps.clear();
    }
}

/// What the recorded kernel did, and the captured settings' own run beside it.
fn look(step: &Step, watcher: &mut Watcher, own: Option<&mut Run>, devices: &Devices) {
    watcher.observed.step(step, devices);
    let Some(own) = own else { return };
    let predicted = own.step(step, devices);
    if let Some(comparison) = &mut watcher.comparison {
        comparison.step(step, predicted, devices);
    }
}
