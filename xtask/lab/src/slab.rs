//! Live objects held against the kernel's own count: a workload leaves thousands of small objects of kmalloc behind, on a
//! kernel whose caches begin at 128 bytes and on kernels whose caches begin at 8. On each, what the product saw is compared
//! with what the caches gained; and what it predicts for small caches from the old kernel's recording with what the caches of
//! the new kernels really gained.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use workspace::jobs;

use self::figures::Recorded;
use super::{
    boot::{self, Boot},
    initramfs::{self, Contents},
    kernel::Kernel,
    machine::{Devices, Machine},
    modules::{self, Module},
    run::Run,
    table::Row,
};

mod figures;
mod functions;
mod verdict;

/// By which it is asked for and shown.
pub(super) const NAME: &str = "slab";
/// Kernels that are booted when none is named: caches from 128 bytes, then from 8.
pub(super) const KERNELS: [&str; 3] = ["6.1", "6.12", "7.3"];
/// What is recorded: name, and one allocation in how many.
pub(super) const RECORDINGS: [(&str, u64); 2] = [("objects", 1), ("objects-sampled", 8)];

/// What was made of a recording.
struct Made<'a> {
    kernel: &'a Kernel,
    name: &'static str,
    recorded: Option<Recorded>,
    /// Objects by function, where the kernel counts these too.
    by_function: Vec<Row>,
    problems: Vec<String>,
}

/// Makes every recording of every kernel, and compares. Tables: each with its header and its rows.
pub(super) fn all(run: &Run, product: &Path, kernels: &[Kernel]) -> Result<Vec<(Vec<&'static str>, Vec<Row>)>> {
    let mut boots = Vec::new();
    for kernel in kernels {
        boots.push((kernel, modules::in_load_order(&kernel.modules, &modules::FOR_SHARE)?));
    }
    let made = jobs::all(&boots, run.jobs, |(kernel, modules)| one(run, product, kernel, modules));
    let made: Vec<_> = made.into_iter().flatten().collect();
    let own = made.iter().map(|made| {
        let cells = verdict::own_cells(&made.kernel.series, made.name, made.recorded.as_ref());
        let found = made.recorded.iter().flat_map(verdict::own);
        Row { cells, problems: made.problems.iter().cloned().chain(found).collect() }
    });
    let own = own.collect();
    let recorded = |name: &str, is_old: bool| {
        let of = move |made: &&Made| made.recorded.as_ref().is_some_and(|one| one.is_old() == is_old);
        let name = name.to_owned();
        made.iter().filter(move |made| made.name == name).filter(of)
    };
    let mut across = Vec::new();
    for (name, _) in RECORDINGS {
        for old in recorded(name, true) {
            // Every allocation of the new kernel was recorded: its own count is as good as it gets.
            for new in recorded(RECORDINGS[0].0, false) {
                if let (Some(from), Some(to)) = (&old.recorded, &new.recorded) {
                    across.extend(verdict::across((&old.kernel.series, name, from), (&new.kernel.series, to)));
                }
            }
        }
    }
    let by_function = made.iter().flat_map(|made| made.by_function.iter().cloned()).collect();
    let tables = [(&verdict::OWN[..], own), (&verdict::ACROSS[..], across), (&functions::HEADER[..], by_function)];
    Ok(tables.map(|(header, rows)| (header.to_vec(), rows)).into())
}

fn one<'a>(run: &Run, product: &Path, kernel: &'a Kernel, modules: &[Module]) -> Vec<Made<'a>> {
    let dir = run.out.join(format!("{}-{NAME}", kernel.series));
    let boot = boot(run, kernel, modules, &dir)
        .unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
    eprintln!("lab: {} {NAME}: {:.0} s", kernel.series, boot.seconds);
    let recording = |(name, sample): (&'static str, u64)| {
        let (mut problems, mut by_function) = (boot.troubles.clone(), Vec::new());
        let capture = dir.join("share").join(format!("{name}.bounce"));
        let recorded = if boot.done.iter().any(|done| done == name) {
            let told = told(product, &capture).and_then(|told| Recorded::parse(&told.0, &told.1));
            let recorded = told.map_err(|error| problems.push(format!("{error:#}"))).ok();
            if let Some(recorded) = recorded.as_ref().filter(|_| sample == 1) {
                match functions::rows(&capture, &kernel.series, name, recorded.unplaced) {
                    Ok(rows) => by_function = rows,
                    Err(error) => problems.push(format!("{error:#}")),
                }
            }
            recorded
        } else {
            problems.push("was not made".into());
            None
        };
        Made { kernel, name, recorded, by_function, problems }
    };
    RECORDINGS.into_iter().map(recording).collect()
}

fn boot(run: &Run, kernel: &Kernel, modules: &[Module], dir: &Path) -> Result<Boot> {
    let _ = fs::remove_dir_all(dir);
    let (work, share) = (dir.join("machine"), dir.join("share"));
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&share)?;
    let initramfs = work.join("initramfs.cpio");
    let lines = RECORDINGS.iter().map(|(name, sample)| format!("{name} objects {sample} objects"));
    let script = lines.collect::<Vec<_>>().join("\n");
    let contents =
        Contents { programs: &run.programs, modules, later: &[], test_module: None, btf: None, script: &script };
    fs::write(&initramfs, initramfs::build(&contents, kernel)?)?;
    let machine = Machine {
        cpu: "cortex-a72",
        restricted_pools: 0,
        counts_instructions: false,
        cpus: 2,
        tablets: 0,
        cache_line: None,
        devices: Devices::Test,
        test_device: false,
        smmu: false,
        coherent: false,
        image: &kernel.image,
        parameters: "",
        initramfs: &initramfs,
        share: &share,
        work: &work,
    };
    boot::of(run, &machine, dir, &format!("{} {NAME}", kernel.series))
}

/// What `stats` and `replay` say of a capture, as JSON, which is kept beside it.
fn told(product: &Path, capture: &Path) -> Result<(String, String)> {
    ensure!(capture.is_file(), "the guest left no capture");
    let ask = |arguments: &[&str], kept_as: &str| -> Result<String> {
        let mut command = Command::new(product);
        let output = command.args(arguments).arg(capture).output().context("cannot run bouncescope")?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        let json = String::from_utf8(output.stdout).context("what is printed is not text")?;
        let file: PathBuf = capture.with_extension(kept_as);
        fs::write(&file, &json).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(json)
    };
    let stats = ask(&["stats", "--json"], "stats.json")?;
    // The pool that kernels from 6.5 on make on this machine, a thousandth of its memory: with none, their caches would begin
    // at the size of a line. The old kernel makes none there, since its devices reach all of the memory.
    let replay = ask(&["replay", "--json", "--policy", "legacy,mainline", "--swiotlb", "1M"], "replay.json")?;
    Ok((stats, replay))
}
