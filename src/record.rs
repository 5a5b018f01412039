//! `bouncescope record`: the running kernel into a capture file.

mod boot_trace;
mod capture;
mod command;
mod finish;
mod flight;
mod labels;

use std::{
    ffi::OsString,
    io::IsTerminal,
    ops::RangeInclusive,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::sleep;
use tracer::{
    capture::objects::TICK_NS,
    live::{MapEntries, ObjectRings, Options, Places, Session, record as recorded, renounce},
    stream::Streamed,
};

use crate::{
    duration::parse_duration,
    input::say,
    output,
    recording::{Signals, parse_sample, say_not_attached},
};
use boot_trace::{BootTrace, Joining};
use capture::Capture;
use command::Running;
pub(crate) use finish::{MEMFD, RECORDER, holds_recording, records_from_boot};
use labels::Given;

use tracer::size::parse_bytes;

/// Where a capture goes of which nothing is said.
const OUTPUT: &str = "bouncescope.bounce";
/// What a ring may be told to have.
const RING_BYTES: RangeInclusive<u32> = 4096..=1 << 30;

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(after_help = "\
Examples:
  bouncescope record -d 10                    record this system for ten seconds into bouncescope.bounce
  bouncescope record --full -o usb.bounce -- usbreset 1-1
  bouncescope record --mappings written -d 60   enough for every policy, but with more events
  bouncescope record --last 60s --on-message 'swiotlb buffer is full' -o full.bounce
                                              wait for this message, and write the minute before it to a file
  bouncescope verify usb.bounce               compare the prediction with what the kernel did
  bouncescope record --with-boot-trace -d 60  begin with what drivers mapped since boot (see docs/boot.md)
  bouncescope record --finish -o boot.bounce  end and fetch the recording that was begun at boot (init=/usr/bin/bouncescope)

Recording needs root, or CAP_BPF and CAP_PERFMON. A complete capture also needs CAP_SYSLOG (names of call sites), \
CAP_DAC_READ_SEARCH (debugfs, slabinfo) and CAP_SYS_RAWIO (kcore: which objects are mapped). The capture notes what is missing. \
Once the hooks are attached, privileges that are no longer needed are dropped. Recording stops at the end of the duration or \
the command, or at ^C.")]
pub(crate) struct Args {
    /// Capture to write; an existing file is renamed to FILE.old once the new one has begun
    #[arg(short, long, value_name = "FILE", default_value = OUTPUT, value_parser = output::path())]
    output: PathBuf,
    /// Stop after this time: seconds, or with a unit as in 500ms, 5m or 2h
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Stop when the capture reaches this size, such as 64M. It grows a little more until everything is detached
    #[arg(long, value_name = "SIZE", value_parser = parse_max_size)]
    max_size: Option<u64>,
    /// End the recording that began at boot, with bouncescope as the kernel's init (init=/usr/bin/bouncescope), and
    /// write its capture to FILE
    #[arg(long, conflicts_with_all = [
        "duration", "max_size", "full", "mappings", "sample", "exact_times", "ring_size", "map_entries", "btf", "count_tracefs",
        "shrink_caches", "with_boot_trace", "no_addresses", "force_kprobes", "force_fentry", "force_ring_buffers",
        "count_costs", "time_maintenance", "labels", "verbose", "command",
    ])]
    finish: bool,
    /// Begin with what the kernel itself has traced since boot (`trace_event=dma:*,swiotlb:* trace_clock=mono` on its command
    /// line): the mappings that drivers made while they found their devices. Takes the events out of the kernel's buffer
    #[arg(long)]
    with_boot_trace: bool,
    /// Stream every mapping, allocation and free. Without it, only mappings that may bounce and a sample of the objects
    /// are streamed, with exact counts
    #[arg(long)]
    full: bool,
    /// Stream these mappings: `small`, those that the kernel's rule may bounce with any line size; `written`, those
    /// that any rule of `bouncescope policies` looks at; or `all`. Refused mappings, and devices that bounce for a
    /// reason other than length, are always streamed. All mappings are counted by length in the kernel
    #[arg(long, value_name = "WHICH", default_value = "small", value_parser = parse_streamed, conflicts_with = "full")]
    mappings: Streamed,
    /// Stream one allocation in N (a power of two), chosen by its address, and its free; 0 streams none and does not
    /// trace frees
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_sample, conflicts_with = "full")]
    sample: u64,
    /// Keep the times of allocations and frees to the nanosecond, which takes about 0.5 bytes more for each. Without it,
    /// they are rounded down to 16 ns; those of mappings are always exact
    #[arg(long)]
    exact_times: bool,
    /// Size of the ring between kernel and recorder, such as 8M. Objects have rings of their own on each CPU. With --full
    /// or --sample 1, these together are at most as large as this ring; with any other sample, a sixteenth of it
    #[arg(short = 'm', long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_bytes)]
    ring_size: u32,
    /// Numbers of entries in the BPF programs' maps [defaults:
    /// sites=16384,devices=1024,calls=4096,lengths=4096,lists=4096]
    #[arg(long, value_name = "MAP=N,…")]
    map_entries: Option<MapEntries>,
    /// BTF of this kernel, if it exposes none (/sys/kernel/btf/vmlinux): a raw blob, vmlinux, or an archive of one
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Also count bounces with the tracing file system, as an independent count for `verify`
    #[arg(long)]
    count_tracefs: bool,
    /// Shrink the kmalloc caches (/sys/kernel/slab/*/shrink) before they are counted at the beginning and the end, so
    /// that `stats` compares with an exact count. The CPUs lose the free objects that they had cached
    #[arg(long)]
    shrink_caches: bool,
    /// Say this of the machine in the capture; may be given more than once. For board, soc, build, serial and host, NAME alone
    /// takes what the machine says of itself
    #[arg(long = "label", value_name = "NAME[=VALUE]", value_parser = Given::parse)]
    labels: Vec<Given>,
    /// Replace the kernel's own addresses (code, objects, scatterlists, pages) with pseudonyms in the capture, which
    /// replays the same; physical and DMA addresses stay
    #[arg(long)]
    no_addresses: bool,
    /// Probe functions even where the kernel has events for the same purpose, as on a kernel without them; for testing
    #[arg(long, hide_short_help = true, conflicts_with = "force_fentry")]
    force_kprobes: bool,
    /// Use fentry and fexit where there are programs for them, as on a kernel without kprobes; for testing
    #[arg(long, hide_short_help = true)]
    force_fentry: bool,
    /// Send objects through the kernel's ring buffers, as where its arrays can't be mapped; for testing
    #[arg(long, hide_short_help = true)]
    force_ring_buffers: bool,
    /// Let the kernel count the programs' runs and time throughout, not only in the first quarter of a second. Each run
    /// then takes longer, those of kmalloc and kfree about twice as long
    #[arg(long)]
    count_costs: bool,
    /// Time cache maintenance (`arch_sync_dma_for_device()`, `arch_sync_dma_for_cpu()`) by length. `stats` and `replay`
    /// put it beside the time of copying. Non-coherent devices need it for every mapping, so this costs more than the rest
    #[arg(long)]
    time_maintenance: bool,
    /// Print nothing while recording
    #[arg(short, long)]
    quiet: bool,
    /// Print the BPF programs' debug messages, and the capabilities that are kept
    #[arg(short, long)]
    verbose: bool,
    /// Command to run; recording stops when it ends
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    #[command(flatten)]
    flight: flight::FlightArgs,
}

impl Args {
    /// Nothing is said of where the capture goes, or of a command.
    pub(crate) fn is_plain(&self) -> bool {
        self.output == Path::new(OUTPUT) && !self.finish && self.command.is_empty()
    }

    /// Ends a recording of which neither is said at so much time and size, and any at `most` bytes.
    pub(crate) fn bound(&mut self, longest: Duration, largest: u64, most: u64) {
        self.duration.get_or_insert(longest);
        self.max_size = Some(self.max_size.unwrap_or(largest).min(most));
    }

    /// The files that are read lie in this directory as they lie in the root.
    pub(crate) fn look_below(&mut self, root: &Path) {
        if let Some(btf) = &mut self.btf {
            *btf = root.join(btf.strip_prefix("/").unwrap_or(btf));
        }
    }

    /// When it ends by itself.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// Bytes of the capture with which it ends.
    pub(crate) fn max_size(&self) -> u64 {
        self.max_size.unwrap_or(u64::MAX)
    }

    /// Bytes of the ring of all that is no object.
    pub(crate) fn ring_size(&self) -> u32 {
        self.ring_size
    }

    /// Takes the largest ring that fits `most` bytes, where it would be larger; never less than the least.
    pub(crate) fn shrink_ring(&mut self, most: u64) {
        let fits = 1 << most.clamp(u64::from(*RING_BYTES.start()), u64::from(*RING_BYTES.end())).ilog2();
        self.ring_size = self.ring_size.min(fits);
    }

    /// What times of objects are rounded down to, ns.
    fn object_tick_ns(&self) -> Option<u32> {
        if self.exact_times { None } else { Some(TICK_NS) }
    }

    fn options(&self) -> Result<Options> {
        Ok(Options {
            allocation_sample: if self.full { 1 } else { self.sample },
            object_tick_ns: self.object_tick_ns(),
            streamed: if self.full { Streamed::All } else { self.mappings },
            ring_bytes: self.ring_size,
            map_entries: self.map_entries.unwrap_or_default(),
            shrink_caches: self.shrink_caches,
            count_tracefs: self.count_tracefs,
            object_rings: if self.force_ring_buffers { ObjectRings::Kernel } else { ObjectRings::Best },
            places: match (self.force_kprobes, self.force_fentry) {
                (true, _) => Places::Kprobes,
                (_, true) => Places::Fentry,
                _ => Places::Best,
            },
            programs_log: self.verbose,
            count_costs: self.count_costs,
            time_maintenance: self.time_maintenance,
            btf: self.btf.clone(),
            labels: labels::all(&self.labels)?,
            // The mark has been kept since boot, as the trace has.
            reset_hiwater: !self.with_boot_trace,
            ..Options::default()
        })
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if args.finish {
        return finish::run(&args.output, args.quiet);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.flight.last {
        Some(last) => runtime.block_on(flight::record(&args, last)),
        None => runtime.block_on(record(args, || {})),
    }
}

/// Records into a file that is open already, by its path among this process's descriptors, and says nothing; `attached` is called when
/// the hooks are attached, with all privileges still.
pub(crate) fn into_memory(args: Args, path: PathBuf, attached: impl FnOnce()) -> Result<()> {
    anyhow::ensure!(
        args.flight.last.is_none(),
        "a recording from boot keeps everything: --last is for one that is started later"
    );
    let args = Args { output: path, quiet: true, ..args };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(args, attached)).map(drop)
}

async fn record(args: Args, attached: impl FnOnce()) -> Result<ExitCode> {
    let inputs: Vec<&Path> = args.btf.iter().map(PathBuf::as_path).collect();
    let file = output::begin_capture(&args.output, &inputs)?;
    let boot_trace = args.with_boot_trace.then(BootTrace::open).transpose()?;
    let mut signals = Signals::new()?;
    let (mut session, start) = Session::start(&args.options()?)?;
    attached();
    if !args.quiet {
        say_not_attached(&start, args.verbose);
    }
    let live = !args.quiet && std::io::stderr().is_terminal();
    // Its thread keeps the privileges of this one until the capture has its name.
    let capture = Capture::new(file, &args, live)?;
    let kept = renounce(!args.command.is_empty()).context("cannot give up capabilities")?;
    if args.verbose {
        say(&format!("capabilities kept: {}\n", if kept.is_empty() { "none".to_owned() } else { format!("{kept:?}") }));
    }
    let mut sink = Joining::new(capture, start, boot_trace, &mut session, args.quiet)?;

    let mut command = Running::start(&args.command)?;
    let full = sink.capture().full();
    let ends = async {
        tokio::select! {
            ended = command.ended() => ended.map(Some),
            () = until(args.duration) => Ok(None),
            () = signals.end() => Ok(None),
            () = full => Ok(None),
        }
    };
    let status = recorded(&mut session, &mut sink, ends).await??;
    let summary = sink.close(session.stop()?)?;
    if !args.quiet {
        say(&summary.text(&args.output));
    }
    Ok(exit_code(status))
}

async fn until(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// The command's own exit code, as `perf record` does it; 128 + signal when one ended it.
fn exit_code(status: Option<ExitStatus>) -> ExitCode {
    let Some(status) = status else { return ExitCode::SUCCESS };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(code as u8)
}

fn parse_streamed(text: &str) -> Result<Streamed, String> {
    let chosen = Streamed::ALL.into_iter().find(|streamed| streamed.name() == text);
    chosen.ok_or_else(|| "must be small, written or all".to_owned())
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    let bytes = u32::try_from(bytes).ok().filter(|bytes| RING_BYTES.contains(bytes));
    bytes.ok_or_else(|| "must be between 4K and 1G".to_owned())
}

fn parse_max_size(text: &str) -> Result<u64, String> {
    /// What any capture begins with takes a few KiB.
    const LEAST: u64 = 64 << 10;
    parse_bytes(text).and_then(|bytes| if bytes < LEAST { Err("must be at least 64K".to_owned()) } else { Ok(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_that_the_help_names_is_the_default() {
        assert_eq!(parse_ring_bytes("8M"), Ok(Options::default().ring_bytes));
    }
}
