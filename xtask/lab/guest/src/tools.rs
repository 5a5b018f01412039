//! Other people's tracing tools, each from the packages of one of Debian's suites, recording a workload in a root directory of their
//! own: what they write, and what they print of it, goes to the share.

use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use crate::{process, sysfs, witness, workload};

/// Below it are the roots, one for each suite.
const ROOTS: &str = "/tools";
/// What of the guest is seen in each.
const SHARED: [&str; 4] = ["proc", "sys", "dev", "tmp"];
/// A program of a tool, under emulation.
const LIMIT: Duration = Duration::from_mins(5);
/// Until Perfetto's services have turned the events on.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Events of allocations; not every kernel has each.
const ALLOCATIONS: [&str; 3] = ["kmem/kmalloc", "kmem/kmalloc_node", "kmem/kfree"];
const EVENTS: &str = "/sys/kernel/tracing/events";

/// Each CPU's buffer of trace-cmd and Perfetto, KiB: what happens here while an emulated CPU reads nothing.
const BUFFER_KIB: u32 = 16_384;
/// The same of perf.
const MMAP: &str = "16M";

/// What a recording is made with and leaves.
struct Recording<'a> {
    root: PathBuf,
    name: &'a str,
    workload: &'a [String],
}

/// Makes a recording: its words are the suite, the tool, and the workload. Leaves what the tool wrote as `NAME.dat`, `.data` or
/// `.pftrace`, what it prints as `NAME.txt` and `NAME.raw.txt`, and what it says as `NAME.log`. The tool's exit code.
pub(crate) fn record(name: &str, words: &[String], share: &Path) -> Result<i32, String> {
    let [suite, tool, workload @ ..] = words else { return Err("no suite, tool and workload".into()) };
    let recording = Recording { root: Path::new(ROOTS).join(suite), name, workload };
    prepare(&recording.root)?;
    witness::start()?;
    let quiet = witness::settle(Duration::from_millis(400), Duration::from_secs(15));
    witness::hold()?;
    let _ = fs::remove_file(workload::FACTS);
    let start = Instant::now();
    let (code, suffix) = match tool.as_str() {
        "trace-cmd" => (recording.trace_cmd()?, "dat"),
        "perf" => (recording.perf()?, "data"),
        "perfetto" => (recording.perfetto()?, "pftrace"),
        _ => return Err(format!("no tool {tool}")),
    };
    let seconds = start.elapsed().as_secs_f64();
    witness::save(share, name)?;
    let facts = fs::read_to_string(workload::FACTS).unwrap_or_default();
    let result = format!("exit={code}\nseconds={seconds:.1}\nquiet={quiet}\n{facts}");
    fs::write(share.join(format!("{name}.result")), result)
        .map_err(|error| format!("cannot write what came of it: {error}"))?;
    match tool.as_str() {
        "trace-cmd" => {
            recording.print("txt", &["trace-cmd", "report", "-t", "-i"], suffix)?;
            recording.print("raw.txt", &["trace-cmd", "report", "-t", "-R", "-i"], suffix)?;
        }
        "perf" => recording.print("txt", &["perf", "script", "--ns", "-i"], suffix)?,
        _ => {}
    }
    for suffix in [suffix, "txt", "raw.txt", "log"] {
        let made = recording.file(suffix);
        if Path::new(&made).is_file() {
            fs::copy(&made, share.join(format!("{name}.{suffix}")))
                .map_err(|error| format!("cannot bring {made} out: {error}"))?;
            let _ = fs::remove_file(made);
        }
    }
    Ok(code)
}

/// Lets the programs of a root see the guest's devices and files, and its workloads.
fn prepare(root: &Path) -> Result<(), String> {
    let init = root.join("init");
    if init.exists() {
        return Ok(());
    }
    for name in SHARED {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        fs::create_dir_all(&to).map_err(|error| format!("cannot create {}: {error}", to.display()))?;
        let [source, target] =
            [&from, &to].map(|path| CString::new(path.to_string_lossy().as_bytes()).unwrap_or_default());
        // SAFETY: both paths are NUL-terminated and outlive the call; binding takes neither type nor data.
        let result = unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                std::ptr::null(),
                libc::MS_BIND | libc::MS_REC,
                std::ptr::null(),
            )
        };
        if result != 0 {
            return Err(format!(
                "cannot bind {} to {}: {}",
                from.display(),
                to.display(),
                std::io::Error::last_os_error()
            ));
        }
    }
    fs::hard_link("/init", &init).map_err(|error| format!("cannot create {}: {error}", init.display()))
}

impl Recording<'_> {
    /// A file of the recording, in memory and seen from every root.
    fn file(&self, suffix: &str) -> String {
        format!("/tmp/{}.{suffix}", self.name)
    }

    /// A program of the tool, in its root.
    fn program(&self, name: &str) -> Result<Command, String> {
        let mut command = Command::new(name);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin").env("HOME", "/tmp").env("PERF_PAGER", "cat");
        command.env("PERFETTO_PRODUCER_SOCK_NAME", "/tmp/producer").env("PERFETTO_CONSUMER_SOCK_NAME", "/tmp/consumer");
        let log = fs::OpenOptions::new().append(true).create(true).open(self.file("log"));
        let log = log.map_err(|error| format!("cannot open {}: {error}", self.file("log")))?;
        let output = log.try_clone().map_err(|error| error.to_string())?;
        command.stdout(output).stderr(log).current_dir("/");
        let root = CString::new(self.root.to_string_lossy().as_bytes()).unwrap_or_default();
        // SAFETY: between fork and exec two system calls are made, with strings from before it; nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                if libc::chroot(root.as_ptr()) == 0 && libc::chdir(c"/".as_ptr()) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        Ok(command)
    }

    fn trace_cmd(&self) -> Result<i32, String> {
        let mut command = self.program("trace-cmd")?;
        command.args(["record", "-b", &BUFFER_KIB.to_string()]);
        for event in events() {
            command.args(["-e", event.trim_end_matches("/*").replace('/', ":").as_str()]);
        }
        command.args(["-o", &self.file("dat"), "/init", "workload"]).args(self.workload);
        process::run(&mut command, LIMIT)
    }

    fn perf(&self) -> Result<i32, String> {
        let mut command = self.program("perf")?;
        command.args(["record", "-a", "-m", MMAP, "-o", &self.file("data")]);
        for event in events() {
            command.args(["-e", &event.replace('/', ":")]);
        }
        command.args(["--", "/init", "workload"]).args(self.workload);
        process::run(&mut command, LIMIT)
    }

    /// Perfetto has services of its own, and starts no workload.
    fn perfetto(&self) -> Result<i32, String> {
        let configuration = self.file("cfg");
        let events: String = events().iter().flat_map(|event| ["ftrace_events: \"", event, "\" "]).collect();
        let text = format!(
            "buffers {{ size_kb: 131072 }} write_into_file: true file_write_period_ms: 1000 data_sources {{ config {{ \
             name: \"linux.ftrace\" ftrace_config {{ {events} buffer_size_kb: {BUFFER_KIB} drain_period_ms: 250 }} }} }}"
        );
        fs::write(&configuration, text).map_err(|error| format!("cannot write {configuration}: {error}"))?;
        let start = |command: &mut Command| {
            command.spawn().map(Running).map_err(|error| format!("cannot start {command:?}: {error}"))
        };
        let _service = start(&mut self.program("traced")?)?;
        sysfs::wait_for("Perfetto's service", START_LIMIT, || Path::new("/tmp/consumer").exists().then_some(()))?;
        let _probes = start(&mut self.program("traced_probes")?)?;
        let mut command = self.program("perfetto")?;
        let mut tracing = start(command.args(["--txt", "-c", &configuration, "-o", &self.file("pftrace")]))?;
        let is_on = |file: &str| sysfs::read_number(Path::new("/sys/kernel/tracing").join(file)) == Some(1);
        sysfs::wait_for("Perfetto's tracing", START_LIMIT, || {
            (is_on("events/swiotlb/swiotlb_bounced/enable") && is_on("tracing_on")).then_some(())
        })?;
        let mut workload = self.program("/init")?;
        let worked = process::run(workload.arg("workload").args(self.workload), LIMIT)?;
        Ok(worked.max(tracing.end()?))
    }

    /// What a program prints of what it recorded.
    fn print(&self, suffix: &str, words: &[&str], of: &str) -> Result<(), String> {
        let path = self.file(suffix);
        let file = File::create(&path).map_err(|error| format!("cannot create {path}: {error}"))?;
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let mut command = self.program(program)?;
        let code = process::run(command.args(arguments).arg(self.file(of)).stdout(file), LIMIT)?;
        if code == 0 { Ok(()) } else { Err(format!("{} exits with {code}", words.join(" "))) }
    }
}

/// The events that are wanted of those that this kernel has: every one of the subsystems, as `SUBSYSTEM/*`, and allocations.
fn events() -> Vec<String> {
    let subsystems = ["dma", "swiotlb"].into_iter().filter(|name| Path::new(EVENTS).join(name).is_dir());
    let allocations = ALLOCATIONS.into_iter().filter(|name| Path::new(EVENTS).join(name).is_dir());
    subsystems.map(|name| format!("{name}/*")).chain(allocations.map(str::to_owned)).collect()
}

/// Killed when it is dropped.
struct Running(Child);

impl Running {
    /// Interrupts it as from a keyboard, and waits for its end.
    fn end(&mut self) -> Result<i32, String> {
        // SAFETY: no pointers; it has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let start = Instant::now();
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return status.code().ok_or_else(|| format!("ended by {status}")),
                Ok(None) if start.elapsed() > LIMIT => return Err("does not end".into()),
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(format!("cannot wait for it: {error}")),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
