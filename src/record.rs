//! `bouncescope record`: the running kernel into a capture file.

mod sink;

use std::{
    ffi::OsString,
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracer::{
    facts::Hook,
    live::{MapEntries, Options, Places, Session, renounce},
    pseudonym::Pseudonyms,
    stream::{Item, Streamed},
};

use crate::{input::say, output};
use sink::Sink;

use tracer::size::parse_bytes;

/// How often the ring is emptied when nothing asks for it.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often counters are read and the file is made to hold everything so far.
const TALLY_EVERY: Duration = Duration::from_millis(500);
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(after_help = "\
Examples:
  bouncescope record -d 10                    ten seconds of this system into bouncescope.bounce
  bouncescope record --full -o usb.bounce -- usbreset 1-1
  bouncescope record --mappings written -d 60   for every policy, at the cost of more events
  bouncescope verify usb.bounce               hold the prediction against what the kernel did

Needs root, or CAP_BPF and CAP_PERFMON; and for all that a capture can hold CAP_SYSLOG (names of call sites), \
CAP_DAC_READ_SEARCH (debugfs, slabinfo) and CAP_SYS_RAWIO (kcore: whose objects are mapped). What is missing is noted in the \
capture. Everything that is not needed any more is given up once the hooks are attached. Stops at the end of the duration or \
the command, or at ^C.")]
pub(crate) struct Args {
    /// Capture to write; one that exists is renamed to FILE.old
    #[arg(short, long, value_name = "FILE", default_value = "bouncescope.bounce")]
    output: PathBuf,
    /// Stop after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Stream every mapping, allocation and free, not only what may bounce, exact counts, and a sample of the objects
    #[arg(long)]
    full: bool,
    /// Stream these mappings: `small`, what the kernel's rule may bounce with any line size; `written`, what any rule of
    /// `bouncescope policies` looks at; or `all`. Mappings that fail, and devices that bounce for another reason than length,
    /// are streamed in any case; how many there are of which length is counted in the kernel
    #[arg(long, value_name = "WHICH", default_value = "small", value_parser = parse_streamed, conflicts_with = "full")]
    mappings: Streamed,
    /// Stream one allocation in N (a power of two), chosen by its address, and what frees it; 0 none, and frees are left alone
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "full")]
    sample: u64,
    /// Size of the ring between kernel and recorder, such as 8M; those of the objects, one for each of up to 8 CPUs, share as
    /// much again with --full or --sample 1, and an eighth of it with another sample
    #[arg(short = 'm', long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_bytes)]
    ring_size: u32,
    /// Entries of the programs' maps, those that are to differ from
    /// sites=16384,devices=1024,calls=4096,lengths=4096,lists=4096
    #[arg(long, value_name = "MAP=N,…")]
    map_entries: Option<MapEntries>,
    /// BTF of this very kernel, where it shows none (/sys/kernel/btf/vmlinux): a raw blob, vmlinux, or an archive of one
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Let the tracing file system count bounces too, as a second witness for `verify`
    #[arg(long)]
    count_tracefs: bool,
    /// Shrink the kmalloc caches (/sys/kernel/slab/*/shrink) before they are counted at the beginning and the end, so that
    /// `stats` compares with an exact count; costs the system what its CPUs had at hand
    #[arg(long)]
    shrink_caches: bool,
    /// Give the kernel's own addresses (code, objects, scatterlists, pages) pseudonyms in the capture, which replays the same;
    /// physical and DMA addresses stay
    #[arg(long)]
    no_addresses: bool,
    /// Probe functions even where the kernel has events for the same, as on a kernel without them; for testing
    #[arg(long, hide_short_help = true, conflicts_with = "force_fentry")]
    force_kprobes: bool,
    /// Use fentry and fexit where there are programs for them, as on a kernel without kprobes; for testing
    #[arg(long, hide_short_help = true)]
    force_fentry: bool,
    /// Let the kernel count the programs' runs and time throughout, not only in the first quarter of a second: each run
    /// takes longer for it, those of kmalloc and kfree about twice as long
    #[arg(long)]
    count_costs: bool,
    /// Print nothing while recording
    #[arg(short, long)]
    quiet: bool,
    /// Print the BPF programs' debug messages
    #[arg(short, long)]
    verbose: bool,
    /// Command to run, and to record while it runs
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(args))
}

async fn record(args: Args) -> Result<ExitCode> {
    if !args.full && args.sample != 0 && !args.sample.is_power_of_two() {
        bail!("--sample {} is not a power of two; use 1, 2, 4, … or 0 for none", args.sample);
    }
    let options = Options {
        allocation_sample: if args.full { 1 } else { args.sample },
        streamed: if args.full { Streamed::All } else { args.mappings },
        ring_bytes: args.ring_size,
        map_entries: args.map_entries.unwrap_or_default(),
        shrink_caches: args.shrink_caches,
        count_tracefs: args.count_tracefs,
        places: match (args.force_kprobes, args.force_fentry) {
            (true, _) => Places::Kprobes,
            (_, true) => Places::Fentry,
            _ => Places::Best,
        },
        programs_log: args.verbose,
        count_costs: args.count_costs,
        btf: args.btf,
        recorder: std::env::args().collect::<Vec<_>>().join(" "),
        reset_hiwater: true,
    };
    let (mut session, start) = Session::start(&options)?;
    if !args.quiet {
        for hook in start.hooks.iter().filter(|hook| !hook.attached) {
            let Hook { subject, why_not, lost_without, .. } = hook;
            say(&format!("not attached: {subject}: {why_not} (lost without it: {lost_without})\n"));
        }
    }
    let file = output::create(&args.output)?;
    let kept = renounce(!args.command.is_empty()).context("cannot give up capabilities")?;
    if args.verbose {
        say(&format!("capabilities kept: {}\n", if kept.is_empty() { "none".to_owned() } else { format!("{kept:?}") }));
    }
    let mut sink = Sink::new(file, args.no_addresses.then(Pseudonyms::default))?;
    sink.take(Item::Start(start))?;

    let mut child = spawn(&args.command)?;
    let mut status = None;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut drain = ticks(DRAIN_EVERY);
    let mut tally = ticks(TALLY_EVERY);
    let end = args.duration.map(|duration| Instant::now() + duration);
    let live = !args.quiet && std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            _ = tally.tick() => {
                sink.take_all(session.tallies()?)?;
                sink.flush()?;
                if live {
                    say(&format!("\r\x1b[K{}", sink.line.render(sink.now_ns)));
                }
            }
            ended = wait(&mut child) => {
                status = Some(ended?);
                break;
            }
            () = until(end) => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
        // One batch at a time: a kernel that fills the ring as fast as it is emptied must not keep out the signals.
        sink.take_all(session.drain())?;
    }
    sink.take_all(session.stop()?)?;
    if live {
        say("\r\x1b[K\n");
    }
    let summary = sink.close()?;
    if !args.quiet {
        say(&summary.text(&args.output)?);
    }
    if let Some(mut child) = child.filter(|_| status.is_none()) {
        // Ours to end: it was started for the recording, which is over.
        child.start_kill().ok();
        child.wait().await.ok();
    }
    Ok(exit_code(status))
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn spawn(command: &[OsString]) -> Result<Option<Child>> {
    let Some((program, arguments)) = command.split_first() else { return Ok(None) };
    let child = Command::new(program).args(arguments).spawn();
    Ok(Some(child.with_context(|| format!("cannot run {}", program.display()))?))
}

async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The command's own exit code, as `perf record` does it; 128 + signal when one ended it.
fn exit_code(status: Option<ExitStatus>) -> ExitCode {
    let Some(status) = status else { return ExitCode::SUCCESS };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(code as u8)
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be more than 0 seconds".to_owned())
}

fn parse_streamed(text: &str) -> Result<Streamed, String> {
    let chosen = Streamed::ALL.into_iter().find(|streamed| streamed.name() == text);
    chosen.ok_or_else(|| "must be small, written or all".to_owned())
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    if !(4096..=1 << 30).contains(&bytes) {
        return Err("must be between 4K and 1G".to_owned());
    }
    Ok(bytes as u32)
}
