//! `cargo xtask lab --advice`: the pool that `replay --advise` names for a recording is booted with the same workload, and half of
//! it as well. With the advised pool nothing may be refused, and the headroom that was asked for must stay free. Half of it must
//! refuse something, or lack that headroom: otherwise it would have been enough.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use workspace::jobs;

use crate::{
    configuration::{self, Booted, Did},
    kernel::Kernel,
    modules::Module,
    run::Run,
    scenario::Scenario,
    table::Row,
};

/// Configurations whose recording is asked for advice; each is a row. In the last four the pool was too small.
pub(crate) const RECORDED: [&str; 7] =
    ["base", "noforce", "line-32", "pool-256", "line-128-full", "smmu", "smmu-pool-256"];

/// What the columns hold: slots, and refusals with the fullest moment, under the recorded pool, the advised one and half of it.
pub(crate) const HEADER: [&str; 7] =
    ["kernel", "recorded", "refused", "advised", "refused, peak", "half: refused, peak", ""];

/// Advice of a pool, as `replay --advise --json` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Advice {
    slots: u64,
    /// The kernel makes none smaller.
    is_smallest: bool,
    /// Part of the pool that has to stay free.
    headroom_percent: u64,
}

impl Advice {
    fn parse(json: &Value) -> Result<Self> {
        let (advice, pool) = (&json["advice"], &json["advice"]["pool"]);
        Ok(Self {
            slots: pool["slots"].as_u64().context("replay advises no pool")?,
            is_smallest: pool["is_smallest"]
                .as_bool()
                .context("replay does not say whether the pool is the smallest")?,
            headroom_percent: advice["headroom_percent"].as_u64().context("replay names no headroom")?,
        })
    }

    /// What is off about what came of the advised pool, and of half of it where the kernel makes such.
    fn problems(&self, advised: &Did, half: Option<&Did>) -> Vec<String> {
        let mut problems = Vec::new();
        if advised.refused > 0 {
            problems.push(format!("{} requests refused with the advised pool", advised.refused));
        }
        if advised.refused == 0 && self.lacks_headroom(advised) {
            problems.push(format!("the advised pool does not keep {} % free", self.headroom_percent));
        }
        if advised.slots.is_some_and(|slots| slots != self.slots) {
            problems.push(format!("{} slots advised, the kernel made {:?}", self.slots, advised.slots));
        }
        if let Some(half) = half
            && half.refused == 0
            && !self.lacks_headroom(half)
        {
            problems.push("half of the advised pool is enough".into());
        }
        problems
    }

    fn lacks_headroom(&self, did: &Did) -> bool {
        let (Some(peak), Some(slots)) = (did.peak_slots, did.slots) else { return false };
        slots.saturating_sub(peak) * 100 < slots * self.headroom_percent
    }
}

/// Series of the kernels that are needed.
pub(crate) fn kernels() -> Vec<&'static str> {
    let mut series: Vec<_> =
        RECORDED.iter().filter_map(|name| configuration::named(name)).map(|one| one.kernel).collect();
    series.sort_unstable();
    series.dedup();
    series
}

/// Asks for advice and boots it, for the recordings of those names, all for none: a row each, whatever happens.
pub(crate) fn all(run: &Run, product: &Path, kernels: &[(Kernel, Vec<Module>)], names: &[String]) -> Vec<Row> {
    let asked: Vec<_> = RECORDED.into_iter().filter(|name| configuration::is_asked(names, name)).collect();
    jobs::all(&asked, run.jobs, |name| {
        let mut row = Row { cells: vec!["-".into(), (*name).to_owned()], problems: Vec::new() };
        let made = one(run, product, kernels, name, &mut row);
        row.problems.extend(made.err().map(|error| format!("{error:#}")));
        row.cells.resize(HEADER.len() - 1, "-".into());
        row
    })
}

fn one(run: &Run, product: &Path, kernels: &[(Kernel, Vec<Module>)], name: &str, row: &mut Row) -> Result<()> {
    let configuration = configuration::named(name).with_context(|| format!("no configuration {name}"))?;
    let of_series = kernels.iter().find(|(kernel, _)| kernel.series == configuration.kernel);
    let (kernel, modules) = of_series.with_context(|| format!("no kernel {}", configuration.kernel))?;
    row.cells[0].clone_from(&kernel.series);
    let mut boot = |scenario: &Scenario, suffix: &str| {
        let booted = Booted::make(run, kernel, modules, scenario, &run.out.join(format!("advice-{name}{suffix}")));
        row.problems.extend(booted.problems.iter().map(|problem| format!("{name}{suffix}: {problem}")));
        booted
    };
    let scenario = Scenario { recordings: configuration::FULL, ..configuration.scenario };
    let recorded = boot(&scenario, "");
    let json = configuration::replayed(product, &recorded.capture("full"), &["--advise"])?;
    let advice = Advice::parse(&json)?;
    // A scenario's words live as long as the program.
    let with_pool = |slots: u64| Scenario { pool: slots.to_string().leak(), ..scenario };
    let advised = boot(&with_pool(advice.slots), "-advised").did()?;
    let half = if advice.is_smallest { None } else { Some(boot(&with_pool(advice.slots / 2), "-half").did()?) };
    let peak = |did: &Did| did.peak_slots.map_or_else(|| "-".to_owned(), |slots| slots.to_string());
    let came = |did: &Did| format!("{}, {}", did.refused, peak(did));
    row.cells.push(recorded.did()?.refused.to_string());
    row.cells.push(advice.slots.to_string());
    row.cells.push(came(&advised));
    row.cells.push(half.as_ref().map_or_else(|| "none smaller".to_owned(), came));
    row.problems.extend(advice.problems(&advised, half.as_ref()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADVICE: Advice = Advice { slots: 1024, is_smallest: false, headroom_percent: 25 };
    const DID: Did = Did { attempts: 500, refused: 0, peak_slots: Some(480), slots: Some(1024) };

    #[test]
    fn every_recording_is_of_a_configuration() {
        assert!(RECORDED.iter().all(|name| configuration::named(name).is_some()));
    }

    #[test]
    fn a_pool_that_refuses_was_advised_wrongly() {
        assert!(ADVICE.problems(&DID, None).is_empty());
        assert_eq!(ADVICE.problems(&Did { refused: 1, ..DID }, None).len(), 1);
        assert_eq!(ADVICE.problems(&Did { peak_slots: Some(769), ..DID }, None).len(), 1);
        assert!(ADVICE.problems(&Did { peak_slots: Some(768), ..DID }, None).is_empty());
        assert_eq!(ADVICE.problems(&Did { slots: Some(2048), ..DID }, None).len(), 1);
    }

    #[test]
    fn half_of_it_may_do_only_without_headroom() {
        let half = |refused, peak| Did { refused, peak_slots: Some(peak), slots: Some(512), ..DID };
        assert!(ADVICE.problems(&DID, Some(&half(48, 512))).is_empty());
        assert!(ADVICE.problems(&DID, Some(&half(0, 480))).is_empty());
        assert_eq!(ADVICE.problems(&DID, Some(&half(0, 384))).len(), 1);
    }

    #[test]
    fn advice_is_read_and_none_is_an_error() {
        let json =
            serde_json::json!({"advice": {"headroom_percent": 25, "pool": {"slots": 1024, "is_smallest": false}}});
        assert_eq!(Advice::parse(&json).unwrap(), ADVICE);
        assert!(Advice::parse(&serde_json::json!({"advice": {"pool": null}})).is_err());
    }
}
