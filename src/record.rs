//! `bouncescope record`: the running kernel into a capture file.

mod capture;
mod command;

use std::{
    ffi::OsString,
    io::IsTerminal,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::time::sleep;
use tracer::{
    live::{MapEntries, Options, Places, Session, record as recorded, renounce},
    stream::{Item, Streamed},
};

use crate::{
    input::say,
    output,
    recording::{Signals, parse_sample, say_not_attached},
};
use capture::Capture;
use command::Running;

use tracer::size::parse_bytes;

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
    /// Capture to write; one that exists is renamed to FILE.old once the new one has begun
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
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_sample, conflicts_with = "full")]
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

impl Args {
    fn options(&self) -> Options {
        Options {
            allocation_sample: if self.full { 1 } else { self.sample },
            streamed: if self.full { Streamed::All } else { self.mappings },
            ring_bytes: self.ring_size,
            map_entries: self.map_entries.unwrap_or_default(),
            shrink_caches: self.shrink_caches,
            count_tracefs: self.count_tracefs,
            places: match (self.force_kprobes, self.force_fentry) {
                (true, _) => Places::Kprobes,
                (_, true) => Places::Fentry,
                _ => Places::Best,
            },
            programs_log: self.verbose,
            count_costs: self.count_costs,
            btf: self.btf.clone(),
            ..Options::default()
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(args))
}

async fn record(args: Args) -> Result<ExitCode> {
    let inputs: Vec<&Path> = args.btf.iter().map(PathBuf::as_path).collect();
    let file = output::begin_capture(&args.output, &inputs)?;
    let mut signals = Signals::new()?;
    let (mut session, start) = Session::start(&args.options())?;
    if !args.quiet {
        say_not_attached(&start);
    }
    let live = !args.quiet && std::io::stderr().is_terminal();
    // Its thread keeps the privileges of this one until the capture has its name.
    let mut capture = Capture::new(file, &args, live)?;
    let kept = renounce(!args.command.is_empty()).context("cannot give up capabilities")?;
    if args.verbose {
        say(&format!("capabilities kept: {}\n", if kept.is_empty() { "none".to_owned() } else { format!("{kept:?}") }));
    }
    capture.write(Item::Start(start))?;

    let mut command = Running::start(&args.command)?;
    let ends = async {
        tokio::select! {
            ended = command.ended() => ended.map(Some),
            () = until(args.duration) => Ok(None),
            () = signals.end() => Ok(None),
        }
    };
    let status = recorded(&mut session, &mut capture, ends).await??;
    capture.write_all(session.stop()?)?;
    let summary = capture.close()?;
    if !args.quiet {
        say(&summary.text(&args.output)?);
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

fn parse_seconds(text: &str) -> Result<Duration, String> {
    /// A hundred years; tokio's clock ends sooner than a Duration does.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds > LONGEST {
        return Err("too long; without this option a recording goes on until it is ended".to_owned());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_more_than_nothing_and_less_than_for_ever() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(["0", "-1", "nan"].iter().all(|text| parse_seconds(text).unwrap_err().contains("more than 0")));
        assert!(["inf", "1e300", "1e10"].iter().all(|text| parse_seconds(text).unwrap_err().contains("too long")));
    }

    #[test]
    fn the_ring_that_the_help_names_is_the_default() {
        assert_eq!(parse_ring_bytes("8M"), Ok(Options::default().ring_bytes));
    }
}
