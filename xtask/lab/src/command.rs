//! `cargo xtask lab`: which kernels are booted in which scenarios, and the tables that come of it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use workspace::jobs;

use crate::{
    advised, build, configuration, cross, docs,
    initramfs::Programs,
    judge,
    kernel::Kernel,
    kernels, maintenance, matrix, memory, modules,
    recording::Job,
    run::Run,
    scenario::Scenario,
    scenarios, several, slab, source,
    table::{self, Row},
    test_module, tools, truth,
};

/// What is booted, and where the results go.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Args {
    /// Kernel series to boot, the newest of each that Debian has, with 16 KiB pages as `6.12-16k`; `gki` is built here, like a phone's, `gki-64k` too, with pages of 64 KiB, and `gki-allocinfo`, which counts allocations by call site [default: 6.12,7.3, and 6.1 before them for slab]
    #[arg(long, value_name = "SERIES", value_delimiter = ',')]
    kernel: Vec<String>,
    /// Every kernel of the matrix, or those of --kernel without the other tables, each in the scenarios that tell it from the others
    #[arg(long, conflicts_with = "scenario")]
    matrix: bool,
    /// Only these scenarios; without, those of boards are left to --matrix; or only these configurations of --cross and --advice
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
    /// Predict configurations from recordings of others, boot them with the same workload, and compare
    #[arg(long, conflicts_with_all = ["kernel", "matrix", "bare"])]
    cross: bool,
    /// Boot the pools that are advised for recordings, and half of each, with the same workload
    #[arg(long, conflicts_with_all = ["kernel", "matrix", "bare", "cross", "write_docs"])]
    advice: bool,
    /// Write the table of recordings, in which only the rows of this run are replaced, that of --cross, of --source, or of --scenario memory,
    /// into docs/fidelity.md, that of --scenario tools into docs/import.md, and that of --scenario maintenance into docs/performance.md
    #[arg(long, conflicts_with = "bare")]
    write_docs: bool,
    /// Boot nothing, and judge again what an earlier run left in the output directory; for --scenario memory alone
    #[arg(long, conflicts_with_all = ["matrix", "bare", "keep"])]
    again: bool,
    /// Boot nothing: run the kernel's own functions, compiled from Debian's linux-source packages for this machine, and the simulated kernel with the same random operations, and compare each answer
    #[arg(long, conflicts_with_all = ["kernel", "matrix", "bare", "cross", "advice", "again", "scenario", "list", "keep", "captures"])]
    source: bool,
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
        let of_matrix = matrix::scenarios(&kernel.series);
        of_matrix.is_empty() || of_matrix.contains(&scenario.name)
    }
}

/// Boots what the arguments ask for; an error when a recording or a table is not as it must be.
pub fn run(args: &Args) -> Result<()> {
    if args.cross || args.advice {
        return configurations(args);
    }
    if args.source {
        return from_source(args);
    }
    let Chosen { scenarios, mut truths, slab, memory, several, maintenance } = chosen(&args.scenario)?;
    // A part of the matrix is run again for its recordings.
    let is_part = args.matrix && !args.kernel.is_empty();
    truths.retain(|_| !is_part);
    // Without the product there is nothing to compare with the kernel's count.
    let [slab, memory, several, maintenance] =
        [slab, memory, several, maintenance].map(|wanted| wanted && !args.bare && !is_part);
    // They take minutes for each kernel.
    let with_tools = |name: &&str| {
        let wanted = if args.scenario.is_empty() {
            (args.matrix || args.list) && !is_part
        } else {
            is_among(&args.scenario, name)
        };
        wanted && !args.bare
    };
    let traced: Vec<_> = [tools::NAME, tools::FORCED].into_iter().filter(with_tools).collect();
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
        for name in traced {
            println!("{name:<16} {}", tools::names().join(" "));
        }
        let alone = [(memory, memory::NAME), (several, several::NAME), (maintenance, maintenance::NAME)];
        for (_, name) in alone.iter().filter(|(wanted, _)| *wanted) {
            println!("{name}");
        }
        return Ok(());
    }
    ensure!(!args.again || args.scenario == [memory::NAME], "--again is for --scenario {} alone", memory::NAME);
    let asked = !args.bare && (slab || memory || several || !scenarios.is_empty());
    let (shared, product) = prepared(args, asked || maintenance, asked || !traced.is_empty())?;
    let lab = Lab { args, run: shared, product };

    let cache = workspace::cache_dir().join("lab");
    let kernels = |wanted: bool, default: &[&str]| -> Result<Vec<Kernel>> {
        let default = default.iter().map(|series| (*series).to_owned()).collect();
        let series: Vec<String> = if args.kernel.is_empty() { default } else { args.kernel.clone() };
        series.iter().filter(|_| wanted).map(|series| kernels::newest(&cache, series)).collect()
    };
    let defaults = if args.matrix { matrix::series().collect() } else { kernels::DEFAULT.to_vec() };
    let mapping = kernels(!scenarios.is_empty() || !truths.is_empty(), &defaults)?;
    let counting = kernels(slab, &slab::KERNELS)?;
    let recording = kernels(!traced.is_empty(), &tools::KERNELS)?;
    let sizing = kernels(memory, &memory::KERNELS)?;
    let varying = kernels(several, &several::KERNELS)?;
    let maintaining = kernels(maintenance, &kernels::DEFAULT)?;
    let failed = [
        lab.recordings(&mapping, &scenarios)?,
        lab.truths(&mapping, &truths)?,
        lab.objects(&counting)?,
        lab.tools(&cache, &traced, &recording)?,
        lab.memory(&sizing)?,
        lab.several(&varying)?,
        lab.maintenance(&maintaining)?,
    ]
    .concat();
    let (count, problems) = (failed.len(), failed.concat());
    ensure!(count == 0, "{count} recordings or tables failed; logs are in {}\n{problems}", lab.run.out.display());
    Ok(())
}

/// Builds what a run needs: the product for the guests where it records, and for this machine where it is asked about recordings.
fn prepared(args: &Args, in_guests: bool, here: bool) -> Result<(Run, Option<PathBuf>)> {
    let root = workspace::root();
    let out = args.out.clone().unwrap_or_else(|| root.join("target/lab"));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let run = Run {
        out: out.canonicalize()?,
        jobs: args.jobs,
        keep: args.keep,
        again: args.again,
        bare: args.bare,
        programs: if args.again { Programs::default() } else { build::programs(root, in_guests)? },
        captures: args.captures.clone(),
    };
    Ok((run, here.then(|| host_product(root)).transpose()?))
}

/// Compares the simulated kernel with the functions that it mirrors.
fn from_source(args: &Args) -> Result<()> {
    let rows = source::all(&workspace::cache_dir().join("lab"), args.jobs)?;
    let failed = printed(&source::HEADER, &rows);
    if args.write_docs {
        docs::write_source(workspace::root(), &rows)?;
    }
    ensure!(failed.is_empty(), "{} of {} rows differ", failed.len(), rows.len());
    Ok(())
}

/// Compares configurations with each other, or advised pools with what becomes of them.
fn configurations(args: &Args) -> Result<()> {
    if args.list {
        for name in configuration::ALL.iter().map(|one| one.scenario.name) {
            println!("{name}");
        }
        return Ok(());
    }
    if let Some(unknown) = args.scenario.iter().find(|name| configuration::named(name).is_none()) {
        bail!("no configuration {unknown}; --list shows them");
    }
    ensure!(!args.write_docs || args.scenario.is_empty(), "only a table of everything is written into the docs");
    let (run, product) = prepared(args, true, true)?;
    let product = product.context("the product was not built")?;
    let cache = workspace::cache_dir().join("lab");
    let mut kernels = Vec::new();
    for series in if args.cross { cross::kernels() } else { advised::kernels() } {
        let kernel = kernels::newest(&cache, series)?;
        let modules = modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?;
        kernels.push((kernel, modules));
    }
    let (header, rows) = if args.cross {
        (&cross::HEADER[..], cross::all(&run, &product, &kernels, &args.scenario))
    } else {
        (&advised::HEADER[..], advised::all(&run, &product, &kernels, &args.scenario))
    };
    let failed = printed(header, &rows);
    if args.write_docs {
        let releases: Vec<_> = kernels.iter().map(|(kernel, _)| kernel.release.as_str()).collect();
        docs::write_cross(workspace::root(), &releases, &rows)?;
    }
    ensure!(failed.is_empty(), "{} of {} rows failed; logs are in {}", failed.len(), rows.len(), run.out.display());
    Ok(())
}

/// What is to be booted.
#[expect(clippy::struct_excessive_bools, reason = "each is asked for or not")]
struct Chosen {
    scenarios: Vec<&'static Scenario>,
    truths: Vec<&'static truth::Scenario>,
    /// Live objects are counted.
    slab: bool,
    /// Kernels are booted whose caches begin elsewhere. They take long, and so have to be named.
    memory: bool,
    /// Pools are advised for several recordings together, and booted many times. That has to be named too.
    several: bool,
    /// Cache maintenance is timed.
    maintenance: bool,
}

/// The scenarios of those names, all for none.
fn chosen(names: &[String]) -> Result<Chosen> {
    let is_named = |name: &str| names.is_empty() || is_among(names, name);
    let scenarios: Vec<_> = scenarios::ALL.iter().filter(|one| is_named(one.name)).collect();
    let truths: Vec<_> = truth::scenario::ALL.iter().filter(|one| is_named(one.name)).collect();
    let known = |name: &str| {
        [slab::NAME, memory::NAME, several::NAME, maintenance::NAME, tools::NAME, tools::FORCED].contains(&name)
            || scenarios.iter().any(|one| one.name == name)
            || truths.iter().any(|one| one.name == name)
    };
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("no scenario {unknown}; `cargo xtask lab --list` shows them");
    }
    let [memory, several] = [memory::NAME, several::NAME].map(|name| is_among(names, name));
    let [slab, maintenance] = [slab::NAME, maintenance::NAME].map(is_named);
    Ok(Chosen { scenarios, truths, slab, memory, several, maintenance })
}

fn is_among(names: &[String], name: &str) -> bool {
    names.iter().any(|one| one == name)
}

/// Builds the product for this machine, which verifies what its arm64 twin recorded.
fn host_product(root: &Path) -> Result<PathBuf> {
    let status = workspace::cargo()
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "bouncescope"])
        .status();
    ensure!(status.context("cannot run cargo")?.success(), "bouncescope did not compile");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug/bouncescope"))
}

/// A run of recordings, truth tables and counts of objects.
struct Lab<'a> {
    args: &'a Args,
    run: Run,
    /// The product on this machine; `None` when nothing is recorded.
    product: Option<PathBuf>,
}

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
        let rows = jobs::all(&jobs, self.run.jobs, |job| judge::booted(&self.run, self.product.as_deref(), *job));
        let rows = rows.concat();
        let failed = printed(&table::HEADER, &rows);
        // Other tables may be asked for alone.
        if self.args.write_docs && !scenarios.is_empty() {
            docs::write(workspace::root(), kernels, &rows)?;
        }
        Ok(failed)
    }

    /// Makes every truth table of every kernel, and prints what came of them. What is off, as of recordings.
    fn truths(&self, kernels: &[Kernel], scenarios: &[&truth::Scenario]) -> Result<Vec<String>> {
        // In the matrix those of the default kernels stand for all.
        let wanted = |kernel: &&Kernel| !self.args.matrix || kernels::DEFAULT.contains(&kernel.series.as_str());
        let booted = with_test_module(kernels.iter().filter(|_| !scenarios.is_empty()).filter(wanted))?;
        Ok(printed(&truth::HEADER, &truth::all(&self.run, &booted, scenarios)))
    }

    /// Records live objects on every kernel, and prints how they compare with the kernels' own counts. What is off, as of recordings.
    fn objects(&self, kernels: &[Kernel]) -> Result<Vec<String>> {
        let Some(product) = self.product.as_ref().filter(|_| !kernels.is_empty()) else { return Ok(Vec::new()) };
        let tables = slab::all(&self.run, product, kernels)?;
        Ok(tables.iter().flat_map(|(header, rows)| printed(header, rows)).collect())
    }

    /// Lets other tools record on every kernel, and prints how what they wrote compares. What is off, as of recordings.
    fn tools(&self, cache: &Path, scenarios: &[&str], kernels: &[Kernel]) -> Result<Vec<String>> {
        let Some(product) = self.product.as_ref().filter(|_| !kernels.is_empty()) else { return Ok(Vec::new()) };
        let mut failed = Vec::new();
        for &scenario in scenarios {
            let rows = tools::all(&self.run, product, cache, scenario, kernels)?;
            failed.extend(printed(&tools::HEADER, &rows));
            if self.args.write_docs && scenario == tools::NAME {
                docs::write_tools(workspace::root(), kernels, &rows)?;
            }
        }
        Ok(failed)
    }

    /// Times cache maintenance on every kernel, and prints how that compares with what the lab's module says. What is off, as of recordings.
    fn maintenance(&self, kernels: &[Kernel]) -> Result<Vec<String>> {
        let booted = with_test_module(kernels.iter())?;
        let rows = maintenance::all(&self.run, &booted);
        let failed = printed(&maintenance::HEADER, &rows);
        // As of recordings, other tables may be asked for alone.
        if self.args.write_docs && !rows.is_empty() {
            docs::write_maintenance(workspace::root(), kernels, &rows)?;
        }
        Ok(failed)
    }

    /// Predicts the slabs of kernels whose caches begin elsewhere, boots these, and prints how they compare. What is off, as of recordings.
    fn memory(&self, kernels: &[Kernel]) -> Result<Vec<String>> {
        let Some(product) = self.product.as_ref().filter(|_| !kernels.is_empty()) else { return Ok(Vec::new()) };
        let rows = memory::all(&self.run, product, kernels)?;
        let failed = printed(&memory::HEADER, &rows);
        if self.args.write_docs {
            docs::write_memory(workspace::root(), kernels, &rows)?;
        }
        Ok(failed)
    }

    /// Asks for one pool for several recordings, boots it, and prints how often it was too small. What is off, as of recordings.
    fn several(&self, kernels: &[Kernel]) -> Result<Vec<String>> {
        let Some(product) = self.product.as_ref().filter(|_| !kernels.is_empty()) else { return Ok(Vec::new()) };
        Ok(printed(&several::HEADER, &several::all(&self.run, product, kernels)?))
    }
}

/// Kernels, each with the lab's module and with what its guests need besides. The module needs headers, which a kernel of the lab's own
/// has not.
fn with_test_module<'a>(kernels: impl Iterator<Item = &'a Kernel>) -> Result<Vec<truth::Booted<'a>>> {
    let booted = |kernel: &'a Kernel| {
        let modules = modules::in_load_order(&kernel.modules, &modules::FOR_SHARE)?;
        Ok(truth::Booted { kernel, modules, test_module: test_module::of_lab(kernel)? })
    };
    kernels.filter(|kernel| kernel.btf.is_none()).map(booted).collect()
}

/// Prints a table if there is anything in it. What is off in each row that failed.
fn printed(header: &[&str], rows: &[Row]) -> Vec<String> {
    if !rows.is_empty() {
        print!("{}", table::format(header, rows));
    }
    rows.iter().filter(|row| !row.problems.is_empty()).map(table::problems).collect()
}
