//! Configurations of kernels and machines in which one deterministic workload is recorded, so that what is predicted from one of
//! them can be compared with what another really does.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    boot::Boot,
    kernel::Kernel,
    modules::Module,
    recording::{self, Job},
    run::Run,
    scenario::{Expect, Recorder, Recording, Scenario},
    scenarios::DIRECT,
    witness::Witness,
};

/// A kernel on a machine.
pub(crate) struct Configuration {
    /// Series of the kernel.
    pub(crate) kernel: &'static str,
    /// The machine, and what is recorded; its name is that of the configuration.
    pub(crate) scenario: Scenario,
}

/// Control transfers of every length in both directions, and 600 requests held at once, of 8 to 80 bytes. With lines of 64 bytes
/// 480 of these bounce, with lines of 32 bytes 240, with longer lines all.
const LENGTHS: Recording = Recording {
    name: "full",
    workload: "lengths 600",
    recorder: None,
    expect: Expect {
        mappings: 2500,
        every_length: true,
        bounces: true,
        peak_slots: 1,
        refused: 0,
        links: 0,
        raced_percent: 0,
    },
};
/// The same workload, of which only what may bounce is streamed.
const BY_DEFAULT: Recording = Recording { name: "default", recorder: Some(Recorder::ByDefault), ..LENGTHS };

/// What is recorded where nothing is asked of a recording by default.
pub(crate) const FULL: &[Recording] = &[LENGTHS];

/// The same with another workload of this kind.
pub(crate) fn held(workload: &'static str) -> Vec<Recording> {
    vec![Recording { workload, ..LENGTHS }]
}

const fn on(kernel: &'static str, scenario: Scenario) -> Configuration {
    Configuration { kernel, scenario: Scenario { recordings: FULL, ..scenario } }
}

const fn with_default(kernel: &'static str, scenario: Scenario) -> Configuration {
    Configuration { kernel, scenario: Scenario { recordings: &[LENGTHS, BY_DEFAULT], ..scenario } }
}

/// Every configuration, by the name that pairs and recordings to advise from refer to.
pub(crate) static ALL: [Configuration; 15] = [
    with_default("6.12", Scenario { name: "base", ..DIRECT }),
    on("6.12", Scenario { name: "line-32", lines: 32, ..DIRECT }),
    on("6.12", Scenario { name: "line-128", lines: 128, pool: "2048", ..DIRECT }),
    on("6.12", Scenario { name: "line-128-full", lines: 128, ..DIRECT }),
    on("6.12", Scenario { name: "line-256", lines: 256, pool: "2048", ..DIRECT }),
    on("6.12", Scenario { name: "pool-256", pool: "128", ..DIRECT }),
    on("6.12", Scenario { name: "pool-1024", pool: "1024", ..DIRECT }),
    with_default("6.12", Scenario { name: "noforce", pool: "noforce", ..DIRECT }),
    with_default("6.12", Scenario { name: "coherent", coherent: true, ..DIRECT }),
    on("6.12", Scenario { name: "smmu", smmu: true, ..DIRECT }),
    with_default("6.12", Scenario { name: "smmu-2048", smmu: true, pool: "2048", ..DIRECT }),
    on("6.12", Scenario { name: "smmu-pool-256", smmu: true, pool: "128", ..DIRECT }),
    on("6.12", Scenario { name: "smmu-line-128", smmu: true, lines: 128, pool: "4096", ..DIRECT }),
    with_default("6.1", Scenario { name: "6.1", ..DIRECT }),
    on("7.3", Scenario { name: "7.3", ..DIRECT }),
];

/// The configuration of that name.
pub(crate) fn named(name: &str) -> Option<&'static Configuration> {
    ALL.iter().find(|one| one.scenario.name == name)
}

/// Whether a configuration is among those asked for, all for none.
pub(crate) fn is_asked(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|one| one == name)
}

/// A configuration that was booted.
pub(crate) struct Booted {
    /// What the guest left.
    share: PathBuf,
    /// What went wrong.
    pub(crate) problems: Vec<String>,
}

impl Booted {
    /// Boots a scenario and waits until its recordings are made.
    pub(crate) fn make(run: &Run, kernel: &Kernel, modules: &[Module], scenario: &Scenario, dir: &Path) -> Self {
        let job: Job = (kernel, modules, scenario);
        let boot = recording::boot(run, job, dir);
        let boot = boot.unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
        eprintln!("lab: {} {}: {:.0} s", kernel.series, scenario.name, boot.seconds);
        let mut problems = boot.troubles;
        for recording in scenario.recordings {
            if !boot.done.iter().any(|name| name == recording.name) {
                problems.push(format!("{} was not made", recording.name));
            }
        }
        Self { share: dir.join("share"), problems }
    }

    /// What an earlier boot left there.
    pub(crate) fn left(dir: &Path) -> Self {
        Self { share: dir.join("share"), problems: Vec::new() }
    }

    /// A capture by its recording's name.
    pub(crate) fn capture(&self, recording: &str) -> PathBuf {
        self.share.join(format!("{recording}.bounce"))
    }

    /// What the kernel itself counted, and the workload felt, during the recording of everything.
    pub(crate) fn did(&self) -> Result<Did> {
        let witness = Witness::read(&self.share, LENGTHS.name)?;
        ensure!(witness.number("exit") == Some(0.0), "recorder or workload failed in the guest");
        let number = |key: &str| witness.number(key).map(|number| number as u64);
        Ok(Did {
            attempts: witness.bounced,
            refused: number("refused").context("the workload tells of no refusals")?,
            peak_slots: number("hiwater"),
            slots: number("slots"),
        })
    }
}

/// What a kernel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Did {
    /// Bounces and refusals together: `swiotlb_bounced` is hit before slots are looked for (`swiotlb_map()`, `kernel/dma/swiotlb.c`).
    pub(crate) attempts: u64,
    /// Requests that the workload could not submit.
    pub(crate) refused: u64,
    /// The pool's own high-water mark; kernels before 6.4 keep none.
    pub(crate) peak_slots: Option<u64>,
    /// Slots of the pool.
    pub(crate) slots: Option<u64>,
}

/// What the product predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predicted {
    pub(crate) bounces: u64,
    pub(crate) refused: u64,
    pub(crate) peak_slots: u64,
    pub(crate) slots: u64,
}

impl Predicted {
    /// From the first policy of `replay --json`.
    pub(crate) fn parse(json: &Value) -> Result<Self> {
        let policy = &json["policies"][0];
        let number = |key: &str| policy[key].as_u64().with_context(|| format!("replay tells no {key}"));
        Ok(Self {
            bounces: number("bounces")?,
            refused: number("failed")?,
            peak_slots: number("peak_slots")?,
            slots: number("total_slots")?,
        })
    }
}

/// What `replay --json` prints of a capture with these options, for the policy of today's kernels; it stays beside the capture.
pub(crate) fn replayed(product: &Path, capture: &Path, options: &[&str]) -> Result<Value> {
    ensure!(capture.is_file(), "the guest left no {}", capture.display());
    let mut command = Command::new(product);
    command.arg("replay").arg(capture).args(["--json", "--policy", "mainline"]).args(options);
    let output = command.output().context("cannot run bouncescope")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    fs::write(capture.with_extension("replay.json"), &output.stdout)?;
    serde_json::from_slice(&output.stdout).context("replay printed no JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_configurations_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|one| one.scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn a_prediction_is_the_first_policy_and_a_missing_figure_is_named() {
        let json = serde_json::json!({"policies": [{"bounces": 1, "failed": 2, "peak_slots": 3, "total_slots": 4}]});
        let predicted = Predicted { bounces: 1, refused: 2, peak_slots: 3, slots: 4 };
        assert_eq!(Predicted::parse(&json).unwrap(), predicted);
        let json = serde_json::json!({"policies": [{"bounces": 1}]});
        assert!(Predicted::parse(&json).unwrap_err().to_string().contains("failed"));
    }
}
