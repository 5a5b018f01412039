//! A recording in which everything that can be lost is made to be: with a ring, maps and a record that are too small for what
//! happens. Each kind must be counted in the capture, and told by whatever is made from it.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::{Context as _, Result};
use tracer::{
    capture::Reader,
    stream::{Item, Source as _},
};

/// How names of losses begin, each of which must be there. Of what else there is, `missed.…` (a program that would run inside
/// itself) wants an interrupt at the right moment, and comes by chance in most recordings of `mixed`; `missed_return` wants a
/// kretprobe that runs out of instances, `read_fault` a list that is no list; `lists_full` wants more lists streamed and mapped at
/// once than the workload holds, since a map of one entry has some for each CPU besides.
const FORCED: [&str; 7] =
    ["ring_full.", "sites_full", "devices_full", "calls_full", "lengths_full", "unpaired_return", "sg_truncated"];

/// What the capture or the product's commands keep to themselves, a line each.
pub(super) fn problems(product: &Path, capture: &Path) -> Result<Vec<String>> {
    let lost = lost(capture)?;
    let mut problems: Vec<String> = FORCED
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

/// The last word of the programs' counters.
fn lost(capture: &Path) -> Result<BTreeMap<String, u64>> {
    let (mut reader, mut last) = (Reader::open(capture)?, BTreeMap::new());
    while let Some(item) = reader.next_item()? {
        if let Item::Counters(counters) = item {
            last = counters.lost.iter().map(|(name, cpus)| (name.clone(), cpus.iter().sum())).collect();
        }
    }
    Ok(last)
}
