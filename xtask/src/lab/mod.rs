//! `cargo xtask lab`: boots real arm64 kernels in QEMU, lets the product record in them while workloads map and bounce,
//! and holds what it predicts against what those kernels did.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    boot::Boot,
    initramfs::Programs,
    kernel::Kernel,
    modules::Module,
    scenario::{Recorder, Recording, Scenario},
    table::Row,
    verdict::Verified,
    witness::Witness,
};
use crate::{cache_dir, jobs, workspace_root};

mod board;
mod boot;
mod build;
mod built_kernel;
mod console;
mod cpio;
mod default_mode;
mod device_tree;
mod docs;
mod doctor;
mod fetch;
mod initramfs;
mod kernel;
pub(crate) mod live_dma;
mod losses;
mod machine;
mod mappings;
mod modules;
mod packages;
mod recording;
mod scenario;
mod served;
mod slab;
mod table;
mod test_module;
mod text_trace;
mod truth;
mod verdict;
mod witness;

/// Kernels that are booted when none is named.
const KERNELS: [&str; 2] = ["6.12", "7.3"];
/// What `--matrix` boots: the kernels that there are in the field, and the scenarios in which they differ; no scenario named is
/// every one.
const MATRIX: [(&str, &[&str]); 7] = [
    ("5.10", &["direct", "force"]),
    ("6.1", &["direct", "force"]),
    ("6.12", &[]),
    ("6.12-16k", &["direct", "smmu-16k"]),
    ("6.18", &["direct", "smmu", "kprobes"]),
    ("7.2", &["direct", "smmu"]),
    ("7.3", &[]),
];
/// One boot with all its recordings; under emulation on a busy machine it takes a minute or two.
const BOOT_LIMIT: Duration = Duration::from_mins(10);

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Args {
    /// Kernel series to boot, the newest of each that Debian has, with 16 KiB pages as `6.12-16k`; `gki` is built here, like a phone's, and `gki-64k` too, with pages of 64 KiB [default: 6.12,7.3, and 6.1 before them for slab]
    #[arg(long, value_name = "SERIES", value_delimiter = ',')]
    kernel: Vec<String>,
    /// Every kernel of the matrix, each in the scenarios that tell it from the others
    #[arg(long, conflicts_with_all = ["kernel", "scenario"])]
    matrix: bool,
    /// Only these scenarios; without, those of boards are left to --matrix
    #[arg(long, value_name = "NAME", value_delimiter = ',', num_args = 1..)]
    scenario: Vec<String>,
    /// Show the scenarios and do nothing
    #[arg(long)]
    list: bool,
    /// Print the QEMU command of each boot, and keep what it needs to be run by hand
    #[arg(long)]
    keep: bool,
    /// Boots at the same time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Where captures, counts and console logs go [default: target/lab]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also copy each capture to this directory, as KERNEL-SCENARIO-RECORDING.bounce
    #[arg(long, value_name = "DIR")]
    captures: Option<PathBuf>,
    /// Write the table of recordings into docs/fidelity.md
    #[arg(long, conflicts_with = "bare")]
    write_docs: bool,
    /// Run the workloads without recording: shows what the kernels themselves count
    #[arg(long)]
    bare: bool,
}

impl Args {
    /// Whether a scenario that a kernel can run is asked for.
    fn wants(&self, kernel: &Kernel, scenario: &Scenario) -> bool {
        if !self.matrix {
            return !self.scenario.is_empty() || !scenario.is_matrix_only();
        }
        let of_matrix = MATRIX.iter().find(|(series, _)| *series == kernel.series).map_or(&[][..], |(_, names)| names);
        of_matrix.is_empty() || of_matrix.contains(&scenario.name)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (scenarios, truths, slab) = chosen(&args.scenario)?;
    // Without the product there is nothing to hold against the kernel's count.
    let slab = slab && !args.bare;
    if args.list {
        let recorded = scenarios.iter().map(|one| (one.name, one.recordings.iter().map(|made| made.name).collect()));
        let tables = truths.iter().map(|one| (one.name, one.tables.iter().map(|made| made.name).collect()));
        for (name, made) in recorded.chain(tables) {
            let made: Vec<_> = made;
            println!("{name:<16} {}", made.join(" "));
        }
        if slab {
            println!("{:<16} {}", slab::NAME, slab::RECORDINGS.map(|(name, _)| name).join(" "));
        }
        return Ok(());
    }
    let root = workspace_root();
    let out = args.out.clone().unwrap_or_else(|| root.join("target/lab"));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let out = out.canonicalize()?;
    let with_product = !args.bare && (slab || !scenarios.is_empty());
    let programs = build::programs(root, with_product)?;
    let product = with_product.then(|| host_product(root)).transpose()?;
    let lab = Lab { args, out, programs, product };

    let cache = cache_dir().join("lab");
    let kernels = |wanted: bool, default: &[&str]| -> Result<Vec<Kernel>> {
        let default = default.iter().map(|series| (*series).to_owned()).collect();
        let series: Vec<String> = if args.kernel.is_empty() { default } else { args.kernel.clone() };
        series.iter().filter(|_| wanted).map(|series| Kernel::newest(&cache, series)).collect()
    };
    let defaults = if args.matrix { MATRIX.map(|(series, _)| series).to_vec() } else { KERNELS.to_vec() };
    let mapping = kernels(!scenarios.is_empty() || !truths.is_empty(), &defaults)?;
    let counting = kernels(slab, &slab::KERNELS)?;
    let failed =
        [lab.recordings(&mapping, &scenarios)?, lab.truths(&mapping, &truths)?, lab.objects(&counting)?].concat();
    let (count, problems) = (failed.len(), failed.concat());
    ensure!(count == 0, "{count} recordings or tables failed; logs are in {}\n{problems}", lab.out.display());
    Ok(())
}

/// The scenarios of those names, all for none; and whether live objects are to be counted.
fn chosen(names: &[String]) -> Result<(Vec<&'static Scenario>, Vec<&'static truth::Scenario>, bool)> {
    let is_named = |name: &str| names.is_empty() || names.iter().any(|one| one == name);
    let scenarios: Vec<_> = scenario::ALL.iter().filter(|one| is_named(one.name)).collect();
    let truths: Vec<_> = truth::scenario::ALL.iter().filter(|one| is_named(one.name)).collect();
    let known = |name: &str| {
        name == slab::NAME || scenarios.iter().any(|one| one.name == name) || truths.iter().any(|one| one.name == name)
    };
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("no scenario {unknown}; `cargo xtask lab --list` shows them");
    }
    Ok((scenarios, truths, is_named(slab::NAME)))
}

/// Builds the product for this machine, which verifies what its arm64 twin recorded.
fn host_product(root: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "bouncescope"])
        .status();
    ensure!(status.context("cannot run cargo")?.success(), "bouncescope did not compile");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/bouncescope"))
}

/// A run: what every boot of it shares.
struct Lab<'a> {
    args: &'a Args,
    out: PathBuf,
    programs: Programs,
    /// The product on this machine; `None` when nothing is recorded.
    product: Option<PathBuf>,
}

/// A boot to be made.
type Job<'a> = (&'a Kernel, &'a [Module], &'static Scenario);

impl Lab<'_> {
    /// Makes every recording of every kernel, and prints them. What is off, a text for each that failed.
    fn recordings(&self, kernels: &[Kernel], scenarios: &[&'static Scenario]) -> Result<Vec<String>> {
        let mut boots = Vec::new();
        for kernel in kernels.iter().filter(|_| !scenarios.is_empty()) {
            let modules = modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?;
            eprintln!("lab: {} is {}, with {} modules", kernel.series, kernel.release, modules.len());
            boots.push((kernel, modules));
        }
        let jobs: Vec<Job> = boots
            .iter()
            .flat_map(|(kernel, modules)| {
                scenarios.iter().map(move |&scenario| (*kernel, modules.as_slice(), scenario))
            })
            .filter(|(kernel, _, scenario)| scenario.runs_on(kernel) && self.args.wants(kernel, scenario))
            .collect();
        let rows = jobs::all(&jobs, self.args.jobs, |job| self.one(*job));
        let rows = rows.concat();
        let failed = printed(&table::HEADER, &rows);
        if self.args.write_docs {
            docs::write(workspace_root(), kernels, &rows)?;
        }
        Ok(failed)
    }

    /// Makes every truth table of every kernel, and prints what came of them. What is off, as of recordings.
    fn truths(&self, kernels: &[Kernel], scenarios: &[&truth::Scenario]) -> Result<Vec<String>> {
        let mut booted = Vec::new();
        // The module needs headers, which a kernel of the lab's own has not.
        // In the matrix those of the default kernels stand for all.
        let wanted = |kernel: &&Kernel| !self.args.matrix || KERNELS.contains(&kernel.series.as_str());
        for kernel in kernels.iter().filter(|kernel| !scenarios.is_empty() && kernel.btf.is_none()).filter(wanted) {
            let modules = modules::in_load_order(&kernel.modules, &modules::FOR_SHARE)?;
            let test_module = test_module::of_lab(kernel)?;
            booted.push(truth::Booted { kernel, modules, test_module });
        }
        Ok(printed(&truth::HEADER, &truth::all(self, &self.programs, &booted, scenarios)))
    }

    /// Records live objects on every kernel, and prints how they compare with the kernels' own counts. What is off, as of recordings.
    fn objects(&self, kernels: &[Kernel]) -> Result<Vec<String>> {
        let Some(product) = self.product.as_ref().filter(|_| !kernels.is_empty()) else { return Ok(Vec::new()) };
        let tables = slab::all(self, product, &self.programs, kernels)?;
        Ok(tables.iter().flat_map(|(header, rows)| printed(header, rows)).collect())
    }

    /// Boots one scenario and judges its recordings, a row each, whatever happens.
    fn one(&self, job: Job) -> Vec<Row> {
        let (kernel, _, scenario) = job;
        let dir = self.out.join(format!("{}-{}", kernel.series, scenario.name));
        let booted = recording::boot(self, job, &dir);
        let boot = booted.unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
        eprintln!("lab: {} {}: {:.0} s", kernel.series, scenario.name, boot.seconds);
        let row = |recording: &Recording| self.judge(kernel, scenario, recording, &dir, &boot);
        let doctor = scenario.has_doctor(self.args.bare).then(|| self.judge_doctor(kernel, scenario, &dir, &boot));
        scenario.recordings.iter().map(row).chain(doctor).collect()
    }

    /// The row of `doctor`'s page. What went wrong with the boot stands in the recordings' rows.
    fn judge_doctor(&self, kernel: &Kernel, scenario: &Scenario, dir: &Path, boot: &Boot) -> Row {
        let share = dir.join("share");
        let mut row = doctor::judge(&kernel.series, kernel.version(), scenario.name, &share, &self.out);
        if !boot.done.iter().any(|name| name == doctor::NAME) {
            row.problems.push("was not made".into());
        }
        row
    }

    /// One recording's row.
    fn judge(&self, kernel: &Kernel, scenario: &Scenario, recording: &Recording, dir: &Path, boot: &Boot) -> Row {
        let share = dir.join("share");
        let (mut witness, mut verified) = (Witness::default(), None);
        let mut problems = boot.troubles.clone();
        if boot.done.iter().any(|name| name == recording.name) {
            let capture = share.join(format!("{}.bounce", recording.name));
            let kept_as = format!("{}-{}-{}", kernel.series, scenario.name, recording.name);
            let compared = (|| -> Result<()> {
                witness = Witness::read(&share, recording.name)?;
                if let (Some(forced), Some(product)) = (losses::forced(scenario.recorder), &self.product) {
                    // With so much lost, what a recording is to show otherwise cannot be seen.
                    problems.extend(losses::problems(product, &capture, forced)?);
                    let told = verify(product, &capture)?;
                    problems.extend(losses::mistaken(&told, &witness));
                    verified = Some(told);
                    return Ok(());
                }
                let expect = scenario.expect(recording, kernel.bounces_small()?);
                problems.extend(verdict::kernel_side(expect, &witness));
                let Some(product) = &self.product else { return Ok(()) };
                // Kernels before 6.5 do not care for lines.
                if kernel.bounces_small()? {
                    problems.extend(recording::other_lines(&capture, scenario.lines)?);
                }
                if let Some(captures) = &self.args.captures {
                    keep_capture(&capture, captures, &kept_as)?;
                }
                let told = verify(product, &capture)?;
                let by_device = witness.by_buffer.keys().any(|(device, ..)| !device.is_empty());
                let counted_ns = witness.time_ns()?;
                let recorded = mappings::in_capture(&capture, &counted_ns, by_device)?;
                problems.extend(verdict::product_side(expect, &told, &recorded, &witness));
                if scenario.recorder == Recorder::BesideServe {
                    problems.extend(served::problems(&capture, &counted_ns)?);
                }
                let has_events = kernel.version() >= (6, 12);
                if scenario.recorder == Recorder::Usual && scenario.board.is_none() && has_events {
                    problems.extend(text_trace::problems(&capture, &counted_ns)?);
                    if recording.workload == "mixed" {
                        problems.extend(default_mode::problems(product, &capture)?);
                    }
                }
                problems.extend(mappings::differences(&recorded.by_buffer, &witness.by_buffer, told.skipped.mappings));
                verified = Some(Verified { bounced_recorded: recorded.bounced, ..told });
                Ok(())
            })();
            problems.extend(compared.err().map(|error| format!("{error:#}")));
        } else {
            problems.push("was not made".into());
        }
        Row { cells: cells(kernel, scenario, recording, verified.as_ref(), &witness), problems }
    }
}

/// Prints a table if there is anything in it. What is off in each row that failed.
fn printed(header: &[&str], rows: &[Row]) -> Vec<String> {
    if !rows.is_empty() {
        print!("{}", table::format(header, rows));
    }
    rows.iter().filter(|row| !row.problems.is_empty()).map(table::problems).collect()
}

fn cells(
    kernel: &Kernel,
    scenario: &Scenario,
    recording: &Recording,
    verified: Option<&Verified>,
    witness: &Witness,
) -> Vec<String> {
    let told =
        |tell: fn(&Verified) -> u64| verified.map_or_else(|| "-".to_owned(), |verified| tell(verified).to_string());
    let fact = |key: &str| witness.facts.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let hiwater =
        || verified.and_then(|one| one.peak_slots.1).map_or_else(|| fact("hiwater"), |slots| slots.to_string());
    let mappings = (witness.maps + witness.lists).to_string();
    let refused = verified.map_or_else(|| fact("refused"), |one| one.failed.1.to_string());
    vec![
        kernel.series.clone(),
        scenario.name.to_owned(),
        recording.name.to_owned(),
        verified.map_or(mappings, |verified| verified.mappings.to_string()),
        told(|one| one.agreements),
        told(|one| one.disagreements),
        told(|one| one.unknown),
        format!("{}/{}", told(|one| one.peak_slots.0), hiwater()),
        format!("{}/{refused}", told(|one| one.failed.0)),
        format!("{}/{}", told(|one| one.bounced_recorded), witness.bounced),
        fact("seconds"),
    ]
}

fn verify(product: &Path, capture: &Path) -> Result<Verified> {
    ensure!(capture.is_file(), "the guest left no capture");
    let output =
        Command::new(product).args(["verify", "--json"]).arg(capture).output().context("cannot run bouncescope")?;
    let json = String::from_utf8_lossy(&output.stdout);
    fs::write(capture.with_extension("verify.json"), &*json)?;
    let code = output.status.code().unwrap_or(-1);
    Verified::parse(code, &json)
        .map_err(|error| anyhow::anyhow!("{error} {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn keep_capture(capture: &Path, dir: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let kept = dir.join(format!("{name}.bounce"));
    fs::copy(capture, &kept).with_context(|| format!("cannot copy {} to {}", capture.display(), kept.display()))?;
    Ok(())
}
