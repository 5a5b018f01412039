//! The slabs of all kmalloc caches: what is predicted from a recording for caches that begin elsewhere, compared with what the kernel counts
//! when it is booted so and does the same. The caches of a kernel before 6.5 begin at 128 bytes however it is booted: what is predicted from it
//! is compared with newer kernels, whose own objects differ.

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
pub(super) const KERNELS: [&str; 4] = [OLD, "6.12", "7.3", built_kernel::ALLOCINFO];
/// The one whose caches begin at 128 bytes.
const OLD: &str = "6.1";

/// Half of what the workload leaves behind is there before the recording begins.
const LIVED_IN: &[Recording] = &[Recording {
    name: "objects",
    workload: "lived-in",
    recorder: None,
    expect: Expect {
        mappings: 2500,
        every_length: true,
        bounces: true,
        peak_slots: 0,
        refused: 0,
        links: 0,
        raced_percent: 0,
    },
}];

/// How often a machine is booted that others are compared with. What two boots of one kernel differ by, no prediction knows.
const BOOTS: usize = 3;

/// A way to boot a kernel.
struct Machine {
    scenario: Scenario,
    /// Which kernels it is for.
    on: On,
}

/// Kernels that differ in where their caches can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// Those before 6.5.
    Before,
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
            Self::Before => !bounces_small,
            Self::Small => bounces_small,
            Self::SmallOfDebian => bounces_small && kernel.btf.is_none(),
            Self::Chosen => kernel.series == built_kernel::ALLOCINFO,
        }
    }
}

const USUAL: Scenario = Scenario { recordings: LIVED_IN, recorder: Recorder::Objects, ..DIRECT };

/// Every way; the name is part of the directory.
static MACHINES: [Machine; 6] = [
    Machine { scenario: Scenario { name: "old", ..USUAL }, on: On::Before },
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

impl Machine {
    fn boots(&self) -> usize {
        if PAIRS.iter().any(|pair| pair.to == self.scenario.name) { BOOTS } else { 1 }
    }
}

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

const PAIRS: [Pair; 9] = [
    // Where these kernels make a pool by themselves, the old one makes none: its devices reach all of the memory.
    pair("old", &["--swiotlb", "1M"], "pool", MORE),
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
pub(super) const HEADER: [&str; 12] = [
    "kernel",
    "recorded",
    "booted",
    "caches",
    "basis",
    "predicted",
    "range",
    "counted",
    "boots",
    "boots differ %",
    "error %",
    "",
];

/// A boot to be made, and which of its machine it is.
type Job<'a> = (&'a Kernel, &'a [Module], &'a Machine, usize);

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
            MACHINES.iter().filter(wanted).flat_map(move |machine| {
                (0..machine.boots()).map(move |number| (*kernel, modules.as_slice(), machine, number))
            })
        })
        .collect();
    let booted = jobs::all(&jobs, run.jobs, |job| Booted::make(run, product, job));
    let of = |kernel: &Kernel, name: &str| -> Vec<&Booted> {
        let is = |(one, _, machine, _): &Job| one.series == kernel.series && machine.scenario.name == name;
        jobs.iter().zip(&booted).filter(|(job, _)| is(job)).map(|(_, booted)| booted).collect()
    };
    let mut rows = Vec::new();
    for kernel in kernels {
        for pair in &PAIRS {
            // Debian's kernels have the same configuration, which what the lab builds has not.
            let old = kernels.iter().find(|one| pair.from == "old" && one.series == OLD && kernel.btf.is_none());
            let (from, to) = (of(old.unwrap_or(kernel), pair.from), of(kernel, pair.to));
            if !from.is_empty() && !to.is_empty() {
                rows.push(row(product, &kernel.series, pair, &from, &to));
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
    fn make(run: &Run, product: &Path, &(kernel, modules, machine, number): &Job) -> Self {
        let dir = run.out.join(format!("{NAME}-{}-{}-{}", kernel.series, machine.scenario.name, number + 1));
        let made = if run.again {
            configuration::Booted::left(&dir)
        } else {
            configuration::Booted::make(run, kernel, modules, &machine.scenario, &dir)
        };
        // The policy that is the kernel's own: under another, its count would be a prediction.
        let own: &[&str] = if machine.on == On::Before { &["--policy", "legacy"] } else { &[] };
        let told = replayed(product, &made.capture(LIVED_IN[0].name), own, "counted");
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

/// What the boots of one machine counted, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    mean: u64,
    least: u64,
    most: u64,
    /// Where the caches begin.
    minalign: u64,
}

impl Counts {
    fn new(told: &[Told]) -> Result<Self> {
        let counted = told.iter().map(Told::counted).collect::<Result<Vec<_>>>()?;
        let (least, most) = (counted.iter().min().copied(), counted.iter().max().copied());
        let minalign = told.first().context("nothing was booted")?.minalign;
        ensure!(told.iter().all(|told| told.minalign == minalign), "two boots have caches that begin elsewhere");
        Ok(Self {
            mean: counted.iter().sum::<u64>() / counted.len().max(1) as u64,
            least: least.unwrap_or_default(),
            most: most.unwrap_or_default(),
            minalign,
        })
    }
}

/// Predictions for one machine from each recording of another: the mean of what each says.
fn mean(all: &[Told]) -> Result<Told> {
    let first = all.first().context("nothing was recorded")?;
    let alike = |one: &&Told| one.minalign == first.minalign && one.slabs.basis == first.slabs.basis;
    ensure!(all.iter().all(|one| alike(&one)), "what two recordings say does not rest on the same");
    let mean = |of: &dyn Fn(&Slabs) -> Option<u64>| {
        let sum = all.iter().map(|one| of(&one.slabs)).sum::<Option<u64>>();
        sum.map(|sum| sum / all.len() as u64)
    };
    let (bytes, low, high) = (mean(&|one| one.bytes), mean(&|one| Some(one.low)), mean(&|one| Some(one.high)));
    let basis = first.slabs.basis.clone();
    let slabs = Slabs { basis, bytes, low: low.unwrap_or_default(), high: high.unwrap_or_default() };
    Ok(Told { minalign: first.minalign, slabs })
}

fn row(product: &Path, series: &str, pair: &Pair, from: &[&Booted], to: &[&Booted]) -> Row {
    let (mut cells, mut problems) = (vec!["-".to_owned(); HEADER.len() - 4], Vec::new());
    let named = |name, boots: &[&Booted], problems: &mut Vec<String>| {
        for boot in boots {
            problems.extend(boot.made.problems.iter().map(|problem| format!("{name}: {problem}")));
            problems.extend(boot.told.as_ref().err().map(|error| format!("{name}: {error:#}")));
        }
    };
    named(pair.from, from, &mut problems);
    named(pair.to, to, &mut problems);
    let compared = || -> Result<(u64, Told, Counts)> {
        let told = |boots: &[&Booted]| -> Vec<Told> {
            boots.iter().filter_map(|boot| boot.told.as_ref().ok()).cloned().collect()
        };
        let (recorded, booted) = (told(from), told(to));
        ensure!(recorded.len() == from.len() && booted.len() == to.len(), "not compared: a boot is missing");
        let predict = |boot: &&Booted| {
            let capture = boot.made.capture(LIVED_IN[0].name);
            replayed(product, &capture, pair.options, &format!("for-{series}-{}", pair.to))
        };
        let predicted = from.iter().map(predict).collect::<Result<Vec<_>>>()?;
        Ok((Counts::new(&recorded)?.minalign, mean(&predicted)?, Counts::new(&booted)?))
    };
    match compared() {
        Ok((minalign, predicted, counts)) => {
            cells = figures(minalign, &predicted, counts);
            problems.extend(differences(&predicted, counts, pair.percent));
        }
        Err(error) => problems.push(format!("{error:#}")),
    }
    Row { cells: [series, pair.from, pair.to].map(str::to_owned).into_iter().chain(cells).collect(), problems }
}

/// By how much a prediction is off, percent of what the kernel counted.
fn error_percent(predicted: u64, counted: u64) -> f64 {
    (predicted as f64 - counted as f64) * 100.0 / counted.max(1) as f64
}

fn figures(minalign: u64, predicted: &Told, counts: Counts) -> Vec<String> {
    let (kib, slabs) = (|bytes: u64| (bytes / 1024).to_string(), &predicted.slabs);
    vec![
        format!("{minalign} to {}", predicted.minalign),
        slabs.basis.clone(),
        slabs.bytes.map_or_else(|| "-".to_owned(), kib),
        format!("{} to {}", kib(slabs.low), kib(slabs.high)),
        kib(counts.mean),
        format!("{} to {}", kib(counts.least), kib(counts.most)),
        format!("{:.1}", (counts.most - counts.least) as f64 * 100.0 / counts.mean.max(1) as f64),
        slabs.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:+.1}", error_percent(bytes, counts.mean))),
    ]
}

/// What was not predicted as it came, a line each.
fn differences(predicted: &Told, counts: Counts, percent: f64) -> Vec<String> {
    let (mut problems, slabs) = (Vec::new(), &predicted.slabs);
    if predicted.minalign != counts.minalign {
        problems
            .push(format!("caches from {} predicted, the kernel's begin at {}", predicted.minalign, counts.minalign));
    }
    if slabs.low > counts.most || slabs.high < counts.least {
        problems.push("no boot's count is in the range".to_owned());
    }
    match slabs.bytes.map(|bytes| error_percent(bytes, counts.mean)) {
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
    fn only_machines_that_others_are_compared_with_are_booted_several_times() {
        let boots = |name: &str| MACHINES.iter().find(|machine| machine.scenario.name == name).unwrap().boots();
        assert_eq!(["old", "pool", "no-pool-from-boot", "no-pool-128"].map(boots), [1, BOOTS, 1, BOOTS]);
    }

    fn counts(least: u64, mean: u64, most: u64) -> Counts {
        Counts { mean, least, most, minalign: 8 }
    }

    #[test]
    fn boots_count_as_their_mean_and_only_if_their_caches_begin_alike() {
        let of = |minalign, bytes| {
            let slabs = Slabs { basis: "counted".into(), bytes: Some(bytes), low: bytes, high: bytes };
            Told { minalign, slabs }
        };
        let (a, b, c, other) = (of(8, 90), of(8, 120), of(8, 99), of(64, 99));
        assert_eq!(Counts::new(&[a.clone(), b, c]).unwrap(), counts(90, 103, 120));
        assert!(Counts::new(&[a, other]).is_err() && Counts::new(&[]).is_err());
    }

    #[test]
    fn predictions_count_as_their_mean_with_the_mean_of_their_bounds() {
        let all = [told(Some(90), 80, 120), told(Some(110), 90, 130), told(Some(103), 91, 140)];
        assert_eq!(mean(&all).unwrap(), told(Some(101), 87, 130));
        assert_eq!(mean(&[told(None, 80, 120), told(Some(110), 90, 130)]).unwrap().slabs.bytes, None);
        let other = Told { minalign: 64, ..told(Some(90), 80, 120) };
        assert!(mean(&[told(Some(90), 80, 120), other]).is_err() && mean(&[]).is_err());
    }

    #[test]
    fn counts_beyond_the_range_an_error_and_other_caches_are_a_problem_each() {
        let found = |told: &Told, counts| differences(told, counts, 10.0).len();
        let all = counts(950, 1000, 1050);
        assert_eq!(found(&told(Some(1090), 900, 1200), all), 0);
        assert_eq!(found(&told(Some(1110), 900, 1200), all), 1);
        // One of the boots is in the range, then none.
        assert_eq!([found(&told(Some(1060), 1050, 1200), all), found(&told(Some(1060), 1051, 1200), all)], [0, 1]);
        assert_eq!([found(&told(Some(940), 900, 950), all), found(&told(Some(940), 900, 949), all)], [0, 1]);
        assert_eq!(found(&told(Some(1000), 900, 1200), Counts { minalign: 64, ..all }), 1);
        assert_eq!(found(&told(None, 900, 1200), all), 1);
    }

    #[test]
    fn figures_are_in_kib_with_the_error_and_what_boots_differ_by_in_percent() {
        let all = counts(990 << 10, 1000 << 10, 1015 << 10);
        let cells = figures(64, &told(Some(950 << 10), 900 << 10, 1200 << 10), all);
        assert_eq!(cells, ["64 to 8", "estimated", "950", "900 to 1200", "1000", "990 to 1015", "2.5", "-5.0"]);
        assert_eq!(figures(64, &told(None, 0, 1), all)[7], "-");
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
