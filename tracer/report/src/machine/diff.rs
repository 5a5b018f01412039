//! `diff --json`.

use serde::Serialize;

use super::Document;
use super::check::Judged;
use crate::devices::both;
use crate::diff::{self, Change, Verdict};
use bouncescope_replay::check::Measured;
use bouncescope_replay::outcome::Tally;

/// `diff --json`.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Diff<'a> {
    /// What the kernels did comes to: refusals, bounces and bytes copied a second, and hazards with a foreign object.
    verdict: Verdict,
    /// The first capture.
    before: Capture<'a>,
    /// The second capture.
    after: Capture<'a>,
    /// What the kernels did, then each policy in the order asked for.
    runs: Vec<Run<'a>>,
    /// Devices of either, as their kernels did it, by name.
    devices: Vec<Device>,
    /// For each `--fail-if`, one for each thing that it selects, in their order. A condition is broken where it is met.
    conditions: Vec<Judged<'a>>,
}

/// A capture.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the fields are the names in JSON")]
struct Capture<'a> {
    /// Its path.
    capture: &'a str,
    /// `utsname.machine`.
    machine: &'a str,
    /// `utsname.release`.
    release: &'a str,
    /// Time that the stream covers, seconds.
    seconds: f64,
    /// Which mappings are streamed as events: `all`, `written` or `small`.
    streamed: &'static str,
}

/// A run of both captures.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Run<'a> {
    /// `real`, or the policy with what else is changed.
    run: String,
    /// Figures as in rules, in the order of their table.
    figures: Vec<Row<'a>>,
}

/// A figure of both captures.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Row<'a> {
    /// The figure's name, as in rules.
    figure: &'static str,
    /// What it came to in the first capture; `null` where that has no such figure.
    before: Option<&'a Measured>,
    /// What it came to in the second capture; `null` where that has no such figure.
    after: Option<&'a Measured>,
    /// The second by the first. Counts and bytes are divided by the seconds of their recordings before. `null` where the first is 0, or one is
    /// not known.
    ratio: Option<f64>,
    /// Which way it went.
    change: Change,
}

/// A device of either capture.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the fields are the names in JSON")]
struct Device {
    /// `dev_name()`.
    device: String,
    /// Its driver when last described; empty for none.
    driver: String,
    /// In the first capture; `null` where it was not seen there.
    before: Option<Rates>,
    /// In the second capture; `null` where it was not seen there.
    after: Option<Rates>,
}

/// What a device did.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Rates {
    /// Calls of `dma_map_*`.
    mappings: u64,
    /// Buffers that bounced.
    bounces: u64,
    /// Buffers that bounced, a second of the recording.
    bounces_per_second: f64,
    /// Bytes copied into and out of the pool.
    bytes_copied: u64,
    /// Mappings that were refused.
    failed: u64,
}

impl Document for Diff<'_> {
    const KIND: &'static str = "diff";
}

impl<'a> Diff<'a> {
    /// Of two captures.
    pub fn new(diff: &'a diff::Diff) -> Self {
        let (before, after) = (diff.before.replayed, diff.after.replayed);
        let seconds = [before.seconds(), after.seconds()];
        let device = |((device, driver), tallies): ((String, String), [Option<_>; 2])| {
            let mut rates = tallies.into_iter().zip(seconds).map(|(tally, seconds)| {
                tally.map(|tally: Tally| Rates {
                    mappings: tally.mappings,
                    bounces: tally.bounces,
                    bounces_per_second: tally.bounces as f64 / seconds,
                    bytes_copied: tally.bytes_copied,
                    failed: tally.failed,
                })
            });
            Device { device, driver, before: rates.next().flatten(), after: rates.next().flatten() }
        };
        Self {
            verdict: diff.verdict(),
            before: Capture::new(diff.before),
            after: Capture::new(diff.after),
            runs: diff.runs.iter().map(Run::new).collect(),
            devices: both(before, after).into_iter().map(device).collect(),
            conditions: diff.conditions.iter().map(Judged::new).collect(),
        }
    }
}

impl<'a> Capture<'a> {
    fn new(side: diff::Side<'a>) -> Self {
        let start = &side.replayed.start;
        Self {
            capture: side.name,
            machine: &start.kernel.machine,
            release: &start.kernel.release,
            seconds: side.replayed.seconds(),
            streamed: start.streamed.name(),
        }
    }
}

impl<'a> Run<'a> {
    fn new(run: &'a diff::Run) -> Self {
        let row = |row: &'a diff::Row| Row {
            figure: row.figure.name(),
            before: row.before.as_ref(),
            after: row.after.as_ref(),
            ratio: row.ratio,
            change: row.change,
        };
        Self { run: run.run.describe(), figures: run.rows.iter().map(row).collect() }
    }
}
