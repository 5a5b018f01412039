//! `bouncescope import`: another tool's trace into a capture.

mod file;

use std::{
    fs::{self, File},
    io::{self, BufReader, Seek as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use tracer::replay::scenarios::parse_alignment;
use tracer::{
    capture::Reader,
    event::Kind,
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
        given::from_toml,
    },
    facts::{Device, KernelFacts, PoolFacts},
    model::{architecture::Architecture, policy::PoolChoice, pool::DEFAULT_SLOTS, release::Release},
    stream::{Item, Source},
};

use crate::{
    input::{read_text, say, some_of},
    output,
};
use file::TraceFile;

/// Page size, bytes.
const PAGE_SIZE: u32 = 4096;
/// Cache line size and alignment of the smallest kmalloc caches, bytes, unless they are given: those of most arm64 machines.
const LINE_SIZE: u32 = 64;
const MINALIGN: u32 = 8;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trace-cmd record -e dma -e swiotlb -e kmem:kmalloc -e kmem:kfree -- COMMAND
  bouncescope import trace.dat -o board.bounce
  perf record -a -e 'dma:*,swiotlb:*,kmem:kmalloc,kmem:kfree' -- COMMAND && bouncescope import perf.data
  cat /sys/kernel/tracing/trace > board.txt        # after enabling the events dma, swiotlb, and kmem/kmalloc, kmem/kfree
  bouncescope import phone.pftrace -o phone.bounce # Perfetto, with the ftrace events dma/*, swiotlb/*, kmem/kmalloc, kmem/kfree
  bouncescope verify board.bounce

A trace does not say which kernel it comes from, how large the pool is, or which devices are coherent. Import infers what it can, and
lists it in the capture's notes. --like takes kernel and devices from a capture of the same machine. --devices takes devices from a file
such as

  [[device]]
  name = \"1d84000.ufshc\"     # or * for all others
  coherent = false           # also driver, dma-mask, bus-dma-limit, min-align-mask, iommu-granule, untrusted, force-bounce")]
pub(crate) struct Args {
    /// Trace: a trace.dat of trace-cmd, a perf.data, a Perfetto trace, or text of tracefs, trace-cmd report or perf
    /// script, also compressed with gzip, xz or zstd; - for standard input
    trace: PathBuf,
    /// Capture to write; an existing file is renamed to FILE.old
    #[arg(short, long, value_name = "FILE", default_value = "bouncescope.bounce", value_parser = output::path())]
    output: PathBuf,
    /// TOML file that describes the devices
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Take the kernel and its devices from this capture of the same machine
    #[arg(long, value_name = "CAPTURE")]
    like: Option<PathBuf>,
    /// Machine type, as printed by uname -m [default: the one that the trace shows, else aarch64]
    #[arg(long, value_name = "MACHINE", conflicts_with = "like")]
    machine: Option<String>,
    /// Cache line size of the machine, bytes [default: 64]
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment, conflicts_with = "like")]
    cache_line_size: Option<u32>,
    /// Alignment of the smallest kmalloc caches, bytes [default: 8; 128 for arm64 before 6.5]
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment, conflicts_with = "like")]
    minalign: Option<u32>,
    /// Pool: a number of slots, or a size such as 4M; none for swiotlb=noforce
    #[arg(long, value_name = "SLOTS|SIZE|none", conflicts_with = "like")]
    swiotlb: Option<PoolChoice>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let input = TraceFile::of(&args.trace)?;
    let cannot_read = || format!("cannot read {}", input.name());
    let mut text = input.open()?;
    let mut kept = kept_beside(&args.output).context("cannot make a temporary file")?;
    let survey = Survey::keeping(&mut text, &mut kept).with_context(cannot_read)?;
    let notes = input.notes(&text);
    drop(text);
    ensure!(
        [Kind::Map, Kind::MapSg, Kind::Kmalloc, Kind::Bounced].into_iter().any(|kind| survey.has(kind)),
        "{}: {}",
        input.name(),
        nothing_wanted(&survey, &notes)
    );
    let given = match &args.devices {
        Some(file) => {
            let text = read_text(file)?;
            from_toml(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?
        }
        None => Vec::new(),
    };
    if let Some(unknown) = given.iter().find(|one| one.name != "*" && !survey.devices.contains_key(&one.name)) {
        let known = some_of(survey.devices.keys().cloned(), survey.devices.len());
        bail!("no device {} in this trace; there are: {known}", unknown.name);
    }
    let (kernel, known) = match &args.like {
        Some(capture) => like(capture)?,
        None => (kernel(args, &survey)?, Vec::new()),
    };
    let no_pool_given = args.like.is_none() && args.swiotlb.is_none();
    let mut assumed = assume(&survey, kernel, &known, &given);
    if no_pool_given {
        assumed.notes.push(
            "the pool is assumed to be the default of 64 MiB, which nothing in the trace shows (--swiotlb can say)"
                .into(),
        );
    }
    if args.like.is_none() && args.machine.is_none() {
        let (machine, why) = match survey.machine() {
            Some(machine) => (machine, "as the trace shows"),
            None => ("aarch64", "which nothing in the trace shows (--machine can say)"),
        };
        assumed.notes.push(format!("the machine is assumed to be {machine}, {why}"));
    }
    assumed.notes.extend(notes);
    for note in &assumed.notes {
        say(&format!("note: {note}\n"));
    }
    let others = [&args.devices, &args.like];
    let inputs: Vec<&Path> = others.into_iter().flatten().chain([&args.trace]).map(PathBuf::as_path).collect();
    let mut writer = output::begin_capture(&args.output, &inputs)?;
    kept.rewind().with_context(cannot_read)?;
    let mut trace = Trace::of_kept(BufReader::new(kept), &survey, assumed.kernel, assumed.devices, assumed.notes);
    while let Some(item) = trace.next_item().with_context(cannot_read)? {
        writer.write(&item)?;
    }
    let events: u64 = writer.events_written().values().sum();
    let bytes = writer.finish_keeping(output::suffix_of_old(&args.output))?;
    if trace.twice() > 0 {
        say(&format!("note: {} events are in the trace twice, and were taken once\n", trace.twice()));
    }
    say(&format!("{}: {events} events, {bytes} bytes\n", args.output.display()));
    if survey.lost > 0 {
        say(&format!("LOST trace_events: {}\n", survey.lost));
    }
    Ok(ExitCode::SUCCESS)
}

/// A file without a name for the trace's events: where the capture will be, which has room for it as `/tmp` may not, unless that is no
/// directory of the disk (a FIFO, standard output).
fn kept_beside(capture: &Path) -> io::Result<File> {
    let real = fs::canonicalize(capture).unwrap_or_else(|_| capture.to_owned());
    let may_be_file = fs::metadata(&real).map_or(true, |metadata| metadata.is_file());
    let directory = real.parent().filter(|_| may_be_file);
    let beside = directory.map(|parent| if parent == Path::new("") { Path::new(".") } else { parent });
    match beside.map(tempfile::tempfile_in) {
        Some(Ok(file)) => Ok(file),
        // That nothing can be written there is said of the capture.
        _ => tempfile::tempfile(),
    }
}

/// Why there is nothing to import, with what was found instead.
fn nothing_wanted(survey: &Survey, notes: &[String]) -> String {
    let mut why = "nothing in it is a mapping, a bounce or an allocation".to_owned();
    if survey.other_events > 0 {
        let names = some_of(survey.other_names.iter().cloned(), survey.other_names.len());
        why += &format!("; it has {} lines of other events: {names}", survey.other_events);
    }
    if survey.nonsense > 0 {
        why += &format!("; {} lines can't be read", survey.nonsense);
        if !survey.named_in_nonsense.is_empty() {
            let names = survey.named_in_nonsense.iter().map(|(name, count)| format!("{name} in {count}"));
            why += &format!(" ({})", names.collect::<Vec<_>>().join(", "));
        }
        if !survey.first_nonsense.contains('\0') {
            why += &format!(", the first: {}", survey.first_nonsense);
        }
    }
    if !survey.looks_like.is_empty() {
        why += &format!("; {}", survey.looks_like);
    }
    for note in notes {
        why += &format!("; {note}");
    }
    why + ". A trace has to be a trace.dat, a perf.data, a Perfetto trace, or text of tracefs, trace-cmd report or perf script, with the \
           events dma:*, swiotlb:* or kmem:kmalloc"
}

/// By the options, where the trace itself does not tell.
fn kernel(args: &Args, survey: &Survey) -> Result<KernelFacts> {
    let slots = match args.swiotlb {
        // A trace does not tell the memory, of which a smaller default would be made.
        None => DEFAULT_SLOTS,
        Some(PoolChoice::Slots(slots)) => slots,
        Some(PoolChoice::None) => 0,
        Some(other) => bail!("--swiotlb {other}: it has to be slots, a size such as 4M, or none"),
    };
    let cpus = u32::from(survey.last_cpu) + 1;
    let source = |given: Option<u32>| if given.is_some() { "given to import" } else { "assumed by import" }.to_owned();
    let machine = args.machine.as_deref().or(survey.machine()).unwrap_or("aarch64");
    let architecture = Architecture::of(machine);
    // A trace without a release may be of any.
    let is_since = |since| Release::of(&survey.release).is_none_or(|release| release >= since);
    let bounces_small = architecture.bounces_small_since.is_some_and(is_since);
    let minalign = if bounces_small || !architecture.bounces_small() { MINALIGN } else { architecture.dma_minalign };
    Ok(KernelFacts {
        release: if survey.release.is_empty() { "(imported)" } else { &survey.release }.to_owned(),
        machine: machine.to_owned(),
        page_size: PAGE_SIZE,
        possible_cpus: cpus,
        cache_line_size: args.cache_line_size.unwrap_or(LINE_SIZE),
        cache_line_source: source(args.cache_line_size),
        dma_minalign: architecture.dma_minalign,
        kmalloc_minalign: args.minalign.unwrap_or(minalign),
        kmalloc_minalign_source: source(args.minalign),
        bounce_unaligned_kmalloc: bounces_small,
        pool: PoolFacts { slots, areas: cpus.next_power_of_two(), ..PoolFacts::default() },
        ..KernelFacts::default()
    })
}

/// The kernel and the devices of a capture.
fn like(capture: &Path) -> Result<(KernelFacts, Vec<Device>)> {
    let mut reader = Reader::open(capture)?;
    let (mut kernel, mut devices) = (None, Vec::new());
    while let Some(item) = reader.next_item().with_context(|| capture.display().to_string())? {
        match item {
            Item::Start(start) => kernel = Some(start.kernel),
            Item::Device(device) => devices.push(device),
            _ => {}
        }
    }
    let mut kernel = kernel.with_context(|| format!("{} has no beginning", capture.display()))?;
    // Of that recording, and not of this trace.
    (kernel.pool.used_at_start, kernel.pool.hiwater_reset, kernel.linear_map) = (0, false, None);
    Ok((kernel, devices))
}
