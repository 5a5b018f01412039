//! `cargo xtask bench live-dma`: what each of the product's programs is to the kernel that runs it, from a guest whose devices bounce:
//! how long the verifier walks it, how large it is, and how many instructions a run takes. The emulator's time says nothing of a
//! real machine's, so that its clocks count instructions instead (QEMU's `-icount shift=0`: one a nanosecond).

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Result, bail, ensure};
use tracer::{
    capture::Reader,
    stream::{Item, Source as _},
};
use workspace::written;

use super::{build, kernels, modules, recording, run::Run, scenarios::LIVE_DMA, witness::Witness};

const FILE: &str = "docs/performance.md";
const COMMAND: &str = "cargo xtask bench live-dma --write-docs";
/// Kinds of records by the programs that send them, by the name that the kernel keeps of each (15 characters).
const SENDS: [(&str, &str); 15] = [
    ("kmalloc", "kmalloc"),
    ("kfree", "kfree"),
    ("dma_map", "map"),
    ("dma_map_sg", "map_sg"),
    ("dma_unmap", "unmap"),
    ("dma_unmap_sg", "unmap_sg"),
    ("swiotlb_bounced", "bounced"),
    ("slot_map_return", "slot_map"),
    ("slot_map_exit", "slot_map"),
    ("slot_unmap", "slot_unmap"),
    ("slot_unmap_ente", "slot_unmap"),
    ("sync_for_cpu", "sync"),
    ("sync_for_device", "sync"),
    ("sync_sg_for_cpu", "sync_sg"),
    ("sync_sg_for_dev", "sync_sg"),
];

/// Which kernel is measured.
#[derive(clap::Args)]
pub struct Args {
    /// Kernel series to boot
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Write the table into docs/performance.md
    #[arg(long)]
    write_docs: bool,
}

/// What the kernel says of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Program {
    /// Instructions that the verifier walked.
    verified: u64,
    /// Length as the kernel keeps it, and as the CPU runs it, bytes.
    translated: u64,
    jitted: u64,
    runs: u64,
    /// Time of all runs, ns.
    ns: u64,
}

impl Program {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { verified: next()?, translated: next()?, jitted: next()?, runs: next()?, ns: next()? })
    }

    fn each(&self) -> String {
        if self.runs == 0 { "-".to_owned() } else { format!("{:.0}", self.ns as f64 / self.runs as f64) }
    }
}

/// By program, what it is to one of the recorders.
type Programs = BTreeMap<String, Program>;
/// Records by kind.
type Records = BTreeMap<String, u64>;

/// Boots the guest and prints the table; an error when a recorder or the workload failed.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    let out = root.join("target/lab");
    fs::create_dir_all(&out)?;
    let lab = Run {
        out: out.canonicalize()?,
        jobs: 1,
        keep: false,
        again: false,
        bare: false,
        programs: build::programs(root, true)?,
        captures: None,
    };
    let kernel = kernels::newest(&workspace::cache_dir().join("lab"), &args.kernel)?;
    let modules = modules::in_load_order(&kernel.modules, &modules::FOR_WORKLOADS)?;
    let dir = lab.out.join(format!("{}-{}", kernel.series, LIVE_DMA.name));
    let boot = recording::boot(&lab, (&kernel, &modules, &LIVE_DMA), &dir)?;
    ensure!(boot.troubles.is_empty(), "{}; the console is in {}", boot.troubles.join("; "), dir.display());
    let share = dir.join("share");
    let name = LIVE_DMA.recordings[0].name;
    let witness = Witness::read(&share, name)?;
    ensure!(witness.facts.get("exit").is_some_and(|exit| exit == "0"), "recorder or workload failed in the guest");
    let [full, default] = ["full", "default"].map(|recorder| programs(&witness.facts, recorder));
    ensure!(
        !full.is_empty() && full.len() == default.len(),
        "the guest told {} and {} programs",
        full.len(),
        default.len()
    );
    let counted = [("bounce", &full), ("default.bounce", &default)];
    let [full_sent, default_sent] = counted.map(|(suffix, _)| records(&share.join(format!("{name}.{suffix}"))));
    let text = section(&kernel.release, (&full, &full_sent?), (&default, &default_sent?));
    print!("{text}");
    if args.write_docs {
        written::replace(&root.join(FILE), COMMAND, &text)?;
    }
    Ok(())
}

/// How many records of each kind the recorder took from its ring.
fn records(capture: &Path) -> Result<Records> {
    let mut reader = Reader::open(capture)?;
    while let Some(item) = reader.next_item()? {
        if let Item::End(end) = item {
            return Ok(end.events);
        }
    }
    bail!("{} has no end", capture.display())
}

/// Of one recorder, from the facts that the workload left.
fn programs(facts: &BTreeMap<String, String>, recorder: &str) -> Programs {
    let prefix = format!("program.{recorder}.");
    let parsed = |(key, text): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_owned(), Program::parse(text)?));
    facts.iter().filter_map(parsed).collect()
}

/// The table, largest sum of instructions first, of the programs that ran.
fn section(release: &str, (full, full_sent): (&Programs, &Records), (default, sent): (&Programs, &Records)) -> String {
    let mut rows: Vec<(&String, &Program)> = full.iter().filter(|(_, program)| program.runs > 0).collect();
    rows.sort_by_key(|(_, program)| std::cmp::Reverse(program.ns));
    let mut text = format!(
        "Linux {release} in QEMU, the lab's workload `mixed`, two recorders of it at the same time:\n\n\
         | program | verified | translated | JIT | runs | records, `--full` | each, `--full` | records, default | each, default |\n\
         |---|---|---|---|---|---|---|---|---|\n"
    );
    let of_kind = |records: &Records, name: &str| {
        let Some(kind) = sends(name) else { return "-".to_owned() };
        let count = records.get(kind).copied().unwrap_or(0);
        let is_shared = rows.iter().filter(|(other, _)| sends(other) == Some(kind)).count() > 1;
        if is_shared { format!("{count} ({kind})") } else { count.to_string() }
    };
    for (name, program) in &rows {
        let by_default = default.get(*name).copied().unwrap_or_default();
        let Program { verified, translated, jitted, runs, .. } = program;
        text += &format!(
            "| {name} | {verified} | {translated} B | {jitted} B | {runs} | {} | {} | {} | {} |\n",
            of_kind(full_sent, name),
            program.each(),
            of_kind(sent, name),
            by_default.each()
        );
    }
    let idle = full.len() - rows.len();
    text + &format!("\n{idle} more programs were loaded and did not run.\n")
}

/// The kind of record that a program sends, if it sends any.
fn sends(program: &str) -> Option<&'static str> {
    SENDS.iter().find(|(name, _)| *name == program).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_s_line_is_five_numbers() {
        let program = Program { verified: 1, translated: 2, jitted: 3, runs: 4, ns: 10 };
        assert_eq!(Program::parse("1 2 3 4 10"), Some(program));
        assert_eq!(program.each(), "2");
        assert_eq!(Program { runs: 0, ..program }.each(), "-");
        assert_eq!(Program::parse("1 2 3 4"), None);
    }

    #[test]
    fn programs_that_ran_are_rows_and_shared_kinds_are_named() {
        let facts: BTreeMap<String, String> = [
            ("program.full.kmalloc", "9 8 7 10 1000"),
            ("program.full.sync_for_cpu", "9 8 7 4 100"),
            ("program.full.sync_for_device", "9 8 7 4 80"),
            ("program.full.pool_return", "9 8 7 0 0"),
            ("program.default.kmalloc", "9 8 7 10 500"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let (full, default) = (programs(&facts, "full"), programs(&facts, "default"));
        let records: Records = [("kmalloc".to_owned(), 6), ("sync".to_owned(), 5)].into();
        let text = section("6.12", (&full, &records), (&default, &Records::new()));
        assert!(text.contains("| kmalloc | 9 | 8 B | 7 B | 10 | 6 | 100 | 0 | 50 |\n"), "{text}");
        assert!(text.contains("| sync_for_cpu | 9 | 8 B | 7 B | 4 | 5 (sync) | 25 | 0 (sync) | - |\n"), "{text}");
        assert!(text.ends_with("\n1 more programs were loaded and did not run.\n"), "{text}");
    }
}
