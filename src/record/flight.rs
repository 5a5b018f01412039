//! `record --last`: the flight recorder. It keeps the last minutes in memory, and writes them to a file when something happens.

mod files;
mod log;
mod ring;
mod rules;
mod triggers;
mod window;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracer::{
    check::Rules,
    facts::PoolSample,
    live::{DRAIN_EVERY, Session, TALLY_EVERY, now_ns, renounce, renounce_unless, ticks},
    pseudonym::Pseudonyms,
    report::bytes,
    size::parse_bytes,
    stream::{Item, Start},
};

use super::{
    Args,
    capture::{QUEUE, Seen},
    command::Running,
    exit_code, until,
};
use crate::{
    duration::parse_duration,
    input::{input_path, say, warn},
    output::{self, suffix_of_old},
    recording::{Signals, say_not_attached},
};
use files::Files;
use log::KernelLog;
use ring::Ring;
use rules::{Broke, Judged, Judging};
use triggers::{Cause, Fullness, Pending, Slots, Triggers, When};
use window::{Request, Window, Written};

/// Every how many readings of the counters what the programs sum up is read as well. A window begins at such a moment.
const SUMS_EVERY: u64 = 4;
/// Between the readings of the counters at which a window ends: longer than a search for slots takes.
const BETWEEN_READINGS: Duration = Duration::from_millis(20);
/// Batches that are taken from the rings at the end of a window, at most: a kernel that fills them as fast as they are emptied must not keep out
/// everything else.
const LAST_BATCHES: usize = 64;
/// Fewer bytes hold hardly a second of a busy system.
const LEAST_MEMORY: u64 = 4 << 20;

/// What the command line says of the flight recorder.
#[derive(clap::Args)]
#[command(next_help_heading = "Flight recorder")]
pub(super) struct FlightArgs {
    /// Keep only the last minutes, in memory. Write them to a file at SIGUSR2 and at what the options below name, and to FILE at the
    /// end. Other files have the time in UTC in their names (bouncescope-20261130-142959Z.bounce)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with_all = [
        "max_size", "finish", "count_tracefs", "shrink_caches", "time_maintenance", "with_boot_trace",
    ])]
    pub(super) last: Option<Duration>,
    /// Record for so long after it happened, before the file is written
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5s", requires = "last")]
    after: Duration,
    /// Write a file when the kernel logs a message with this text, such as 'swiotlb buffer is full'. May be given more than once
    #[arg(long = "on-message", value_name = "TEXT", requires = "last", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    messages: Vec<String>,
    /// Write a file when so many slots of the pool are in use, or this part of it
    #[arg(long = "on-slots", value_name = "N|N%", requires = "last", value_parser = Slots::parse)]
    slots: Option<Slots>,
    /// Write a file when a rule breaks in what is kept: a file of rules as for `check`. They are judged once --last has passed, then
    /// every 10 s, or less often where that would take more than a twentieth of a CPU
    #[arg(long = "on-rule", value_name = "RULES.toml", requires = "last", value_parser = input_path())]
    rules: Option<PathBuf>,
    /// Write no file for what happens so soon after the cause of another file; it is counted
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1m", requires = "last")]
    interval: Duration,
    /// Keep so many files, the latest, and remove older ones of these names
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), requires = "last")]
    keep: u16,
    /// Memory for what is kept. When it is full, files reach back less far, and say so
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_memory, requires = "last")]
    memory: u64,
}

fn parse_memory(text: &str) -> Result<u64, String> {
    parse_bytes(text)
        .and_then(|bytes| if bytes < LEAST_MEMORY { Err("must be at least 4M".to_owned()) } else { Ok(bytes) })
}

/// Records until the end, and writes files meanwhile.
pub(super) async fn record(args: &Args, last: Duration) -> Result<ExitCode> {
    let options = &args.flight;
    let files = Files::new(&args.output, options.keep.into())?;
    let mut signals = Signals::new()?;
    let mut wanted = signal(SignalKind::user_defined2())?;
    let mut log = KernelLog::open(&options.messages)?;
    let recording = args.options()?;
    let rules = options.rules.as_ref().map(|path| rules::read(path, last, recording.allocation_sample)).transpose()?;
    let (mut session, start) = Session::start(&recording)?;
    let mut recorder = Recorder::new(args, start, last, files, rules)?;
    let kept = renounce(!args.command.is_empty()).context("cannot give up capabilities")?;
    if args.verbose {
        say(&format!("capabilities kept: {}\n", if kept.is_empty() { "none".to_owned() } else { format!("{kept:?}") }));
    }
    let mut command = Running::start(&args.command)?;
    let ends = async {
        tokio::select! {
            ended = command.ended() => ended.map(Some),
            () = until(args.duration) => Ok(None),
            () = signals.end() => Ok(None),
        }
    };
    tokio::pin!(ends);
    let (mut drain, mut tally) = (ticks(DRAIN_EVERY), ticks(TALLY_EVERY));
    let status = loop {
        tokio::select! {
            ready = session.ring_fills() => ready?,
            _ = drain.tick() => {}
            _ = tally.tick() => {
                // Before the counters are read, after which what is too old is let go.
                if let Some(log) = &mut log {
                    recorder.logged(log)?;
                }
                recorder.rules_broke()?;
                recorder.count(&mut session)?;
                recorder.write_if_due(&mut session).await?;
            }
            _ = wanted.recv() => recorder.came(Cause::new("signal SIGUSR2".to_owned(), When::at(now_ns())))?,
            ended = &mut ends => break ended?,
        }
        recorder.take(session.drain())?;
    };
    let cpu_ns = session.recorder_cpu_ns();
    recorder.take(session.stop()?)?;
    recorder.finish(cpu_ns)?;
    Ok(exit_code(status))
}

enum Work {
    Items(Vec<Item>),
    /// The counters have been read: with what the programs sum up or without, and the recorder's CPU time.
    Counted(bool, u64),
    /// A file will reach back to this moment, ns.
    Hold(u64),
    Write(Request),
    Finish(Request),
}

/// What the threads share.
#[derive(Debug, Default)]
struct Shared {
    /// A file is being written.
    writing: AtomicBool,
    written: AtomicU64,
    failed: AtomicU64,
    removed: AtomicU64,
}

/// The side of the session: it hands on what comes, and decides when a file is written.
struct Recorder {
    queue: SyncSender<Work>,
    keeper: Option<JoinHandle<Result<u64>>>,
    shared: Arc<Shared>,
    triggers: Triggers,
    fullness: Option<Fullness>,
    /// Rules that break, where there are any.
    broke: Option<Receiver<Broke>>,
    judged: Arc<Judged>,
    pseudonyms: Option<Pseudonyms>,
    seen: Seen,
    last: Duration,
    /// Bytes for what is kept.
    memory: u64,
    readings: u64,
    /// The time of the latest counters, ns.
    counted_ns: u64,
    /// Messages of the kernel that were overwritten before they were read.
    overwritten: u64,
    files: Files,
    quiet: bool,
}

impl Recorder {
    /// For a recording that begins so.
    fn new(args: &Args, start: Start, last: Duration, files: Files, rules: Option<Rules>) -> Result<Self> {
        let options = &args.flight;
        if !args.quiet {
            say_not_attached(&start, args.verbose);
        }
        let mut start = Item::Start(start);
        let mut pseudonyms = args.no_addresses.then(Pseudonyms::default);
        if let Some(pseudonyms) = &mut pseudonyms {
            pseudonyms.hide(&mut start);
        }
        let mut seen = Seen::default();
        seen.item(&start);
        let Item::Start(start) = start else { bail!("a stream begins with its start") };
        let judged = Arc::<Judged>::default();
        let (rules, broke) = rules
            .map(|rules| {
                let (broke, receiver) = mpsc::channel();
                (RuleBook { rules, broke, judged: Arc::clone(&judged), last }, receiver)
            })
            .unzip();
        let start_ns = start.time_ns;
        let ring = Ring::new(start, last + options.after, options.memory)?;
        let (queue, work) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let keeper = Keeper {
            ring,
            files: files.clone(),
            shared: Arc::clone(&shared),
            runs_command: !args.command.is_empty(),
            quiet: args.quiet,
            writer: None,
            start_ns,
            rules,
        };
        let keeper = thread::Builder::new().name("flight".into()).spawn(move || keeper.run(&work))?;
        if !args.quiet {
            let text = begins(options, last, &files);
            say(&text);
        }
        Ok(Self {
            queue,
            keeper: Some(keeper),
            shared,
            triggers: Triggers::new(options.after, options.interval),
            fullness: options.slots.map(Fullness::new),
            broke,
            judged,
            pseudonyms,
            seen,
            last,
            memory: options.memory,
            readings: 0,
            counted_ns: start_ns,
            overwritten: 0,
            files,
            quiet: args.quiet,
        })
    }

    /// Takes what was recorded since the last time.
    fn take(&mut self, mut items: Vec<Item>) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        for item in &mut items {
            if let Some(pseudonyms) = &mut self.pseudonyms {
                pseudonyms.hide(item);
            }
            self.seen.item(item);
            match item {
                Item::Pool(sample) => self.sampled(sample)?,
                Item::Counters(counters) => self.counted_ns = counters.time_ns,
                _ => {}
            }
        }
        self.send(Work::Items(items))
    }

    fn sampled(&mut self, sample: &PoolSample) -> Result<()> {
        match self.fullness.as_mut().and_then(|fullness| fullness.reason(sample)) {
            Some(reason) => self.came(Cause::new(reason, When::at(sample.time_ns))),
            None => Ok(()),
        }
    }

    /// Takes in what the kernel has logged since the last time.
    fn logged(&mut self, log: &mut KernelLog) -> Result<()> {
        log.matches().into_iter().try_for_each(|cause| self.came(cause))?;
        if self.overwritten == 0 && log.overwritten > 0 {
            warn(
                "the kernel overwrote messages before they were read: one that --on-message waits for may have been among them",
            );
        }
        self.overwritten = log.overwritten;
        Ok(())
    }

    /// Takes in which rules have broken since the last time. A file then begins where the window began in which they broke.
    fn rules_broke(&mut self) -> Result<()> {
        let broke: Vec<Broke> = self.broke.iter().flat_map(Receiver::try_iter).collect();
        broke.into_iter().try_for_each(|Broke { end_ns, reason }| self.came(Cause::new(reason, When::at(end_ns))))
    }

    /// Something happened. What its file will reach back to is kept until the file is written.
    fn came(&mut self, cause: Cause) -> Result<()> {
        let before_ns = self.triggers.earliest_ns();
        self.triggers.came(cause);
        if self.triggers.earliest_ns() == before_ns { Ok(()) } else { self.hold() }
    }

    fn hold(&mut self) -> Result<()> {
        match self.triggers.earliest_ns() {
            Some(earliest_ns) => self.send(Work::Hold(self.reaches_to_ns(earliest_ns))),
            None => Ok(()),
        }
    }

    /// How far the file of a cause of that moment reaches back, ns.
    fn reaches_to_ns(&self, cause_ns: u64) -> u64 {
        cause_ns.saturating_sub(self.last.as_nanos() as u64)
    }

    /// Reads the counters.
    fn count(&mut self, session: &mut Session) -> Result<()> {
        let has_sums = self.readings.is_multiple_of(SUMS_EVERY);
        self.read(session, has_sums)?;
        self.readings += 1;
        let has_counters = self.seen.has_pool();
        ensure!(
            self.fullness.is_none() || has_counters,
            "--on-slots: this kernel does not show how many slots are in use (no swiotlb/io_tlb_used in debugfs): mount debugfs if it is not, or leave \
             the option out"
        );
        Ok(())
    }

    fn read(&mut self, session: &mut Session, has_sums: bool) -> Result<()> {
        if has_sums {
            session.read_sums_next();
        }
        self.take(session.tallies()?)?;
        self.send(Work::Counted(has_sums, session.recorder_cpu_ns()))
    }

    /// Writes the file that is due. While another is still being written, it waits.
    async fn write_if_due(&mut self, session: &mut Session) -> Result<()> {
        if self.shared.writing.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(pending) = self.triggers.due(now_ns()) else { return Ok(()) };
        // The end of the window; records that were sent before the last reading come after it.
        for reading in 0..3 {
            self.read(session, reading == 0)?;
            self.take(session.drain())?;
            sleep(BETWEEN_READINGS).await;
        }
        for _ in 0..LAST_BATCHES {
            let items = session.drain();
            let is_last = items.is_empty() || is_later(&items, self.counted_ns);
            self.take(items)?;
            if is_last {
                break;
            }
        }
        self.read(session, false)?;
        let mut request = self.request(Some(pending));
        request.cost = session.cost();
        self.shared.writing.store(true, Ordering::Release);
        self.send(Work::Write(request))?;
        self.hold()
    }

    fn request(&self, pending: Option<Pending>) -> Request {
        let cause_ns = pending.as_ref().map_or(self.counted_ns, |pending| pending.when.earliest_ns);
        let (reasons, mut notes, suppressed) =
            pending.map(|pending| (pending.reasons, pending.notes, pending.suppressed)).unwrap_or_default();
        if suppressed > 0 {
            notes.push(format!(
                "{suppressed} earlier causes made no file: they came too soon after another (--interval)"
            ));
        }
        Request {
            from_ns: self.reaches_to_ns(cause_ns),
            reasons,
            notes,
            memory: self.memory,
            wall_clock_s: wall_clock_s(),
            ..Request::default()
        }
    }

    /// The keeper only goes away when it failed.
    fn send(&mut self, work: Work) -> Result<()> {
        if self.queue.send(work).is_err() {
            self.join()?;
        }
        Ok(())
    }

    fn join(&mut self) -> Result<u64> {
        match self.keeper.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            _ => bail!("the thread that keeps the recording panicked"),
        }
    }

    /// The recording has ended, and everything has been taken.
    fn finish(mut self, cpu_ns: u64) -> Result<()> {
        self.send(Work::Counted(true, cpu_ns))?;
        let pending = self.triggers.take();
        let request = Request { from_ns: self.request(None).from_ns, ..self.request(pending) };
        self.send(Work::Finish(request))?;
        let length = self.join()?;
        if self.quiet {
            return Ok(());
        }
        say(&std::mem::take(&mut self.seen).summary(length).text(self.files.path()));
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = format!("files     written: {}; causes: {}", count(&self.shared.written), self.triggers.all);
        for (number, what) in [
            (self.triggers.all_suppressed, "causes too soon after another (--interval)"),
            (count(&self.shared.failed), "files that could not be written"),
            (count(&self.shared.removed), "older files removed (--keep)"),
            (self.overwritten, "kernel messages overwritten unread (--on-message)"),
        ] {
            if number > 0 {
                text += &format!("; {what}: {number}");
            }
        }
        if self.broke.is_some() {
            let times = count(&self.judged.count);
            let each_ms = count(&self.judged.cpu_ns) as f64 / 1e6 / times.max(1) as f64;
            text += &format!("\nrules     evaluations: {times}; CPU time of each: {each_ms:.0} ms");
        }
        say(&(text + "\n"));
        Ok(())
    }
}

impl Drop for Recorder {
    /// Where the recording failed, what is kept is written all the same.
    fn drop(&mut self) {
        if self.keeper.is_some() {
            let mut request = self.request(None);
            request.notes.push("the recording failed".to_owned());
            self.queue.send(Work::Finish(request)).ok();
            self.join().ok();
        }
    }
}

fn is_later(items: &[Item], time_ns: u64) -> bool {
    let events =
        items.iter().filter_map(|item| if let Item::Events(batch) = item { batch.events.first() } else { None });
    events.map(|event| event.time_ns).any(|event_ns| event_ns > time_ns)
}

fn wall_clock_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is said at the beginning.
fn begins(options: &FlightArgs, last: Duration, files: &Files) -> String {
    let mut causes = vec![format!("SIGUSR2 (kill -USR2 {})", std::process::id())];
    causes.extend(options.messages.iter().map(|text| format!("the kernel logs {text:?}")));
    causes.extend(options.slots.map(|slots| match slots {
        Slots::Number(slots) => format!("{slots} slots are in use"),
        Slots::Percent(percent) => format!("{percent} % of the pool is in use"),
    }));
    causes.extend(options.rules.iter().map(|path| format!("a rule of {} breaks", path.display())));
    format!(
        "keeping the last {} s in memory; they are written when {}, and at the end to {}\n",
        last.as_secs_f64(),
        causes.join(", or "),
        files.path().display()
    )
}

/// Rules, and where to say that one has broken.
struct RuleBook {
    rules: Rules,
    broke: Sender<Broke>,
    judged: Arc<Judged>,
    last: Duration,
}

/// The thread that compresses and keeps what comes.
struct Keeper {
    ring: Ring,
    files: Files,
    shared: Arc<Shared>,
    runs_command: bool,
    quiet: bool,
    writer: Option<JoinHandle<()>>,
    /// When the recording began, ns.
    start_ns: u64,
    rules: Option<RuleBook>,
}

impl Keeper {
    /// Until the recording has ended; the length of the file that was written then, bytes.
    fn run(mut self, work: &Receiver<Work>) -> Result<u64> {
        let can_write = || self.files.try_to_write().is_ok();
        renounce_unless(self.runs_command, can_write).context("cannot give up capabilities")?;
        let rules = self.rules.take();
        let last_ns = rules.as_ref().map_or(0, |rules| rules.last.as_nanos() as u64);
        let start = |book: RuleBook| Judging::start(book.rules, book.broke, book.judged);
        let mut judging = rules.map(start).transpose()?;
        for work in work {
            match work {
                Work::Items(items) => items.into_iter().try_for_each(|item| self.ring.take(item))?,
                Work::Counted(has_sums, cpu_ns) => {
                    self.ring.counted(has_sums, cpu_ns)?;
                    if let Some(judging) = &mut judging {
                        self.judge_if_due(judging, last_ns);
                    }
                }
                Work::Hold(from_ns) => self.ring.hold(Some(from_ns)),
                Work::Write(request) => {
                    self.begin_file(request);
                    self.ring.hold(None);
                }
                Work::Finish(request) => return self.last_file(&request),
            }
        }
        Ok(0)
    }

    /// Has the last minutes judged, once there are that many.
    fn judge_if_due(&self, judging: &mut Judging, last_ns: u64) {
        let from_ns = self.ring.now_ns().saturating_sub(last_ns);
        if from_ns >= self.start_ns && judging.is_due(Instant::now()) {
            judging.judge(Window::new(self.ring.kept(), from_ns), from_ns);
        }
    }

    fn join(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.join().ok();
        }
    }

    /// Writes a file on a thread of its own: what comes meanwhile is kept.
    fn begin_file(&mut self, request: Request) {
        self.join();
        let window = Window::new(self.ring.kept(), request.from_ns);
        let (files, shared, quiet) = (self.files.clone(), Arc::clone(&self.shared), self.quiet);
        let writing = Writing(Arc::clone(&shared));
        let write = move || {
            let _writing = writing;
            write_file(window, &request, &files, &shared, quiet);
        };
        match thread::Builder::new().name("flight-file".into()).spawn(write) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                self.shared.failed.fetch_add(1, Ordering::Relaxed);
                warn(&format!("a file was not written; the recording goes on: cannot start a thread: {error}"));
            }
        }
    }

    fn last_file(&mut self, request: &Request) -> Result<u64> {
        self.join();
        let path = self.files.path();
        let mut file = output::begin_capture(path, &[])?;
        Window::new(self.ring.kept(), request.from_ns).write(request, &mut file)?;
        Ok(file.finish_keeping(suffix_of_old(path))?)
    }
}

/// A file is being written until this is dropped, however that ends.
struct Writing(Arc<Shared>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writing.store(false, Ordering::Release);
    }
}

/// Writes a window to a file of its own. Whatever prevents that, recording goes on.
fn write_file(window: Window, request: &Request, files: &Files, shared: &Shared, quiet: bool) {
    let path = files.name(request.wall_clock_s);
    let write = || -> Result<(Written, u64)> {
        let mut file = output::begin_capture(&path, &[])?;
        let written = window.write(request, &mut file)?;
        Ok((written, file.finish()?))
    };
    match write() {
        Ok((written, length)) => {
            shared.written.fetch_add(1, Ordering::Relaxed);
            shared.removed.fetch_add(files.remove_old(&path) as u64, Ordering::Relaxed);
            if !quiet {
                let seconds = written.end_ns.saturating_sub(written.start_ns) as f64 / 1e9;
                let reasons = request.reasons.join("; ");
                say(&format!(
                    "{}: {seconds:.1} s, {} events, {}, written because of {reasons}\n",
                    path.display(),
                    written.events,
                    bytes(length)
                ));
            }
        }
        Err(error) => {
            shared.failed.fetch_add(1, Ordering::Relaxed);
            warn(&format!("{} was not written; the recording goes on: {error:#}", path.display()));
        }
    }
}
