//! `doctor` on the bundled captures, whose pages are in `tests/doctor/`, and `explain`, as a user runs them.

#[path = "golden/file.rs"]
mod golden_file;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use golden_file::compare;
use serde_json::Value;

fn bouncescope(arguments: &[&str]) -> Output {
    run(arguments, "")
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bouncescope"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Captures of the repository that have a page, by name; `kernels/` has one of each kernel of the lab.
const PAGES: [&str; 12] = [
    "default",
    "7.3-direct-hold-300",
    "7.3-smmu-mixed",
    "6.12-noforce-mixed",
    "6.12-force-mixed",
    "kernels/5.10",
    "kernels/6.1",
    "kernels/6.12",
    "kernels/6.12-16k",
    "kernels/6.18",
    "kernels/7.2",
    "kernels/7.3",
];

#[test]
fn the_pages_of_the_bundled_captures_are_as_expected() {
    for name in PAGES {
        let output = bouncescope(&["doctor", "--capture", &format!("captures/{name}.bounce")]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let page = text(&output.stdout);
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/doctor/{name}.txt"));
        compare(&file, page).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn no_line_of_a_page_is_wider_than_a_hundred_columns() {
    for name in PAGES {
        let page = text(&bouncescope(&["doctor", "--capture", &format!("captures/{name}.bounce")]).stdout);
        let widest = page.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 100, "{name}: {widest}");
    }
}

#[test]
fn programs_get_the_page_as_json() {
    let output = bouncescope(&["doctor", "--capture", "captures/7.3-smmu-mixed.bounce", "--json"]);
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&page["kernel"]["cache_line_size"], &page["kernel"]["kmalloc_minalign"]), (&64.into(), &8.into()));
    assert_eq!(page["today"]["lengths"], serde_json::json!([[1, 32], [65, 96]]));
    assert_eq!(page["can_trace"], true);
    assert_eq!(page["here"], Value::Null);
    let devices = page["devices"].as_array().unwrap();
    assert!(devices.iter().any(|device| device["iommu_granule"] == 4096), "{devices:?}");
    let map = page["hooks"].as_array().unwrap().iter().find(|hook| hook["subject"] == "map").unwrap().clone();
    assert!(map["attached"] == true && map["fired"].as_u64() > Some(1000), "{map}");
}

#[test]
fn a_capture_that_is_none_gets_one_line_and_exit_code_2() {
    for capture in ["/nonexistent/x.bounce", "Cargo.toml"] {
        let output = bouncescope(&["doctor", "--capture", capture]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(capture), "{said}");
    }
}

const FULL: &str = "swiotlb buffer is full (sz: 1048576 bytes), total 65536 (slots), used 498 (slots)";

#[test]
fn a_message_is_explained_as_argument_in_a_file_and_on_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("kern.log");
    fs::write(&log, format!("nothing\nx 1-1: {FULL}\n")).unwrap();
    for output in [
        bouncescope(&["explain", FULL]),
        bouncescope(&["explain", log.to_str().unwrap()]),
        run(&["explain"], &format!("[    1.0] nothing\n[    2.0] x 1-1: {FULL}\n")),
    ] {
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(said.contains("can never bounce") && said.contains("-> No swiotlb= helps"), "{said}");
    }
}

#[test]
fn explanations_are_json_for_programs() {
    let output = run(&["explain", "--json"], &format!("a b: {FULL}\na b: {FULL}\n"));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = &json["explanations"][0];
    assert_eq!(
        (&one["kind"], &one["times"], &one["device"], &one["size"]),
        (&"never_fits".into(), &2.into(), &"b".into(), &1_048_576.into())
    );
}

#[test]
fn a_log_without_such_a_message_gets_what_was_looked_for_and_exit_code_1() {
    let output = run(&["explain"], "usb 1-1: new high-speed USB device\n\u{0}\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("error: no message about bouncing in it: 1 lines"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_log_that_is_not_there_gets_one_line_and_exit_code_2() {
    let output = bouncescope(&["explain", "/nonexistent.log"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("/nonexistent.log"), "{said}");
}
