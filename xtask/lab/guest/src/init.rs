//! Process 1 of a guest: mounts, loads the modules that the lab packed, makes the recordings of the script one after
//! the other, and powers off. What the lab has to know goes to the share; the console shows `LAB …` lines to follow.

use std::{
    ffi::CString,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    btf, carry, doctor, from_boot, maintenance, module, pool, process,
    script::{self, Mode, Recording},
    serve::{self, Serve},
    slab, tools, truth, witness, workload,
};

/// Where the host's directory is mounted.
const SHARE: &str = "/host";
/// One recording, the recorder's start and end included.
const RECORDING_LIMIT: Duration = Duration::from_mins(5);
/// One whose workload takes ten minutes.
const LONG_LIMIT: Duration = Duration::from_mins(20);

/// Does everything, and never returns.
pub(crate) fn run() -> ! {
    match boot() {
        Ok(()) => say("LAB end"),
        Err(error) => say(&format!("LAB error {error}")),
    }
    power_off()
}

fn boot() -> Result<(), String> {
    let script = fs::read_to_string("/script").map_err(|error| format!("cannot read /script: {error}"))?;
    let recordings = script::parse(&script)?;
    if recordings.iter().any(|recording| recording.mode.is_from_boot()) {
        from_boot::switch_root()?;
    }
    mount("proc", "/proc", "proc", "")?;
    mount("sysfs", "/sys", "sysfs", "")?;
    mount("devtmpfs", "/dev", "devtmpfs", "")?;
    mount("tmpfs", "/tmp", "tmpfs", "")?;
    mount("debugfs", "/sys/kernel/debug", "debugfs", "")?;
    mount("tracefs", "/sys/kernel/tracing", "tracefs", "")?;
    module::load_all(Path::new("/modules"))?;
    // A board's drivers wait for the recording, and it has no share.
    let board = Path::new(module::LATER).exists();
    if board {
        let _ = fs::create_dir_all(SHARE);
    } else {
        mount("host", SHARE, "9p", "trans=virtio,version=9p2000.L,msize=262144")?;
    }
    if !board && recordings.iter().any(Recording::needs_devices) {
        workload::wait_for_devices()?;
    }
    witness::probe();
    for recording in &recordings {
        say(&format!("LAB start {}", recording.name));
        let start = Instant::now();
        let made = match recording.mode {
            Mode::Truth => truth::make(&recording.name, &recording.workload, Path::new(SHARE)).map(|()| 0),
            Mode::Untrust => truth::load(&recording.workload).map(|()| 0),
            Mode::Doctor => doctor::make(&recording.name, &recording.workload, Path::new(SHARE)),
            Mode::Objects => slab::record(&recording.name, &recording.workload, Path::new(SHARE), RECORDING_LIMIT),
            Mode::Maintenance => maintenance::record(&recording.name, &recording.workload, Path::new(SHARE)),
            Mode::Tool => tools::record(&recording.name, &recording.workload, Path::new(SHARE)),
            Mode::ObjectsFromBoot => {
                slab::finish(&recording.name, &recording.workload, Path::new(SHARE), RECORDING_LIMIT)
            }
            Mode::Record
            | Mode::RecordByKprobes
            | Mode::RecordByFentry
            | Mode::RecordTooSmall
            | Mode::RecordLosing
            | Mode::RecordUndisturbed
            | Mode::RecordByDefault
            | Mode::RecordBesideServe
            | Mode::RecordFlight
            | Mode::RecordFromBoot
            | Mode::RecordWithBootTrace
            | Mode::Bare => record(recording),
            Mode::FailAtBoot => from_boot::failed(&recording.name, Path::new(SHARE)),
        };
        match made {
            Ok(code) => {
                let seconds = start.elapsed().as_secs_f64();
                say(&format!("LAB done {} exit={code} seconds={seconds:.1}", recording.name));
            }
            Err(error) => say(&format!("LAB failed {} {error}", recording.name)),
        }
    }
    if board { carry::out(Path::new(SHARE)) } else { Ok(()) }
}

/// A line that the lab waits for: the kernel's own messages, but for panics, do not come in between, and it is on its way when this
/// returns, even if the machine powers off then.
fn say(line: &str) {
    const LEVEL: &str = "/proc/sys/kernel/printk";
    let levels = fs::read_to_string(LEVEL).unwrap_or_default();
    let _ = fs::write(LEVEL, "1");
    println!("{line}");
    let _ = std::io::stdout().flush();
    // SAFETY: no pointers; waits until the console has sent it.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    if let Some(level) = levels.split_whitespace().next() {
        let _ = fs::write(LEVEL, level);
    }
}

/// A ring and maps that lose something of every kind; entries of functions are kept, and so lost, only where there are probes.
const TOO_SMALL: [&str; 5] =
    ["--force-kprobes", "--ring-size", "4K", "--map-entries", "sites=4,devices=1,calls=1,lengths=1"];

/// Makes one recording and puts capture, counts and `NAME.result` on the share. The exit code of the recorder.
fn record(recording: &Recording) -> Result<i32, String> {
    let name = &recording.name;
    let since_boot = recording.mode == Mode::RecordFromBoot;
    let recorded = recording.mode != Mode::Bare && !since_boot;
    let beside_serve = recording.mode == Mode::RecordBesideServe;
    let serve = beside_serve.then(|| Serve::start(btf::options())).transpose()?;
    witness::start()?;
    let quiet = witness::settle(Duration::from_millis(400), Duration::from_secs(15));
    witness::hold()?;
    let with_trace = recording.mode == Mode::RecordWithBootTrace;
    let traced_to_ns = match recording.mode {
        Mode::RecordFromBoot => from_boot::save_trace(Path::new(SHARE), name)?,
        Mode::RecordWithBootTrace => from_boot::copy_trace(Path::new(SHARE), name)?,
        _ => None,
    };
    // What has been recorded from boot on is compared with what the mark has been since it began.
    if !since_boot && !with_trace {
        pool::reset_hiwater();
    }
    let _ = fs::remove_file(workload::FACTS);
    let used_before = pool::used();

    // The capture is written to memory and copied afterwards, so that the share's own traffic is not in it.
    let capture = format!("/tmp/{name}.bounce");
    let mut command = Command::new(if recorded { "/bin/bouncescope" } else { "/init" });
    let default_capture = format!("/tmp/{name}.default.bounce");
    // By kprobes two recorders would make each other miss too much: while one reads its maps, the other's probes are skipped.
    let both = ["mixed", "programs", "overlaps"];
    let for_both = recording.workload.first().is_some_and(|workload| both.contains(&workload.as_str()));
    let also_by_default = recording.mode == Mode::Record && for_both && witness::has_events();
    if recorded {
        let how: &[&str] = match recording.mode {
            Mode::RecordByKprobes => &["--force-kprobes"],
            Mode::RecordByFentry => &["--force-fentry"],
            Mode::RecordTooSmall => &TOO_SMALL,
            // Lists are kept in a map only where not everything is streamed.
            Mode::RecordLosing => &["--force-kprobes", "--map-entries", "lists=1"],
            Mode::RecordFlight => &["--last", "5s", "--after", "4s", "--on-message", "swiotlb buffer is full"],
            _ => &[],
        };
        command.args(["record", "--label", "board", "--count-costs", "-o", &capture]);
        command.args(with_trace.then_some("--with-boot-trace"));
        // The tracing file system counts a whole recording, not the last seconds of one.
        command.args((recording.mode != Mode::RecordFlight).then_some("--count-tracefs"));
        let everything = !matches!(recording.mode, Mode::RecordLosing | Mode::RecordByDefault);
        command.args(everything.then_some("--full"));
        command.args(btf::options()).args(how).arg("--");
        if also_by_default {
            // The same workload at the same time, so that both must tell the same of it.
            command
                .args(["/bin/bouncescope", "record", "-q", "--count-costs", "-o", &default_capture])
                .args(btf::options())
                .args(how)
                .arg("--");
        }
        command.arg("/init");
    }
    if beside_serve {
        Serve::tell(&mut command);
    }
    if recording.mode == Mode::RecordUndisturbed {
        process::undisturbed(&mut command);
    }
    let start = Instant::now();
    // From before the recorder begins on: it must neither miss a mapping nor have one twice where it takes over.
    let traffic = with_trace.then(|| workload::count_with_traffic(&mut command)).transpose()?;
    let is_long = recording.workload.first().is_some_and(|name| name == workload::LONG_BURST);
    let limit = if is_long { LONG_LIMIT } else { RECORDING_LIMIT };
    let mut code = process::run(command.arg("workload").args(&recording.workload), limit)?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(traffic) = traffic {
        traffic.join().map_err(|_| "the traffic beside the recorder panicked")??;
    }

    let share = Path::new(SHARE);
    drop(serve);
    witness::save(share, name)?;
    if since_boot {
        code = code.max(from_boot::finish(&capture)?);
        from_boot::save_log(share, name)?;
    }
    if recording.mode == Mode::RecordFlight {
        let written = flight_file(name)?;
        fs::rename(&written, &capture).map_err(|error| format!("cannot rename {}: {error}", written.display()))?;
    }
    for (made, file, suffix) in [
        (recorded || since_boot, capture.as_str(), "bounce"),
        (also_by_default, default_capture.as_str(), "default.bounce"),
        (beside_serve, serve::FILES[0], "before.metrics"),
        (beside_serve, serve::FILES[1], "metrics"),
    ] {
        if made {
            fs::copy(file, share.join(format!("{name}.{suffix}")))
                .map_err(|error| format!("cannot bring {file} out: {error}"))?;
            let _ = fs::remove_file(file);
        }
    }
    let mut result = format!("exit={code}\nseconds={seconds:.1}\nquiet={quiet}\n");
    let counters = [
        ("slots", pool::slots()),
        ("traced_to_ns", traced_to_ns),
        ("used_before", used_before),
        ("used_after", pool::used()),
        ("hiwater", pool::hiwater()),
    ];
    for (key, value) in counters.into_iter().filter_map(|(key, value)| Some((key, value?))) {
        let _ = writeln!(result, "{key}={value}");
    }
    result += &fs::read_to_string(workload::FACTS).unwrap_or_default();
    let file = share.join(format!("{name}.result"));
    fs::write(&file, result).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(code)
}

/// The one file that the flight recorder wrote meanwhile.
fn flight_file(name: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir("/tmp").map_err(|error| format!("cannot read /tmp: {error}"))?;
    let is_one = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        file.starts_with(&format!("{name}-")) && file.ends_with("Z.bounce")
    };
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (_, others) => Err(format!("the flight recorder was to write one file, and there are {others} others")),
    }
}

fn mount(source: &str, target: &str, kind: &str, options: &str) -> Result<(), String> {
    let _ = fs::create_dir_all(target);
    let strings = [source, target, kind, options].map(|text| CString::new(text).unwrap_or_default());
    // SAFETY: all four are NUL-terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(strings[0].as_ptr(), strings[1].as_ptr(), strings[2].as_ptr(), 0, strings[3].as_ptr().cast())
    };
    let error = std::io::Error::last_os_error();
    // The kernel mounts devtmpfs by itself where CONFIG_DEVTMPFS_MOUNT applies.
    if result != 0 && error.raw_os_error() != Some(libc::EBUSY) {
        return Err(format!("cannot mount {kind} on {target}: {error}"));
    }
    Ok(())
}

fn power_off() -> ! {
    // SAFETY: sync() and reboot() take no pointers; reboot() with this command does not come back.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    loop {
        std::thread::park();
    }
}
