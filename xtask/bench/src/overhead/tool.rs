//! What is measured: each tool, how it is started around or beside the storm, and what it has of it afterwards.

use std::{
    ffi::{CStr, OsString},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tracer_ebpf::record::Kind;

use super::{
    capture,
    counts::{counted, numbers_after},
    floor::{Count, Floor},
    ftrace::Instance,
    kept::Kept,
    storm::Storm,
};

/// How long a tool that cannot start the storm itself has to begin.
const SETTLE: Duration = Duration::from_secs(3);

/// What traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    None,
    FloorKmalloc,
    Floor,
    RecordCounts,
    Record,
    RecordFull,
    Top,
    Count,
    BpftraceCount,
    BpftraceSizes,
    BpftraceHistogram,
    FtraceText,
    Perf,
}

impl Tool {
    pub(super) const ALL: [Self; 13] = [
        Self::None,
        Self::FloorKmalloc,
        Self::Floor,
        Self::RecordCounts,
        Self::Record,
        Self::RecordFull,
        Self::Top,
        Self::Count,
        Self::BpftraceCount,
        Self::BpftraceSizes,
        Self::BpftraceHistogram,
        Self::FtraceText,
        Self::Perf,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::FloorKmalloc => "an empty program on kmalloc",
            Self::Floor => "empty programs on kmalloc and kfree",
            Self::RecordCounts => "`bouncescope record --sample 0`, which leaves kfree alone",
            Self::Record => "`bouncescope record`",
            Self::RecordFull => "`bouncescope record --full`",
            Self::Top => "`bouncescope top`",
            Self::Count => "a program that counts by call site and size",
            Self::BpftraceCount => "bpftrace: count by call site",
            Self::BpftraceSizes => "bpftrace: count by call site and size",
            Self::BpftraceHistogram => "bpftrace: histogram of sizes by call site",
            Self::FtraceText => "ftrace: kmalloc, kfree read as text",
            Self::Perf => "`perf record` of kmalloc, kfree",
        }
    }

    /// Events that it should have of one allocation and its free.
    pub(super) const fn events_each(self) -> u64 {
        match self {
            Self::None | Self::FloorKmalloc | Self::Floor | Self::Top => 0,
            Self::RecordCounts
            | Self::Record
            | Self::Count
            | Self::BpftraceCount
            | Self::BpftraceSizes
            | Self::BpftraceHistogram => 1,
            Self::RecordFull | Self::FtraceText | Self::Perf => 2,
        }
    }

    const fn script(self) -> &'static str {
        match self {
            Self::BpftraceSizes => "tracepoint:kmem:kmalloc { @[args->call_site, args->bytes_req] = count(); }",
            Self::BpftraceHistogram => "tracepoint:kmem:kmalloc { @[args->call_site] = hist(args->bytes_req); }",
            _ => "tracepoint:kmem:kmalloc { @[args->call_site] = count(); }",
        }
    }

    /// Runs the storm under this tool.
    pub(super) fn run(self, bench: &Bench<'_>) -> Result<(Storm, Kept)> {
        fs::remove_file(bench.result()).ok();
        let kept = match self {
            Self::None => bench.storm(&[]).map(|()| Kept::default()),
            Self::FloorKmalloc => bench.floor(&[c"kmalloc"]),
            Self::Floor => bench.floor(&[c"kmalloc", c"kfree"]),
            Self::RecordCounts => {
                bench.record(&["--sample", "0"])?;
                capture::sites(&bench.trace())
            }
            Self::Record => {
                bench.record(&[])?;
                capture::sites(&bench.trace())
            }
            Self::RecordFull => {
                bench.record(&["--full"])?;
                capture::events(&bench.trace(), &[Kind::Kmalloc, Kind::Kfree])
            }
            Self::Top => bench.top(),
            Self::Count => bench.count(),
            Self::BpftraceCount | Self::BpftraceSizes | Self::BpftraceHistogram => bench.bpftrace(self.script()),
            Self::FtraceText => bench.ftrace(),
            Self::Perf => bench.perf(),
        };
        Ok((Storm::read(&bench.result()).with_context(|| self.name())?, kept.with_context(|| self.name())?))
    }
}

/// Where everything is.
pub(super) struct Bench<'a> {
    /// This program as it is released, which makes the storm.
    pub(super) program: &'a Path,
    pub(super) product: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) seconds: f64,
}

impl Bench<'_> {
    fn result(&self) -> std::path::PathBuf {
        self.dir.join("storm.json")
    }

    fn trace(&self) -> std::path::PathBuf {
        self.dir.join("trace")
    }

    fn storm_command(&self) -> Vec<OsString> {
        let seconds = self.seconds.to_string();
        let arguments = ["storm", "--seconds", &seconds, "--result"].map(OsString::from);
        [self.program.into()].into_iter().chain(arguments).chain([self.result().into()]).collect()
    }

    /// The storm by itself, or as what a tool runs.
    fn storm(&self, around: &[OsString]) -> Result<()> {
        self.run(&[around, &self.storm_command()].concat()).map(drop)
    }

    /// What a command printed; an error when it fails, with what it said.
    fn run(&self, command: &[OsString]) -> Result<String> {
        let (program, arguments) = command.split_first().context("no command")?;
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!("cannot run {}; .ci/install --bench installs what this bench compares with", program.display())
            })?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {}: {said}", program.display(), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &said)
    }

    fn tool(&self, words: &[&str]) -> Result<String> {
        self.run(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn floor(&self, events: &[&CStr]) -> Result<Kept> {
        let _floor = Floor::attach(events)?;
        self.storm(&[]).map(|()| Kept::default())
    }

    fn count(&self) -> Result<Kept> {
        let count = Count::attach()?;
        self.storm(&[])?;
        Ok(Kept { events: Some(count.total()?), ..Kept::default() })
    }

    fn record(&self, options: &[&str]) -> Result<()> {
        let mut command: Vec<OsString> = vec![self.product.into(), "record".into(), "-q".into(), "-o".into()];
        command.push(self.trace().into());
        command.extend(options.iter().map(OsString::from));
        command.push("--".into());
        self.storm(&command)
    }

    /// In a terminal of its own, which it needs.
    fn top(&self) -> Result<Kept> {
        let top = format!("{} top", self.product.display());
        let mut script = Command::new("script");
        script.args(["-qec", &top, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::piped());
        let mut child = Beside::start(&mut script)?;
        thread::sleep(SETTLE);
        child.storm(self)?;
        Ok(Kept::default())
    }

    fn bpftrace(&self, script: &str) -> Result<Kept> {
        let storm = self.storm_command();
        let words = storm.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let text = self.tool(&["bpftrace", "-f", "json", "-e", script, "-c", &words])?;
        // It may end well without having traced anything.
        ensure!(self.result().exists(), "bpftrace did not run the storm: {text}");
        Ok(Kept { events: Some(counted(&text)?), ..Kept::default() })
    }

    fn ftrace(&self) -> Result<Kept> {
        let instance = Instance::make(&["kmem/kmalloc", "kmem/kfree"])?;
        let reader = instance.reader()?;
        let tool = ["--tool".into(), std::process::id().to_string().into()];
        self.run(&[self.storm_command(), tool.to_vec()].concat())?;
        instance.stop()?;
        let bytes = reader.finish()?;
        let (events, lost) = instance.read_and_lost()?;
        Ok(Kept { events: Some(events), bytes: Some(bytes), lost: Some(lost), skipped: 0 })
    }

    fn perf(&self) -> Result<Kept> {
        let trace = self.trace();
        let events = ["perf", "record", "-q", "-a", "-e", "kmem:kmalloc", "-e", "kmem:kfree", "-o"];
        let mut command: Vec<OsString> = events.iter().map(OsString::from).collect();
        command.extend([trace.clone().into(), "--".into()]);
        self.storm(&command)?;
        let text = self.run(&["perf".into(), "report".into(), "--stats".into(), "-i".into(), trace.clone().into()])?;
        let samples = numbers_after(&text, "SAMPLE events:");
        ensure!(samples > 0, "perf report --stats does not say how many samples there are: {text}");
        Ok(Kept { events: Some(samples), bytes: Some(fs::metadata(trace)?.len()), ..Kept::default() })
    }
}

/// A tool that runs beside the storm, and is killed when it is dropped.
struct Beside(Child);

impl Beside {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot run {}", command.get_program().display()))?))
    }

    fn storm(&mut self, bench: &Bench<'_>) -> Result<()> {
        let tool = ["--tool".into(), self.0.id().to_string().into()];
        bench.run(&[bench.storm_command(), tool.to_vec()].concat())?;
        ensure!(self.0.try_wait()?.is_none(), "it ended before the storm did");
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // `script` passes it on to what it runs.
        // SAFETY: kill() has no precondition.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        self.0.wait().ok();
    }
}
