//! `replay`, `stats` and `verify` as a user runs them, on captures of real kernels and on what is no good capture.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn bouncescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let output = bouncescope(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

/// The captures of the repository, with each its path as an argument.
fn captures() -> Vec<(PathBuf, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut captures: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "bounce"))
        .map(|path| (path.clone(), path.to_str().unwrap().to_owned()))
        .collect();
    captures.sort();
    assert!(captures.len() >= 4);
    captures
}

fn assert_one_line_and_code_2(output: &Output, says: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(says), "{said}");
}

#[test]
fn every_bundled_capture_of_a_real_kernel_agrees_with_its_prediction() {
    for (_, capture) in captures() {
        let output = bouncescope(&["verify", &capture, "--json"]);
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{capture}: {verdict:#}");
        assert_eq!(verdict["disagreements"], 0, "{capture}");
        assert!(verdict["mappings"].as_u64() >= Some(300), "{capture}");
        assert_eq!(verdict["agreements"].as_u64().unwrap() + verdict["unknown"].as_u64().unwrap(), verdict["mappings"]);
        assert_eq!(verdict["tracefs_bounced"], verdict["bounced_recorded"], "{capture}");
        let accounted = verdict["events_recorded"].as_u64().unwrap() + verdict["events_lost"].as_u64().unwrap();
        assert_eq!(verdict["events_seen"], accounted, "{capture}");
    }
}

#[test]
fn bundled_captures_are_small_enough_to_carry() {
    for (path, capture) in captures() {
        assert!(fs::metadata(path).unwrap().len() < 2 << 20, "{capture}");
    }
}

#[test]
fn replay_without_arguments_predicts_from_the_embedded_capture() {
    let output = bouncescope(&["replay"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in ["aarch64", "\nOK  ", "mainline", "legacy", "(kernel did)", "xhci_hcd"] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
    assert!(printed(&["replay", "--wide"]).contains("FROM_DEVICE"));
}

#[test]
fn the_first_screen_fits_a_terminal_and_leads_with_the_verdict() {
    for (_, capture) in captures() {
        let screen = printed(&["replay", &capture]);
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{capture}:\n{screen}");
        let verdict = screen.lines().skip_while(|line| !line.is_empty()).nth(1).unwrap_or_default();
        let refused = json(&["replay", &capture, "--json"])["observed"]["failed"].as_u64().unwrap() > 0;
        let expected = if refused { "FAILS " } else { "OK " };
        assert!(verdict.starts_with(expected) || verdict.starts_with("CANNOT TELL "), "{capture}: {verdict}");
    }
}

#[test]
fn verify_and_stats_fit_a_terminal_and_lead_with_what_was_found() {
    for (_, capture) in captures() {
        for (command, leads) in [("verify", "\n\nAGREES     All "), ("stats", "\n\nmapped     ")] {
            let said = text(&bouncescope(&[command, &capture]).stdout);
            assert!(said.contains(leads), "{capture}: {said}");
            let widest = said.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(widest.chars().count() <= 80, "{command} {capture}: {widest}");
        }
    }
}

/// Runs the command with this capture on standard input.
fn fed(arguments: &[&str], capture: &str) -> Output {
    use std::io::Write as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = fs::read(capture).unwrap();
    let feeder = std::thread::spawn(move || pipe.write_all(&bytes).ok());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

#[test]
#[cfg(unix)]
fn a_dash_is_standard_input_and_standard_output() {
    let (_, capture) = captures().pop().unwrap();
    for arguments in [&["replay"][..], &["verify"], &["stats"], &["packed"], &["doctor", "--capture"]] {
        let from_file = text(&bouncescope(&[arguments, &[capture.as_str()]].concat()).stdout);
        let output = fed(&[arguments, &["-"]].concat(), &capture);
        assert_eq!(text(&output.stdout), from_file, "{arguments:?}: {}", text(&output.stderr));
    }
    let twice = fed(&["replay", "-", "--policy", "packed"], &capture);
    assert_one_line_and_code_2(&twice, "can be read only once");
    let junit = bouncescope(&["check", "tests/golden/input/lab.toml", &capture, "--junit", "-"]);
    assert!(text(&junit.stdout).contains("<testsuites"), "{}", text(&junit.stderr));
}

#[test]
fn what_if_verdicts_are_about_the_kernel_that_was_asked_about() {
    let full = "captures/6.12-full-hold-300.bounce";
    assert!(printed(&["replay", full]).contains("\nFAILS      44 of 300 mappings were refused.\n"));
    let larger = printed(&["replay", full, "--swiotlb", "4M"]);
    assert!(larger.contains("\nOK         No mapping would be refused under mainline;"), "{larger}");
    let without = printed(&["replay", full, "--swiotlb", "none", "--minalign", "8"]);
    assert!(without.contains("\nFAILS ") && without.contains("All 300 mappings would be refused"), "{without}");
}

#[test]
fn colours_are_for_terminals_and_for_who_asks() {
    assert!(!printed(&["replay"]).contains('\x1b'));
    assert!(printed(&["replay", "--color", "always"]).contains("\x1b[1m\x1b[32mOK\x1b[0m"));
}

#[test]
fn mainline_on_the_captured_kernel_predicts_what_the_kernel_did() {
    let replayed = json(&["replay", "--json"]);
    let (mainline, legacy) = (&replayed["policies"][0], &replayed["policies"][1]);
    assert_eq!(mainline["name"], "mainline");
    assert_eq!(legacy["name"], "legacy");
    assert_eq!(mainline["bounces"], replayed["observed"]["bounces"]);
    assert_eq!(mainline["bytes_copied"], replayed["observed"]["bytes_copied"]);
    assert_eq!(mainline["peak_slots"], replayed["observed"]["peak_slots"]);
    assert!(mainline["bounces"].as_u64() > Some(0));
    assert_eq!(legacy["bounces"], 0);
    for key in ["mappings", "failed", "by_device", "by_direction", "by_size_class"] {
        assert!(!mainline[key].is_null(), "{key}");
    }
}

#[test]
fn a_longer_cache_line_bounces_more_and_no_pool_bounces_nothing() {
    let bounces = |arguments: &[&str]| {
        let replayed = json(&[&["replay", "--json", "--policy", "mainline"], arguments].concat());
        replayed["policies"][0]["bounces"].as_u64().unwrap()
    };
    let of_line = |line| bounces(&["--cache-line-size", line]);
    let lines = ["32", "64", "128", "256"].map(of_line);
    assert!(lines.is_sorted() && lines[0] < lines[3], "{lines:?}");
    assert_eq!(bounces(&["--swiotlb", "none"]), 0);
    assert_eq!(bounces(&["--minalign", "128"]), 0);
}

#[test]
fn a_coherent_device_no_longer_bounces() {
    let replayed = json(&["replay", "--json", "--policy", "mainline"]);
    let device = replayed["policies"][0]["by_device"][0]["device"].as_str().unwrap().to_owned();
    let without = json(&["replay", "--json", "--policy", "mainline", "--coherent", &device]);
    let rows = without["policies"][0]["by_device"].as_array().unwrap();
    assert_eq!(rows.iter().find(|row| row["device"] == device.as_str()).unwrap()["bounces"], 0);
    assert!(without["policies"][0]["bounces"].as_u64() < replayed["policies"][0]["bounces"].as_u64());
}

#[test]
fn a_pool_too_small_for_what_was_held_fails_the_rest() {
    let capture = captures().into_iter().find(|(_, name)| name.ends_with("7.3-direct-hold-300.bounce")).unwrap().1;
    let policy =
        |pool| json(&["replay", &capture, "--json", "--policy", "mainline", "--swiotlb", pool])["policies"][0].clone();
    let (enough, small) = (policy("1M"), policy("128"));
    assert_eq!((&enough["peak_slots"], &enough["failed"]), (&Value::from(300), &Value::from(0)));
    // 128 slots are rounded up to one segment for each of two CPUs.
    assert_eq!((&small["total_slots"], &small["peak_slots"]), (&Value::from(256), &Value::from(256)));
    assert_eq!((&small["failed"], &small["failed_by_reason"]["full"]), (&Value::from(44), &Value::from(44)));
}

#[test]
fn stats_tell_lengths_alignments_and_call_sites() {
    let stats = json(&["stats", "--json"]);
    let devices = stats["devices"].as_array().unwrap();
    for direction in ["TO_DEVICE", "FROM_DEVICE"] {
        let mut lengths = std::collections::BTreeSet::new();
        for device in devices.iter().filter(|device| device["direction"] == direction) {
            lengths.extend(device["lengths"].as_object().unwrap().keys().map(|length| length.parse::<u64>().unwrap()));
        }
        let missing: Vec<u64> = (1..=512).filter(|length| !lengths.contains(length)).collect();
        assert!(missing.is_empty(), "{direction}: lengths {missing:?} were never mapped");
    }
    let buffers = |key: &str| devices.iter().map(|device| device[key].as_u64().unwrap()).sum::<u64>();
    let by_alignment: u64 = devices
        .iter()
        .flat_map(|device| device["start_alignment"].as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(by_alignment, buffers("buffers"));
    let sites = stats["allocations"]["by_call_site"].as_array().unwrap();
    assert!(sites.iter().any(|site| site["call_site"].as_str().unwrap().starts_with("proc_do_submiturb+")));
    assert!(text(&bouncescope(&["stats"]).stdout).contains("kmalloc by size"));
}

#[test]
fn stats_tell_who_held_slots_at_any_moment() {
    const HOLD_300: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/captures/6.12-full-hold-300.bounce");
    let slots = |at: &str| {
        let stats = json(&["stats", "--json", "--at", at, HOLD_300]);
        let held = &stats["held"]["at_end"];
        let rows = held["rows"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["driver"] == "xhci_hcd"), "{held}");
        rows.iter().map(|row| row["slots"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(["100ms", "1s", "2s", "3s"].map(slots), [0, 256, 138, 0]);
    let late = bouncescope(&["stats", "--at", "1h", HOLD_300]);
    assert_one_line_and_code_2(&late, "--at 3600s is after the end: the recording took 4.086 s");
}

#[test]
fn a_cut_capture_is_read_as_far_as_it_is_good_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.bounce");
    let whole = fs::read(&captures()[0].0).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let output = bouncescope(&["replay", cut.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("CUT: the recording has no end"), "{said}");
    assert!(said.contains("\nOK         No mapping was refused until the recording was cut.\n"), "{said}");
}

#[test]
fn a_damaged_capture_says_how_much_was_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged.bounce");
    let mut bytes = fs::read(&captures()[0].0).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(&damaged, &bytes).unwrap();
    let output = bouncescope(&["verify", damaged.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("DAMAGED: 1 frames skipped"), "{}", text(&output.stdout));
    let replayed = printed(&["replay", damaged.to_str().unwrap()]);
    assert!(
        replayed.contains("\nCANNOT TELL No refused mapping was seen, but records of mappings are missing.\n"),
        "{replayed}"
    );
}

#[test]
fn what_is_no_capture_gets_one_line_and_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for command in ["replay", "stats", "verify"] {
        assert_one_line_and_code_2(&bouncescope(&[command, "/nonexistent/x.bounce"]), "/nonexistent/x.bounce");
        assert_one_line_and_code_2(&bouncescope(&[command, dir.path().to_str().unwrap()]), "cannot open");
        assert_one_line_and_code_2(&bouncescope(&[command, &file("empty", b"")]), "not a bouncescope capture");
        let garbage = file("garbage", &[0x42; 5000]);
        assert_one_line_and_code_2(&bouncescope(&[command, &garbage]), "garbage");
    }
}

#[test]
fn nonsense_options_are_refused() {
    for arguments in [
        &["replay", "--cache-line-size", "48"][..],
        &["replay", "--minalign", "7"],
        &["replay", "--swiotlb", "many"],
        &["replay", "--policy", "wishful"],
        &["replay", "--coherent", "nosuchdevice"],
        &["replay", "--coherent", "a", "--non-coherent", "a"],
        &["nosuchcommand"],
    ] {
        let output = bouncescope(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let output = bouncescope(&["replay", "--coherent", "nosuchdevice"]);
    assert!(text(&output.stderr).contains("xhci") || text(&output.stderr).contains("0000:"), "names those there are");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .args(["stats", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}

#[test]
fn a_peak_that_the_recording_cannot_tell_is_said_to_be_at_least_so_much() {
    let capture = captures().into_iter().find(|(_, name)| name.ends_with("6.12-full-hold-300.bounce")).unwrap().1;
    let said = text(&bouncescope(&["replay", &capture, "--swiotlb", "4M", "--wide"]).stdout);
    assert!(said.contains(">= 257 of 2048"), "{said}");
    assert!(said.contains("mainline: 44 mappings that the kernel refused"), "{said}");
    assert!(!said.contains("legacy: 44"), "legacy holds no slots for them: {said}");
}

/// What a command that succeeds prints.
fn printed(arguments: &[&str]) -> String {
    let output = bouncescope(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_policy_is_listed_and_printed_as_toml_that_reads_as_the_same() {
    let list = printed(&["policies"]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["legacy", "dynamic", "packed", "mainline", "length-multiple", "always-small", "start-aligned", "exact"]
    {
        assert!(list.lines().any(|line| line == name), "{list}");
        let toml = printed(&["policies", name]);
        let file = dir.path().join(format!("{name}.toml"));
        fs::write(&file, &toml).unwrap();
        assert_eq!(printed(&["policies", file.to_str().unwrap()]), toml);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_error_changes_no_exit_code() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status =
        Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(["stats", "/nonexistent/x.bounce"]).stderr(full).status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn a_wrong_policy_is_told_in_one_line_with_the_choices() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    fs::write(&file, "name = \"mine\"\ncaches = 8\nbounce = \"often\"\n").unwrap();
    for (policy, says) in [(file.to_str().unwrap(), "line 3: "), ("nonsense", "always-small")] {
        let output = bouncescope(&["replay", "--policy", policy]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_sweep_is_a_row_of_csv_for_every_combination() {
    let csv = printed(&["replay", "--sweep", "cache-line-size=32..128", "--sweep", "swiotlb=none,1M", "--csv"]);
    assert_eq!(csv.lines().count(), 1 + 4 * 3 * 2 + 1, "{csv}");
    let bounces: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').nth(8).unwrap()).collect();
    // mainline with lines of 32, 64 and 128 bytes, each without a pool and with one; then the other policies.
    assert_eq!((bounces[0], bounces[3], bounces[6]), ("0", "596", "0"), "{csv}");
}

#[test]
fn advice_names_a_pool_a_policy_and_drivers() {
    let json: Value =
        serde_json::from_str(&printed(&["replay", "captures/6.12-full-hold-300.bounce", "--advise", "--json"]))
            .unwrap();
    let advice = &json["advice"];
    assert_eq!((&advice["policy"], &advice["pool"]["slots"]), (&"mainline".into(), &512.into()), "{advice}");
    assert_eq!(advice["pool"]["parameter"], "swiotlb=512");
    assert_eq!(advice["drivers"][0]["bounces"], 300, "with the advised pool, where none is refused");
    assert_eq!(
        (&advice["changes"][0]["before"]["failed"], &advice["changes"][0]["after"]["failed"]),
        (&44.into(), &0.into())
    );
}

#[test]
fn packed_call_sites_are_proposed_and_fed_back() {
    let dir = tempfile::tempdir().unwrap();
    let sites = dir.path().join("sites");
    let proposed = printed(&["packed"]);
    assert!(!proposed.contains("proc_do_submiturb+"), "its objects are mapped: {proposed}");
    fs::write(&sites, &proposed).unwrap();
    let slabs = |extra: &[&str]| {
        let all = [&["replay", "--policy", "packed", "--csv"], extra].concat();
        let csv = printed(&all);
        let mut rows = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let column = rows.next().unwrap().iter().position(|name| *name == "all_slabs_bytes").unwrap();
        rows.next().unwrap()[column].parse::<u64>().unwrap()
    };
    assert_eq!(slabs(&["--packed-sites", sites.to_str().unwrap()]), slabs(&[]));
    fs::write(&sites, "# none\n").unwrap();
    assert!(slabs(&["--packed-sites", sites.to_str().unwrap()]) > slabs(&[]));
}

/// A whole recording in which nothing was mapped.
fn without_mappings(dir: &Path, machine: &str) -> String {
    use tracer::facts::{End, Hook, KernelFacts};
    use tracer::names::Subject;
    use tracer::stream::{Item, Start};
    let hooks = [Subject::Map, Subject::MapSg].map(|subject| Hook { subject, attached: true, ..Hook::default() });
    let kernel = KernelFacts { machine: machine.into(), ..KernelFacts::default() };
    let start = Start { kernel, hooks: hooks.to_vec(), time_ns: 1, ..Start::default() };
    let mut writer = tracer::capture::Writer::new(Vec::new()).unwrap();
    for item in [Item::Start(start), Item::End(End { time_ns: 5_000_000_001, ..End::default() })] {
        writer.write(&item).unwrap();
    }
    let path = dir.join(format!("{machine}.bounce"));
    fs::write(&path, writer.into_inner().unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The sentences of a screen, each in one line.
fn unfolded(screen: &str) -> String {
    screen.replace("\n           ", " ")
}

#[test]
fn a_recording_without_mappings_is_nothing_to_verify_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for machine in ["aarch64", "x86_64"] {
        let capture = without_mappings(dir.path(), machine);
        let output = bouncescope(&["verify", &capture]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("0 mappings in 5.0 s\n")
                && said.contains("\nNOTHING    Nothing to verify: no mapping in 5.0 s: ")
                && unfolded(&said).contains("used the DMA API"),
            "{said}"
        );
        assert_eq!(unfolded(&said).contains("never bounce small buffers"), machine == "x86_64", "{said}");
        assert!(!said.contains("AGREES"), "{said}");
        assert!(!json(&["verify", "--json", &capture])["nothing_to_verify"].is_null());
        let replayed = printed(&["replay", &capture, "--advise"]);
        assert!(unfolded(&replayed).contains("CANNOT TELL Nothing to replay: no mapping"), "{replayed}");
        // Neither figures that are all 0, nor a pool for what was not mapped.
        assert!(!replayed.contains("policy ") && !replayed.contains(">= 0"), "{replayed}");
        assert!(replayed.contains("\n  pool: nothing was mapped in this recording\n"), "{replayed}");
        assert!(replayed.ends_with("\n  bouncescope doctor  what can be recorded on this kernel\n"), "{replayed}");
        assert!(replayed.lines().count() <= 25, "{replayed}");
    }
    assert!(json(&["verify", "--json"])["nothing_to_verify"].is_null());
}
