//! `record` on this machine's own kernel. Needs root, BPF and tracefs, and so is ignored unless asked for:
//! `cargo test --test live -- --ignored`.
#![cfg(all(target_os = "linux", feature = "live"))]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tracer::{
    capture::Reader,
    event::{Event, Kind, What},
    facts::{Counters, End, SiteCount, SlabSample},
    names::Loss,
    stream::{Gaps, Item, Source, Start},
};

/// Twelve of them are too many for the kernel's on-stack array of 8, so that `writev` kmallocs 12 × 16 bytes.
const IOVECS: usize = 12;
const IOVEC_BYTES: u64 = 16 * IOVECS as u64;

/// How often the storm of known size allocates.
const TIMES: usize = 20_000;

fn bouncescope() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bouncescope"))
}

/// What a capture holds, for tests that look at all of it.
#[derive(Default)]
struct Contents {
    events: Vec<Event>,
    sites: BTreeMap<(u64, u32, u32), SiteCount>,
    counters: Counters,
    slabs: Vec<SlabSample>,
    start: Start,
    end: End,
    ended: bool,
    gaps: Gaps,
}

fn read(path: &Path) -> Contents {
    let mut reader = Reader::open(path).unwrap();
    let mut contents = Contents::default();
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Events(batch) => contents.events.extend(batch.events),
            Item::Sites(sites) => {
                contents.sites.extend(sites.into_iter().map(|s| ((s.call_site, s.bytes_req, s.bytes_alloc), s)));
            }
            Item::Counters(counters) => contents.counters = counters,
            Item::Slab(slab) => contents.slabs.push(slab),
            Item::Start(start) => contents.start = start,
            Item::End(end) => {
                contents.ended = true;
                contents.end = end;
            }
            _ => {}
        }
    }
    contents.gaps = reader.gaps();
    contents
}

/// Waits until the recording has begun: the capture gets its name once everything is attached.
fn wait_for(capture: &Path) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !capture.exists() {
        assert!(Instant::now() < deadline, "no recording began within a minute");
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Writes nothing to /dev/null `times` times, with one kmalloc and one kfree each. Returns the thread that did it.
fn storm(times: usize) -> u32 {
    storm_of(std::iter::repeat_n(IOVECS, times))
}

/// More sizes than the programs have call sites at hand, so that some must make room for others.
fn storm_of_sizes() {
    storm_of((0..4).flat_map(|_| 9..=1024));
}

/// The same, with so many vectors each time.
fn storm_of(counts: impl Iterator<Item = usize>) -> u32 {
    let byte = [0_u8; 1];
    let iovecs = [libc::iovec { iov_base: byte.as_ptr().cast_mut().cast(), iov_len: 1 }; 1024];
    let null = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&null);
    for count in counts {
        // SAFETY: a valid descriptor and valid vectors of valid memory, which the call only reads.
        let written = unsafe { libc::writev(fd, iovecs[..count].as_ptr(), count as i32) };
        assert_eq!(written, count as isize);
    }
    // SAFETY: no precondition.
    unsafe { libc::gettid() as u32 }
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn every_allocation_of_a_known_storm_is_recorded_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("storm.bounce");
    let recording = bouncescope()
        .args(["record", "--full", "-m", "64M", "-d", "4", "-o"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path);
    let task = storm(TIMES);
    assert_ok(&recording.wait_with_output().unwrap());

    let contents = read(&path);
    assert!(contents.ended && contents.gaps.is_empty());
    // The kernel does not run a program inside itself: what an interrupt allocates or frees just then is missed, and
    // counted. What our own task allocates never is.
    let lost: Vec<_> = contents.counters.lost.keys().filter(|loss| !matches!(loss, Loss::Missed(_))).collect();
    assert!(lost.is_empty(), "{:?}", contents.counters.lost);
    let ours = |event: &&Event| {
        event.task == task && matches!(event.what, What::Kmalloc { bytes_req: IOVEC_BYTES, bytes_alloc: 192, .. })
    };
    assert_eq!(contents.events.iter().filter(ours).count(), TIMES);
    let counted: u64 = contents.sites.values().filter(|s| u64::from(s.bytes_req) == IOVEC_BYTES).map(|s| s.count).sum();
    assert!(counted >= TIMES as u64, "{counted}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn what_the_kernel_side_saw_is_in_the_file_or_reported_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny-ring.bounce");
    // A ring far too small for the storm: records must be refused, and every one of them counted.
    let recording = bouncescope()
        .args(["record", "--full", "-m", "4K", "-d", "4", "-q", "-o"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path);
    storm(200_000);
    storm_of_sizes();
    assert_ok(&recording.wait_with_output().unwrap());

    let contents = read(&path);
    let mut recorded: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &contents.events {
        *recorded.entry(event.what.kind().name()).or_default() += 1;
    }
    let mut lost_in_all = 0;
    for kind in ["kmalloc", "kfree"] {
        let seen: u64 = contents.counters.seen[kind].iter().sum();
        let lost: u64 = contents.counters.lost(&format!("ring_full.{kind}").as_str().into());
        assert_eq!(seen, recorded.get(kind).copied().unwrap_or(0) + lost, "{kind}");
        lost_in_all += lost;
    }
    let counted: u64 = contents.sites.values().map(|site| site.count).sum();
    assert_eq!(counted, contents.counters.seen["kmalloc"].iter().sum::<u64>(), "by call site");
    assert!(lost_in_all > 0, "the ring was meant to run full");
}

/// `BOUNCESCOPE_STOPS` says how many recordings: 3 if it is not set.
#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_recorder_that_is_stopped_again_and_again_counts_what_it_missed_to_the_last_record() {
    let times = std::env::var("BOUNCESCOPE_STOPS").map_or(3, |times| times.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for (n, ring) in ["64K", "8M", "1M", "256K"].into_iter().cycle().take(times).enumerate() {
        let path = dir.path().join(format!("{n}.bounce"));
        let sample: &[&str] = if n % 2 == 0 { &["--full"] } else { &["--sample", "2"] };
        let mut command = bouncescope();
        command.args(["record", "-q", "-m", ring, "-o"]).arg(&path).args(sample);
        let mut recording = command.spawn().unwrap();
        wait_for(&path);
        let pid = recording.id() as i32;
        // SAFETY: kill() has no precondition.
        let signal = |signal| assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        let storm = thread::spawn(|| storm(1_000_000));
        for ms in [50, 400, 100, 800, 200] {
            signal(libc::SIGSTOP);
            thread::sleep(Duration::from_millis(ms));
            signal(libc::SIGCONT);
            thread::sleep(Duration::from_millis(100));
        }
        storm.join().unwrap();
        signal(libc::SIGINT);
        assert!(recording.wait().unwrap().success());
        let contents = read(&path);
        assert_complete(&contents);
        let lost = [Kind::Kmalloc, Kind::Kfree].map(|kind| contents.counters.lost(&Loss::RingFull(kind)));
        println!("-m {ring} {}: {} events, {lost:?} refused", sample.join(" "), contents.events.len());
        refused += lost.iter().sum::<u64>();
        if sample == ["--full"] {
            let counted: u64 = contents.sites.values().map(|site| site.count).sum();
            assert_eq!(counted, contents.counters.seen["kmalloc"].iter().sum::<u64>(), "by call site");
        }
        fs::remove_file(path).unwrap();
    }
    assert!(refused > 0, "the rings were meant to run full");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn allocations_that_a_full_map_does_not_count_are_reported_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small-map.bounce");
    let recording = bouncescope()
        .args(["record", "--sample", "0", "--map-entries", "sites=1", "-d", "4", "-o"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path);
    storm_of_sizes();
    let output = recording.wait_with_output().unwrap();
    assert_ok(&output);
    let lost: u64 = read(&path).counters.lost(&"sites_full".into());
    assert!(lost > 0);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(&format!("LOST sites_full: {lost}")), "{told}");
    let nonsense = bouncescope().args(["record", "--map-entries", "ring=8"]).output().unwrap();
    let said = String::from_utf8_lossy(&nonsense.stderr).into_owned();
    assert!(!nonsense.status.success() && said.contains("sites, devices, calls, lengths and lists"), "{said}");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_command_is_recorded_from_its_start_to_its_end_and_its_exit_code_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("command.bounce");
    let output = bouncescope().args(["record", "-o"]).arg(&path).args(["--", "sh", "-c", "exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let contents = read(&path);
    assert!(contents.ended);
    assert!(!contents.sites.is_empty(), "starting a shell allocates");
    let stats = bouncescope().args(["stats", "--json"]).arg(&path).output().unwrap();
    assert_ok(&stats);
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn sigkill_loses_at_most_the_last_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("killed.bounce");
    let mut recording =
        bouncescope().args(["record", "--full", "-m", "64M", "-d", "60", "-q", "-o"]).arg(&path).spawn().unwrap();
    wait_for(&path);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        storm(100);
        thread::sleep(Duration::from_millis(5));
    }
    let killed_ns = monotonic_ns();
    recording.kill().unwrap();
    recording.wait().unwrap();

    let contents = read(&path);
    assert!(!contents.ended && contents.gaps.no_end);
    let last = contents.events.last().expect("events before the kill").time_ns;
    // A second, and what a busy machine adds.
    assert!(killed_ns - last < 1_500_000_000, "the last event is {} ms old", (killed_ns - last) / 1_000_000);
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_full_disk_is_said_in_one_line_and_leaves_a_readable_capture() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| Command::new("mount").args(arguments).arg(dir.path()).status().unwrap().success();
    // Room for what comes before the capture has its name, also while other tests allocate.
    assert!(mount(&["-t", "tmpfs", "-o", "size=1m", "bouncescope-test"]));
    let path = dir.path().join("full.bounce");
    let recording = bouncescope()
        .args(["record", "--full", "--exact-times", "-m", "64M", "-d", "30", "-q", "-o"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path);
    // All alike, these take few bytes each.
    storm(3_000_000);
    let output = recording.wait_with_output().unwrap();
    let contents = read(&path);
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(!contents.ended && contents.gaps.no_end && contents.gaps.damaged_frames == 0, "{:?}", contents.gaps);
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn without_privilege_one_line_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("bouncescope");
    fs::copy(env!("CARGO_BIN_EXE_bouncescope"), &program).unwrap();
    let output = Command::new(&program)
        .args(["record", "-d", "1", "-o"])
        .arg(dir.path().join("no.bounce"))
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("root") && said.contains("CAP_BPF"), "{said}");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn the_programs_own_cost_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cost.bounce");
    let output = bouncescope().args(["record", "-o"]).arg(&path).args(["--", "true"]).output().unwrap();
    assert_ok(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.lines().any(|line| line.trim_start().starts_with("kmalloc ") && line.contains(" ns each")), "{said}");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn the_caches_are_sampled_when_recording_begins_every_ten_seconds_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("slab.bounce");
    let output = bouncescope().args(["record", "-q", "-d", "11.5", "-o"]).arg(&path).output().unwrap();
    assert_ok(&output);
    let contents = read(&path);
    let times: Vec<_> = contents.slabs.iter().map(|slab| slab.time_ns).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert!(times[0] <= contents.start.time_ns && contents.start.time_ns - times[0] < 1_000_000_000, "{times:?}");
    assert!((10_000_000_000..11_500_000_000).contains(&(times[1] - times[0])), "{times:?}");
    assert!(times[2] > times[1] && times[2] <= contents.end.detach_began_ns, "{times:?}");
    for slab in &contents.slabs {
        assert!(slab.caches.iter().any(|cache| cache.name == "kmalloc-64" && cache.objects > 0), "{slab:?}");
    }
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn syncs_are_hooked_where_the_kernel_has_their_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hooks.bounce");
    assert_ok(&bouncescope().args(["record", "-q", "-o"]).arg(&path).args(["--", "true"]).output().unwrap());
    let start = read(&path).start;
    for (subject, event) in [("sync", "dma_sync_single_for_cpu"), ("sync_sg", "dma_sync_sg_for_cpu")] {
        let hook = start.hooks.iter().find(|hook| hook.subject.name() == subject).expect(subject);
        let there = Path::new("/sys/kernel/tracing/events/dma").join(event).exists();
        assert_eq!(hook.attached, there, "{hook:?}");
        assert!(!hook.lost_without.is_empty());
    }
}

fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid clock and a valid place to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[test]
#[ignore = "needs root and BPF"]
fn doctor_sees_the_hooks_fire_that_it_provokes() {
    let output = bouncescope().args(["doctor", "--seconds", "1", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(page["can_trace"], true, "{page:#}");
    assert!(page["here"]["map_bytes"].as_u64() >= Some(8 << 20), "the ring alone has 8 MiB: {page:#}");
    for subject in ["kmalloc", "kfree"] {
        let hooks = page["hooks"].as_array().unwrap();
        let hook = hooks.iter().find(|hook| hook["subject"] == subject).unwrap();
        assert!(hook["provoked"] == true && hook["fired"].as_u64() >= Some(64), "{hook:#}");
    }
}

/// The named lines of a process status, as numbers.
fn capability_sets(status: &str, name: &str) -> Vec<u64> {
    let sets = status.lines().filter_map(|line| line.strip_prefix(name));
    sets.map(|set| u64::from_str_radix(set.trim_start_matches(':').trim(), 16).unwrap()).collect()
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn once_attached_no_thread_of_the_recorder_has_a_capability_and_its_command_has_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("least.bounce");
    // The thread that writes gives up its own once the capture has its name, which is when the first counters are in.
    let script = "sleep 1; cat /proc/$PPID/task/*/status; echo command; cat /proc/self/status";
    let output = bouncescope().args(["record", "-o"]).arg(&path).args(["--", "sh", "-c", script]).output().unwrap();
    assert_ok(&output);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (recorder, command) = said.split_once("command\n").unwrap();
    assert_eq!(capability_sets(recorder, "CapPrm"), [0, 0], "one for each of the two threads");
    assert_ne!(capability_sets(command, "CapEff"), [0]);
    assert!(read(&path).ended);
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn with_capabilities_alone_a_recording_succeeds_and_notes_what_it_could_not_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("bouncescope");
    fs::copy(env!("CARGO_BIN_EXE_bouncescope"), &program).unwrap();
    // CAP_PERFMON and CAP_BPF by number: older setpriv don't know their names.
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps", "-all,+cap_38,+cap_39", "--ambient-caps", "-all,+cap_38,+cap_39"])
        .arg(&program)
        .args(["record", "-d", "1", "--no-addresses", "-o"])
        .arg(dir.path().join("caps.bounce"))
        .output()
        .unwrap();
    assert_ok(&output);
    let contents = read(&dir.path().join("caps.bounce"));
    assert!(contents.ended && contents.sites.values().any(|site| site.count > 0), "{:?}", contents.counters);
    for missing in ["/proc/slabinfo", "call sites have no names", "cost can't be told"] {
        assert!(contents.start.notes.iter().any(|note| note.contains(missing)), "{:?}", contents.start.notes);
    }
    assert!(contents.sites.keys().all(|(call_site, ..)| *call_site < 0xff00_0000_0000_0000), "addresses are hidden");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn recordings_that_fail_take_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("good.bounce");
    assert_ok(&bouncescope().args(["record", "-q", "-o"]).arg(&path).args(["--", "true"]).output().unwrap());
    let good = fs::read(&path).unwrap();
    for _ in 0..2 {
        let output = bouncescope().args(["record", "-q", "-o"]).arg(&path).args(["--", "/no/such"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("cannot run /no/such"), "{said}");
        assert!(fs::read(&path).unwrap() == good && fs::read_dir(dir.path()).unwrap().count() == 1);
    }
    // One that is killed is there, and the good one beside it; the next one keeps both.
    for _ in 0..2 {
        let mut recording = bouncescope().args(["record", "-q", "-o"]).arg(&path).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while read(&path).ended && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        recording.kill().unwrap();
        recording.wait().unwrap();
        assert!(!read(&path).ended);
        assert!(fs::read(dir.path().join("good.bounce.old")).unwrap() == good);
        fs::remove_file(dir.path().join("good.bounce.cut")).ok();
        let again = bouncescope().args(["record", "-q", "-o"]).arg(&path).args(["--", "/no/such"]).output().unwrap();
        assert_eq!(again.status.code(), Some(2));
        fs::rename(&path, dir.path().join("cut")).unwrap();
        fs::write(&path, &good).unwrap();
    }
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_recording_killed_at_any_moment_leaves_the_old_capture_or_a_new_one_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("x.bounce"), dir.path().join("x.bounce.old"));
    let began = Instant::now();
    assert_ok(&bouncescope().args(["record", "-q", "-o"]).arg(&path).args(["--", "true"]).output().unwrap());
    let takes = began.elapsed();
    let good = fs::read(&path).unwrap();
    let moments = 30;
    let mut replaced = 0;
    for moment in 0..moments {
        fs::write(&path, &good).unwrap();
        fs::remove_file(&old).ok();
        let mut recording = bouncescope().args(["record", "-q", "-o"]).arg(&path).spawn().unwrap();
        thread::sleep(takes * moment / moments);
        recording.kill().unwrap();
        recording.wait().unwrap();
        if fs::read(&path).unwrap() != good {
            replaced += 1;
            assert!(fs::read(&old).unwrap() == good, "at {moment} of {moments}");
            assert_eq!(read(&path).gaps.damaged_frames, 0);
        }
    }
    assert!(replaced < moments, "no moment was before the first events");
}

/// Whether a process still runs.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn every_signal_that_asks_for_the_end_ends_a_recording_whole_and_its_command_with_it() {
    let dir = tempfile::tempdir().unwrap();
    for signal in ["HUP", "USR1", "TERM", "INT"] {
        let (path, inner) = (dir.path().join(format!("{signal}.bounce")), dir.path().join(signal));
        let script = format!("sh -c 'echo $$ > {}; sleep 300' & wait", inner.display());
        // Whoever runs the tests under nohup has SIGHUP ignored, and so would the recorder.
        let recording = Command::new("env")
            .args(["--default-signal=HUP,USR1", env!("CARGO_BIN_EXE_bouncescope"), "record", "-o"])
            .arg(&path)
            .args(["--", "sh", "-c", &script])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(&path);
        wait_for(&inner);
        thread::sleep(Duration::from_millis(300));
        let pid = fs::read_to_string(&inner).unwrap().trim().to_owned();
        assert!(runs(&pid));
        let id = recording.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = recording.wait_with_output().unwrap();
        assert_ok(&output);
        assert!(read(&path).ended, "{signal}");
        assert!(!runs(&pid), "{signal}: what the command started goes on");
    }
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_recording_under_nohup_goes_on_after_a_hangup_and_a_full_disk_ends_its_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bounce");
    let recording = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_bouncescope"))
        .args(["record", "-d", "3", "-o"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&path);
    assert!(Command::new("kill").args(["-HUP", &recording.id().to_string()]).status().unwrap().success());
    assert_ok(&recording.wait_with_output().unwrap());
    let contents = read(&path);
    assert!(contents.ended && contents.end.time_ns - contents.start.time_ns > 2_000_000_000);

    let began = Instant::now();
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" record --full -q -o full.bounce -- sleep 300";
    let output =
        Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_bouncescope")]).current_dir(&dir).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(began.elapsed() < Duration::from_secs(200), "the command was left to end by itself");
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn root_writes_no_capture_through_a_link_or_into_a_fifo_of_another_user() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let (victim, link, fifo) = (dir.path().join("victim"), dir.path().join("link"), dir.path().join("fifo"));
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().unwrap().success());
    std::os::unix::fs::chown(&fifo, Some(65534), None).unwrap();
    let reader = Command::new("cat").arg(&fifo).uid(65534).stdout(Stdio::piped()).spawn().unwrap();
    for (path, reason) in [(&link, "it is a link"), (&fifo, "of another user")] {
        let output = bouncescope().args(["record", "-q", "-d", "1", "-o"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(reason), "{said}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(reader.wait_with_output().unwrap().stdout.is_empty());
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn what_the_environment_denies_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let record = |before: &str| {
        let script = format!("{before}; exec \"$0\" record -q -d 1 -o x.bounce");
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_bouncescope")]).current_dir(&dir);
        command.output().unwrap()
    };
    for (before, reason) in [
        ("ulimit -n 64", "no more than 64 are allowed"),
        ("umount -l /proc", "/proc is not mounted"),
        ("mount -t tmpfs none /sys", "/sys is not mounted"),
    ] {
        let output = record(before);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(reason) && said.lines().count() == 1, "{said}");
    }
    assert_ok(&record("ulimit -Sn 64"));
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_time_namespace_costs_no_events() {
    let dir = tempfile::tempdir().unwrap();
    if !Command::new("unshare").args(["-T", "--monotonic", "-1000", "true"]).status().unwrap().success() {
        return;
    }
    for offset in ["-1000", "100000"] {
        let path = dir.path().join("x.bounce");
        let recording = Command::new("unshare")
            .args(["-T", "--monotonic", offset, env!("CARGO_BIN_EXE_bouncescope")])
            .args(["record", "--full", "-m", "64M", "-q", "-d", "3", "-o"])
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(&path);
        let task = storm(TIMES);
        assert_ok(&recording.wait_with_output().unwrap());
        let contents = read(&path);
        let lost: u64 = contents.counters.lost(&"ring_full.kmalloc".into());
        let ours = contents.events.iter().filter(|event| event.task == task).count();
        assert!(lost == 0 && ours >= TIMES, "{offset}: {lost} lost, {ours} recorded");
        let last = contents.events.last().unwrap().time_ns;
        assert!(last.abs_diff(contents.end.time_ns) < 10_000_000_000, "{offset}: one clock");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn a_recorder_left_behind_at_boot_keeps_its_capture_until_it_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("boot.bounce");
    let finish = || bouncescope().args(["record", "--finish", "-o"]).arg(&path).output().unwrap();
    let none = finish();
    assert!(none.status.code() == Some(2) && !path.exists(), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).contains("no recording from boot is running"), "{none:?}");

    // As process 1 starts it.
    let mut recorder = bouncescope()
        .arg0("@bouncescope")
        .args(["-d", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut recorder.stdout.take().unwrap(), &mut said).unwrap();
    assert_eq!(said, "attached\n");
    storm(TIMES);
    thread::sleep(Duration::from_secs(2));
    assert!(recorder.try_wait().unwrap().is_none(), "the recording is over, and the recorder keeps it");
    // Where it cannot be written, nothing is lost.
    let nowhere = bouncescope().args(["record", "--finish", "-o"]).arg(dir.path()).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
    assert!(recorder.try_wait().unwrap().is_none());
    assert_ok(&finish());
    assert!(recorder.wait().unwrap().code().is_none(), "it was killed");

    let contents = read(&path);
    assert!(contents.ended && contents.gaps.is_empty());
    // Counted when it began, from then on in a root of its own, and at the end.
    assert!(contents.slabs.len() >= 2 && contents.slabs.iter().all(|sample| !sample.caches.is_empty()));
    let counted: u64 =
        contents.sites.values().filter(|site| u64::from(site.bytes_req) == IOVEC_BYTES).map(|site| site.count).sum();
    assert!(counted >= TIMES as u64, "{counted}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Files of the flight recorder that have their name.
fn flight_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "bounce")).collect()
}

/// For every kind of event: seen = in the file + refused by a full ring.
fn assert_complete(contents: &Contents) {
    assert!(contents.ended && contents.gaps.is_empty(), "{:?}", contents.gaps);
    assert!(!contents.counters.seen.is_empty());
    let is_event = |kind: &Kind| !matches!(kind, Kind::Device | Kind::Cache);
    for kind in Kind::ALL.into_iter().filter(is_event) {
        let recorded = contents.events.iter().filter(|event| event.what.kind() == kind).count() as u64;
        let seen: u64 = contents.counters.seen.get(kind.name()).into_iter().flatten().sum();
        let refused = contents.counters.lost(&Loss::RingFull(kind));
        assert_eq!(seen, recorded + refused, "{}", kind.name());
    }
}

#[test]
#[ignore = "needs root, BPF and tracefs"]
fn each_file_of_the_flight_recorder_holds_every_record_of_its_time_and_a_kill_leaves_none_broken() {
    use std::io::{BufRead as _, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut whole = 0;
    for round in 0..5 {
        let mut command = bouncescope();
        command.args(["record", "--full", "--last", "2s", "--after", "200ms", "--interval", "1s", "-o"]);
        let mut recorder = command.arg(dir.path().join("f.bounce")).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(recorder.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("keeping the last") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it has ended");
        }
        let pid = recorder.id().to_string();
        let wanted = || Command::new("kill").args(["-USR2", &pid]).status().unwrap();
        let mut storm =
            Command::new("sh").args(["-c", "while :; do true | true; done"]).process_group(0).spawn().unwrap();
        for _ in 0..2 {
            thread::sleep(Duration::from_secs(5));
            wanted();
        }
        // In the middle of the second, a little later each time.
        thread::sleep(Duration::from_millis(230 + 40 * round));
        recorder.kill().unwrap();
        recorder.wait().unwrap();
        Command::new("kill").args(["-9", "--", &format!("-{}", storm.id())]).status().unwrap();
        storm.wait().unwrap();
        for file in flight_files(dir.path()) {
            let contents = read(&file);
            assert_complete(&contents);
            assert!(contents.start.is_window() && !contents.events.is_empty());
            whole += 1;
            fs::remove_file(file).unwrap();
        }
    }
    assert!(whole >= 5, "{whole}");
}

/// Starts a flight recorder with these options, and waits until it keeps what comes. What it says goes on being read.
fn flight_recorder(
    dir: &Path,
    options: &[&str],
) -> (std::process::Child, std::io::BufReader<std::process::ChildStderr>) {
    use std::io::BufRead as _;
    let mut command = bouncescope();
    command.arg("record").args(options).arg("-o").arg(dir.join("f.bounce"));
    let mut recorder = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(recorder.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("keeping the last") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it has ended");
    }
    (recorder, said)
}

#[test]
#[ignore = "needs root, BPF and tracefs"]
fn a_rule_that_breaks_writes_a_file_that_names_it_once() {
    use std::io::Read as _;
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    // Broken at once and for good on the one side, kept on the other.
    let (broken, kept) = ("name = \"all is lost\"\nfigure = \"losses\"\nmin = 1e15", "figure = \"losses\"\nmax = 1e15");
    fs::write(&rules, format!("[[rule]]\n{broken}\n[[rule]]\n{kept}\n")).unwrap();
    let rules = rules.to_str().unwrap();
    let options = ["--last", "2s", "--after", "1s", "--interval", "1s", "--on-rule", rules];
    let (mut recorder, mut said) = flight_recorder(dir.path(), &options);
    // Judged twice at the least.
    thread::sleep(Duration::from_secs(18));
    Command::new("kill").arg(recorder.id().to_string()).status().unwrap();
    assert!(recorder.wait().unwrap().success());
    let mut text = String::new();
    said.read_to_string(&mut text).unwrap();
    let (_, judged) =
        text.split_once("files     written: 1; causes: 1\nrules     evaluations: ").unwrap_or_else(|| panic!("{text}"));
    assert!(judged.starts_with("2; "), "{text}");
    let files: Vec<_> = flight_files(dir.path()).into_iter().filter(|path| !path.ends_with("f.bounce")).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let contents = read(file);
    assert_complete(&contents);
    let is_reason = |note: &String| note.starts_with("written because of a broken rule: all is lost: ");
    assert!(contents.start.notes.iter().any(is_reason), "{:?}", contents.start.notes);
}

#[test]
#[ignore = "needs root, BPF and tracefs, and writes a line to the kernel's log"]
fn a_message_that_is_read_late_makes_a_file_of_the_time_at_which_the_kernel_logged_it() {
    let dir = tempfile::tempdir().unwrap();
    let message = format!("bouncescope: a test of its flight recorder ({})", std::process::id());
    let options = ["--last", "3s", "--after", "1s", "--interval", "1s", "--on-message", &message];
    let (mut recorder, mut said) = flight_recorder(dir.path(), &options);
    let reader = thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let pid = recorder.id().to_string();
    let signal = |name: &str| assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    thread::sleep(Duration::from_secs(7));
    // As on a host that is too busy to run it, for longer than it keeps what nothing asks for.
    signal("-STOP");
    let before_ns = monotonic_ns();
    fs::write("/dev/kmsg", format!("{message}\n")).unwrap();
    let after_ns = monotonic_ns();
    thread::sleep(Duration::from_secs(16));
    signal("-CONT");
    thread::sleep(Duration::from_secs(4));
    signal("-TERM");
    assert!(recorder.wait().unwrap().success());
    reader.join().unwrap().unwrap();
    let files: Vec<_> = flight_files(dir.path()).into_iter().filter(|path| !path.ends_with("f.bounce")).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    let contents = read(file);
    assert_complete(&contents);
    let notes = contents.start.notes.join("\n");
    assert!(notes.contains(&format!("written because of a kernel message: {message}")), "{notes}");
    let late =
        notes.split_once("the kernel had logged the message ").and_then(|(_, rest)| rest.split_once(" s before"));
    let late_s: f64 = late.unwrap_or_else(|| panic!("{notes}")).0.parse().unwrap();
    assert!((16.0..20.0).contains(&late_s), "{notes}");
    let back_s = |time_ns: u64| (time_ns as f64 - contents.start.time_ns as f64) / 1e9;
    assert!(back_s(before_ns) >= 3.0 && back_s(after_ns) < 8.0, "{} s before the message", back_s(before_ns));
    assert!(contents.end.time_ns > after_ns);
}

/// Reads the kernel's log until this message, and gives its time, ns of the log's clock.
fn logged_ns(message: &str) -> u64 {
    use std::{io::Read as _, os::unix::fs::OpenOptionsExt as _};
    let mut log = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").unwrap();
    let mut record = vec![0; 16 << 10];
    loop {
        // What is overwritten while it is read is EPIPE, and the end is EAGAIN.
        let length = match log.read(&mut record) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) => panic!("{message} is not in the log: {error}"),
        };
        let text = String::from_utf8_lossy(&record[..length]);
        if text.contains(message) {
            let time_us: u64 = text.split(',').nth(2).unwrap().parse().unwrap();
            return time_us * 1000;
        }
    }
}

#[test]
#[ignore = "needs root, and writes lines to the kernel's log"]
fn the_clock_of_the_log_is_the_one_that_the_kernel_stamps_messages_with() {
    let clock = tracer::live::LogClock::open().unwrap();
    for round in 0..5 {
        let message = format!("bouncescope: a test of the log's clock ({}, {round})", std::process::id());
        let before = clock.read().unwrap();
        fs::write("/dev/kmsg", format!("{message}\n")).unwrap();
        let after = clock.read().unwrap();
        let logged_ns = logged_ns(&message);
        // The log has whole microseconds.
        assert!(before.log_ns <= logged_ns + 1000 && logged_ns <= after.log_ns, "{before:?} {logged_ns} {after:?}");
        let apart_s = (before.log_ns as f64 - before.after_ns as f64) / 1e9;
        println!(
            "{} ns between two readings of our clock; the log's is {apart_s:.6} s ahead",
            before.after_ns - before.before_ns
        );
        thread::sleep(Duration::from_millis(300));
    }
}

/// Memory of a process, KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPU time of a process so far, user and system.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 1/100 s on every kernel.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

/// What a small board can spare. The limits in docs/performance.md are those of the released program: 24 MiB, and 0.5 % of a core. This one is
/// neither optimised nor small, and other programs allocate meanwhile.
#[test]
#[ignore = "needs root and BPF: cargo test --test live -- --ignored"]
fn an_idle_recorder_takes_little_memory_and_hardly_any_time_and_has_begun_soon() {
    const MOST_KIB: u64 = 24 << 10;
    const WATCHED: Duration = Duration::from_secs(6);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("idle.bounce");
    let mut recording = bouncescope().args(["record", "-q", "-o"]).arg(&path).spawn().unwrap();
    let pid = recording.id();
    wait_for(&path);
    let began = cpu_time(pid);
    // The first second names call sites and is counted.
    thread::sleep(Duration::from_secs(2));
    let (before, from) = (cpu_time(pid), Instant::now());
    thread::sleep(WATCHED);
    let share = cpu_time(pid).saturating_sub(before).as_secs_f64() / from.elapsed().as_secs_f64();
    let private = {
        // The code of this unoptimised program is five times what is released, and counts when it is paged in: all but that.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let rings: u64 = fs::read_to_string(format!("/proc/{pid}/smaps"))
        .unwrap()
        .split("anon_inode:bpf-map")
        .skip(1)
        .filter_map(|map| map.lines().find_map(|line| line.strip_prefix("Rss:")))
        .map(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
        .sum();
    // SAFETY: kill() has no precondition.
    unsafe { libc::kill(pid as i32, libc::SIGINT) };
    assert!(recording.wait().unwrap().success());
    println!("{began:?} to begin, {:.2} % of a core, {private} KiB and {rings} KiB of rings", share * 100.0);
    assert!(began < Duration::from_secs(4), "{began:?} of CPU time to begin");
    assert!(share < 0.03, "{:.2} % of a core", share * 100.0);
    assert!(private + rings < MOST_KIB / 2, "{private} KiB of its own and {rings} KiB of rings");
}

/// `BOUNCESCOPE_FLIGHT_MINUTES` says for how long: 1 if it is not set.
#[test]
#[ignore = "needs root, BPF and tracefs"]
fn under_a_storm_with_ten_triggers_memory_of_the_flight_recorder_is_flat_and_each_file_whole() {
    let minutes = std::env::var("BOUNCESCOPE_FLIGHT_MINUTES").map_or(1, |minutes| minutes.parse().unwrap());
    let between = Duration::from_mins(minutes) / 11;
    let dir = tempfile::tempdir().unwrap();
    let options = ["--full", "--last", "20s", "--after", "2s", "--interval", "1s", "--memory", "8M", "--keep", "20"];
    let (mut recorder, mut said) = flight_recorder(dir.path(), &options);
    let reader = thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    let pid = recorder.id();
    let mut storm = Command::new("sh").args(["-c", "while :; do true | true; done"]).process_group(0).spawn().unwrap();
    let mut most = [0_u64; 2];
    for trigger in 0..10 {
        let until = Instant::now() + between;
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(500));
            // The first three fill what it keeps, and write once at the least.
            let most = &mut most[usize::from(trigger >= 3)];
            *most = (*most).max(resident_kib(pid));
        }
        Command::new("kill").args(["-USR2", &pid.to_string()]).status().unwrap();
    }
    // In the middle of the last.
    thread::sleep(Duration::from_millis(2300));
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    Command::new("kill").args(["-9", "--", &format!("-{}", storm.id())]).status().unwrap();
    storm.wait().unwrap();
    reader.join().unwrap().unwrap();
    let files = flight_files(dir.path());
    for file in &files {
        let contents = read(file);
        assert_complete(&contents);
        assert!(!contents.events.is_empty());
        let refused: u64 = Kind::ALL.map(|kind| contents.counters.lost(&Loss::RingFull(kind))).iter().sum();
        let seconds = contents.end.time_ns.saturating_sub(contents.start.time_ns) as f64 / 1e9;
        println!("{seconds:.1} s: {} events, {refused} refused by a full ring", contents.events.len());
    }
    let [early, late] = most.map(|kib| kib as f64 / 1024.0);
    println!("{minutes} min, {} files; memory at most {early:.0} MiB until the third, {late:.0} MiB then", files.len());
    assert!((9..=10).contains(&files.len()), "{}", files.len());
    assert!(late < early * 1.25, "{early} MiB, then {late} MiB");
}
