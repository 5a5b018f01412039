//! Driving a stream through models.
//!
//! [`pairing`] turns events into [`step::Step`]s: mappings, with what the kernel did with each of their buffers
//! ([`mapping::Truth`]), and unmappings, in the order in which the kernel took and gave back slots. [`run`] drives those
//! through the simulated kernel under some [`settings::Settings`] into an [`outcome::Outcome`]; [`compare`] holds a run
//! against the truth; [`statistics`] counts what happened. [`replay`] does it all in one pass.
//!
//! Pure: no operating system, clock, thread or file. Memory grows with what is mapped at one time, and with unmappings whose
//! records were lost.

pub mod compare;
pub mod devices;
mod losses;
pub mod mapping;
pub mod outcome;
pub mod pairing;
pub mod run;
pub mod settings;
pub mod statistics;
pub mod step;

use crate::facts::{Counters, End};
use crate::stream::{Gaps, Item, Source, Start};

use compare::{Comparison, Verdict};
use devices::Devices;
use losses::Doubts;
use outcome::{Outcome, Rows};
use pairing::{Pairing, Witnesses};
use run::Run;
use settings::Settings;
use statistics::{Observed, Statistics};
use step::Step;

/// What one pass over a stream gives.
#[derive(Debug)]
pub struct Replayed {
    /// The beginning of the stream.
    pub start: Start,
    /// One for each of the settings asked for, in their order.
    pub outcomes: Vec<Outcome>,
    /// What the kernel did.
    pub observed: Observed,
    /// The same, by device, direction and size class.
    pub observed_rows: Rows,
    /// What happened, in detail.
    pub statistics: Statistics,
    /// The captured kernel's own settings, held against what it did.
    pub verdict: Verdict,
    /// The programs' counters at the end.
    pub counters: Counters,
    /// The end of the stream, where it has one.
    pub end: Option<End>,
    /// What is missing from the stream.
    pub gaps: Gaps,
}

/// Why a stream cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E: std::error::Error> {
    /// The source failed.
    #[error(transparent)]
    Source(E),
    /// There is no beginning, so nothing is known about the kernel.
    #[error("the capture has no beginning (its first frame is missing or damaged): nothing is known about its kernel")]
    NoStart,
}

/// Replays a stream under settings that are made from its beginning.
pub fn replay<S: Source>(
    source: &mut S,
    settings: impl FnOnce(&Start) -> Vec<Settings>,
) -> Result<Replayed, ReplayError<S::Error>> {
    let start = loop {
        match source.next_item().map_err(ReplayError::Source)? {
            Some(Item::Start(start)) => break start,
            // Only damage can put something in front.
            Some(_) => {}
            None => return Err(ReplayError::NoStart),
        }
    };
    let mut pass = Pass::new(&start, settings(&start));
    let mut end = None;
    while let Some(item) = source.next_item().map_err(ReplayError::Source)? {
        if let Item::End(found) = &item {
            end = Some(found.clone());
        }
        pass.item(item);
    }
    Ok(pass.finish(start, end, source.gaps()))
}

/// A pass in progress.
struct Pass {
    devices: Devices,
    pairing: Pairing,
    runs: Vec<Run>,
    own: Run,
    comparison: Comparison,
    observed: Observed,
    statistics: Statistics,
    counters: Counters,
    witnesses: Witnesses,
}

impl Pass {
    fn new(start: &Start, settings: Vec<Settings>) -> Self {
        let witnesses = Witnesses::new(&start.hooks);
        Self {
            devices: Devices::default(),
            pairing: Pairing::new(witnesses),
            runs: settings.into_iter().map(|settings| Run::new(settings, start, witnesses)).collect(),
            own: Run::new(Settings::captured(&start.kernel), start, witnesses),
            comparison: Comparison::new(start),
            observed: Observed::default(),
            statistics: Statistics::new(start),
            counters: Counters::default(),
            witnesses,
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Start(_) | Item::End(_) | Item::Slab(_) | Item::PoolTimes(_) => {}
            Item::Device(device) => self.devices.add(device),
            Item::Events(batch) => {
                for event in &batch.events {
                    self.statistics.event(event);
                    self.pairing.event(event, batch.segments(event), &mut self.devices);
                    self.take_steps();
                }
            }
            Item::Pool(sample) => self.observed.pool(&sample),
            Item::Sites(sites) => self.statistics.sites(sites),
            Item::Symbols(symbols) => self.statistics.symbols(symbols),
            Item::Counters(counters) => self.counters = counters,
        }
    }

    fn take_steps(&mut self) {
        while let Some(step) = self.pairing.next_step(&self.devices) {
            self.step(&step);
        }
    }

    fn step(&mut self, step: &Step) {
        self.observed.step(step, &self.devices);
        self.statistics.step(step, &self.devices);
        for run in &mut self.runs {
            run.step(step, &self.devices);
        }
        let predicted = self.own.step(step, &self.devices);
        self.comparison.step(step, predicted, &self.devices);
    }

    fn finish(mut self, start: Start, end: Option<End>, gaps: Gaps) -> Replayed {
        self.pairing.finish();
        self.take_steps();
        let own = self.own.finish(&self.devices);
        let doubts = Doubts::new(&self.counters, &gaps, self.witnesses, start.kernel.pool.dynamic);
        let verdict = self.comparison.finish(
            &own,
            &self.observed,
            &self.counters,
            &self.statistics,
            &start,
            end.as_ref(),
            &gaps,
            doubts,
        );
        Replayed {
            start,
            outcomes: self.runs.into_iter().map(|run| run.finish(&self.devices)).collect(),
            observed_rows: self.observed.rows(&self.devices),
            observed: self.observed,
            statistics: self.statistics,
            verdict,
            counters: self.counters,
            end,
            gaps,
        }
    }
}

#[cfg(test)]
mod sample;
