//! The recorder's default, which streams only what may bounce, beside `--full`: two recorders of the same workload at the same
//! time. Both have to tell the same bounces and refusals of each device, and the same peak.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use tracer::{
    capture::{ReadError, Reader},
    replay::{Replayed, Wanted, outcome::DeviceRow, replay, settings::Settings},
    stream::{Source, Start},
};

use super::verify::verify;

/// What has to be the same.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Most slots in use at once, as predicted.
    peak_slots: u64,
    /// Bounces and refusals of each device that has any: as predicted, and as they were.
    predicted: BTreeMap<String, (u64, u64)>,
    kernel: BTreeMap<String, (u64, u64)>,
}

impl Told {
    fn of(replayed: &Replayed) -> Self {
        let outcome = replayed.outcomes.first();
        Self {
            peak_slots: outcome.map_or(0, |outcome| outcome.peak_slots),
            predicted: outcome.map(|outcome| by_device(&outcome.rows.by_device)).unwrap_or_default(),
            kernel: by_device(&replayed.observed_rows.by_device),
        }
    }
}

fn by_device(rows: &[DeviceRow]) -> BTreeMap<String, (u64, u64)> {
    let counts = rows.iter().map(|row| (row.device.clone(), (row.tally.bounces, row.tally.failed)));
    counts.filter(|(_, counts)| *counts != (0, 0)).collect()
}

/// What is off about the recording that was made by default beside `full`, a line each; empty when nothing is.
pub(super) fn problems(product: &Path, full: &Path) -> Result<Vec<String>> {
    let default = full.with_extension("default.bounce");
    let verified = verify(product, &default)?;
    let mut problems: Vec<_> =
        verified.problems.iter().map(|problem| format!("by default: verify: {problem}")).collect();
    // Mappings of coherent devices are counted, and none is recorded by itself: there is nothing to verify.
    let expected = if verified.mappings == 0 { 2 } else { 0 };
    if verified.disagreements > 0 || verified.exit_code != expected {
        problems.push(format!(
            "by default: {} disagreements, verify exits with {}",
            verified.disagreements, verified.exit_code
        ));
    }
    let (full, default) = (replayed(Reader::open(full)?)?, replayed(Reader::open(&default)?)?);
    let told = [&full, &default].map(Told::of);
    if told[0] != told[1] {
        problems.push(format!("told with --full: {:?}, by default: {:?}", told[0], told[1]));
    }
    let counted = default.lengths.total.mappings;
    if counted == 0 || counted > full.observed.total().mappings {
        let all = full.observed.total().mappings;
        problems.push(format!("by default: {counted} mappings counted of {all} recorded with --full"));
    }
    Ok(problems)
}

/// What the kernel did with each device's buffers, by a capture: bounces and refusals.
pub(super) fn by_kernel(capture: impl Source<Error = ReadError>) -> Result<BTreeMap<String, (u64, u64)>> {
    Ok(Told::of(&replayed(capture)?).kernel)
}

fn replayed(mut capture: impl Source<Error = ReadError>) -> Result<Replayed> {
    let wanted = |start: &Start| Wanted { settings: vec![Settings::captured(&start.kernel)], ..Wanted::default() };
    replay(&mut capture, wanted).context("cannot replay a capture")
}
