//! The slabs of all kmalloc caches: what is predicted from a recording for caches that begin elsewhere, compared with what the kernel counts
//! when it is booted so and does the same. Kernels before 6.5 are not among them: their caches begin at 128 bytes, and no other way to boot
//! them changes that.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use workspace::jobs;

use crate::{
    built_kernel, configuration,
    kernel::Kernel,
    modules::{self, Module},
    run::Run,
    scenario::{Expect, Recorder, Recording, Scenario},
    scenarios::DIRECT,
    table::Row,
};

/// By which it is asked for and shown.
pub(super) const NAME: &str = "memory";
/// Kernels that are booted when none is named.
pub(super) const KERNELS: [&str; 3] = ["6.12", "7.3", built_kernel::ALLOCINFO];

/// The workload leaves little behind: nearly all objects are of the boot, as on a device.
const UNWATCHED: &[Recording] = &[Recording {
    name: "objects",
    workload: "unwatched",
    recorder: None,
    expect: Expect {
        mappings: 2500,
        every_length: true,
        bounces: true,
        peak_slots: 0,
        refused: 0,
        without_event: false,
        raced_percent: 0,
    },
}];

/// A way to boot a kernel.
struct Machine {
    scenario: Scenario,
    /// Which kernels it is for.
    on: On,
}

/// Kernels that differ in where their caches can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// Those whose caches begin at 8 bytes with a pool, and at the size of a line without.
    Small,
    /// Debian's of these.
    SmallOfDebian,
    /// The one whose caches begin where its command line says.
    Chosen,
}

impl On {
    fn includes(self, kernel: &Kernel, bounces_small: bool) -> bool {
        match self {
            Self::Small => bounces_small,
            Self::SmallOfDebian => bounces_small && kernel.btf.is_none(),
            Self::Chosen => kernel.series == built_kernel::ALLOCINFO,
        }
    }
}

const USUAL: Scenario = Scenario { recordings: UNWATCHED, recorder: Recorder::Objects, ..DIRECT };

/// Every way; the name is part of the directory.
static MACHINES: [Machine; 5] = [
    Machine { scenario: Scenario { name: "pool", ..USUAL }, on: On::Small },
    Machine { scenario: Scenario { name: "no-pool", pool: "noforce", ..USUAL }, on: On::Small },
    Machine {
        scenario: Scenario { name: "no-pool-from-boot", pool: "noforce", recorder: Recorder::ObjectsFromBoot, ..USUAL },
        on: On::SmallOfDebian,
    },
    // Not the lines of the device tree, but those of the CPU decide before that is read.
    Machine { scenario: Scenario { name: "no-pool-256", pool: "noforce", lines: 256, ..USUAL }, on: On::SmallOfDebian },
    Machine {
        scenario: Scenario { name: "no-pool-128", pool: "noforce", parameters: "lab_minalign=128", ..USUAL },
        on: On::Chosen,
    },
];

/// A prediction: from which machine's recording, with which options of `replay`, for which machine.
struct Pair {
    from: &'static str,
    options: &'static [&'static str],
    to: &'static str,
    /// By how much the likeliest number may be off, percent of what the kernel counts.
    percent: f64,
}

/// Where all objects move to larger caches, and where most were recorded because recording began at boot.
const LITTLE: f64 = 3.0;
/// Where which objects fit smaller caches is estimated.
const MORE: f64 = 10.0;

const fn pair(from: &'static str, options: &'static [&'static str], to: &'static str, percent: f64) -> Pair {
    Pair { from, options, to, percent }
}

const PAIRS: [Pair; 8] = [
    pair("pool", &["--swiotlb", "none"], "no-pool", LITTLE),
    pair("pool", &["--swiotlb", "none", "--minalign", "256"], "no-pool-256", LITTLE),
    pair("pool", &["--policy", "legacy"], "no-pool-128", LITTLE),
    pair("no-pool", &["--policy", "legacy"], "no-pool-128", LITTLE),
    pair("no-pool", &["--swiotlb", "default"], "pool", MORE),
    pair("no-pool-from-boot", &["--swiotlb", "default"], "pool", LITTLE),
    pair("no-pool-128", &["--swiotlb", "default"], "pool", MORE),
    pair("no-pool-256", &["--swiotlb", "default", "--cache-line-size", "64"], "pool", MORE),
];

/// What the columns hold: where the caches began in the recorded and in the booted kernel, bytes; what was predicted for it, and what it
/// counted, KiB.
pub(super) const HEADER: [&str; 10] =
    ["kernel", "recorded", "booted", "caches", "basis", "predicted", "range", "counted", "error %", ""];

/// A boot to be made.
type Job<'a> = (&'a Kernel, &'a [Module], &'a Machine);

/// Boots every kernel in every way that it can be booted in, and compares each pair: a row each, whatever happens.
pub(super) fn all(run: &Run, product: &Path, kernels: &[Kernel]) -> Result<Vec<Row>> {
    let mut with_modules = Vec::new();
    for kernel in kernels {
        with_modules.push((
            kernel,
            kernel.bounces_small()?,
            modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?,
        ));
    }
    let jobs: Vec<Job> = with_modules
        .iter()
        .flat_map(|(kernel, small, modules)| {
            let wanted = |machine: &&Machine| machine.on.includes(kernel, *small);
            MACHINES.iter().filter(wanted).map(move |machine| (*kernel, modules.as_slice(), machine))
        })
        .collect();
    let booted = jobs::all(&jobs, run.jobs, |job| Booted::make(run, product, job));
    let of = |kernel: &Kernel, name: &str| {
        let is =
            |(one, _, machine): &(&Kernel, _, &Machine)| one.series == kernel.series && machine.scenario.name == name;
        booted.get(jobs.iter().position(is)?)
    };
    let mut rows = Vec::new();
    for kernel in kernels {
        for pair in &PAIRS {
            if let (Some(from), Some(to)) = (of(kernel, pair.from), of(kernel, pair.to)) {
                rows.push(row(product, &kernel.series, pair, from, to));
            }
        }
    }
    Ok(rows)
}

/// What `replay --json` says of the slabs of all kmalloc caches under a policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Slabs {
    basis: String,
    bytes: Option<u64>,
    low: u64,
    high: u64,
}

/// The same, and where the caches begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    minalign: u64,
    slabs: Slabs,
}

impl Told {
    /// From the only policy that was asked for.
    fn parse(json: &Value) -> Result<Self> {
        let policy = &json["policies"][0];
        let minalign = policy["minalign"].as_u64().context("replay does not say where caches begin")?;
        let slabs = Slabs::deserialize(&policy["all_slabs"]).context("replay tells of no slabs")?;
        Ok(Self { minalign, slabs })
    }

    /// What a kernel counted of its own caches.
    fn counted(&self) -> Result<u64> {
        ensure!(self.slabs.basis == "counted", "what a kernel has itself is {}, not counted", self.slabs.basis);
        self.slabs.bytes.context("the kernel counted nothing")
    }
}

/// A kernel that was booted in one way, and what it counted.
struct Booted {
    made: configuration::Booted,
    told: Result<Told>,
}

impl Booted {
    fn make(run: &Run, product: &Path, &(kernel, modules, machine): &Job) -> Self {
        let dir = run.out.join(format!("{NAME}-{}-{}", kernel.series, machine.scenario.name));
        let made = if run.again {
            configuration::Booted::left(&dir)
        } else {
            configuration::Booted::make(run, kernel, modules, &machine.scenario, &dir)
        };
        let told = replayed(product, &made.capture(UNWATCHED[0].name), &[], "counted");
        Self { made, told }
    }
}

/// What `replay` says of a capture with these options; it stays beside the capture.
fn replayed(product: &Path, capture: &Path, options: &[&str], kept_as: &str) -> Result<Told> {
    ensure!(capture.is_file(), "the guest left no {}", capture.display());
    let policy: &[&str] = if options.contains(&"--policy") { &[] } else { &["--policy", "mainline"] };
    let mut command = Command::new(product);
    let output = command.arg("replay").arg(capture).arg("--json").args(policy).args(options).output();
    let output = output.context("cannot run bouncescope")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    fs::write(capture.with_extension(format!("{kept_as}.json")), &output.stdout)?;
    Told::parse(&serde_json::from_slice(&output.stdout).context("replay printed no JSON")?)
}

fn row(product: &Path, series: &str, pair: &Pair, from: &Booted, to: &Booted) -> Row {
    let (mut cells, mut problems) = (vec!["-".to_owned(); HEADER.len() - 4], Vec::new());
    for (name, boot) in [(pair.from, from), (pair.to, to)] {
        problems.extend(boot.made.problems.iter().map(|problem| format!("{name}: {problem}")));
        problems.extend(boot.told.as_ref().err().map(|error| format!("{name}: {error:#}")));
    }
    if let (Ok(recorded), Ok(booted)) = (&from.told, &to.told) {
        let compared =
            replayed(product, &from.made.capture(UNWATCHED[0].name), pair.options, &format!("for-{}", pair.to))
                .and_then(|predicted| {
                    let counted = booted.counted()?;
                    cells = figures(recorded.minalign, &predicted, counted);
                    problems.extend(differences(&predicted, booted.minalign, counted, pair.percent));
                    Ok(())
                });
        problems.extend(compared.err().map(|error| format!("{error:#}")));
    }
    Row { cells: [series, pair.from, pair.to].map(str::to_owned).into_iter().chain(cells).collect(), problems }
}

/// By how much a prediction is off, percent of what the kernel counted.
fn error_percent(predicted: u64, counted: u64) -> f64 {
    (predicted as f64 - counted as f64) * 100.0 / counted.max(1) as f64
}

fn figures(minalign: u64, predicted: &Told, counted: u64) -> Vec<String> {
    let (kib, slabs) = (|bytes: u64| (bytes / 1024).to_string(), &predicted.slabs);
    vec![
        format!("{minalign} to {}", predicted.minalign),
        slabs.basis.clone(),
        slabs.bytes.map_or_else(|| "-".to_owned(), kib),
        format!("{} to {}", kib(slabs.low), kib(slabs.high)),
        kib(counted),
        slabs.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:+.1}", error_percent(bytes, counted))),
    ]
}

/// What was not predicted as it came, a line each.
fn differences(predicted: &Told, minalign: u64, counted: u64, percent: f64) -> Vec<String> {
    let (mut problems, slabs) = (Vec::new(), &predicted.slabs);
    if predicted.minalign != minalign {
        problems.push(format!("caches from {} predicted, the kernel's begin at {minalign}", predicted.minalign));
    }
    if !(slabs.low..=slabs.high).contains(&counted) {
        problems.push("the kernel's count is not in the range".to_owned());
    }
    match slabs.bytes.map(|bytes| error_percent(bytes, counted)) {
        Some(error) if error.abs() > percent => problems.push(format!("off by more than {percent} %")),
        Some(_) => {}
        None => problems.push("nothing likeliest is predicted".to_owned()),
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: Option<u64>, low: u64, high: u64) -> Told {
        Told { minalign: 8, slabs: Slabs { basis: "estimated".into(), bytes, low, high } }
    }

    #[test]
    fn every_pair_names_machines_that_there_are_and_names_are_unique() {
        let named = |name: &str| MACHINES.iter().filter(|machine| machine.scenario.name == name).count();
        assert!(PAIRS.iter().all(|pair| named(pair.from) == 1 && named(pair.to) == 1));
    }

    #[test]
    fn a_count_beyond_the_range_an_error_and_other_caches_are_a_problem_each() {
        let found = |told: &Told, minalign, counted| differences(told, minalign, counted, 10.0).len();
        assert_eq!(found(&told(Some(1090), 900, 1200), 8, 1000), 0);
        assert_eq!(found(&told(Some(1110), 900, 1200), 8, 1000), 1);
        assert_eq!(found(&told(Some(1000), 1001, 1200), 8, 1000), 1);
        assert_eq!(found(&told(Some(1000), 900, 1200), 64, 1000), 1);
        assert_eq!(found(&told(None, 900, 1200), 8, 1000), 1);
    }

    #[test]
    fn figures_are_in_kib_with_the_error_in_percent() {
        let cells = figures(64, &told(Some(950 << 10), 900 << 10, 1200 << 10), 1000 << 10);
        assert_eq!(cells, ["64 to 8", "estimated", "950", "900 to 1200", "1000", "-5.0"]);
        assert_eq!(figures(64, &told(None, 0, 1), 1000)[5], "-");
    }

    #[test]
    fn what_replay_does_not_tell_is_named() {
        let json = serde_json::json!({"policies": [{"minalign": 8, "all_slabs":
            {"basis": "counted", "bytes": 5, "low": 5, "high": 5, "least": 5, "most": 5}}]});
        assert_eq!(Told::parse(&json).unwrap().counted().unwrap(), 5);
        let json = serde_json::json!({"policies": [{"minalign": 8, "all_slabs": null}]});
        assert!(Told::parse(&json).unwrap_err().to_string().contains("slabs"));
        assert!(told(Some(5), 5, 5).counted().is_err());
    }
}
