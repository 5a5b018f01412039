//! `import` as a user runs it. Traces of every kind, and what has to be made of each, are in `tests/import/cases.toml`, the whole answers
//! beside it.

#[path = "golden/file.rs"]
mod golden_file;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use golden_file::compare;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(rename = "why")]
    _why: String,
    trace: String,
    encoding: Option<String>,
    #[serde(default)]
    exit: i32,
    #[serde(default)]
    events: BTreeMap<String, u64>,
    lost: Option<u64>,
    #[serde(default)]
    verify: BTreeMap<String, u64>,
    #[serde(default)]
    says: Vec<String>,
    #[serde(default)]
    says_not: Vec<String>,
    /// Words of `stats`.
    #[serde(default)]
    stats: Vec<String>,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// A case with what the commands make of it.
struct Told {
    case: Case,
    imported: Output,
    /// What `import` says.
    said: String,
    /// `stats --json` and `verify --json`; null where there is no capture.
    json: [Value; 2],
    /// What `stats` and `verify` say.
    text: [String; 2],
}

fn told() -> Vec<Told> {
    let text = fs::read_to_string(directory().join("cases.toml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let told = |case: Case| {
        let bytes = match case.encoding.as_deref() {
            None => case.trace.as_bytes().to_vec(),
            Some("utf-16") => {
                [0xfeff].into_iter().chain(case.trace.encode_utf16()).flat_map(u16::to_le_bytes).collect()
            }
            Some("gzip-cut") => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gzip.write_all(case.trace.as_bytes()).unwrap();
                let mut bytes = gzip.finish().unwrap();
                bytes.truncate(bytes.len() / 2);
                bytes
            }
            Some("zstd") => zstd::encode_all(case.trace.as_bytes(), 1).unwrap(),
            Some(other) => panic!("{}: no encoding {other}", case.name),
        };
        fs::write(dir.path().join("trace"), bytes).unwrap();
        let imported = bouncescope(&["import", "trace", "-o", "x.bounce"], dir.path());
        let said = as_text(&imported.stderr);
        let run = |arguments: [&str; 2], json: &[&str]| {
            let output = bouncescope(&[&arguments[..], json].concat(), dir.path());
            as_text(if output.stdout.is_empty() { &output.stderr } else { &output.stdout })
        };
        let (mut json, mut text) = <([Value; 2], [String; 2])>::default();
        for (n, command) in ["stats", "verify"].into_iter().enumerate().filter(|_| imported.status.success()) {
            json[n] = serde_json::from_str(&run([command, "x.bounce"], &["--json"])).unwrap_or_default();
            text[n] = run([command, "x.bounce"], &[]);
        }
        Told { case, imported, said, json, text }
    };
    toml::from_str::<Cases>(&text).unwrap().case.into_iter().map(told).collect()
}

#[test]
fn each_kind_of_trace_becomes_what_it_shows() {
    for Told { case, imported, said, json: [stats, verify], text } in told() {
        let name = &case.name;
        assert_eq!(imported.status.code(), Some(case.exit), "{name}: {said}");
        let has = |words: &String| words.split('|').any(|word| said.to_lowercase().contains(&word.to_lowercase()));
        for words in &case.says {
            assert!(has(words), "{name} lacks {words:?}:\n{said}");
        }
        for words in &case.says_not {
            assert!(!has(words), "{name} must not say {words:?}:\n{said}");
        }
        if !case.events.is_empty() {
            let events: BTreeMap<String, u64> = serde_json::from_value(stats["events"].clone()).unwrap();
            let seen: BTreeMap<String, u64> = events.into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!(seen, case.events, "{name}: {said}");
        }
        if let Some(lost) = case.lost {
            let losses: BTreeMap<String, Vec<u64>> = serde_json::from_value(stats["losses"].clone()).unwrap();
            assert_eq!(losses.values().flatten().sum::<u64>(), lost, "{name}: {stats}");
        }
        for (figure, expected) in &case.verify {
            assert_eq!(verify[figure].as_u64(), Some(*expected), "{name}: {figure}: {}", text[1]);
        }
        for words in &case.stats {
            assert!(text[0].contains(words), "{name}: stats lacks {words:?}:\n{}", text[0]);
        }
    }
}

#[test]
fn the_answers_are_as_expected() {
    let mut names = vec!["cases.toml".to_owned()];
    for Told { case, said, text: [_, verify], .. } in told() {
        let answer = format!("{said}\n{verify}");
        let file = directory().join(format!("{}.txt", case.name));
        compare(&file, answer).unwrap_or_else(|wrong| panic!("{}: {wrong}", case.name));
        names.push(format!("{}.txt", case.name));
    }
    for file in fs::read_dir(directory()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} belongs to no case");
    }
}

fn bouncescope(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).current_dir(dir).output().unwrap()
}

fn as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `trace-cmd report` prints: a buffer that bounces, one that is too long to, and two lines that are not for us.
const TRACE: &str = "\
cpus=2
   usb-storage-77    [001]    12.000001: swiotlb_bounced:      dev_name: 1-1 dma_mask=ffffffff dev_addr=41008 size=18 NORMAL
   usb-storage-77    [001]    12.000003: dma_map_phys:         1-1 dir=FROM_DEVICE dma_addr=7f000800 size=18 phys_addr=41008 attrs=
   usb-storage-77    [001]    12.000005: dma_map_phys:         1-1 dir=FROM_DEVICE dma_addr=52000 size=512 phys_addr=52000 attrs=
   usb-storage-77    [001]    12.000009: dma_unmap_phys:       1-1 dir=FROM_DEVICE dma_addr=7f000800 size=18 attrs=
   usb-storage-77    [001]    12.000010: sched_switch:         prev_comm=usb-storage
this is no line of a trace
";

#[test]
fn a_trace_becomes_a_capture_that_verifies_and_replays() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("board.txt"), TRACE).unwrap();
    let output = bouncescope(&["import", "board.txt", "-o", "board.bounce", "--swiotlb", "4M"], dir.path());
    let said = as_text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for part in ["1-1: taken as not coherent", "1 line can't be read", "1 line of other events", "4 events"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let verified = bouncescope(&["verify", "board.bounce"], dir.path());
    let told = as_text(&verified.stdout);
    assert!(verified.status.success() && told.contains("\n  bounces              1         1\n"), "{told}");
    assert!(told.contains("note: 1-1: taken as not coherent"), "{told}");
    let replayed = bouncescope(&["replay", "board.bounce", "--policy", "always-small"], dir.path());
    assert!(as_text(&replayed.stdout).contains("pool 2048 slots"), "{}", as_text(&replayed.stdout));
}

/// As a kernel before 6.12 writes it.
#[test]
fn bounces_without_any_mapping_are_no_ok() {
    let dir = tempfile::tempdir().unwrap();
    let bounces: String =
        TRACE.lines().filter(|line| line.contains("swiotlb_bounced")).flat_map(|line| [line, "\n"]).collect();
    fs::write(dir.path().join("board.txt"), bounces).unwrap();
    assert!(bouncescope(&["import", "board.txt"], dir.path()).status.success());
    let replayed = as_text(&bouncescope(&["replay", "bouncescope.bounce"], dir.path()).stdout);
    assert!(replayed.contains("\nCANNOT TELL No mapping was recorded, but bounces were: 1.\n"), "{replayed}");
}

#[test]
fn what_the_user_knows_of_devices_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("board.txt"), TRACE).unwrap();
    fs::write(dir.path().join("devices.toml"), "[[device]]\nname = \"1-1\"\ncoherent = true\n").unwrap();
    let import = |devices: &str| bouncescope(&["import", "board.txt", "--devices", devices], dir.path());
    assert!(import("devices.toml").status.success());
    let verified = bouncescope(&["verify", "bouncescope.bounce"], dir.path());
    assert!(
        as_text(&verified.stdout).contains("\n  bounces              0         1\n"),
        "{}",
        as_text(&verified.stdout)
    );
    fs::write(dir.path().join("wrong.toml"), "[[device]]\nname = \"1-2\"\n").unwrap();
    let wrong = import("wrong.toml");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        as_text(&wrong.stderr).contains("no device 1-2 in this trace; there are: 1-1"),
        "{}",
        as_text(&wrong.stderr)
    );
}

#[test]
fn what_is_no_trace_gets_one_line_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dmesg.txt"), "[    0.000000] Booting Linux\n").unwrap();
    for name in ["dmesg.txt", "gone.txt"] {
        let output = bouncescope(&["import", name], dir.path());
        let said = as_text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(name), "{said}");
    }
    assert!(!dir.path().join("bouncescope.bounce").exists());
}

/// What tracefs of a real arm64 kernel wrote beside a recording of the lab (6.18, `direct`, `hold 100`): 100 buffers of 8 bytes, held.
#[test]
fn a_real_trace_tells_the_bounces_that_the_kernel_counted() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/6.18-direct-hold-100.txt");
    let dir = tempfile::tempdir().unwrap();
    let output = bouncescope(&["import", trace.to_str().unwrap(), "--swiotlb", "1M"], dir.path());
    assert!(output.status.success(), "{}", as_text(&output.stderr));
    let verified = bouncescope(&["verify", "bouncescope.bounce"], dir.path());
    let told = as_text(&verified.stdout);
    assert!(verified.status.success(), "{told}");
    for part in ["All 100 mappings came out as predicted.", "\n  bounces            100       100\n"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// Files of a real kernel beside what their own tools print of them, recorded in a guest with Debian's 6.12 for arm64, trace-cmd 3.1.6 and
/// perf 6.1: `trace-cmd record --file-version 6 (7) -e dma -e swiotlb -e kmem:kmalloc -e kmem:kfree`, with one function in 300 left in
/// `/proc/kallsyms`, and `trace-cmd report -t`; `perf record -a -e 'dma:*' …` and `perf script --ns`. The workload reads from disks
/// of virtio, USB and NVMe, none of them coherent.
const BINARY: [(&str, &str, u64); 3] = [
    ("6.12-trace-cmd-6.dat.xz", "6.12-trace-cmd-6.txt.xz", 2159),
    ("6.12-trace-cmd-7.dat", "6.12-trace-cmd-7.txt.xz", 2038),
    ("6.12-perf.data.xz", "6.12-perf.txt.xz", 5207),
];

#[test]
fn binary_traces_of_a_real_kernel_hold_what_their_own_tools_print_of_them() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    for (binary, text, count) in BINARY {
        let read = |name: &str| {
            let dir = tempfile::tempdir().unwrap();
            let output = bouncescope(&["import", traces.join(name).to_str().unwrap()], dir.path());
            let said = as_text(&output.stderr);
            assert!(output.status.success() && said.contains(&format!("{count} events")), "{name}: {said}");
            assert!(!said.contains("LOST") && !said.contains("can't be read"), "{name}: {said}");
            let run = |arguments: &[&str]| {
                let output = bouncescope(arguments, dir.path());
                assert!(output.status.success(), "{name} {arguments:?}: {}", as_text(&output.stderr));
                output.stdout
            };
            run(&["export", "-o", "tables", "bouncescope.bounce"]);
            let stats: Value = serde_json::from_slice(&run(&["stats", "--json", "bouncescope.bounce"])).unwrap();
            let verify: Value = serde_json::from_slice(&run(&["verify", "--json", "bouncescope.bounce"])).unwrap();
            // But for the first column: these are two captures.
            let table = |table: &str| -> Vec<String> {
                let rows = fs::read_to_string(dir.path().join("tables").join(table)).unwrap();
                rows.lines().map(|row| row.split_once(',').unwrap().1.to_owned()).collect()
            };
            // perf prints names of functions that its file does not have.
            let allocations = if name.contains("perf") { Vec::new() } else { table("allocations.csv") };
            let tables = ["bounces.csv", "devices.csv", "mappings.csv", "segments.csv"].map(table);
            (stats["events"].clone(), verify, tables, allocations)
        };
        let (binary_is, text_is) = (read(binary), read(text));
        assert_eq!(binary_is.0, text_is.0, "{binary}");
        assert_eq!(binary_is.2, text_is.2, "{binary}");
        assert_eq!(binary_is.3, text_is.3, "{binary}");
        let figures =
            |verify: &Value| ["agreements", "disagreements", "bounces_kernel"].map(|name| verify[name].as_u64());
        assert_eq!(figures(&binary_is.1), figures(&text_is.1), "{binary}");
        let [agreements, disagreements, bounces] = figures(&binary_is.1).map(Option::unwrap);
        assert!(agreements > 150 && disagreements == 0 && bounces > 30, "{binary}: {}", binary_is.1);
        assert!(binary_is.2[3].len() > 60, "the lists of {binary} have their buffers");
    }
}

#[test]
fn the_file_says_its_machine_and_standard_input_will_do() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let dir = tempfile::tempdir().unwrap();
    let piped = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .args(["import", "-"])
        .current_dir(dir.path())
        .stdin(fs::File::open(traces.join("6.12-trace-cmd-7.dat")).unwrap())
        .output()
        .unwrap();
    assert!(piped.status.success(), "{}", as_text(&piped.stderr));
    let verified = bouncescope(&["verify", "bouncescope.bounce"], dir.path());
    let told = as_text(&verified.stdout);
    assert!(told.starts_with("aarch64 6.12.117+deb13-arm64, 2 CPUs: "), "{told}");
}

#[test]
fn replay_names_import_for_binary_traces_packed_or_not() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let dir = tempfile::tempdir().unwrap();
    for (name, what) in [
        ("6.12-trace-cmd-6.dat.xz", "a trace.dat of trace-cmd"),
        ("6.12-trace-cmd-7.dat", "a trace.dat of trace-cmd"),
        ("6.12-perf.data.xz", "a perf.data"),
    ] {
        fs::copy(traces.join(name), dir.path().join(name)).unwrap();
        let output = bouncescope(&["replay", name], dir.path());
        let said = as_text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        let expected = format!("{name} is {what}, not a capture; run: bouncescope import {name} -o trace.bounce");
        assert!(said.contains(&expected), "{said}");
    }
}

#[test]
fn a_damaged_binary_trace_keeps_what_is_whole_or_says_in_a_line_what_is_wrong() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/6.12-trace-cmd-7.dat")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let import = |bytes: &[u8]| {
        fs::write(dir.path().join("trace.dat"), bytes).unwrap();
        let output = bouncescope(&["import", "trace.dat"], dir.path());
        (output.status.code(), as_text(&output.stderr))
    };
    // Where the first chunk of CPU 0 begins; what is inside has no checksum.
    let mut damaged = whole.clone();
    damaged[0x3000 + 12] ^= 0xff;
    let (exit, said) = import(&damaged);
    assert_eq!(exit, Some(0), "{said}");
    for words in ["note: 1 chunks of compressed events are damaged, and were left out", "LOST trace_events: 1"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for (bytes, why) in [
        (&whole[..200], "it is cut off"),
        (&whole[..whole.len() - 3000], "it is cut off: version 7 has at its end where its events are"),
        (&b"PERFILE2h\0\0\0"[..], "it is cut off in its header"),
    ] {
        let (exit, said) = import(bytes);
        assert_eq!((exit, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("trace.dat") && said.contains(why), "{said}");
    }
}

#[test]
fn what_other_tools_print_of_a_real_kernel_is_read_to_the_last_line() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let dir = tempfile::tempdir().unwrap();
    for name in ["6.18-x86-trace-cmd-report.txt", "6.18-x86-perf-script.txt"] {
        let trace = fs::read_to_string(traces.join(name)).unwrap();
        let events = trace.lines().filter(|line| !line.starts_with("cpus=")).count();
        let output = bouncescope(&["import", traces.join(name).to_str().unwrap()], dir.path());
        let said = as_text(&output.stderr);
        assert!(output.status.success() && said.contains(&format!("{events} events")), "{name}: {said}");
        assert!(!said.contains("can't be read"), "{name}: {said}");
    }
}

/// What tracefs of a real kernel prints with scheduler, timers, interrupts, system calls, kmalloc and kfree enabled.
#[test]
fn events_that_are_not_wanted_are_passed_over_and_counted() {
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/6.18-x86-everything.txt");
    let dir = tempfile::tempdir().unwrap();
    let output = bouncescope(&["import", trace.to_str().unwrap()], dir.path());
    let said = as_text(&output.stderr);
    assert!(output.status.success() && said.contains(": 44 events, "), "{said}");
    assert!(said.contains("note: 356 lines of other events were passed over\n"), "{said}");
    assert!(!said.contains("LOST") && !said.contains("can't be read"), "{said}");
}

/// A packet of Perfetto with a bundle of one kmalloc of 18 bytes (32 allocated) at 1 s.
const PERFETTO: &[u8] = b"\x0a\x1b\x0a\x19\x08\x01\x12\x15\x08\x80\x94\xeb\xdc\x03\x10\x07\xda\x12\x0a\x08\x20\x10\x12\x18\x80\x20\x28\x80\x10";

#[test]
fn a_trace_of_perfetto_is_known_by_its_content_gzipped_and_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("phone"), PERFETTO).unwrap();
    fs::write(dir.path().join("phone.gz"), gzipped(PERFETTO)).unwrap();
    fs::write(dir.path().join("cut"), [PERFETTO, &PERFETTO[..9]].concat()).unwrap();
    for arguments in [&["import", "phone"][..], &["import", "phone.gz"], &["import", "cut"]] {
        let output = bouncescope(arguments, dir.path());
        let said = as_text(&output.stderr);
        assert!(output.status.success() && said.contains(": 1 events"), "{arguments:?}: {said}");
        assert_eq!(said.contains("cut off: its last 9 bytes"), arguments[1] == "cut", "{said}");
    }
    let piped = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .args(["import", "-"])
        .current_dir(dir.path())
        .stdin(fs::File::open(dir.path().join("phone")).unwrap())
        .output()
        .unwrap();
    assert!(piped.status.success() && as_text(&piped.stderr).contains(": 1 events"), "{}", as_text(&piped.stderr));
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}
