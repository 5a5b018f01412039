//! One pool for several recordings: a workload whose size differs from boot to boot is recorded five times, `replay --advise` is asked
//! about all of them, and the advised pool and the next smaller one are booted 20 times each. As many boots must have refusals as was said.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use workspace::jobs;

use crate::{
    configuration::{Booted, Did, held},
    kernel::Kernel,
    modules::{self, Module},
    run::Run,
    scenario::Scenario,
    scenarios::DIRECT,
    table::Row,
};

/// By which it is asked for and shown.
pub(super) const NAME: &str = "several";
/// Kernels that are booted when none is named.
pub(super) const KERNELS: [&str; 1] = ["6.12"];
/// What the columns hold: whether it was recorded, advised or is smaller; boots with refusals; between which shares of them were said.
pub(super) const HEADER: [&str; 7] = ["kernel", "pool", "boots", "refused in", "said, %", "peaks", ""];

/// Recordings that are asked about.
const RECORDED: u64 = 5;
/// Boots of each pool.
const BOOTED: u64 = 20;
/// Slots of the pool that is recorded in: nothing is refused.
const ROOMY: u64 = 1024;
/// Requests that a boot holds at once, at least and at most.
const HELD: (u64, u64) = (160, 440);

/// Requests that the boot of this number holds at once: anything between the bounds (`splitmix64`).
fn requests(boot: u64) -> u64 {
    let mut mixed = (boot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    HELD.0 + (mixed ^ (mixed >> 31)) % (HELD.1 - HELD.0 + 1)
}

/// Boots everything on every kernel, and compares.
pub(super) fn all(run: &Run, product: &Path, kernels: &[Kernel]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kernel in kernels {
        let modules = modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?;
        rows.extend(of_kernel(&OneKernel { run, kernel, modules }, product)?);
    }
    Ok(rows)
}

struct OneKernel<'a> {
    run: &'a Run,
    kernel: &'a Kernel,
    modules: Vec<Module>,
}

impl OneKernel<'_> {
    /// Boots with a pool of so many slots: of each of these boots what it did, and its capture.
    fn boots(&self, slots: u64, numbers: std::ops::Range<u64>) -> Result<Vec<(Did, PathBuf)>> {
        let numbers: Vec<u64> = numbers.collect();
        let booted = jobs::all(&numbers, self.run.jobs, |number| {
            // A scenario's words live as long as the program.
            let recordings = held(format!("lengths {}", requests(*number)).leak());
            let scenario =
                Scenario { name: NAME, pool: slots.to_string().leak(), recordings: recordings.leak(), ..DIRECT };
            let dir = self.run.out.join(format!("{}-{NAME}-{slots}-{number}", self.kernel.series));
            let booted = Booted::make(self.run, self.kernel, &self.modules, &scenario, &dir);
            ensure!(booted.problems.is_empty(), "boot {number} with {slots} slots: {}", booted.problems.join("; "));
            Ok((booted.did()?, booted.capture("full")))
        });
        booted.into_iter().collect()
    }
}

fn of_kernel(one: &OneKernel, product: &Path) -> Result<Vec<Row>> {
    let recorded = one.boots(ROOMY, 0..RECORDED)?;
    let captures: Vec<PathBuf> = recorded.iter().map(|(_, capture)| capture.clone()).collect();
    let advice = advised(product, &captures, &one.run.out.join(format!("{}-{NAME}.json", one.kernel.series)))?;
    let advised = Said::of(&advice["advised"]).context("no pool is advised")?;
    let pools = advice["pools"].as_array().context("no pools")?;
    let smaller =
        pools.iter().filter_map(Said::of).filter(|said| said.slots < advised.slots).max_by_key(|said| said.slots);
    let smaller = smaller.context("there is no smaller pool than the advised one: the workload is too small")?;
    let mut rows = vec![row(one.kernel, ROOMY, &recorded, None)];
    let mut from = RECORDED;
    for said in [advised, smaller] {
        let booted = one.boots(said.slots, from..from + BOOTED)?;
        from += BOOTED;
        rows.push(row(one.kernel, said.slots, &booted, Some(&said)));
    }
    Ok(rows)
}

/// What `replay --advise --json` says of these recordings together; it is kept in a file.
fn advised(product: &Path, captures: &[PathBuf], kept: &Path) -> Result<Value> {
    let mut command = Command::new(product);
    command.args(["replay", "--advise", "--json", "--policy", "mainline"]).args(captures);
    let output = command.output().context("cannot run bouncescope")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    fs::write(kept, &output.stdout)?;
    serde_json::from_slice(&output.stdout).context("replay printed no JSON")
}

/// What was said of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    slots: u64,
    /// Share of recordings with refusals.
    at_least: f64,
    at_most: f64,
}

impl Said {
    /// `None` of a pool that grows.
    fn of(pool: &Value) -> Option<Self> {
        let share = &pool["share_refused"];
        if pool["grows"] != false {
            return None;
        }
        Some(Self {
            slots: pool["slots"].as_u64()?,
            at_least: share["at_least"].as_f64()?,
            at_most: share["at_most"].as_f64()?,
        })
    }

    /// Whether so many of these boots are what was said.
    fn includes(&self, refused: usize, boots: usize) -> bool {
        let share = refused as f64 / boots as f64;
        self.at_least <= share && share <= self.at_most
    }
}

fn row(kernel: &Kernel, slots: u64, boots: &[(Did, PathBuf)], said: Option<&Said>) -> Row {
    let refused = boots.iter().filter(|(did, _)| did.refused > 0).count();
    let mut problems = Vec::new();
    if said.is_some_and(|said| !said.includes(refused, boots.len())) {
        problems.push("not as often as was said".to_owned());
    }
    if said.is_none() && refused > 0 {
        problems.push("the recorded pool was too small".to_owned());
    }
    let peaks = boots.iter().filter_map(|(did, _)| did.peak_slots);
    let peaks = peaks
        .clone()
        .min()
        .zip(peaks.max())
        .map_or_else(|| "-".to_owned(), |(least, most)| format!("{least} to {most}"));
    let said = said
        .map_or_else(|| "-".to_owned(), |said| format!("{:.0} to {:.0}", said.at_least * 100.0, said.at_most * 100.0));
    let cells =
        vec![kernel.series.clone(), slots.to_string(), boots.len().to_string(), refused.to_string(), said, peaks];
    Row { cells, problems }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_differ_in_what_they_hold_and_some_fit_a_pool_of_256_slots() {
        let all: Vec<u64> = (0..RECORDED + 2 * BOOTED).map(requests).collect();
        assert!(all.iter().all(|held| (HELD.0..=HELD.1).contains(held)));
        let fit = all.iter().filter(|held| **held * 4 / 5 <= 256).count();
        assert!(fit > all.len() / 4 && fit < all.len() * 9 / 10, "{fit} of {}", all.len());
    }

    #[test]
    fn what_was_said_holds_or_does_not() {
        let pool =
            serde_json::json!({"slots": 256, "grows": false, "share_refused": {"at_least": 0.1, "at_most": 0.5}});
        let said = Said::of(&pool).unwrap();
        assert!(said.includes(5, 20) && !said.includes(1, 20) && !said.includes(11, 20));
        assert_eq!(Said::of(&serde_json::json!({"slots": 256, "grows": true})), None);
    }
}
