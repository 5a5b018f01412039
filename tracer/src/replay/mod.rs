//! Driving a stream through models.
//!
//! [`pairing`] turns events into mappings and unmappings, each with what the kernel did ([`mapping::Truth`]); [`run`]
//! drives those through the simulated kernel under some [`settings::Settings`] into an [`outcome::Outcome`]; [`compare`]
//! holds a run against the truth; [`statistics`] counts what happened. [`replay`] does it all in one pass.
//!
//! Pure: no operating system, clock, thread or file. Memory is bounded by what is mapped at one time.

pub mod compare;
pub mod devices;
pub mod mapping;
pub mod outcome;
pub mod pairing;
pub mod run;
pub mod settings;
pub mod statistics;

use crate::facts::{Counters, End};
use crate::stream::{Gaps, Item, Source, Start};

use compare::{Comparison, Verdict};
use devices::Devices;
use mapping::Operation;
use outcome::{Outcome, Rows};
use pairing::Pairing;
use run::Run;
use settings::Settings;
use statistics::{Observed, Statistics};

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
    operations: Vec<Operation>,
}

impl Pass {
    fn new(start: &Start, settings: Vec<Settings>) -> Self {
        Self {
            devices: Devices::default(),
            pairing: Pairing::new(start),
            runs: settings.into_iter().map(|settings| Run::new(settings, start)).collect(),
            own: Run::new(Settings::captured(&start.kernel), start),
            comparison: Comparison::default(),
            observed: Observed::default(),
            statistics: Statistics::new(start),
            counters: Counters::default(),
            operations: Vec::new(),
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Start(_) | Item::End(_) => {}
            Item::Device(device) => self.devices.add(device),
            Item::Events(batch) => {
                for event in &batch.events {
                    self.statistics.event(event);
                    self.pairing.event(event, batch.segments(event), &mut self.devices, &mut self.operations);
                    self.apply();
                }
            }
            Item::Pool(sample) => self.observed.pool(&sample),
            Item::Sites(sites) => self.statistics.sites(sites),
            Item::Symbols(symbols) => self.statistics.symbols(symbols),
            Item::Counters(counters) => {
                self.pairing.losses(&counters);
                self.counters = counters;
            }
        }
    }

    fn apply(&mut self) {
        for operation in self.operations.drain(..) {
            self.observed.operation(&operation, &self.devices);
            self.statistics.operation(&operation, &self.devices);
            for run in &mut self.runs {
                run.operation(&operation, &self.devices);
            }
            let predicted = self.own.operation(&operation, &self.devices);
            self.comparison.operation(&operation, predicted, &self.devices);
        }
    }

    fn finish(mut self, start: Start, end: Option<End>, gaps: Gaps) -> Replayed {
        self.pairing.finish(&mut self.operations);
        self.apply();
        let own = self.own.finish(&self.devices);
        let verdict = self.comparison.finish(&own, &self.observed, &self.counters, &self.statistics, &start, &gaps);
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
