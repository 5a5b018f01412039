//! `bouncescope record`: the running kernel into a capture file.

use std::{
    ffi::OsString,
    fs,
    io::{IsTerminal, Write as _},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracer::{
    capture,
    facts::{Counters, End, PoolSample},
    live::{Options, Session},
    stream::Item,
};
use tui::live_line::LiveLine;

use crate::units::parse_bytes;

/// How often the ring is emptied when nothing asks for it.
const DRAIN_EVERY: Duration = Duration::from_millis(100);
/// How often counters are read and the file is made to hold everything so far.
const TALLY_EVERY: Duration = Duration::from_millis(500);
/// Batches that may wait for a slow disk, before the ring has to.
const QUEUE: usize = 64;

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(after_help = "\
Examples:
  bouncescope record -d 10                    ten seconds of this system into bouncescope.bounce
  bouncescope record --full -o usb.bounce -- usbreset 1-1
  bouncescope verify usb.bounce               hold the prediction against what the kernel did

Needs root, or CAP_BPF, CAP_PERFMON and CAP_SYSLOG. Stops at the end of the duration or the command, or at ^C.")]
pub(crate) struct Args {
    /// Capture to write; one that exists is renamed to FILE.old
    #[arg(short, long, value_name = "FILE", default_value = "bouncescope.bounce")]
    output: PathBuf,
    /// Stop after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Stream every allocation and free, not only exact counts and a sample of the objects
    #[arg(long)]
    full: bool,
    /// Stream one allocation in N (a power of two; 0 none), chosen by its address
    #[arg(long, value_name = "N", default_value_t = 64, conflicts_with = "full")]
    sample: u64,
    /// Size of the ring between kernel and recorder, such as 8M
    #[arg(short = 'm', long, value_name = "SIZE", default_value = "8M", value_parser = parse_ring_bytes)]
    ring_size: u32,
    /// Let the tracing file system count bounces too, as a second witness for `verify`
    #[arg(long)]
    count_tracefs: bool,
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
        ring_bytes: args.ring_size,
        count_tracefs: args.count_tracefs,
        programs_log: args.verbose,
        recorder: std::env::args().collect::<Vec<_>>().join(" "),
    };
    let (mut session, start) = Session::start(&options)?;
    if !args.quiet {
        for hook in start.hooks.iter().filter(|hook| !hook.attached) {
            eprintln!("not attached: {}: {} (lost without it: {})", hook.subject, hook.why_not, hook.lost_without);
        }
    }
    let mut sink = Sink::open(&args.output)?;
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
                    eprint!("\r\x1b[K{}", sink.line.render(sink.now_ns));
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
        let (items, _more) = session.drain();
        sink.take_all(items)?;
    }
    sink.take_all(session.stop()?)?;
    if live {
        eprintln!("\r\x1b[K");
    }
    let summary = sink.close()?;
    if !args.quiet {
        eprint!("{}", summary.text(&args.output)?);
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

/// Where items go: a thread that compresses and writes, so that the ring is emptied meanwhile.
struct Sink {
    queue: SyncSender<Work>,
    writer: JoinHandle<Result<u64>>,
    line: LiveLine,
    now_ns: u64,
    last_counters: Option<Counters>,
    last_pool: Option<PoolSample>,
    hiwater_reset: bool,
    end: Option<End>,
}

enum Work {
    Write(Item),
    Flush,
}

impl Sink {
    fn open(path: &Path) -> Result<Self> {
        // Not a device such as /dev/null, nor what a link points to.
        if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
            let mut old = path.as_os_str().to_owned();
            old.push(".old");
            fs::rename(path, &old).with_context(|| format!("cannot rename {} to make room", path.display()))?;
        }
        let file = capture::create(path)?;
        let (queue, work) = sync_channel(QUEUE);
        let writer = thread::Builder::new().name("capture".into()).spawn(move || write_all(file, &work))?;
        Ok(Self {
            queue,
            writer,
            line: LiveLine::default(),
            now_ns: 0,
            last_counters: None,
            last_pool: None,
            hiwater_reset: false,
            end: None,
        })
    }

    fn take_all(&mut self, items: Vec<Item>) -> Result<()> {
        items.into_iter().try_for_each(|item| self.take(item))
    }

    fn take(&mut self, item: Item) -> Result<()> {
        self.line.observe(&item);
        match &item {
            Item::Start(start) => self.hiwater_reset = start.kernel.pool.hiwater_reset,
            Item::Pool(sample) => self.last_pool = Some(*sample),
            Item::Counters(counters) => {
                self.now_ns = counters.time_ns;
                self.last_counters = Some(counters.clone());
            }
            Item::End(end) => self.end = Some(end.clone()),
            _ => {}
        }
        self.send(Work::Write(item))
    }

    fn flush(&self) -> Result<()> {
        self.send(Work::Flush)
    }

    /// The writer only goes away when it failed; its own error comes from [`Sink::close`], at once.
    fn send(&self, work: Work) -> Result<()> {
        if self.queue.send(work).is_err() {
            bail!("the capture can no longer be written (disk full?); what was written until now is readable");
        }
        Ok(())
    }

    fn close(self) -> Result<Summary> {
        drop(self.queue);
        let bytes = match self.writer.join() {
            Ok(written) => written?,
            Err(_) => bail!("the thread that writes the capture panicked"),
        };
        Ok(Summary {
            bytes,
            line: self.line,
            counters: self.last_counters.unwrap_or_default(),
            pool: self.last_pool,
            hiwater_reset: self.hiwater_reset,
            end: self.end.unwrap_or_default(),
        })
    }
}

fn write_all(mut file: capture::FileWriter, work: &Receiver<Work>) -> Result<u64> {
    for work in work {
        match work {
            Work::Write(item) => file.write(&item)?,
            Work::Flush => file.flush()?,
        }
    }
    file.flush()?;
    Ok(file.bytes_written())
}

/// What is said at the end.
struct Summary {
    bytes: u64,
    line: LiveLine,
    counters: Counters,
    pool: Option<PoolSample>,
    hiwater_reset: bool,
    end: End,
}

impl Summary {
    fn text(&self, path: &Path) -> Result<String> {
        let mut text = Vec::new();
        let totals = self.line.totals();
        writeln!(text, "{}: {} events, {} bytes", path.display(), totals.events, self.bytes)?;
        writeln!(
            text,
            "mappings {}, refused {}, bounces {}, predicted in the kernel for kmalloc alignment {}",
            totals.mappings, totals.refused, totals.bounces, self.counters.predicted
        )?;
        if let Some(pool) = self.pool {
            write!(text, "pool {} slots, {} in use", pool.slots, pool.used_slots)?;
            if let Some(hiwater) = pool.hiwater_slots.filter(|_| self.hiwater_reset) {
                write!(text, ", at most {hiwater}")?;
            }
            writeln!(text)?;
        }
        if self.counters.lost.is_empty() {
            writeln!(text, "nothing lost")?;
        }
        for (name, values) in &self.counters.lost {
            writeln!(text, "LOST {name}: {} (per CPU {values:?})", values.iter().sum::<u64>())?;
        }
        writeln!(text, "own cost: recorder {:.3} s of CPU time", self.end.recorder_cpu_ns as f64 / 1e9)?;
        for program in &self.end.programs {
            let each = program.run_time_ns as f64 / program.run_cnt.max(1) as f64;
            writeln!(text, "  {:16} {:>10} runs, {each:.0} ns each", program.name, program.run_cnt)?;
        }
        Ok(String::from_utf8(text)?)
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be more than 0 seconds".to_owned())
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    let bytes = parse_bytes(text)?;
    if !(4096..=1 << 30).contains(&bytes) {
        return Err("must be between 4K and 1G".to_owned());
    }
    Ok(bytes as u32)
}
