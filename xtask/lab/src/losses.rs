//! Recordings in which everything that can be lost is made to be: with a ring, maps and a record that are too small for what
//! happens, and by the lab's module (`xtask/lab/module/lose.c`). Each kind must be counted in the capture, and told by whatever
//! is made from it.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    stream::{Item, Source as _},
};

use super::{scenario::Recorder, verdict::Verified, witness::Witness};

/// How names of losses begin, each of which must be there: where ring and maps are too small.
const TOO_SMALL: [&str; 7] =
    ["ring_full.", "sites_full", "devices_full", "calls_full", "lengths_full", "unpaired_return", "sg_truncated"];
/// The same, where the lab's module sees to it.
const LOSING: [&str; 6] = ["lists_full", "bulk_cut", "read_fault", "missed.kmalloc", "missed_return", "untimed"];

/// What of a recording must be lost, when it is one that is there for that.
pub(super) fn forced(recorder: Recorder) -> Option<&'static [&'static str]> {
    match recorder {
        Recorder::TooSmall => Some(&TOO_SMALL),
        Recorder::Losing => Some(&LOSING),
        _ => None,
    }
}

/// What the capture or the product's commands keep to themselves, a line each.
pub(super) fn problems(product: &Path, capture: &Path, forced: &[&str]) -> Result<Vec<String>> {
    let lost = lost(capture)?;
    let mut problems: Vec<String> = forced
        .iter()
        .filter(|kind| !lost.iter().any(|(name, count)| name.starts_with(**kind) && *count > 0))
        .map(|kind| format!("no {kind} was counted, which was to be forced"))
        .collect();
    for command in ["stats", "replay", "verify"] {
        let output = Command::new(product).arg(command).arg(capture).output().context("cannot run bouncescope")?;
        let told = String::from_utf8_lossy(&output.stdout);
        let untold = lost.iter().filter(|(name, count)| !told.contains(&format!("LOST {name}: {count}")));
        problems.extend(untold.map(|(name, count)| format!("{command} does not tell LOST {name}: {count}")));
    }
    Ok(problems)
}

/// What no loss may lead to, a line each: what is lost makes mappings unknown, it makes none disagree.
pub(super) fn mistaken(verified: &Verified, witness: &Witness) -> Vec<String> {
    let mut problems = Vec::new();
    if verified.disagreements > 0 || verified.exit_code != 0 {
        problems.push(format!("{} disagreements, verify exits with {}", verified.disagreements, verified.exit_code));
    }
    if witness.number("exit") != Some(0.0) {
        problems.push(format!("recorder or workload exits with {:?}", witness.facts.get("exit")));
    }
    problems
}

/// The last word of the programs' counters.
fn lost(capture: &Path) -> Result<BTreeMap<String, u64>> {
    let (mut reader, mut last) = (Reader::open(capture)?, BTreeMap::new());
    while let Some(item) = reader.next_item()? {
        if let Item::Counters(counters) = item {
            last = counters.lost.iter().map(|(name, cpus)| (name.to_string(), cpus.iter().sum())).collect();
        }
    }
    Ok(last)
}
