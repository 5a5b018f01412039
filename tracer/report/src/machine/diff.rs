//! `diff --json`.

use serde::Serialize;

use super::Document;
use crate::devices::both;
use crate::diff::{self, Change, Verdict};
use bouncescope_replay::check::{self, Judgement, Measured};
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
    /// For each `--fail-if`, one for each thing that it selects, in their order.
    conditions: Vec<Condition<'a>>,
}

/// One thing of which a condition was to be true.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the fields are the names in JSON")]
struct Condition<'a> {
    /// As it was given, without a policy in brackets.
    condition: &'a str,
    /// `real`, or the policy with what else is changed.
    run: String,
    /// The device, driver or call site; empty for the totals.
    subject: &'a str,
    /// The figure's name, as in rules.
    figure: &'static str,
    /// What it comes to in the second capture; `null` where that has no such figure.
    measured: Option<&'a Measured>,
    /// What it comes to in the first one; `null` where that has no such figure.
    before: Option<&'a Measured>,
    /// What became of it.
    verdict: IsMet,
    /// Why it cannot be told; else `null`.
    why: Option<&'a str>,
}

/// What became of a condition.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
enum IsMet {
    /// It is so, whatever is missing from the captures.
    Met,
    /// It is not so.
    NotMet,
    /// The captures do not tell.
    CannotTell,
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
    /// Buffers that bounced, per second of the recording.
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
            conditions: diff.conditions.iter().map(Condition::new).collect(),
        }
    }
}

impl<'a> Condition<'a> {
    fn new(judgement: &'a Judgement) -> Self {
        let rule = judgement.rule;
        Self {
            condition: &rule.name,
            run: rule.run.describe(),
            subject: &judgement.subject,
            figure: rule.figure.name(),
            measured: judgement.figure.as_ref(),
            before: judgement.before.as_ref(),
            verdict: match judgement.verdict {
                check::Verdict::Kept => IsMet::NotMet,
                check::Verdict::Broken => IsMet::Met,
                check::Verdict::CannotTell(_) | check::Verdict::Unreadable(_) => IsMet::CannotTell,
            },
            why: judgement.verdict.why(),
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
