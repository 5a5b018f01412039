//! `bouncescope import`: another tool's trace into a capture.

mod file;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail, ensure};
use tracer::{
    capture::Reader,
    event::Kind,
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
        given::from_toml,
    },
    facts::{Device, KernelFacts, PoolFacts},
    model::policy::PoolChoice,
    stream::{Item, Source},
};

use crate::{output, replay::combinations::parse_alignment};
use file::TraceFile;

/// Page size and `ARCH_DMA_MINALIGN` of arm64 (`arch/arm64/include/asm/cache.h`), bytes.
const PAGE_SIZE: u32 = 4096;
const DMA_MINALIGN: u32 = 128;
/// The default pool of arm64 with more than 1 GiB of memory, slots of 2 KiB.
const DEFAULT_SLOTS: u64 = 32768;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  trace-cmd record -e dma -e swiotlb -e kmem:kmalloc -e kmem:kfree -- COMMAND
  trace-cmd report | bouncescope import - -o board.bounce
  perf script -i perf.data > board.txt && bouncescope import board.txt --like other-run.bounce
  cat /sys/kernel/tracing/trace > board.txt        # after enabling the events dma, swiotlb, and kmem/kmalloc, kmem/kfree
  bouncescope import phone.pftrace -o phone.bounce # Perfetto, of the ftrace events dma/*, swiotlb/*, kmem/kmalloc, kmem/kfree
  bouncescope verify board.bounce

A trace tells neither the kernel, nor its pool, nor which devices are coherent. What it shows of devices is taken from it, and a note
in the capture says what was; --like takes kernel and devices from a capture of the same machine, --devices a file such as

  [[device]]
  name = \"1d84000.ufshc\"     # or * for all others
  coherent = false           # also driver, dma-mask, bus-dma-limit, min-align-mask, iommu-granule, untrusted, force-bounce")]
pub(crate) struct Args {
    /// Trace: `trace` or `trace_pipe` of tracefs, trace-cmd report, perf script, or of Perfetto, also gzipped; - for standard input
    trace: PathBuf,
    /// Capture to write; one that exists is renamed to FILE.old
    #[arg(short, long, value_name = "FILE", default_value = "bouncescope.bounce")]
    output: PathBuf,
    /// What is known of the devices: a TOML file
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// Take kernel and devices from this capture of the same machine
    #[arg(long, value_name = "CAPTURE")]
    like: Option<PathBuf>,
    /// Cache line size of the machine, bytes
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_alignment, conflicts_with = "like")]
    cache_line_size: u32,
    /// Alignment of its smallest kmalloc caches, bytes
    #[arg(long, value_name = "BYTES", default_value = "8", value_parser = parse_alignment, conflicts_with = "like")]
    minalign: u32,
    /// Its pool: slots, or a size such as 4M; none for swiotlb=noforce
    #[arg(long, value_name = "SLOTS|SIZE|none", conflicts_with = "like")]
    swiotlb: Option<PoolChoice>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let input = TraceFile::of(&args.trace)?;
    let cannot_read = || format!("cannot read {}", input.name());
    let survey = Survey::of(input.open()?).with_context(cannot_read)?;
    ensure!(
        survey.has(Kind::Map) || survey.has(Kind::MapSg) || survey.has(Kind::Kmalloc),
        "{}: nothing in it is a mapping or an allocation; it has to be a text trace, or one of Perfetto, with the events dma:*, \
         swiotlb:* or kmem:*{}{}",
        input.name(),
        if input.notes.is_empty() { "" } else { "; " },
        input.notes.join("; ")
    );
    let given = match &args.devices {
        Some(file) => {
            let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            from_toml(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?
        }
        None => Vec::new(),
    };
    if let Some(unknown) = given.iter().find(|one| one.name != "*" && !survey.devices.contains_key(&one.name)) {
        let known: Vec<&str> = survey.devices.keys().map(String::as_str).collect();
        bail!("no device {} in this trace; there are: {}", unknown.name, known.join(", "));
    }
    let (kernel, known) = match &args.like {
        Some(capture) => like(capture)?,
        None => (kernel(args, &survey)?, Vec::new()),
    };
    let mut assumed = assume(&survey, kernel, &known, &given);
    assumed.notes.extend(input.notes.iter().cloned());
    for note in &assumed.notes {
        eprintln!("note: {note}");
    }
    let mut writer = output::create(&args.output)?;
    let mut trace = Trace::new(input.open()?, &survey, assumed.kernel, assumed.devices, assumed.notes);
    while let Some(item) = trace.next_item().with_context(cannot_read)? {
        writer.write(&item)?;
    }
    let events: u64 = writer.events_written().values().sum();
    let bytes = writer.bytes_written();
    writer.into_inner()?;
    eprintln!("{}: {events} events, {bytes} bytes", args.output.display());
    if survey.lost > 0 {
        eprintln!("LOST trace_events: {}", survey.lost);
    }
    Ok(ExitCode::SUCCESS)
}

/// As the options have it.
fn kernel(args: &Args, survey: &Survey) -> Result<KernelFacts> {
    let slots = match args.swiotlb {
        None => DEFAULT_SLOTS,
        Some(PoolChoice::Slots(slots)) => slots,
        Some(PoolChoice::None) => 0,
        Some(other) => bail!("--swiotlb {other}: it has to be slots, a size such as 4M, or none"),
    };
    let cpus = u32::from(survey.last_cpu) + 1;
    let told = "told to import".to_owned();
    Ok(KernelFacts {
        release: "(imported)".to_owned(),
        machine: "aarch64".to_owned(),
        page_size: PAGE_SIZE,
        possible_cpus: cpus,
        cache_line_size: args.cache_line_size,
        cache_line_source: told.clone(),
        dma_minalign: DMA_MINALIGN,
        kmalloc_minalign: args.minalign,
        kmalloc_minalign_source: told,
        bounce_unaligned_kmalloc: true,
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
