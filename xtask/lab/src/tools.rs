//! The tracing tools that people have: trace-cmd, perf and Perfetto of several of Debian's suites record the same workload on several
//! kernels, while tracefs counts beside them. What `import` makes of their files is compared with that count, and with what it makes
//! of the text that the same tools print.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use workspace::jobs;

use self::{
    compared::Compared,
    root::{Root, Suite},
};
use super::{
    boot::{self, Boot},
    cpio::Archive,
    initramfs::{self, Contents},
    kernel::Kernel,
    machine::{Devices, Machine},
    modules::{self, Module},
    run::Run,
    table::Row,
};

mod compared;
mod root;

/// By which it is asked for and shown.
pub(super) const NAME: &str = "tools";
/// The same where every kernel is made to bounce everything, every buffer of lists included.
pub(super) const FORCED: &str = "tools-force";
/// Kernels that are booted when none is named.
pub(super) const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.3"];
/// What the columns hold. Bounces, mappings and lists are import/tracefs; `text` is what the tool prints of its file, `raw` the same
/// with `-R`.
pub(super) const HEADER: [&str; 13] = [
    "kernel", "tool", "seconds", "events", "bounces", "of lists", "mappings", "lists", "buffers", "text", "raw",
    "left out", "",
];
/// The column that says how long a tool took.
pub(super) const SECONDS: usize = 2;
/// Slots of the pool on kernels that are made to bounce everything: at least those that would bounce nothing by themselves.
const POOL: &str = "16384";
const WORKLOAD: &str = "short";

const TRACE_CMD: (&str, &[&str]) = ("trace-cmd", &["usr/bin/trace-cmd"]);
const PERF: (&str, &[&str]) = ("linux-perf", &["usr/bin/perf"]);
const PERFETTO: (&str, &[&str]) = ("perfetto", &["usr/bin/perfetto", "usr/sbin/traced", "usr/sbin/traced_probes"]);

/// Where the tools come from.
const SUITES: [Suite; 3] = [
    Suite { name: "bookworm", packages: &[TRACE_CMD, PERF] },
    Suite { name: "trixie", packages: &[TRACE_CMD, PERF] },
    Suite { name: "forky", packages: &[TRACE_CMD, PERF, PERFETTO] },
];

/// A tool of one version.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    /// `trace-cmd`, `perf` or `perfetto`.
    pub(super) program: &'static str,
    /// Where it comes from.
    suite: &'static str,
    /// As Debian's package has it.
    pub(super) version: String,
}

impl Tool {
    /// Names its files.
    fn name(&self) -> String {
        format!("{}-{}", self.program, self.suite)
    }

    /// The suffix of the file that it writes, and what it prints of that.
    pub(super) fn files(&self) -> (&'static str, &'static [&'static str]) {
        match self.program {
            "trace-cmd" => ("dat", &["txt", "raw.txt"]),
            "perf" => ("data", &["txt"]),
            _ => ("pftrace", &[]),
        }
    }
}

/// What is recorded.
pub(super) fn names() -> Vec<String> {
    let tools = SUITES.iter().flat_map(|suite| suite.packages.iter().map(|(package, _)| tool(package, suite.name)));
    tools.map(|tool| tool.name()).collect()
}

fn tool(package: &'static str, suite: &'static str) -> Tool {
    Tool { program: package.strip_prefix("linux-").unwrap_or(package), suite, version: String::new() }
}

/// Makes every recording of every kernel in the scenario of that name, a row each, whatever happens.
pub(super) fn all(run: &Run, product: &Path, cache: &Path, scenario: &str, kernels: &[Kernel]) -> Result<Vec<Row>> {
    let (mut tools, mut archive) = (Vec::new(), Archive::default());
    for suite in SUITES {
        let root = Root::fetch(cache, suite)?;
        root.pack(&mut archive)?;
        tools.extend(
            suite
                .packages
                .iter()
                .map(|(package, _)| Tool { version: root.version(package).to_owned(), ..tool(package, suite.name) }),
        );
    }
    let roots = archive.finish();
    let mut boots = Vec::new();
    for kernel in kernels {
        // The others are made to in either scenario.
        if scenario == FORCED && !kernel.bounces_small()? {
            continue;
        }
        boots.push((kernel, modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?));
    }
    let traced = Traced { scenario, tools, roots };
    let rows = jobs::all(&boots, run.jobs, |(kernel, modules)| one(run, product, kernel, modules, &traced));
    Ok(rows.concat())
}

/// What is the same in every boot.
struct Traced<'a> {
    scenario: &'a str,
    tools: Vec<Tool>,
    /// An archive of what they run in.
    roots: Vec<u8>,
}

fn one(run: &Run, product: &Path, kernel: &Kernel, modules: &[Module], traced: &Traced) -> Vec<Row> {
    let dir = run.out.join(format!("{}-{}", kernel.series, traced.scenario));
    let boot = boot(run, kernel, modules, traced, &dir)
        .unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
    eprintln!("lab: {} {}: {:.0} s", kernel.series, traced.scenario, boot.seconds);
    let row = |tool: &Tool| {
        let (mut problems, mut compared) = (boot.troubles.clone(), Compared::default());
        let name = tool.name();
        if boot.done.contains(&name) {
            match Compared::of(product, kernel, tool, &dir.join("share").join(&name)) {
                Ok(made) => compared = made,
                Err(error) => problems.push(format!("{error:#}")),
            }
        } else {
            problems.push("was not made".into());
        }
        problems.extend(compared.problems.iter().cloned());
        let tool = [tool.program, &tool.version].join(" ");
        Row { cells: [vec![kernel.series.clone(), tool], compared.cells()].concat(), problems }
    };
    traced.tools.iter().map(row).collect()
}

fn boot(run: &Run, kernel: &Kernel, modules: &[Module], traced: &Traced, dir: &Path) -> Result<Boot> {
    let Traced { scenario, tools, roots } = traced;
    let _ = fs::remove_dir_all(dir);
    let (work, share) = (dir.join("machine"), dir.join("share"));
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&share)?;
    let initramfs = work.join("initramfs.cpio");
    let lines = tools.iter().map(|tool| format!("{} tool {} {} {WORKLOAD}", tool.name(), tool.suite, tool.program));
    let script = lines.collect::<Vec<_>>().join("\n");
    let contents =
        Contents { programs: &run.programs, modules, later: &[], test_module: None, btf: None, script: &script };
    // A kernel unpacks archives one after the other (`unpack_to_rootfs()`, `init/initramfs.c`).
    let archives = [initramfs::build(&contents, kernel)?.as_slice(), roots].concat();
    fs::write(&initramfs, archives).with_context(|| format!("cannot write {}", initramfs.display()))?;
    let forced = *scenario == FORCED || !kernel.bounces_small()?;
    let parameters = if forced { format!("swiotlb={POOL},force") } else { String::new() };
    let machine = Machine {
        cpu: kernel.cpu(),
        restricted_pools: 0,
        counts_instructions: false,
        cpus: 2,
        tablets: 1,
        cache_line: None,
        devices: Devices::Workloads,
        test_device: false,
        smmu: false,
        coherent: false,
        image: &kernel.image,
        parameters: &parameters,
        initramfs: &initramfs,
        share: &share,
        work: &work,
    };
    boot::of(run, &machine, dir, &format!("{} {scenario}", kernel.series))
}
